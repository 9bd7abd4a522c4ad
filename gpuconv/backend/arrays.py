"""What an argument is: a NumPy array, an array on a device, or neither; no GPU library is imported for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpuconv.arguments import show
from gpuconv.backend import device
from gpuconv.backend.device import Device
from gpuconv.problem import DTYPES

#: Candidates tried before two interleaved views count as overlapping.
_OVERLAP_WORK = 10_000
_SHORT = {name: short for short, name in DTYPES.items()}


def check_array(name: str, array: Any) -> None:
    """Raise ``TypeError`` unless `array` is a NumPy array or an array on a CUDA device."""
    if isinstance(array, np.ndarray):
        if isinstance(array, np.ma.MaskedArray):
            raise TypeError(
                f"{name} must not be masked: a convolution has no mask; fill it first, {name}.filled(0)"
            )
        return
    try:
        interface = array.__cuda_array_interface__
    except AttributeError:
        pass
    except Exception as error:  # it is the caller's property, which may raise anything
        raise TypeError(f"{name} has a damaged __cuda_array_interface__: {show(error)}") from None
    else:
        if not _is_interface(interface):
            raise TypeError(f"{name} has a damaged __cuda_array_interface__: {show(interface)}")
        return
    kind = f"{type(array).__module__}.{type(array).__qualname__}".removeprefix("builtins.")
    raise TypeError(f"{name} must be a NumPy array or a CUDA array, got {kind}")


def _is_interface(value: Any) -> bool:
    try:
        np.dtype(value["typestr"])
        return all(type(size) is int and size >= 0 for size in value["shape"])
    except Exception:  # whatever it is, it is no interface
        return False


def _attribute(value: Any, name: str) -> Any:
    try:
        return getattr(value, name, None)
    except Exception:  # another library's property may raise anything; the interface says enough
        return None


def device_of(array: Any) -> Device:
    """Device that a checked array lies on."""
    if isinstance(array, np.ndarray):
        return device.cpu()
    where = _attribute(array, "device")
    # CuPy calls it id, PyTorch index
    numbers = (_attribute(where, "id"), _attribute(where, "index"))
    return device.cuda(next((number for number in numbers if isinstance(number, int)), 0))


def dtype_of(name: str, array: Any) -> str:
    """Short name of a checked array's dtype, whatever its byte order.

    Raises
    ------
    TypeError
        If it is none of float16, bfloat16, float32 and float64.
    """
    dtype = _attribute(array, "dtype")
    if not isinstance(dtype, np.dtype):  # another library's, or none: the interface says it in NumPy's words
        dtype = np.dtype(array.__cuda_array_interface__["typestr"])
    text = dtype.name
    short = _SHORT.get(text)
    if short is None:
        allowed = ", ".join(DTYPES.values())
        hint = ""
        if text.startswith("complex"):
            hint = f"; convolve {name}.real and {name}.imag apart, convolution is linear"
        elif text.startswith(("int", "uint", "bool")):
            hint = f"; {name}.astype('float32') is exact up to 2**24"
        raise TypeError(f"{name} must have dtype {allowed}, got {text}{hint}")
    return short


def shape_of(array: Any) -> tuple[int, ...]:
    """Shape of a checked array."""
    if isinstance(array, np.ndarray):
        return tuple(array.shape)
    return tuple(array.__cuda_array_interface__["shape"])


def plain(array: Any) -> Any:
    """A NumPy array without the rules of its own that a subclass may have, on the same memory."""
    return np.asarray(array) if isinstance(array, np.ndarray) else array


def check_out(out: Any, shape: tuple[int, ...], dtype: str, where: Device, inputs: dict[str, Any]) -> None:
    """Raise unless a result of this shape and dtype may be written to `out`."""
    check_array("out", out)
    if device_of(out) != where:
        raise TypeError(f"out must be on {where} like the inputs, it is on {device_of(out)}")
    if dtype_of("out", out) != dtype:
        raise TypeError(f"out must have dtype {DTYPES[dtype]} like the inputs, got {out.dtype}")
    if shape_of(out) != shape:
        raise ValueError(f"out must have shape {shape}, got {shape_of(out)}")
    if where.kind == "cpu":
        if not out.flags.writeable:
            raise ValueError("out must be writeable, this array is read-only")
        if _overlaps_itself(out):
            raise ValueError("out must not overlap itself: several of its elements share an address")
        for name, array in inputs.items():
            if array is not None and _overlap(out, array):
                raise ValueError(f"out must not overlap {name}")


def _overlaps_itself(array: Any) -> bool:
    """Whether two elements may share a byte: exact for what slicing, transposing and broadcasting make."""
    if array.size == 0:
        return False
    reach = array.itemsize
    for step, size in sorted(
        (abs(step), size) for step, size in zip(array.strides, array.shape, strict=True)
    ):
        if size > 1:
            if step < reach:
                return True
            reach += step * (size - 1)
    return False


def _overlap(a: Any, b: Any) -> bool:
    try:
        return np.shares_memory(a, b, max_work=_OVERLAP_WORK)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True
