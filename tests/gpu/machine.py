"""A real GPU, through CuPy, as a machine that cases run on."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from math import prod
from typing import Any

import numpy as np

from gpuconv.backend import cupy_launcher


class CupyMachine:
    """The first CUDA device; see `tests.cases.Machine`."""

    def __init__(self) -> None:
        import cupy

        self.cupy = cupy
        self.device = cupy_launcher.launcher().device(0)

    def __str__(self) -> str:
        return self.device.name

    def at_work(self) -> AbstractContextManager[None]:
        """CuPy's launcher is at work anyway."""
        return nullcontext()

    def put(self, array: Any, offset: int) -> Any:
        """Copy to the start of memory of its own, so many elements after it."""
        room = self.poisoned(array.shape, array.dtype, offset)
        bits = np.ascontiguousarray(array).view(_bits(array.dtype))
        room.view(_bits(array.dtype))[...] = self.cupy.asarray(bits)
        return room

    def poisoned(self, shape: tuple[int, ...], dtype: Any, offset: int) -> Any:
        """Memory full of ones, which are NaN in every floating type."""
        room = self.cupy.full((prod(shape) + offset) * np.dtype(dtype).itemsize, 0xFF, np.uint8)
        return room.view(dtype)[offset:].reshape(shape)

    def get(self, array: Any) -> Any:
        """Copy back; waits for the device."""
        return self.cupy.asnumpy(array.view(_bits(array.dtype))).view(array.dtype)


def _bits(dtype: Any) -> Any:
    """An integer type of the same size: CuPy need not know bfloat16 to move it."""
    return np.dtype(f"u{np.dtype(dtype).itemsize}")
