"""Guard pages, marked bytes, unset memory, alignment; and arrays as the product sees them."""

from __future__ import annotations

import gc
import re
import struct

import ml_dtypes
import numpy as np
import pytest

from gpuconv.backend.launch import Binary, KernelSpec
from gpuconv.errors import LaunchError
from tests.emulator.conftest import PROBES
from tests.emulator.launcher import BareDLPack, BareInterface, Emulator
from tests.emulator.test_threads import line_of

WORDS = np.arange(30, dtype=np.uint32)


@pytest.fixture
def emulator(has_compiler):
    return Emulator(sources=PROBES)


def test_new_memory_is_nan(emulator):
    device = emulator.device(0)
    for dtype in ("f16", "bf16", "f32", "f64"):
        values = emulator.empty((3, 5), dtype, device).get()
        assert values.shape == (3, 5)
        assert np.isnan(values.astype(np.float64)).all()


def test_shared_memory_is_unset_in_every_block(probe):
    out = probe("poison", 0, 0, grid=2, out=64).get()
    assert (out == 0xFFFFFFFF).all()


@pytest.mark.parametrize(
    ("entry", "n", "thread", "what"),
    [
        ("read_global", 30, 0, "reads 0 bytes behind the end of a (120 bytes)"),
        ("read_global", 40, 0, "reads 40 bytes behind the end of a (120 bytes)"),
        ("write_global", 30, 5, "writes 0 bytes behind the end of out (120 bytes)"),
        ("write_global", 5000, 5, "writes 19880 bytes behind the end of out (120 bytes)"),
    ],
)
def test_past_the_end(probe, emulator, entry, n, thread, what):
    a, out = (emulator.array(WORDS, offset=None) for _ in "ab")
    line = (
        line_of("cells", "ptx::", after=f"void {entry}")
        if entry == "write_global"
        else line_of("cells", entry)
    )
    with pytest.raises(LaunchError) as caught:
        probe(entry, n, 0, a=a, out=out, emulator=emulator)
    assert str(caught.value) == f"{entry}: block (0,0,0) thread ({thread},0,0): {what} at cells.cu:{line}"
    np.testing.assert_array_equal(a.get(), WORDS)


@pytest.mark.parametrize(("n", "what"), [(-1, "4 bytes"), (-1000, "4000 bytes")])
def test_before_the_start(probe, emulator, n, what):
    a, out = (emulator.array(WORDS, at_start=True) for _ in "ab")
    with pytest.raises(
        LaunchError, match=rf"thread \(0,0,0\): reads {what} before the start of a \(120 bytes\)"
    ):
        probe("read_global", n, 0, a=a, out=out, emulator=emulator)
    with pytest.raises(LaunchError, match=rf"thread \(5,0,0\): writes {what} before the start of out"):
        probe("write_global", n, 0, a=a, out=out, emulator=emulator)


def test_bytes_that_fill_a_page_are_marked(probe, emulator):
    out = emulator.array(WORDS[:29])  # 116 bytes from a multiple of 16: 12 are left to the next page
    with pytest.raises(LaunchError, match="a thread wrote 8 bytes behind the end of out"):
        probe("write_global", 31, 0, out=out, emulator=emulator)
    out = emulator.array(WORDS)
    with pytest.raises(LaunchError, match="a thread wrote 4 bytes before the start of out"):
        probe("write_global", -1, 0, out=out, emulator=emulator)


def test_memory_of_a_dead_array_is_gone(probe, emulator):
    out = emulator.array(WORDS)
    pointer = out.pointer
    alive = probe("order", 0, 0, out=out, block=1, emulator=emulator)
    del out, alive
    gc.collect()
    spec = KernelSpec(
        Binary("cells.cu", (), "sm_80"), "order", (1, 1, 1), (1, 1, 1), 0, ("a", "out"), bytes(8)
    )
    (run,) = emulator.load((spec,), emulator.device(0))
    with pytest.raises(LaunchError, match="reads"):
        run(struct.pack("QQii", 0, pointer, 0, 0))


