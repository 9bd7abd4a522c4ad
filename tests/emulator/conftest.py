"""Runs probe kernels."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpuconv.backend.launch import Binary, KernelSpec
from tests.emulator.launcher import SCHEDULES, DeviceArray, Emulator

PROBES = Path(__file__).parent / "probes"


@pytest.fixture(scope="session")
def has_compiler(need):
    if shutil.which("g++") is None:
        need("emulator", "g++ is not on the path")


@pytest.fixture(params=SCHEDULES, ids=str)
def schedule(request):
    return request.param


@pytest.fixture
def probe(has_compiler) -> Callable[..., DeviceArray]:
    """Function that launches an entry of ``probes/kernels/<file>.cu`` and returns the output."""

    def launch(
        entry: str,
        *numbers: int,
        file: str = "cells",
        a: np.ndarray | DeviceArray | None = None,
        out: DeviceArray | int = 64,
        grid: int = 1,
        block: int | tuple[int, int, int] = 32,
        smem: int = 1024,
        defines: dict[str, Any] | None = None,
        emulator: Emulator | None = None,
        arch: str = "sm_80",
    ) -> DeviceArray:
        runner = emulator or Emulator(sources=PROBES)
        device = runner.device(0)
        values = np.arange(64, dtype=np.uint32) if a is None else a
        source = values if isinstance(values, DeviceArray) else runner.array(values)
        target = runner.array(np.zeros(out, np.uint32)) if isinstance(out, int) else out
        threads = (block, 1, 1) if isinstance(block, int) else block
        params = struct.pack(f"{len(numbers)}i", *numbers)
        params += bytes(-len(params) % 8)
        binary = Binary(f"{file}.cu", tuple((defines or {}).items()), arch)
        spec = KernelSpec(binary, entry, (grid, 1, 1), threads, smem, ("a", "out"), params)
        (run,) = runner.load((spec,), device)
        run(spec.pack({"a": source.pointer, "out": target.pointer}))
        return target

    return launch
