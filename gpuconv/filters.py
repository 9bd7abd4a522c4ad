"""Filtering one image with one kernel, as ``scipy.signal`` has it."""

from __future__ import annotations

from math import isfinite
from typing import Any, Final

import numpy as np

from gpuconv import arguments
from gpuconv.api import conv2d
from gpuconv.arguments import Padding, show
from gpuconv.backend import arrays
from gpuconv.backend.launch import Launcher
from gpuconv.kernels.cuda import pad
from gpuconv.problem import DTYPES

_MODES: Final = ("full", "same", "valid")
_BOUNDARIES: Final = ("fill", "wrap", "symm")
#: Integers of up to so many bytes are computed in float32, which has all of them; larger ones in float64.
_FLOAT32_HOLDS: Final = 2


def correlate2d(in1: Any, in2: Any, mode: str = "full", boundary: str = "fill", fillvalue: float = 0) -> Any:
    """Cross-correlate an image with a kernel; the kernel is not flipped.

    Parameters
    ----------
    in1 : array (H, W) or (H, W, C)
        Image; each channel is filtered apart. NumPy or CUDA array as in `conv2d`, of integers or bool too.
    in2 : array (R, S)
        Kernel, alike, of any such dtype and on in1's device.
    mode : {"full", "same", "valid"}
        ``"full"``: wherever image and kernel touch, (H + R − 1, W + S − 1); ``"same"``: the middle of that,
        (H, W); ``"valid"``: where nothing beyond the border is needed, (|H − R| + 1, |W − S| + 1). There the
        kernel may be the larger one, if it is along both axes.
    boundary : {"fill", "wrap", "symm"}
        What lies beyond the border: `fillvalue`; the image again; the image mirrored, its edge cells twice.
    fillvalue : float
        Of the cells beyond the border with ``"fill"``.

    Returns
    -------
    array (P, Q) or (P, Q, C)
        Of the smallest dtype for both: float16, bfloat16, float32 and float64 stand for themselves, integers
        of 8 and 16 bits and bool for float32, wider ones for float64.

    Raises
    ------
    TypeError, ValueError
        For a wrong argument, before anything is computed; the message names it and what is allowed.
    UnsupportedProblem, RuntimeError, gpuconv.errors.LaunchError
        As for `conv2d`, which computes it.

    Notes
    -----
    The same as ``scipy.signal.correlate2d`` for real arrays, except that integers give floats: exact ones as
    long as every sum stays within 2**24 in float32 and 2**53 in float64. The error bound is `conv2d`'s. A NaN
    stays within reach of the kernel.

    Examples
    --------
    >>> import numpy as np
    >>> from gpuconv import correlate2d
    >>> image = np.array([[0, 1, 2], [3, 4, 5], [6, 7, 8]], "uint8")
    >>> correlate2d(image, np.array([[0, 1], [2, 3]], "uint8"), mode="valid")
    array([[19., 25.],
           [37., 43.]], dtype=float32)
    """
    return _filtered(in1, in2, mode, boundary, fillvalue, flips=False)


def convolve2d(in1: Any, in2: Any, mode: str = "full", boundary: str = "fill", fillvalue: float = 0) -> Any:
    """Convolve an image with a kernel: cross-correlate it with the kernel turned by 180 degrees.

    Parameters
    ----------
    in1, in2, mode, boundary, fillvalue
        As for `correlate2d`.

    Returns
    -------
    array (P, Q) or (P, Q, C)
        As for `correlate2d`.

    Raises
    ------
    TypeError, ValueError, UnsupportedProblem, RuntimeError, gpuconv.errors.LaunchError
        As for `correlate2d`.

    Notes
    -----
    The same as ``scipy.signal.convolve2d``, with the exceptions of `correlate2d`. ``"same"`` with a kernel of
    even size takes the other middle than `correlate2d` takes, as in SciPy.

    Examples
    --------
    A single bright cell becomes the kernel:

    >>> import numpy as np
    >>> from gpuconv import convolve2d
    >>> image = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]], "uint8")
    >>> convolve2d(image, np.array([[1, 2, 3], [4, 5, 6]], "uint8"), mode="same")
    array([[0., 0., 0.],
           [1., 2., 3.],
           [4., 5., 6.]], dtype=float32)
    """
    return _filtered(in1, in2, mode, boundary, fillvalue, flips=True)


def _filtered(in1: Any, in2: Any, mode: Any, boundary: Any, fillvalue: Any, *, flips: bool) -> Any:
    mode = arguments.choice("mode", mode, _MODES)
    boundary = arguments.choice("boundary", boundary, _BOUNDARIES)
    in1, in2, launcher = _placed(in1, in2)
    dtype = _common(*(_dtype(name, array) for name, array in (("in1", in1), ("in2", in2))))
    (H, W, *_), (R, S) = _sizes(in1, in2)
    filled = _number(fillvalue, dtype)
    if mode == "valid" and (R > H or S > W):
        if R < H or S < W:
            raise ValueError(
                "in2 must be at most as large as in1 along both axes for mode 'valid', or at least as large, "
                f"got shapes {(R, S)} and {(H, W)}"
            )
        # exchanged, a cross-correlation comes out turned; turning both inputs turns it back
        images = _planes(in2 if flips else _turned(in2), dtype, launcher)
        kernels = _planes(_turned(in1), dtype, launcher)
        return _image(conv2d(images, kernels)[0], in1, launcher)
    kernel = _planes(_turned(in2) if flips else in2, dtype, launcher)
    padding = _NO_PADDING if mode == "valid" else (_sides(R, mode, flips), _sides(S, mode, flips))
    if boundary == "fill" and filled == 0:
        y = conv2d(_planes(in1, dtype, launcher), kernel, padding=padding)
    else:
        y = conv2d(_planes(in1, dtype, launcher, padding, boundary, filled), kernel)
    return _image(y[:, 0], in1, launcher)


