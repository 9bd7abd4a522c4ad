"""gpuconv's results and cuDNN's, each judged by the float64 oracle: one may be wrong and the other not."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from bench.check import cudnn, layers
from bench.check.steps import Item, Skip, Where, need_dtype
from gpuconv import measure
from gpuconv.problem import ConvProblem
from gpuconv.report.measured import measure_problem
from tests.cases import Mismatch


def items(where: Where) -> Iterable[Item]:
    """A layer of each family, operation and dtype."""
    baseline = cudnn.cudnn(where, fastest=False)
    chosen = layers.limited(layers.problems(where.dry_run), 1)
    return [Item(str(p), partial(compare, p, where, baseline), layers.cluster(p)) for p in chosen]


def compare(p: ConvProblem, where: Where, baseline: cudnn.TorchCudnn) -> dict[str, Any]:
    """Fails where ours is outside the bound; what cuDNN's error is, is told."""
    need_dtype(p.dtype)
    given = measure.operands(p)
    bound = None
    try:
        with cudnn.refusals_skip(where):
            bound = baseline.bind(p, given)
            result = None if bound is None else bound.numpy(bound.call())
        if result is None:
            raise Skip("cuDNN has no such call")
        theirs = measure.error_over_bound(p, result, given)
        record = measure_problem(p, where.machine.device, timed=False).record
    finally:
        del bound
        cudnn.release(where, baseline)
    found = {
        "ours": record.error_over_bound,
        "cudnn": theirs,
        "kernel": record.kernel,
        "config": record.config,
    }
    if record.wrong:
        raise Mismatch(f"{p}: error {record.error_over_bound} of the bound, cuDNN's {theirs:.3g}", **found)
    return found
