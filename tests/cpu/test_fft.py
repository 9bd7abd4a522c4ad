"""Convolution by FFT: the contract where transforms are weakest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gpuconv.backend import device
from gpuconv.dispatch import plan_for
from gpuconv.kernels.cpu import boxes, certainty
from gpuconv.kernels.cpu.correlation import Axis, Correlation, passes
from gpuconv.kernels.cpu.fft_convolution import CpuFft, FftConfig, _lengths
from gpuconv.problem import ConvProblem
from gpuconv.validate import reference, tolerance

from ..conftest import FULL
from ..problems import NAMED, NUMPY, operands, public_call, reach, with_op
from .memory import SLACK, peak_of

SOME = 2_000 if FULL else 250
FFT = CpuFft()
BARE = {"bias": None, "residual": None}


@pytest.fixture
def forced(monkeypatch):
    monkeypatch.setenv("GPUCONV_KERNEL", "cpu_fft")


@st.composite
def problems(draw, dtypes=("f32", "f32", "f16", "bf16")):
    """Larger kernels and images than those for everyone."""
    op = draw(st.sampled_from(("fprop", "dgrad")))
    groups, inputs, outputs = draw(st.sampled_from(((1, 1, 1), (1, 2, 3), (2, 2, 1), (3, 1, 1), (2, 1, 2))))
    H, W, R, S = (draw(st.integers(1, most)) for most in (60, 60, 24, 24))
    sides = st.tuples(st.integers(0, 24), st.integers(0, 24))
    stride, padding = draw(st.tuples(st.integers(1, 3), st.integers(1, 3))), (draw(sides), draw(sides))
    assume(R <= H + sum(padding[0]) and S <= W + sum(padding[1]))
    fused = op == "fprop"
    return ConvProblem(
        op=op, N=draw(st.integers(0, 2)), C=groups * inputs, H=H, W=W, K=groups * outputs, R=R, S=S,
        stride=stride, padding=padding, groups=groups, layout=draw(st.sampled_from(("nchw", "nhwc"))),
        dtype=draw(st.sampled_from(dtypes)), bias=fused and draw(st.booleans()),
        residual=fused and draw(st.booleans()), relu=fused and draw(st.booleans()),
    )  # fmt: skip


def wide(rng, shape, kind):
    """Values over many orders of magnitude, each kind in its own way."""
    normal = rng.standard_normal(shape)
    if kind == "normal":
        return normal
    if kind == "log-normal":
        return normal * np.exp2(rng.uniform(-40, 10, shape))
    if kind == "sparse":
        return normal * (rng.random(shape) < 0.02)
    if kind == "half zero":
        return normal * (np.arange(shape[-1]) < shape[-1] // 2)
    if kind == "one-signed":
        return np.abs(normal) + 0.1
    values = normal * 2.0**-20
    values[tuple(rng.integers(0, size) for size in shape)] = 2.0**14
    return values


KINDS = ("normal", "log-normal", "sparse", "half zero", "one-signed", "one bright")


@settings(max_examples=2 * SOME)
@given(problems(), st.integers(0, 2**32 - 1), st.sampled_from(KINDS), st.sampled_from(KINDS), st.data())
def test_every_range_of_values_stays_within_the_bound(p, seed, first, second, data):
    here = device.cpu()
    config = data.draw(st.sampled_from(FFT.configs(p, here)))
    rng, given_ = np.random.default_rng(seed), operands(p, seed)
    for name, kind in (("a", first), ("b", second)):
        if given_[name].size and p.dtype != "f16":
            given_[name] = wide(rng, given_[name].shape, kind).astype(NUMPY[p.dtype])
    a, b, rest = given_["a"], given_["b"], {name: given_[name] for name in BARE}
    results = []
    for threads in (1, 3):
        out = np.full(p.operand_shapes[2], np.nan, NUMPY[p.dtype])
        FFT.bind(p, config, replace(here, threads=threads))(a, b, out, **rest)
        results.append(out)
    verdict = tolerance.judge(p, results[0], **given_)
    assert verdict.ok, f"{p} {config} {first} {second}: {verdict}"
    assert results[0].tobytes() == results[1].tobytes()


def bright(shape, value):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    x[..., 20, 20] = value
    return x


IMAGE = ConvProblem.parse("fprop_n1c1h200w200k1r21s21p10_nchw_f32")


def adversary(name):
    rng = np.random.default_rng(1)
    x, w = bright(IMAGE.x_shape, 1), rng.standard_normal(IMAGE.w_shape).astype(np.float32)
    if name == "one bright pixel":
        return bright(IMAGE.x_shape, 1e16), w
    if name == "one large tap":
        w *= np.float32(1e-12)
        w[..., 20, 20] = 1
        x[..., :100] *= np.float32(1e-12)
        return x, w
    x[..., 110:] = 0  # dark half
    if name == "taps that grow":
        w *= np.exp2(3.0 * np.arange(-20, 1)).astype(np.float32)
    return x, w


@pytest.mark.parametrize("name", ["one bright pixel", "taps that grow", "one large tap", "dark half"])
def test_adversaries_are_computed_directly_where_they_must_be(monkeypatch, forced, name):
    """Without the doubts the transform alone breaks the bound: the test sees what it is for."""
    x, w = adversary(name)
    verdict = tolerance.judge(IMAGE, public_call(IMAGE, {"a": x, "b": w, **BARE}), x, w)
    assert verdict.ok, verdict
    plain = certainty.Judge.doubts
    monkeypatch.setattr(certainty.Judge, "doubts", lambda *given_: plain(*given_) & False)
    verdict = tolerance.judge(IMAGE, public_call(IMAGE, {"a": x, "b": w, **BARE}), x, w)
    assert not verdict.ok


def test_ordinary_data_is_never_in_doubt(monkeypatch, forced):
    """Else the transform would be work for nothing."""
    monkeypatch.setattr(boxes, "directly", None)
    for seed, text in enumerate((str(IMAGE), "fprop_n1c8h56w56k8r31s31p15g8_nhwc_f32")):
        p = ConvProblem.parse(text)
        given_ = operands(p, seed)
        assert tolerance.judge(p, public_call(p, given_), **given_).ok
    grey = (np.random.default_rng(0).integers(1, 256, IMAGE.x_shape) / 255).astype(np.float32)
    line = np.exp(-((np.arange(21) - 10) ** 2) / 32)
    blur = (np.outer(line, line) / line.sum() ** 2).astype(np.float32).reshape(IMAGE.w_shape)
    assert tolerance.judge(IMAGE, public_call(IMAGE, {"a": grey, "b": blur, **BARE}), grey, blur).ok


def test_dark_parts_are_exactly_zero(forced):
    x, w = adversary("dark half")
    y = public_call(IMAGE, {"a": x, "b": w, **BARE})
    assert (y[..., 120:] == 0).all()
    assert (y[..., :120] != 0).all()


@settings(max_examples=SOME)
@given(problems(), st.integers(0, 2**32 - 1), st.data())
def test_integers_are_exact(p, seed, data):
    given_ = operands(p, seed, integers=True)
    config = data.draw(st.sampled_from(FFT.configs(p, device.cpu())))
    exact = reference.evaluate(p, **given_)
    exact = np.maximum(exact, 0) if p.relu else exact
    out = np.empty(p.operand_shapes[2], NUMPY[p.dtype])
    FFT.bind(p, config, device.cpu())(given_.pop("a"), given_.pop("b"), out, **given_)
    np.testing.assert_array_equal(out, exact.astype(NUMPY[p.dtype]), strict=True)


@pytest.mark.parametrize("peak", [255, 2**23, 2**60])
def test_integers_beside_a_large_one_are_exact(forced, peak):
    """Beside 2⁶⁰ the transform cannot tell integers apart; outputs that do not see it are still exact."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, IMAGE.x_shape).astype(np.float32)
    w = rng.integers(-9, 10, IMAGE.w_shape).astype(np.float32)
    x[..., 50, 60] = peak
    exact = reference.evaluate(IMAGE, x, w)
    sums = reference.evaluate(IMAGE, np.abs(x), np.abs(w)) < 2**24
    y = public_call(IMAGE, {"a": x, "b": w, **BARE})
    np.testing.assert_array_equal(y[sums], exact[sums].astype(np.float32))
    assert sums.sum() > 30_000


