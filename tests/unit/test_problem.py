"""The problem's text form, its numbers, and what it refuses."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given

from gpuconv.config import Config
from gpuconv.kernels.cpu.im2col_gemm import Im2colConfig
from gpuconv.problem import ConvProblem

from ..problems import NAMED
from ..strategies import problems

GOOD = [
    *NAMED.values(),
    "dgrad_n32c64h56w56k64r3s3u2x1p0+1x2d2x3g4_nhwc-oihw_bf16",
    "wgrad_n1c3h9w9k4r3s3p1x0+2_nchw-ohwi_f64",
    "fprop_n32c64h56w56k64r3s3p1_nhwc-ohwi_f16+bias+relu",
    "fprop_n1c1h2w2k1r1s1_nchw_f32_tf32x3+res",
    "dgrad_n1c1h4w4k1r1s1_nchw_f32_relaxed+bias+res+relu",
]


@given(problems())
def test_text_comes_back(p):
    assert ConvProblem.parse(str(p)) == p
    assert str(ConvProblem.parse(str(p))) == str(p)


@pytest.mark.parametrize("text", GOOD)
def test_canonical_text_is_a_fixed_point(text):
    assert str(ConvProblem.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("fprop_n1c2h3w3k2r1s1u1x1p0x0d1g1_nchw-oihw_f32_ieee", "fprop_n1c2h3w3k2r1s1_nchw_f32"),
        ("fprop_n1c2h3w3k2r1s1p1+1x1_nhwc-hwio_f16", "fprop_n1c2h3w3k2r1s1p1_nhwc_f16"),
        ("  fprop_n01c2h3w3k2r1s1_nchw_f32\n", "fprop_n1c2h3w3k2r1s1_nchw_f32"),
    ],
)
def test_defaults_may_be_written_out(text, canonical):
    assert str(ConvProblem.parse(text)) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fprop",
        "conv_n1c1h1w1k1r1s1_nchw_f32",
        "fprop_n1c1h1w1k1r1_nchw_f32",
        "fprop_n1c1h1w1k1r1s1_nchw",
        "fprop_n1c1h1w1k1r1s1_chwn_f32",
        "fprop_n1c1h1w1k1r1s1_nchw-iohw_f32",
        "fprop_n1c1h1w1k1r1s1_nchw_f8",
        "fprop_n1c1h1w1k1r1s1_nchw_f32_fast",
        "fprop_n1c1h1w1k1r1s1_nchw_f32+relu+bias",
        "fprop_n1c1h1w1k1r1s1_nchw_f32+gelu",
        "fprop_n1c1h1w1k1r1s1p1u2_nchw_f32",
        "fprop_n-1c1h1w1k1r1s1_nchw_f32",
        "fprop_n1c1h1w1k1r1s1p1x2x3_nchw_f32",
        "fprop_n1c1h1w1k1r1s1p_nchw_f32",
        "fprop_n1c1h1w1k1r1s1_nchw_f32;ls",
        "fprop_n1c0h1w1k1r1s1_nchw_f32",
        "fprop_n1c3h1w1k1r1s1g2_nchw_f32",
        "fprop_n1c4h1w1k3r1s1g4_nchw_f32",
        "fprop_n1c1h2w2k1r3s3_nchw_f32",
        "fprop_n1c1h9w9k1r3s3u0_nchw_f32",
        "fprop_n1c1h9w9k1r3s3d0_nchw_f32",
        "fprop_n1c1h9w9k1r1s1_nchw_f16_tf32",
        "wgrad_n1c1h9w9k1r1s1_nchw_f16+bias",
        "fprop_n1c1h9w9k1r1s1p4294967296_nchw_f32",
        "fprop_n99999999999999999999c1h9w9k1r1s1_nchw_f32",
        "fprop_n2147483647c2147483647h9w9k1r1s1_nchw_f32",
        "fprop_n١c1h1w1k1r1s1_nchw_f32",
    ],
)
def test_wrong_text_is_one_line(text):
    with pytest.raises(ValueError) as raised:
        ConvProblem.parse(text)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("N", 1.5),
        ("C", True),
        ("H", "3"),
        ("groups", None),
        ("stride", 2),
        ("stride", (1, 2, 3)),
        ("dilation", [1, 1]),
        ("padding", (1, 1)),
        ("padding", ((0, 0.5), (0, 0))),
        ("bias", 1),
    ],
)
def test_wrong_fields_are_named(field, value):
    p = ConvProblem.parse("fprop_n1c1h3w3k1r1s1_nchw_f32")
    with pytest.raises(TypeError, match=f"^{field} must be "):
        replace(p, **{field: value})


def test_only_text_is_parsed():
    with pytest.raises(TypeError, match="problem must be text"):
        ConvProblem.parse(None)


def test_numbers():
    p = ConvProblem.parse("fprop_n32c64h56w56k128r3s3u2p1g2_nhwc-ohwi_f16+bias+res")
    assert (p.P, p.Q) == (28, 28)
    assert p.x_shape == (32, 56, 56, 64)
    assert p.w_shape == (128, 3, 3, 32)
    assert p.y_shape == (32, 28, 28, 128)
    assert p.gemm_mnk == (32 * 28 * 28, 64, 32 * 9)
    assert p.flops == 2 * 32 * 28 * 28 * 128 * 32 * 9
    x, w, y = 32 * 56 * 56 * 64, 128 * 9 * 32, 32 * 28 * 28 * 128
    assert p.min_bytes == 2 * (x + w + 2 * y + 128)
    gradients = [replace(p, op=op, bias=False, residual=False) for op in ("dgrad", "wgrad")]
    for q in gradients:
        assert q.flops == p.flops
        assert q.min_bytes == 2 * (x + w + y)
    dgrad, wgrad = gradients
    assert dgrad.operand_shapes == (p.y_shape, p.w_shape, p.x_shape)
    assert wgrad.operand_shapes == (p.x_shape, p.y_shape, p.w_shape)
    assert dgrad.gemm_mnk == (32 * 56 * 56, 32, 64 * 9)
    assert wgrad.gemm_mnk == (64, 32 * 9, 32 * 28 * 28)


def test_every_field_counts_for_equality():
    p = ConvProblem.parse("fprop_n2c4h9w9k4r3s3p1g2_nchw_f32")
    other = {
        "op": "dgrad", "N": 3, "C": 8, "H": 10, "W": 10, "K": 8, "R": 1, "S": 1, "stride": (2, 2),
        "padding": ((1, 1), (0, 0)), "dilation": (2, 2), "groups": 1, "layout": "nhwc", "weights": "ohwi",
        "dtype": "f16", "precision": "tf32", "padding_mode": "circular",
        "bias": True, "residual": True, "relu": True,
    }  # fmt: skip
    assert set(other) == {field.name for field in fields(p)}
    changed = [replace(p, **{name: value}) for name, value in other.items()]
    assert len({p, *changed}) == len(other) + 1
    assert len({str(q) for q in (p, *changed)}) == len(other) + 1


@pytest.mark.parametrize("text", ["block=3", "block_kib", "block_kib=x", "block_kib=1.5", "splits=2;lanes=1"])
def test_wrong_config_text(text):
    with pytest.raises(ValueError, match="config must be"):
        Im2colConfig.parse(text)


def test_config_text_comes_back():
    cfg = Im2colConfig(512, 4, 2)
    assert Im2colConfig.parse(str(cfg)) == cfg
    assert Im2colConfig.parse("") == Im2colConfig()
    assert isinstance(cfg, Config)
