"""What there is of CuPy, NVRTC and CUDA devices, and in words why something is missing.

Nothing here runs on import: importing CuPy creates a folder, and asking CUDA anything breaks a later fork.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Any

#: CuPy loads NVRTC at the first question; a second thread would go ahead before all its parts are there.
_loading = threading.Lock()


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


def cupy() -> Any:
    """Import CuPy.

    Raises
    ------
    RuntimeError
        If that fails, for whatever reason; says which in one line.
    """
    try:
        import cupy
    except ModuleNotFoundError as error:
        missing = "is not installed" if error.name == "cupy" else f"cannot be imported: {_line(error)}"
        raise RuntimeError(f"CuPy {missing}") from None
    except Exception as error:  # the import loads CUDA's libraries and passes on whatever goes wrong in them
        raise RuntimeError(f"CuPy cannot be imported: {_line(error)}") from None
    return cupy


def cuda() -> Cuda:
    """Ask CuPy for devices, without failing whatever state it is in."""
    try:
        module = cupy()
    except RuntimeError as error:
        return Cuda(None, (), str(error))
    version = str(getattr(module, "__version__", "unknown"))
    try:
        runtime = module.cuda.runtime
        names = [runtime.getDeviceProperties(index)["name"] for index in range(runtime.getDeviceCount())]
        text = tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)
    except Exception as error:  # no driver, too old a driver, a hidden device: each has a type of its own
        return Cuda(version, (), f"no CUDA device answers: {_line(error)}")
    return Cuda(version, text, "" if text else "CuPy finds no CUDA device")


def nvrtc() -> tuple[Any, tuple[int, int]]:
    """CuPy's thin wrapper of NVRTC, which works without a GPU, and NVRTC's version.

    Raises
    ------
    RuntimeError
        If there is none; says why in one line.
    """
    module = cupy()
    try:
        found = module.cuda.nvrtc
        with _loading:
            major, minor = found.getVersion()
    except Exception as error:  # not installed, of another CUDA, damaged: each has a type of its own
        raise RuntimeError(f"NVRTC, CUDA's compiler, cannot be loaded: {_line(error)}") from None
    return found, (int(major), int(minor))


def _line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


def _after_fork() -> None:
    """A child has none of the threads that may have been loading."""
    global _loading
    _loading = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
