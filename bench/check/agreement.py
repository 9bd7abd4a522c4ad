"""Every kernel's results and cuDNN's, each judged by the float64 oracle: one may be wrong, the other not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any

from bench.check import cudnn, layers
from bench.check.steps import Item, Skip, Where, need_dtype
from gpuconv.measure import Operands
from gpuconv.problem import ConvProblem
from gpuconv.report.baselines import Baseline
from gpuconv.report.validated import validate
from gpuconv.validate import random_problems
from tests.cases import Mismatch
from tests.problems import DTYPES

#: Random problems that the other side takes, beside a layer of each family, operation and dtype.
RANDOM = 400
#: Of so many that are drawn, at most.
DRAWN = 100 * RANDOM
SEED = 0


def items(where: Where) -> Iterable[Item]:
    """A layer of each kind first, then random problems."""
    baseline = cudnn.cudnn(where, fastest=False)
    chosen = layers.limited(layers.problems(where.dry_run), 1)
    chosen = list(dict.fromkeys([*chosen, *comparable(baseline)]))
    return [Item(str(p), partial(compare, p, where, baseline), layers.cluster(p)) for p in chosen]


def comparable(baseline: cudnn.CudnnBaseline) -> Iterator[ConvProblem]:
    """Random problems that both sides compute: what is compared counts, not what is drawn."""
    drawn = random_problems.problems(DRAWN, SEED, dtypes=tuple(DTYPES))
    return islice(filter(baseline.takes, drawn), RANDOM)


class Theirs:
    """A baseline as a second opinion; `cudnn.DeviceLost` is nobody's opinion."""

    def __init__(self, baseline: Baseline, where: Where) -> None:
        self._safe, self.name = cudnn.Optional(baseline, where), baseline.name

    def results(self, p: ConvProblem, given: Operands) -> Iterator[tuple[str, Any]]:
        """See `gpuconv.report.opinions.Opinion`."""
        bound = self._safe.bind(p, given)
        if bound is None:
            raise RuntimeError("has no such call")
        yield "", bound.numpy(bound.call())


def compare(p: ConvProblem, where: Where, baseline: cudnn.CudnnBaseline) -> dict[str, Any]:
    """Fails where ours is outside the bound; what cuDNN's error is, is told."""
    need_dtype(p.dtype)
    try:
        found = validate(p, where.machine.device, opinion=Theirs(baseline, where))
    finally:
        cudnn.release(where, baseline)
    failed = [each for each in found.checked if each.failure is not None]
    if failed:
        raise RuntimeError(f"{failed[0].kernel}({failed[0].config}): {failed[0].failure}")
    if not found.checked:
        raise Skip("; ".join(map(str, found.rejects)))
    worst = max(found.checked, key=lambda each: (each.wrong, each.error_over_bound or 0))
    theirs = found.beside
    data = {
        "ours": worst.error_over_bound,
        "cudnn": None if theirs is None else theirs.error_over_bound,
        "apart": worst.apart,
        "kernel": worst.kernel,
        "config": worst.config,
        "kernels": len({each.kernel for each in found.checked}),
    }
    if worst.overwrites:
        culprit = f"{p}: {worst.kernel}({worst.config})"
        raise Mismatch(f"{culprit} writes to its operands {', '.join(worst.overwrites)}", **data)
    if worst.wrong:
        where_ = {"at": [list(worst.worst)], "got": [worst.got], "expected": [worst.right]}
        message = f"{p}: {worst.kernel}({worst.config}): error {worst.error_over_bound} of the bound"
        raise Mismatch(f"{message} at {worst.worst}, cuDNN's {data['cudnn']}", **data, **where_)
    if theirs is not None and theirs.reason is not None:
        raise Skip(f"cuDNN: {theirs.reason}")
    return data
