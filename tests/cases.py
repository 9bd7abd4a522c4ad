"""What every CUDA kernel must get right, wherever it runs: cases, and the one body that judges them.

A case is a problem, a config and the way its arrays lie. `tests.design` chooses them; ``data/cases.txt``
lists what it chose, for machines that have little more than NumPy.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from gpuconv.backend.device import Device
from gpuconv.config import Config
from gpuconv.kernels import registry
from gpuconv.kernels.cuda.base import CudaKernel
from gpuconv.problem import ConvProblem
from gpuconv.validate import reference, tolerance

from .problems import NUMPY, operands

#: One case a line: problem | kernel | config | offset.
LIST = Path(__file__).parent / "data" / "cases.txt"
#: Wrong elements that a mismatch tells of.
_TOLD = 8


@dataclass(frozen=True)
class Case:
    """One problem, one config, one way for arrays to lie."""

    problem: ConvProblem
    kernel: CudaKernel[Any]
    config: Config
    offset: int = 0

    def __str__(self) -> str:
        return f"{self.problem} {self.kernel.name}({self.config}) offset {self.offset}"

    @property
    def line(self) -> str:
        """The case as one line of a list."""
        return f"{self.problem} | {self.kernel.name} | {self.config} | {self.offset}"

    @classmethod
    def parse(cls, line: str) -> Case:
        """Read what `line` gives."""
        problem, name, config, offset = line.split(" | ")
        kernel = registry.by_name(name)
        if not isinstance(kernel, CudaKernel):
            raise ValueError(f"a case's kernel runs on CUDA devices, got {name}")
        return cls(ConvProblem.parse(problem), kernel, kernel.config_type.parse(config), int(offset))


class Mismatch(AssertionError):
    """A result that is not what it should be.

    Attributes
    ----------
    details : dict
        What was computed from which operands, and the first wrong elements: enough to become a test.
    """

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details = details


class Machine(Protocol):
    """Where a case runs: memory to put arrays in, and a launcher in place."""

    device: Device

    def at_work(self) -> AbstractContextManager[Any]:
        """Put the machine's launcher in place."""

    def put(self, array: Any, offset: int) -> Any:
        """Copy to the device, so many elements after an aligned address."""

    def poisoned(self, shape: tuple[int, ...], dtype: Any, offset: int) -> Any:
        """Memory full of NaN."""

    def get(self, array: Any) -> Any:
        """Copy back."""


def run(case: Case, machine: Machine, given: dict[str, Any]) -> Any:
    """Run a case on a machine; the result as a NumPy array."""
    p = case.problem
    with machine.at_work():
        plan = case.kernel.bind(p, case.config, machine.device)
        on_device = {
            name: None if array is None else machine.put(array, case.offset) for name, array in given.items()
        }
        out = machine.poisoned(p.operand_shapes[2], np.dtype(NUMPY[p.dtype]), case.offset)
        a, b = on_device.pop("a"), on_device.pop("b")
        plan(a, b, out, **on_device)
        return machine.get(out)


def check(case: Case, machines: list[Machine]) -> None:
    """Integers come out exact, floats within the bound, and the same bits on every machine."""
    p = case.problem
    exact = operands(p, 1, integers=True)
    expected = reference.evaluate(p, **exact)
    if p.relu:
        expected = np.maximum(expected, 0)
    expected = expected.astype(NUMPY[p.dtype])
    floats = operands(p, 2)
    first = None
    for machine in machines:
        result = run(case, machine, exact)
        try:
            np.testing.assert_array_equal(result, expected, err_msg=str(case))
        except AssertionError as error:
            what = {"operands": "operands(p, 1, integers=True)"}
            raise Mismatch(str(error), case=case.line, **what, **difference(result, expected)) from None
        result = run(case, machine, floats)
        what = {"operands": "operands(p, 2)"}
        if first is None:
            first = result
            verdict = tolerance.judge(p, result, **floats)
            if not verdict.ok:
                whole = cast(Any, reference.evaluate(p, **floats))
                found = difference(result, np.maximum(whole, 0) if p.relu else whole, only=verdict.worst)
                raise Mismatch(f"{case}: {verdict}", case=case.line, **what, **found)
        if result.tobytes() != first.tobytes():
            found = difference(result, first)
            message = f"{case}: other bits than on {machines[0]}"
            raise Mismatch(message, case=case.line, **what, **found)


def difference(got: Any, expected: Any, only: tuple[int, ...] | None = None) -> dict[str, Any]:
    """Where two arrays differ, and by what; of many places the first few, or the one named."""
    if only is None:
        # NaN is what it should be where NaN should be
        wrong = (got != expected) & ~(np.isnan(got) & np.isnan(expected))
        places = [tuple(map(int, at)) for at in np.argwhere(wrong)]
    else:
        places = [only]
    some = places[:_TOLD]
    return {
        "shape": list(got.shape),
        "wrong": len(places),
        "at": [list(at) for at in some],
        "got": [float(got[at]).hex() for at in some],
        "expected": [float(expected[at]).hex() for at in some],
    }


def listed() -> list[Case]:
    """The cases in `LIST`."""
    return [Case.parse(line) for line in LIST.read_text(encoding="utf-8").splitlines()]
