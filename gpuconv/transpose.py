"""The transposed convolution and its gradients: a convolution's own gradients, read the other way round."""

from __future__ import annotations

from typing import Any

from gpuconv.calls import Call, run
from gpuconv.options import TransposedOptions


def conv_transpose2d(
    x: Any,
    w: Any,
    bias: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
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
    """Spread each pixel of a batch of images over a window of the output: `conv2d` transposed.

    Computes ``activation(convᵀ(x, w) + bias + residual)`` in the accumulator's type and rounds once, where
    convᵀ is the gradient of `conv2d` with respect to its input: with a stride it enlarges images.

    Parameters
    ----------
    x : array (N, K, H, W), or (N, H, W, K) for NHWC
        Images: NumPy or CUDA array, as in `conv2d`.
    w : array (K, C/groups, R, S), or as `weight_format` says
        Filters of the convolution that is transposed, of x's dtype and device: O counts x's channels, I the
        output channels of one group. In OIHW this is PyTorch's (in, out/groups, R, S).
    bias : array (C,), optional
        Added to every pixel of an output channel.
    stride : int or (int, int)
        Output cells between the windows of neighbouring pixels.
    padding : int, (int, int) or ((top, bottom), (left, right))
        Cells cut from the output's edges. No words: several output sizes would be ``"same"``.
    output_padding : int or (int, int)
        Cells more at the output's bottom and right, fewer than the stride or the dilation. It chooses among
        the sizes that `conv2d` with this stride maps to x's.
    dilation : int or (int, int)
        Cells between neighbouring taps.
    groups : int
        Divides K and C.
    data_format : {"NCHW", "NHWC"}
        Order of x's, residual's and the result's axes.
    weight_format : {"OIHW", "HWIO", "OHWI"}, optional
        Order of w's axes; by default OIHW with NCHW and HWIO with NHWC.
    residual : array of the result's shape, optional
        Added before the activation.
    activation : {None, "relu"}
        Applied last; NaN stays NaN.
    precision, out, tune
        As in `conv2d`.

    Returns
    -------
    array (N, C, P, Q), or (N, P, Q, C) for NHWC
        P = (H − 1)·stride − top − bottom + dilation·(R − 1) + output_padding + 1, Q alike.

    Raises
    ------
    TypeError, ValueError, UnsupportedProblem, RuntimeError, gpuconv.errors.LaunchError
        As for `conv2d`; also if the output would have no cell.

    Notes
    -----
    The same as ``torch.nn.functional.conv_transpose2d``; ``tf.nn.conv2d_transpose`` with its filters of
    (height, width, output channels, input channels) is ``data_format="NHWC"`` with HWIO.

    Examples
    --------
    >>> import numpy as np
    >>> from gpuconv import conv_transpose2d
    >>> x = np.array([[0, 1], [2, 3]], "float32")[None, None]
    >>> conv_transpose2d(x, x)[0, 0]
    array([[ 0.,  0.,  1.],
           [ 0.,  4.,  6.],
           [ 4., 12.,  9.]], dtype=float32)
    >>> conv_transpose2d(x, np.ones((1, 1, 2, 2), "float32"), stride=2)[0, 0]
    array([[0., 0., 1., 1.],
           [0., 0., 1., 1.],
           [2., 2., 3., 3.],
           [2., 2., 3., 3.]], dtype=float32)
    """
    call = Call("dgrad", {"x": x, "w": w}, bias, residual, activation, out, tune)
    options = TransposedOptions(
        stride, padding, output_padding, dilation, groups, data_format, weight_format, precision
    )
    return run(call, options)


def conv_transpose2d_input_grad(
    w: Any,
    grad_out: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    data_format: str = "NCHW",
    weight_format: str | None = None,
    precision: str = "ieee",
    out: Any = None,
    tune: bool | None = None,
) -> Any:
    """Gradient of `conv_transpose2d` with respect to its input: `conv2d` of the gradient to its output.

    Parameters
    ----------
    w : array (K, C/groups, R, S), or as `weight_format` says
        Filters of the forward call.
    grad_out : array (N, C, P, Q), or (N, P, Q, C) for NHWC
        Gradient to the output, of w's dtype and device; the input's shape follows from its own.
    stride, padding, output_padding, dilation, groups, data_format, weight_format, precision, tune
        As in the forward call, see `conv_transpose2d`.
    out : array of the input's shape, optional
        Written and returned instead of a new array, as in `conv2d`.

    Returns
    -------
    array (N, K, H, W), or (N, H, W, K) for NHWC
        In grad_out's dtype.

    Raises
    ------
    TypeError, ValueError, UnsupportedProblem
        As for `conv_transpose2d`; also if no input gives an output of grad_out's shape.

    Notes
    -----
    What PyTorch's autograd computes for the input of ``torch.nn.functional.conv_transpose2d``.

    Examples
    --------
    >>> import numpy as np
    >>> from gpuconv import conv_transpose2d_input_grad
    >>> w = np.array([[0, 1], [2, 3]], "float32")[None, None]
    >>> conv_transpose2d_input_grad(w, np.ones((1, 1, 4, 4), "float32"), stride=2)[0, 0]
    array([[6., 6.],
           [6., 6.]], dtype=float32)
    """
    call = Call("fprop", {"w": w, "grad_out": grad_out}, out=out, tune=tune)
    options = TransposedOptions(
        stride, padding, output_padding, dilation, groups, data_format, weight_format, precision
    )
    return run(call, options)


def conv_transpose2d_weight_grad(
    x: Any,
    weight_shape: tuple[int, int, int, int],
    grad_out: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    data_format: str = "NCHW",
    weight_format: str | None = None,
    precision: str = "ieee",
    out: Any = None,
    tune: bool | None = None,
) -> Any:
    """Gradient of `conv_transpose2d` with respect to its filters, given the gradient to its output.

    That to its bias is `conv2d_bias_grad` of grad_out.

    Parameters
    ----------
    x : array (N, K, H, W), or (N, H, W, K) for NHWC
        Input of the forward call.
    weight_shape : (int, int, int, int)
        Shape of the forward filters, in `weight_format`.
    grad_out : array (N, C, P, Q), or (N, P, Q, C) for NHWC
        Gradient to the output, of x's dtype and device.
    stride, padding, output_padding, dilation, groups, data_format, weight_format, precision, tune
        As in the forward call, see `conv_transpose2d`.
    out : array of `weight_shape`, optional
        Written and returned instead of a new array, as in `conv2d`.

    Returns
    -------
    array of `weight_shape`
        In x's dtype; zeros for an empty batch.

    Raises
    ------
    TypeError, ValueError, UnsupportedProblem
        As for `conv_transpose2d`; also if grad_out's shape is not the forward output's.

    Notes
    -----
    What PyTorch's autograd computes for the weight of ``torch.nn.functional.conv_transpose2d``.

    Examples
    --------
    >>> import numpy as np
    >>> from gpuconv import conv_transpose2d_weight_grad
    >>> x = np.array([[0, 1], [2, 3]], "float32")[None, None]
    >>> grad_out = np.arange(16, dtype="float32").reshape(1, 1, 4, 4)
    >>> conv_transpose2d_weight_grad(x, (1, 1, 2, 2), grad_out, stride=2)[0, 0]
    array([[48., 54.],
           [72., 78.]], dtype=float32)
    """
    call = Call("wgrad", {"x": x, "grad_out": grad_out}, out=out, tune=tune, weight_shape=weight_shape)
    options = TransposedOptions(
        stride, padding, output_padding, dilation, groups, data_format, weight_format, precision
    )
    return run(call, options)
