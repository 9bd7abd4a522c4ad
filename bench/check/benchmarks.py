"""Times by turns with cuDNN's fastest plan, and with CuPy's filters on images; checked before timed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from typing import Any

from bench.check import cudnn, layers
from bench.check.steps import Item, Skip, Where, need_dtype
from gpuconv.problem import ConvProblem
from gpuconv.report.baselines import Baseline
from gpuconv.report.measured import measure_problem
from tests.cases import Mismatch

#: Seconds of turns for one problem.
SECONDS = 1.0


def items(where: Where) -> Iterable[Item]:
    """Each layer; without cuDNN the times stand alone."""
    device = where.timed_device
    theirs: cudnn.CudnnBaseline | None = None
    remark = ""
    try:
        theirs = cudnn.cudnn(where, fastest=True)
    except Skip as skip:
        remark = str(skip)
    baselines: list[Baseline] = [] if theirs is None else [cudnn.Optional(theirs, where)]
    if not where.dry_run:
        baselines.append(cudnn.Optional(cudnn.CupyImages(where.machine.cupy), where))
    for p in layers.problems(where.dry_run):
        yield Item(str(p), partial(time_it, p, where, device, baselines, theirs, remark), layers.cluster(p))


def time_it(
    p: ConvProblem,
    where: Where,
    device: Any,
    baselines: list[Baseline],
    theirs: cudnn.CudnnBaseline | None,
    remark: str,
) -> dict[str, Any]:
    """One record."""
    need_dtype(p.dtype)
    seconds, turns = (0.1, 2) if where.dry_run else (SECONDS, 5)
    try:
        found = measure_problem(
            p, device, baselines=baselines, seconds=seconds, turns=turns, commit=where.commit
        )
    finally:
        cudnn.release(where, theirs)
    record = found.record
    remarks = [*found.remarks, *([remark] if remark else [])]
    if record.baseline is None and not remarks:
        remarks.append("no baseline computes this")
    if record.wrong:
        message = f"{p}: error {record.error_over_bound} of the bound; not timed"
        raise Mismatch(message, problem=str(p), record=asdict(record))
    ours = found.timings["gpuconv"]
    clocks = {"spread": ours.spread, "clocks_mhz": ours.clocks_mhz, "turns": ours.turns, "calls": ours.calls}
    return {"record": asdict(record), "remarks": remarks, **clocks}
