"""The gradient to the bias on CUDA arrays: every order and address, long sums, far apart, refusals."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest

import gpuconv
from gpuconv.backend.launch import KernelSpec, using
from gpuconv.errors import CompileError, LaunchRefused, Reject, UnsupportedProblem
from gpuconv.kernels.cuda import bias_grad as host
from gpuconv.kernels.cuda.params import BiasGradParams
from gpuconv.problem import ConvProblem
from gpuconv.validate import tolerance
from tests.emulator.launcher import SCHEDULES, BareDLPack, DeviceArray, Emulator, emulated_device
from tests.problems import DTYPES, NUMPY

#: (N, K, P, Q): one part and several, lanes that are full and not, images shorter than a step and longer.
SHAPES = (
    (2, 3, 5, 4),
    (1, 1, 1, 1),
    (300, 5, 1, 1),
    (3, 40, 7, 9),
    (2, 33, 40, 31),
    (40, 2, 15, 17),
    (2, 1, 64, 70),
    (7, 17, 1, 300),
    (1, 64, 16, 16),
    (0, 3, 4, 4),
)


@pytest.fixture
def emulator(has_compiler):
    made = Emulator()
    with using(made):
        yield made


def ordered(values, layout):
    return np.ascontiguousarray(values if layout == "NCHW" else values.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_integers_are_exact(has_compiler, layout, dtype, schedule):
    emulator = Emulator(schedule=schedule)
    for number, shape in enumerate(SHAPES):
        values = np.random.default_rng(number).integers(-4, 5, shape).astype(NUMPY[dtype])
        expected = values.astype(np.float64).sum(axis=(0, 2, 3)).astype(NUMPY[dtype])
        with using(emulator):
            for offset in (number % 2, 3):
                grad = emulator.array(ordered(values, layout), offset=offset)
                result = gpuconv.conv2d_bias_grad(grad, data_format=layout)
                assert isinstance(result, DeviceArray)
                np.testing.assert_array_equal(result.get(), expected, strict=True)
    assert {spec.entry for spec in emulator.launched} == {"bias_grad", "split_sum"}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1, 256), (1, 2, 90, 91), (5, 3, 40, 50), (1, 40, 64, 64), (4, 33, 128, 128), (9, 1, 99, 99)],
)
def test_no_numbers_break_the_bound(emulator, shape, layout, dtype):
    """One 1, anywhere, and all others what 1 in the accumulator just loses."""
    lost = 2**53 if dtype == "f64" else 2**24
    terms = prod(shape) // shape[1]
    sized = ConvProblem("fprop", 1, terms, 1, 1, 1, 1, 1, dtype=dtype)
    for place in (0, terms // 3, terms - 1):
        whole = np.ones((shape[1], terms), np.int64)
        whole[:, place] = lost
        values = (whole / lost).reshape(shape[1], shape[0], *shape[2:]).transpose(1, 0, 2, 3)
        grad = emulator.array(ordered(values, layout).astype(NUMPY[dtype]))
        found = gpuconv.conv2d_bias_grad(grad, data_format=layout).get().astype(np.float64)
        exact = np.full(shape[1], (lost + terms - 1) / lost)
        assert (np.abs(found - exact) <= tolerance.bound(sized, exact, exact)).all()


def test_the_bits_do_not_depend_on_the_order_of_threads(has_compiler):
    values = np.random.default_rng(0).standard_normal((3, 33, 40, 50), np.float32)
    found = set()
    for schedule in SCHEDULES:
        emulator = Emulator(schedule=schedule)
        with using(emulator):
            for layout in ("NCHW", "NHWC"):
                grad = emulator.array(ordered(values, layout))
                found.add((layout, gpuconv.conv2d_bias_grad(grad, data_format=layout).get().tobytes()))
    assert len(found) == 2


def test_nan_and_infinity_stay_in_their_channels(emulator):
    for layout in ("NCHW", "NHWC"):
        values = np.ones((2, 40, 9, 9), np.float16)
        values[1, 3, 8, 8], values[0, 39, 0, 0], values[:, 7] = np.nan, -np.inf, 6e4
        found = gpuconv.conv2d_bias_grad(emulator.array(ordered(values, layout)), data_format=layout).get()
        assert np.isnan(found[3])
        assert found[39] == -np.inf
        assert found[7] == np.inf
        assert (np.delete(found, [3, 7, 39]) == 162).all()


def test_any_strides_and_bare_arrays(emulator):
    values = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    wide = np.full((2, 3, 4, 10), np.nan, np.float32)
    wide[..., ::2] = values
    expected = values.sum(axis=(0, 2, 3))
    for grad in (emulator.array(wide)[..., ::2], BareDLPack(emulator.array(values))):
        np.testing.assert_array_equal(gpuconv.conv2d_bias_grad(grad).get(), expected)
    turned = emulator.array(values).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(gpuconv.conv2d_bias_grad(turned, data_format="NHWC").get(), expected)


class Far:
    """On the device without a copy: pages that nobody touches take no memory."""

    def __init__(self, array):
        self.array = array
        self.__cuda_array_interface__ = {**array.__array_interface__, "version": 3}


@pytest.mark.parametrize("member", ["image", "channel"])
def test_offsets_have_64_bits(has_compiler, member):
    """Images, or channels, so far apart that 31 bits lose the second one."""
    emulator, far = Emulator(), 2**31 + 8
    device = emulator.device(0)
    shape, steps = (2, 2, 3, 3), {"image": 100, "channel": 10, member: far}
    (spec,), _ = host.launches(shape, "nchw", "f16", device)
    params = BiasGradParams.from_buffer_copy(spec.params)
    params.image, params.channel = steps["image"], steps["channel"]
    whole = 256 // 9
    params.step = whole * params.image + 256 - 9 * whole
    params.next_image = params.image - 9
    wide = np.zeros(far + 200, np.float16)
    view = np.ndarray(shape, np.float16, wide, strides=[2 * steps["image"], 2 * steps["channel"], 6, 2])
    view[...] = np.arange(36).reshape(shape)
    # two threads of ten rows, so that a thread passes from one image to the next
    out = emulator.array(np.full(2, np.nan, np.float16))
    spec = KernelSpec(
        spec.binary, spec.entry, spec.grid, spec.block, spec.smem_bytes, spec.pointers, params.pack()
    )
    (launch,) = emulator.load((spec,), device)
    launch(spec.pack({"a": emulator.adopt(Far(wide)).pointer, "out": out.pointer}))
    np.testing.assert_array_equal(out.get(), view.sum(axis=(0, 2, 3)))


def test_rows_beyond_31_bits_are_counted():
    """Channels last, more pixels than an int holds: the last part begins where it should."""
    shape = (2**14, 2**10, 2**10, 2**5)
    specs, scratch = host.launches(shape, "nhwc", "f16", emulated_device())
    params = BiasGradParams.from_buffer_copy(specs[0].params)
    parts = specs[0].grid[0]
    assert params.rows == 2**34
    assert params.part_rows * (parts - 1) < params.rows <= params.part_rows * parts
    assert scratch == parts * 32 * 4
    assert parts + params.part_rows // 8 + 8 < 4 * params.rows**0.5


@pytest.mark.parametrize(
    ("shape", "layout", "facts", "reason"),
    [
        ((1, 2, 3, 4), "nchw", {"capability": (7, 0)}, "needs compute capability 7.5"),
        ((1, 1, 2**15, 2**15), "nchw", {}, "fewer than 2**30 pixels"),
        ((1, 2**30, 2**14, 1), "nchw", {}, "at most 2**31 - 1 blocks"),
    ],
)
def test_what_it_turns_down(shape, layout, facts, reason):
    refused = host.launches(shape, layout, "f16", emulated_device(**facts))
    assert isinstance(refused, Reject)
    assert reason in refused.reason


@pytest.mark.parametrize(
    ("error", "step"), [(CompileError, "load"), (LaunchRefused, "load"), (LaunchRefused, "launch")]
)
def test_a_refusal_says_why(emulator, error, step):
    emulator.fail_next(error, at=step)
    with pytest.raises(
        UnsupportedProblem, match=r"bgrad of 1x2x3x4 nchw f32 on .*\n  cuda_bias_grad: injected"
    ):
        gpuconv.conv2d_bias_grad(emulator.array(np.ones((1, 2, 3, 4), np.float32)))


def test_misaligned_elements_are_refused(emulator):
    bytes_ = emulator.array(np.zeros(4 * 8 + 1, np.uint8))[1:]
    shown = {**bytes_.__cuda_array_interface__, "typestr": "<f4", "shape": (1, 2, 2, 2), "strides": None}
    crooked = type("Crooked", (), {"__cuda_array_interface__": shown})()
    with pytest.raises(ValueError, match=r"^grad_out must have elements at multiples of their 4 bytes"):
        gpuconv.conv2d_bias_grad(crooked)


#: Sectors of global loads against the fewest possible, of sums in one part. Where a channel's pixels begin
#: anywhere, a warp's line of 16-bit numbers touches a third sector, which the next warp finds in the cache.
TRAFFIC = {
    ((4, 8, 32, 32), "NCHW", "f32"): 1.0,
    ((1, 64, 14, 14), "NHWC", "f32"): 1.0,
    ((1, 64, 14, 14), "NHWC", "f16"): 1.0,
    ((1, 3, 33, 33), "NHWC", "f32"): 1.1,
    ((2, 8, 33, 33), "NCHW", "f16"): 1.48,
}


@pytest.mark.parametrize(("case", "most"), TRAFFIC.items(), ids=str)
def test_memory_traffic_is_near_the_least(has_compiler, case, most):
    counting = Emulator(count=True)
    shape, layout, dtype = case
    with using(counting):
        grad = counting.array(ordered(np.ones(shape, NUMPY[dtype]), layout))
        gpuconv.conv2d_bias_grad(grad, data_format=layout)
    assert counting.launched[-1].entry == "bias_grad"
    total = counting.counters.total("global load")
    assert total.sectors / total.ideal_sectors <= most + 0.005
