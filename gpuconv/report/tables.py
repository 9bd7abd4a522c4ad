"""Records, summaries and comparisons as rows of text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from gpuconv.backend.device import Device
from gpuconv.kernels import registry
from gpuconv.report.records import Record
from gpuconv.report.summary import Comparison, Summary

Rows = tuple[list[str], list[list[str]]]

#: Heading, least width, the cell, and whether it belongs to every table.
_COLUMNS: Final[tuple[tuple[str, int, Callable[[Record], str]], ...]] = (
    ("problem", 0, lambda r: r.problem + " !" * r.disturbed),
    ("family", 10, lambda r: r.family),
    ("kernel", 0, lambda r: r.kernel or "-"),
    ("µs", 9, lambda r: _number(r.us)),
    ("cold µs", 9, lambda r: _number(r.us_cold)),
    ("of floor", 8, lambda r: _share(r.share_of_floor)),
    ("GFLOP/s", 8, lambda r: _number(r.gflops)),
    ("err/bound", 9, lambda r: "-" if r.error_over_bound is None else f"{r.error_over_bound:.2g}"),
    ("baseline µs", 11, lambda r: _number(r.baseline_us)),
    ("ratio", 6, lambda r: _ratio(r.ratio)),
    ("baseline", 0, lambda r: r.baseline or "-"),
)
_TEXTS: Final = ("problem", "family", "kernel", "baseline", "operation", "worst problem")


class Lines:
    """A table printed while it grows: every width is known before the first row.

    Parameters
    ----------
    problems : sequence of str
        What will appear.
    device : Device
        On a CPU the columns that only a GPU fills are left out.
    compared : bool
        Whether there is a baseline.
    """

    def __init__(self, problems: Sequence[str], device: Device, compared: bool) -> None:
        left_out = {"cold µs", "of floor"} if device.kind == "cpu" else set()
        left_out |= set() if compared else {"baseline µs", "ratio", "baseline"}
        self._columns = [column for column in _COLUMNS if column[0] not in left_out]
        widest = {
            "problem": max(map(len, problems), default=0) + 2,
            "kernel": max(len(kernel.name) for kernel in registry.kernels()),
        }
        self._widths = [max(len(name), width, widest.get(name, 0)) for name, width, _ in self._columns]

    def head(self) -> str:
        """The headings."""
        return self._line([name for name, _, _ in self._columns])

    def row(self, record: Record) -> str:
        """One record."""
        return self._line([cell(record) for _, _, cell in self._columns])

    def _line(self, cells: Sequence[str]) -> str:
        return aligned([name for name, _, _ in self._columns], cells, self._widths)


def legend(device: Device, baselines: Sequence[str]) -> Iterator[str]:
    """What the numbers are, for people."""
    threads = f", {_plural(device.threads, 'thread')}" if device.kind == "cpu" else ""
    which = "fastest call of each" if device.kind == "cpu" else "medians, the cache warm unless said"
    yield f"{device}{threads}; {which}"
    if baselines:
        yield f"ratio = time of {', '.join(baselines)} / gpuconv's: above 1 gpuconv is faster"


def summary_table(rows: Iterable[Summary]) -> Rows:
    """Geometric means and the worst of each family."""
    head = ["family", "operation", "count", "of floor", "ratio", "worst", "worst problem"]
    return head, [
        [
            row.family,
            row.op,
            str(row.count),
            _share(row.share_of_floor),
            _ratio(row.ratio),
            _ratio(row.worst),
            row.worst_problem or "-",
        ]
        for row in rows
    ]


def disturbed_line(records: Sequence[Record]) -> Iterator[str]:
    """What the mark behind a problem means, where there is one."""
    count = sum(record.disturbed for record in records)
    if count:
        yield f"! {count} of {len(records)}: other processes kept a processor busy; left out below"


def comparison_table(found: Comparison, most: int | None = None) -> Rows:
    """Problem by problem, what lost most first; `most` rows at most."""
    head = ["problem", "before µs", "after µs", "before / after"]
    return head, [
        [
            change.problem + " !" * change.disturbed,
            _number(change.before_us),
            _number(change.after_us),
            _ratio(change.ratio),
        ]
        for change in found.changes[:most]
    ]


def plain(table: Rows) -> Iterator[str]:
    """A whole table, where nothing lays it out."""
    head, rows = table
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        yield aligned(head, row, widths)


def aligned(head: Sequence[str], cells: Sequence[str], widths: Sequence[int]) -> str:
    """One line: texts to the left, numbers to the right."""
    return "  ".join(
        f"{cell:<{width}}" if name in _TEXTS else f"{cell:>{width}}"
        for name, cell, width in zip(head, cells, widths, strict=True)
    ).rstrip()


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" + "s" * (count != 1)
