"""Filters of rank one in two passes: what counts as one, and the contract for those and all others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gpuconv.backend import device
from gpuconv.dispatch import plan_for
from gpuconv.kernels.cpu import rank_one
from gpuconv.kernels.cpu.separable import CpuSeparable, SeparableConfig
from gpuconv.layout import common_view
from gpuconv.problem import ConvProblem
from gpuconv.validate import reference, tolerance

from ..conftest import FULL
from ..problems import NAMED, NUMPY, operands, public_call, reach, with_op
from .memory import SLACK, peak_of
from .test_fft import KINDS, wide

SOME = 2_000 if FULL else 250
SEPARABLE = CpuSeparable()
BARE = {"bias": None, "residual": None}
IMAGE = ConvProblem.parse("fprop_n1c1h300w300k1r9s9p4_nchw_f32")


@pytest.fixture
def forced(monkeypatch):
    monkeypatch.setenv("GPUCONV_KERNEL", "cpu_separable")


@pytest.fixture
def alone(forced, monkeypatch):
    """Filters that are not of rank one fail."""
    monkeypatch.setattr(CpuSeparable, "_usual", staticmethod(lambda p, device: replace(other(p), run=None)))


def other(p):
    from gpuconv.kernels.cpu.usual import direct_plan

    return direct_plan(p, device.cpu())


@st.composite
def problems(draw):
    op = draw(st.sampled_from(("fprop", "dgrad")))
    H, W, R, S = (draw(st.integers(1, most)) for most in (60, 60, 16, 16))
    sides = st.tuples(st.integers(0, 16), st.integers(0, 16))
    padding, groups = (draw(sides), draw(sides)), draw(st.integers(1, 3))
    assume(R <= H + sum(padding[0]) and S <= W + sum(padding[1]))
    fused = op == "fprop"
    return ConvProblem(
        op=op, N=draw(st.integers(0, 2)), C=groups, H=H, W=W, K=groups, R=R, S=S, padding=padding,
        groups=groups, layout=draw(st.sampled_from(("nchw", "nhwc"))),
        dtype=draw(st.sampled_from(("f32", "f32", "f16", "bf16"))), bias=fused and draw(st.booleans()),
        residual=fused and draw(st.booleans()), relu=fused and draw(st.booleans()),
    )  # fmt: skip


def rank_one_weights(p, rng, kind="normal"):
    """Products of two random vectors for each filter, rounded to the dtype, in the problem's order."""
    w = np.empty(p.w_shape, NUMPY[p.dtype])
    view = common_view(w, p.weights)
    for k in range(p.K):
        if kind == "integers":
            u, v = rng.integers(-3, 4, p.R), rng.integers(-3, 4, p.S)
        else:
            u, v = wide(rng, (p.R,), kind), wide(rng, (p.S,), kind)
        view[k, 0] = np.outer(u, v)
    return w


@settings(max_examples=2 * SOME)
@given(problems(), st.integers(0, 2**32 - 1), st.sampled_from(KINDS), st.sampled_from(KINDS), st.data())
def test_every_range_of_values_stays_within_the_bound(p, seed, first, second, data):
    rng, given_ = np.random.default_rng(seed), operands(p, seed)
    config = data.draw(st.sampled_from([SeparableConfig(1, 1), SeparableConfig(3, 20), SeparableConfig()]))
    if p.dtype == "f16":
        first = second = "normal"
    a = wide(rng, given_["a"].shape, first if p.N else "normal").astype(NUMPY[p.dtype])
    b = rank_one_weights(p, rng, second)
    if data.draw(st.booleans(), label="full rank"):
        b = given_["b"]
    rest, results = {name: given_[name] for name in BARE}, []
    for threads in (1, 3):
        out = np.full(p.operand_shapes[2], np.nan, NUMPY[p.dtype])
        SEPARABLE.bind(p, config, replace(device.cpu(), threads=threads))(a, b, out, **rest)
        results.append(out)
    verdict = tolerance.judge(p, results[0], a, b, **rest)
    assert verdict.ok, f"{p} {config} {first} {second}: {verdict}"
    assert results[0].tobytes() == results[1].tobytes()


