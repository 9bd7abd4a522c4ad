"""Arrays in emulated device memory: what a kernel writes, and no NumPy array by accident."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from tests.emulator import native
from tests.problems import bfloat16

#: Names the product uses for dtypes.
DTYPES = {
    "f16": np.dtype(np.float16),
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "u8": np.dtype(np.uint8),
}
if bfloat16 is not None:
    DTYPES["bf16"] = np.dtype(bfloat16)
DLPACK_CUDA = 2


class DeviceId:
    """What CuPy calls a device."""

    def __init__(self, index: int) -> None:
        self.id = index


class DeviceArray:
    """An array in device memory; slices and transposes are views of it."""

    __array_priority__ = 1000

    def __init__(self, values: np.ndarray, owner: object, index: int) -> None:
        self._values = values  # NumPy's view of the device memory, never given out
        self._owner = owner
        self.device = DeviceId(index)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._values.shape

    @property
    def ndim(self) -> int:
        return self._values.ndim

    @property
    def size(self) -> int:
        return self._values.size

    @property
    def dtype(self) -> np.dtype:
        return self._values.dtype

    @property
    def strides(self) -> tuple[int, ...]:
        return self._values.strides

    @property
    def nbytes(self) -> int:
        return self._values.nbytes

    @property
    def pointer(self) -> int:
        """Address of the first element."""
        return self._values.ctypes.data

    @property
    def is_contiguous(self) -> bool:
        return bool(self._values.flags.c_contiguous)

    @property
    def T(self) -> DeviceArray:
        return self.transpose()

    def _view(self, values: np.ndarray) -> DeviceArray:
        return DeviceArray(values, self._owner, self.device.id)

    def __getitem__(self, key: Any) -> DeviceArray:
        # The ellipsis keeps a single element a view.
        return self._view(self._values[(*key, ...) if isinstance(key, tuple) and ... not in key else key])

    def __len__(self) -> int:
        return len(self._values)

    def transpose(self, *axes: Any) -> DeviceArray:
        return self._view(self._values.transpose(*axes))

    def reshape(self, *shape: Any) -> DeviceArray:
        return self._view(self._values.reshape(*shape))

    def get(self) -> np.ndarray:
        """A copy that NumPy owns."""
        return self._values.copy()

    def set(self, values: np.ndarray) -> None:
        """Overwrite every element."""
        self._values[...] = values

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        strides = None if self.is_contiguous else self.strides
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.pointer if self.size else 0, False),
            "strides": strides,
            "version": 3,
        }

    def __dlpack__(self, **_: Any) -> Any:
        return _Capsule(self)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (DLPACK_CUDA, self.device.id)

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("an array on the device is not converted silently; call get()")

    def __iter__(self) -> Any:
        raise TypeError("an array on the device is not read element by element; call get()")

    def __repr__(self) -> str:
        return f"DeviceArray({self.shape}, {self.dtype}, device {self.device.id})"


class _Capsule:
    """Stands for DLPack's capsule between two emulated devices."""

    def __init__(self, array: DeviceArray) -> None:
        self.array = array


class BareDLPack:
    """An array that shows nothing but DLPack."""

    def __init__(self, array: DeviceArray) -> None:
        self._array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()


class BareInterface:
    """An array that shows nothing but ``__cuda_array_interface__``."""

    def __init__(self, array: DeviceArray) -> None:
        self.__cuda_array_interface__ = array.__cuda_array_interface__
        self._array = array


def over(
    pointer: int, shape: tuple[int, ...], dtype: np.dtype, strides: tuple[int, ...] | None
) -> np.ndarray:
    """NumPy's view of memory at an address."""
    if 0 in shape or pointer == 0:
        return np.empty(shape, dtype)
    steps = strides
    if steps is None:
        steps = tuple(dtype.itemsize * int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
    ends = [(count - 1) * step for count, step in zip(shape, steps, strict=True)]
    first = sum(end for end in ends if end < 0)
    total = sum(map(abs, ends)) + dtype.itemsize
    memory = (ctypes.c_ubyte * total).from_address(pointer + first)
    return np.ndarray(shape, dtype, memory, -first, steps)


def allocate(
    shape: tuple[int, ...],
    dtype: np.dtype,
    index: int,
    boundary: int = 16,
    offset: int | None = 0,
    at_start: bool = False,
) -> DeviceArray:
    """New array of NaN bytes.

    Its end lies against an inaccessible page as closely as a start `offset` elements past a multiple of
    `boundary` bytes lets it, and exactly there with None; or its start against the page before it.
    """
    bytes_ = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    past = (offset or 0) * dtype.itemsize
    owner = native.Allocation(bytes_, 0 if offset is None else boundary, past, at_start)
    memory = (ctypes.c_ubyte * max(bytes_, 1)).from_address(owner.pointer)
    return DeviceArray(np.ndarray(shape, dtype, memory), owner, index)


def adopt(array: Any) -> DeviceArray:
    """View anything that shows an interface of device arrays."""
    if isinstance(array, DeviceArray):
        return array
    if hasattr(array, "__cuda_array_interface__"):
        shown = array.__cuda_array_interface__
        is_bf16 = shown["typestr"] == "<V2"
        dtype = DTYPES["bf16"] if is_bf16 else np.dtype(shown["typestr"])
        values = over(shown["data"][0], tuple(shown["shape"]), dtype, shown.get("strides"))
        index = getattr(getattr(array, "device", None), "id", 0)
        return DeviceArray(values, array, index)
    if hasattr(array, "__dlpack__"):
        kind, _ = array.__dlpack_device__()
        if kind != DLPACK_CUDA:
            raise TypeError(f"{type(array).__name__} is not on a CUDA device")
        capsule = array.__dlpack__()
        if not isinstance(capsule, _Capsule):
            raise TypeError(f"{type(array).__name__} is of no emulated device")
        return capsule.array
    raise TypeError(f"{type(array).__name__} is no array of a CUDA device")
