"""The tuner on a layer or two of each kind: what it gains over the choice that nobody timed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from typing import Any

from bench.check import layers
from bench.check.steps import Item, Where, need_dtype
from gpuconv.autotune import recording, tuner
from gpuconv.autotune.asked import Wishes
from gpuconv.problem import ConvProblem
from tests.cases import Mismatch

#: Layers of each family, operation, dtype and precision.
EACH = 2
#: Seconds for one problem, compiling aside.
BUDGET = 3.0


def items(where: Where) -> Iterable[Item]:
    """The problems of the benchmarks, those that come first there; the next step then runs what won."""
    chosen = layers.limited(layers.problems(where.dry_run), EACH)
    return [Item(str(p), partial(tune, p, where), layers.cluster(p)) for p in chosen]


def tune(p: ConvProblem, where: Where) -> dict[str, Any]:
    """Every time, as `recording.Recording` has them; fails where a candidate's result was wrong."""
    need_dtype(p.dtype)
    if where.dry_run:  # what this processor is best at is no business of the user's store
        os.environ["GPUCONV_CACHE_DIR"] = str(where.state.folder / "cache")
    wishes = Wishes(budget=0.3 if where.dry_run else BUDGET)
    found = tuner.tune(p, where.timed_device, wishes)
    data = recording.as_json(found)
    wrong = [f"{one}: {one.failure}" for one in found.tried if (one.failure or "").startswith("wrong")]
    if wrong:
        raise Mismatch(f"{p}: {'; '.join(wrong)}", **data)
    return {**data, "gain": found.gain}
