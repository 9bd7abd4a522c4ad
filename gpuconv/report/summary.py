"""Many records in a few numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, log

from gpuconv.families import FAMILIES
from gpuconv.report.records import Record


@dataclass(frozen=True, slots=True)
class Summary:
    """Records of one family and operation.

    Attributes
    ----------
    family, op : str
        ``"all"`` for those of every family.
    count : int
        Records that were timed undisturbed; the rest is left out.
    compared : int
        Those that have a ratio.
    ratio, share_of_floor : float or None
        Geometric means.
    worst, worst_problem : float, str or None
        The lowest ratio.
    """

    family: str
    op: str
    count: int
    compared: int
    ratio: float | None
    worst: float | None
    worst_problem: str | None
    share_of_floor: float | None


@dataclass(frozen=True, slots=True)
class Change:
    """A problem's time before and after; `ratio` is before ÷ after: above 1 it became faster."""

    problem: str
    before_us: float
    after_us: float
    ratio: float
    disturbed: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs.

    Attributes
    ----------
    changes : tuple of Change
        Problems that both timed, the one that lost most first.
    ratio : float or None
        Geometric mean over those that nothing disturbed.
    only_before, only_after : tuple of str
        Problems that only one of them timed.
    """

    changes: tuple[Change, ...]
    ratio: float | None
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]


def summary(records: Iterable[Record]) -> list[Summary]:
    """Sum up each family and operation, in the order of `FAMILIES`; if there are more, all come first.

    Records that others disturbed, that are wrong or have no time are left out.
    """
    found = [record for record in records if record.us is not None and not record.disturbed]
    ops = list(dict.fromkeys(record.op for record in found))
    groups = {
        (name, op): [record for record in found if (record.family, record.op) == (name, op)]
        for name in FAMILIES
        for op in ops
    }
    rows = [_sum_up(name, op, group) for (name, op), group in groups.items() if group]
    if len(rows) > 1:
        rows.insert(0, _sum_up("all", "all", found))
    return rows


def _sum_up(name: str, op: str, group: Sequence[Record]) -> Summary:
    ratios = [(record.ratio, record.problem) for record in group if record.ratio is not None]
    shares = [record.share_of_floor for record in group if record.share_of_floor is not None]
    worst, problem = min(ratios, default=(None, None))
    mean = geometric_mean([ratio for ratio, _ in ratios])
    return Summary(name, op, len(group), len(ratios), mean, worst, problem, geometric_mean(shares))


def compare(before: Iterable[Record], after: Iterable[Record]) -> Comparison:
    """Compare two runs problem by problem."""
    first, second = ({record.problem: record for record in side if record.us} for side in (before, after))
    changes = []
    for problem in first.keys() & second.keys():
        a, b = first[problem], second[problem]
        if a.us is not None and b.us is not None:
            changes.append(Change(problem, a.us, b.us, a.us / b.us, a.disturbed or b.disturbed))
    changes.sort(key=lambda change: (change.ratio, change.problem))
    return Comparison(
        tuple(changes),
        geometric_mean([change.ratio for change in changes if not change.disturbed]),
        tuple(problem for problem in first if problem not in second),
        tuple(problem for problem in second if problem not in first),
    )


def geometric_mean(values: Sequence[float]) -> float | None:
    """Of positive numbers; None of none."""
    return exp(sum(map(log, values)) / len(values)) if values else None
