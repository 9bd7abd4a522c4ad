"""unfold and fold on CUDA arrays: every cell in every order, any address, far apart, little traffic."""

from __future__ import annotations

import numpy as np
import pytest

import gpuconv
from gpuconv.backend.launch import Binary, KernelSpec, using
from gpuconv.errors import CompileError, LaunchRefused, Reject, UnsupportedProblem
from gpuconv.kernels.cuda import gather
from gpuconv.kernels.cuda import unfold as host
from gpuconv.kernels.cuda.params import FastDivmod, UnfoldParams
from gpuconv.problem import ConvProblem
from tests import patches
from tests.emulator.launcher import SCHEDULES, BareDLPack, DeviceArray, Emulator, emulated_device
from tests.problems import DTYPES, NUMPY

#: What is awkward about each: rows that end anywhere, few and many channels, all vectors, cells in no patch.
SHAPES = (
    "n2c3h7w9k1r3s3p1",
    "n1c5h13w12k1r2s4u3x2p0+2x3+1",
    "n2c16h6w5k1r3s2p2d2x3",
    "n1c36h5w6k1r3s3u2p1",
    "n3c1h9w8k1r2s2u4",
    "n1c130h3w4k1r1s1p1",
    "n1c6h19w19k1r4s4u4p3d6",
    "n2c4h1w1k1r7s7p3",
)


@pytest.fixture
def emulator(has_compiler):
    made = Emulator()
    with using(made):
        yield made


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_every_cell_is_where_it_should_be(has_compiler, layout, dtype, schedule):
    emulator = Emulator(schedule=schedule)
    for number, text in enumerate(SHAPES):
        p = ConvProblem.parse(f"fprop_{text}_{layout}_{dtype}")
        x, cols, options = patches.images(p), patches.columns(p), patches.options_of(p)
        folded = patches.summed(p, cols).astype(NUMPY[dtype])
        with using(emulator):
            for offset in (number % 2, 3):
                on_device = emulator.array(x, offset=offset)
                result = gpuconv.unfold(on_device, **options)
                assert isinstance(result, DeviceArray)
                np.testing.assert_array_equal(result.get(), patches.by_cells(p, x), strict=True)
                out = emulator.array(np.full(x.shape, np.nan, x.dtype), offset=offset)
                given = emulator.array(cols, offset=1 - number % 2)
                assert gpuconv.fold(given, p.x_shape, out=out, **options) is out
                np.testing.assert_array_equal(out.get(), folded, strict=True)
                np.testing.assert_array_equal(on_device.get(), x)


def test_the_bits_of_a_sum_are_the_processors(emulator):
    for text in ("n2c3h9w8k1r3s3p1_nchw_f32", "n1c8h9w8k1r3s3u2p1_nhwc_f16", "n1c3h5w5k1r4s4p3_nhwc_bf16"):
        p = ConvProblem.parse(f"fprop_{text}")
        cols = np.random.default_rng(0).standard_normal(patches.columns(p).shape).astype(NUMPY[p.dtype])
        options = patches.options_of(p)
        result = gpuconv.fold(emulator.array(cols), p.x_shape, **options).get()
        assert result.tobytes() == gpuconv.fold(cols, p.x_shape, **options).tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("text", patches.CROWDED)
