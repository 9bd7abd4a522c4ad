"""What importing gpuconv costs a program that imports NumPy anyway."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import gpuconv
from bench.conftest import Session

#: Run after ``import numpy``, so that the clock sees only what comes on top.
IMPORTS = {"package": "import gpuconv", "conv2d": "from gpuconv import conv2d"}
#: What neither import may load: optional or heavy packages.
UNWANTED = ("cupy", "click", "PIL", "rich", "torch", "ml_dtypes")
ROUNDS = 15


def test_import_time(benchmark: Any, session: Session) -> None:
    """Both imports take turns; any time passes, an unwanted package does not."""
    loaded = _python(f"import sys, gpuconv; gpuconv.conv2d; print(*sys.modules.keys() & {set(UNWANTED)!r})")
    assert loaded == ""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in IMPORTS}

    def run(name: str) -> None:
        times[name].append(seconds(IMPORTS[name]))

    for name in IMPORTS:  # whatever bytecode was missing is compiled now
        seconds(IMPORTS[name])
    benchmark.pedantic(run, args=("conv2d",), setup=lambda: run("package"), rounds=ROUNDS)
    if benchmark.stats is None:
        return
    beyond = {name: [on_top for _, on_top in found] for name, found in times.items()}
    benchmark.extra_info["numpy_seconds"] = _median_and_min([numpy for numpy, _ in times["package"]])
    benchmark.extra_info["seconds_beyond_numpy"] = {
        name: _median_and_min(found) for name, found in beyond.items()
    }
    session.extras["import_seconds_beyond_numpy"] = {
        name: _median_and_min(found)["median"] for name, found in beyond.items()
    }


def seconds(statement: str) -> tuple[float, float]:
    """Time a fresh interpreter takes to import NumPy, and then for a statement."""
    numpy, on_top = _python(
        "from time import perf_counter as t; a = t(); import numpy; b = t(); "
        f"{statement}; c = t(); print(b - a, c - b)"
    ).split()
    return float(numpy), float(on_top)


def _median_and_min(times: list[float]) -> dict[str, float]:
    return {"median": round(median(times), 5), "min": round(min(times), 5)}


def _python(code: str) -> str:
    where = Path(gpuconv.__file__).parents[1]
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=where).stdout.strip()
