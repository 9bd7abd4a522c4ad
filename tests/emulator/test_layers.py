"""The layer, the TensorFlow door and the tutorials' numbers on CUDA arrays."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import gpuconv
from gpuconv.backend.launch import using
from gpuconv.compat import tensorflow as tf
from tests.cpu.test_layers import LAYERS, image
from tests.data.make_tensorflow import numbers
from tests.emulator.launcher import BareDLPack, DeviceArray, Emulator
from tests.unit.test_compat_tensorflow import ANSWERED, arrays_of, text, wanted_of


@pytest.fixture
def emulator(has_compiler):
    made = Emulator()
    with using(made):
        yield made


@pytest.mark.parametrize(("sizes", "options"), LAYERS.values(), ids=LAYERS)
def test_a_layer_lives_there(emulator, tmp_path, sizes, options):
    on_host = gpuconv.Conv2D(*sizes, **options, rng=0)
    for parameter in on_host.parameters():
        parameter[...] = np.rint(parameter * 64)
    there = gpuconv.Conv2D(*sizes, **options, xp=SimpleNamespace(asarray=emulator.array))
    there.load_state_dict(on_host.state_dict())
    x = np.rint(2 * image(on_host)).astype(np.float32)
    y, y_there = on_host(x), there(emulator.array(x))
    grad_x, grad_there = on_host.backward(np.sign(y)), there.backward(emulator.array(np.sign(y)))
    pairs = [(y, y_there), (grad_x, grad_there), (on_host.grad_weight, there.grad_weight)]
    if on_host.bias is not None:
        pairs.append((on_host.grad_bias, there.grad_bias))
    for here, other in pairs:
        assert isinstance(other, DeviceArray)
        np.testing.assert_array_equal(here, other.get(), strict=True)
    there.save(tmp_path / "weights.npz")
    on_host.load(tmp_path / "weights.npz")
    for here, other in zip(on_host.parameters(), there.parameters(), strict=True):
        np.testing.assert_array_equal(here, other.get())
    for layer, array, place in ((there, x, "a CUDA device"), (on_host, y_there, "the CPU")):
        with pytest.raises(TypeError, match=rf"^x must be on {place} like the layer, it is on"):
            layer(array)


def test_backward_there_is_of_the_last_call(emulator):
    layer = gpuconv.Conv2D(2, 3, 3, xp=SimpleNamespace(asarray=emulator.array), rng=0)
    x = emulator.array(np.ones((1, 2, 5, 5), np.float32))
    wanted = layer.backward(y := layer(x)).get()
    zeros = emulator.array(np.zeros((3, 2, 3, 3), np.float32))
    emulator.copy(zeros, layer.weight)
    np.testing.assert_array_equal(layer.backward(y).get(), wanted)
    assert not layer.backward(layer(x)).get().any()
    with pytest.raises(TypeError, match=r"^x must be on cuda:0 like the layer, it is on cuda:1"):
        layer(emulator.array(np.ones((1, 2, 5, 5), np.float32), index=1))


@pytest.mark.parametrize("entry", ANSWERED, ids=text)
def test_tensorflows_answer(emulator, entry):
    arrays = {name: emulator.array(array) for name, array in arrays_of(entry).items()}
    found = getattr(tf, entry["function"])(**arrays, **entry["arguments"])
    np.testing.assert_array_equal(found.get(), wanted_of(entry), strict=True)


def test_arrays_of_other_libraries_and_of_the_host(emulator):
    x, w = numbers((1, 5, 5, 2)), numbers((3, 3, 2, 3))
    wanted = tf.depthwise_conv2d(x, w, 1, "SAME")
    found = tf.depthwise_conv2d(BareDLPack(emulator.array(x)), BareDLPack(emulator.array(w)), 1, "SAME")
    np.testing.assert_array_equal(found.get(), wanted)
    with pytest.raises(TypeError, match=r"^filter must be on the CPU like input; nothing is copied unasked"):
        tf.depthwise_conv2d(x, emulator.array(w), 1, "SAME")
    with pytest.raises(TypeError, match=r"^filters must be on cuda:0.* like input, it is on cuda:1"):
        tf.conv2d(emulator.array(x), emulator.array(w, index=1), 1, "SAME")
