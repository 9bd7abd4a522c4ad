"""The model of a device: what must be faster is, and it answers in time."""

from __future__ import annotations

import json
from dataclasses import replace
from math import prod

import pytest

from bench import static
from gpuconv.autotune import heuristic
from gpuconv.backend.cards import CARDS, like
from gpuconv.families import floor_us
from gpuconv.kernels import registry
from gpuconv.kernels.cuda.base import CudaKernel
from gpuconv.kernels.cuda.gemm_tiles import GemmConfig
from gpuconv.kernels.work import Work
from gpuconv.problem import ConvProblem
from gpuconv.report import shapes

H200 = CARDS["H200"].device
P = ConvProblem.parse("fprop_n32c64h56w56k64r3s3p1_nhwc_f32")
WORK = Work(
    blocks=1320, threads=256, registers=128, smem_bytes=32768, multiplies=5e4, instructions=8e3,
    wavefronts=4e4, read_bytes=2e5, written_bytes=4e4, waits=8,
)  # fmt: skip


def weighed(p, device):
    """All candidates, the fastest first."""
    kernels = [kernel for kernel in registry.kernels() if isinstance(kernel, CudaKernel)]
    return heuristic.ranked(p, [kernel for kernel in kernels if kernel.check(p, device) is None], device)


def seconds(work, card="H200"):
    return heuristic.predict([work], P, CARDS[card].device)[0]


@pytest.mark.parametrize(
    "more",
    [
        {"blocks": 2640},
        {"multiplies": 1e5},
        {"instructions": 2e5},
        {"wavefronts": 4e5},
        {"read_bytes": 2e7},
        {"written_bytes": 2e7},
        {"waits": 800},
        {"wide": True},
        {"registers": 255, "waits": 100},
        {"smem_bytes": 200_000, "waits": 100},
    ],
)
def test_more_of_anything_takes_longer(more):
    assert seconds(replace(WORK, **more)) > 1.05 * seconds(WORK)


def test_what_takes_longest_is_named():
    nothing = {"multiplies": 1, "instructions": 1, "wavefronts": 1, "read_bytes": 1, "waits": 0, "blocks": 1}
    for more, limit in (
        ({}, "instructions"),  # as many are issued as multiply-adds begin, so others always count
        ({"instructions": 4e5}, "instructions"),
        ({"wavefronts": 4e6}, "shared memory"),
        ({"read_bytes": 4e7}, "L2"),
        ({"waits": 8000}, "waiting"),
        (nothing, "memory"),
    ):
        assert heuristic.predict([replace(WORK, **more)], P, H200)[1] == limit
    assert heuristic.predict([WORK], P, CARDS["A100"].device)[1] == "multiplying"


def test_a_tail_costs_a_wave_of_its_own():
    held = heuristic.occupancy(WORK, CARDS["H200"])
    whole = replace(WORK, blocks=132 * held)
    assert seconds(replace(whole, blocks=132 * held + 1)) > 1.1 * seconds(whole)
    assert seconds(replace(whole, blocks=132 * held - 1)) == seconds(whole)


@pytest.mark.parametrize(
    ("facts", "held"),
    [
        ({}, 2),
        ({"registers": 64}, 4),
        ({"registers": 33, "threads": 128, "smem_bytes": 0}, 12),
        ({"registers": 16, "smem_bytes": 0}, 8),
        ({"registers": 16, "smem_bytes": 0, "threads": 32}, 32),
        ({"registers": 16, "smem_bytes": 100_000}, 2),
        ({"registers": 255, "threads": 1024}, 1),
    ],
)
def test_blocks_that_an_sm_holds(facts, held):
    assert heuristic.occupancy(replace(WORK, **facts), CARDS["H200"]) == held


def test_no_time_is_below_the_floor():
    """Every candidate for real layers, on the card whose floors are known."""
    for layer in shapes.read_all()[::5]:
        for op in ("fprop", "dgrad", "wgrad"):
            p = layer.problem(op, "f32", "nhwc", 32)
            for one in weighed(p, H200):
                assert one.seconds * 1e6 >= 0.99 * floor_us(p, H200), f"{p} {one}"


