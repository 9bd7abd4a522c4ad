"""The worked examples that people learn convolution from, NCHW and NHWC.

Sources: convolution by hand against TensorFlow; the sliding-window algorithm; what ``tf.nn.conv2d`` does;
Dive into Deep Learning's ``corr2d``; the arguments of PyTorch's ``Conv2d``.
"""

from __future__ import annotations

import importlib.util
from math import comb

import numpy as np
import pytest

import gpuconv

BOTH = pytest.mark.parametrize("layout", ["NCHW", "NHWC"])


def conv(x, w, layout, **options):
    """Convolve (N, C, H, W) with (K, C, R, S) through either layout; the result as (N, K, P, Q)."""
    x, w = np.asarray(x, np.float32), np.asarray(w, np.float32)
    if layout == "NCHW":
        return gpuconv.conv2d(x, w, **options)
    y = gpuconv.conv2d(x.transpose(0, 2, 3, 1), w.transpose(2, 3, 1, 0), data_format="NHWC", **options)
    return y.transpose(0, 3, 1, 2)


def image(rows):
    return np.asarray(rows, np.float32)[None, None]


def by_hand(x, w, stride, padding):
    """Each receptive field and its sum, one after the other."""
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    n, _, height, width = x.shape
    k, _, r, s = w.shape
    p, q = (height - r) // stride + 1, (width - s) // stride + 1
    y = np.zeros((n, k, p, q))
    for i in range(p):
        for j in range(q):
            field = x[:, :, i * stride : i * stride + r, j * stride : j * stride + s]
            for filter_ in range(k):
                y[:, filter_, i, j] = (field * w[filter_]).sum(axis=(1, 2, 3))
    return y


EDGES = np.array([[[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]]] * 3)[None]


@BOTH
def test_edges_of_a_padded_volume_by_hand(layout):
    """A 5×5×3 volume, padding 1, stride 2, 3×3 edge filters → 3×3."""
    x = np.random.default_rng(0).integers(0, 3, (1, 3, 5, 5))
    y = conv(x, EDGES, layout, stride=2, padding=1)
    assert y.shape == (1, 1, 3, 3)
    np.testing.assert_array_equal(y, by_hand(x, EDGES, 2, 1))


@BOTH
def test_edges_of_a_photograph_by_hand(need, layout):
    if importlib.util.find_spec("PIL") is None:
        need("pillow", "Pillow reads the photograph")
    from importlib import resources

    from PIL import Image

    with resources.files("gpuconv").joinpath("data/coffee.png").open("rb") as file:
        photo = np.asarray(Image.open(file).convert("RGB"))[100:160, 200:290]
    x = photo.transpose(2, 0, 1)[None].astype(np.int64)
    np.testing.assert_array_equal(conv(x, EDGES, layout), by_hand(x, EDGES, 1, 0))


@BOTH
def test_sliding_window(layout):
    """2×2 over 3×3 → 2×2; size = input − (kernel − 1)."""
    y = conv(image(np.arange(1, 10).reshape(3, 3)), image(-np.eye(2)), layout)
    np.testing.assert_array_equal(y, image([[-6, -8], [-12, -14]]))