def test_no_crowd_of_patches_breaks_the_bound(emulator, text, layout, dtype):
    p = ConvProblem.parse(f"fprop_{text}_{layout}_{dtype}")
    for largest in (0, p.R * p.S // 2, p.R * p.S - 1):
        cols, exact, terms = patches.crowd(p, largest)
        found = gpuconv.fold(emulator.array(cols), p.x_shape, **patches.options_of(p)).get()
        assert patches.error_over_bound(p, found, exact, terms) <= 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_every_bit_is_kept(emulator, layout, dtype):
    p = ConvProblem.parse(f"fprop_n2c4h6w7k1r3s2u1x2p1_{layout}_{dtype}")
    size = np.dtype(NUMPY[dtype]).itemsize
    x = np.frombuffer(np.random.default_rng(0).bytes(2 * 4 * 6 * 7 * size), f"u{size}").reshape(p.x_shape)
    x = x | np.array({2: 0x7F81, 4: 0x7F800001, 8: 0x7FF0000000000001}[size], x.dtype)
    cols = gpuconv.unfold(emulator.array(x.view(NUMPY[dtype])), **patches.options_of(p)).get()
    np.testing.assert_array_equal(cols.view(x.dtype), patches.by_cells(p, x))


def test_any_strides_and_bare_arrays(emulator):
    p = ConvProblem.parse("fprop_n2c4h6w7k1r3s2p1_nhwc_f32")
    x, options = patches.images(p), patches.options_of(p)
    wide = np.full((*x.shape[:3], 8), np.nan, np.float32)
    wide[..., ::2] = x
    expected = patches.by_cells(p, x)
    room = emulator.array(np.full((*expected.shape[:3], 2 * expected.shape[3]), 7, np.float32))
    out = room[..., 1::2]
    assert gpuconv.unfold(emulator.array(wide)[..., ::2], out=out, **options) is out
    np.testing.assert_array_equal(out.get(), expected)
    assert (room.get()[..., ::2] == 7).all()
    np.testing.assert_array_equal(gpuconv.unfold(BareDLPack(emulator.array(x)), **options).get(), expected)


def test_an_empty_batch_launches_nothing(emulator):
    x = emulator.array(np.zeros((0, 2, 5, 5), np.float32))
    cols = gpuconv.unfold(x, 3)
    assert cols.shape == (0, 18, 9)
    assert gpuconv.fold(cols, (0, 2, 5, 5), 3).shape == (0, 2, 5, 5)
    assert not emulator.launched


def test_patches_times_filters_are_the_convolution(emulator):
    p = ConvProblem.parse("fprop_n2c5h9w8k6r3s3u2p1_nchw_f32")
    x, w = patches.images(p), patches.images(ConvProblem.parse("fprop_n6c5h3w3k1r1s1_nchw_f32"))
    cols = gpuconv.unfold(emulator.array(x), **patches.options_of(p)).get()
    y = gpuconv.conv2d(emulator.array(x), emulator.array(w), stride=2, padding=1).get()
    np.testing.assert_array_equal((w.reshape(6, -1) @ cols).reshape(y.shape), y)


def test_errors_come_before_any_launch(emulator):
    x, cols = np.ones((1, 2, 5, 5), np.float32), np.ones((1, 18, 9), np.float32)
    there = emulator.array(x)
    one_row = emulator.array(x[:, :, :1])
    for match, error, call in (
        (r"^kernel_size must fit", ValueError, lambda: gpuconv.unfold(there, 6)),
        (r"^stride must be", ValueError, lambda: gpuconv.unfold(there, 3, stride=0)),
        (r"^out must be on", TypeError, lambda: gpuconv.unfold(there, 3, out=cols)),
        (r"^out must be on", TypeError, lambda: gpuconv.unfold(x, 3, out=emulator.array(cols))),
        (r"^out must not overlap x", ValueError, lambda: gpuconv.unfold(one_row, 1, out=one_row[:, :, 0])),
        (r"^cols must have shape", ValueError, lambda: gpuconv.fold(there, (1, 2, 5, 5), 3)),
    ):  # fmt: skip
        with pytest.raises(error, match=match):
            call()
    assert not emulator.launched


@pytest.mark.parametrize("error", [CompileError, LaunchRefused])
def test_a_device_that_cannot_says_why(emulator, error):
    emulator.fail_next(error("no room here"))
    with pytest.raises(
        UnsupportedProblem, match=r"unfold of fprop_n1c1h4w4k1r2s2_nchw_f32.*\n.*no room here"
    ):
        gpuconv.unfold(emulator.array(np.ones((1, 1, 4, 4), np.float32)), 2)


def test_what_the_kernel_cannot_count_is_refused():
    device = emulated_device()
    for text, reason in (
        ("fprop_n1c1h5w5k1r1s1p1073741824x0_nchw_f16", "padded height below 2**30"),
        ("fprop_n2000000000c2000000000h1w1k1r1s1_nhwc_f16", "blocks"),
    ):
        p = ConvProblem.parse(text)
        refused = host.launch(p, device, folds=False)
        assert isinstance(refused, Reject)
        assert reason in refused.reason
    old = host.launch(
        ConvProblem.parse("fprop_n1c1h5w5k1r1s1_nchw_f16"), emulated_device(capability=(7, 0)), folds=True
    )
    assert "7.5" in old.reason


#: Strides of cells and of patches, slowest axis first.
MEMBERS = (
    *("image", "channel", "row", "column"),
    *("cols_image", "cols_channel", "tap_row", "tap_column", "patch_row", "patch_column"),
)


class Far:
    """On the device without a copy: pages that nobody touches take no memory."""

    def __init__(self, array):
        self.array = array
        self.__cuda_array_interface__ = {**array.__array_interface__, "version": 3}


@pytest.mark.parametrize("folds", [False, True])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("member", MEMBERS)
def test_offsets_have_64_bits_along_every_axis(has_compiler, member, layout, folds):
    """One stride is made so large that 31 bits lose its second cell; all others stay."""
    emulator = Emulator()
    device = emulator.device(0)
    p = ConvProblem.parse(f"fprop_n2c2h3w3k1r2s2_{layout}_f16")
    spec = host.launch(p, device, folds=folds)
    params = UnfoldParams.from_buffer_copy(spec.params)
    names = MEMBERS[:4]
    if member not in names:
        names = MEMBERS[4:]
    sizes = (2,) * 6 if len(names) == 6 else (2, 2, 3, 3)
    steps, step = {}, 1
    for name, size in reversed(list(zip(names, sizes, strict=True))):
        if name != member:
            steps[name] = step
            step *= size
    steps[member] = far = 2**31 + 8
    for name, value in steps.items():
        setattr(params, name, value)
    wide = np.zeros(far * 3, np.float16)
    view = np.ndarray(sizes, np.float16, wide, strides=[2 * steps[name] for name in names])
    x, cols = patches.images(p), patches.columns(p)
    source, expected = (cols, patches.summed(p, cols)) if folds else (x, patches.by_cells(p, x))

    def in_axes(array):
        if array.shape == p.x_shape:
            return array if layout == "nchw" else array.transpose(0, 3, 1, 2)
        if layout == "nchw":
            return array.reshape(2, 2, 2, 2, 2, 2)
        return array.reshape(2, 2, 2, 2, 2, 2).transpose(0, 5, 3, 4, 1, 2)

    near = {False: emulator.array(source), True: emulator.array(np.full(expected.shape, np.nan, np.float16))}
    writes = folds == (len(names) == 4)
    view[...] = np.nan if writes else in_axes(source)
    near[writes] = emulator.adopt(Far(wide))
    # what the strides of memory allow is not true of these
    binary = Binary(
        spec.binary.file, tuple((dict(spec.binary.defines) | {"VECTOR": "1"}).items()), spec.binary.arch
    )
    if layout == "nhwc":
        params.count.extents[0], params.count.units = FastDivmod.of(2), 2 * params.count.units
    spec = KernelSpec(binary, spec.entry, spec.grid, spec.block, 0, spec.pointers, params.pack())
    (launch,) = emulator.load((spec,), device)
    launch(spec.pack({"a": near[False].pointer, "out": near[True].pointer}))
    found = view if writes else in_axes(near[True].get())
    np.testing.assert_array_equal(found, in_axes(expected))


@pytest.mark.parametrize("folds", [False, True])
@pytest.mark.parametrize("size", ["n3c4h9w10_nchw", "n3c6h9w10_nhwc", "n3c40h5w6_nhwc"])
@pytest.mark.parametrize("most", [1, 5, 60, 300])
def test_results_beyond_31_bits_are_counted_in_rounds(monkeypatch, emulator, most, size, folds):
    """The largest count is lowered, so that fewer axes fit below it."""
    p = ConvProblem.parse("fprop_{}k1r2s3p1_{}_f32".format(*size.split("_")))
    x, cols, options = patches.images(p), patches.columns(p), patches.options_of(p)
    plain = host.launch(p, emulator.device(0), folds=folds)
    monkeypatch.setattr(gather, "_MOST_UNITS", most)
    cut = host.launch(p, emulator.device(0), folds=folds)
    assert cut.params != plain.params
    if folds:
        result = gpuconv.fold(emulator.array(cols), p.x_shape, **options).get()
        np.testing.assert_array_equal(result, patches.summed(p, cols))
    else:
        np.testing.assert_array_equal(
            gpuconv.unfold(emulator.array(x), **options).get(), patches.by_cells(p, x)
        )


#: Sectors of global loads and stores against the fewest possible, for unfold and then fold. A warp's run of
#: cells begins anywhere and crosses rows, and so touches more sectors than its length needs; where a limit is
#: high, the reason is beside it. Caches see most of those again.
TRAFFIC = {
    "fprop_n1c8h32w32k1r3s3p1_nchw_f32": (1.17, 1.0, 1.28, 1.0),
    "fprop_n1c8h32w32k1r3s3p1_nchw_f16": (1.33, 1.0, 1.56, 1.0),
    "fprop_n1c64h14w14k1r3s3p1_nhwc_f16": (1.0, 1.0, 1.0, 1.0),
    "fprop_n1c64h14w14k1r3s3p1_nhwc_f32": (1.0, 1.0, 1.0, 1.0),
    "fprop_n1c3h32w32k1r7s7u2p3_nhwc_f32": (1.48, 1.0, 2.9, 1.0),  # a fold's three channels are half a sector
    "fprop_n1c3h34w34k1r3s3_nchw_f32": (1.21, 1.0, 1.51, 1.0),
}


@pytest.mark.parametrize("text", TRAFFIC)
def test_memory_traffic_is_near_the_least(has_compiler, text):
    counting = Emulator(count=True)
    p = ConvProblem.parse(text)
    found = []
    with using(counting):
        x, cols = counting.array(patches.images(p)), counting.array(patches.columns(p))
        for call in (
            lambda: gpuconv.unfold(x, **patches.options_of(p)),
            lambda: gpuconv.fold(cols, p.x_shape, **patches.options_of(p)),
        ):
            call()
            for kind in ("global load", "global store"):
                total = counting.counters.total(kind)
                found.append(total.sectors / total.ideal_sectors)
    assert all(ratio <= most + 0.005 for ratio, most in zip(found, TRAFFIC[text], strict=True)), found
