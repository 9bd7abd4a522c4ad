"""Times of the plan that cuDNN chooses untried; apart, because PyTorch keeps a process's first plan."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from bench.check import cudnn, layers
from bench.check.steps import Item, Skip, Where, need_dtype
from gpuconv import measure
from gpuconv.families import family
from gpuconv.problem import ConvProblem


def items(where: Where) -> Iterable[Item]:
    """The problems of the benchmarks."""
    baseline = cudnn.cudnn(where, fastest=False)
    return [
        Item(str(p), partial(time_it, p, where, baseline), layers.cluster(p))
        for p in layers.problems(where.dry_run)
        if family(p) != "huge"  # its operands come from the host
    ]


def time_it(p: ConvProblem, where: Where, baseline: cudnn.CudnnBaseline) -> dict[str, Any]:
    """Microseconds."""
    need_dtype(p.dtype)
    bound = None
    try:
        with cudnn.refusals_skip(where):
            bound = baseline.bind(p, measure.operands(p))
        if bound is None:
            raise Skip("cuDNN has no such call")
        timing = measure.interleaved({"cudnn": bound.call}, where.machine.device, seconds=0.3)["cudnn"]
    finally:
        del bound
        cudnn.release(where, baseline)
    if timing.failure is not None:
        with cudnn.refusals_skip(where):
            raise timing.failure
    return {"us": round(timing.us, 3)}
