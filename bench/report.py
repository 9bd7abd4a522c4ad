"""What a run of the benchmarks found, as a table to read and as a file to keep."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import exp, log
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.layers import kind
from gpuconv.backend.device import Device
from gpuconv.problem import ConvProblem

SCHEMA: Final = 1
#: Processors that others kept busy, on average, from which on times are not to be trusted.
DISTURBED: Final = 0.25
ROOT: Final = Path(__file__).parents[1]
RECORD: Final = (
    *("problem", "op", "dtype", "layout", "kernel", "config", "us", "gflops", "error_over_bound"),
    *("baseline", "baseline_us", "ratio", "others"),
)


@dataclass
class Report:
    """Everything found so far.

    Attributes
    ----------
    device : Device
        Where it ran.
    baseline : str or None
        What was compared with, if anything was.
    records : list of dict
        One for each problem, see `RECORD`.
    call_overhead : dict or None
        The record of a tiny problem.
    import_seconds : dict or None
        Seconds that importing takes beyond importing NumPy.
    """

    device: Device
    baseline: str | None = None
    records: list[dict[str, Any]] = field(default_factory=list)
    call_overhead: dict[str, Any] | None = None
    import_seconds: dict[str, float] | None = None

    def __bool__(self) -> bool:
        return bool(self.records or self.call_overhead or self.import_seconds)

    def lines(self) -> Iterator[str]:
        """The table, the ratios summed up, and what else was measured."""
        if self.records:
            yield f"{self.device}, {_plural(self.device.threads, 'thread')}; fastest call of each"
            if self.baseline is not None:
                yield f"ratio = {self.baseline} time / gpuconv time: above 1 gpuconv is faster"
            yield ""
            yield from _table(self.records)
            yield ""
            yield from _summary(self.records)
        if self.call_overhead is not None:
            call = self.call_overhead
            beside = f", {call['baseline']} {call['baseline_us']:.1f} µs" if "baseline" in call else ""
            yield f"call overhead: conv2d of {call['problem']} takes {call['us']:.1f} µs{beside}"
        if self.import_seconds is not None:
            found = ", ".join(f"{name} {value * 1e3:.1f} ms" for name, value in self.import_seconds.items())
            yield f"import beyond NumPy: {found}"

    def write(self, path: Path, commit: str | None) -> None:
        """Write the result file; one that is there is replaced only by a complete new one."""
        content: dict[str, Any] = {
            "schema": SCHEMA,
            "device": self.device.name,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit,
            "versions": {
                "python": platform.python_version(),
                "numpy": np.__version__,
                "blas": self.device.blas,
                "torch": None if self.baseline is None else self.baseline.removeprefix("torch "),
            },
            "threads": self.device.threads,
        }
        if self.import_seconds is not None:
            content["import_seconds_beyond_numpy"] = self.import_seconds
        if self.call_overhead is not None:
            content["call_overhead"] = {name: self.call_overhead.get(name) for name in RECORD}
        records = [{name: record.get(name) for name in RECORD} for record in self.records]
        # one line a record, so that two files compare line by line
        head = "".join(f" {_json(key)}: {_json(value)},\n" for key, value in content.items())
        rows = ",".join(f"\n  {_json(record)}" for record in records)
        text = f'{{\n{head} "records": [{rows}\n ]\n}}\n'
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with open(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(temporary, 0o644)  # a temporary file begins as its owner's only
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise


def commit_of(root: Path = ROOT) -> str | None:
    """Short hash of the checkout, with "-dirty" if anything but results differs from it; None outside one."""
    if not (root / ".git").exists():
        return None

    def git(*words: str) -> str:
        command = ["git", "--no-optional-locks", "-C", str(root), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        changes = git("status", "--porcelain", "--", ".", ":(exclude)bench/results")
        return git("rev-parse", "--short", "HEAD") + ("-dirty" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def geometric_mean(values: list[float]) -> float:
    """Of positive numbers."""
    return exp(sum(map(log, values)) / len(values))


def _table(records: list[dict[str, Any]]) -> Iterator[str]:
    compared = any("ratio" in record for record in records)
    columns = ["problem", "kernel", "µs", "GFLOP/s", "err/bound"] + ["torch µs", "ratio"] * compared
    rows = [
        [
            record["problem"] + " !" * _disturbed(record),
            record["kernel"],
            f"{record['us']:.1f}",
            f"{record['gflops']:.1f}",
            f"{record['error_over_bound']:.2g}",
        ]
        + ([_cell(record, "baseline_us", ".1f"), _cell(record, "ratio", ".2f")] if compared else [])
        for record in records
    ]
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        # the two texts to the left, numbers to the right
        cells = [
            f"{cell:<{width}}" if at < 2 else f"{cell:>{width}}"
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _summary(records: list[dict[str, Any]]) -> Iterator[str]:
    disturbed = sum(map(_disturbed, records))
    if disturbed:
        yield f"! {disturbed} of {len(records)}: other processes kept a processor busy; left out below"
    ratios: dict[str, list[tuple[float, str]]] = {}
    for record in records:
        if "ratio" in record and not _disturbed(record):
            group = f"{record['op']} {kind(ConvProblem.parse(record['problem']))}"
            for name in ("all", group):
                ratios.setdefault(name, []).append((record["ratio"], record["problem"]))
    for name, found in ratios.items():
        mean, worst = geometric_mean([ratio for ratio, _ in found]), min(found)
        yield f"{name:<18} {len(found):>3}  geometric mean {mean:5.2f}  worst {worst[0]:5.2f}  {worst[1]}"


def _disturbed(record: dict[str, Any]) -> bool:
    return (record.get("others") or 0) > DISTURBED


def _cell(record: dict[str, Any], name: str, form: str) -> str:
    return format(record[name], form) if name in record else "-"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" + "s" * (count != 1)
