"""A launcher whose device is this processor: g++ compiles kernels unchanged; threads run one by one."""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gpuconv.backend.device import Device
from gpuconv.backend.launch import Dim3, KernelSpec, Launch
from gpuconv.backend.source import cuda_source_folder
from gpuconv.errors import CompileError, LaunchError, LaunchRefused
from tests.emulator import arrays, build, counts, native
from tests.emulator.arrays import BareDLPack, BareInterface, DeviceArray

__all__ = [
    "SCHEDULES",
    "BareDLPack",
    "BareInterface",
    "DeviceArray",
    "Emulator",
    "Schedule",
    "emulated_device",
]


@dataclass(frozen=True)
class Schedule:
    """An order that hardware may choose.

    Attributes
    ----------
    reverse : bool
        Threads and blocks run from the last to the first.
    lazy : bool
        Asynchronous work is done at the last moment that the kernel's own waits allow.
    """

    reverse: bool = False
    lazy: bool = False

    def __str__(self) -> str:
        return f"{'reverse' if self.reverse else 'forward'}-{'lazy' if self.lazy else 'eager'}"


SCHEDULES = tuple(Schedule(reverse, lazy) for reverse in (False, True) for lazy in (False, True))
Step = Literal["load", "launch", "empty"]
_WHERE: dict[type[Exception], Step] = {CompileError: "load", MemoryError: "empty"}


def emulated_device(index: int = 0, **facts: Any) -> Device:
    """Facts like an H200's, but for those named."""
    known: dict[str, Any] = {
        "name": "emulated",
        "index": index,
        "capability": (9, 0),
        "sms": 132,
        "smem_block": 232448,
        "smem_sm": 233472,
        "l2_bytes": 50 << 20,
    }
    return Device("cuda", **(known | facts))


