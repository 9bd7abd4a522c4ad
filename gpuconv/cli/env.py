"""``gpuconv env``: what a report of a fault should hold; nothing that is broken keeps it from the rest."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from importlib import metadata
from typing import Any, Final

import click

from gpuconv import settings
from gpuconv.backend import detect
from gpuconv.cli import output

_PACKAGES: Final = ("threadpoolctl", "platformdirs", "filelock", "ml_dtypes", "click", "rich", "pillow")


@click.command()
@output.json_option
def env(as_json: bool) -> None:
    """Show versions, devices, GPUCONV_* variables and folders.

    What cannot be found out is shown as the error it gave.
    """
    cuda = detect.cuda()
    found: dict[str, Any] = {
        "versions": _versions(cuda),
        "devices": _devices(cuda),
        "variables": _variables(),
        "folders": {
            "package": _ask(_package_folder),
            "CUDA sources": _ask(_source_folder),
            "compiled kernels": _ask(lambda: _kept("cubins")),
            "tuning results": _ask(lambda: _kept("tuning")),
        },
    }
    if as_json:
        output.emit("env", [found])
        return
    variables = [
        (
            each["name"],
            each["value"] or "not set",
            f"error: {each['error']}" if each["error"] else each["meaning"],
        )
        for each in found["variables"]
    ]
    output.show(
        "versions", output.facts(list(found["versions"].items())), "",
        "devices", output.facts([(each["device"], _device_line(each)) for each in found["devices"]]), "",
        "variables", output.table(("name", "value", "meaning"), variables), "",
        "folders", output.facts(list(found["folders"].items())),
    )  # fmt: skip


def _ask(question: Callable[[], Any]) -> str:
    try:
        return str(question())
    except Exception as error:  # whatever is broken here is what the reader wants to see
        return f"error: {output.one_line(error)}"


def _versions(cuda: detect.Cuda) -> dict[str, str]:
    found = {
        "gpuconv": _ask(_own_version),
        "Python": f"{platform.python_version()} ({platform.system()} {platform.machine()})",
        "NumPy": _ask(_numpy_version),
        "BLAS": _ask(_blas),
    }
    found |= {name: _installed(name) for name in _PACKAGES}
    found["CuPy"] = cuda.version or cuda.why_not.removeprefix("CuPy is ")
    return {**found, "NVRTC": _nvrtc_version()}


def _nvrtc_version() -> str:
    try:
        return ".".join(map(str, detect.nvrtc()[1]))
    except RuntimeError as error:
        return f"none: {error}"


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
    except Exception as error:  # damaged metadata; as in `_ask`
        return f"error: {output.one_line(error)}"


def _own_version() -> str:
    import gpuconv

    return gpuconv.__version__


def _numpy_version() -> str:
    import numpy as np

    return np.__version__


def _blas() -> str:
    from gpuconv.backend import blas

    return blas.description()


def _devices(cuda: detect.Cuda) -> list[dict[str, Any]]:
    found = [_cpu(), *({"device": f"cuda:{index}", "name": name} for index, name in enumerate(cuda.names))]
    return found if cuda.names else [*found, {"device": "cuda", "error": cuda.why_not}]


def _cpu() -> dict[str, Any]:
    try:
        from gpuconv.backend import device

        cpu = device.cpu()
        return {"device": "cpu", "name": cpu.name, "threads": cpu.threads}
    except Exception as error:  # as in `_ask`
        return {"device": "cpu", "error": output.one_line(error)}


def _device_line(found: dict[str, Any]) -> str:
    if "error" in found:
        return f"{'error' if found['device'] == 'cpu' else 'none'}: {found['error']}"
    threads = found.get("threads")
    return str(found["name"]) + (f", {threads} thread{'s' * (threads > 1)}" if threads else "")


def _variables() -> list[dict[str, str | None]]:
    """Those there are, and any other of that prefix, which is likely a slip of the pen."""
    known = [_variable(name, meaning) for name, meaning in settings.VARIABLES.items()]
    strange = sorted(
        name for name in os.environ if name.startswith("GPUCONV_") and name not in settings.VARIABLES
    )
    wrong = "gpuconv knows no such variable"
    return known + [
        {"name": name, "value": os.environ[name], "meaning": None, "error": wrong} for name in strange
    ]


def _variable(name: str, meaning: str) -> dict[str, str | None]:
    """A variable, and what is wrong with its value."""
    value, error = settings.read(name), None
    try:
        if value is not None:
            _check(name, value)
    except Exception as problem:  # as in `_ask`
        error = output.one_line(problem)
    return {"name": name, "value": value, "meaning": meaning, "error": error}


def _check(name: str, value: str) -> None:
    if name == "GPUCONV_THREADS":
        settings.threads()
    elif name in ("GPUCONV_ASSERT_CACHED", "GPUCONV_LINEINFO", "GPUCONV_TUNE"):
        settings.flag(name)
    elif name in ("GPUCONV_KERNEL", "GPUCONV_CONFIG"):
        from gpuconv.kernels import registry

        kernel = settings.read("GPUCONV_KERNEL")
        if kernel is None:
            raise ValueError("has no effect without GPUCONV_KERNEL")
        found = registry.by_name(kernel)
        if name == "GPUCONV_CONFIG":
            found.config_type.parse(value)


def _package_folder() -> Any:
    from importlib.resources import files

    return files("gpuconv")


def _source_folder() -> Any:
    from gpuconv.backend.source import cuda_source_folder

    return cuda_source_folder()


def _kept(name: str) -> str:
    """A folder in the user's cache."""
    from gpuconv.backend import folders

    folder = folders.root() / name
    try:
        folders.check(folder)
    except FileNotFoundError:
        return f"{folder} (not there yet)"
    except folders.Unusable as error:
        return f"{folder} (not used: {error})"
    return str(folder)
