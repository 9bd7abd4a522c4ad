"""correlate2d and convolve2d: SciPy's results exactly, every border, every dtype, NaN where it belongs."""

from __future__ import annotations

import importlib.util
from itertools import product

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpuconv
from gpuconv.problem import ConvProblem
from gpuconv.validate import tolerance

from ..conftest import FULL
from ..problems import DISGUISES, disguise

SOME = 4_000 if FULL else 300
NAMES = ("correlate2d", "convolve2d")
MODES = ("full", "same", "valid")
BOUNDARIES = ("fill", "wrap", "symm")
WAYS = list(product(NAMES, MODES, BOUNDARIES))
#: Image and kernel: odd and even, rows and columns, one cell, and kernels that reach many times around.
SHAPES = (
    *(((6, 7), (3, 3)), ((6, 7), (2, 4)), ((5, 5), (5, 5)), ((1, 9), (1, 4)), ((9, 1), (4, 1))),
    *(((7, 3), (1, 1)), ((1, 1), (3, 2)), ((2, 3), (4, 5)), ((3, 2), (11, 9)), ((1, 5), (6, 2))),
    *(((8, 2), (3, 5)), ((4, 6), (6, 4))),
)
SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(1, 9)


def drawn(shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(dtype)


def by_cells(name, image, kernel, mode, boundary, fillvalue=0.0):
    """The definition, cell by cell, for one channel and a kernel that 'valid' need not swap."""
    H, W = image.shape
    R, S = kernel.shape
    flips = name == "convolve2d"
    if flips:
        kernel = kernel[::-1, ::-1]

    def first(taps):
        if mode == "full":
            return taps - 1
        if mode == "valid":
            return 0
        return taps // 2 if flips else (taps - 1) // 2

    def cell(i, j):
        if boundary == "wrap":
            return image[i % H, j % W]
        if boundary == "symm":
            i, j = i % (2 * H), j % (2 * W)
            return image[min(i, 2 * H - 1 - i), min(j, 2 * W - 1 - j)]
        return image[i, j] if 0 <= i < H and 0 <= j < W else fillvalue

    extra = {"full": 1, "same": 0, "valid": -1}[mode]
    shape = (H, W) if not extra else (H + extra * (R - 1), W + extra * (S - 1))
    result = np.zeros(shape)
    for i, j in np.ndindex(shape):
        for r, s in np.ndindex(R, S):
            result[i, j] += float(cell(i - first(R) + r, j - first(S) + s)) * float(kernel[r, s])
    return result


def refused(mode, image, kernel):
    """Whether neither is at least as large as the other along both axes."""
    larger = {a > b for a, b in zip(image, kernel, strict=True) if a != b}
    return mode == "valid" and len(larger) > 1


@pytest.fixture(scope="module")
def signal(need):
    if importlib.util.find_spec("scipy") is None:
        need("scipy", "SciPy is not installed")
    import scipy.signal

    return scipy.signal


@pytest.mark.parametrize(("name", "mode", "boundary"), WAYS)
def test_scipy_gives_the_same(signal, name, mode, boundary):
    ours, theirs = getattr(gpuconv, name), getattr(signal, name)
    for number, (image, kernel) in enumerate(SHAPES):
        in1, in2 = drawn(image, number), drawn(kernel, number + 100)
        for fillvalue in (0, 3, -2.5):
            if refused(mode, image, kernel):
                with pytest.raises(ValueError, match="valid"):
                    theirs(in1, in2, mode, boundary, fillvalue)
                with pytest.raises(ValueError, match=r"^in2 .*'valid'"):
                    ours(in1, in2, mode, boundary, fillvalue)
            else:
                expected = theirs(in1, in2, mode, boundary, fillvalue)
                found = ours(in1, in2, mode, boundary, fillvalue)
                np.testing.assert_array_equal(found, expected, strict=True)


def test_scipy_has_the_same_signatures_and_defaults(signal):
    import inspect

    for name in NAMES:
        ours, theirs = (inspect.signature(getattr(of, name)) for of in (gpuconv, signal))
        assert [(p.name, p.default, p.kind) for p in ours.parameters.values()] == [
            (p.name, p.default, p.kind) for p in theirs.parameters.values()
        ]


@settings(max_examples=SOME)
@given(st.sampled_from(WAYS), st.tuples(SIZES, SIZES), st.tuples(SIZES, SIZES), st.integers(-3, 3), SEEDS)
def test_every_cell_is_the_definitions(way, image, kernel, fillvalue, seed):
    name, mode, boundary = way
    if mode == "valid":
        image, kernel = (tuple(map(pick, image, kernel)) for pick in (max, min))
    in1, in2 = drawn(image, seed), drawn(kernel, seed + 1)
    expected = by_cells(name, in1, in2, mode, boundary, fillvalue).astype(np.float32)
    found = getattr(gpuconv, name)(in1, in2, mode, boundary, fillvalue)
    np.testing.assert_array_equal(found, expected, strict=True)


@settings(max_examples=SOME)
@given(
    *(st.sampled_from(WAYS), st.tuples(SIZES, SIZES, st.integers(1, 4)), st.tuples(SIZES, SIZES), SEEDS),
    *(st.sampled_from(DISGUISES), st.sampled_from(DISGUISES)),
)
def test_channels_are_apart_and_arrays_may_lie_anyhow(way, image, kernel, seed, how, where):
    name, mode, boundary = way
    if refused(mode, image[:2], kernel):
        kernel = kernel[::-1] if not refused(mode, image[:2], kernel[::-1]) else image[:2]
    in1, in2 = drawn(image, seed), drawn(kernel, seed + 1)
    call = getattr(gpuconv, name)
    strange = disguise(in1, how), disguise(in2, where)
    before = [array.tobytes() for array in strange]
    found = call(*strange, mode, boundary, 2)
    apart = [call(in1[:, :, c], in2, mode, boundary, 2) for c in range(image[2])]
    np.testing.assert_array_equal(found, np.stack(apart, axis=-1), strict=True)
    assert found.flags.c_contiguous
    assert [array.tobytes() for array in strange] == before


@settings(max_examples=SOME)
@given(st.sampled_from(BOUNDARIES), st.tuples(SIZES, SIZES), st.tuples(SIZES, SIZES), SEEDS)
def test_what_holds_of_every_filter(boundary, image, kernel, seed):
    in1, other, in2 = drawn(image, seed), drawn(image, seed + 1), drawn(kernel, seed + 2)
    turned = in2[::-1, ::-1]
    full = gpuconv.convolve2d(in1, in2, "full", boundary)
    np.testing.assert_array_equal(full, gpuconv.correlate2d(in1, turned, "full", boundary))
    both = gpuconv.convolve2d(in1 + other, in2, "full", boundary)
    np.testing.assert_array_equal(both, full + gpuconv.convolve2d(other, in2, "full", boundary))
    across = gpuconv.convolve2d(in1.T, in2.T, "full", boundary)
    np.testing.assert_array_equal(across, full.T)
    if boundary == "fill":
        np.testing.assert_array_equal(full, gpuconv.convolve2d(in2, in1))
        assert full.sum(dtype=float) == in1.sum(dtype=float) * in2.sum(dtype=float)
    middle = [
        slice((taps - 1) // 2, (taps - 1) // 2 + size) for size, taps in zip(image, kernel, strict=True)
    ]
    np.testing.assert_array_equal(gpuconv.convolve2d(in1, in2, "same", boundary), full[tuple(middle)])


FLOATS = (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)


@pytest.mark.parametrize("name", NAMES)
def test_dtypes(name):
    call = getattr(gpuconv, name)
    stands_for = {np.dtype(dtype): np.dtype(dtype) for dtype in FLOATS}
    stands_for |= {np.dtype(dtype): np.dtype("f4") for dtype in ("?", "i1", "u1", "i2", "u2")}
    stands_for |= {np.dtype(dtype): np.dtype("f8") for dtype in ("i4", "u4", "i8", "u8")}
    in1 = np.array([[0, 1, 1], [1, 0, 1]])
    in2 = np.array([[1, 0], [1, 1]])
    expected = by_cells(name, in1, in2, "full", "fill")
    for a, b in product(stands_for, repeat=2):
        found = call(in1.astype(a), in2.astype(b))
        one, other = stands_for[a], stands_for[b]
        # nothing of 16 bits holds both float16 and bfloat16
        widest = max(one, other, key=lambda dtype: dtype.itemsize)
        assert found.dtype == (np.float32 if one != other and one.itemsize == other.itemsize else widest)
        np.testing.assert_array_equal(found.astype(float), expected)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i2", "i8"])
def test_byte_order_is_no_other_dtype(dtype):
    in1, in2 = drawn((4, 5), 0, dtype), drawn((2, 3), 1, dtype)
    expected = gpuconv.convolve2d(in1, in2)
    swapped = [array.astype(array.dtype.newbyteorder()) for array in (in1, in2)]
    for pair in (swapped, (in1, swapped[1]), (swapped[0], in2)):
        found = gpuconv.convolve2d(*pair)
        np.testing.assert_array_equal(found, expected, strict=True)
        assert found.dtype.isnative


def test_integers_are_exact_to_the_last():
    """An 8-bit image under a kernel of 15 by 15 stays below 2**24; wider ones need float64."""
    in1, in2 = np.full((20, 20), 255, np.uint8), np.full((15, 15), 255, np.uint8)
    assert (gpuconv.correlate2d(in1, in2, mode="valid") == 255 * 255 * 225).all()
    wide = np.full((5, 5), 2**24 + 1, np.int32)
    assert (gpuconv.convolve2d(wide, np.eye(3, dtype=int), mode="valid") == 3 * (2**24 + 1)).all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_errors_stay_within_the_bound(boundary, dtype):
    rng = np.random.default_rng(0)
    in1 = rng.standard_normal((13, 11)).astype(dtype)
    in2 = rng.standard_normal((4, 5)).astype(dtype)
    wide, weights = in1.astype(float), in2.astype(float)
    short = {"float16": "f16", "bfloat16": "bf16", "float32": "f32", "float64": "f64"}[in1.dtype.name]
    p = ConvProblem("fprop", 1, 1, 16, 15, 1, 4, 5, dtype=short)
    exact = by_cells("convolve2d", wide, weights, "same", boundary)
    size = by_cells("convolve2d", abs(wide), abs(weights), "same", boundary)
    found = gpuconv.convolve2d(in1, in2, "same", boundary)
    assert found.dtype == in1.dtype
    # the reference itself is rounded in float64, which only matters there
    assert (abs(found.astype(float) - exact) <= tolerance.bound(p, exact, size)).all()


@pytest.mark.parametrize(("name", "mode", "boundary"), WAYS)
def test_nan_and_infinity_stay_within_reach(name, mode, boundary):
    in1, in2 = drawn((9, 10)), np.ones((3, 2), np.float32)
    in1[1, 8], in1[6, 3] = np.nan, np.inf
    expected = by_cells(name, in1, in2, mode, boundary)
    assert 0 < np.isnan(expected).sum() < expected.size / 2
    np.testing.assert_array_equal(getattr(gpuconv, name)(in1, in2, mode, boundary), expected)


def test_fillvalues():
    in1, in2 = np.ones((2, 2), np.float32), np.ones((3, 3), np.float32)
    for value in (np.float64(2), np.int8(2), 2):
        assert gpuconv.correlate2d(in1, in2, fillvalue=value)[0, 0] == 17
    assert np.isnan(gpuconv.correlate2d(in1, in2, fillvalue=np.nan)).all()
    assert np.isposinf(gpuconv.correlate2d(in1, in2, fillvalue=np.inf)).all()
    # what is never looked at does no harm
    assert (gpuconv.correlate2d(in1, in2, "valid", fillvalue=np.nan) == 4).all()
    assert (gpuconv.correlate2d(in1, in2, "same", "wrap", np.nan) == 9).all()


def test_result_is_a_new_array():
    one = np.ones((1, 1), np.float32)
    image = drawn((3, 4))
    for array in (image, image[:, :, None]):
        assert not np.shares_memory(gpuconv.correlate2d(array, one), array)
