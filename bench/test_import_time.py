"""What importing gpuconv costs a program that imports NumPy anyway."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import gpuconv
from bench.report import Report

PROGRAMS = {
    "numpy": "import numpy",
    "package": "import numpy, gpuconv",
    "conv2d": "import numpy; from gpuconv import conv2d",
}
#: What neither import may load: optional or heavy packages.
UNWANTED = ("cupy", "click", "PIL", "rich", "torch", "ml_dtypes")
ROUNDS = 15


def seconds(program: str) -> float:
    """Time a fresh interpreter takes for a program, its own start left out."""
    timed = f"from time import perf_counter as t; start = t(); {program}; print(t() - start)"
    return float(_python(timed))


def test_import_time(benchmark: Any, report: Report) -> None:
    """All three programs take turns; any time passes, an unwanted package does not."""
    loaded = _python(f"import sys, gpuconv; gpuconv.conv2d; print(*sys.modules.keys() & {set(UNWANTED)!r})")
    assert loaded.strip() == ""
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}

    def others() -> None:
        for name in ("numpy", "package"):
            times[name].append(seconds(PROGRAMS[name]))

    others()  # whatever bytecode was missing is compiled now
    times.clear()
    times |= {name: [] for name in PROGRAMS}
    benchmark.pedantic(
        lambda: times["conv2d"].append(seconds(PROGRAMS["conv2d"])), setup=others, rounds=ROUNDS
    )
    if benchmark.stats is None:
        return
    beyond = {
        name: {how.__name__: round(how(times[name]) - how(times["numpy"]), 5) for how in (median, min)}
        for name in ("package", "conv2d")
    }
    benchmark.extra_info["seconds_beyond_numpy"] = beyond
    report.import_seconds = {name: found["median"] for name, found in beyond.items()}


def _python(code: str) -> str:
    where = Path(gpuconv.__file__).parents[1]
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=where).stdout
