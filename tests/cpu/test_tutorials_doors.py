"""The tutorials in their own words: ``tf.nn.conv2d``, patches and a product, a layer that learns."""

from __future__ import annotations

import numpy as np
import pytest

import gpuconv
from gpuconv import Conv2D
from gpuconv.compat import tensorflow as tf


def plane(rows):
    return np.asarray(rows, np.float32)[None, :, :, None]


def kernel(rows):
    return np.asarray(rows, np.float32)[:, :, None, None]


@pytest.mark.parametrize("strides", [(1, 1), (2, 1), (1, 3), (3, 2)])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_the_window_slides_down_and_then_right(strides, padding):
    """Each position's scalar product, column by column, N_STRIDES[0] down and N_STRIDES[1] to the right."""
    image, taps = np.arange(1, 57).reshape(7, 8), np.array([[1, -2, 0], [3, 1, 1]])
    padded = np.pad(image, padding)
    sides = [[0, 0], [padding, padding], [padding, padding], [0, 0]]
    found = tf.conv2d(plane(image), kernel(taps), [1, *strides, 1], sides)[0, :, :, 0]
    size = [
        (cells + 2 * padding - (count - 1) - 1) // step + 1
        for cells, count, step in zip(image.shape, taps.shape, strides, strict=True)
    ]
    assert found.shape == tuple(size)
    for column in range(size[1]):
        for row in range(size[0]):
            top, left = row * strides[0], column * strides[1]
            assert found[row, column] == (padded[top : top + 2, left : left + 3] * taps).sum()


def test_a_feature_map_and_one_for_each_kernel():
    found = tf.conv2d(plane(np.arange(1, 10).reshape(3, 3)), kernel(-np.eye(2)), [1, 1, 1, 1], "VALID")
    assert found[0, :, :, 0].tolist() == [[-6, -8], [-12, -14]]
    volume, kernels = np.ones((1, 5, 5, 3), np.float32), np.ones((3, 3, 3, 4), np.float32)
    kernels[..., 1] = 2
    found = tf.conv2d(volume, kernels, 1, "VALID")
    assert found.shape == (1, 3, 3, 4)
    assert found[0, 1, 1].tolist() == [27, 54, 27, 27]


def test_the_first_worked_example():
    x = np.reshape([1.60314465, -0.55022103, 0.00595062, -0.69889867], (1, 2, 2, 1)).astype("float32")
    w = np.full((1, 1, 1, 1), -0.59594476, np.float32)
    expected = [-0.95538563, 0.32790133, -0.00354624, 0.41650501]
    np.testing.assert_allclose(tf.conv2d(x, w, [1, 1, 1, 1], "SAME").ravel(), expected, rtol=2e-6)


def test_the_second_worked_example():
    x = plane([[4, 3, 1, 0], [2, 1, 0, 1], [1, 2, 4, 1], [3, 1, 0, 2]])
    w = kernel([[1, 0, 1], [2, 1, 0], [0, 0, 1]])
    assert tf.conv2d(x, w, [1, 1, 1, 1], "VALID")[0, :, :, 0].tolist() == [[14, 6], [6, 12]]


SHAPES = [
    ((1, 3, 3, 5), (1, 1, 5, 1), "VALID", 1, (1, 3, 3, 1)),
    ((1, 3, 3, 5), (3, 3, 5, 1), "VALID", 1, (1, 1, 1, 1)),
    ((1, 5, 5, 5), (3, 3, 5, 1), "VALID", 1, (1, 3, 3, 1)),
    ((1, 5, 5, 5), (3, 3, 5, 1), "SAME", 1, (1, 5, 5, 1)),
    ((1, 5, 5, 5), (3, 3, 5, 7), "SAME", 1, (1, 5, 5, 7)),
    ((1, 5, 5, 5), (3, 3, 5, 7), "SAME", 2, (1, 3, 3, 7)),
    ((10, 5, 5, 5), (3, 3, 5, 7), "SAME", 2, (10, 3, 3, 7)),
    ((1, 10, 10, 10), (2, 10, 10, 10), "SAME", 2, (1, 5, 5, 10)),
]


@pytest.mark.parametrize(("x", "w", "padding", "stride", "y"), SHAPES)
def test_flatten_extract_multiply(x, w, padding, stride, y):
    rng = np.random.default_rng(0)
    image, filters = (rng.integers(-4, 5, shape).astype(np.float32) for shape in (x, w))
    strides = [1, stride, stride, 1]
    found = tf.conv2d(image, filters, strides, padding)
    assert found.shape == y
    patches = tf.extract_patches(image, [1, *w[:2], 1], strides, [1, 1, 1, 1], padding)
    assert patches.shape == (*y[:3], w[0] * w[1] * w[2])
    np.testing.assert_array_equal(patches @ filters.reshape(-1, w[3]), found)