_NO_PADDING: Final[Padding] = ((0, 0), (0, 0))


def _placed(in1: Any, in2: Any) -> tuple[Any, Any, Launcher | None]:
    """Both inputs as plain arrays or views on one device."""
    given = {"in1": in1, "in2": in2}
    for name, array in given.items():
        arrays.check_array(name, array)
    hosts = [isinstance(array, np.ndarray) for array in given.values()]
    if hosts[0] != hosts[1]:
        places = ("on a CUDA device", "on the CPU")
        raise TypeError(
            f"in2 must be {places[hosts[0]]} like in1, it is {places[hosts[1]]}; nothing is copied unasked"
        )
    if hosts[0]:
        return arrays.plain(in1), arrays.plain(in2), None
    launcher = arrays.launcher()
    in1, in2 = (arrays.adopt(name, array, launcher) for name, array in given.items())
    here, there = (arrays.index_of(view) for view in (in1, in2))
    if here != there:
        raise TypeError(
            f"in2 must be on cuda:{here} like in1, it is on cuda:{there}; nothing is copied unasked"
        )
    for name, view in (("in1", in1), ("in2", in2)):
        arrays.check_byte_order(name, view.dtype)
        arrays.check_aligned(name, view, launcher)
    return in1, in2, launcher


def _dtype(name: str, array: Any) -> np.dtype[Any]:
    """The floating-point dtype that an array's stands for."""
    dtype = array.dtype
    if dtype.kind in "biu":
        return np.dtype(np.float32 if dtype.itemsize <= _FLOAT32_HOLDS else np.float64)
    if dtype.name not in DTYPES.values():
        hint = f"; filter {name}.real and {name}.imag apart" if dtype.kind == "c" else ""
        allowed = ", ".join(DTYPES.values())
        raise TypeError(f"{name} must be of integers, bool, {allowed}, got {dtype.name}{hint}")
    native: np.dtype[Any] = dtype.newbyteorder("=")
    return native


def _common(a: np.dtype[Any], b: np.dtype[Any]) -> np.dtype[Any]:
    """The smallest dtype that holds all numbers of two; NumPy knows none for the two of 16 bits."""
    return np.dtype(np.float32) if a != b and a.itemsize == b.itemsize else np.promote_types(a, b)


def _sizes(in1: Any, in2: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    image, kernel = arrays.shape_of(in1), arrays.shape_of(in2)
    if len(image) not in (2, 3):
        raise ValueError(f"in1 must have shape (H, W) or (H, W, C), got {image}")
    if len(kernel) != 2:
        raise ValueError(f"in2 must have shape (R, S), got {kernel}")
    for name, shape in (("in1", image), ("in2", kernel)):
        if 0 in shape:
            raise ValueError(f"{name} must have no empty dimension, got shape {shape}")
    return image, kernel


def _number(value: Any, dtype: Any) -> float:
    """`fillvalue` if it is a real number that the dtype can hold."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"fillvalue must be a real number, got {show(value)} ({type(value).__name__})")
    try:
        number = float(value)
        with np.errstate(over="ignore"):
            fits = not isfinite(number) or bool(np.isfinite(np.array(number).astype(dtype)))
    except OverflowError:  # an integer beyond float64
        fits = False
    if not fits:
        raise ValueError(f"fillvalue must be within the range of {dtype.name}, got {show(value)}")
    return number


def _sides(taps: int, mode: str, flips: bool) -> tuple[int, int]:
    """Cells needed before and behind the image along one axis."""
    if mode == "full":
        return taps - 1, taps - 1
    # SciPy counts the middle from the kernel's first cell, and a convolution turns the kernel
    first, rest = (taps - 1) // 2, taps // 2
    return (rest, first) if flips else (first, rest)


def _turned(array: Any) -> Any:
    """View an array with its rows and its columns reversed."""
    return array[::-1, ::-1]


def _planes(
    image: Any,
    dtype: np.dtype[Any],
    launcher: Launcher | None,
    padding: Padding = _NO_PADDING,
    boundary: str = "fill",
    filled: float = 0,
) -> Any:
    """The channels of an image as images of one channel each, (C, 1, H, W), with what lies around them."""
    if launcher is None:
        image = image.astype(dtype, copy=False)
    if len(image.shape) == 2 and padding == _NO_PADDING and image.dtype == dtype:
        return image[None, None]
    if launcher is None:
        planes = np.atleast_3d(image).transpose(2, 0, 1)[:, None]
        sides = ((0, 0), (0, 0), *padding)
        if boundary == "fill":
            return np.pad(planes, sides, constant_values=filled)
        return np.pad(planes, sides, "wrap" if boundary == "wrap" else "symmetric")
    H, W, *channels = image.shape
    (top, bottom), (left, right) = padding
    shape = (*(channels or [1]), 1, top + H + bottom, left + W + right)
    device = arrays.device_of(image, launcher)
    room = launcher.empty(shape, pad.short_name(dtype), device)
    pad.enqueue(image, room, padding, boundary, filled, device, launcher)
    return room


def _image(planes: Any, like: Any, launcher: Launcher | None) -> Any:
    """Filtered channels, (C, P, Q), as one image."""
    if len(like.shape) == 2:
        return planes[0]
    image = planes.transpose(1, 2, 0)
    return np.ascontiguousarray(image) if launcher is None else launcher.contiguous(image)
