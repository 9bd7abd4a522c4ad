"""Facts about a device as plain data, so that whatever decides by them can be tried with made-up ones."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from gpuconv import settings
from gpuconv.backend import blas


@dataclass(frozen=True, slots=True)
class Device:
    """Where a plan runs.

    Attributes
    ----------
    kind : {"cpu", "cuda"}
        CPU plans take NumPy arrays, CUDA plans device arrays.
    name : str
        The processor's or the card's name.
    threads : int
        CPU threads a plan may use; results do not depend on it.
    cores : int
        Processors of the machine, however many of them this process may use: what default configs follow.
    numpy, blas : str
        Versions that CPU timings and last bits depend on.
    index : int
        CUDA's number of the device.
    capability : (int, int)
        Compute capability.
    sms : int
        Streaming multiprocessors.
    smem_block, smem_sm : int
        Bytes of shared memory one block can ask for, and one SM has.
    l2_bytes : int
        Bytes of second-level cache.
    """

    kind: Literal["cpu", "cuda"]
    name: str
    threads: int = 1
    cores: int = 4
    numpy: str = ""
    blas: str = ""
    index: int = 0
    capability: tuple[int, int] = (0, 0)
    sms: int = 0
    smem_block: int = 0
    smem_sm: int = 0
    l2_bytes: int = 0

    def __str__(self) -> str:
        return f"{self.kind} ({self.name})" if self.kind == "cpu" else f"cuda:{self.index} ({self.name})"

    @property
    def arch(self) -> str:
        """What to compile for; on 9.0 with the instructions that only this capability has."""
        major, minor = self.capability
        return "sm_90a" if (major, minor) == (9, 0) else f"sm_{major}{minor}"


@cache
def cpu() -> Device:
    """The processor this runs on; its thread count is read once."""
    return Device(
        "cpu", _cpu_name(), _threads(), os.cpu_count() or 1, numpy=np.__version__, blas=blas.description()
    )


def _threads() -> int:
    asked = settings.threads()
    if asked is not None:
        return asked
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS or Windows
        allowed = os.cpu_count() or 1
    return max(1, min(allowed, blas.threads() or allowed))


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = (line.partition(":")[2].strip() for line in file if line.startswith("model name"))
            return next(names)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
