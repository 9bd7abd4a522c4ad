"""The errors a caller may want to catch; wrong arguments raise plain ``TypeError`` or ``ValueError``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reject:
    """Why one kernel cannot run one problem, in words."""

    kernel: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kernel}: {self.reason}"


class UnsupportedProblem(RuntimeError):
    """No kernel can run the problem on its device.

    Attributes
    ----------
    problem : str
        The problem's text form.
    rejects : tuple of Reject
        Every kernel's reason.
    """

    def __init__(self, problem: str, device: str, rejects: Sequence[Reject]) -> None:
        self.problem = problem
        self.device = device
        self.rejects = tuple(rejects)
        reasons = "\n".join(f"  {reject}" for reject in self.rejects)
        super().__init__(f"no kernel runs {problem} on {device}:\n{reasons}")

    def __reduce__(self) -> tuple[type, tuple[str, str, tuple[Reject, ...]]]:
        return type(self), (self.problem, self.device, self.rejects)


class CompileError(RuntimeError):
    """A CUDA source did not compile; the message holds the compiler's own."""


class LaunchRefused(RuntimeError):
    """A device would not load or launch a kernel so; nothing was computed, and another plan may do."""


class LaunchError(RuntimeError):
    """A kernel failed on its device, whose context is lost: nothing can run there in this process."""