@pytest.mark.parametrize("op", ["fprop", "dgrad"])
@pytest.mark.parametrize("name", [name for name in NAMED if not {"empty", "double"} & set(name.split())])
def test_nan_and_infinity_stay_inside_their_receptive_field(forced, name, op):
    p = with_op(NAMED[name], op)
    if FFT.check(p, device.cpu()) is not None:
        assert p.dilation != (1, 1) or p.padding_mode != "zeros"
        return
    given_, rng = operands(p, 1), np.random.default_rng(2)
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


def test_one_nan_in_one_of_many_boxes(monkeypatch, forced):
    monkeypatch.setenv("GPUCONV_CONFIG", "rows=64,columns=64")
    x, w = adversary("none")
    clean = public_call(IMAGE, {"a": x, "b": w, **BARE})
    x[0, 0, 100, 100] = np.nan
    y = public_call(IMAGE, {"a": x, "b": w, **BARE})
    assert np.isnan(y[0, 0, 90:111, 90:111]).all()
    assert np.isnan(y).sum() == 21 * 21
    # boxes that do not see it are as before, to the last bit
    assert (y[0, 0, :44] == clean[0, 0, :44]).all()


@given(
    st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(1, 20), st.integers(1, 9), st.integers(1, 40)
)
@settings(max_examples=SOME)
def test_no_sum_of_a_tile_is_below_its_limit(seed, r, s, channels, outputs):
    """The criterion itself: least tap times largest pixel of the cell, for every output of the tile."""
    rng = np.random.default_rng(seed)
    taps = np.abs(rng.standard_normal((1, 2, channels, r, s))) + 0.01
    axes = [
        Axis(outputs, n, 1, 1, -int(rng.integers(0, n)), outputs, slice(None), slice(None)) for n in (r, s)
    ]
    (filters,) = certainty.survey(taps, Correlation(*axes))
    boxes = rng.standard_normal((channels, outputs + r - 1, outputs + s - 1))
    # as little as possible beside a few large pixels
    boxes *= rng.random(boxes.shape) < 0.1
    spare = np.empty(boxes[0].size)
    peaks = np.array([certainty.cell_peaks(filters, box, (outputs, outputs), spare) for box in boxes])
    limit = np.tensordot(filters.least, peaks, axes=(1, 0))
    spread = limit.repeat(filters.tile[0], axis=1).repeat(filters.tile[1], axis=2)[:, :outputs, :outputs]
    windows = np.lib.stride_tricks.sliding_window_view(np.abs(boxes), (r, s), axis=(1, 2))
    sums = np.einsum("cijrs,kcrs->kij", windows, taps[0])
    assert (spread <= sums * (1 + 1e-12)).all()


