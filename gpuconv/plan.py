"""A plan: one problem bound to one kernel, ready to run any number of times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gpuconv.backend.device import Device
from gpuconv.config import Config
from gpuconv.problem import ConvProblem

#: (a, b, out, bias, residual): writes out.
Run = Callable[[Any, Any, Any, Any, Any], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What `gpuconv.dispatch.plan_for` returns.

    The same plan gives the same bits for the same inputs, strides included, whatever the number of threads.

    Attributes
    ----------
    problem : ConvProblem
        What it computes.
    kernel : str
        Name of the kernel chosen.
    config : Config
        The kernel's parameters.
    device : Device
        Where it runs.
    workspace_bytes : int
        Memory it takes beside its arguments, at most.
    """

    problem: ConvProblem
    kernel: str
    config: Config
    device: Device
    workspace_bytes: int
    run: Run = field(repr=False, compare=False)

    def __call__(self, a: Any, b: Any, out: Any, *, bias: Any = None, residual: Any = None) -> None:
        """Compute (x, w)→y, (dy, w)→dx or (x, dy)→dw into `out`; shapes and dtypes are not checked again."""
        self.run(a, b, out, bias, residual)

    def __str__(self) -> str:
        return f"{self.problem} on {self.device.kind}: {self.kernel}({self.config})"
