"""What the main loop of the implicit matrix product spends its instructions on."""

from __future__ import annotations

import pytest

from bench import sass, static
from gpuconv.backend import dump, jit
from gpuconv.kernels.cuda.gemm_tiles import GemmConfig
from gpuconv.kernels.cuda.implicit_gemm_simt import CudaImplicitGemmSimt
from gpuconv.problem import ConvProblem
from tests.compile.cards import card
from tests.compile.test_kernels import compiler

__all__ = ["compiler"]

KERNEL = CudaImplicitGemmSimt()
#: Least share of fused multiply-adds among the instructions of the largest loop.
SHARES = {
    "fprop_n32c128h28w28k128r3s3p1_nhwc_f32": 0.85,
    "fprop_n32c128h28w28k128r3s3p1_nhwc-ohwi_f32": 0.84,
    "dgrad_n32c128h28w28k128r3s3p1_nhwc_f32": 0.84,
    "wgrad_n32c128h28w28k128r3s3p1_nhwc_f32": 0.85,
    "fprop_n32c128h28w28k128r3s3p1_nchw_f32": 0.81,  # one load for each cell: rows may begin anywhere
}


@pytest.mark.parametrize("capability", [(8, 0), (9, 0)])
@pytest.mark.parametrize("text", SHARES)
def test_the_main_loop_multiplies(compiler, need, text, capability):
    if all(dump.tool(name) is None for name in ("nvdisasm", "cuobjdump")):
        need("compile", "there is neither nvdisasm nor cuobjdump")
    p, device = ConvProblem.parse(text), card(capability)
    spec, *_ = KERNEL.launches(p, GemmConfig(), device)
    ((_, cubin),) = jit.compile_all([spec.binary]).items()
    loop = sass.main_loop(static.disassembled(cubin))
    assert loop.opcodes["FFMA"] == 8 * 8 * 32, "a whole stage is unrolled"
    assert loop.share >= SHARES[text], (loop.share, loop.opcodes)
    # what each lane reads of shared memory, by quads; and no other
    assert loop.opcodes["LDS"] <= 4 * 32 + 40, loop.opcodes
    assert not loop.opcodes["LDL"] + loop.opcodes["STL"]
