"""What the product by tensor cores must get right together, each case for what it alone shows."""

from __future__ import annotations

import pytest

from gpuconv.kernels.cuda.implicit_gemm_sm80 import CudaImplicitGemmSm80
from tests import bodies, cases
from tests.emulator.launcher import SCHEDULES
from tests.emulator.machine import EmulatedMachine

KERNEL = CudaImplicitGemmSm80()
SMALL = {
    "block_m": 32, "block_n": 32, "block_k": 32, "warp_m": 16, "warp_n": 16, "stages": 3, "chain": 1,
}  # fmt: skip
LARGE = {
    "block_m": 128, "block_n": 128, "block_k": 32, "warp_m": 64, "warp_n": 64, "stages": 4, "chain": 2,
}  # fmt: skip
TOGETHER = (
    # bands of the grid: several, the last one narrower, with more than one row of blocks
    ("fprop_n1c40h9w9k200r1s1_nhwc_f16", SMALL | {"raster": 3}, 0),
    ("fprop_n1c40h9w9k200r1s1_nhwc_bf16", SMALL | {"raster": 1}, 0),
    # the large tile, full and with tails, and with stages that end inside a tap
    ("fprop_n1c40h12w12k136r3s3_nhwc_f16+bias", LARGE, 0),
    ("fprop_n1c40h12w12k136r3s3_nhwc-ohwi_bf16+bias", LARGE, 0),
    ("fprop_n1c128h12w12k136r2s2p1_nhwc-ohwi_f16+res", LARGE, 0),
    ("dgrad_n2c136h9w9k40r3s3u2p1_nhwc-ohwi_f16", LARGE, 0),
    ("wgrad_n2c40h12w12k136r3s3p1_nhwc-ohwi_f16", LARGE | {"splits": 2}, 0),
    # rows of shared memory of every length: of the depth, and of both outer axes
    ("fprop_n1c40h9w9k40r3s3p1_nhwc-ohwi_f16", SMALL | {"block_k": 16}, 0),
    ("fprop_n1c40h9w9k40r3s3p1_nhwc-ohwi_f16", SMALL | {"block_k": 64, "chain": 2}, 0),
    ("fprop_n1c64h9w9k72r3s3p1_nhwc-ohwi_f16", LARGE | {"block_k": 64, "chain": 1, "stages": 2}, 0),
    ("fprop_n2c128h9w9k256r1s1_nhwc_f16", SMALL | {"block_n": 16, "block_m": 64}, 0),
    ("fprop_n2c128h9w9k256r1s1_nhwc_f16", SMALL | {"block_n": 64}, 0),
    ("fprop_n2c128h9w9k256r1s1_nhwc_f16", SMALL | {"block_n": 128, "warp_n": 32}, 0),
    ("fprop_n2c128h9w9k256r1s1_nhwc_f16", SMALL | {"block_n": 256, "warp_n": 64}, 0),
    ("wgrad_n2c72h9w9k24r3s3p1_nhwc_f16", SMALL | {"block_m": 64}, 0),
    ("wgrad_n2c72h9w9k24r3s3p1_nhwc_f16", SMALL | {"block_m": 256, "warp_m": 64}, 0),
    # copies of every length, along the depth and along the outer axes
    *((f"fprop_n1c{c}h6w7k33r3s3p1_nhwc-ohwi_f16", SMALL, 0) for c in (16, 12, 6, 5)),
    *((f"fprop_n1c16h6w7k{k}r3s3p1_nhwc_bf16", SMALL, 0) for k in (40, 36, 34, 33)),
    *((f"wgrad_n2c{c}h7w8k{k}r3s3p1_nhwc_f16", SMALL, 0) for c, k in ((36, 6), (6, 36), (35, 9))),
    # arrays that begin anywhere: vectors are not loaded
    *(("fprop_n1c16h6w7k32r3s3p1_nhwc_f16", SMALL, offset) for offset in (1, 2, 4)),
    ("dgrad_n1c12h6w7k12r3s3p1_nhwc-ohwi_bf16", SMALL, 2),
    ("wgrad_n1c16h6w7k32r3s3p1_nhwc-ohwi_f16", SMALL, 4),
    # as many stages as there may be, more than there are, and a part of a sum with none
    ("fprop_n1c40h6w7k32r3s3p1_nhwc_f16", SMALL | {"stages": 2}, 0),
    ("fprop_n1c40h6w7k32r3s3p1_nhwc_f16", SMALL | {"stages": 7}, 0),
    ("fprop_n1c40h6w7k32r1s1_nhwc_f16", SMALL | {"stages": 6, "block_k": 16}, 0),
    ("dgrad_n1c9h9w10k40r3s3u2p1_nhwc_f16+bias", SMALL | {"splits": 5}, 0),
    # taps that stay inside the input, and those that do not by one cell of one side
    *((f"fprop_n2c16h9w8k16r3s2{p}_nhwc_f16", SMALL, 0) for p in ("", "p0+1x0", "p0x1+0", "u2", "d2")),
    ("dgrad_n2c16h9w8k16r1s1u2_nhwc_f16+res", SMALL, 0),
    ("dgrad_n2c16h9w8k16r1s1p1_nhwc_f16", SMALL, 0),
    # strides and dilations that differ; classes with different numbers of taps, some with none
    ("fprop_n1c6h20w15k6r3s2u3x2p2x1d2x3_nhwc_f16", SMALL, 0),
    ("wgrad_n2c6h20w15k6r3s2u3x2p2x1d2x3_nhwc_f16", SMALL, 0),
    ("dgrad_n1c6h20w15k6r3s2u3x2p2x1d2x3_nhwc_f16", SMALL, 0),
    ("dgrad_n1c4h19w19k12r4s4u4p3d6_nhwc_f16", SMALL, 0),
    ("dgrad_n2c3h33w33k4r8s8u5p3d2_nchw_bf16", SMALL, 0),
    ("dgrad_n2c12h9w10k12r2s2u4_nhwc-ohwi_f16+bias+res", SMALL, 0),
    # groups, with bias of a later one, and parts of sums
    ("fprop_n2c16h5w5k20r3s3p1g2_nhwc_f16+bias", SMALL, 0),
    ("fprop_n2c80h5w5k20r3s3p1g2_nhwc-ohwi_bf16+bias+res+relu", SMALL | {"splits": 4}, 0),
    ("wgrad_n3c24h7w8k40r3s3p1d2x1g2_nhwc-ohwi_f16", SMALL, 0),
    ("wgrad_n2c16h9w10k6r3s3_nhwc_f16", SMALL | {"splits": 3}, 0),
    # other orders: results along the rows of the product, which cross rows and images, and some that do not
    ("fprop_n5c4h3w7k9r2s2p1_nchw_f16+bias+res+relu", SMALL, 0),
    ("fprop_n3c4h8w8k9r3s3p1_nchw_f16+res", SMALL, 0),
    ("fprop_n3c4h8w8k9r3s3p1_nchw_bf16+res", SMALL, 1),
    ("fprop_n2c8h6w7k12r3s2p1_nchw-hwio_f16", SMALL, 0),
    ("wgrad_n1c4h4w5k1r1s2_nchw-hwio_f16", SMALL, 0),
    # axes of one cell, whose strides are no multiples of a copy
    ("wgrad_n1c1h34w33k1r17s17p8_nhwc-ohwi_f16", SMALL, 4),
    ("fprop_n2c6h1w1k4r3s3p1_nchw_bf16+bias", SMALL, 0),
    ("fprop_n2c6h5w5k4r1s1_nhwc-oihw_bf16", SMALL, 0),
    ("fprop_n1c70h1w1k70r1s1_nhwc_f16+bias", SMALL, 0),
    ("fprop_n2c6h9w9k6r3s3p1g6_nhwc_f16", SMALL, 0),
    ("wgrad_n0c4h8w8k4r3s3_nhwc_f16", SMALL, 0),
)  # fmt: skip


@pytest.fixture(scope="module")
def machines(has_compiler):
    return [EmulatedMachine(schedule) for schedule in SCHEDULES]


@pytest.mark.parametrize(("text", "more", "offset"), TOGETHER)
def test_together(machines, text, more, offset):
    case = bodies.default_case(text, KERNEL, machines[0], **more)
    assert KERNEL.check_config(case.problem, case.config, machines[0].device) is None
    cases.check(cases.Case(case.problem, KERNEL, case.config, offset), machines)
