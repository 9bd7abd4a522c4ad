"""What the implicit matrix product must get right together, each case for what it alone shows."""

from __future__ import annotations

import pytest

from gpuconv.kernels.cuda.implicit_gemm_simt import CudaImplicitGemmSimt
from tests import bodies, cases
from tests.emulator.launcher import SCHEDULES
from tests.emulator.machine import EmulatedMachine

KERNEL = CudaImplicitGemmSimt()
SMALL = {
    "block_m": 32, "block_n": 32, "block_k": 16, "warp_m": 32, "warp_n": 16, "thread_m": 4, "thread_n": 4,
}  # fmt: skip
LARGE = {
    "block_m": 128, "block_n": 128, "block_k": 32, "warp_m": 32, "warp_n": 64, "thread_m": 8, "thread_n": 8,
}  # fmt: skip
TOGETHER = (
    # bands of the grid: several, the last one narrower, with more than one row of blocks
    ("fprop_n1c8h9w9k200r1s1_nhwc_f32", SMALL | {"raster": 3}, 0),
    ("fprop_n1c8h9w9k200r1s1_nhwc_f32", SMALL | {"raster": 1}, 0),
    # the large tile, full and with tails, and with stages that end inside a tap
    ("fprop_n1c40h12w12k136r2s2_nhwc_f32+bias", LARGE, 0),
    ("fprop_n1c40h12w12k136r2s2_nchw_f32+bias", LARGE, 0),
    # vectors of every length along the depth: 16-bit, of taps too
    ("fprop_n1c16h6w7k33r3s3p1_nhwc-ohwi_f16", SMALL, 0),
    ("fprop_n1c12h6w7k33r3s3p1_nhwc-ohwi_bf16", SMALL, 0),
    ("fprop_n1c6h6w7k33r3s3p1_nhwc-ohwi_f16", SMALL, 4),
    ("fprop_n1c6h6w7k8r3s3p1_nhwc-oihw_f64", {}, 0),
    # arrays that begin anywhere: vectors are not loaded
    *(("fprop_n1c16h6w7k32r3s3p1_nhwc_f16", SMALL, offset) for offset in (1, 2, 4)),
    # rows of the product that count images first, in vectors and one by one, with groups
    ("wgrad_n2c36h7w8k40r3s3p1_nhwc_f32", SMALL, 0),
    ("wgrad_n2c35h7w8k40r2s3u2x1p1_nhwc_f32", SMALL, 0),
    ("wgrad_n3c24h7w8k40r3s3p1d2x1g2_nhwc-ohwi_f16", SMALL, 0),
    # images along the rows of the product, with quads that cross rows and images, and some that do not
    ("fprop_n5c4h3w7k9r2s2p1_nchw_f32+bias+res+relu", SMALL, 0),
    ("fprop_n3c4h8w8k9r3s3p1_nchw_f32+res", SMALL, 0),
    ("fprop_n3c4h8w8k9r3s3p1_nchw_f16+res", SMALL, 1),
    # rows whose places in the result do not rise with them, the last of four as far on as if they did
    ("wgrad_n1c2h4w5k1r1s2_nchw-hwio_f32", SMALL, 0),
    # the same taps by the other layouts of weights
    ("fprop_n2c8h6w7k12r3s2p1_nchw-hwio_f32", SMALL, 0),
    ("fprop_n2c8h6w7k12r3s2p1_nchw-ohwi_f32", SMALL, 0),
    ("fprop_n2c8h6w7k12r3s2p1g2_nchw-oihw_f32", SMALL, 0),
    # strides and dilations that differ
    ("fprop_n1c6h20w15k5r3s2u3x2p2x1d2x3_nhwc_f32", SMALL, 0),
    ("fprop_n1c6h20w15k5r3s2u3x2p2x1d2x3_nchw_f32", SMALL, 0),
    ("wgrad_n2c6h20w15k5r3s2u3x2p2x1d2x3_nchw_f32", SMALL, 0),
    ("dgrad_n1c6h20w15k5r3s2u3x2p2x1d2x3_nhwc_f32", SMALL, 0),
    # classes with different numbers of taps, some with none; a multiplier that is not its own inverse
    ("dgrad_n2c3h33w33k4r8s8u5p3d2_nchw_f32", SMALL, 0),
    ("dgrad_n1c4h19w19k12r4s4u4p3d6_nhwc_f32", SMALL, 0),
    ("dgrad_n2c9h9w10k12r3s3u2p1_nhwc-ohwi_f32+bias+relu", SMALL | {"splits": 3}, 0),
    ("dgrad_n2c9h9w10k12r2s2u4_nchw_f32+bias+res", SMALL, 0),
    ("dgrad_n2c12h9w10k8r3s3p1g2_nchw-hwio_f32", SMALL, 0),
    # parts of sums, of which the last is shorter; and with groups
    ("fprop_n2c40h5w5k9r3s3p1_nhwc_f32+bias+res+relu", SMALL | {"splits": 7}, 0),
    ("fprop_n2c40h5w5k10r3s3p1g2_nchw_f16+bias", SMALL | {"splits": 4}, 0),
    # bias of a later group, stored along filters and along pixels
    ("fprop_n2c8h5w5k10r3s3p1g2_nhwc_f32+bias", SMALL, 0),
    ("fprop_n2c8h4w8k10r3s3p1g2_nchw_f32+bias+res", SMALL, 0),
    ("wgrad_n2c5h9w10k6r3s3_nchw_f64", {"splits": 3}, 0),
    # other depths of a stage and other forms of warp and thread
    ("fprop_n2c40h5w5k40r3s3p1_nhwc_f32", SMALL | {"block_k": 8}, 0),
    ("fprop_n2c40h5w5k40r3s3p1_nhwc_f32", SMALL | {"block_k": 64}, 0),
    ("fprop_n2c40h5w5k40r3s3p1_nhwc_f32", SMALL | {"warp_m": 16, "warp_n": 32}, 0),
    ("fprop_n2c40h5w9k70r3s3p1_nchw_f32",
     SMALL | {"block_m": 64, "block_n": 64, "thread_m": 8, "thread_n": 2}, 0),
    # one channel, one filter, one pixel; depthwise
    ("fprop_n2c1h9w9k1r3s3p1_nchw_f32", SMALL, 0),
    ("fprop_n1c70h1w1k70r1s1_nhwc_f32+bias", SMALL, 0),
    ("fprop_n2c6h9w9k6r3s3p1g6_nhwc_f32", SMALL, 0),
    ("wgrad_n2c6h9w9k12r3s3p1g6_nchw_f32", SMALL, 0),
    ("wgrad_n0c4h8w8k4r3s3_nchw_f32", SMALL, 0),
)  # fmt: skip


@pytest.fixture(scope="module")
def machines(has_compiler):
    return [EmulatedMachine(schedule) for schedule in SCHEDULES]


@pytest.mark.parametrize(("text", "more", "offset"), TOGETHER)
def test_together(machines, text, more, offset):
    case = bodies.default_case(text, KERNEL, machines[0], **more)
    assert KERNEL.check_config(case.problem, case.config, machines[0].device) is None
    cases.check(cases.Case(case.problem, KERNEL, case.config, offset), machines)
