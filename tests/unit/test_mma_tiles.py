"""What the host decides for the product by tensor cores: copies, splits, legality; and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuconv.backend.device import Device
from gpuconv.backend.source import cuda_source_folder
from gpuconv.kernels.cuda.correlation import correlation
from gpuconv.kernels.cuda.implicit_gemm_sm80 import CudaImplicitGemmSm80
from gpuconv.kernels.cuda.mma_tiles import MmaConfig, MmaTiles
from gpuconv.problem import ConvProblem
from tests.compile.cards import CARDS, card
from tests.problems import NAMED, with_op

KERNEL = CudaImplicitGemmSm80()
DEVICE = Device("cuda", "a card", capability=(9, 0), sms=132, smem_block=232448)
LARGE = MmaConfig()


def tiles(text, config=LARGE):
    p = ConvProblem.parse(text)
    return MmaTiles(p, correlation(p), config)


#: Input along the depth, its vector; taps along the depth, their vector; whether taps stay inside.
FORMS = {
    "fprop_n2c64h9w9k64r3s3_nhwc_f16": (True, 8, False, 8, True),
    "fprop_n2c64h9w9k64r3s3p1_nhwc-ohwi_f16": (True, 8, True, 8, False),
    "fprop_n2c64h9w9k64r3s3p0+1x0_nhwc-oihw_f16": (True, 8, False, 1, False),
    "fprop_n2c36h9w9k36r3s3_nhwc_bf16": (True, 4, False, 4, True),
    "fprop_n2c6h9w9k6r3s3_nhwc_f16": (True, 2, False, 2, True),
    "fprop_n2c3h9w9k64r3s3_nhwc-ohwi_f16": (False, 1, False, 1, True),
    "fprop_n2c64h9w9k64r3s3_nchw_f16": (False, 1, True, 8, True),
    "fprop_n2c64h9w9k64r1s1_nhwc-oihw_f16": (True, 8, True, 8, True),
    "dgrad_n2c64h9w9k64r3s3_nhwc-ohwi_f16": (True, 8, False, 8, False),
    "dgrad_n2c64h9w9k64r1s1_nhwc_f16": (True, 8, True, 8, True),
    "dgrad_n2c64h9w9k64r1s1p1_nhwc_f16": (True, 8, True, 8, False),
    "wgrad_n2c64h10w10k64r3s3_nhwc_f16": (False, 8, False, 8, True),
    "wgrad_n2c20h10w10k6r3s3p1_nhwc_f16": (False, 4, False, 2, False),
}


@pytest.mark.parametrize("text", FORMS)
def test_copies_follow_the_memory(text):
    t = tiles(text)
    found = (t.in_map.along_depth, t.in_map.vector, t.taps_map.along_depth, t.taps_map.vector, t.inside)
    assert found == FORMS[text]


def test_axes_of_one_cell_have_no_stride():
    """What lies behind them is not read, but its address must be aligned as any."""
    params = tiles("wgrad_n1c1h34w33k1r17s17p8_nhwc-ohwi_f16").params
    assert (params.taps_strides.image, params.taps_steps.channel, params.in_strides.image) == (0, 0, 0)
    params = tiles("fprop_n2c6h1w1k4r3s3p1_nchw_f16").params
    assert (params.in_strides.row, params.in_strides.column, params.in_steps.row) == (0, 0, 0)
    assert (params.in_strides.image, params.in_strides.channel, params.taps_strides.row) == (6, 1, 3)


@pytest.mark.parametrize("capability", [each for each in CARDS if each >= (8, 0)])
@pytest.mark.parametrize("op", ["fprop", "dgrad", "wgrad"])
def test_defaults_are_legal_everywhere(capability, op):
    device = card(capability)
    for text in NAMED.values():
        p = replace(with_op(text, op), dtype="bf16")
        if p.padding_mode != "zeros":
            continue
        assert KERNEL.check(p, device) is None
        configs, candidates = KERNEL.configs(p, device), KERNEL.candidates(p, device)
        assert all(KERNEL.check_config(p, config, device) is None for config in (*configs, *candidates))
        assert configs[0] == candidates[0] == KERNEL.default_config(p, device)


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("wgrad_n512c8h1000w1000k8r3s3_nchw_f16", 64, 64 * 1024),
        ("wgrad_n32c64h56w56k64r3s3p1_nhwc_f16", 8, 64),
        ("fprop_n64c1h50000w50000k1r3s3_nchw_f16", 1, 1),
        ("fprop_n1c2048h1w1k1000r1s1_nhwc_f16", 2, 64),
        ("fprop_n32c64h56w56k64r3s3p1_nhwc_f16", 1, 1),
    ],
)
def test_sums_are_split_where_results_are_few(text, least, most):
    p = ConvProblem.parse(text)
    config = KERNEL.default_config(p, DEVICE)
    assert KERNEL.check(p, DEVICE) is None
    assert least <= config.splits <= most
    stages = MmaTiles(p, correlation(p), config)
    assert stages.stages_per_split * config.splits >= stages.stage_count


def test_layers_of_many_channels_take_the_large_tile():
    for op in ("fprop", "dgrad"):
        p = ConvProblem.parse(f"{op}_n32c256h28w28k256r3s3p1_nhwc_f16")
        assert KERNEL.default_config(p, DEVICE) == LARGE


#: Changes of a legal config, and what is said of each.
REFUSED = {
    "block_m must be a power of two from 16 on, got 96": {"block_m": 96},
    "block_n must be from 1 to 1024, got 2048": {"block_n": 2048},
    "warp_n must be a power of two from 16 on, got 8": {"warp_n": 8},
    "warp_m must be at most block_m=32, got 64": {"block_m": 32, "warp_m": 64},
    "chain must be at most 2, the steps of a stage, got 4": {"chain": 4},
    "stages must be at least 2, got 1": {"stages": 1},
    "from 32 to 1024 threads, this config makes 2048": {"block_m": 1024, "warp_m": 16, "warp_n": 128},
    "from 64 to 1024 threads, this config makes 32": {"block_m": 64, "block_n": 64, "block_k": 64},
    "cannot share tiles": {"block_m": 16, "block_n": 1024, "warp_m": 16, "warp_n": 32, "block_k": 16,
                           "chain": 1},
    "registers are more than an SM has": {"block_m": 128, "warp_m": 128},
    "bytes of shared memory": {"stages": 16},
    "splits must be at most the 18 stages": {"splits": 19},
    "splits must be from 1 to 65536, got 0": {"splits": 0},
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_refused_configs_say_why(reason):
    p = ConvProblem.parse("fprop_n8c64h56w56k128r3s3p1_nhwc_f16")
    assert KERNEL.check_config(p, LARGE, DEVICE) is None
    reject = KERNEL.check_config(p, replace(LARGE, **REFUSED[reason]), DEVICE)
    assert reason in str(reject)


@pytest.mark.parametrize(
    ("text", "device", "reason"),
    [
        ("fprop_n1c1h4w4k1r3s3_nchw_f16", Device("cpu", "a processor"), "CUDA devices only"),
        ("fprop_n1c1h4w4k1r3s3_nchw_f16", replace(DEVICE, capability=(7, 5)), "compute capability 8.0"),
        ("fprop_n1c1h4w4k1r3s3_nchw_f32", DEVICE, "takes f16 and bf16, not f32"),
        ("fprop_n1c1h4w4k1r3s3p1_nchw_f16+reflect", DEVICE, "padding_mode reflect"),
        ("fprop_n1c1h1073741824w1k1r1s1_nchw_f16", DEVICE, "takes the padded height below 2**30"),
    ],
)
def test_refused_problems_say_why(text, device, reason):
    assert reason in str(KERNEL.check(ConvProblem.parse(text), device))


def test_roundings_are_those_of_cut_off_sums():
    """One unit a product, two for every eight; one for each chain and part that joins."""
    t = tiles("fprop_n1c64h9w9k64r3s3_nhwc_f16")
    assert t.roundings(1) == 32 + 2 * 4 + 17
    assert t.roundings(2) == 32 + 2 * 4 + 8 + 1
    assert replace(t, cfg=replace(LARGE, chain=1)).roundings(1) == 16 + 2 * 2 + 35
    assert tiles("fprop_n1c3h9w9k64r1s1_nhwc_f16").roundings(1) == 3 + 2


@pytest.mark.parametrize(("channels", "chain"), [(1, 1), (20, 1), (64, 1), (96, 2), (1000, 2)])
def test_chains_are_as_long_as_rounding_allows(channels, chain):
    p = ConvProblem.parse(f"fprop_n8c{channels}h56w56k64r1s1_nhwc_f16")
    assert KERNEL.default_config(p, DEVICE).chain == chain


def test_binaries_do_not_depend_on_what_the_launch_alone_needs():
    p = ConvProblem.parse("fprop_n1c64h9w9k64r3s3_nhwc_f16+bias+relu")

    def binary(problem=p, **more):
        return KERNEL.launches(problem, replace(LARGE, **more), DEVICE)[0].binary

    assert binary(splits=2) == binary(splits=3) == binary(splits=2, raster=1)
    assert binary(splits=2) != binary()
    assert binary(splits=2) == binary(replace(p, bias=False), splits=2)
    assert binary() != binary(replace(p, bias=False))


def test_work_counts_products_and_blocks():
    p = ConvProblem.parse("fprop_n8c64h56w56k128r3s3p1_nhwc_f16")
    (work,) = KERNEL.works(p, LARGE, DEVICE)
    assert work.tensor
    assert work.blocks == 8 * 56 * 56 // 128
    assert work.multiplies * work.threads * work.blocks == p.flops // 2
    assert work.read_bytes == 18 * 32 * 256 * 2
    # 16 squares of four wavefronts for each of four warps, and 16 KiB that arrive, in each of 18 stages
    assert work.wavefronts == 18 * (16 * 4 * 4 + 128) + 2 * 512


def test_a_kernel_compiled_as_it_stands_has_the_default_tile():
    folder = cuda_source_folder() / "include" / "gpuconv"
    text = "".join((folder / room / "config.cuh").read_text(encoding="utf-8") for room in ("mma", "gemm"))
    for name, value in MmaConfig().defines().items():
        if name not in ("SPLITS", "RASTER"):
            assert f"#define {name} {value}\n" in text
