"""What every CUDA kernel must get right, wherever it runs: cases, and the one body that judges them.

A case is a problem, a config and the way its arrays lie. Cases come from an all-pairs design: every value of
one factor meets every value of any other at least once; GPUCONV_FULL=1 takes all of the most telling ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, Protocol

import numpy as np
from allpairspy import AllPairs

from gpuconv.backend.device import Device
from gpuconv.config import Config
from gpuconv.kernels.cuda.base import CudaKernel
from gpuconv.problem import OPS, ConvProblem
from gpuconv.validate import reference, tolerance

from .conftest import FULL
from .problems import NAMED, NUMPY, operands

#: Geometries of `NAMED` without layout and dtype, and some that only tiles find awkward.
GEOMETRIES = (
    *dict.fromkeys(text.split("_")[1] for text in NAMED.values()),
    "n1c1h37w70k1r3s3p1",
    "n1c1h9w40k1r1s33p0x16",
    "n1c2h40w9k1r35s2p17x0",
    "n1c1h34w33k1r17s17p8",
    "n2c3h8w9k33r2s3p1",
    "n1c33h5w6k3r3s3p1",
    "n1c2h11w300k2r3s3p1",
    "n5c3h3w3k4r3s3p1",
    "n1c70h5w5k70r3s3p1g70",
    "n1c32h6w7k32r3s3p1g8",
    "n1c4h9w9k6r3s3p0+3x2+0d2",
    "n1c3h50w7k2r2s2u40x3p3",
    "n1c2h60w5k3r2s2p2d50x2",
    "n1c4h12w12k4r4s4u3x2p2d2x3",
    "n9c1h4w4k1r2s2p1",
    "n1c16h16w16k8r3s3p1",
)
WEIGHTS = (
    ("nchw", "oihw"), ("nhwc", "hwio"), ("nhwc", "ohwi"),
    ("nchw", "hwio"), ("nhwc", "oihw"), ("nchw", "ohwi"),
)  # fmt: skip
EPILOGUES = ("", "+bias", "+res", "+relu", "+bias+res+relu")
#: Which of a problem's configs: 0 is the default, then evenly from all.
CONFIGS = range(12)
#: Elements that arrays begin after an aligned address.
OFFSETS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Case:
    """One problem, one config, one way for arrays to lie."""

    problem: ConvProblem
    kernel: CudaKernel[Any]
    config: Config
    offset: int = 0

    def __str__(self) -> str:
        return f"{self.problem} {self.kernel.name}({self.config}) offset {self.offset}"


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


def cases(kernels: tuple[CudaKernel[Any], ...], device: Device) -> list[Case]:
    """The all-pairs design; under GPUCONV_FULL every geometry, direction, layout and dtype."""
    found: dict[Case, None] = {}
    for kernel, *row in _rows(kernels):
        problem = _problem(*row[:5])
        case = _case(problem, kernel, row[5], row[6], device)
        if case is not None:
            found[case] = None
    return list(found)


def _rows(kernels: tuple[CudaKernel[Any], ...]) -> Iterator[tuple[Any, ...]]:
    factors = [kernels, GEOMETRIES, OPS, WEIGHTS, tuple(NUMPY), EPILOGUES, CONFIGS, OFFSETS]
    if not FULL:
        yield from map(tuple, AllPairs(factors, filter_func=_possible))
        return
    for number, row in enumerate(product(*factors[:5])):
        for config in CONFIGS:
            at = number + config
            yield (*row, EPILOGUES[at % len(EPILOGUES)] if row[2] != "wgrad" else "", config, OFFSETS[at % 5])


def _possible(row: list[Any]) -> bool:
    return not (len(row) > 5 and row[2] == "wgrad" and row[5])


@cache
def _problem(geometry: str, op: str, orders: tuple[str, str], dtype: str, epilogue: str) -> ConvProblem:
    layout, weights = orders
    return ConvProblem.parse(f"{op}_{geometry}_{layout}-{weights}_{dtype}{epilogue}")


def _case(p: ConvProblem, kernel: CudaKernel[Any], which: int, offset: int, device: Device) -> Case | None:
    if kernel.check(p, device) is not None:
        return None
    if which == 0:
        return Case(p, kernel, kernel.default_config(p, device), offset)
    configs = kernel.configs(p, device)
    return Case(p, kernel, configs[which * len(configs) // len(CONFIGS)], offset)


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
        np.testing.assert_array_equal(run(case, machine, exact), expected, err_msg=str(case))
        result = run(case, machine, floats)
        if first is None:
            first = result
            verdict = tolerance.judge(p, result, **floats)
            assert verdict.ok, f"{case}: {verdict}"
        assert result.tobytes() == first.tobytes(), f"{case}: other bits than on {machines[0]}"
