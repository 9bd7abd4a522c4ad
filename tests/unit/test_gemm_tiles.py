"""What the host decides for the implicit matrix product: vectors, splits, legality; and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuconv.backend.device import Device
from gpuconv.backend.source import cuda_source_folder
from gpuconv.kernels.cuda.correlation import correlation
from gpuconv.kernels.cuda.gemm_tiles import GemmConfig, GemmTiles
from gpuconv.kernels.cuda.implicit_gemm_simt import CudaImplicitGemmSimt
from gpuconv.problem import ConvProblem
from tests.compile.cards import CARDS, card
from tests.problems import NAMED, with_op

KERNEL = CudaImplicitGemmSimt()
DEVICE = Device("cuda", "a card", capability=(9, 0), sms=132, smem_block=232448)
LARGE = GemmConfig(splits=1)


def tiles(text, config=LARGE):
    p = ConvProblem.parse(text)
    return GemmTiles(p, correlation(p), config)


#: Input along the depth, its vector; taps along the depth, their vector; channels counted before taps.
FORMS = {
    "fprop_n2c64h9w9k64r3s3_nhwc_f32": (True, 4, False, 4, True),
    "fprop_n2c64h9w9k64r3s3_nhwc-ohwi_f32": (True, 4, True, 4, True),
    "fprop_n2c64h9w9k64r3s3_nhwc-oihw_f32": (True, 4, True, 1, True),
    "fprop_n2c64h9w9k64r3s3_nhwc_f16": (True, 8, False, 4, True),
    "fprop_n2c6h9w9k6r3s3_nhwc_f32": (True, 2, False, 2, True),
    "fprop_n2c3h9w9k64r3s3_nhwc-ohwi_f32": (True, 1, True, 1, True),
    "fprop_n2c64h9w9k64r3s3_nchw_f32": (False, 1, True, 4, False),
    "fprop_n2c64h9w9k64r3s3_nchw-hwio_f32": (False, 1, False, 4, False),
    "fprop_n2c64h9w9k64r3s3_nchw-ohwi_f32": (False, 1, True, 4, True),
    "dgrad_n2c64h9w9k64r3s3_nchw_f32": (False, 1, True, 1, False),
    "dgrad_n2c64h9w9k64r3s3_nchw-hwio_f32": (False, 1, True, 4, True),
    "dgrad_n2c64h9w9k64r3s3_nhwc-ohwi_f32": (True, 4, False, 4, True),
    "wgrad_n2c64h10w10k64r3s3_nhwc_f32": (False, 4, False, 4, False),
    "wgrad_n2c64h10w10k64r3s3_nchw_f32": (True, 1, True, 4, False),
    "wgrad_n2c64h9w9k64r3s3_nchw_f32": (True, 1, True, 1, False),
    "fprop_n1c1h99w99k8r3s3_nhwc_f32": (False, 1, False, 4, False),
}


@pytest.mark.parametrize("text", FORMS)
def test_loads_follow_the_memory(text):
    t = tiles(text)
    found = (t.in_along_depth, t.in_vector, t.taps_along_depth, t.taps_vector, t.channels_first)
    assert found == FORMS[text]


@pytest.mark.parametrize("capability", CARDS)
@pytest.mark.parametrize("op", ["fprop", "dgrad", "wgrad"])
def test_defaults_are_legal_everywhere(capability, op):
    device = card(capability)
    for text in NAMED.values():
        p = with_op(text, op)
        if p.padding_mode == "zeros":
            assert KERNEL.check(p, device) is None
        configs = KERNEL.configs(p, device) if p.padding_mode == "zeros" else []
        assert all(KERNEL.check_config(p, config, device) is None for config in configs)
        assert not configs or configs[0] == KERNEL.default_config(p, device)
        candidates = KERNEL.candidates(p, device) if configs else []
        assert all(KERNEL.check_config(p, config, device) is None for config in candidates)
        assert not candidates or candidates[0] == configs[0]


@pytest.mark.parametrize(
    ("text", "most"),
    [
        ("wgrad_n512c8h1000w1000k8r3s3_nchw_f32", 64 * 1024),
        ("wgrad_n4c1h50000w50000k1r3s3_nhwc_f16", 64 * 1024),
        ("fprop_n64c1h50000w50000k1r3s3_nchw_f32", 1),
        ("fprop_n1c2048h1w1k1000r1s1_nhwc_f32", 64),
        ("fprop_n32c64h56w56k64r3s3p1_nhwc_f32", 1),
    ],
)
def test_sums_are_split_where_results_are_few(text, most):
    p = ConvProblem.parse(text)
    config = KERNEL.default_config(p, DEVICE)
    assert KERNEL.check(p, DEVICE) is None
    assert (1 if most == 1 else 2) <= config.splits <= most
    stages = GemmTiles(p, correlation(p), config)
    # every stage belongs to a part
    assert stages.stages_per_split * config.splits >= stages.stage_count


#: Changes of a legal config, and what is said of each.
REFUSED = {
    "block_m must be a power of two, got 96": {"block_m": 96},
    "block_n must be from 1 to 1024, got 2048": {"block_n": 2048},
    "warp_m must be at most block_m=32, got 64": {"block_m": 32, "warp_m": 64},
    "32 lanes, this config makes 16": {"thread_m": 16},
    "at most 1024 threads, this config makes 2048": {"block_m": 1024},
    "block_k must be at most the 32 threads": {"block_m": 32, "block_n": 64, "block_k": 64},
    "cannot share tiles": {"block_m": 32, "block_n": 32, "block_k": 4, "warp_m": 16, "warp_n": 8,
                           "thread_m": 2, "thread_n": 2},
    "registers are more than an SM has": {"warp_m": 64, "thread_m": 16},
    "bytes of shared memory": {"block_m": 64, "block_n": 64, "block_k": 256, "warp_n": 16, "thread_m": 4,
                               "thread_n": 4},
    "splits must be at most the 18 stages": {"splits": 19},
    "splits must be from 1 to 65536, got 0": {"splits": 0},
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_refused_configs_say_why(reason):
    p = ConvProblem.parse("fprop_n8c64h56w56k128r3s3p1_nhwc_f32")
    assert KERNEL.check_config(p, LARGE, DEVICE) is None
    reject = KERNEL.check_config(p, replace(LARGE, **REFUSED[reason]), DEVICE)
    assert reason in str(reject)


@pytest.mark.parametrize(
    ("text", "device", "reason"),
    [
        ("fprop_n1c1h4w4k1r3s3_nchw_f32", Device("cpu", "a processor"), "CUDA devices only"),
        ("fprop_n1c1h4w4k1r3s3_nchw_f32", replace(DEVICE, capability=(7, 0)), "compute capability 7.5"),
        ("fprop_n1c1h4w4k1r3s3p1_nchw_f32+reflect", DEVICE, "padding_mode reflect"),
        ("fprop_n1c1h1073741824w1k1r1s1_nchw_f32", DEVICE, "takes the padded height below 2**30"),
    ],
)
def test_refused_problems_say_why(text, device, reason):
    assert reason in str(KERNEL.check(ConvProblem.parse(text), device))


def test_binaries_do_not_depend_on_what_the_launch_alone_needs():
    """Configs that differ in splits or bands, and epilogues that come after a split, share a binary."""
    p = ConvProblem.parse("fprop_n1c64h9w9k64r3s3_nhwc_f32+bias+relu")

    def binary(problem=p, **more):
        config = replace(LARGE, **more)
        return KERNEL.launches(problem, config, DEVICE)[0].binary

    assert binary(splits=2) == binary(splits=3) == binary(splits=2, raster=1)
    assert binary(splits=2) != binary()
    assert binary(splits=2) == binary(replace(p, bias=False), splits=2)
    assert binary() != binary(replace(p, bias=False))


def test_work_counts_products_and_blocks():
    p = ConvProblem.parse("fprop_n8c64h56w56k128r3s3p1_nhwc_f32")
    (work,) = KERNEL.works(p, LARGE, DEVICE)
    assert work.blocks == 8 * 56 * 56 // 128
    assert work.multiplies * work.threads * work.blocks == p.flops // 2
    assert work.read_bytes == 18 * 32 * 256 * 4


@pytest.mark.parametrize(
    ("text", "block_k"),
    [
        ("fprop_n8c1h56w56k64r3s3p1_nchw_f32", 16),  # of 32 places 9 would be used
        ("fprop_n8c32h56w56k64r1s1_nhwc_f32", 16),  # 32 products in one sum may err too much
        ("fprop_n8c64h56w56k64r1s1_nhwc_f32", 32),
    ],
)
def test_stages_are_no_deeper_than_sums(text, block_k):
    p = ConvProblem.parse(text)
    assert KERNEL.default_config(p, DEVICE).block_k == block_k
    assert KERNEL.default_config(p, card((7, 5))).block_k == 16


def test_a_kernel_compiled_as_it_stands_has_the_default_tile():
    text = (cuda_source_folder() / "include" / "gpuconv" / "gemm" / "config.cuh").read_text(encoding="utf-8")
    for name, value in GemmConfig().defines().items():
        if name not in ("SPLITS", "RASTER"):
            assert f"#define {name} {value}\n" in text
