"""What to measure first of the tensor-core kernel, while no GPU has timed it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Final, NamedTuple

from gpuconv.autotune.heuristic import Candidate, ranked
from gpuconv.autotune.space import takers
from gpuconv.backend.cards import CARDS
from gpuconv.families import FAMILIES, family, floor_us
from gpuconv.problem import OPS, ConvProblem
from gpuconv.report import shapes

KERNEL: Final = "implicit_gemm_sm80"
NETWORKS: Final = ("resnet50v1.5", "vgg16", "sdxl", "deepbench")
DTYPES: Final = ("f16", "bf16")
#: cuDNN's time divided by ours that this kernel is to reach on an H200, by family: mma.sync has two thirds of
#: the rate of Hopper's own instructions.
GOALS: Final = {
    "first-layer": 1.2, "grouped": 1.5, "nchw": 1.2, "odd": 1.0, "pointwise": 0.95, "few-tile": 1.0,
    "dense": 0.65,
}  # fmt: skip
#: Of NCHW the family of that name alone: the others are of channels that lie together.
_LAYOUTS: Final = ("nhwc", "nchw")
_BATCH: Final = 32
#: Bytes and FLOPs of what a check has time for.
_MOST_BYTES, _MOST_FLOPS = 2 * 10**9, 10**12


class Row(NamedTuple):
    """A problem, why it is here, and what dispatch would run untuned."""

    problem: ConvProblem
    why: str
    chosen: Candidate


@cache
def rows() -> tuple[Row, ...]:
    """Of each family and operation: most work, and what the model puts furthest from the floor.

    In float16; the kernel is the same for bfloat16. Only layers that dispatch gives this kernel on an H200.
    """
    device = CARDS["H200"].device
    found: dict[tuple[str, str], list[tuple[ConvProblem, Candidate, float]]] = {}
    for layer in shapes.read_all():
        if layer.network not in NETWORKS:
            continue
        for op, layout in product(OPS, _LAYOUTS):
            p = layer.problem(op, DTYPES[0], layout, _BATCH)
            kind = family(p, device.sms)
            if (kind == "nchw") != (layout == "nchw"):
                continue
            if kind not in GOALS or p.min_bytes > _MOST_BYTES or p.flops > _MOST_FLOPS:
                continue
            best = ranked(p, takers(p, device)[0], device)[0]
            floor = floor_us(p, device)
            if best.kernel.name == KERNEL and best.seconds and floor:
                found.setdefault((kind, op), []).append((p, best, floor / best.seconds))
    chosen: dict[ConvProblem, Row] = {}
    for kind in FAMILIES:
        for op in OPS:
            of_kind = found.get((kind, op), [])
            if not of_kind:
                continue
            p, best, _ = max(of_kind, key=lambda one: (one[0].flops, str(one[0])))
            chosen.setdefault(p, Row(p, "most work", best))
            p, best, _ = min(of_kind, key=lambda one: (one[2], str(one[0])))
            chosen.setdefault(p, Row(p, "furthest from the floor", best))
    return tuple(chosen.values())


def problems() -> list[ConvProblem]:
    """The same in every dtype, one after the other."""
    return [replace(row.problem, dtype=dtype) for row in rows() for dtype in DTYPES]


def section() -> Iterator[str]:
    """For the page of results."""
    yield f"## What to measure first of `{KERNEL}`"
    yield ""
    yield "No GPU has timed it. `bench/gpu_check.py` begins its benchmarks with these layers of ResNet-50,"
    yield "VGG-16, SDXL and DeepBench (batch 32, f16 and bf16), cuDNN's fastest plan beside each; `ncu`"
    yield "then profiles each family's worst. Of every family and operation: the layer with most work, and"
    yield "the one that the model of the device puts furthest from the floor. Limit: what takes the time by"
    yield "the model, a guess to be confirmed or refuted. Goal: cuDNN's time divided by ours."
    yield ""
    yield "| family | op | problem | why | config | limit | goal |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for row in rows():
        p, kind = row.problem, family(row.problem, CARDS["H200"].device.sms)
        cells = (kind, p.op, f"`{p}`", row.why, f"`{row.chosen.config}`", row.chosen.limit, GOALS[kind])
        yield f"| {' | '.join(map(str, cells))} |"
    yield ""
