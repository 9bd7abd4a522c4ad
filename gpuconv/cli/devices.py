"""Which CUDA devices answer, and where a few convolutions are best computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from gpuconv.cli.output import one_line


@dataclass(frozen=True, slots=True)
class Cuda:
    """What CuPy says about this machine.

    Attributes
    ----------
    version : str or None
        CuPy's, where it can be imported.
    names : tuple of str
        Every device's name.
    why_not : str
        Why there is none; empty where there is one.
    """

    version: str | None
    names: tuple[str, ...]
    why_not: str = ""


def cuda() -> Cuda:
    """Ask CuPy, without failing whatever state it is in."""
    try:
        import cupy
    except ModuleNotFoundError as error:
        missing = "is not installed" if error.name == "cupy" else f"cannot be imported: {one_line(error)}"
        return Cuda(None, (), f"CuPy {missing}")
    except Exception as error:  # the import loads CUDA's libraries and passes on whatever goes wrong in them
        return Cuda(None, (), f"CuPy cannot be imported: {one_line(error)}")
    version = str(getattr(cupy, "__version__", "unknown"))
    try:
        runtime = cupy.cuda.runtime
        names = [runtime.getDeviceProperties(index)["name"] for index in range(runtime.getDeviceCount())]
        text = tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)
    except Exception as error:  # no driver, too old a driver, a hidden device: each has a type of its own
        return Cuda(version, (), f"no CUDA device answers: {one_line(error)}")
    return Cuda(version, text, "" if text else "CuPy finds no CUDA device")


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
    from gpuconv.backend import device
    from gpuconv.errors import UnsupportedProblem

    found = cuda()
    why = found.why_not
    if found.names:
        import cupy

        here = device.cuda(0)
        try:
            for problem in problems:
                dispatch.plan_for(problem, here)
            wait = cupy.cuda.Device(0).synchronize
            return Place(here, f"cuda ({found.names[0]})", cupy.asarray, cupy.asnumpy, wait)
        except UnsupportedProblem:
            why = f"no kernel of this version runs this on {found.names[0]}"
    cpu = device.cpu()
    return Place(cpu, str(cpu), lambda array: array, lambda array: array, lambda: None, why)
