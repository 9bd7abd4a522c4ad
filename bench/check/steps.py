"""The steps in their order, and what one is made of: items, each run by itself and remembered."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.check.state import State

ROOT = Path(__file__).resolve().parents[2]


class Skip(Exception):
    """What is missing for an item, or for a step, in words."""


class Wait(Exception):
    """Which other step must end before this one can begin, in words."""


@dataclass(frozen=True)
class Item:
    """One thing to try.

    Attributes
    ----------
    key : str
        The same in every call.
    run : callable
        Returns data for the report, or None; raises `Skip`, or anything else where it fails.
    cluster : str
        What may fail for the same reason; where one of it takes its process along, all of it comes last.
    """

    key: str
    run: Callable[[], dict[str, Any] | None]
    cluster: str = ""


@dataclass(frozen=True)
class Step:
    """A chapter of the check.

    Attributes
    ----------
    name, title : str
        For arguments, and for people.
    module : str
        Has ``items(where)``; imported in the step's own process only.
    seconds : float
        Its share of one call.
    reserve : float
        Seconds an item usually takes at most; with less left, none is begun.
    late : float
        Seconds a process may be late, because an item took longer than usual, before it is ended.
    """

    name: str
    title: str
    module: str
    seconds: float
    reserve: float = 5.0
    late: float = 20.0

    def items(self, where: Where) -> Iterable[Item]:
        """Its items, in order; may raise `Skip` or `Wait`."""
        found: Iterable[Item] = importlib.import_module(self.module).items(where)
        return found


STEPS = (
    Step("environment", "versions, device, first launches", "bench.check.environment", 60),
    Step("primitives", "instructions against the emulator's answers", "bench.check.primitives", 60),
    Step("correctness", "kernels, smallest first", "bench.check.correctness", 200, 10),
    Step("sanitizers", "compute-sanitizer's tools", "bench.check.sanitizers", 120, 25),
    Step("cudnn", "agreement with cuDNN", "bench.check.agreement", 90, 10),
    Step("tune", "quick tune", "bench.check.tune", 120),
    Step("heuristics", "time of the plan that cuDNN chooses untried", "bench.check.heuristics", 60),
    Step("benchmarks", "times beside cuDNN's fastest plan", "bench.check.benchmarks", 240, 15),
    Step("plans", "times of every plan of cuDNN's for the tables' layers", "bench.check.plans", 120, 15),
    Step("ncu", "profiles of each family's worst", "bench.check.profiles", 90, 20),
)
NAMES = tuple(step.name for step in STEPS)


@dataclass
class Where:
    """Where a step runs.

    Attributes
    ----------
    state : State
        Of this check.
    commit : str
        What is checked.
    dry_run : bool
        Whether the emulator and the CPU stand in for the GPU.
    until : float
        When the process should have ended, by `time.monotonic`.
    """

    state: State
    commit: str
    dry_run: bool
    until: float = field(default_factory=lambda: time.monotonic() + 3600)

    @property
    def left(self) -> float:
        """Seconds left."""
        return self.until - time.monotonic()

    @cached_property
    def machine(self) -> Any:
        """A `tests.cases.Machine`: the GPU, or the emulator; `Skip` where there is none."""
        if self.dry_run:
            from gpuconv.errors import CompileError
            from tests.emulator import build

            try:
                build.compiler()
            except CompileError as error:
                raise Skip(f"no emulator: {error}") from None
            from tests.emulator.machine import EmulatedMachine

            return EmulatedMachine()
        from gpuconv.backend import detect

        why_not = detect.cuda().why_not
        if why_not:
            raise Skip(why_not)
        from tests.gpu.machine import CupyMachine

        return CupyMachine()

    @property
    def timed_device(self) -> Any:
        """Where times are taken: the GPU, or the CPU."""
        if self.dry_run:
            from gpuconv.backend import device

            return device.cpu()
        return self.machine.device

    def lost(self) -> str | None:
        """Why nothing can run on the GPU in this process any more; None while it can."""
        if self.dry_run or "machine" not in self.__dict__:
            return None
        try:
            self.machine.cupy.cuda.runtime.deviceSynchronize()
        except Exception as error:  # CUDA's own types, which need CuPy to be named
            return f"{type(error).__name__}: {error}"
        return None


def need_dtype(name: str) -> None:
    """`Skip` where NumPy lacks a type."""
    from tests.problems import DTYPES

    if name not in DTYPES:
        raise Skip(f"{name} needs ml_dtypes, which is not installed")


def find(name: str) -> Step:
    """A step by name."""
    return next(step for step in STEPS if step.name == name)
