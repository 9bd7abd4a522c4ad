"""The layer: what it computes, how it begins, what it keeps, and what it refuses."""

from __future__ import annotations

import copy
import doctest
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import gpuconv
from gpuconv import Conv2D

from ..problems import NUMPY

LAYERS = {
    "plain": ((3, 4, 3), {}),
    "strided": ((3, 4, (3, 2), (2, 1), (1, 0), 1, 1, False), {}),
    "grouped": ((4, 6, 3), {"groups": 2, "dilation": 2, "padding": ((1, 2), (0, 3))}),
    "same": ((2, 2, (2, 3)), {"padding": "same", "stride": 2, "groups": 2}),
    "circular": ((2, 3, 3), {"padding": 1, "padding_mode": "circular"}),
    "channels last": ((3, 4, (3, 2)), {"padding": 1, "data_format": "NHWC", "groups": 1}),
    "grouped, channels last": ((4, 6, 3), {"groups": 2, "data_format": "NHWC", "padding": "same_lower"}),
}
EVERY = pytest.mark.parametrize(("sizes", "options"), LAYERS.values(), ids=LAYERS)


def image(layer, seed=0, dtype=np.float64):
    shape = (2, layer.in_channels, 7, 6) if layer.data_format == "NCHW" else (2, 7, 6, layer.in_channels)
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@EVERY
def test_it_is_the_functions(sizes, options):
    layer = Conv2D(*sizes, **options, dtype="float64", rng=1)
    x = image(layer)
    y = layer(x)
    names = ("stride", "padding", "dilation", "groups")
    given = {**dict(zip(names, sizes[3:7], strict=False)), **options}
    np.testing.assert_array_equal(y, gpuconv.conv2d(x, layer.weight, layer.bias, **given))
    assert layer.output_shape(x.shape) == y.shape
    grad = np.random.default_rng(2).standard_normal(y.shape)
    grad_x = layer.backward(grad)
    np.testing.assert_array_equal(grad_x, gpuconv.conv2d_input_grad(x.shape, layer.weight, grad, **given))
    np.testing.assert_array_equal(
        layer.grad_weight, gpuconv.conv2d_weight_grad(x, layer.weight.shape, grad, **given)
    )
    if layer.bias is None:
        assert layer.grad_bias is None
    else:
        np.testing.assert_array_equal(
            layer.grad_bias, gpuconv.conv2d_bias_grad(grad, data_format=layer.data_format)
        )


@EVERY
def test_gradients_are_slopes(sizes, options):
    layer = Conv2D(*sizes, **options, dtype="float64", rng=1)
    x, direction = image(layer), np.random.default_rng(3)

    def loss():
        return (layer(x) ** 2).sum() / 2

    grad_x = layer.backward(layer(x))
    gradients = [layer.grad_weight] + ([] if layer.bias is None else [layer.grad_bias])
    for array, grad in zip([x, *layer.parameters()], [grad_x, *gradients], strict=True):
        step = 1e-6 * direction.standard_normal(array.shape)
        array += step
        up = loss()
        array -= 2 * step
        down = loss()
        array += step
        assert (up - down) / 2 == pytest.approx((grad * step).sum(), rel=1e-6)


@pytest.mark.parametrize("dtype", sorted(NUMPY))
def test_dtypes(dtype):
    name = np.dtype(NUMPY[dtype]).name
    layer = Conv2D(2, 3, 3, dtype=name, rng=0)
    y = layer(image(layer, dtype=NUMPY[dtype]))
    grad_x = layer.backward(y)
    found = {
        array.dtype.name for array in (*layer.parameters(), y, grad_x, layer.grad_weight, layer.grad_bias)
    }
    assert found == {name}
    assert repr(layer) == f"Conv2D(2, 3, 3{'' if name == 'float32' else f', dtype={name!r}'})"
    assert Conv2D(1, 1, 1, dtype=NUMPY[dtype]).dtype == name


