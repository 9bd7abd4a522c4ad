"""What was found out before, about a problem or one near to it; only what would be tried today counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log2
from typing import Any, Final

from gpuconv import store
from gpuconv.autotune.heuristic import Candidate, predicted
from gpuconv.autotune.space import live
from gpuconv.backend.device import Device
from gpuconv.problem import ConvProblem

#: Doublings of pixels, channels and filters together up to which another problem is near.
_NEAR: Final = 2.0
_Kinds = dict[tuple[Any, ...], list[store.Entry]]
#: The store's entries by kind, and what they were sorted from.
_sorted: dict[Device, tuple[Mapping[ConvProblem, store.Entry], _Kinds]] = {}
#: A borrowed candidate that the model expects to take this many times as long as its own choice is left.
_AGREES: Final = 1.05


def remembered(p: ConvProblem, device: Device) -> tuple[Candidate, store.Entry] | None:
    """What the store has on a problem."""
    entry = store.find(p, device)
    if entry is None:
        return None
    found = live(p, device, entry.kernel, entry.config)
    return None if found is None else (found, entry)


def borrowed(p: ConvProblem, device: Device, untuned: Candidate) -> Candidate | None:
    """What the nearest tuned problem was given, if it is legal here and the heuristic has no objection.

    On a CUDA device the model's times are compared. A CPU's rank of kernels must lead to the same kernel.
    """
    near = [
        (distance, entry)
        for entry in _of_kind(_kind(p), device)
        if entry.problem != p and (distance := _distance(p, entry.problem)) <= _NEAR
    ]
    if not near:
        return None
    _, entry = min(near, key=lambda one: (one[0], str(one[1].problem)))
    if device.kind == "cpu" and entry.kernel != untuned.kernel.name:
        return None
    found = live(p, device, entry.kernel, entry.config)
    if found is None or device.kind == "cpu":
        return found
    found = predicted(p, found.kernel, found.config, device)
    return found if (found.seconds or 0.0) <= _AGREES * (untuned.seconds or 0.0) else None


def _of_kind(kind: tuple[Any, ...], device: Device) -> Sequence[store.Entry]:
    """The entries of one kind; sorted once for each state of the store."""
    entries = store.entries(device)
    found = _sorted.get(device)
    if found is None or found[0] is not entries:
        kinds: dict[tuple[Any, ...], list[store.Entry]] = {}
        for problem, entry in entries.items():
            kinds.setdefault(_kind(problem), []).append(entry)
        found = _sorted[device] = entries, kinds
    return found[1].get(kind, ())


def _distance(p: ConvProblem, other: ConvProblem) -> float:
    """How many doublings lie between two problems of one kind."""
    return sum(abs(log2(a / b)) for a, b in zip(_sizes(p), _sizes(other), strict=True))


def _kind(p: ConvProblem) -> tuple[Any, ...]:
    """What must be the same: everything but sizes, fused extras and the amount of padding."""
    grouping = "depthwise" if p.groups == p.C > 1 else "grouped" if p.groups > 1 else "plain"
    return (
        *(p.op, p.R, p.S, p.stride, p.dilation, grouping, p.layout, p.weights, p.dtype, p.precision),
        p.padding_mode,
    )


def _sizes(p: ConvProblem) -> tuple[int, ...]:
    """Images, rows, columns, channels and filters; 1 for what is empty."""
    return tuple(max(1, size) for size in (p.N, p.P, p.Q, p.C, p.K))
