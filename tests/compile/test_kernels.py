"""Every kernel builds with NVRTC for every architecture without a GPU, and takes what its config promises."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache

import pytest

from gpuconv.backend import detect, jit, source
from gpuconv.backend.launch import Binary, KernelSpec
from gpuconv.backend.nvrtc import Resources
from tests import design
from tests.compile.cards import CARDS, assigned, card

REGISTERS_OF_AN_SM = 65536


def specs() -> list[KernelSpec]:
    """The cases' launches, each for one architecture in turn; what one cannot do, its default config does.

    GPUCONV_EVERY=N takes every Nth: for a compiler beside the one that compiles them all.
    """
    found: dict[Binary, KernelSpec] = {}
    for case, device in assigned(design.every(card((9, 0)))):
        config = case.config
        if case.kernel.check_config(case.problem, config, device) is not None:
            config = case.kernel.default_config(case.problem, device)
        for spec in case.kernel.launches(case.problem, config, device):
            found.setdefault(spec.binary, spec)
    return list(found.values())[:: int(os.environ.get("GPUCONV_EVERY", "1"))]


@cache
def known(arch: str) -> bool:
    """Whether this NVRTC has heard of an architecture."""
    nvrtc, _ = detect.nvrtc()
    program = nvrtc.createProgram("", "empty.cu", (), ())
    try:
        nvrtc.compileProgram(program, (f"--gpu-architecture={arch}",))
    except nvrtc.NVRTCError:
        return False
    finally:
        nvrtc.destroyProgram(program)
    return True


@pytest.fixture(scope="module")
def compiler(need):
    try:
        detect.nvrtc()
    except RuntimeError as error:
        need("compile", str(error))


def judge(found: Resources, threads: int) -> None:
    assert (found.stack, found.spill_stores, found.spill_loads) == (0, 0, 0), found
    assert found.shared == 0, "shared memory is all dynamic"
    # a config promises that a block fits; registers are given out by eights to a thread, to whole warps
    warps = -(-threads // 32)
    assert warps * 32 * (-(-found.registers // 8) * 8) <= REGISTERS_OF_AN_SM, found


@pytest.mark.parametrize("spec", specs(), ids=lambda spec: str(spec.binary))
def test_builds_without_spills(compiler, spec):
    if not known(spec.binary.arch):
        # an older NVRTC; that it knows nearly all is a test of its own in test_kernels.py
        pytest.skip(f"this NVRTC does not know {spec.binary.arch}")
    judge(jit.resources(spec.binary), spec.block[0] * spec.block[1] * spec.block[2])


def test_most_architectures_are_known(compiler):
    assert sum(known(card(capability).arch) for capability in CARDS) >= 6


KERNEL_FILES = sorted(path.name for path in (source.cuda_source_folder() / "kernels").glob("*.cu"))


@pytest.mark.parametrize("arch", ["sm_75", "sm_90a", "sm_120"])
@pytest.mark.parametrize("file", KERNEL_FILES)
def test_every_kernel_compiles_as_it_stands(compiler, file, arch):
    """No definitions: every macro has a default."""
    if file.endswith("_sm80.cu") and arch == "sm_75":
        arch = "sm_80"  # the least that it is for
    judge(jit.resources(Binary(file, (), arch)), 256)


@pytest.mark.parametrize("file", KERNEL_FILES)
def test_every_kernel_compiles_alone_with_nvcc(tmp_path, need, file):
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        need("nvcc", "nvcc is not on the path")
    folder = source.cuda_source_folder()
    command = [
        nvcc,
        "-std=c++17",
        "-arch=sm_80",
        "-I",
        folder / "include",
        "-Xptxas",
        "-v",
        "-Werror",
        "all-warnings",
    ]
    command += ["-cubin", folder / "kernels" / file, "-o", tmp_path / "kernel.cubin"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    judge(Resources.parse(done.stderr), 256)