@pytest.mark.parametrize("offset", range(9))
@pytest.mark.parametrize("at_start", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_any_alignment(emulator, offset, at_start, dtype):
    values = np.arange(7).astype(dtype)
    array = emulator.array(values, offset=offset, at_start=at_start)
    assert (array.pointer - offset * values.itemsize) % 16 == 0
    np.testing.assert_array_equal(array.get(), values)


def test_misaligned_address(probe, emulator):
    line = line_of("cells", "uint2 pair")
    assert probe("read_pair", 2, 0).get()[0] == 5
    with pytest.raises(LaunchError) as caught:
        probe("read_pair", 1, 0)
    assert str(caught.value) == (
        "read_pair: block (0,0,0) thread (0,0,0): "
        f"misaligned address: global load of 8 bytes, 4 past a multiple at cells.cu:{line}"
    )


@pytest.mark.parametrize("smem", [64, 60, 232448])
def test_window_of_shared_memory(probe, smem):
    probe("touch_shared", 0, 0, smem=smem)
    probe("touch_shared", smem - 1, 0, smem=smem)
    for n in (-1, smem):
        text = f"shared store of 1 bytes at byte {n} of {smem} bytes of shared memory at cells.cu:"
        with pytest.raises(LaunchError, match=text):
            probe("touch_shared", n, 0, smem=smem)


def test_shared_memory_past_the_wrappers(probe):
    probe("scribble", 59, 0, smem=60)
    with pytest.raises(LaunchError, match="a thread wrote 1 bytes behind the end of the 60 bytes of shared"):
        probe("scribble", 61, 0, smem=60)
    with pytest.raises(LaunchError, match="a thread wrote 5 bytes before the 60 bytes of shared memory"):
        probe("scribble", -5, 0, smem=60)
    with pytest.raises(LaunchError, match=r"thread \(0,0,0\): writes .* at cells.cu:"):
        probe("scribble", 64, 0, smem=60)


@pytest.mark.parametrize(
    ("entry", "n", "text"),
    [
        ("trap", 0, r"thread \(3,0,0\): __trap\(\) at cells"),
        ("check", 2, r"thread \([03],0,0\): assertion failed: p.n == 3 at cells"),
        ("divide", 0, r"thread \([03],0,0\): integer division by zero at cells"),
        ("deep", 0, r"thread \([03],0,0\): the stack of the thread overflowed"),
    ],
)
def test_other_faults(probe, schedule, entry, n, text):
    with pytest.raises(LaunchError, match=text):
        probe(entry, n, 7, block=4, emulator=Emulator(schedule=schedule, sources=PROBES))
    assert probe("check", 3, 0).get()[0] == 0  # the process lives on


def test_views(emulator):
    values = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    array = emulator.array(values)
    view = array[:, ::2, 1:].transpose(2, 0, 1)
    expected = values[:, ::2, 1:].transpose(2, 0, 1)
    np.testing.assert_array_equal(view.get(), expected)
    assert view.strides == expected.strides
    assert view.pointer == array.pointer + 4
    made = emulator.contiguous(view)
    assert made.is_contiguous
    np.testing.assert_array_equal(made.get(), expected)
    assert emulator.contiguous(array) is array
    emulator.copy(emulator.array(-expected), view)
    np.testing.assert_array_equal(array.get()[:, ::2, 1:], -values[:, ::2, 1:])


def test_adopting(emulator):
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    array = emulator.array(values)
    for other in (array, BareInterface(array), BareDLPack(array), BareInterface(array[:, ::-2])):
        adopted = emulator.adopt(other)
        assert adopted.pointer in (array.pointer, array.pointer + 8)
    np.testing.assert_array_equal(adopted.get(), values[:, ::-2])
    half = emulator.array(values.astype(ml_dtypes.bfloat16))
    shown = half.__cuda_array_interface__
    assert (shown["typestr"], shown["version"], shown["shape"]) == ("<V2", 3, (2, 3))
    assert emulator.adopt(BareInterface(half)).dtype == ml_dtypes.bfloat16
    keeps = emulator.adopt(BareInterface(emulator.array(values)))
    gc.collect()
    np.testing.assert_array_equal(keeps.get(), values)


@pytest.mark.parametrize("other", [np.zeros(3), [1, 2], "text"])
def test_what_is_not_adopted(emulator, other):
    with pytest.raises(TypeError):
        emulator.adopt(other)


def test_no_numpy_array_by_accident(emulator):
    array = emulator.array(np.zeros(3, np.float32))
    for use in (np.asarray, np.sum, lambda one: np.zeros(3) + one, list, np.from_dlpack):
        with pytest.raises((TypeError, RuntimeError, BufferError, ValueError)):
            use(array)


def test_empty_arrays(emulator):
    made = emulator.empty((0, 3), "f32", emulator.device(1))
    assert made.get().shape == (0, 3)
    assert made.device.id == 1
    assert re.match(r"DeviceArray\(\(0, 3\), float32, device 1\)", repr(made))
