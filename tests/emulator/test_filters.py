"""correlate2d and convolve2d on CUDA arrays: the processor's results of every dtype, errors first."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import gpuconv
from gpuconv.backend.launch import using
from gpuconv.errors import UnsupportedProblem
from gpuconv.kernels.cuda import gather
from tests.emulator.launcher import BareDLPack, BareInterface, DeviceArray, Emulator
from tests.problems import DTYPES, NUMPY

NAMES = ("correlate2d", "convolve2d")
MODES = ("full", "same", "valid")
BOUNDARIES = ("fill", "wrap", "symm")
#: Image and kernel, the last ones with a kernel that 'valid' swaps or that reaches many times around.
SHAPES = (((6, 7), (3, 2)), ((5, 4, 3), (2, 3)), ((1, 9), (1, 4)), ((2, 3), (4, 5)), ((2, 1, 2), (5, 4)))


def drawn(shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(dtype)


@pytest.fixture
def emulator(has_compiler):
    made = Emulator()
    with using(made):
        yield made


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_the_processors_results(emulator, name, mode, boundary):
    call = getattr(gpuconv, name)
    for number, (image, kernel) in enumerate(SHAPES):
        in1, in2 = drawn(image, number), drawn(kernel, number + 100)
        there = emulator.array(in1), emulator.array(in2)
        found = call(*there, mode, boundary)
        assert isinstance(found, DeviceArray)
        assert found.is_contiguous
        np.testing.assert_array_equal(found.get(), call(in1, in2, mode, boundary), strict=True)
        np.testing.assert_array_equal(there[0].get(), in1)
        np.testing.assert_array_equal(there[1].get(), in2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(emulator, dtype):
    in1, in2 = drawn((6, 5, 2), 0, NUMPY[dtype]), drawn((3, 2), 1, NUMPY[dtype])
    for name, boundary in product(NAMES, BOUNDARIES):
        call = getattr(gpuconv, name)
        found = call(emulator.array(in1), emulator.array(in2), "same", boundary)
        np.testing.assert_array_equal(found.get(), call(in1, in2, "same", boundary), strict=True)


ANY = (*DTYPES, "?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")


@pytest.mark.parametrize("name", NAMES)
def test_every_pair_of_dtypes(emulator, name):
    call = getattr(gpuconv, name)
    for image, kernel in product(ANY, DTYPES):
        for one, other in ((image, kernel), (kernel, image)):
            in1 = drawn((3, 4), 0).astype(NUMPY.get(one, one))
            in2 = drawn((2, 3), 1).astype(NUMPY.get(other, other))
            found = call(emulator.array(in1), emulator.array(in2), "full", "fill", -2)
            np.testing.assert_array_equal(found.get(), call(in1, in2, "full", "fill", -2), strict=True)
    in1, in2 = drawn((4, 3, 2)).astype("u1"), drawn((5, 4), 1).astype("i8")
    found = call(emulator.array(in1), emulator.array(in2), "valid")
    np.testing.assert_array_equal(found.get(), call(in1, in2, "valid"), strict=True)


@pytest.mark.parametrize("fillvalue", [2, -0.5, 2**-10, np.inf, np.nan])
def test_fillvalues(emulator, fillvalue):
    for number, (image, kernel) in enumerate(SHAPES):
        in1, in2 = drawn(image, number), drawn(kernel, number + 100)
        there = emulator.array(in1), emulator.array(in2)
        for name, mode in product(NAMES, MODES):
            call = getattr(gpuconv, name)
            found, expected = call(*there, mode, "fill", fillvalue), call(in1, in2, mode, "fill", fillvalue)
            np.testing.assert_array_equal(found.get(), expected, strict=True)


def test_few_launches(emulator):
    image, kernel = emulator.array(drawn((5, 6, 3))), emulator.array(drawn((2, 3)))
    mixed = emulator.array(drawn((2, 3)).astype("i2"))
    for call, expected in (
        (lambda: gpuconv.correlate2d(image[:, :, 0], kernel), ["direct"]),
        (lambda: gpuconv.correlate2d(image[:, :, 0], kernel, "valid", "symm"), ["direct"]),
        (lambda: gpuconv.correlate2d(image[:, :, 0], kernel, "valid", "fill", 3), ["direct"]),
        (lambda: gpuconv.correlate2d(image, kernel), ["pad", "direct"]),
        (lambda: gpuconv.correlate2d(image, kernel, "full", "wrap"), ["pad", "direct"]),
        (lambda: gpuconv.correlate2d(image, kernel, "full", "fill", 3), ["pad", "direct"]),
        (lambda: gpuconv.convolve2d(image, mixed, "same", "symm"), ["pad", "pad", "direct"]),
    ):
        emulator.launched.clear()
        call()
        assert [spec.entry for spec in emulator.launched] == expected


def test_what_no_device_can_count_is_refused(monkeypatch, emulator):
    monkeypatch.setattr(gather, "_MOST_BLOCKS", 1)
    image = emulator.array(drawn((20, 20)))
    with pytest.raises(
        UnsupportedProblem, match=r"planes \(1, 1, 24, 24\).*\n.*takes at most .* blocks, got 3"
    ):
        gpuconv.correlate2d(image, image[:3, :3], boundary="wrap")
    assert not emulator.launched


def test_any_strides_and_bare_arrays(emulator):
    wide, in2 = drawn((6, 10, 3)), drawn((3, 3), 1)
    image = wide[::-1, ::2]
    expected = gpuconv.convolve2d(image, in2.T, "same", "symm")
    there, kernel = emulator.array(wide)[::-1, ::2], emulator.array(in2)
    np.testing.assert_array_equal(gpuconv.convolve2d(there, kernel.T, "same", "symm").get(), expected)
    plain = BareDLPack(emulator.array(np.ascontiguousarray(image)))
    bare = gpuconv.convolve2d(plain, BareDLPack(emulator.array(np.ascontiguousarray(in2.T))), "same", "symm")
    np.testing.assert_array_equal(bare.get(), expected)
    small = BareInterface(emulator.array(np.ascontiguousarray(image).astype("i1")))
    bare = gpuconv.convolve2d(small, BareInterface(emulator.array(in2.T.astype("f8"))), "same", "symm")
    np.testing.assert_array_equal(bare.get(), expected.astype("f8"), strict=True)


def test_nan_stays_within_reach(emulator):
    in1, in2 = drawn((7, 8)), np.ones((2, 3), np.float32)
    in1[0, 6] = np.nan
    for boundary in BOUNDARIES:
        found = gpuconv.correlate2d(emulator.array(in1), emulator.array(in2), "same", boundary).get()
        assert 0 < np.isnan(found).sum() < 20
        np.testing.assert_array_equal(found, gpuconv.correlate2d(in1, in2, "same", boundary))


def test_a_fillvalue_that_nobody_reads_may_be_any(emulator):
    in1, in2 = emulator.array(drawn((5, 6))), emulator.array(drawn((3, 3), 1))
    for mode, boundary in (("valid", "fill"), ("full", "wrap"), ("same", "symm")):
        found = gpuconv.correlate2d(in1, in2, mode, boundary, 7).get()
        expected = gpuconv.correlate2d(in1.get(), in2.get(), mode, boundary)
        np.testing.assert_array_equal(found, expected)


def test_errors_come_before_any_launch(emulator):
    image, kernel = drawn((5, 6)), drawn((3, 3), 1)
    in1, in2 = emulator.array(image), emulator.array(kernel)
    elsewhere = emulator.array(kernel, index=1)
    room = emulator.array(np.zeros(100, np.uint8))

    def of(array, dtype):
        return emulator.array(array.astype(dtype))

    strange = DeviceArray(room.get()[1:37].view(np.float32).reshape(3, 3), room, 0)
    for match, error, arguments in (
        (r"^fillvalue must be within the range of float32", ValueError, (in1, in2, "full", "fill", 1e39)),
        (r"^fillvalue must be a real number", TypeError, (in1, in2, "same", "fill", 1j)),
        (r"^in2 must be on the CPU like in1", TypeError, (image, in2)),
        (r"^in2 must be on a CUDA device like in1", TypeError, (in1, kernel)),
        (r"^in2 must be on cuda:0 like in1, it is on cuda:1", TypeError, (in1, elsewhere)),
        (r"^in2 must have elements at multiples of their 4 bytes", ValueError, (in1, strange)),
        (r"^in2 must be of integers, bool, .*in2\.real", TypeError, (in1, of(kernel, "c8"))),
        (r"^in1 must be of integers, bool, .*float64, got bytes8", TypeError, (of(image, "S1"), in2)),
        (r"^in1 must have the device's byte order", TypeError, (of(image, ">f4"), in2)),
        (r"^in2 must have the device's byte order", TypeError, (in1, of(kernel, ">i2"))),
        (r"^in1 must have shape", ValueError, (in1[0], in2)),
        (r"^in2 must have shape", ValueError, (in1, in2[None])),
        (r"^in2 must have no empty dimension", ValueError, (in1, in2[:0])),
        (r"^in2 must be at most as large", ValueError, (in1[:2], in2, "valid")),
        (r"^boundary must be one of", ValueError, (in1, in2, "full", "reflect")),
        (r"^mode must be one of", ValueError, (in1, in2, "half")),
    ):
        for name in NAMES:
            with pytest.raises(error, match=match):
                getattr(gpuconv, name)(*arguments)
    assert not emulator.launched
