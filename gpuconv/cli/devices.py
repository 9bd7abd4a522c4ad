"""Where a few convolutions are best computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from gpuconv.backend import detect
from gpuconv.cli.output import one_line


@dataclass(frozen=True, slots=True)
class Place:
    """A device and the way to it.

    Attributes
    ----------
    device : gpuconv.backend.device.Device
        As the library knows it.
    name : str
        For people.
    put, get : callable
        From a NumPy array to one on the device, and back.
    wait : callable
        Returns when the device has done all it was given.
    why_cpu : str
        Why this is not a CUDA device, or empty.
    """

    device: Any
    name: str
    put: Callable[[Any], Any]
    get: Callable[[Any], Any]
    wait: Callable[[], Any]
    why_cpu: str = ""


def choose(problems: Iterable[Any]) -> Place:
    """Take the first CUDA device if kernels there run every problem, else the CPU."""
    from gpuconv import dispatch
    from gpuconv.backend import device, launch
    from gpuconv.errors import UnsupportedProblem

    found = detect.cuda()
    why = found.why_not
    if found.names:
        import cupy

        here = launch.cuda(0)
        try:
            for problem in problems:
                dispatch.plan_for(problem, here)
            wait = cupy.cuda.Device(0).synchronize
            return Place(here, f"cuda ({found.names[0]})", cupy.asarray, cupy.asnumpy, wait)
        except UnsupportedProblem as error:
            why = one_line(error)
    cpu = device.cpu()
    return Place(cpu, str(cpu), lambda array: array, lambda array: array, lambda: None, why)
