"""The runtime's C interface through ctypes: device memory, launches and their reports."""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
import weakref
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.emulator import build

#: Launches and what is read after them are one OS thread's at a time.
LOCK = threading.RLock()


class Dim3(ctypes.Structure):
    _fields_ = [("x", ctypes.c_uint32), ("y", ctypes.c_uint32), ("z", ctypes.c_uint32)]


class Entry(ctypes.Structure):
    _fields_ = [("call", ctypes.c_void_p), ("param_bytes", ctypes.c_uint32)]


class LaunchConfig(ctypes.Structure):
    _fields_ = [
        ("grid", Dim3),
        ("block", Dim3),
        ("smem_bytes", ctypes.c_uint32),
        ("reverse", ctypes.c_uint32),
        ("lazy", ctypes.c_uint32),
    ]


class Report(ctypes.Structure):
    """What went wrong in a launch; `failure` counts the C++ side's enumerators."""

    _fields_ = [
        ("failure", ctypes.c_int32),
        ("block", ctypes.c_uint32 * 3),
        ("thread", ctypes.c_uint32 * 3),
        ("has_thread", ctypes.c_uint32),
        ("writes", ctypes.c_uint32),
        ("address", ctypes.c_uint64),
        ("program_counter", ctypes.c_uint64),
        ("module_offset", ctypes.c_uint64),
        ("module", ctypes.c_char * 512),
        ("file", ctypes.c_char_p),
        ("line", ctypes.c_int32),
        ("text", ctypes.c_char * 8192),
    ]


CHECK, MEMORY_FAULT, CANARY = 1, 2, 3


class SiteCount(ctypes.Structure):
    _fields_ = [
        ("file", ctypes.c_char_p),
        ("line", ctypes.c_int32),
        ("access", ctypes.c_uint32),
        *(
            (name, ctypes.c_uint64)
            for name in (
                "requests", "lanes", "bytes", "sectors", "ideal_sectors", "wavefronts", "ideal_wavefronts",
            )
        ),
    ]  # fmt: skip


@cache
def runtime() -> ctypes.CDLL:
    """The runtime, loaded so that kernels find its functions."""
    library = ctypes.CDLL(str(build.runtime_library()), mode=os.RTLD_GLOBAL | os.RTLD_NOW)
    library.emulator_allocate.restype = ctypes.c_void_p
    library.emulator_allocate.argtypes = [
        ctypes.c_size_t,
        ctypes.c_uint,
        ctypes.c_uint,
        ctypes.c_int,
    ]
    library.emulator_free.restype = None
    library.emulator_free.argtypes = [ctypes.c_void_p]
    library.emulator_launch.argtypes = [
        ctypes.POINTER(Entry),
        ctypes.POINTER(LaunchConfig),
        ctypes.c_char_p,
    ]
    library.emulator_report.restype = ctypes.POINTER(Report)
    library.emulator_counts.restype = ctypes.POINTER(SiteCount)
    library.emulator_counts.argtypes = [ctypes.POINTER(ctypes.c_int)]
    return library


class Allocation:
    """Device memory between inaccessible pages, freed when this object dies."""

    def __init__(self, bytes_: int, boundary: int, past: int, at_start: bool) -> None:
        pointer = runtime().emulator_allocate(bytes_, boundary, past, int(at_start))
        if not pointer:
            raise MemoryError(f"no memory for {bytes_} bytes")
        self.pointer: int = pointer
        self.bytes = bytes_
        self._finalizer = weakref.finalize(self, runtime().emulator_free, pointer)
        _allocations[pointer] = self


_allocations: weakref.WeakValueDictionary[int, Allocation] = weakref.WeakValueDictionary()


@cache
def load_entry(library: Path) -> ctypes.POINTER(Entry):
    """One entry of a kernel's library, which stays loaded."""
    runtime()
    loaded = ctypes.CDLL(str(library), mode=os.RTLD_NOW)
    loaded.emulator_entry.restype = ctypes.POINTER(Entry)
    return loaded.emulator_entry()


@dataclass(frozen=True)
class Buffers:
    """Names of the arrays of a launch by the address of their first element."""

    names: dict[int, str]

    def describe(self, address: int) -> str:
        """Where an address is, in words."""
        nearest = min(
            _allocations.values(),
            key=lambda one: max(one.pointer - address, address - (one.pointer + one.bytes) + 1, 0),
            default=None,
        )
        if nearest is None:
            return f"address {address:#x}, near no array"
        name = next(
            (
                name
                for at, name in self.names.items()
                if nearest.pointer <= at <= nearest.pointer + nearest.bytes
            ),
            "an array",
        )
        text = f"{name} ({nearest.bytes} bytes)"
        past = address - nearest.pointer - nearest.bytes
        if address < nearest.pointer:
            return f"{nearest.pointer - address} bytes before the start of {text}"
        if past >= 0:
            return f"{past} bytes behind the end of {text}"
        return f"byte {address - nearest.pointer} of {text}"


def source_line(module: str, offset: int) -> str:
    """``file.cu:12`` of an instruction, with the callers it was inlined into."""
    command = ["addr2line", "-i", "-e", module, hex(offset)]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    except OSError:
        return f"{Path(module).name}+{offset:#x}"
    ours = [line.split(" ")[0] for line in lines if str(build.INCLUDE) not in line]
    return ", inlined at ".join(Path(line).name for line in ours) or f"{Path(module).name}+{offset:#x}"


def report_text(report: Report, buffers: Buffers) -> str:
    """A report in words: what, where in memory, who, and at which line."""
    block = ",".join(map(str, report.block))
    thread = f" thread ({','.join(map(str, report.thread))})" if report.has_thread else ""
    who = f"block ({block}){thread}"
    text = report.text.decode()
    if report.failure == CANARY:
        return f"{text} {buffers.describe(report.address)}" if text == "a thread wrote" else f"{who}: {text}"
    line = f"{Path((report.file or b'').decode()).name}:{report.line}" if report.line else ""
    module = Path(report.module.decode())
    in_kernel = module.parent == build.cache_folder() and module != build.runtime_library()
    if report.program_counter and in_kernel:
        line = source_line(report.module.decode(), report.module_offset)
    if report.failure == MEMORY_FAULT:
        text = f"{'writes' if report.writes else 'reads'} {buffers.describe(report.address)}"
    return f"{who}: {text}" + (f" at {line}" if line else "")
