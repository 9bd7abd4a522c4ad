"""Nsight Compute on the worst ratio of each family."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from functools import partial
from typing import Any

from bench.check import layers
from bench.check.steps import ROOT, Item, Skip, Wait, Where

SECTIONS = (
    "SpeedOfLight",
    "LaunchStats",
    "Occupancy",
    "MemoryWorkloadAnalysis",
    "SchedulerStats",
    "WarpStateStats",
)
#: Characters of a report that are kept.
MOST = 12_000
ONE_CALL = """
import sys
import cupy
from gpuconv import measure
from gpuconv.problem import ConvProblem
from gpuconv.report.measured import public_call
p = ConvProblem.parse(sys.argv[1])
given = measure.operands(p)
arrays = [None if a is None else cupy.asarray(a.view(f"u{a.itemsize}")).view(a.dtype) for a in given]
call = public_call(p, measure.Operands(*arrays))
call()
cupy.cuda.runtime.deviceSynchronize()
cupy.cuda.profiler.start()
call()
cupy.cuda.runtime.deviceSynchronize()
cupy.cuda.profiler.stop()
"""


def items(where: Where) -> Iterable[Item]:
    """One for each family: of the problems compared the worst, else the furthest from the floor."""
    command = shutil.which("ncu")
    if command is None:
        raise Skip("ncu is not on the path")
    if where.dry_run:
        raise Skip("ncu needs a GPU")
    where.machine  # noqa: B018  (raises Skip without a device)
    timed = where.state.step("benchmarks")
    if not timed.finished and len(timed.ended) < len(layers.limited(layers.problems(False), 1)):
        raise Wait("the benchmarks of each family's first problem come first")
    worst: dict[str, tuple[float, str]] = {}
    for line in timed.ended.values():
        record = line["data"].get("record") or {}
        judged = record.get("ratio") or record.get("share_of_floor")
        if judged is not None:
            name = record["family"]
            worst[name] = min(worst.get(name, (judged, record["problem"])), (judged, record["problem"]))
    if not worst:
        raise Skip("nothing has been timed")
    return [Item(f"{name} {text}", partial(profile, command, text)) for name, (_, text) in worst.items()]


def profile(command: str, text: str) -> dict[str, Any]:
    """The report of one call."""
    sections = [part for section in SECTIONS for part in ("--section", section)]
    words = [command, "--profile-from-start", "off", *sections, sys.executable, "-c", ONE_CALL, text]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    said = f"{done.stdout}\n{done.stderr}"
    if "ERR_NVGPUCTRPERM" in said:
        raise Skip("this user may not read the GPU's counters (ERR_NVGPUCTRPERM)")
    if done.returncode != 0:
        raise RuntimeError(f"ncu ended with {done.returncode}: {said[-1500:]}")
    return {"report": said[:MOST]}