class Emulator:
    """Launcher on the processor.

    Attributes
    ----------
    schedule : Schedule
        Of the launches to come.
    launched : list of KernelSpec
        Every launch that was not refused, in order.
    counters : Counts or None
        Of the last launch, with ``count=True``.
    """

    def __init__(
        self,
        device: Device | None = None,
        schedule: Schedule = SCHEDULES[0],
        sources: Path | None = None,
        count: bool = False,
    ) -> None:
        self.schedule = schedule
        self.launched: list[KernelSpec] = []
        self.counters: counts.Counts | None = None
        self._device = device or emulated_device()
        self._sources = sources or cuda_source_folder()
        self._count = count
        # Close to the page behind, or where a pool of device memory puts arrays, on which sectors depend.
        self._boundary = 256 if count else 16
        self._failures: list[tuple[Step, Exception]] = []

    def device(self, index: int) -> Device:
        """The device's facts under that number."""
        return replace(self._device, index=index)

    def fail_next(self, error: type[Exception] | Exception, at: Step | None = None) -> None:
        """Raise an error at the next step of a kind.

        Without `at`, CompileError comes from `load`, MemoryError from `empty`, others from a launch.
        """
        made = error("injected") if isinstance(error, type) else error
        self._failures.append((at or _WHERE.get(type(made), "launch"), made))

    def _fail_here(self, step: Step) -> None:
        for planned in self._failures:
            if planned[0] == step:
                self._failures.remove(planned)
                raise planned[1]

    def array(
        self,
        values: np.ndarray,
        offset: int | None = 0,
        at_start: bool = False,
        index: int | None = None,
    ) -> DeviceArray:
        """Device copy of an array, its start `offset` elements past a multiple of 16 bytes (256 if counting).

        Its end lies as close to an inaccessible page as that allows, and exactly there with ``offset=None``;
        with `at_start`, the start follows such a page instead.
        """
        values = np.asarray(values)
        number = self._device.index if index is None else index
        made = arrays.allocate(values.shape, values.dtype, number, self._boundary, offset, at_start)
        made.set(values)
        return made

    def adopt(self, array: Any) -> DeviceArray:
        return arrays.adopt(array)

    def empty(self, shape: tuple[int, ...], dtype: str, device: Device) -> DeviceArray:
        """New array, all its bytes 0xFF."""
        self._fail_here("empty")
        kind = arrays.DTYPES.get(dtype) or np.dtype(dtype)
        return arrays.allocate(tuple(shape), kind, device.index, self._boundary)

    def put(self, values: np.ndarray, device: Device) -> DeviceArray:
        return self.array(values, index=device.index)

    def get(self, array: DeviceArray) -> np.ndarray:
        return array.get()

    def contiguous(self, array: DeviceArray) -> DeviceArray:
        if array.is_contiguous:
            return array
        return self.array(array.get(), index=array.device.id)

    def copy(self, source: DeviceArray, target: DeviceArray) -> None:
        if source.shape != target.shape or source.dtype != target.dtype:
            raise ValueError(f"{source!r} does not fit {target!r}")
        target.set(source._values)

    def pointer(self, array: DeviceArray) -> int:
        return array.pointer

    def load(self, specs: tuple[KernelSpec, ...], device: Device) -> tuple[Launch, ...]:
        self._fail_here("load")
        for spec in specs:
            refuse(spec, device)
        wanted = list(dict.fromkeys((spec.binary, spec.entry) for spec in specs))
        with ThreadPoolExecutor(2) as pool:
            jobs = {
                one: pool.submit(build.kernel_library, *one, self._sources, self._count) for one in wanted
            }
            libraries = {one: job.result() for one, job in jobs.items()}
        return tuple(self._launch(spec, libraries[spec.binary, spec.entry]) for spec in specs)

    def _launch(self, spec: KernelSpec, library: Path) -> Launch:
        entry = native.load_entry(library)
        if not entry.contents.call:
            raise LaunchRefused(f"{spec.binary} has no entry {spec.entry}")

        def launch(packed: bytes) -> None:
            self._fail_here("launch")
            expected = entry.contents.param_bytes
            if len(packed) != expected:
                raise LaunchRefused(f"{spec.entry} takes a struct of {expected} bytes, not {len(packed)}")
            self.launched.append(spec)
            self._run(spec, entry, packed)

        return launch

    def _run(self, spec: KernelSpec, entry: Any, packed: bytes) -> None:
        config = native.LaunchConfig(
            native.Dim3(*spec.grid),
            native.Dim3(*spec.block),
            spec.smem_bytes,
            self.schedule.reverse,
            self.schedule.lazy,
        )
        runtime = native.runtime()
        with native.LOCK:
            if self._count:
                runtime.emulator_clear_counts()
            failed = runtime.emulator_launch(entry, ctypes.byref(config), packed)
            if self._count:
                self.counters = counts.read(runtime)
            if failed:
                addresses = np.frombuffer(packed, "<u8", len(spec.pointers)).tolist()
                names = native.Buffers(dict(zip(addresses, spec.pointers, strict=True)))
                text = native.report_text(runtime.emulator_report().contents, names)
                raise LaunchError(f"{spec.entry}: {text}")


def refuse(spec: KernelSpec, device: Device) -> None:
    """Raise what a device would at a launch beyond its limits."""
    threads = spec.block[0] * spec.block[1] * spec.block[2]
    limits: tuple[tuple[str, Dim3, Dim3], ...] = (
        ("grid", spec.grid, (2**31 - 1, 65535, 65535)),
        ("block", spec.block, (1024, 1024, 64)),
    )
    for what, given, most in limits:
        if any(not 1 <= one <= top for one, top in zip(given, most, strict=True)):
            raise LaunchRefused(f"{spec.entry}: a {what} of {given}; the limits are {most}")
    if threads > 1024:
        raise LaunchRefused(f"{spec.entry}: a block of {threads} threads; the limit is 1024")
    if spec.smem_bytes > device.smem_block:
        raise LaunchRefused(
            f"{spec.entry}: {spec.smem_bytes} bytes of shared memory; the limit is {device.smem_block}"
        )
    bytes_ = 8 * len(spec.pointers) + len(spec.params)
    if bytes_ > 4096:
        raise LaunchRefused(f"{spec.entry}: {bytes_} bytes of parameters; the limit is 4096")
