"""Rules that keep kernels readable and testable without a GPU."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from gpuconv.backend.device import Device
from gpuconv.backend.source import cuda_source_folder
from gpuconv.kernels.cuda import bias_grad, pad, unfold
from gpuconv.kernels.cuda.direct import CudaDirect
from gpuconv.kernels.cuda.implicit_gemm_simt import CudaImplicitGemmSimt
from gpuconv.kernels.cuda.implicit_gemm_sm80 import CudaImplicitGemmSm80
from gpuconv.problem import OPS, ConvProblem

ROOT = cuda_source_folder()
FILES = sorted(path for path in ROOT.rglob("*") if path.suffix in (".cu", ".cuh"))


def code_of(path) -> str:
    """A file without its comments."""
    return re.sub(r"//.*", "", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
class TestFile:
    def test_assembly_is_in_ptx_alone(self, path):
        assert path.parent.name == "ptx" or not re.search(r"\basm\b", code_of(path))

    def test_shared_memory_is_dynamic_and_declared_once(self, path):
        assert path.name == "shared.cuh" or "__shared__" not in code_of(path)

    def test_nothing_knows_where_it_runs(self, path):
        assert not re.search(
            r"emulat|simulat|__CUDACC__|_GNUC_", path.read_text(encoding="utf-8"), re.IGNORECASE
        )

    def test_includes_are_rooted(self, path):
        for include in re.findall(r"#\s*include\s+(\S+)", code_of(path)):
            assert re.fullmatch(r"<gpuconv/[\w/]+\.cuh>", include), include

    def test_sums_never_meet_in_atomics(self, path):
        assert "atomic" not in code_of(path), "the order of atomic additions changes from run to run"

    def test_a_file_is_a_room(self, path):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= 400
        assert max(map(len, lines)) <= 120

    def test_every_macro_has_a_default(self, path):
        text = code_of(path)
        for name in set(re.findall(r"#\s*ifndef\s+(\w+)", text)):
            assert re.search(rf"#\s*ifndef {name}\s*\n\s*#\s*define {name} ", text), name


def test_every_definition_that_the_host_makes_has_a_default():
    macros = set(re.findall(r"#\s*ifndef\s+(\w+)", "".join(map(code_of, FILES))))
    device = Device("cuda", "a card", capability=(9, 0), sms=132, smem_block=232448)
    kernels = ((CudaDirect(), "f32"), (CudaImplicitGemmSimt(), "f32"), (CudaImplicitGemmSm80(), "f16"))
    for op, (kernel, dtype) in product(OPS, kernels):
        p = ConvProblem.parse(f"{op}_n2c64h9w9k8r3s3p1_nchw_{dtype}")
        config = replace(kernel.default_config(p, device), splits=2)
        for spec in kernel.launches(p, config, device):
            assert {name for name, _ in spec.binary.defines} <= macros
        spec = unfold.launch(p, device, folds=op == "dgrad")
        assert {name for name, _ in spec.binary.defines} <= macros
    for spec in bias_grad.launches((9, 300, 300, 64), "nhwc", "f32", device)[0]:
        assert {name for name, _ in spec.binary.defines} <= macros
    image = np.zeros((5, 6, 3), np.uint8)
    spec = pad.launch(image, np.dtype(np.float32), ((1, 1), (2, 2)), "symm", 0, device)
    assert {name for name, _ in spec.binary.defines} <= macros
