"""Nsight Compute on the worst ratio of each family."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from functools import partial
from typing import Any

from bench.check.state import StepState
from bench.check.steps import ROOT, Item, Skip, Wait, Where
from gpuconv.families import family
from gpuconv.problem import ConvProblem

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
    """One for each family: worst of the problems compared; where none was, the furthest from the floor."""
    command = shutil.which("ncu")
    if command is None:
        raise Skip("ncu is not on the path")
    if where.dry_run:
        raise Skip("ncu needs a GPU")
    where.machine  # noqa: B018  (raises Skip without a device)
    timed = where.state.step("benchmarks")
    if not timed.finished:  # a worse one may be to come
        raise Wait("the benchmarks come first")
    chosen = worst(timed)
    lacking = {
        family(ConvProblem.parse(key)): line["note"]
        for key, line in timed.ended.items()
        if line["status"] == "skipped"
    }
    if not chosen and not lacking:
        raise Skip("nothing has been timed")
    found = [Item(f"{name} {text}", partial(profile, command, text)) for name, text in chosen.items()]
    found += [
        Item(f"{name}: none timed", partial(_skip, note))
        for name, note in lacking.items()
        if name not in chosen
    ]
    return found


def worst(timed: StepState) -> dict[str, str]:
    """A problem of each family; ratios and shares of the floor are not compared with each other."""
    families: dict[str, list[dict[str, Any]]] = {}
    for line in timed.ended.values():
        record = line["data"].get("record")
        if record and record.get("us") is not None:
            families.setdefault(record["family"], []).append(record)
    found = {}
    for name, records in families.items():
        for measure in ("ratio", "share_of_floor"):
            judged = [record for record in records if record.get(measure) is not None]
            if judged:
                found[name] = min(judged, key=lambda record: (record[measure], record["problem"]))["problem"]
                break
    return found


def _skip(reason: str) -> None:
    raise Skip(reason)


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
    if "No kernels were profiled" in said:  # it ends with 0 all the same
        raise RuntimeError(f"ncu profiled no kernel: {said[-1500:]}")
    return {"report": said[:MOST]}
