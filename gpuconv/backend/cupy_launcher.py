"""CuPy as the launcher: its arrays, its memory pool, its current stream."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np

from gpuconv import settings
from gpuconv.backend import detect, jit
from gpuconv.backend.device import Device
from gpuconv.backend.launch import Dim3, KernelSpec, Launch
from gpuconv.errors import LaunchError, LaunchRefused

#: Dynamic shared memory that a kernel may use without having asked for it.
_FREE_SMEM: Final = 48 * 1024
_DTYPES: Final = {"f16": "float16", "f32": "float32", "f64": "float64", "u8": "uint8"}

# Status codes; the driver's CUresult and the runtime's cudaError_t share these numbers.
#: Invalid value, out of memory, invalid configuration, invalid device function, invalid image, no binary for
#: this GPU, invalid PTX, unsupported PTX version, invalid source, not found, out of resources, too large a
#: cooperative launch, not supported. The context stays as it was.
_REFUSED: Final = frozenset({1, 2, 9, 98, 200, 209, 218, 222, 300, 500, 701, 720, 801})
#: Unloaded, devices unavailable, ECC, NVLink, contained error, illegal address, timeout, destroyed context,
#: assert, hardware stack, illegal instruction, misaligned address, address space, program counter, launch
#: failure, tensor memory leak, unknown. CUDA gives every later call in the process the same error.
_FATAL: Final = frozenset({4, 46, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 999})


@cache
def launcher() -> CupyLauncher:
    """The one launcher of this process.

    Raises
    ------
    RuntimeError
        If CuPy cannot be imported; says why.
    """
    try:
        return CupyLauncher(detect.cupy())
    except RuntimeError as error:
        raise RuntimeError(
            f"arrays on a CUDA device need CuPy: {error}; pip install 'gpuconv[cuda13]' or 'gpuconv[cuda12]'"
        ) from None


@dataclass(slots=True)
class _Loaded:
    """A function on one device, and the dynamic shared memory it has been allowed."""

    function: Any
    smem_bytes: int = _FREE_SMEM


class CupyLauncher:
    """`Launcher` on CuPy.

    Parameters
    ----------
    cupy : module
        CuPy, or what stands in for it in a test.
    """

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._errors = (cupy.cuda.driver.CUDADriverError, cupy.cuda.runtime.CUDARuntimeError)
        self._lock = threading.Lock()
        self._devices: dict[int, Device] = {}
        self._modules: dict[tuple[bytes, int], Any] = {}
        self._functions: dict[tuple[bytes, int, str], _Loaded] = {}
        self._captured: list[Any] = []

    def device(self, index: int) -> Device:
        """Facts of a device; asked once."""
        if index not in self._devices:
            facts = self._cupy.cuda.runtime.getDeviceProperties(index)
            self._devices[index] = Device(
                "cuda",
                facts["name"].decode(),
                index=index,
                capability=(facts["major"], facts["minor"]),
                sms=facts["multiProcessorCount"],
                smem_block=facts["sharedMemPerBlockOptin"],
                smem_sm=facts["sharedMemPerMultiprocessor"],
                l2_bytes=facts["l2CacheSize"],
            )
        return self._devices[index]

    def adopt(self, array: Any) -> Any:
        """View an array of another library on the same memory.

        DLPack comes first: it knows bfloat16, and makes our stream wait for the one that fills the array.
        """
        if isinstance(array, self._cupy.ndarray):
            return array
        view = self._cupy.from_dlpack if hasattr(array, "__dlpack__") else self._cupy.asarray
        try:
            found = view(array)
        except self._errors as error:  # the driver's: nothing is wrong with the argument
            raise _translated(error, f"CuPy cannot view a {type(array).__qualname__}") from error
        except (BufferError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            raise TypeError(f"CuPy cannot take a {type(array).__qualname__}: {error}") from None
        if not found.dtype.isnative:
            raise TypeError(f"CUDA arrays must be in this machine's byte order, got {found.dtype.str}")
        return found

    def empty(self, shape: tuple[int, ...], dtype: str, device: Device) -> Any:
        """Memory from CuPy's pool."""
        with self._cupy.cuda.Device(device.index):
            made = self._cupy.empty(shape, _bfloat16() if dtype == "bf16" else np.dtype(_DTYPES[dtype]))
            return self._kept(made)

    def put(self, values: Any, device: Device) -> Any:
        """Copy on the current stream, from memory that may be written to again once this returns."""
        with self._cupy.cuda.Device(device.index):
            return self._cupy.asarray(values)

    def get(self, array: Any) -> Any:
        """Copy, waiting for the current stream."""
        with array.device:
            try:
                return self._cupy.asnumpy(array)
            except self._errors as error:  # what an earlier launch did is often told here first
                raise _translated(error, f"nothing can be read from {array.device}") from error

    def contiguous(self, array: Any) -> Any:
        """The array itself if it is contiguous, else a contiguous copy."""
        if array.flags.c_contiguous:
            return array
        with array.device:
            copied = self._kept(self._cupy.ascontiguousarray(_copyable(array)))
        return copied.view(array.dtype)

    def _kept(self, array: Any) -> Any:
        """New memory, for the life of the process if a graph is being captured.

        The graph writes to it each time it is launched; back in the pool it would serve other arrays as well.
        """
        if self._cupy.cuda.get_current_stream().is_capturing():
            self._captured.append(array)
        return array

    def copy(self, source: Any, target: Any) -> None:
        """Write a contiguous array into one of the same shape and any strides."""
        with target.device:
            _copyable(target)[...] = _copyable(source)

    def pointer(self, array: Any) -> int:
        """Address of the first element."""
        return int(array.data.ptr)

    def load(self, specs: tuple[KernelSpec, ...], device: Device) -> tuple[Launch, ...]:
        """Compile, side by side, and load what is not loaded yet; what comes back only launches."""
        cubins = jit.compile_all(spec.binary for spec in specs)
        with self._cupy.cuda.Device(device.index), self._lock:
            return tuple(
                self._launch(spec, device, self._function(spec, cubins[spec.binary], device))
                for spec in specs
            )

    def _function(self, spec: KernelSpec, cubin: bytes, device: Device) -> Any:
        """The kernel on the current device, allowed all the shared memory that any of its launches needs."""
        digest = hashlib.sha256(cubin).digest()
        place, name = (digest, device.index), (digest, device.index, spec.entry)
        driver = self._cupy.cuda.driver
        try:
            if place not in self._modules:
                module = self._cupy.cuda.function.Module()
                module.load(cubin)
                self._modules[place] = module
            if name not in self._functions:
                function = self._modules[place].get_function(spec.entry)
                # CUDA puts a function's code on the device when it is first used: now, so that no launch does
                # so, which may be under capture in a graph
                registers = driver.funcGetAttribute(driver.CU_FUNC_ATTRIBUTE_NUM_REGS, function.ptr)
                settings.log("launch", f"{spec.entry} of {spec.binary} loaded: {registers} registers")
                self._functions[name] = _Loaded(function)
            loaded = self._functions[name]
            if spec.smem_bytes > loaded.smem_bytes:
                attribute = driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
                driver.funcSetAttribute(loaded.function.ptr, attribute, spec.smem_bytes)
                loaded.smem_bytes = spec.smem_bytes
        except self._errors as error:
            raise _translated(error, f"{device} does not load {spec.entry} of {spec.binary}") from error
        return loaded.function

    def _launch(self, spec: KernelSpec, device: Device, function: Any) -> Launch:
        """Everything that does not change from launch to launch, looked up once."""
        grid, block, smem_bytes = spec.grid, spec.block, spec.smem_bytes
        index, errors, struct = device.index, self._errors, np.void
        get_device, on_device = self._cupy.cuda.runtime.getDevice, self._cupy.cuda.Device

        def launch(packed: bytes) -> None:
            try:
                # a void scalar goes by value, as one argument; CuPy's stream is the device's current one
                if get_device() == index:
                    function(grid, block, (struct(packed),), smem_bytes)
                else:
                    with on_device(index):
                        function(grid, block, (struct(packed),), smem_bytes)
            except errors as error:
                raise _translated(error, f"{device} does not run {spec.entry} of {spec.binary}") from error

        if not settings.logs("launch"):
            return launch
        line = f"{spec.entry} grid {_by(grid)} block {_by(block)} shared {smem_bytes} on {device}"

        def logged(packed: bytes) -> None:
            settings.log("launch", line)
            launch(packed)

        return logged


def _translated(error: Any, what: str) -> Exception:
    """What a CUDA error means to the caller; one that is neither of the two stays as it is."""
    if error.status in _REFUSED:
        return LaunchRefused(f"{what}: {error}")
    if error.status in _FATAL:
        return LaunchError(
            f"{what}: {error}; this or an earlier kernel failed, the device is lost to this process"
        )
    found: Exception = error
    return found


def _by(size: Dim3) -> str:
    return "x".join(map(str, size))


def _copyable(array: Any) -> Any:
    """The array's bits as CuPy can copy them: its kernels for bfloat16 need headers that may not be there."""
    return array.view(np.uint16) if array.dtype.kind == "V" else array


@cache
def _bfloat16() -> Any:
    try:
        import ml_dtypes
    except ImportError:
        raise RuntimeError("bfloat16 needs ml_dtypes: pip install 'gpuconv[bf16]'") from None
    return np.dtype(ml_dtypes.bfloat16)