@BOTH
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [4, 5, 6, 7])
def test_same_and_valid_sizes(layout, stride, size):
    x, w = np.ones((1, 2, size, size)), np.ones((3, 2, 3, 3))
    same = conv(x, w, layout, stride=stride, padding="same")
    valid = conv(x, w, layout, stride=stride, padding="valid")
    assert same.shape[2:] == (-(-size // stride),) * 2
    assert valid.shape[2:] == (-(-(size - 2) // stride),) * 2


@BOTH
@pytest.mark.parametrize(
    ("x", "w", "padding", "stride", "y"),
    [
        ((1, 3, 3, 5), (1, 1, 5, 1), "valid", 1, (1, 3, 3, 1)),
        ((1, 3, 3, 5), (3, 3, 5, 1), "valid", 1, (1, 1, 1, 1)),
        ((1, 5, 5, 5), (3, 3, 5, 1), "valid", 1, (1, 3, 3, 1)),
        ((1, 5, 5, 5), (3, 3, 5, 1), "same", 1, (1, 5, 5, 1)),
        ((1, 5, 5, 5), (3, 3, 5, 7), "same", 1, (1, 5, 5, 7)),
        ((1, 5, 5, 5), (3, 3, 5, 7), "same", 2, (1, 3, 3, 7)),
        ((10, 5, 5, 5), (3, 3, 5, 7), "same", 2, (10, 3, 3, 7)),
        ((1, 10, 10, 10), (2, 10, 10, 10), "same", 2, (1, 5, 5, 10)),
    ],
)
def test_shapes_of_tf_nn_conv2d(layout, x, w, padding, stride, y):
    """Flatten the filter, extract patches, multiply: the same numbers, in TensorFlow's shapes."""
    rng = np.random.default_rng(1)
    image_, filter_ = rng.integers(-3, 4, x), rng.integers(-3, 4, w)
    got = conv(
        image_.transpose(0, 3, 1, 2), filter_.transpose(3, 2, 0, 1), layout, stride=stride, padding=padding
    )
    assert got.transpose(0, 2, 3, 1).shape == y
    assert gpuconv.output_shape(x, w, stride=stride, padding=padding, data_format="NHWC") == y
    before = after = (0, 0)
    if padding == "same":
        total = [
            max((size - 1) * stride + taps - old, 0)
            for size, taps, old in zip(y[1:3], w, x[1:3], strict=False)
        ]
        before = [cells // 2 for cells in total]
        after = [cells - first for cells, first in zip(total, before, strict=True)]
    padded = np.pad(image_, ((0, 0), *zip(before, after, strict=True), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, w[:2], axis=(1, 2))[:, ::stride, ::stride]
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(*y[:3], -1)
    np.testing.assert_array_equal(got.transpose(0, 2, 3, 1), patches @ filter_.reshape(-1, w[3]))


@BOTH
def test_same_corners_sum_four_dot_products(layout):
    y = conv(np.ones((1, 5, 5, 5)), np.ones((1, 5, 3, 3)), layout, padding="same")
    assert y[0, 0, 0, 0] == y[0, 0, -1, -1] == 4 * 5
    assert y[0, 0, 2, 2] == 9 * 5


@BOTH
def test_one_by_one_filter(layout):
    x = image(np.reshape([1.60314465, -0.55022103, 0.00595062, -0.69889867], (2, 2)))
    y = conv(x, image([[-0.59594476]]), layout)
    np.testing.assert_allclose(y.ravel(), [-0.95538563, 0.32790133, -0.00354624, 0.41650501], rtol=2e-6)


@BOTH
def test_four_sums_written_out(layout):
    x = [[4, 3, 1, 0], [2, 1, 0, 1], [1, 2, 4, 1], [3, 1, 0, 2]]
    y = conv(image(x), image([[1, 0, 1], [2, 1, 0], [0, 0, 1]]), layout)
    np.testing.assert_array_equal(y, image([[14, 6], [6, 12]]))


@BOTH
def test_fourier_view(layout):
    """Pad the filter to the image's size, transform, multiply, sum over channels."""
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((1, 3, 12, 12)), rng.standard_normal((4, 3, 3, 3))
    spectrum = np.fft.fft2(x)[:, None] * np.fft.fft2(w, (12, 12)).conj()[None]
    circular = np.fft.ifft2(spectrum.sum(axis=2)).real
    np.testing.assert_allclose(conv(x, w, layout), circular[:, :, :10, :10], atol=1e-4)


@BOTH
def test_corr2d(layout):
    y = conv(image(np.arange(9).reshape(3, 3)), image([[0, 1], [2, 3]]), layout)
    np.testing.assert_array_equal(y, image([[19, 25], [37, 43]]))


@BOTH
def test_vertical_edges(layout):
    x = np.ones((6, 8))
    x[:, 2:6] = 0
    y = conv(image(x), image([[1, -1]]), layout)
    expected = np.zeros((6, 7))
    expected[:, 1], expected[:, 5] = 1, -1
    np.testing.assert_array_equal(y, image(expected))
    np.testing.assert_array_equal(conv(image(x.T), image([[1, -1]]), layout), np.zeros((1, 1, 8, 5)))
    # both transposed, or a diagonal edge
    np.testing.assert_array_equal(conv(image(x.T), image([[1], [-1]]), layout), image(expected.T))
    diagonal = conv(image(np.eye(6)), image([[1, -1]]), layout)[0, 0]
    np.testing.assert_array_equal(diagonal, np.eye(6)[:, :5] - np.eye(6, 5, -1))


@BOTH
@pytest.mark.parametrize("seed", range(5))
def test_learning_a_kernel(layout, seed):
    """Squared error, ten steps: the edge detector is found from data."""
    x = np.ones((1, 1, 6, 8), np.float32)
    x[..., 2:6] = 0
    target = gpuconv.conv2d(x, image([[1, -1]]))
    w = np.random.default_rng(seed).uniform(-0.7, 0.7, (1, 1, 1, 2)).astype(np.float32)
    for _ in range(10):
        if layout == "NCHW":
            error = gpuconv.conv2d(x, w) - target
            slope = gpuconv.conv2d_weight_grad(x, w.shape, 2 * error)
        else:
            last = (0, 2, 3, 1)
            y = gpuconv.conv2d(x.transpose(last), w.transpose(2, 3, 1, 0), data_format="NHWC")
            error = y.transpose(0, 3, 1, 2) - target
            slope = gpuconv.conv2d_weight_grad(
                x.transpose(last), (1, 2, 1, 1), 2 * error.transpose(last), data_format="NHWC"
            ).transpose(3, 2, 0, 1)
        w -= np.float32(3e-2) * slope
    assert float((error**2).sum()) < 1
    np.testing.assert_allclose(w.ravel(), [1, -1], atol=0.15)


@BOTH
def test_strict_convolution_is_correlation_with_a_flipped_kernel(layout):
    rng = np.random.default_rng(3)
    x, w = rng.integers(-3, 4, (7, 8)), rng.integers(-3, 4, (3, 2))
    full = np.zeros((9, 9))
    for (r, s), tap in np.ndenumerate(w):
        full[r : r + 7, s : s + 8] += tap * x
    y = conv(image(x), image(w[::-1, ::-1]), layout, padding=(2, 1))
    np.testing.assert_array_equal(y, image(full))


@BOTH
def test_correlation_as_a_matrix(layout):
    """The doubly blocked Toeplitz matrix of a kernel, times the image laid out in a row."""
    w = np.arange(1, 5).reshape(2, 2)
    cells = np.eye(9).reshape(9, 1, 3, 3)
    matrix = conv(cells, w[None, None], layout).reshape(9, 4).T
    x = np.arange(9).reshape(3, 3)
    np.testing.assert_array_equal(matrix @ x.ravel(), conv(image(x), image(w), layout).ravel())
    assert np.count_nonzero(matrix) == 16


@BOTH
def test_derivatives_and_integral(layout):
    """The smallest kernel for the d-th derivative has d + 1 elements."""
    t = np.arange(10.0)
    for d in (1, 2, 3):
        kernel = [(-1) ** (d - i) * comb(d, i) for i in range(d + 1)]
        y = conv(image([t**2]), image([kernel]), layout).ravel()
        np.testing.assert_array_equal(y, np.diff(t**2, d))
    running = conv(image([t]), image([np.ones(10)]), layout, padding=((0, 0), (9, 0)))
    np.testing.assert_array_equal(running.ravel(), np.cumsum(t))


@BOTH
@pytest.mark.parametrize(
    ("x", "y", "kernel", "padding", "stride", "dilation", "groups"),
    [
        ((3, 7, 7), (2, 3, 3), (3, 3), (1, 1), (2, 2), (2, 2), 1),
        ((1, 9, 9), (1, 7, 7), (3, 3), 0, 1, 1, 1),
        ((1, 7, 7), (4, 5, 5), (3, 3), 0, 1, 1, 1),
        ((3, 7, 7), (4, 5, 5), (3, 3), 0, 1, 1, 1),
        ((3, 9, 9), (2, 7, 3), (3, 3), 0, (1, 3), 1, 1),
        ((2, 7, 7), (1, 7, 7), (3, 3), (1, 1), 1, 1, 1),
        ((2, 7, 7), (1, 1, 5), (3, 3), (1, 1), 1, (4, 2), 1),
        ((2, 7, 7), (4, 5, 5), (3, 3), (2, 2), (2, 2), 1, 2),
        ((3, 7, 9), (2, 3, 8), (5, 2), 0, 1, 1, 1),
    ],
)
def test_arguments_of_torch_conv2d(layout, x, y, kernel, padding, stride, dilation, groups):
    options = {"padding": padding, "stride": stride, "dilation": dilation, "groups": groups}
    w_shape = (y[0], x[0] // groups, *kernel)
    assert gpuconv.output_shape((1, *x), w_shape, **options) == (1, *y)
    assert conv(np.ones((1, *x)), np.ones(w_shape), layout, **options).shape == (1, *y)


def test_counts():
    """5 kernels of 2×2: 5·4 weights and 5 biases; two stacked 2×2 layers see all nine inputs."""
    assert gpuconv.parameter_count((5, 1, 2, 2), bias=False) == 20
    assert gpuconv.parameter_count((5, 1, 2, 2)) == 25
    assert gpuconv.parameter_count((2, 2, 1, 5), weight_format="HWIO") == 25
    assert gpuconv.receptive_field([(2,), (2,)]).size == (3, 3)
    # two convolutions of 3×3, the first of stride 2, the second dilated
    assert gpuconv.receptive_field([(3, 2), (3, 1, (2, 1))]) == gpuconv.ReceptiveField((11, 7), (2, 2))


@BOTH
def test_receptive_field_is_what_the_gradient_reaches(layout):
    """Ask the library itself which inputs one output of a stack sees."""
    layers = [((3, 2), (2, 1), (1, 2)), ((2, 3), (1, 2), (2, 1)), ((3, 3), (1, 1), (1, 1))]
    shapes = [(1, 1, 40, 40)]
    for kernel, stride, dilation in layers:
        shapes.append(gpuconv.output_shape(shapes[-1], (1, 1, *kernel), stride=stride, dilation=dilation))
    grad = np.zeros(shapes[-1], np.float32)
    grad[0, 0, 3, 3] = 1
    for (kernel, stride, dilation), shape in zip(layers[::-1], shapes[-2::-1], strict=True):
        options = {"stride": stride, "dilation": dilation, "data_format": layout}
        w = np.ones((1, 1, *kernel), np.float32)
        if layout == "NHWC":
            shape, w = (*shape[:1], *shape[2:], 1), w.transpose(2, 3, 1, 0)
            grad = grad.reshape(grad.shape[0], *grad.shape[-2:], 1) if grad.shape[-1] != 1 else grad
        grad = gpuconv.conv2d_input_grad(shape, w, grad, **options)
    rows, columns = np.nonzero(grad.reshape(40, 40))
    field = gpuconv.receptive_field(layers)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == field.size
    assert (rows.min(), columns.min()) == (3 * field.stride[0], 3 * field.stride[1])


def test_cost_is_linear_in_channels_and_taps_and_falls_with_stride_and_groups():
    base = gpuconv.flops((1, 8, 16, 16), (8, 8, 3, 3), padding=1)
    assert gpuconv.flops((1, 16, 16, 16), (8, 16, 3, 3), padding=1) == 2 * base
    assert gpuconv.flops((1, 8, 16, 16), (24, 8, 3, 3), padding=1) == 3 * base
    assert gpuconv.flops((1, 8, 16, 16), (8, 8, 5, 5), padding=2) * 9 == 25 * base
    assert gpuconv.flops((1, 8, 16, 16), (8, 8, 3, 3), padding=1, stride=2) * 4 == base
    assert gpuconv.flops((1, 8, 16, 16), (8, 4, 3, 3), padding=1, groups=2) * 2 == base
    assert gpuconv.flops((1, 8, 16, 16), (8, 8, 3, 3), padding=2, dilation=2) == base
