"""What the main loop of the product by tensor cores is made of: ratios that no change may worsen."""

from __future__ import annotations

import pytest

from bench import sass, static
from gpuconv.backend import dump, jit
from gpuconv.backend.cards import like
from gpuconv.kernels.cuda.implicit_gemm_sm80 import CudaImplicitGemmSm80
from gpuconv.kernels.cuda.mma_tiles import MmaConfig
from gpuconv.problem import ConvProblem
from tests.compile.cards import card
from tests.compile.test_kernels import compiler

__all__ = ["compiler"]

KERNEL = CudaImplicitGemmSm80()
#: The most integer instructions for one of tensor cores.
INTEGERS = {
    "fprop_n32c128h28w28k128r3s3p1_nhwc_f16": 2.0,
    "fprop_n32c128h28w28k128r3s3p1_nhwc-ohwi_bf16": 2.0,
    "fprop_n32c128h28w28k128r1s1_nhwc-ohwi_f16": 1.8,
    "fprop_n32c128h28w28k128r3s3u2p1_nhwc_f16+bias+res+relu": 2.0,
    "dgrad_n32c128h28w28k128r3s3p1_nhwc_f16": 2.0,
    "dgrad_n32c128h28w28k128r3s3u2p1_nhwc-ohwi_f16": 2.0,
    "wgrad_n32c128h28w28k128r3s3p1_nhwc_f16": 2.0,
    "wgrad_n32c128h28w28k128r3s3p1_nhwc-ohwi_bf16": 2.0,
    "fprop_n32c36h28w28k36r3s3p1_nhwc-ohwi_f16": 3.0,
}
#: Of 8 bytes: twice as many look up where their cells lie, and Hopper's tensor cores are done before that.
SHORT_COPIES = ("fprop_n32c36h28w28k36r3s3p1_nhwc-ohwi_f16",)


@pytest.mark.parametrize("capability", [(8, 0), (8, 6), (9, 0)])
@pytest.mark.parametrize("text", INTEGERS)
def test_the_main_loop_multiplies(compiler, need, text, capability):
    if all(dump.tool(name) is None for name in ("nvdisasm", "cuobjdump")):
        need("compile", "there is neither nvdisasm nor cuobjdump")
    p, device = ConvProblem.parse(text), card(capability)
    config = MmaConfig(splits=2 if p.op == "wgrad" else 1)
    spec, *_ = KERNEL.launches(p, config, device)
    ((_, cubin),) = jit.compile_all([spec.binary]).items()
    loop = next(loop for loop in main_loops(cubin) if loop.opcodes["LDGSTS"])
    opcodes, kinds = loop.opcodes, loop.kinds
    # a warp's 64 × 64 results of 32 places; of each operand 8 squares; 16 KiB that 128 threads copy
    assert opcodes["HMMA"] == 4 * 8 * 2
    assert opcodes["LDSM"] == 2 * 8
    assert opcodes["LDGSTS"] == 8 * 8 // int(dict(spec.binary.defines)["IN_VECTOR"])
    assert kinds["add"] == 4 * 8 * 4, "a chain joins the total once"
    assert kinds["integer"] <= INTEGERS[text] * opcodes["HMMA"], opcodes
    assert not opcodes["LDL"] + opcodes["STL"]
    busy = static.cycles(loop, KERNEL.works(p, config, device)[0], config, like(device))
    if not (text in SHORT_COPIES and capability == (9, 0)):
        assert busy["shared memory"] <= busy["multiplying"], busy


#: Configs of 64 × 64 results a warp that spilled, and those next to them that do not.
SPILLING = {
    "fprop_n32c256h56w56k128r3s3p1_nhwc_f16": {"block_k": 64, "stages": 3},
    "fprop_n32c256h56w56k128r3s3p1_nhwc-ohwi_f16": {"block_k": 64, "stages": 3},
    "wgrad_n32c127h28w28k126r3s3p1_nchw_f16": {"block_k": 64},
    "wgrad_n32c124h28w28k124r3s3p1_nhwc-ohwi_f16": {"block_m": 256},
    "wgrad_n32c126h28w28k126r3s3p1_nhwc_f16": {"block_m": 256},
}
TIGHT = {
    "wgrad_n32c128h28w28k128r3s3p1_nhwc_f16": {"block_k": 64, "stages": 3},
    "wgrad_n32c124h28w28k124r3s3p1_nhwc-ohwi_f16": {"block_n": 256},
    "dgrad_n32c127h28w28k127r3s3p1_nhwc_f16": {},
}


@pytest.mark.parametrize("text", SPILLING)
def test_configs_that_spill_are_refused(text):
    p = ConvProblem.parse(text)
    config = MmaConfig(splits=8 if p.op == "wgrad" else 1).but(**SPILLING[text])
    assert "registers are more than" in str(KERNEL.check_config(p, config, card((9, 0))))


@pytest.mark.parametrize("capability", [(8, 0), (9, 0)])
@pytest.mark.parametrize("text", TIGHT)
def test_those_next_to_them_are_not_and_do_not(compiler, text, capability):
    p, device = ConvProblem.parse(text), card(capability)
    config = MmaConfig(splits=8 if p.op == "wgrad" else 1).but(**TIGHT[text])
    assert KERNEL.check_config(p, config, device) is None
    found = jit.resources(KERNEL.launches(p, config, device)[0].binary)
    assert found.registers > 230, "not so tight"
    assert not found.spill_stores + found.spill_loads + found.stack, found


def main_loops(cubin):
    """Those that multiply: with asynchronous copies, and for arrays that are not aligned."""
    return [loop for loop in sass.loops(static.disassembled(cubin)) if loop.opcodes["HMMA"]]