@pytest.mark.parametrize(
    ("text", "kernel"),
    [
        ("fprop_n32c256h28w28k256r3s3p1_nhwc_f32", "implicit_gemm_simt"),
        ("fprop_n32c256h28w28k256r3s3p1_nchw_f32", "implicit_gemm_simt"),
        ("fprop_n32c256h56w56k64r1s1_nhwc_f32", "implicit_gemm_simt"),
        ("wgrad_n32c256h28w28k256r3s3p1_nhwc_f32", "implicit_gemm_simt"),
        ("dgrad_n32c128h28w28k256r3s3u2p1_nhwc_f32", "implicit_gemm_simt"),
        ("fprop_n32c256h28w28k256r3s3p1_nhwc_f16", "implicit_gemm_sm80"),
        ("dgrad_n32c128h28w28k256r3s3u2p1_nhwc-ohwi_bf16", "implicit_gemm_sm80"),
        ("wgrad_n32c256h28w28k256r3s3p1_nhwc_f16", "implicit_gemm_sm80"),
        ("fprop_n32c256h56w56k64r1s1_nhwc-ohwi_bf16", "implicit_gemm_sm80"),
        ("fprop_n32c96h112w112k96r3s3p1g96_nhwc_f16", "cuda_direct"),
        ("fprop_n32c96h112w112k96r3s3p1g96_nhwc_f32", "cuda_direct"),
        ("fprop_n32c96h112w112k96r3s3p1g96_nchw_f32", "cuda_direct"),
        ("dgrad_n32c384h14w14k384r7s7p3g384_nhwc_f16", "cuda_direct"),
        ("fprop_n1c1h4096w4096k1r3s3p1_nchw_f32", "cuda_direct"),
        ("fprop_n1c1h4096w4096k1r31s31p15_nchw_f32", "cuda_direct"),
        ("fprop_n8c64h28w28k64r3s3p1g16_nhwc_f32", "cuda_direct"),
    ],
)
@pytest.mark.parametrize("card", CARDS)
def test_each_kernel_is_chosen_for_what_it_is_made_for(text, kernel, card):
    candidates = weighed(ConvProblem.parse(text), CARDS[card].device)
    if text.startswith("wgrad") and CARDS[card].f32_lanes < 128:
        kernel = candidates[
            0
        ].kernel.name  # where half of all instructions are free, either may be the better
    if kernel == "implicit_gemm_sm80" and CARDS[card].device.capability < (8, 0):
        kernel = "implicit_gemm_simt"
    assert candidates[0].kernel.name == kernel, [(str(one), one.seconds) for one in candidates]


def test_unknown_cards_are_like_the_next_below():
    device = replace(H200, name="another", capability=(9, 9), sms=66)
    card = like(device)
    assert card.f32_lanes == CARDS["H200"].f32_lanes
    assert card.bandwidth == CARDS["H200"].bandwidth / 2
    assert card.device is device
    assert like(replace(H200, capability=(7, 0), sms=40)).clock == CARDS["T4"].clock


def compiled():
    """Rows of the static table whose loop turns often: the stage is all that counts there."""
    (newest,) = sorted(static.FOLDER.glob("nvrtc-*.json"))[-1:]
    for row in json.loads(newest.read_text(encoding="utf-8"))["rows"]:
        kernel, p, device = (
            registry.by_name(row["kernel"]),
            ConvProblem.parse(row["problem"]),
            CARDS[row["card"]].device,
        )
        work, *_ = kernel.works(p, kernel.config_type.parse(row["config"]), device)
        if work.stages > 1:
            yield row, work


def test_works_are_about_what_the_compiler_makes():
    rows = list(compiled())
    assert {row["kernel"] for row, _ in rows} >= {"cuda_direct", "implicit_gemm_simt", "implicit_gemm_sm80"}
    for row, work in rows:
        share = 64 if work.tensor else 1
        instructions = (work.multiplies / share + work.instructions) / work.stages
        assert 0.75 <= instructions / row["instructions"] <= 1.3, row
        assert 0.75 <= work.registers / row["registers"] <= 1.3, row
        assert work.smem_bytes == row["smem_bytes"], row


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize(
    "text",
    [
        "fprop_n32c256h56w56k256r3s3p1_nhwc_f32",
        "fprop_n64c512h28w28k512r3s3p1_nchw_f32",
        "dgrad_n32c256h56w56k256r3s3p1_nhwc_f32",
        "wgrad_n32c256h56w56k256r3s3p1_nhwc_f32",
    ],
)
def test_large_products_take_large_tiles(text, card):
    """Small ones read twice as much of shared memory for each product."""
    candidates = weighed(ConvProblem.parse(text), CARDS[card].device)
    one = next(one for one in candidates if one.kernel.name == "implicit_gemm_simt")
    assert one.config.block_m * one.config.block_n >= 64 * 64, str(one)
    assert one.config.thread_m * one.config.thread_n >= 32, str(one)


def test_adding_splits_is_not_free():
    p = ConvProblem.parse("wgrad_n32c64h56w56k64r3s3p1_nhwc_f32")
    for kernel in registry.kernels():
        if isinstance(kernel, CudaKernel) and kernel.check(p, H200) is None:
            config = replace(kernel.default_config(p, H200), splits=8)
            main, last = kernel.works(p, config, H200)
            assert last.blocks * last.read_bytes >= 8 * 4 * prod(p.w_shape)
            assert heuristic.predict([main, last], p, H200)[0] > 2e-6 + heuristic.predict([main], p, H200)[0]


def test_more_lanes_than_banks():
    """Quads of 16 bytes take four wavefronts, whatever lanes share: so the emulator counts, and the table."""
    p = ConvProblem.parse("fprop_n32c256h56w56k256r3s3p1_nhwc_f32")
    large, small = GemmConfig(), GemmConfig(32, 32, 32, 32, 16, 4, 4)
    per_product = [
        work.wavefronts / (work.multiplies * work.threads)
        for work in (registry.by_name("implicit_gemm_simt").works(p, cfg, H200)[0] for cfg in (large, small))
    ]
    assert 1.5 < per_product[1] / per_product[0] < 3
    quads = large.threads // 32 * 32 * 4 * 4  # of a stage: warps, places, quads, wavefronts
    assert registry.by_name("implicit_gemm_simt").works(p, large, H200)[0].wavefronts >= 72 * quads
