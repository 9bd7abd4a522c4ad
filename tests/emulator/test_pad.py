"""The kernel that pads and converts images: NumPy's borders, every type's numbers, any strides, far apart."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import gpuconv
from gpuconv.backend.launch import using
from gpuconv.errors import CompileError, LaunchRefused, Reject, UnsupportedProblem
from gpuconv.kernels.cuda import gather
from gpuconv.kernels.cuda import pad as host
from gpuconv.kernels.cuda.params import PadParams
from tests.borders import BOOL, BOUNDARIES, INTEGERS, WIDER, padded
from tests.emulator.launcher import SCHEDULES, Emulator, emulated_device
from tests.emulator.test_patches import Far
from tests.problems import DTYPES, NUMPY

#: Image and padding: none, one side, beyond the image, many times around it, one cell.
SHAPES = (
    ((5, 7), ((0, 0), (0, 0))),
    ((6, 40, 3), ((2, 0), (0, 33))),
    ((3, 2), ((3, 4), (2, 1))),
    ((3, 4, 5), ((17, 20), (13, 30))),
    ((1, 1, 2), ((5, 6), (300, 1))),
    ((2, 300), ((0, 1), (599, 601))),
)


@pytest.fixture
def emulator(has_compiler):
    made = Emulator()
    with using(made):
        yield made


def run(emulator, there, padding, boundary, fill=0.0, dtype=None, offset=0):
    """The kernel's, for an image on the device."""
    dtype = dtype or there.dtype
    H, W, *channels = there.shape
    (top, bottom), (left, right) = padding
    shape = (*(channels or [1]), 1, top + H + bottom, left + W + right)
    out = emulator.array(np.full(shape, 77, dtype), offset=offset)
    host.enqueue(there, out, padding, boundary, fill, emulator.device(0), emulator)
    return out.get()


def drawn(shape, dtype=np.float32):
    return np.random.default_rng(0).integers(-99, 100, shape).astype(dtype)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_borders_are_numpys(has_compiler, boundary, schedule):
    emulator = Emulator(schedule=schedule)
    for number, (shape, padding) in enumerate(SHAPES):
        image = drawn(shape)
        for offset in (number % 2, 3):
            there = emulator.array(image, offset=offset)
            found = run(emulator, there, padding, boundary, 2.5, offset=3 - offset)
            np.testing.assert_array_equal(found, padded(image, padding, boundary, 2.5, image.dtype))
            np.testing.assert_array_equal(there.get(), image)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_arrays_may_lie_anyhow(emulator, boundary):
    wide = drawn((9, 14, 6))
    there = emulator.array(wide)
    for key in (np.s_[::-1, ::-1], np.s_[::2, 1::3, ::-2], np.s_[:, :, 4], np.s_[3:4, ::-5]):
        for turned in (False, True):
            image, view = (array.transpose(1, 0, *range(2, array.ndim)) if turned else array
                           for array in (wide[key], there[key]))  # fmt: skip
            found = run(emulator, view, ((3, 1), (2, 20)), boundary, -1)
            np.testing.assert_array_equal(found, padded(image, ((3, 1), (2, 20)), boundary, -1, image.dtype))
    one = emulator.array(drawn((1, 1, 1)))
    again = emulator.adopt(Far(np.broadcast_to(one.get(), (4, 5, 3))))
    assert (run(emulator, again, ((1, 1), (1, 1)), "symm") == one.get()[0, 0, 0]).all()


def extremes(dtype):
    """Whatever is hard to convert, in a row that is no vector of anything."""
    if dtype.kind == "b":
        return np.array([[False, True, True]])
    if dtype.kind in "iu":
        most = np.iinfo(dtype)
        odd = [
            most.max,
            most.min,
            most.max - 1,
            most.min + 1,
            2**7 - 1,
            most.max // 2 + 1,
            2**53 + 1,
            2**54 + 3,
        ]
        return np.array([[value for value in odd if most.min <= value <= most.max]], dtype)
    smallest = np.array([1], f"u{dtype.itemsize}").view(dtype).astype(np.float64)[0]
    largest = {2: 6e4, 4: 3e38, 8: 1.7e308}[dtype.itemsize]
    return np.array([[0.0, -0.0, 1 / 3, smallest, -3 * smallest, largest, np.inf, -np.inf, np.nan]]).astype(
        dtype
    )


@pytest.mark.parametrize(("source", "dtype"), WIDER, ids=str)
def test_every_number_of_every_type(emulator, source, dtype):
    image = extremes(source)
    found = run(emulator, emulator.array(image, offset=None), ((0, 1), (1, 0)), "symm", dtype=dtype)
    expected = padded(image, ((0, 1), (1, 0)), "symm", 0, dtype)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found.astype(float), expected.astype(float))
    np.testing.assert_array_equal(np.signbit(found.astype(float)), np.signbit(expected.astype(float)))


@pytest.mark.parametrize("short", DTYPES)
def test_every_bit_is_kept_where_the_type_is(emulator, short):
    dtype = np.dtype(NUMPY[short])
    bits = np.frombuffer(np.random.default_rng(0).bytes(6 * 35 * dtype.itemsize), f"u{dtype.itemsize}")
    bits = bits.reshape(6, 35) | np.array(
        {2: 0x7F81, 4: 0x7F800001, 8: 0x7FF0000000000001}[dtype.itemsize], bits.dtype
    )
    found = run(emulator, emulator.array(bits.view(dtype)), ((1, 2), (3, 4)), "wrap").view(bits.dtype)
    np.testing.assert_array_equal(found, padded(bits, ((1, 2), (3, 4)), "wrap", 0, bits.dtype))


