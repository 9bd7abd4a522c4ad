"""The public door: arrays in, arrays out."""

from __future__ import annotations

from itertools import product
from typing import Any, Final

import numpy as np

from gpuconv import arguments
from gpuconv.backend import arrays
from gpuconv.calls import Call, run
from gpuconv.kernels.cuda import bias_grad
from gpuconv.layout import common_shape, common_view
from gpuconv.options import Options

_SUMMED_AT_ONCE: Final = 2**16


def conv2d(
    x: Any,
    w: Any,
    bias: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    padding_mode: str = "zeros",
    dilation: Any = 1,
    groups: int = 1,
    data_format: str = "NCHW",
    weight_format: str | None = None,
    residual: Any = None,
    activation: str | None = None,
    precision: str = "ieee",
    out: Any = None,
    tune: bool | None = None,
) -> Any:
    """Convolve a batch of images with a bank of filters (cross-correlation, as deep learning has it).

    Computes ``activation(conv(x, w) + bias + residual)`` in the accumulator's type and rounds once. float16
    and bfloat16 accumulate in float32. The same call gives the same bits on every run, whatever the number
    of threads.

    Parameters
    ----------
    x : array (N, C, H, W), or (N, H, W, C) for NHWC
        Images: NumPy array, or CUDA array of any library that speaks ``__cuda_array_interface__`` or DLPack;
        float16, bfloat16 (ml_dtypes), float32 or float64; any strides, but CUDA arrays that are not
        contiguous are copied.
    w : array (K, C/groups, R, S), or as `weight_format` says
        Filters, of x's dtype and device.
    bias : array (K,), optional
        Added to every pixel of an output channel.
    stride : int or (int, int)
        Cells between neighbouring windows, vertical and horizontal.
    padding : int, (int, int), ((top, bottom), (left, right)) or str
        Cells around x. ``"same"``: ⌈H/stride⌉ outputs, the odd cell at the bottom and right, as TensorFlow
        has it at every stride; ``"same_lower"``: the odd cell at the top and left; ``"valid"``: none.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}
        What these cells hold: zeros; x mirrored at its outermost cells (less than H and W of them); the
        nearest cell of x; x again (at most H and W).
    dilation : int or (int, int)
        Cells between neighbouring taps.
    groups : int
        Divides C and K; channels are cut into that many independent convolutions. ``groups=C`` is depthwise.
    data_format : {"NCHW", "NHWC"}
        Order of x's, residual's and the result's axes.
    weight_format : {"OIHW", "HWIO", "OHWI"}, optional
        Order of w's axes; by default OIHW with NCHW and HWIO with NHWC. I counts C/groups.
    residual : array of the result's shape, optional
        Added before the activation.
    activation : {None, "relu"}
        Applied last; NaN stays NaN.
    precision : {"ieee", "tf32", "tf32x3", "relaxed"}
        How products may be rounded where hardware offers it; the tf32 kinds go with float32 only. The CPU
        computes all of them as ieee.
    out : array of the result's shape, optional
        Written and returned instead of a new array; any strides, no overlap with an input. A call that
        raises on its arguments leaves it untouched; an interrupt may leave it half-written. With CUDA arrays
        that are contiguous, no call after the first allocates a result or compiles.
    tune : bool, optional
        True finds out first what is fastest for this problem here, unless that is known; it takes seconds,
        once, and what is found is kept for later processes too. Another plan may give other last bits, within
        the same bound. By default as `gpuconv.tuning` and GPUCONV_TUNE have it.

    Returns
    -------
    array (N, K, P, Q), or (N, P, Q, K) for NHWC
        P = ⌊(H + top + bottom − dilation·(R−1) − 1) / stride⌋ + 1, Q alike. For CUDA arrays a CuPy array on
        their device; it is computed on CuPy's current stream there, and nothing waits for it.

    Raises
    ------
    TypeError, ValueError
        For a wrong argument, before anything is computed; the message names it and what is allowed.
    UnsupportedProblem
        If no kernel runs this problem on x's device.
    RuntimeError
        For CUDA arrays where CuPy or the driver is missing.
    gpuconv.errors.LaunchError
        If a kernel failed on a CUDA device, which is then lost to the process.

    Warns
    -----
    RuntimeWarning
        If a CUDA device refuses the best plan, and the next one computes instead, from now on; if tuning came
        to nothing, met a wrong result, which is not used, or could not be kept.

    Notes
    -----
    The definition is that of TensorFlow's ``tf.nn.conv2d`` and PyTorch's ``torch.nn.functional.conv2d``,
    that of `padding_mode` PyTorch's ``torch.nn.Conv2d``. The error bound is stated in
    `gpuconv.validate.tolerance`.

    Examples
    --------
    >>> import numpy as np
    >>> from gpuconv import conv2d
    >>> x = np.array([[0, 1, 2], [3, 4, 5], [6, 7, 8]], "float32")
    >>> w = np.array([[0, 1], [2, 3]], "float32")
    >>> conv2d(x[None, None], w[None, None])[0, 0]
    array([[19., 25.],
           [37., 43.]], dtype=float32)
    """
    call = Call("fprop", {"x": x, "w": w}, bias, residual, activation, out, tune)
    options = Options(stride, padding, dilation, groups, data_format, weight_format, precision, padding_mode)
    return run(call, options)


