"""Patches of images: laid out for a matrix product, and summed back."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from gpuconv import arguments, settings
from gpuconv.backend import arrays
from gpuconv.backend.launch import Launcher
from gpuconv.kernels.cpu import unfold as on_cpu
from gpuconv.kernels.cuda import unfold as on_cuda
from gpuconv.layout import common_shape
from gpuconv.options import Options
from gpuconv.problem import ITEMSIZE, ConvProblem


def unfold(
    x: Any,
    kernel_size: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    data_format: str = "NCHW",
    out: Any = None,
) -> Any:
    """Lay out the patches of a batch of images that a convolution sees; with a matrix product it is one.

    Parameters
    ----------
    x : array (N, C, H, W), or (N, H, W, C) for NHWC
        Images: NumPy or CUDA array, as in `conv2d`.
    kernel_size : int or (int, int)
        Height and width of a patch, R and S.
    stride, padding, dilation
        As in `conv2d`, words for the padding included.
    data_format : {"NCHW", "NHWC"}
        Order of x's axes; it decides the result's order too.
    out : array of the result's shape, optional
        Written and returned instead of a new array, as in `conv2d`.

    Returns
    -------
    array (N, C·R·S, P·Q), or (N, P, Q, R·S·C) for NHWC
        The cells themselves, bit by bit, and zeros where a patch lies on the padding.

    Raises
    ------
    TypeError, ValueError
        For a wrong argument, before anything is computed; the message names it and what is allowed.
    UnsupportedProblem
        If no kernel runs it on x's device.

    Notes
    -----
    The order is that of ``torch.nn.Unfold`` for NCHW and of ``tf.image.extract_patches`` for NHWC.

    Examples
    --------
    The convolution of `conv2d`'s example as a product:

    >>> import numpy as np
    >>> from gpuconv import unfold
    >>> x = np.array([[0, 1, 2], [3, 4, 5], [6, 7, 8]], "float32")[None, None]
    >>> unfold(x, 2)[0]
    array([[0., 1., 3., 4.],
           [1., 2., 4., 5.],
           [3., 4., 6., 7.],
           [4., 5., 7., 8.]], dtype=float32)
    >>> np.array([[0, 1, 2, 3]], "float32") @ unfold(x, 2)[0]
    array([[19., 25., 37., 43.]], dtype=float32)
    """
    x, launcher = _adopted("x", x)
    dtype = arrays.dtype_of("x", x, launcher)
    options = Options(stride, padding, dilation, 1, data_format)
    problem = _problem(options, "x", arrays.shape_of(x), kernel_size, dtype)
    return _run(problem, "x", x, _cols_shape(problem), launcher, out, folds=False)


def fold(
    cols: Any,
    input_shape: tuple[int, int, int, int],
    kernel_size: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    data_format: str = "NCHW",
    out: Any = None,
) -> Any:
    """Sum patches back into images where they overlap: the adjoint of `unfold`, and so its gradient.

    Parameters
    ----------
    cols : array (N, C·R·S, P·Q), or (N, P, Q, R·S·C) for NHWC
        Patches, as `unfold` lays them out.
    input_shape : (int, int, int, int)
        Shape of the images, in `data_format`.
    kernel_size, stride, padding, dilation, data_format
        As for `unfold`.
    out : array of `input_shape`, optional
        Written and returned instead of a new array, as in `conv2d`.

    Returns
    -------
    array of `input_shape`
        Each cell the sum of what the patches have there, in the accumulator's type, within `conv2d`'s error
        bound, and rounded once; 0 where no patch lies. What lies on the padding is dropped.

    Raises
    ------
    TypeError, ValueError, UnsupportedProblem
        As for `unfold`; also if cols' shape is not what `unfold` gives.

    Notes
    -----
    The same as ``torch.nn.Fold`` for NCHW.

    Examples
    --------
    Every cell times the number of patches that it lies in:

    >>> import numpy as np
    >>> from gpuconv import fold, unfold
    >>> x = np.ones((1, 1, 3, 3), "float32")
    >>> fold(unfold(x, 2), x.shape, 2)[0, 0]
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]], dtype=float32)
    """
    cols, launcher = _adopted("cols", cols)
    dtype = arrays.dtype_of("cols", cols, launcher)
    options = Options(stride, padding, dilation, 1, data_format)
    problem = _problem(options, "input_shape", input_shape, kernel_size, dtype)
    expected = _cols_shape(problem)
    if arrays.shape_of(cols) != expected:
        raise ValueError(f"cols must have shape {expected}, got {arrays.shape_of(cols)}")
    return _run(problem, "cols", cols, problem.x_shape, launcher, out, folds=True)


def _adopted(name: str, array: Any) -> tuple[Any, Launcher | None]:
    arrays.check_array(name, array)
    if isinstance(array, np.ndarray):
        return arrays.plain(array), None
    launcher = arrays.launcher()
    return arrays.adopt(name, array, launcher), launcher


def _problem(options: Options, name: str, shape: Any, kernel_size: Any, dtype: str) -> ConvProblem:
    """The convolution with one filter that sees the same patches."""
    taps = arguments.pair("kernel_size", kernel_size)
    layout, _ = arguments.layouts(options.data_format, None)
    if isinstance(shape, (tuple, list)) and len(shape) != 4:
        order = ", ".join(layout.upper())
        raise ValueError(f"{name} must have four dimensions ({order}), got shape {tuple(shape)}")
    shape = arguments.shape4(name, shape)
    channels = common_shape(shape, layout)[1]
    if channels < 1:
        raise ValueError(f"{name} must have no empty dimension but the batch, got shape {shape}")
    p = options._replace(weight_format="OIHW").problem(
        "fprop", (name, shape), ("kernel_size", (1, channels, *taps)), dtype
    )
    if prod(_cols_shape(p)) * ITEMSIZE[dtype] >= 2**63:
        raise ValueError(f"kernel_size must keep patches within 64-bit addresses, got {_cols_shape(p)}")
    return p


def _cols_shape(p: ConvProblem) -> tuple[int, ...]:
    if p.layout == "nchw":
        return p.N, p.C * p.R * p.S, p.P * p.Q
    return p.N, p.P, p.Q, p.R * p.S * p.C


def _run(
    p: ConvProblem,
    name: str,
    source: Any,
    shape: tuple[int, ...],
    launcher: Launcher | None,
    out: Any,
    *,
    folds: bool,
) -> Any:
    device, target = arrays.device_of(source, launcher), None
    if launcher is not None:
        arrays.check_aligned(name, source, launcher)
    if out is not None:
        target = arrays.check_out(out, shape, p.dtype, device, {name: source}, launcher)
    if launcher is None:
        if target is None:
            out = target = np.empty(shape, source.dtype.newbyteorder("="))
        (on_cpu.fold if folds else on_cpu.unfold)(p, source, target, device)
        return out
    whole = launcher.contiguous(source)
    if whole is not source:
        settings.log("launch", f"{name} is not contiguous and is copied  # patches of '{p}'")
    if target is not None and arrays.is_contiguous(target):
        result = target
    else:
        result = launcher.empty(shape, p.dtype, device)
    on_cuda.enqueue(p, whole, result, device, launcher, folds=folds)
    if target is None:
        return result
    if result is not target:
        launcher.copy(result, target)
    return out
