"""Filtering one image with one kernel, as ``scipy.signal`` has it."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from typing import Any, Final, NamedTuple

import numpy as np

from gpuconv import arguments
from gpuconv.api import conv2d
from gpuconv.arguments import Padding, show
from gpuconv.backend import arrays
from gpuconv.backend.launch import Launcher
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
        Image; each channel is filtered apart. NumPy or CUDA array as in `conv2d`; of NumPy's types integers
        and bool too.
    in2 : array (R, S)
        Kernel, alike and on in1's device. CUDA arrays have one dtype; nothing is converted there.
    mode : {"full", "same", "valid"}
        ``"full"``: wherever image and kernel touch, (H + R − 1, W + S − 1); ``"same"``: the middle of that,
        (H, W); ``"valid"``: where nothing beyond the border is needed, (|H − R| + 1, |W − S| + 1). There the
        kernel may be the larger one, if it is along both axes.
    boundary : {"fill", "wrap", "symm"}
        What lies beyond the border: `fillvalue`; the image again; the image mirrored, its edge cells twice.
    fillvalue : float
        Of the cells beyond the border with ``"fill"``; 0 for CUDA arrays.

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
    in1, in2, place = _placed(in1, in2)
    (H, W, *_), (R, S) = _sizes(in1, in2)
    filled = _number(fillvalue, in1.dtype)
    if mode == "valid" and (R > H or S > W):
        if R < H or S < W:
            raise ValueError(
                "in2 must be at most as large as in1 along both axes for mode 'valid', or at least as large, "
                f"got shapes {(R, S)} and {(H, W)}"
            )
        kernels = _turned(_planes(in1, _NO_PADDING, "fill", 0, place))
        # exchanged, a cross-correlation comes out turned; turning both inputs turns it back
        y = conv2d((in2 if flips else _turned(in2))[None, None], kernels)
        return _image([y[0, c] for c in range(y.shape[1])], in1, place)
    padding = _NO_PADDING if mode == "valid" else (_sides(R, mode, flips), _sides(S, mode, flips))
    kernel = (_turned(in2) if flips else in2)[None, None]
    if boundary != "fill" or filled != 0:
        if boundary == "fill" and padding != _NO_PADDING and place.launcher is not None:
            raise ValueError(f"fillvalue must be 0 for CUDA arrays, got {show(fillvalue)}")
        y = conv2d(_planes(in1, padding, boundary, filled, place), kernel)
    else:
        y = conv2d(_planes(in1, _NO_PADDING, boundary, 0, place), kernel, padding=padding)
    return _image([y[c, 0] for c in range(y.shape[0])], in1, place)


_NO_PADDING: Final[Padding] = ((0, 0), (0, 0))


class _Place(NamedTuple):
    """Where arrays are, and how memory is had there."""

    launcher: Launcher | None
    like: Any

    def empty(self, shape: tuple[int, ...]) -> Any:
        """New array of both inputs' dtype."""
        if self.launcher is None:
            return np.empty(shape, self.like.dtype)
        dtype = arrays.dtype_of("in1", self.like, self.launcher)
        return self.launcher.empty(shape, dtype, arrays.device_of(self.like, self.launcher))

    def copy(self, source: Any, target: Any) -> None:
        """Write one array into another of its shape that shares none of its cells."""
        if self.launcher is None:
            target[...] = source
        else:
            self.launcher.copy(self.launcher.contiguous(source), target)


def _placed(in1: Any, in2: Any) -> tuple[Any, Any, _Place]:
    """Both inputs in one dtype on one device."""
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
        dtype = _common(*(_dtype(name, array) for name, array in given.items()))
        in1, in2 = (arrays.plain(array).astype(dtype, copy=False) for array in given.values())
        return in1, in2, _Place(None, in1)
    launcher = arrays.launcher()
    in1, in2 = (arrays.adopt(name, array, launcher) for name, array in given.items())
    dtypes = [arrays.dtype_of(name, view, launcher) for name, view in (("in1", in1), ("in2", in2))]
    if dtypes[0] != dtypes[1]:
        raise TypeError(
            f"in2 must have dtype {DTYPES[dtypes[0]]} like in1 on a CUDA device, got {DTYPES[dtypes[1]]}"
        )
    here, there = (arrays.index_of(view) for view in (in1, in2))
    if here != there:
        raise TypeError(
            f"in2 must be on cuda:{here} like in1, it is on cuda:{there}; nothing is copied unasked"
        )
    for name, view in (("in1", in1), ("in2", in2)):
        arrays.check_aligned(name, view, launcher)
    return in1, in2, _Place(launcher, in1)


def _dtype(name: str, array: Any) -> np.dtype[Any]:
    """The floating-point dtype that a NumPy array stands for."""
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
    """View an array with its last two axes reversed."""
    return array[..., ::-1, ::-1]


def _planes(image: Any, padding: Padding, boundary: str, filled: float, place: _Place) -> Any:
    """The channels of an image as images of one channel each, (C, 1, H, W), with what lies around them."""
    shape = arrays.shape_of(image)
    if len(shape) == 2 and padding == _NO_PADDING:
        return image[None, None]
    (top, bottom), (left, right) = padding
    H, W, *channels = shape
    room = place.empty((channels[0] if channels else 1, 1, top + H + bottom, left + W + right))
    if boundary == "fill" and padding != _NO_PADDING:
        room[...] = filled
    middle = room[:, :, top : top + H]
    for c, plane in enumerate([image[:, :, c] for c in range(channels[0])] if channels else [image]):
        place.copy(plane, middle[c, 0, :, left : left + W])
    if boundary != "fill":
        for source, target in _runs(W, left, right, boundary):
            place.copy(middle[..., source], middle[..., target])
        for source, target in _runs(H, top, bottom, boundary):
            place.copy(room[:, :, source], room[:, :, target])
    return room


def _runs(size: int, before: int, behind: int, boundary: str) -> Iterator[tuple[slice, slice]]:
    """Along one axis of a padded image, the cells to copy and the padding they go to.

    Slices instead of indices: they are views on every device.
    """
    for image in range(-before // size, (size + behind - 1) // size + 1):
        if image == 0:
            continue
        low, high = max(image * size, -before), min((image + 1) * size, size + behind)
        first, last = low - image * size, high - image * size
        if boundary == "symm" and image % 2:
            stop = before + size - 1 - last
            source = slice(before + size - 1 - first, stop if stop >= 0 else None, -1)
        else:
            source = slice(before + first, before + last)
        yield source, slice(before + low, before + high)


def _image(planes: list[Any], like: Any, place: _Place) -> Any:
    """Filtered channels as one image."""
    if len(like.shape) == 2:
        return planes[0]
    result = place.empty((*planes[0].shape, len(planes)))
    for c, plane in enumerate(planes):
        place.copy(plane, result[:, :, c])
    return result
