"""The gradient to the bias."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpuconv

from ..problems import DISGUISES, NUMPY, disguise


@settings(max_examples=200)
@given(
    st.tuples(st.integers(0, 3), st.integers(1, 5), st.integers(1, 6), st.integers(1, 6)),
    st.sampled_from(sorted(NUMPY)),
    st.sampled_from(DISGUISES),
    st.sampled_from(["NCHW", "NHWC"]),
)
def test_sum_over_images_and_pixels(shape, dtype, how, layout):
    grad = np.random.default_rng(0).integers(-9, 10, shape).astype(NUMPY[dtype])
    axis = layout.index("C")
    result = gpuconv.conv2d_bias_grad(disguise(grad, how), data_format=layout)
    expected = grad.astype(np.float64).sum(axis=tuple({0, 1, 2, 3} - {axis}))
    np.testing.assert_array_equal(result, expected.astype(NUMPY[dtype]), strict=True)
    assert result.dtype.isnative


def test_more_than_float32_counts():
    """2**24 + 2 ones: a sum kept in float32 would stop at 2**24."""
    grad = np.broadcast_to(np.float32(1), (2, 4097, 2048, 1))
    assert gpuconv.conv2d_bias_grad(grad, data_format="NHWC").item() == 2 * 4097 * 2048 > 2**24


@pytest.mark.parametrize(
    ("shape", "layout"), [((1, 1, 1, 10**6), "NCHW"), ((1, 10**6, 1, 2), "NHWC"), ((10**6, 1, 1, 1), "NCHW")]
)
def test_long_sums_of_constants_stay_within_the_bound(shape, layout):
    grad = np.full(shape, 0.1)
    count = grad.size // shape[layout.index("C")]
    exact = float(Fraction(0.1) * count)
    result = gpuconv.conv2d_bias_grad(grad, data_format=layout)
    assert (np.abs(result - exact) <= 2.0**-53 * (9 + 4 * count**0.5) * exact).all()


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((2, 600, 200, 64), "NHWC"),
        ((1, 64, 10**5, 1), "NCHW"),
        ((1, 2, 10**6, 3), "NHWC"),
        ((2, 64, 600, 200), "NCHW"),
    ],
)
def test_little_extra_memory(shape, layout):
    grad = np.ones(shape, np.float16)
    tracemalloc.start()
    try:
        gpuconv.conv2d_bias_grad(grad, data_format=layout)
        assert tracemalloc.get_traced_memory()[1] < 3e6
    finally:
        tracemalloc.stop()


def test_half_overflows_quietly():
    grad = np.full((1, 1, 8, 8), 6e4, np.float16)
    assert np.isposinf(gpuconv.conv2d_bias_grad(grad)).all()


def test_it_is_the_slope_of_the_loss():
    rng = np.random.default_rng(1)
    x, w, bias = rng.standard_normal((2, 3, 6, 6)), rng.standard_normal((4, 3, 3, 3)), rng.standard_normal(4)
    grad = gpuconv.conv2d(x, w, bias)  # of half the sum of squares
    slope = gpuconv.conv2d_bias_grad(grad)
    for k in range(4):
        step = np.zeros(4)
        step[k] = 1e-5
        up, down = ((gpuconv.conv2d(x, w, bias + sign * step) ** 2).sum() / 2 for sign in (1, -1))
        assert slope[k] == pytest.approx((up - down) / 2e-5, rel=1e-6)
