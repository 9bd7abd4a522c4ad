"""What kernels share whose threads make one result each: how these are counted, and how they start."""

from __future__ import annotations

from math import prod
from typing import Any, Final, NamedTuple

from gpuconv.backend.device import Device
from gpuconv.backend.launch import Binary, KernelSpec, Launcher
from gpuconv.errors import CompileError, LaunchRefused, Reject, UnsupportedProblem
from gpuconv.kernels.cuda.params import Count, FastDivmod, Struct

_THREADS: Final = 256
#: Of what a thread counts, and of blocks.
_MOST_UNITS: Final = 2**31 - 1
_MOST_BLOCKS: Final = 2**31 - 1


class Counting(NamedTuple):
    """How many blocks count the results along several axes, and what these need to know."""

    blocks: int
    params: Count


def count(axes: list[int]) -> Counting:
    """Count along at most six axes, innermost first, for ``tile/count.cuh``."""
    outer, units = 0, 1
    while outer < len(axes) and units * axes[outer] <= _MOST_UNITS:
        units *= axes[outer]
        outer += 1
    blocks = -(-units // _THREADS)
    extents = [FastDivmod.of(size) for size in axes] + [FastDivmod.of(1)] * (6 - len(axes))
    params = Count(units, outer, FastDivmod.of(blocks), (FastDivmod * 6)(*extents))
    return Counting(blocks * prod(axes[outer:]), params)


def refusal(entry: str, device: Device, bits: int, cells: dict[str, int]) -> Reject | None:
    """Why a device cannot; the cells along each axis, padding included, must stay below 2**bits."""
    if device.capability < (7, 5):
        return _reject(entry, f"needs compute capability 7.5, {device.name} has {device.capability}")
    for axis, size in cells.items():
        if size >> bits:
            return _reject(entry, f"takes a padded {axis} below 2**{bits}, got {size}")
    return None


def spec(
    entry: str, defines: dict[str, object], counting: Counting, params: Struct, device: Device
) -> KernelSpec | Reject:
    """The launch of a kernel whose file is named like its entry, from "a" to "out"."""
    if counting.blocks > _MOST_BLOCKS:
        return _reject(entry, f"takes at most 2**31 - 1 blocks, got {counting.blocks}")
    return KernelSpec(
        binary=Binary(
            f"{entry}.cu", tuple(sorted((name, str(value)) for name, value in defines.items())), device.arch
        ),
        entry=entry,
        grid=(counting.blocks, 1, 1),
        block=(_THREADS, 1, 1),
        smem_bytes=0,
        pointers=("a", "out"),
        params=params.pack(),
    )


def start(
    what: str, made: KernelSpec | Reject, source: Any, result: Any, device: Device, launcher: Launcher
) -> None:
    """Launch what was made of a task, in words; nothing waits.

    Raises
    ------
    UnsupportedProblem
        If the device cannot; it carries the reason.
    LaunchError
        If the device's context is lost.
    """
    if isinstance(made, Reject):
        raise UnsupportedProblem(what, str(device), (made,))
    try:
        (launch,) = launcher.load((made,), device)
        launch(made.pack({"a": launcher.pointer(source), "out": launcher.pointer(result)}))
    except (CompileError, LaunchRefused) as error:
        raise UnsupportedProblem(what, str(device), (_reject(made.entry, str(error)),)) from error


def _reject(entry: str, reason: str) -> Reject:
    return Reject(f"cuda_{entry}", reason)
