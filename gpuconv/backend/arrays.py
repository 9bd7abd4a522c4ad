"""What an argument is: a NumPy array, an array on a CUDA device, or neither.

No GPU library is imported to tell. An array on a device is then viewed through the launcher at work, by
`adopt`; functions that take a launcher take such views, and NumPy arrays where it is None.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from gpuconv.arguments import show
from gpuconv.backend import device, launch
from gpuconv.backend.device import Device
from gpuconv.errors import LaunchError
from gpuconv.problem import DTYPES

#: Candidates tried before two interleaved views count as overlapping.
_OVERLAP_WORK: Final = 10_000
_SHORT: Final = {name: short for short, name in DTYPES.items()}
#: DLPack's numbers for CPU memory, and for CUDA's memory, plain and managed.
_DLPACK_CPU: Final = 1
_DLPACK_CUDA: Final = (2, 13)

#: Types whose instances a launcher took as they are: CUDA arrays for certain, with nothing left to check.
_known: set[type] = set()


def check_array(name: str, array: Any) -> None:
    """Raise ``TypeError`` unless `array` is a NumPy array or an array on a CUDA device."""
    if isinstance(array, np.ndarray):
        if isinstance(array, np.ma.MaskedArray):
            raise TypeError(
                f"{name} must not be masked: a convolution has no mask; fill it first, {name}.filled(0)"
            )
        return
    if type(array) in _known:
        return
    try:
        interface = array.__cuda_array_interface__
    except AttributeError:
        _check_dlpack(name, array)
        return
    except Exception as error:  # it is the caller's property, which may raise anything
        raise TypeError(f"{name} has a damaged __cuda_array_interface__: {_why(error)}") from None
    if not _is_interface(interface):
        raise TypeError(f"{name} has a damaged __cuda_array_interface__: {show(interface)}")
    dtype = np.dtype(interface["typestr"])
    check_byte_order(name, dtype)
    # the interface has no word for bfloat16: whoever writes "two bytes" must say elsewhere what they mean
    if dtype.kind == "V" and not str(_attribute(array, "dtype")).endswith("bfloat16"):
        raise TypeError(
            f"{name} must have dtype {', '.join(DTYPES.values())}, got {dtype.str} without a name"
        )


def _check_dlpack(name: str, array: Any) -> None:
    kind = f"{type(array).__module__}.{type(array).__qualname__}".removeprefix("builtins.")
    wrong = f"{name} must be a NumPy array or a CUDA array, got {kind}"
    if not callable(_attribute(array, "__dlpack__")) or not hasattr(type(array), "__dlpack_device__"):
        raise TypeError(wrong)
    try:
        where = int(array.__dlpack_device__()[0])
    except Exception as error:  # it is the caller's method, which may raise anything
        raise TypeError(f"{name} has a damaged __dlpack_device__: {_why(error)}") from None
    if where == _DLPACK_CPU:
        raise TypeError(f"{wrong} on the CPU; numpy.from_dlpack({name}) views it as one")
    if where not in _DLPACK_CUDA:
        raise TypeError(f"{wrong} on a device that DLPack numbers {where}")


def _is_interface(value: Any) -> bool:
    try:
        np.dtype(value["typestr"])
        sizes = all(type(size) is int and size >= 0 for size in value["shape"])
        return sizes and type(value["data"][0]) is int
    except Exception:  # whatever it is, it is no interface
        return False


def _attribute(value: Any, name: str) -> Any:
    try:
        return getattr(value, name, None)
    except Exception:  # another library's property may raise anything; the interface says enough
        return None


def check_byte_order(name: str, dtype: np.dtype[Any]) -> None:
    """Raise ``TypeError`` unless a CUDA array's dtype has the byte order that devices have."""
    if not dtype.isnative:
        raise TypeError(f"{name} must have the device's byte order, got dtype {dtype.str}")


def launcher() -> launch.Launcher:
    """The launcher at work.

    Raises
    ------
    RuntimeError
        If there is none; says what CUDA arrays need, and what is wrong.
    """
    try:
        return launch.current()
    except RuntimeError:  # says so itself
        raise
    except Exception as error:  # an import runs whatever it likes
        raise _unavailable(error) from error


def _unavailable(error: Exception) -> RuntimeError:
    need = "CUDA arrays need CuPy (pip install 'gpuconv[cuda13]') and a working driver"
    return RuntimeError(f"{need}: {_why(error)}")


def _why(error: Exception) -> str:
    try:
        return " ".join(str(error).split()) or type(error).__name__
    except Exception:  # another library's error may fail even here
        return type(error).__name__


def adopt(name: str, array: Any, by: launch.Launcher) -> Any:
    """A checked CUDA array as one of the launcher's own kind, on the same memory."""
    try:
        view = by.adopt(array)
    except (LaunchError, MemoryError):
        raise
    except (TypeError, ValueError, BufferError) as error:
        raise TypeError(f"{name} cannot be viewed as a CUDA array: {_why(error)}") from error
    except Exception as error:  # the driver's own
        raise _unavailable(error) from error
    if view is array:
        _known.add(type(array))
    return view


def index_of(view: Any) -> int:
    """CUDA's number of the device that a view lies on."""
    where = _attribute(view, "device")
    # CuPy calls it id, other libraries index
    numbers = (_attribute(where, "id"), _attribute(where, "index"))
    return next((number for number in numbers if isinstance(number, int)), 0)


def device_of(view: Any, by: launch.Launcher | None) -> Device:
    """Device that an array lies on."""
    if by is None:
        return device.cpu()
    try:
        return by.device(index_of(view))
    except LaunchError:
        raise
    except Exception as error:  # the driver's own
        raise _unavailable(error) from error