@settings(max_examples=SOME)
@given(problems(), st.integers(0, 2**32 - 1), st.booleans())
def test_integers_are_exact(p, seed, one):
    given_ = operands(p, seed, integers=True)
    if one:
        given_["b"] = rank_one_weights(p, np.random.default_rng(seed), "integers")
    exact = reference.evaluate(p, **given_)
    exact = np.maximum(exact, 0) if p.relu else exact
    out = np.empty(p.operand_shapes[2], NUMPY[p.dtype])
    SEPARABLE.bind(p, SeparableConfig(), device.cpu())(given_.pop("a"), given_.pop("b"), out, **given_)
    np.testing.assert_array_equal(out, exact.astype(NUMPY[p.dtype]), strict=True)


def test_named_filters_of_integers_take_two_passes(alone):
    binomial = np.array([1, 8, 28, 56, 70, 56, 28, 8, 1])
    slope = np.array([-4, -3, -2, -1, 0, 1, 2, 3, 4])
    x = np.random.default_rng(0).integers(0, 256, IMAGE.x_shape).astype(np.float32)
    for u, v in ((binomial, slope), (slope, binomial), (np.ones(9), np.ones(9)), (6 * slope, 10 * slope)):
        w = np.outer(u, v).astype(np.float32).reshape(IMAGE.w_shape)
        y = public_call(IMAGE, {"a": x, "b": w, **BARE})
        np.testing.assert_array_equal(y, reference.evaluate(IMAGE, x, w).astype(np.float32))


def test_long_sums_of_one_sign(alone):
    p = ConvProblem.parse("fprop_n1c1h200w200k1r101s101p50_nchw_f32")
    line = np.linspace(0.1, 0.7, 101)
    x, w = np.full(p.x_shape, 0.1, np.float32), np.outer(line, line).astype(np.float32).reshape(p.w_shape)
    assert tolerance.judge(p, public_call(p, {"a": x, "b": w, **BARE}), x, w).ok


ALLOWED = 10 * 2.0**-24


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9), st.integers(1, 2**20))
def test_integers_of_rank_one_have_exact_factors(seed, r, s, most):
    rng = np.random.default_rng(seed)
    taps = np.outer(rng.integers(-most, most + 1, r), rng.integers(-most, most + 1, s)).astype(np.float64)
    u, v = rank_one.factors(taps, ALLOWED)
    np.testing.assert_array_equal(np.outer(u, v), taps)
    assert (np.rint(u) == u).all()
    assert (np.rint(v) == v).all()


def test_what_is_not_of_rank_one():
    line = np.exp(-(np.linspace(-3, 3, 9) ** 2))
    blur = np.outer(line, line).astype(np.float32).astype(np.float64)
    assert rank_one.factors(blur, ALLOWED) is not None
    for at, factor in (((0, 0), 1 + 16 * ALLOWED), ((8, 3), 1 - 16 * ALLOWED), ((2, 2), 0), ((0, 8), -1)):
        changed = blur.copy()
        changed[at] *= factor
        assert rank_one.factors(changed, ALLOWED) is None, at
    # so near to rank one that floats would count, but integers must be exact
    large = np.outer(np.arange(1, 6), np.arange(1, 6)) * 2.0**24
    assert rank_one.factors(large, ALLOWED) is not None
    large[4, 4] += 1
    assert rank_one.factors(large, ALLOWED) is None
    for poison in (np.nan, np.inf, -np.inf):
        for at in ((0, 0), (4, 4)):
            changed = blur.copy()
            changed[at] = poison
            assert rank_one.factors(changed, ALLOWED) is None
    u, v = rank_one.factors(np.zeros((3, 2)), ALLOWED)
    assert not np.outer(u, v).any()


