"""The model of a device: what must be faster is, and it answers in time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuconv import dispatch
from gpuconv.autotune import heuristic
from gpuconv.backend.cards import CARDS, like
from gpuconv.families import floor_us
from gpuconv.kernels.work import Work
from gpuconv.problem import ConvProblem
from gpuconv.report import shapes

H200 = CARDS["H200"].device
P = ConvProblem.parse("fprop_n32c64h56w56k64r3s3p1_nhwc_f32")
WORK = Work(
    blocks=1320, threads=256, registers=128, smem_bytes=32768, multiplies=5e4, instructions=8e3,
    wavefronts=4e4, read_bytes=2e5, written_bytes=4e4, waits=8,
)  # fmt: skip


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
            candidates, _ = dispatch.explain(p, H200)
            for one in candidates:
                assert one.seconds * 1e6 >= 0.99 * floor_us(p, H200), f"{p} {one}"


@pytest.mark.parametrize(
    ("text", "kernel"),
    [
        ("fprop_n32c256h28w28k256r3s3p1_nhwc_f32", "implicit_gemm_simt"),
        ("fprop_n32c256h28w28k256r3s3p1_nchw_f32", "implicit_gemm_simt"),
        ("fprop_n32c256h56w56k64r1s1_nhwc_f32", "implicit_gemm_simt"),
        ("wgrad_n32c256h28w28k256r3s3p1_nhwc_f32", "implicit_gemm_simt"),
        ("dgrad_n32c128h28w28k256r3s3u2p1_nhwc_f32", "implicit_gemm_simt"),
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
    candidates, _ = dispatch.explain(ConvProblem.parse(text), CARDS[card].device)
    assert candidates[0].kernel.name == kernel, [(str(one), one.seconds) for one in candidates]


def test_unknown_cards_are_like_the_next_below():
    device = replace(H200, name="another", capability=(9, 9), sms=66)
    card = like(device)
    assert card.f32_lanes == CARDS["H200"].f32_lanes
    assert card.bandwidth == CARDS["H200"].bandwidth / 2
    assert card.device is device
    assert like(replace(H200, capability=(7, 0), sms=40)).clock == CARDS["T4"].clock
