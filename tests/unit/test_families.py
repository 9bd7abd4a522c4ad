"""Families at their borders, and floors against sums done by hand."""

from __future__ import annotations

import pytest

from gpuconv.backend.device import Device
from gpuconv.families import FAMILIES, H200, family, floor_us, rates
from gpuconv.problem import ConvProblem

CARD = Device("cuda", "NVIDIA H200", capability=(9, 0), sms=132)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # the first that fits is taken
        ("fprop_n1c1h65536w32768k1r3s3p1_nchw_f32", "huge"),
        ("fprop_n1c1h65535w32768k1r3s3p1_nchw_f32", "image"),
        ("wgrad_n1c1h9w32768k65536r9s1_nhwc_f16", "huge"),
        ("dgrad_n8c1h40w50k1r31s31p15_nhwc_bf16", "image"),
        ("fprop_n8c1h40w50k2r3s3_nhwc_bf16", "first-layer"),
        ("fprop_n8c3h40w50k64r7s7_nchw_f32_tf32", "first-layer"),
        ("fprop_n8c4h40w50k4r3s3g4_nhwc_f16", "first-layer"),
        ("fprop_n8c5h40w50k5r3s3g5_nhwc_f16", "depthwise"),
        ("fprop_n8c8h40w50k16r3s12g8_nchw_f64", "depthwise"),
        ("fprop_n8c8h40w50k16r3s13g8_nchw_f64", "depthwise-large"),
        ("fprop_n8c8h40w50k8r13s1g8_nhwc_f16", "depthwise-large"),
        ("fprop_n8c8h40w50k8r13s13g4_nhwc_f16", "grouped"),
        ("fprop_n8c8h40w50k8r3s3_nhwc_f32_tf32", "tf32"),
        ("fprop_n8c8h40w50k8r3s3_nhwc_f32_tf32x3", "tf32"),
        ("fprop_n8c8h40w50k8r3s3_nhwc_f32_relaxed", "tf32"),
        ("fprop_n8c8h40w50k8r3s3_nhwc_f32", "fp32"),
        ("fprop_n8c8h40w50k8r3s3d2_nchw_f64", "fp32"),
        ("fprop_n8c9h40w50k8r3s3d2_nchw_f16", "nchw"),
        ("fprop_n8c8h40w50k8r3s3d1x2_nhwc_f16", "odd"),
        ("fprop_n8c9h40w50k8r3s3_nhwc_f16", "odd"),
        ("fprop_n8c8h40w50k12r1s1_nhwc_f16", "odd"),
        ("fprop_n32c64h56w56k256r1s1_nhwc_bf16", "pointwise"),
        ("fprop_n32c2048h7w7k2048r1s1_nhwc_bf16", "dense"),  # bound by operations
        ("fprop_n32c64h56w56k64r1s3_nhwc_bf16", "dense"),
        ("fprop_n32c64h7w7k64r3s3p1_nhwc_bf16", "few-tile"),
    ],
)
def test_family(text, expected):
    p = ConvProblem.parse(text)
    assert family(p) == expected
    assert expected in FAMILIES


def test_few_tiles_are_fewer_than_multiprocessors():
    # 128·132 pixels are 132 tiles of 128 rows; one pixel less needs as many, one row of tiles less does not
    full, ragged, fewer = (
        ConvProblem.parse(f"fprop_n1c64h1w{width + 2}k64r1s3_nhwc_f16")
        for width in (128 * 132, 128 * 132 - 1, 128 * 131)
    )
    assert [family(p) for p in (full, ragged, fewer)] == ["dense", "dense", "few-tile"]
    assert family(fewer, sms=131) == "dense"
    assert family(full, sms=133) == "few-tile"


def test_families_are_named_in_the_order_they_are_tried():
    assert FAMILIES == (
        "huge", "image", "first-layer", "depthwise-large", "depthwise", "grouped", "tf32", "fp32", "nchw",
        "odd", "pointwise", "few-tile", "dense",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("tail", "rate"),
    [
        ("bf16", 790e12),
        ("f16", 790e12),
        ("f32", 67e12),
        ("f64", 67e12),
        ("f32_tf32", 494e12),
        ("f32_tf32x3", 494e12 / 3),
        ("f32_relaxed", 494e12),
        ("f16_relaxed", 790e12),
    ],
)
def test_floor_of_operations(tail, rate):
    p = ConvProblem.parse(f"fprop_n32c512h28w28k512r3s3p1_nhwc_{tail}")
    flops = 2 * 32 * 512 * 28 * 28 * 512 * 9
    assert floor_us(p, CARD) == pytest.approx(flops / rate * 1e6)


def test_floor_of_bytes():
    p = ConvProblem.parse("fprop_n1c1h4096w4096k1r3s3p1_nhwc_bf16")
    assert floor_us(p, CARD) == pytest.approx((2 * 4096**2 + 9) * 2 / 4.3e12 * 1e6)


def test_floors_only_of_cards_that_are_known():
    p = ConvProblem.parse("fprop_n1c8h9w9k8r3s3_nchw_f32")
    assert rates(CARD) is H200
    assert H200.measured <= {*H200.flops, "bandwidth"}
    for device in (
        Device("cpu", "NVIDIA H200 beside a processor", capability=(9, 0)),
        Device("cuda", "NVIDIA H100", capability=(9, 0)),
        Device("cuda", "NVIDIA GH200 480GB", capability=(9, 0)),
        Device("cuda", "NVIDIA H200 MIG 1g.18gb", capability=(9, 0)),
        Device("cuda", "NVIDIA H200", capability=(8, 0)),
        Device("cuda", "device 0"),
    ):
        assert floor_us(p, device) is None
    assert rates(Device("cuda", "NVIDIA H200 NVL", capability=(9, 0))) is H200
