"""Every plan of cuDNN for the layers of the tables, run, timed and judged; `bench.cudnn_plans` by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import product
from typing import Any

from bench import cudnn_plans
from bench.check import cudnn, layers
from bench.check.steps import Item, Skip, Where, need_dtype
from gpuconv.families import family
from gpuconv.layout import LAYOUTS
from gpuconv.problem import OPS, ConvProblem
from gpuconv.validate.cudnn import Cudnn

#: Form and layout of what is timed before the rest.
FIRST = (("bf16", "nhwc"), ("f32", "nhwc"))
#: Seconds of turns for the plans of one problem.
SECONDS = 0.5


def items(where: Where) -> Iterable[Item]:
    """Each layer in each operation, dtype and layout, what matters most first."""
    if where.dry_run:
        raise Skip("cuDNN needs a GPU")
    device = where.machine.device
    cudnn.use_wheel(where.state.folder)
    try:
        by = Cudnn(device)
    except RuntimeError as error:
        raise Skip(f"plans are those of cuDNN's frontend: {error}") from None
    return [Item(str(p), partial(time_it, p, where, by), layers.cluster(p)) for p in problems()]


def problems() -> Iterator[ConvProblem]:
    """All of them, in order."""
    rest = [kind for kind in product(cudnn_plans.FORMS, LAYOUTS) if kind not in FIRST]
    tables = cudnn_plans.layers()
    for (form, layout), op, layer in product((*FIRST, *rest), OPS, tables):
        yield cudnn_plans.problem(layer, op, layout, form)


def time_it(p: ConvProblem, where: Where, by: Cudnn, clock: Any = None) -> dict[str, Any]:
    """A row of `bench.cudnn_plans.TIMES`, and what it is of."""
    need_dtype(p.dtype)
    if p.min_bytes > layers.MOST_BYTES or family(p) == "huge":
        raise Skip("its operands come from the host and are too large for that")
    try:
        with cudnn.refusals_skip(where):
            row = cudnn_plans.timed(p, by, SECONDS, clock)
    finally:
        cudnn.release(where, None)
    lost = where.lost()  # what a plan raises while it is timed is that plan's alone
    if lost is not None:
        raise cudnn.DeviceLost(lost)
    if "fastest" not in row:
        raise Skip(f"cuDNN: {row['why']}")
    return {"times": row, "device": by.device.name, "cudnn": by.name}