@pytest.mark.parametrize("op", ["fprop", "dgrad"])
@pytest.mark.parametrize("name", [name for name in NAMED if "empty" not in name])
def test_nan_and_infinity_stay_inside_their_receptive_field(forced, name, op):
    p = with_op(NAMED[name], op)
    if SEPARABLE.check(p, device.cpu()) is not None:
        return
    rng = np.random.default_rng(2)
    given_ = operands(p, 1) | {"b": rank_one_weights(p, rng)}
    clean = public_call(p, given_).astype(np.float64)
    for poison in (np.nan, np.inf, -np.inf):
        for operand in ("a", "b"):
            array = given_[operand].copy()
            at = tuple(rng.integers(0, size) for size in array.shape)
            array[at] = poison
            reached, may = reach(p, given_, operand, at)
            got = public_call(p, {**given_, operand: array}).astype(np.float64)
            if not p.relu:
                assert not np.isfinite(got[reached]).any()
            assert np.isfinite(got[~may]).all()
            np.testing.assert_allclose(got[~may], clean[~may], rtol=1e-2, atol=1e-2)


def test_one_nan_in_a_picture(alone):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(IMAGE.x_shape).astype(np.float32), rank_one_weights(IMAGE, rng)
    clean = public_call(IMAGE, {"a": x, "b": w, **BARE})
    x[0, 0, 20, 30] = np.nan
    y = public_call(IMAGE, {"a": x, "b": w, **BARE})
    assert np.isnan(y[0, 0, 16:25, 26:35]).all()
    assert np.isnan(y).sum() == 81
    assert (y[0, 0, 270:] == clean[0, 0, 270:]).all()


@pytest.mark.parametrize("poison", [None, np.nan])
@pytest.mark.parametrize(
    "text",
    [
        "fprop_n1c1h700w500k1r31s31p15_nchw_f32",
        "fprop_n2c3h300w300k3r9s9p4g3_nhwc_f16+bias+res+relu",
        "dgrad_n1c1h900w30k1r300s3p150x1_nchw_bf16",
    ],
)
@pytest.mark.parametrize("full", [False, True])
def test_no_more_memory_than_said(forced, text, poison, full):
    p, rng = ConvProblem.parse(text), np.random.default_rng(0)
    given_ = operands(p)
    a, b = given_.pop("a"), given_.pop("b")
    if not full:
        b = rank_one_weights(p, rng)
    if poison is not None:
        a[..., ::9, :] = poison
    out = np.empty(p.operand_shapes[2], a.dtype)
    plan = plan_for(p, replace(device.cpu(), threads=3))
    assert peak_of(lambda: plan(a, b, out, **given_)) <= plan.workspace_bytes + SLACK


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("wgrad_n1c1h99w99k1r9s9_nchw_f32", "takes fprop and dgrad"),
        ("fprop_n1c1h99w99k1r9s9_nchw_f64", "no wider type"),
        ("fprop_n1c1h99w99k1r9s9u2_nchw_f32", "takes no stride"),
        ("fprop_n1c1h99w99k1r9s9d2_nchw_f32", "and no dilation"),
        ("fprop_n1c3h99w99k3r9s9_nchw_f32", "one channel in and out a group, not 3→3 in 1"),
    ],
)
def test_declines_with_a_reason(text, reason):
    assert reason in str(SEPARABLE.check(ConvProblem.parse(text), device.cpu()))


@pytest.mark.parametrize("config", ["band=0", "band=1025", "box=0", "box=4097"])
def test_illegal_configs(config):
    reject = SEPARABLE.check_config(IMAGE, SeparableConfig.parse(config), device.cpu())
    assert "must be from" in str(reject)


def test_very_large_filters_of_pictures_take_two_passes():
    """A blur of a hundred pixels has 801 taps along each axis: one by one they would take minutes."""
    taps = np.exp(-(np.linspace(-4, 4, 801) ** 2) / 2).astype(np.float32)
    p = ConvProblem.parse("fprop_n1c1h450w460k1r801s801p400_nchw_f32")
    assert plan_for(p, device.cpu()).kernel == "cpu_separable"
    x = np.random.default_rng(0).random(p.x_shape, np.float32)
    given = {"a": x, "b": np.outer(taps, taps)[None, None], "bias": None, "residual": None}
    assert tolerance.judge(p, public_call(p, given), **given).ok