@pytest.mark.parametrize("short", DTYPES)
@pytest.mark.parametrize("fill", [0.1, -0.0, 7e-8, -65504.0, np.inf, -np.inf, np.nan])
def test_the_constant_is_rounded_once(emulator, short, fill):
    image = drawn((2, 3), NUMPY[short])
    found = run(emulator, emulator.array(image), ((1, 0), (0, 1)), "fill", fill)
    assert found.tobytes() == padded(image, ((1, 0), (0, 1)), "fill", fill, image.dtype).tobytes()


@pytest.mark.parametrize("member", ["row", "column", "channel", "plane_row", "plane"])
def test_offsets_have_64_bits_along_every_axis(emulator, member):
    """One stride is made so large that 31 bits lose its second cell; all others stay."""
    image, padding, far = drawn((2, 2, 2), np.float16), ((1, 0), (0, 0)), 2**31 + 8
    expected = padded(image, padding, "wrap", 0, image.dtype)[:, 0]
    out = emulator.array(np.full(expected.shape, 7, np.float16))
    wide = np.zeros(3 * far, np.float16)
    there, strides = emulator.array(image), {"row": 4, "column": 2, "channel": 1}
    if member in strides:
        steps = dict(zip([name for name in strides if name != member], (2, 1), strict=True)) | {member: far}
        view = np.ndarray(image.shape, np.float16, wide, strides=[2 * steps[name] for name in strides])
        view[...] = image
        there = emulator.adopt(Far(view))
    made = host.launch(there, image.dtype, padding, "wrap", 0, emulator.device(0))
    params = PadParams.from_buffer_copy(made.params)
    to = out.pointer
    if member not in strides:
        setattr(params, member, far)
        params.plane_row = far if member == "plane_row" else 2
        params.plane = far if member == "plane" else 2
        steps = (params.plane, params.plane_row, 1)
        view = np.ndarray(expected.shape, np.float16, wide, strides=[2 * step for step in steps])
        to = wide.ctypes.data
    (launch,) = emulator.load((made,), emulator.device(0))
    launch(made.pack({"a": there.pointer, "out": to})[:16] + params.pack())
    np.testing.assert_array_equal(out.get() if member in strides else view, expected)


@pytest.mark.parametrize("most", [1, 5, 60, 300])
def test_results_beyond_31_bits_are_counted_in_rounds(monkeypatch, emulator, most):
    image, padding = drawn((7, 21, 5)), ((2, 1), (4, 8))
    plain = host.launch(image, image.dtype, padding, "symm", 0, emulator.device(0))
    monkeypatch.setattr(gather, "_MOST_UNITS", most)
    cut = host.launch(image, image.dtype, padding, "symm", 0, emulator.device(0))
    assert cut.params != plain.params
    found = run(emulator, emulator.array(image), padding, "symm")
    np.testing.assert_array_equal(found, padded(image, padding, "symm", 0, image.dtype))


def nowhere(*shape):
    """An image of a shape that no memory has."""
    return np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), shape, (4,) * len(shape))


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_what_the_kernel_cannot_count_is_refused(boundary):
    device, least, float32 = emulated_device(), ((0, 0), (0, 0)), np.dtype(np.float32)
    for image, padding, card, reason in (
        (
            nowhere(2, 2**28),
            ((0, 0), (2**27, 2**27)),
            device,
            "takes a padded width below 2**29, got 536870912",
        ),
        (nowhere(2**31 - 1, 2), ((2**31, 2**31), (0, 0)), device, "padded height below 2**29"),
        (nowhere(2**15, 256, 2**16), least, device, "takes at most 2**31 - 1 blocks, got 2147483648"),
        (nowhere(2, 2), least, emulated_device(capability=(7, 0)), "needs compute capability 7.5"),
    ):
        refused = host.launch(image, float32, padding, boundary, 0, card)
        assert isinstance(refused, Reject)
        assert reason in refused.reason
    most = host.launch(nowhere(2**15 - 1, 256, 2**16), float32, least, boundary, 0, device)
    assert most.grid == (2**31 - 2**16, 1, 1)
    longest = host.launch(nowhere(2**28, 1), float32, ((0, 2**28 - 1), (0, 0)), boundary, 0, device)
    rows = PadParams.from_buffer_copy(longest.params).rows
    assert rows.period.divisor + 2**29 < 2**31


@pytest.mark.parametrize("error", [CompileError, LaunchRefused])
def test_a_device_that_cannot_says_why(emulator, error):
    in1, in2 = emulator.array(drawn((4, 5))), emulator.array(drawn((2, 2)))
    emulator.fail_next(error("no room here"))
    with pytest.raises(
        UnsupportedProblem, match=r"planes \(1, 1, 6, 7\) of an image \(4, 5\).*\n.*no room here"
    ):
        gpuconv.correlate2d(in1, in2, boundary="wrap")


def test_memory_traffic_is_near_the_least(has_compiler):
    """Where channels lie side by side, each reads all sectors of its rows: a cache has most by then."""
    for shape, loads in (((64, 96), 1.0), ((64, 96, 3), 3.0), ((64, 96, 8), 8.0)):
        counting = Emulator(count=True)
        image = drawn(shape)
        run(counting, counting.array(image), ((0, 0), (0, 0)), "symm")
        least = image.nbytes / 32
        assert counting.counters.total("global store").sectors <= 1.01 * least
        assert counting.counters.total("global load").sectors <= 1.01 * loads * least


def test_types_have_names_of_their_own():
    names = {dtype: host.short_name(dtype) for dtype, _ in WIDER}
    assert {names[np.dtype(NUMPY[short])] for short in DTYPES} == set(DTYPES)
    assert [names[dtype] for dtype in INTEGERS] == [f"{a}{b}" for a, b in product("iu", (8, 16, 32, 64))]
    assert names[BOOL] == "u8"