@pytest.mark.parametrize("length", [6, 30, 90, 128, 216, 240, 270, 480])
def test_transforms_err_less_than_is_assumed(length):
    """E of `certainty`, against sums in extended precision."""
    assert length in _lengths()
    if np.finfo(np.longdouble).nmant < 60:
        # Windows and some ARM systems: there is nothing more exact to judge by
        pytest.skip("no type wider than float64 here")
    p = ConvProblem.parse(f"fprop_n1c1h{length}w{length}k1r5s5_nchw_f32")
    rng = np.random.default_rng(length)
    for spike in (1, 1e6):
        x, w = rng.standard_normal((length, length)), rng.standard_normal((5, 5))
        x[length // 2, length // 3] *= spike
        spectrum = np.fft.fft(np.fft.rfft(x, axis=1), axis=0)
        taps = np.zeros_like(x)
        taps[:5, :5] = w
        spectrum *= np.conj(np.fft.fft(np.fft.rfft(taps, axis=1), axis=0))
        got = np.fft.irfft(np.fft.ifft(spectrum, axis=0), length, axis=1)
        exact = np.zeros(x.shape, np.longdouble)
        for i, j in np.ndindex(w.shape):
            exact += np.roll(x, (-i, -j), (0, 1)).astype(np.longdouble) * w[i, j]
        judge = certainty.Judge(p, length * length, 1)
        allowed = judge._error * np.linalg.norm(x) * np.linalg.norm(w)
        assert np.abs(got - exact).max() < allowed / 20


@pytest.mark.parametrize("kind", ["normal", "one bright", "sparse", "nan"])
@pytest.mark.parametrize(
    "text",
    [
        "fprop_n1c1h700w500k1r31s31p15_nchw_f32",
        "fprop_n2c24h40w40k24r25s25p12g24_nhwc_f32",
        "fprop_n1c3h90w90k5r21s21p10_nchw_f32",
        "fprop_n1c1h300w300k1r31s31u2p15_nchw_bf16+bias+res+relu",
        "dgrad_n1c4h120w120k4r31s31u2p15g4_nchw_f16",
        "fprop_n1c1h600w30k1r300s3p150x1_nchw_f32",
        "fprop_n1c2000h12w12k2000r9s9p4g2000_nchw_f32",
    ],
)
def test_no_more_memory_than_said(forced, text, kind):
    p, rng = ConvProblem.parse(text), np.random.default_rng(0)
    given_ = operands(p)
    a, b = given_.pop("a"), given_.pop("b")
    if kind == "nan":
        a[..., ::9, :] = np.nan
    elif p.dtype != "f16":
        a = wide(rng, a.shape, kind).astype(a.dtype)
    out = np.empty(p.operand_shapes[2], a.dtype)
    plan = plan_for(p, replace(device.cpu(), threads=3))
    assert peak_of(lambda: plan(a, b, out, **given_)) <= plan.workspace_bytes + SLACK


@pytest.mark.parametrize(
    "text", ["n1c1h16000w16000k1r31s31p15_nchw_f32", "n64c4096h99w99k4096r31s31g4096_nchw_f32"]
)
def test_memory_does_not_grow_with_the_image(text):
    for op in ("fprop", "dgrad"):
        p = ConvProblem.parse(f"{op}_{text}")
        assert FFT.workspace_bytes(p, FFT.default_config(p, device.cpu()), device.cpu()) < 100e6


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("wgrad_n1c1h99w99k1r31s31_nchw_f32", "takes fprop and dgrad"),
        ("fprop_n1c1h99w99k1r31s31_nchw_f64", "float64 has no wider type"),
        ("fprop_n1c1h99w99k1r31s31d2_nchw_f32", "takes no dilation"),
        ("fprop_n1c1h9w9999k1r1s3000_nchw_f32", "takes up to 2048 taps"),
        ("fprop_n1c512h99w99k512r31s31_nchw_f32", "spectra fit into"),
    ],
)
def test_declines_with_a_reason(text, reason):
    assert reason in str(FFT.check(ConvProblem.parse(text), device.cpu()))


@pytest.mark.parametrize(
    "config", ["rows=30", "rows=255", "columns=14", "columns=4098", "rows=2048,columns=4096"]
)
def test_illegal_configs(config):
    reject = FFT.check_config(IMAGE, FftConfig.parse(config), device.cpu())
    expected = "takes transforms of up to" if "," in config else "must be from 21 to 4096"
    assert (reject is None) == (config == "rows=30")
    assert reject is None or expected in str(reject) or "spectra" in str(reject)


def test_passes_without_taps_are_filled(forced):
    """A stride beyond the kernel: some inputs no gradient reaches."""
    p = ConvProblem.parse("dgrad_n2c2h13w13k2r2s2u5g2_nchw_f32")
    assert len(passes(p)) == 4
    given_ = operands(p)
    result = public_call(p, given_, out=np.full(p.x_shape, np.nan, np.float32))
    assert tolerance.judge(p, result, **given_).ok