def test_what_each_output_sums():
    """Nine dot products of five numbers, four at the corners; with stride 2 every other cell is a centre."""
    ones, filters = np.ones((1, 5, 5, 5), np.float32), np.ones((3, 3, 5, 1), np.float32)
    assert tf.conv2d(ones[:, :3, :3], filters, 1, "VALID").item() == 9 * 5
    same = tf.conv2d(ones, filters, 1, "SAME")[0, :, :, 0]
    assert same[0, 0] == same[0, 4] == same[4, 0] == same[4, 4] == 4 * 5
    centre = np.zeros((3, 3))
    centre[1, 1] = 1
    cells = np.arange(25).reshape(5, 5)
    found = tf.conv2d(plane(cells), kernel(centre), [1, 2, 2, 1], "SAME")[0, :, :, 0]
    np.testing.assert_array_equal(found, cells[::2, ::2])


def test_strict_convolution_flips_both_axes():
    image, taps = np.arange(9.0).reshape(3, 3), np.array([[0.0, 1], [2, 3]])
    flipped = tf.conv2d(plane(image), kernel(taps[::-1, ::-1]), 1, "VALID")[0, :, :, 0]
    np.testing.assert_array_equal(gpuconv.convolve2d(image, taps, "valid"), flipped)


def test_five_kernels_have_twenty_weights_and_five_biases():
    layer = Conv2D(1, 5, 2)
    assert (layer.weight.size, layer.bias.size, layer.parameter_count) == (20, 5, 25)


def test_a_layer_is_corr2d_and_a_scalar():
    layer = Conv2D(1, 1, 2)
    layer.load_state_dict({"weight": np.reshape([0.0, 1, 2, 3], (1, 1, 2, 2)), "bias": np.array([0.5])})
    found = layer(np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3))
    assert found[0, 0].tolist() == [[19.5, 25.5], [37.5, 43.5]]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("data_format", ["NCHW", "NHWC"])
def test_learning_an_edge_detector_in_ten_steps(data_format, seed):
    x = np.ones((6, 8), np.float32)
    x[:, 2:6] = 0
    edges = np.zeros((6, 7), np.float32)
    edges[:, 1], edges[:, 5] = 1, -1
    places = (0, 1) if data_format == "NCHW" else (0, 3)
    x, edges = np.expand_dims(x, places), np.expand_dims(edges, places)
    layer = Conv2D(1, 1, (1, 2), bias=False, data_format=data_format, rng=seed)
    for _ in range(10):
        error = layer(x) - edges
        layer.backward(2 * error)
        layer.weight -= 3e-2 * layer.grad_weight
    assert (error**2).sum() < 1
    assert np.abs(layer.weight.ravel() - [1, -1]).max() < 0.15


@pytest.mark.parametrize(
    ("x", "y", "kernel_size", "padding", "stride", "dilation", "groups"),
    [
        ((3, 7, 7), (2, 3, 3), (3, 3), (1, 1), (2, 2), (2, 2), 1),
        ((1, 9, 9), (1, 7, 7), (3, 3), 0, 1, 1, 1),
        ((1, 7, 7), (4, 5, 5), (3, 3), 0, 1, 1, 1),
        ((3, 7, 7), (4, 5, 5), (3, 3), 0, 1, 1, 1),
        ((3, 9, 9), (2, 7, 3), (3, 3), 0, (1, 3), 1, 1),
        ((2, 7, 7), (1, 7, 7), (3, 3), (1, 1), 1, 1, 1),
        ((2, 7, 7), (1, 1, 5), (3, 3), (1, 1), 1, (4, 2), 1),
        ((2, 7, 7), (4, 5, 5), (3, 3), (2, 2), (2, 2), 1, 2),
        ((3, 7, 9), (2, 3, 8), (5, 2), (0, 0), 1, 1, 1),  # by its own formula, not (2, 3, 9)
    ],
)
def test_every_argument_of_a_layer(x, y, kernel_size, padding, stride, dilation, groups):
    layer = Conv2D(x[0], y[0], kernel_size, stride, padding, dilation, groups)
    assert layer(np.ones((1, *x), np.float32)).shape == layer.output_shape((1, *x)) == (1, *y)
    weights = y[0] * x[0] // groups * kernel_size[0] * kernel_size[1]
    assert layer.parameter_count == weights + y[0]
