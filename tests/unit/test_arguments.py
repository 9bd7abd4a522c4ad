"""What each argument may be, and what it comes to."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import gpuconv
from gpuconv import arguments


def pads(value, size=(7, 8), kernel=(3, 3), stride=(1, 1), dilation=(1, 1)):
    return arguments.padding(value, size=size, kernel_size=kernel, stride=stride, dilation=dilation)


@pytest.mark.parametrize(
    ("written", "sides"),
    [
        (0, ((0, 0), (0, 0))),
        (2, ((2, 2), (2, 2))),
        (np.int8(2), ((2, 2), (2, 2))),
        ((1, 2), ((1, 1), (2, 2))),
        ([1, np.uint64(2)], ((1, 1), (2, 2))),
        (((1, 2), (3, 4)), ((1, 2), (3, 4))),
        ([[1, 2], (3, 4)], ((1, 2), (3, 4))),
        ("valid", ((0, 0), (0, 0))),
        ("same", ((1, 1), (1, 1))),
    ],
)
def test_padding(written, sides):
    assert pads(written) == sides


def test_same_is_tensorflows_at_every_stride():
    """Against the formula of TensorFlow's guide, which is written by remainders."""
    for size, taps, stride, dilation in itertools.product(
        range(1, 15), range(1, 6), range(1, 5), range(1, 4)
    ):
        span = dilation * (taps - 1) + 1
        total = max(span - (stride if size % stride == 0 else size % stride), 0)
        small = total // 2
        options = {"size": (size, 5), "kernel": (taps, 1), "stride": (stride, 1), "dilation": (dilation, 1)}
        assert pads("same", **options)[0] == (small, total - small)
        assert pads("same_lower", **options)[0] == (total - small, small)
        shape = gpuconv.output_shape(
            (1, 1, size, 5), (1, 1, taps, 1), stride=(stride, 1), dilation=(dilation, 1), padding="same"
        )
        assert shape == (1, 1, -(-size // stride), 5)


def test_the_odd_cell_lies_at_the_bottom_and_right():
    """tf.nn.conv2d over the row 1 2 3 4 with taps 1 1 1, stride 2, SAME: 1+2+3 and 3+4."""
    x, w = np.array([[[[1, 2, 3, 4]]]], np.float32), np.ones((1, 1, 1, 3), np.float32)
    assert gpuconv.conv2d(x, w, stride=(1, 2), padding="same").ravel().tolist() == [6, 7]
    assert gpuconv.conv2d(x, w, stride=(1, 2), padding="same_lower").ravel().tolist() == [3, 9]


def test_numpy_integers_count_as_integers():
    x, w = np.ones((1, 2, 9, 9), np.float32), np.ones((2, 1, 3, 3), np.float32)
    plain = gpuconv.conv2d(x, w, stride=2, padding=(1, 0), dilation=(1, 2), groups=2)
    numpy = gpuconv.conv2d(
        x,
        w,
        stride=np.int64(2),
        padding=(np.int8(1), np.uint8(0)),
        dilation=[np.int16(1), 2],
        groups=np.uint64(2),
    )
    np.testing.assert_array_equal(plain, numpy)


@pytest.mark.parametrize("precision", ["ieee", "tf32", "tf32x3", "relaxed"])
def test_the_cpu_computes_every_precision_as_ieee(precision):
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((1, 8, 9, 9), (4, 8, 3, 3)))
    np.testing.assert_array_equal(gpuconv.conv2d(x, w, precision=precision), gpuconv.conv2d(x, w))


class Stubborn(np.ndarray):
    """Lets no ufunc touch it."""

    __array_ufunc__ = None


def test_a_subclass_with_rules_of_its_own_is_read_as_plain_numbers():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1, 2, 6, 6)), rng.standard_normal((3, 2, 3, 3))
    bias, residual = rng.standard_normal(3), rng.standard_normal((1, 3, 4, 4))
    plain = gpuconv.conv2d(x, w, bias, residual=residual)
    out = np.zeros_like(plain).view(Stubborn)
    arrays = [array.view(Stubborn) for array in (x, w, bias, residual)]
    assert gpuconv.conv2d(*arrays[:3], residual=arrays[3], out=out) is out
    np.testing.assert_array_equal(out.view(np.ndarray), plain)
    assert type(gpuconv.conv2d_bias_grad(arrays[0])) is np.ndarray


def test_subclasses_of_arrays_are_arrays(tmp_path):
    x = np.memmap(tmp_path / "x", np.float32, "w+", shape=(1, 1, 4, 4))
    x[...] = 1
    y = gpuconv.conv2d(x, np.ones((1, 1, 3, 3), np.float32))
    assert type(y) is np.ndarray
    assert (y == 9).all()
