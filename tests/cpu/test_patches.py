"""unfold and fold: every cell, every bit, adjointness, the product that makes a convolution, and PyTorch."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpuconv
from gpuconv.backend import device
from gpuconv.kernels.cpu import unfold as kernel
from gpuconv.problem import ConvProblem

from .. import patches
from ..conftest import FULL
from ..problems import DISGUISES, NUMPY, disguise
from ..strategies import problems
from .memory import SLACK, peak_of

SOME = 4_000 if FULL else 300
SEEDS = st.integers(0, 2**32 - 1)


def bits(array):
    return np.ascontiguousarray(array).view(f"u{array.itemsize}")


@settings(max_examples=SOME)
@given(problems(("fprop",)), SEEDS)
def test_every_cell_is_where_it_should_be(p, seed):
    x, cols = patches.images(p, seed), patches.columns(p, seed)
    options = patches.options_of(p)
    np.testing.assert_array_equal(gpuconv.unfold(x, **options), patches.by_cells(p, x), strict=True)
    expected = patches.summed(p, cols).astype(NUMPY[p.dtype])
    np.testing.assert_array_equal(gpuconv.fold(cols, p.x_shape, **options), expected, strict=True)


@settings(max_examples=SOME)
@given(problems(("fprop",)), SEEDS, st.sampled_from(DISGUISES), st.sampled_from(DISGUISES))
def test_arrays_may_lie_anyhow(p, seed, how, where):
    x, cols = patches.images(p, seed), patches.columns(p, seed)
    options = patches.options_of(p)
    for call, given_, expected in (
        (lambda x, **more: gpuconv.unfold(x, **options, **more), x, patches.by_cells(p, x)),
        (lambda c, **more: gpuconv.fold(c, p.x_shape, **options, **more), cols, patches.summed(p, cols)),
    ):
        strange = disguise(given_, how)
        before = strange.tobytes()
        result = call(strange)
        np.testing.assert_array_equal(result.astype(float), expected.astype(float))
        assert result.dtype == NUMPY[p.dtype]
        assert result.dtype.isnative
        assert result.flags.c_contiguous
        out = disguise(np.full(result.shape, np.nan, NUMPY[p.dtype]), where)
        if where == "read-only":
            with pytest.raises(ValueError, match=r"^out must be writeable"):
                call(strange, out=out)
        else:
            assert call(strange, out=out) is out
            np.testing.assert_array_equal(out.astype(float), expected.astype(float))
        assert strange.tobytes() == before


@settings(max_examples=SOME)
@given(problems(("fprop",)), SEEDS)
def test_patches_times_filters_are_the_convolution(p, seed):
    p = replace(p, K=5, groups=1, dtype="f32", weights="", bias=False, residual=False, relu=False)
    x = patches.images(p, seed)
    w = np.random.default_rng(seed).integers(-3, 4, p.w_shape).astype(np.float32)
    options = patches.options_of(p)
    cols = gpuconv.unfold(x, **options)
    y = w.reshape(5, -1) @ cols if p.layout == "nchw" else cols @ w.reshape(-1, 5)
    del options["kernel_size"]
    np.testing.assert_array_equal(y.reshape(p.y_shape), gpuconv.conv2d(x, w, **options))


@settings(max_examples=SOME)
@given(problems(("fprop",)), SEEDS)
def test_fold_is_adjoint_to_unfold(p, seed):
    p = replace(p, dtype="f64")
    x, cols = patches.images(p, seed), patches.columns(p, seed)
    options = patches.options_of(p)
    there, back = gpuconv.unfold(x, **options), gpuconv.fold(cols, p.x_shape, **options)
    assert (there * cols).sum() == (x * back).sum()


@pytest.mark.parametrize("dtype", NUMPY)
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_every_bit_is_kept(dtype, layout):
    """NaN with any payload, quiet and signalling, negative zeros and denormals."""
    p = ConvProblem.parse(f"fprop_n2c3h6w7k1r3s2u1x2p1_{layout}_{dtype}")
    rng = np.random.default_rng(0)
    x = np.frombuffer(rng.bytes(2 * 3 * 6 * 7 * np.dtype(NUMPY[dtype]).itemsize), NUMPY[dtype])
    x = x.reshape(p.x_shape).copy()
    odd = bits(x).reshape(-1)
    width = 8 * x.itemsize
    exponent = {"f16": 0x7C00, "bf16": 0x7F80, "f32": 0x7F800000, "f64": 0x7FF0000000000000}[dtype]
    odd[::3] = exponent | 1  # signalling
    odd[1::7] = exponent | (1 << (width - 1)) | 5
    odd[2::9] = 1 << (width - 1)
    expected = patches.by_cells(p, bits(x))
    for array in (x, disguise(x, "byte-swapped"), disguise(x, "every second")):
        np.testing.assert_array_equal(bits(gpuconv.unfold(array, **patches.options_of(p))), expected)


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_half_precision_is_summed_in_float32_and_rounded_once(dtype):
    most = 2**11 if dtype == "f16" else 2**8  # + 1 is no number of the type
    p = ConvProblem.parse(f"fprop_n1c1h5w5k1r3s3_nchw_{dtype}")
    cols = np.ones((1, 9, 9), NUMPY[dtype])
    cols[0, 0] = most
    found = gpuconv.fold(cols, p.x_shape, **patches.options_of(p))
    assert found[0, 0, 2, 2] == most + 8


@pytest.mark.parametrize("dtype", NUMPY)
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("text", patches.CROWDED)
def test_no_crowd_of_patches_breaks_the_bound(text, layout, dtype):
    p = ConvProblem.parse(f"fprop_{text}_{layout}_{dtype}")
    for largest in (0, p.R * p.S // 2, p.R * p.S - 1):
        cols, exact, terms = patches.crowd(p, largest)
        found = gpuconv.fold(cols, p.x_shape, **patches.options_of(p))
        assert patches.error_over_bound(p, found, exact, terms) <= 1


def test_infinity_and_nan_warn_nobody_and_reach_their_cell_alone():
    cols = np.full((1, 4, 4), 6e4, np.float16)
    cols[0, 0, 0] = np.nan
    y = gpuconv.fold(cols, (1, 1, 3, 3), 2)[0, 0]
    assert np.isnan(y[0, 0])
    assert np.isposinf(y[1, 1])
    assert np.isfinite(y[2, 2])


@pytest.mark.parametrize("word", ["same", "same_lower", "valid"])
def test_padding_words(word):
    x = np.random.default_rng(0).integers(-3, 4, (2, 9, 8, 3)).astype(np.float32)
    w = np.random.default_rng(1).integers(-3, 4, (3, 2, 3, 4)).astype(np.float32)
    cols = gpuconv.unfold(x, (3, 2), stride=2, padding=word, data_format="NHWC")
    y = gpuconv.conv2d(x, w, stride=2, padding=word, data_format="NHWC")
    np.testing.assert_array_equal(cols @ w.reshape(-1, 4), y)
    again = gpuconv.fold(cols, x.shape, (3, 2), stride=2, padding=word, data_format="NHWC")
    assert again.shape == x.shape


def test_what_the_tutorial_does():
    """``tf.nn.conv2d``: flatten the filters, extract patches, multiply."""
    x = np.array([[4, 3, 1, 0], [2, 1, 0, 1], [1, 2, 4, 1], [3, 1, 0, 2]], np.float32).reshape(1, 4, 4, 1)
    w = np.array([[1, 0, 1], [2, 1, 0], [0, 0, 1]], np.float32).reshape(9, 1)
    cols = gpuconv.unfold(x, 3, data_format="NHWC")
    assert cols.shape == (1, 2, 2, 9)
    assert (cols @ w).reshape(2, 2).tolist() == [[14, 6], [6, 12]]


BIG = (
    "fprop_n2c40h60w61k1r3s3u2p1_nchw_f16",
    "fprop_n2c40h60w61k1r3s3p1_nhwc_bf16",
    "fprop_n1c1h300w400k1r5s4p2_nchw_f32",
    "fprop_n1c3h1w90000k1r1s3p0x1_nhwc_f32",
    "fprop_n1c70000h2w3k1r2s2_nhwc_f16",
)


@pytest.mark.parametrize("text", BIG)
def test_many_blocks_give_the_same_bits_on_any_number_of_threads(text):
    p = ConvProblem.parse(text)
    x, cols = patches.images(p), np.random.default_rng(0).standard_normal(patches.columns(p).shape)
    cols = cols.astype(NUMPY[p.dtype])
    np.testing.assert_array_equal(
        gpuconv.unfold(x, **patches.options_of(p)), patches.by_cells(p, x), strict=True
    )
    first = gpuconv.fold(cols, p.x_shape, **patches.options_of(p))
    exact = patches.summed(p, cols)
    size = patches.summed(p, np.abs(cols.astype(float)))
    unit = {"f16": 2.0**-11, "bf16": 2.0**-8, "f32": 2.0**-24}[p.dtype]
    allowed = unit * abs(exact) + p.R * p.S * 2.0**-24 * size + 2.0**-25
    assert (abs(first.astype(float) - exact) <= allowed).all()
    for threads in (1, 5):
        here = replace(device.cpu(), threads=threads)
        again = np.full_like(first, np.nan)
        kernel.fold(p, cols, again, here)
        assert again.tobytes() == first.tobytes()
        moved = np.full(cols.shape, np.nan, NUMPY[p.dtype])
        kernel.unfold(p, x, moved, here)
        np.testing.assert_array_equal(moved, patches.by_cells(p, x))


@pytest.mark.parametrize("text", BIG)
def test_memory_beside_the_result_is_bounded(text):
    p = ConvProblem.parse(text)
    x, cols = patches.images(p), patches.columns(p)
    here = replace(device.cpu(), threads=1)
    for call, source, target in (
        (kernel.unfold, x, np.empty_like(cols)),
        (kernel.fold, cols, np.empty_like(x)),
    ):
        peak = peak_of(partial(call, p, source, target, here))
        assert peak <= 4 * 2**16 + SLACK


@pytest.fixture(scope="module")
def torch(need):
    if importlib.util.find_spec("torch") is None:
        need("torch", "PyTorch is not installed")
    import torch

    return torch


def test_torch_has_the_same_order(torch):
    @settings(max_examples=SOME)
    @given(problems(("fprop",)), SEEDS)
    def run(p, seed):
        sides = tuple((max(pads),) * 2 for pads in p.padding)
        p = replace(p, N=max(p.N, 1), layout="nchw", dtype="f64", padding=sides)
        x, cols = patches.images(p, seed), patches.columns(p, seed)
        options = patches.options_of(p)
        same = {key: options[key] for key in ("kernel_size", "stride", "dilation")}
        same["padding"] = tuple(side for side, _ in sides)
        theirs = torch.nn.functional.unfold(torch.from_numpy(x), **same).numpy()
        np.testing.assert_array_equal(gpuconv.unfold(x, **options), theirs, strict=True)
        theirs = torch.nn.functional.fold(torch.from_numpy(cols), (p.H, p.W), **same).numpy()
        np.testing.assert_array_equal(gpuconv.fold(cols, p.x_shape, **options), theirs, strict=True)

    run()