def conv2d_input_grad(
    input_shape: tuple[int, int, int, int],
    w: Any,
    grad_out: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    padding_mode: str = "zeros",
    dilation: Any = 1,
    groups: int = 1,
    data_format: str = "NCHW",
    weight_format: str | None = None,
    precision: str = "ieee",
    out: Any = None,
    tune: bool | None = None,
) -> Any:
    """Gradient of `conv2d` with respect to its input, given the gradient to its output.

    Parameters
    ----------
    input_shape : (int, int, int, int)
        Shape of the forward input, in `data_format`.
    w : array (K, C/groups, R, S), or as `weight_format` says
        Filters of the forward convolution.
    grad_out : array (N, K, P, Q), or (N, P, Q, K) for NHWC
        Gradient to the output, of w's dtype and device.
    stride, padding, padding_mode, dilation, groups, data_format, weight_format, precision, tune
        As in the forward call, see `conv2d`.
    out : array of `input_shape`, optional
        Written and returned instead of a new array, as in `conv2d`.

    Returns
    -------
    array of `input_shape`
        In grad_out's dtype.

    Raises
    ------
    TypeError, ValueError, UnsupportedProblem
        As for `conv2d`; also if grad_out's shape is not the forward output's.

    Notes
    -----
    The same as ``torch.nn.grad.conv2d_input`` and ``tf.raw_ops.Conv2DBackpropInput``.

    Examples
    --------
    >>> import numpy as np
    >>> from gpuconv import conv2d_input_grad
    >>> w = np.array([[0, 1], [2, 3]], "float32")[None, None]
    >>> conv2d_input_grad((1, 1, 3, 3), w, np.ones((1, 1, 2, 2), "float32"))[0, 0]
    array([[0., 1., 1.],
           [2., 6., 4.],
           [2., 5., 3.]], dtype=float32)
    """
    call = Call("dgrad", {"w": w, "grad_out": grad_out}, out=out, tune=tune, input_shape=input_shape)
    options = Options(stride, padding, dilation, groups, data_format, weight_format, precision, padding_mode)
    return run(call, options)


