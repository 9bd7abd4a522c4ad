"""Borders other than zeros on the CPU, beyond the contract: NumPy's own padding, long sums, infinity."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import gpuconv
from gpuconv.backend import device
from gpuconv.kernels.cpu.padded import CpuPadded, PaddedConfig
from gpuconv.problem import ConvProblem
from gpuconv.validate import reference, tolerance

from ..problems import operands, public_call

MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@pytest.mark.parametrize("mode", MODES)
def test_the_same_as_a_padded_copy(mode):
    rng = np.random.default_rng(0)
    x = rng.integers(-9, 9, (2, 3, 7, 8)).astype(np.float32)
    w = rng.integers(-9, 9, (4, 3, 3, 5)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (0, 0), (6, 1), (0, 7)), MODES[mode])
    got = gpuconv.conv2d(x, w, stride=2, padding=((6, 1), (0, 7)), padding_mode=mode)
    np.testing.assert_array_equal(got, gpuconv.conv2d(padded, w, stride=2))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("word", ["same", "same_lower"])
def test_words_for_the_padding(mode, word):
    x, w = np.ones((1, 2, 9, 10), np.float32), np.ones((3, 2, 4, 2), np.float32)
    got = gpuconv.conv2d(x, w, padding=word, padding_mode=mode)
    np.testing.assert_array_equal(got, np.full((1, 3, 9, 10), 16, np.float32))


def test_a_mode_without_padding_changes_nothing():
    x, w = np.ones((1, 2, 1, 1), np.float32), np.ones((3, 2, 1, 1), np.float32)
    np.testing.assert_array_equal(gpuconv.conv2d(x, w, padding_mode="reflect"), np.full((1, 3, 1, 1), 2))


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_a_border_of_thousands_of_cells_stays_within_the_bound(dtype):
    p = ConvProblem.parse(f"dgrad_n1c1h3w4k1r1s1p60_nchw_{dtype}+replicate")
    given = operands(p)
    given["a"][...] = 0.499 * (2.0**-23 if dtype == "f32" else 2.0**-52)
    given["a"][0, 0, 60, 60] = given["b"][...] = 1
    # the oracle, too, would lose the small ones: it adds them apart
    small = {**given, "a": np.where(given["a"] == 1, 0, given["a"])}
    large = {**given, "a": np.where(given["a"] == 1, 1.0, 0)}
    ref = reference.evaluate(p, **large) + reference.evaluate(p, **small)
    assert (np.abs(public_call(p, given) - ref) <= tolerance.bound(p, ref, ref)).all()


@pytest.mark.parametrize("mode", MODES)
def test_infinity_stays_infinity(mode):
    p = ConvProblem.parse(f"dgrad_n1c1h4w5k1r3s3p2_nchw_f32+{mode}")
    given = {name: None if array is None else np.abs(array) + 1 for name, array in operands(p).items()}
    given["a"][0, 0, 0, 0] = np.inf
    result, expected = public_call(p, given), reference.evaluate(p, **given)
    assert np.isposinf(expected).any()
    np.testing.assert_array_equal(np.isposinf(result), np.isposinf(expected))
    assert not np.isnan(result).any()


@pytest.mark.parametrize("op", ["fprop", "dgrad", "wgrad"])
@pytest.mark.parametrize("images", [1, 2, 3, 5])
def test_images_at_a_time(op, images):
    p = ConvProblem.parse(f"{op}_n5c4h6w7k6r3s3p2_nchw_f16+reflect")
    p = replace(p, bias=op != "wgrad", residual=op != "wgrad", relu=op != "wgrad")
    given, kernel, here = operands(p), CpuPadded(), device.cpu()
    config = PaddedConfig(images)
    assert kernel.check_config(p, config, here) is None
    a, b = given.pop("a"), given.pop("b")
    out = np.full(p.operand_shapes[2], np.nan, np.float16)
    kernel.bind(p, config, here)(a, b, out, **given)
    verdict = tolerance.judge(p, out, a, b, **given)
    assert verdict.ok, verdict


@pytest.mark.parametrize("mode", ["zeros", "replicate"])
def test_a_border_far_larger_than_the_image(mode):
    """Rows that no window meets cost memory, and next to no time."""
    n = 1_000_000
    x, w = np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 3, 3), np.float32)
    options = {"padding": ((n, n), (1, 1)), "stride": (n, 1), "padding_mode": mode}
    y = gpuconv.conv2d(x, w, **options)
    assert y.shape == (1, 1, 3, 3)
    assert y[0, 0, 1, 1] == 9
    dx = gpuconv.conv2d_input_grad(x.shape, w, np.ones_like(y), **options)
    # every tap of every window meets a cell, but for zeros
    assert dx.sum() == (81 if mode == "replicate" else y.sum())
