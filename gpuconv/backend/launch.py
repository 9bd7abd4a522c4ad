"""The seam between what a kernel wants launched, as plain data, and whatever launches it.

`KernelSpec` is consumed alike by CuPy's launcher, by the compile tests and by any launcher that `using` puts
in its place; nothing above this floor knows which one is at work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from struct import pack
from typing import Any, Literal, Protocol

from gpuconv.backend.device import Device

Dim3 = tuple[int, int, int]
#: What a kernel's leading pointers may be; `workspace` is a plan's own memory, the rest are arguments.
Buffer = Literal["a", "b", "out", "bias", "residual", "workspace"]


@dataclass(frozen=True, slots=True)
class Binary:
    """What is compiled: one source file under certain definitions for one architecture."""

    file: str  # under kernels/ of the CUDA sources
    defines: tuple[tuple[str, str], ...]
    arch: str

    def __str__(self) -> str:
        return " ".join([self.file, self.arch, *(f"-D{name}={value}" for name, value in self.defines)])


@dataclass(frozen=True, slots=True)
class KernelSpec:
    """One launch of one kernel.

    Attributes
    ----------
    binary : Binary
        What to compile.
    entry : str
        Name of the ``extern "C" __global__`` function; its one parameter is a struct.
    grid, block : (int, int, int)
        Blocks of the grid, threads of a block.
    smem_bytes : int
        Dynamic shared memory of a block.
    pointers : tuple of Buffer
        The struct's leading members, 8 bytes each.
    params : bytes
        The rest of the struct, as C lays it out.
    """

    binary: Binary
    entry: str
    grid: Dim3
    block: Dim3
    smem_bytes: int
    pointers: tuple[Buffer, ...]
    params: bytes

    def pack(self, addresses: dict[str, int]) -> bytes:
        """Return the whole struct, given an address for each name in `pointers`."""
        return pack(f"{len(self.pointers)}Q", *(addresses[name] for name in self.pointers)) + self.params


#: Takes the packed struct, enqueues the kernel on the current stream, and returns at once.
Launch = Callable[[bytes], None]


class Launcher(Protocol):
    """Memory and launches of CUDA devices.

    Arrays are of the launcher's own kind, contiguous unless said. They have `shape`, `strides` in bytes,
    `dtype` as NumPy's, and `device.id`; `adopt` returns one of them unchanged.
    """

    def device(self, index: int) -> Device:
        """Facts of a device."""

    def adopt(self, array: Any) -> Any:
        """View anything that speaks ``__cuda_array_interface__`` or DLPack as an array of the own kind."""

    def empty(self, shape: tuple[int, ...], dtype: str, device: Device) -> Any:
        """New array of a problem's dtype (``"f16"`` …) or of bytes (``"u8"``); MemoryError where it fails."""

    def put(self, values: Any, device: Device) -> Any:
        """Copy of a NumPy array of bytes on a device; MemoryError where it fails."""

    def get(self, array: Any) -> Any:
        """NumPy copy of an array of bytes, once all that was enqueued before is done."""

    def contiguous(self, array: Any) -> Any:
        """The array itself if it is contiguous, else a contiguous copy."""

    def copy(self, source: Any, target: Any) -> None:
        """Write a contiguous array into one of the same shape and any strides."""

    def pointer(self, array: Any) -> int:
        """Address of the first element."""

    def load(self, specs: tuple[KernelSpec, ...], device: Device) -> tuple[Launch, ...]:
        """Compile, side by side, and load what is not loaded yet.

        Raises
        ------
        CompileError
            If a source does not compile, or there is no compiler.
        LaunchRefused
            From here or from a launch: the device cannot run it so; nothing was computed.
        LaunchError
            From here or from a launch: the device's context is lost.
        """


_replaced: list[Launcher] = []


def current() -> Launcher:
    """The launcher at work: CuPy's unless `using` says otherwise."""
    if _replaced:
        return _replaced[-1]
    from gpuconv.backend import cupy_launcher

    return cupy_launcher.launcher()


@contextmanager
def using(launcher: Launcher) -> Iterator[None]:
    """Put another launcher in CuPy's place, for the whole process, until the block ends."""
    _replaced.append(launcher)
    try:
        yield
    finally:
        _replaced.remove(launcher)


def cuda(index: int) -> Device:
    """A CUDA device by number; where no launcher answers for it, no more than the number is known."""
    try:
        return current().device(index)
    except Exception:  # no CuPy, no driver, no such device: asking for a plan there says which
        return Device("cuda", f"device {index}", index=index)
