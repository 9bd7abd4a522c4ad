"""The transposed convolution on CUDA arrays, through dispatch and the real kernels."""

from __future__ import annotations

import numpy as np
import pytest

import gpuconv
from gpuconv.backend.launch import using
from tests.emulator.launcher import SCHEDULES, BareDLPack, DeviceArray, Emulator
from tests.problems import NUMPY
from tests.transposed import Transposed, by_taps

CASES = (
    Transposed(2, 6, 4, 5, 7, 3, 3),
    Transposed(2, 6, 4, 5, 6, 3, 3, (2, 2), ((1, 1), (1, 1)), (1, 1)),
    Transposed(1, 5, 3, 4, 4, 4, 4, (2, 2), ((1, 1), (1, 1)), layout="nhwc", weights="hwio", dtype="f16"),
    Transposed(2, 6, 9, 5, 4, 3, 2, (3, 1), ((0, 2), (1, 0)), (2, 0), (1, 2), 3, "nhwc", "ohwi", "bf16"),
    Transposed(1, 4, 4, 6, 5, 3, 3, (2, 2), ((1, 1), (1, 1)), (1, 0), groups=4, dtype="f64"),
    Transposed(0, 2, 2, 3, 3, 2, 2),
    # rows and columns that no input reaches
    Transposed(2, 3, 2, 3, 4, 2, 2, dilation=(2, 3), output_padding=(1, 2)),
    Transposed(1, 2, 4, 3, 2, 2, 3, (2, 1), ((1, 0), (0, 1)), (4, 3), (5, 4), 2, "nhwc", "ohwi", "f16"),
)


def exact(t, x, w, bias, residual):
    along = [1, 1, 1, 1]
    along[t.layout.index("c")] = t.C
    found = by_taps(t, x, w) + bias.astype(float).reshape(along) + residual.astype(float)
    return np.maximum(found, 0).astype(NUMPY[t.dtype])


@pytest.mark.parametrize("schedule", SCHEDULES[::3], ids=str)
@pytest.mark.parametrize("t", CASES, ids=str)
def test_it_and_its_gradients_are_exact(has_compiler, t, schedule):
    emulator = Emulator(schedule=schedule)
    x, w, grad = t.integers(0)
    bias = np.arange(-1, t.C - 1).astype(NUMPY[t.dtype])
    on = {"x": x, "w": w, "grad": grad, "bias": bias}
    on = {name: emulator.array(array, offset=1) for name, array in on.items()}
    with using(emulator):
        y = gpuconv.conv_transpose2d(
            on["x"], on["w"], on["bias"], residual=on["grad"], activation="relu", **t.options
        )
        assert isinstance(y, DeviceArray)
        np.testing.assert_array_equal(y.get(), exact(t, x, w, bias, grad), strict=True)
        out = emulator.array(np.full(t.shapes[2], np.nan, NUMPY[t.dtype]), offset=3)
        plain = gpuconv.conv_transpose2d(BareDLPack(on["x"]), BareDLPack(on["w"]), out=out, **t.options)
        assert plain is out
        np.testing.assert_array_equal(out.get(), by_taps(t, x, w).astype(NUMPY[t.dtype]))
        grad_x = gpuconv.conv_transpose2d_input_grad(on["w"], on["grad"], **t.options).get()
        out = emulator.array(np.full(x.shape, np.nan, x.dtype), offset=1)
        assert gpuconv.conv_transpose2d_input_grad(on["w"], on["grad"], out=out, **t.options) is out
        np.testing.assert_array_equal(out.get(), grad_x)
        grad_w = gpuconv.conv_transpose2d_weight_grad(on["x"], w.shape, on["grad"], **t.options).get()
    np.testing.assert_array_equal(grad_x, gpuconv.conv_transpose2d_input_grad(w, grad, **t.options))
    np.testing.assert_array_equal(grad_w, gpuconv.conv_transpose2d_weight_grad(x, w.shape, grad, **t.options))


def test_arguments_are_checked_as_elsewhere(has_compiler):
    emulator = Emulator()
    x, w = np.ones((1, 2, 4, 4), np.float32), np.ones((2, 3, 3, 3), np.float32)
    with using(emulator):
        with pytest.raises(TypeError, match=r"^w must be on a CUDA device like x"):
            gpuconv.conv_transpose2d(emulator.array(x), w)
        with pytest.raises(TypeError, match=r"^grad_out must be on cpu.* like w"):
            gpuconv.conv_transpose2d_input_grad(w, emulator.array(x))
        with pytest.raises(ValueError, match=r"^output_padding must be below"):
            gpuconv.conv_transpose2d(emulator.array(x), emulator.array(w), output_padding=1)
    assert not emulator.launched
