"""What a device refuses, what a compiler says, planned failures, and headers that stand in for others."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from gpuconv.backend.launch import Binary, KernelSpec
from gpuconv.backend.source import cuda_source_folder
from gpuconv.errors import CompileError, LaunchError, LaunchRefused
from tests.emulator import build
from tests.emulator.conftest import PROBES
from tests.emulator.launcher import Emulator, emulated_device

ONE = (1, 1, 1)
SPEC = KernelSpec(Binary("cells.cu", (), "sm_80"), "order", ONE, ONE, 0, ("a", "out"), bytes(8))


@pytest.fixture
def emulator(has_compiler):
    return Emulator(sources=PROBES)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"block": (1025, 1, 1)}, "a block of (1025, 1, 1); the limits are (1024, 1024, 64)"),
        ({"block": (1, 1, 65)}, "a block of (1, 1, 65)"),
        ({"block": (64, 32, 1)}, "a block of 2048 threads; the limit is 1024"),
        ({"block": (0, 1, 1)}, "a block of (0, 1, 1)"),
        ({"grid": (1, 0, 1)}, "a grid of (1, 0, 1)"),
        ({"grid": (2**31, 1, 1)}, "a grid of (2147483648, 1, 1); the limits are (2147483647, 65535, 65535)"),
        ({"grid": (1, 65536, 1)}, "a grid of (1, 65536, 1)"),
        ({"grid": (1, 1, 65536)}, "a grid of (1, 1, 65536)"),
        ({"smem_bytes": 232449}, "232449 bytes of shared memory; the limit is 232448"),
        ({"params": bytes(4088)}, "4104 bytes of parameters; the limit is 4096"),
        ({"entry": "missing"}, "cells.cu sm_80 has no entry missing"),
    ],
)
def test_what_a_device_refuses(emulator, changes, text):
    with pytest.raises(LaunchRefused, match=re.escape(text)):
        emulator.load((dataclasses.replace(SPEC, **changes),), emulator.device(0))
    assert emulator.launched == []


def test_limits_are_the_devices(has_compiler):
    small = Emulator(emulated_device(smem_block=100 << 10, capability=(8, 6)), sources=PROBES)
    device = small.device(3)
    assert (device.index, device.arch, device.kind) == (3, "sm_86", "cuda")
    with pytest.raises(LaunchRefused, match="the limit is 102400"):
        small.load((dataclasses.replace(SPEC, smem_bytes=102401),), device)


@pytest.mark.parametrize("size", [0, 16, 23, 25, 32])
def test_a_struct_of_another_size(emulator, size):
    (run,) = emulator.load((SPEC,), emulator.device(0))
    with pytest.raises(LaunchRefused, match=f"order takes a struct of 24 bytes, not {size}"):
        run(bytes(size))


def test_launches_are_recorded(emulator):
    out = emulator.array(np.zeros(8, np.uint32))
    addresses = {"a": out.pointer, "out": out.pointer}
    wide = dataclasses.replace(SPEC, block=(2, 1, 1))
    first, second = emulator.load((SPEC, wide), emulator.device(0))
    second(wide.pack(addresses))
    first(SPEC.pack(addresses))
    assert emulator.launched == [wide, SPEC]
    assert out.get().tolist() == [3, 0, 1, 0, 0, 0, 0, 0]


def test_what_the_compiler_says(emulator, tmp_path):
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "wrong.cu").write_text(
        'extern "C" __global__ void wrong(int p) {\n  nonsense;\n}\n'
    )
    broken = Emulator(sources=tmp_path)
    spec = dataclasses.replace(SPEC, binary=Binary("wrong.cu", (), "sm_80"), entry="wrong")
    with pytest.raises(CompileError, match=r"wrong\.cu:2:3: error: .nonsense. was not declared"):
        broken.load((spec,), broken.device(0))
    with pytest.raises(CompileError, match=r"there is no kernel source .*absent\.cu"):
        broken.load((dataclasses.replace(SPEC, binary=Binary("absent.cu", (), "sm_80")),), broken.device(0))


def test_entries_in_a_namespace(tmp_path, has_compiler):
    (tmp_path / "kernels").mkdir()
    kernel = 'extern "C" __global__ void inside(const P p) { *p.out = 7; }'
    source = f"namespace gpuconv {{ struct P {{ int* out; }}; {kernel} }}"
    (tmp_path / "kernels" / "inside.cu").write_text(source)
    emulator = Emulator(sources=tmp_path)
    out = emulator.array(np.zeros(1, np.int32))
    spec = KernelSpec(Binary("inside.cu", (), "sm_80"), "inside", ONE, ONE, 0, ("out",), b"")
    (run,) = emulator.load((spec,), emulator.device(0))
    run(spec.pack({"out": out.pointer}))
    assert out.get().tolist() == [7]


def test_no_compiler(monkeypatch, tmp_path, emulator):
    build.compiler.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    try:
        with pytest.raises(CompileError, match=r"g\+\+ is not on the path"):
            build.compiler()
    finally:
        build.compiler.cache_clear()


def test_planned_failures(emulator):
    device = emulator.device(0)
    emulator.fail_next(CompileError)
    with pytest.raises(CompileError, match="injected"):
        emulator.load((SPEC,), device)
    (run,) = emulator.load((SPEC,), device)
    out = emulator.array(np.zeros(8, np.uint32))
    packed = SPEC.pack({"a": out.pointer, "out": out.pointer})
    for error in (LaunchRefused, LaunchError("lost")):
        emulator.fail_next(error)
        with pytest.raises(LaunchError if isinstance(error, LaunchError) else error):
            run(packed)
    emulator.fail_next(LaunchRefused, at="load")
    run(packed)
    with pytest.raises(LaunchRefused):
        emulator.load((SPEC,), device)
    emulator.fail_next(MemoryError)
    with pytest.raises(MemoryError):
        emulator.empty((3,), "f32", device)
    assert emulator.empty((3,), "f32", device).shape == (3,)
    assert emulator.launched == [SPEC]


COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
FUNCTION = re.compile(
    r"(?P<template>template\s*<[^>]*>\s*)?(?:__device__\s+__forceinline__|inline)\s+"
    r"(?P<result>[\w:\s*&]+?)\s*(?P<name>\w+)\s*\((?P<parameters>[^()]*(?:\([^()]*\)[^()]*)*)\)\s*\{"
)
SITE = re.compile(r",?\s*::emulator::Site site = EMULATOR_HERE")


def signatures(header) -> set[str]:
    """Functions of a header as ``template<…> result name(types)``, without where they were called from."""
    found = set()
    for one in FUNCTION.finditer(COMMENT.sub("", header.read_text())):
        parameters = SITE.sub("", one["parameters"])
        types = [re.sub(r"\s*\b\w+$", "", each.strip()) for each in parameters.split(",") if each.strip()]
        words = f"{one['template'] or ''}{one['result']} {one['name']}({', '.join(types)})"
        found.add(" ".join(words.split()))
    return found


HEADERS = sorted((cuda_source_folder() / "include" / "gpuconv" / "ptx").glob("*.cuh"))


@pytest.mark.parametrize("real", HEADERS, ids=lambda path: path.stem)
def test_headers_declare_the_same(real):
    substitute = build.INCLUDE / "gpuconv" / "ptx" / real.name
    declared = signatures(real)
    assert declared
    assert signatures(substitute) == declared


def test_every_substitute_has_a_real_header():
    assert {path.name for path in (build.INCLUDE / "gpuconv" / "ptx").glob("*.cuh")} == {
        path.name for path in HEADERS
    }


def test_no_kernel_knows_of_the_emulator():
    for path in cuda_source_folder().rglob("*.cu*"):
        assert not re.search(r"emulat|GPUCONV_COUNT", path.read_text(), re.IGNORECASE), path


def test_two_processes_compile_the_same_kernel(tmp_path, has_compiler):
    code = (
        "from tests.emulator.test_launcher import SPEC\n"
        "from tests.emulator.conftest import PROBES\n"
        "from tests.emulator.launcher import Emulator\n"
        "emulator = Emulator(sources=PROBES)\n"
        "emulator.load((SPEC,), emulator.device(0))\n"
    )
    environment = os.environ | {"GPUCONV_EMULATOR_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", code]
    both = [subprocess.Popen(command, env=environment, cwd=build.HERE.parent.parent) for _ in range(2)]
    assert [one.wait(60) for one in both] == [0, 0]
    assert sorted(path.name.split("-")[0] for path in tmp_path.iterdir()) == ["cells", "runtime"]


def test_a_launch_is_quick(probe):
    probe("rotate", 1, 0, block=64)
    start = time.perf_counter()
    probe("rotate", 1000, 0, block=64)
    assert time.perf_counter() - start < 1  # 128 000 waits
