"""What the launcher relies on in the CuPy that is installed, as far as that can be asked without a GPU."""

from __future__ import annotations

import ctypes

import numpy as np


def test_cupy_copies_a_void_scalar(need):
    """What the launches rely on: NumPy's own pointer to such a scalar is dead before the driver reads it."""
    try:
        from cupy._core import _scalar
    except Exception as error:
        need("compile", f"CuPy cannot be imported: {error}")
    packed = bytes(range(256)) * 4
    scalar = _scalar.CScalar(np.void(packed))
    litter = [np.zeros(1024, "u1") for _ in range(100)]
    assert ctypes.string_at(scalar.ptr, len(packed)) == packed
    assert len(litter) == 100


def test_cupy_has_what_is_used(need):
    try:
        import cupy
        from cupy.cuda import driver, function, memory, runtime
    except Exception as error:
        need("compile", f"CuPy cannot be imported: {error}")
    for owner, names in (
        (driver, "CUDADriverError funcGetAttribute funcSetAttribute CU_FUNC_ATTRIBUTE_NUM_REGS"),
        (driver, "CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES"),
        (runtime, "CUDARuntimeError getDevice getDeviceProperties"),
        (function.Module, "load get_function"),
        (cupy, "ndarray from_dlpack asarray asnumpy empty ascontiguousarray"),
        (cupy.cuda, "get_current_stream"),
        (cupy.cuda.Stream, "is_capturing"),
    ):
        for name in names.split():
            assert hasattr(owner, name), name
    assert issubclass(memory.OutOfMemoryError, MemoryError)
    assert runtime.CUDARuntimeError(1).status == 1
    assert driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES == 8