def dtype_of(name: str, view: Any, by: launch.Launcher | None) -> str:
    """Short name of an array's dtype; on the CPU, whatever its byte order.

    Raises
    ------
    TypeError
        If it is none of float16, bfloat16, float32 and float64.
    """
    text = view.dtype.name
    short = _SHORT.get(text)
    if short is None:
        allowed = ", ".join(DTYPES.values())
        hint = ""
        if text.startswith("complex"):
            hint = f"; convolve {name}.real and {name}.imag apart, convolution is linear"
        elif text.startswith(("int", "uint", "bool")):
            hint = f"; {name}.astype('float32') is exact up to 2**24"
        raise TypeError(f"{name} must have dtype {allowed}, got {text}{hint}")
    if by is not None:
        check_byte_order(name, view.dtype)
    return short


def shape_of(view: Any) -> tuple[int, ...]:
    """Shape of an array."""
    return tuple(view.shape)


def plain(array: Any) -> Any:
    """A NumPy array without the rules of its own that a subclass may have, on the same memory."""
    return np.asarray(array) if isinstance(array, np.ndarray) else array


def check_aligned(name: str, view: Any, by: launch.Launcher) -> None:
    """Raise ``ValueError`` where elements of a CUDA array do not lie at multiples of their size.

    A kernel that reads one of those loses the device's context.
    """
    size, at = view.dtype.itemsize, by.pointer(view)
    steps = [step for step, length in zip(view.strides, view.shape, strict=True) if length > 1]
    if any(place % size for place in (at, *steps)):
        raise ValueError(
            f"{name} must have elements at multiples of their {size} bytes on a CUDA device, "
            f"got address {at} and strides {tuple(view.strides)}"
        )


def is_contiguous(view: Any) -> bool:
    """Whether elements lie in the order of their indices, without gaps."""
    expected = view.dtype.itemsize
    for step, length in zip(reversed(view.strides), reversed(view.shape), strict=True):
        if length != 1 and step != expected:
            return 0 in view.shape
        expected *= length
    return True


def check_out(
    out: Any,
    shape: tuple[int, ...],
    dtype: str,
    where: Device,
    inputs: dict[str, Any],
    by: launch.Launcher | None,
) -> Any:
    """View `out` as a plan writes it; raise unless a result of this shape and dtype may be written there."""
    check_array("out", out)
    host = isinstance(out, np.ndarray)
    if host != (by is None):
        there = "the CPU" if host else "a CUDA device"
        raise TypeError(f"out must be on {where} like the inputs, it is on {there}")
    view = plain(out) if by is None else adopt("out", out, by)
    if by is not None and index_of(view) != where.index:
        raise TypeError(f"out must be on {where} like the inputs, it is on cuda:{index_of(view)}")
    if dtype_of("out", view, by) != dtype:
        raise TypeError(f"out must have dtype {DTYPES[dtype]} like the inputs, got {view.dtype}")
    if shape_of(view) != shape:
        raise ValueError(f"out must have shape {shape}, got {shape_of(view)}")
    if _read_only(out):
        raise ValueError("out must be writeable, this array is read-only")
    if by is not None:
        check_aligned("out", view, by)
    if _overlaps_itself(view):
        raise ValueError("out must not overlap itself: several of its elements share an address")
    for name, array in inputs.items():
        if array is not None and _overlap(view, array, by):
            raise ValueError(f"out must not overlap {name}")
    return view


def _read_only(out: Any) -> bool:
    if isinstance(out, np.ndarray):
        return not out.flags.writeable
    interface = _attribute(out, "__cuda_array_interface__")
    return interface is not None and bool(interface["data"][1])


def _overlaps_itself(array: Any) -> bool:
    """Whether two elements may share a byte: exact for what slicing, transposing and broadcasting make."""
    if 0 in array.shape:
        return False
    reach = array.dtype.itemsize
    for step, size in sorted(
        (abs(step), size) for step, size in zip(array.strides, array.shape, strict=True)
    ):
        if size > 1:
            if step < reach:
                return True
            reach += step * (size - 1)
    return False


def _overlap(a: Any, b: Any, by: launch.Launcher | None) -> bool:
    if by is not None:
        at_a, at_b = by.pointer(a), by.pointer(b)
        (a_low, a_high), (b_low, b_high) = _span(a, at_a), _span(b, at_b)
        if a_high <= b_low or b_high <= a_low:
            return False
        a, b = _Outline.of(a, at_a), _Outline.of(b, at_b)
    try:
        return np.shares_memory(a, b, max_work=_OVERLAP_WORK)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def _span(view: Any, address: int) -> tuple[int, int]:
    """First byte that the elements take, and the first behind them."""
    low = high = address
    for step, length in zip(view.strides, view.shape, strict=True):
        if step < 0:
            low += step * (length - 1)
        else:
            high += step * (length - 1)
    return low, high + view.dtype.itemsize


class _Outline:
    """Where a device array lies, for NumPy to compare with another; the memory itself is never touched."""

    def __init__(self, interface: dict[str, Any]) -> None:
        self.__array_interface__ = interface

    @classmethod
    def of(cls, view: Any, address: int) -> Any:
        """A NumPy array over the same addresses."""
        return np.asarray(
            cls(
                {
                    "version": 3,
                    "shape": tuple(view.shape),
                    "strides": tuple(view.strides),
                    "typestr": f"|V{view.dtype.itemsize}",
                    "data": (address, True),
                }
            )
        )