def conv2d_weight_grad(
    x: Any,
    weight_shape: tuple[int, int, int, int],
    grad_out: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    padding_mode: str = "zeros",
    dilation: Any = 1,
    groups: int = 1,
    data_format: str = "NCHW",
    weight_format: str | None = None,
    precision: str = "ieee",
    out: Any = None,
    tune: bool | None = None,
) -> Any:
    """Gradient of `conv2d` with respect to its filters, given the gradient to its output.

    Parameters
    ----------
    x : array (N, C, H, W), or (N, H, W, C) for NHWC
        Input of the forward convolution.
    weight_shape : (int, int, int, int)
        Shape of the forward filters, in `weight_format`.
    grad_out : array (N, K, P, Q), or (N, P, Q, K) for NHWC
        Gradient to the output, of x's dtype and device.
    stride, padding, padding_mode, dilation, groups, data_format, weight_format, precision, tune
        As in the forward call, see `conv2d`.
    out : array of `weight_shape`, optional
        Written and returned instead of a new array, as in `conv2d`.

    Returns
    -------
    array of `weight_shape`
        In x's dtype; zeros for an empty batch.

    Raises
    ------
    TypeError, ValueError, UnsupportedProblem
        As for `conv2d`; also if grad_out's shape is not the forward output's.

    Notes
    -----
    The same as ``torch.nn.grad.conv2d_weight`` and ``tf.raw_ops.Conv2DBackpropFilter``.

    Examples
    --------
    >>> import numpy as np
    >>> from gpuconv import conv2d_weight_grad
    >>> x = np.arange(9, dtype="float32").reshape(1, 1, 3, 3)
    >>> conv2d_weight_grad(x, (1, 1, 2, 2), np.ones((1, 1, 2, 2), "float32"))[0, 0]
    array([[ 8., 12.],
           [20., 24.]], dtype=float32)
    """
    call = Call("wgrad", {"x": x, "grad_out": grad_out}, out=out, tune=tune, weight_shape=weight_shape)
    options = Options(stride, padding, dilation, groups, data_format, weight_format, precision, padding_mode)
    return run(call, options)


def conv2d_bias_grad(grad_out: Any, *, data_format: str = "NCHW") -> Any:
    """Gradient of `conv2d` with respect to its bias: the sum over images and pixels.

    Parameters
    ----------
    grad_out : array (N, K, P, Q), or (N, P, Q, K) for NHWC
        Gradient to the output.
    data_format : {"NCHW", "NHWC"}
        Order of its axes.

    Returns
    -------
    array (K,)
        In grad_out's dtype, within the error bound whatever the numbers are; zeros for an empty batch. The
        CPU sums in float64, CUDA devices in the accumulator's type and always in the same order.

    Raises
    ------
    TypeError, ValueError
        For a wrong argument.
    UnsupportedProblem, RuntimeError, gpuconv.errors.LaunchError
        For a CUDA array, as for `conv2d`.

    Notes
    -----
    The same as ``tf.raw_ops.BiasAddGrad``.

    Examples
    --------
    >>> import numpy as np
    >>> from gpuconv import conv2d_bias_grad
    >>> conv2d_bias_grad(np.ones((2, 3, 4, 4), "float32"))
    array([32., 32., 32.], dtype=float32)
    """
    arrays.check_array("grad_out", grad_out)
    launcher = None
    if not isinstance(grad_out, np.ndarray):
        launcher = arrays.launcher()
        grad_out = arrays.adopt("grad_out", grad_out, launcher)
    dtype = arrays.dtype_of("grad_out", grad_out, launcher)
    layout, _ = arguments.layouts(data_format, None)
    shape = arrays.shape_of(grad_out)
    if len(shape) != 4 or min(shape[1:]) < 1:
        order = ", ".join(data_format)
        raise ValueError(f"grad_out must have four dimensions ({order}), only N empty, got shape {shape}")
    if launcher is not None:
        arrays.check_aligned("grad_out", grad_out, launcher)
        device = arrays.device_of(grad_out, launcher)
        result = launcher.empty((common_shape(shape, layout)[1],), dtype, device)
        whole = launcher.contiguous(grad_out)
        bias_grad.enqueue(shape, layout, dtype, whole, result, device, launcher)
        return result
    values = common_view(np.asarray(grad_out), layout)
    N, channels, height, width = values.shape
    # in float64, a few elements at a time: they are copied, and the error must not grow with their number
    columns = max(1, min(width, _SUMMED_AT_ONCE // channels))
    rows = max(1, min(height, _SUMMED_AT_ONCE // (channels * columns)))
    images = max(1, _SUMMED_AT_ONCE // (channels * rows * columns))
    total = np.zeros(channels)
    with np.errstate(all="ignore"):  # NaN and overflow are results here, not accidents
        for n, y, x in product(range(0, N, images), range(0, height, rows), range(0, width, columns)):
            part = values[n : n + images, :, y : y + rows, x : x + columns].transpose(1, 0, 2, 3)
            total += part.astype(np.float64, order="C").reshape(channels, -1).sum(axis=1)
        return total.astype(values.dtype.newbyteorder("="))