def test_first_parameters_fill_the_range():
    layer = Conv2D(8, 64, 3, groups=2, rng=0)
    reach = 1 / np.sqrt(4 * 9)
    for array in layer.parameters():
        assert np.abs(array).max() <= reach
        assert np.abs(array).max() > 0.9 * reach
        assert abs(array.mean()) < 0.1 * reach
    again = Conv2D(8, 64, 3, groups=2, rng=np.random.default_rng(0), data_format="NHWC")
    np.testing.assert_array_equal(again.weight, layer.weight.transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(again.bias, layer.bias)
    assert (Conv2D(8, 64, 3).weight != Conv2D(8, 64, 3).weight).any()


def test_counts_and_sizes():
    """Five kernels of 2×2: 5·4 weights and 5 biases."""
    layer = Conv2D(1, 5, 2)
    assert layer.parameter_count == 25
    assert [array.size for array in layer.parameters()] == [20, 5]
    assert Conv2D(1, 5, 2, bias=False).parameter_count == 20
    wide = Conv2D(3, 2, 3, stride=2, padding=1, dilation=2)
    assert wide.output_shape((1, 3, 7, 7)) == (1, 2, 3, 3)
    assert wide.receptive_field == gpuconv.ReceptiveField((5, 5), (2, 2))


def test_written_as_it_is_read():
    for text in (
        "Conv2D(3, 4, 3)",
        "Conv2D(4, 6, (3, 2), stride=2, padding=(1, 2), groups=2, bias=False)",
        "Conv2D(1, 1, 1, padding=((0, 1), (2, 2)), dilation=(1, 2), data_format='NHWC', dtype='float64')",
        "Conv2D(2, 2, 3, padding='same', padding_mode='reflect')",
    ):
        assert repr(eval(text)) == text


@EVERY
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_parameters_travel(tmp_path, sizes, options, dtype):
    if dtype not in {np.dtype(kind).name for kind in NUMPY.values()}:
        pytest.skip("ml_dtypes is not installed")
    first, second = (Conv2D(*sizes, **options, dtype=dtype, rng=seed) for seed in (0, 1))
    path = tmp_path / "weights"
    first.save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["weights"]
    second.load(path)
    third = Conv2D(*sizes, **options, dtype=dtype, rng=2)
    third.load_state_dict({**first.state_dict("a."), "b.weight": 3}, prefix="a.")
    for other in (second, third, copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        for one, two in zip(first.parameters(), other.parameters(), strict=True):
            np.testing.assert_array_equal(one, two, strict=True)
            assert not np.shares_memory(one, two)
        x = image(first, dtype=first.weight.dtype)
        np.testing.assert_array_equal(other(x), first(x))
    state = first.state_dict()
    assert state["weight"].shape == (
        first.out_channels,
        first.in_channels // first.groups,
        *first.kernel_size,
    )
    state["weight"][...] = 0
    assert (first.weight != 0).any()


def test_a_state_that_does_not_fit_changes_nothing(tmp_path):
    layer = Conv2D(2, 3, 3, rng=0)
    before = layer.state_dict()
    for wrong, error in (
        ({}, ValueError),
        ({"weight": before["weight"]}, ValueError),
        ({**before, "extra": before["bias"]}, ValueError),
        ({**before, "bias": np.zeros(2)}, ValueError),
        ({**before, "weight": before["weight"].transpose(2, 3, 1, 0)}, ValueError),
        ({**before, "bias": np.zeros(3, int)}, TypeError),
        ({**before, "bias": "three"}, TypeError),
        ([before["weight"], before["bias"]], TypeError),
    ):
        with pytest.raises(error, match=r"^(state|weight|bias) must "):
            layer.load_state_dict(wrong)
    with pytest.raises(FileNotFoundError):
        layer.load(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        layer.save(tmp_path / "none" / "weights.npz")
    for name, value in before.items():
        np.testing.assert_array_equal(layer.state_dict()[name], value)


@pytest.mark.parametrize(
    ("name", "error", "change"),
    [
        ("in_channels", ValueError, {"in_channels": 0}),
        ("in_channels", TypeError, {"in_channels": 2.0}),
        ("out_channels", TypeError, {"out_channels": True}),
        ("kernel_size", ValueError, {"kernel_size": (1, 2, 3)}),
        ("kernel_size", TypeError, {"kernel_size": "3"}),
        ("stride", ValueError, {"stride": 0}),
        ("padding", ValueError, {"padding": "full"}),
        ("padding", TypeError, {"padding": None}),
        ("dilation", ValueError, {"dilation": -1}),
        ("groups", ValueError, {"groups": 2}),
        ("groups", ValueError, {"in_channels": 4, "groups": 2}),
        ("bias", TypeError, {"bias": None}),
        ("padding_mode", ValueError, {"padding_mode": "constant"}),
        ("data_format", ValueError, {"data_format": "HWC"}),
        ("dtype", ValueError, {"dtype": "int8"}),
        ("dtype", ValueError, {"dtype": np.int32}),
        ("dtype", TypeError, {"dtype": None}),
        ("dtype", TypeError, {"dtype": 32}),
        ("rng", TypeError, {"rng": "seed"}),
        ("rng", ValueError, {"rng": -1}),
        ("xp", TypeError, {"xp": None}),
        (
            "in_channels, out_channels and kernel_size",
            ValueError,
            {"in_channels": 2**31 - 1, "kernel_size": 2**16},
        ),
    ],
)
def test_wrong_arguments_are_named(name, error, change):
    with pytest.raises(error, match=f"^{name} must "):
        Conv2D(**{"in_channels": 3, "out_channels": 5, "kernel_size": 3, **change})


def test_wrong_calls_are_named():
    layer = Conv2D(3, 4, 3, rng=0)
    x = image(layer, dtype=np.float32)
    with pytest.raises(RuntimeError, match=r"^backward needs a call to go back through"):
        layer.backward(x)
    for wrong, error in (
        (x[:, :2], ValueError), (x[0], ValueError), (x.astype(float), TypeError), (x.tolist(), TypeError),
        (x.astype(int), TypeError),
    ):  # fmt: skip
        with pytest.raises(error, match=r"^x must "):
            layer(wrong)
    y = layer(x)
    layer.backward(y)
    before = layer.grad_weight, layer.grad_bias
    for wrong, error in ((y[:, :3], ValueError), (y.astype(float), TypeError), (None, TypeError)):
        with pytest.raises(error, match=r"^grad_out must "):
            layer.backward(wrong)
    assert layer.grad_weight is before[0]
    assert layer.grad_bias is before[1]
    with pytest.raises(ValueError, match=r"^input_shape must have 3 channels in axis 1 \(NCHW\)"):
        layer.output_shape((1, 4, 7, 7))


def test_backward_is_of_the_last_call():
    """Whatever has changed since: parameters in place or replaced, options, a call that failed."""
    x = image(Conv2D(3, 4, 3), dtype=np.float64)
    wanted = Conv2D(3, 4, 3, dtype="float64", rng=0)
    grad = wanted(x) ** 2
    expected = wanted.backward(grad), wanted.grad_weight, wanted.grad_bias

    def in_place(layer):
        layer.weight *= 2

    def replaced(layer):
        layer.weight, layer.bias = layer.weight + 1, None

    def options(layer):
        layer.stride, layer.padding = (2, 2), "same"

    def a_failed_call(layer):
        with pytest.raises(ValueError, match=r"^weight must fit into the padded input"):
            layer(x[:, :, :2])

    for change in (in_place, replaced, options, a_failed_call):
        layer = Conv2D(3, 4, 3, dtype="float64", rng=0)
        layer(x)
        change(layer)
        for one, other in zip(
            (layer.backward(grad), layer.grad_weight, layer.grad_bias), expected, strict=True
        ):
            np.testing.assert_array_equal(one, other)


def test_a_gradient_that_fails_leaves_the_earlier_ones(monkeypatch):
    from gpuconv import layers

    layer = Conv2D(3, 4, 3, rng=0)
    y = layer(image(layer, dtype=np.float32))
    layer.backward(y)
    before = layer.grad_weight, layer.grad_bias

    def fails(*given, **options):
        raise MemoryError

    monkeypatch.setattr(layers, "conv2d_bias_grad", fails)
    with pytest.raises(MemoryError):
        layer.backward(2 * y)
    assert layer.grad_weight is before[0]
    assert layer.grad_bias is before[1]


@pytest.mark.parametrize(
    ("options", "size", "says"),
    [
        ({}, 2, "weight must fit into the padded input: its height of 3 spans 3"),
        ({"padding": 3, "padding_mode": "reflect"}, 3, "padding must be at most 2 along the height of 3"),
        ({"padding": 4, "padding_mode": "circular"}, 3, "padding must be at most 3 along the height of 3"),
    ],
)
def test_what_the_call_refuses_has_no_output_shape(options, size, says):
    layer = Conv2D(2, 3, 3, **options)
    shape = (1, 2, size, size)
    for call in (lambda: layer(np.zeros(shape, np.float32)), lambda: layer.output_shape(shape)):
        with pytest.raises(ValueError, match=f"^{says}"):
            call()


def test_parameters_live_where_they_are_told_to():
    """A module of another kind of array, here one that counts."""
    made = []
    xp = SimpleNamespace(asarray=lambda array: made.append(array.shape) or array)
    layer = Conv2D(2, 3, 3, xp=xp, rng=0)
    assert made == [(3, 2, 3, 3), (3,)]
    layer.load_state_dict(layer.state_dict())
    assert len(made) == 4


def test_the_page_of_doors_is_true():
    page = Path(__file__).parents[2] / "docs/doors.md"
    result = doctest.testfile(str(page), module_relative=False)
    assert result.attempted >= 8
    assert result.failed == 0
