"""A run of ``gpuconv tune``: what it shows meanwhile, and what is left of it."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.text import Text

from gpuconv import store
from gpuconv.autotune import tuner
from gpuconv.autotune.alone import alone
from gpuconv.autotune.asked import Wishes
from gpuconv.autotune.recording import Recorded, Recording
from gpuconv.autotune.search import BUDGET, Step, Watch
from gpuconv.backend.device import Device
from gpuconv.cli import output
from gpuconv.errors import UnsupportedProblem
from gpuconv.families import family, floor_us
from gpuconv.problem import ConvProblem
from gpuconv.report import environment
from gpuconv.report.summary import geometric_mean

_HEADINGS = ("default us", "best us", "gain", "of the floor", "problem", "kernel", "config")


@dataclass
class Session:
    """Problems and where to tune them, and what has been found so far."""

    jobs: Sequence[tuple[ConvProblem, Device]]
    wishes: Wishes
    again: bool
    record: Path | None
    as_json: bool
    rows: list[dict[str, Any]] = field(default_factory=list)
    recorded: dict[Device, list[Recorded]] = field(default_factory=dict)
    missed: int = 0
    wrong: list[str] = field(default_factory=list)
    not_written: bool = False

    def run(self) -> None:
        """Tune one after the other; however that ends, what was found is told."""
        began = environment.now()
        try:
            with self._shown() as show:
                for at, (p, device) in enumerate(self.jobs):
                    self._one(p, device, show(at, p))
        except BaseException:
            with suppress(OSError):  # what ended the run is what to tell
                self._tell(began)
            raise
        self._tell(began)

    def judge(self) -> None:
        """End with the exit code that the results deserve."""
        if self.wrong:
            raise output.Mismatch(f"wrong, and not used: {'; '.join(self.wrong)}")
        if self.not_written:
            raise output.Failure(f"not written: {self.record}")
        if forgotten := sum(store.unwritten(device) for device in {device for _, device in self.jobs}):
            raise output.Failure(f"{forgotten} of {len(self.jobs)} results are forgotten with this process")
        if self.missed:
            raise output.Failure(f"{self.missed} of {len(self.jobs)} problems were not tuned")

    def _one(self, p: ConvProblem, device: Device, watch: Watch) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if self._known(p, device):
                return
            try:
                with alone(device):
                    if self._known(p, device):  # another process has found it meanwhile
                        return
                    found = tuner.tune(p, device, self.wishes, watch=watch)
            except UnsupportedProblem as error:
                self._miss(p, f"no kernel runs it: {'; '.join(map(str, error.rejects))}")
            except (RuntimeError, MemoryError) as error:
                self._miss(p, output.one_line(error))
            else:
                self.rows.append(_row(found, device))
                self.recorded.setdefault(device, []).append(found)
                self.wrong += [
                    f"{p} {one}: {one.failure}"
                    for one in found.tried
                    if (one.failure or "").startswith("wrong")
                ]
        for message in dict.fromkeys(str(one.message) for one in caught):
            output.note(message)

    def _known(self, p: ConvProblem, device: Device) -> bool:
        """Whether there is nothing to find out; that is told."""
        entry = store.find(p, device)
        if entry is None or self.again or tuner.known(p, device, self.wishes) is None:
            return False
        self.rows.append(_from_store(p, device, entry))
        return True

    def _miss(self, p: ConvProblem, why: str) -> None:
        self.missed += 1
        output.note(f"{p} is left out: {why}")

    def _tell(self, began: str) -> None:
        if self.record is not None:
            if self.recorded:
                self._save(began)
            elif self.rows:
                output.note("--record: nothing was measured, so nothing is written; --again measures anew")
        if self.as_json:
            output.emit("tune", self.rows)
        elif self.rows:
            output.show(*map(Text, _lines(self.rows)))
            gains = [row["gain"] for row in self.rows if row["gain"] is not None]
            known = sum(row["known"] for row in self.rows)
            told = [f"{len(self.rows) - known} tuned"] + [f"{known} known before"] * (known > 0)
            mean = geometric_mean(gains)
            said = "" if mean is None else f"; gain, geometric mean: {mean:.3f}"
            output.show(Text(""), Text(", ".join(told) + said))
            if left := sum(row["left"] for row in self.rows):
                cut = sum(row["left"] > 0 for row in self.rows)
                passed = f"{left} candidate{'s' * (left > 1)} of {cut} problem{'s' * (cut > 1)}"
                output.show(Text(f"no time for {passed}: a larger --budget tries more"))

    def _save(self, began: str) -> None:
        """One file a device; the first has the name that was asked for."""
        assert self.record is not None
        for device, problems in self.recorded.items():
            last = len(self.recorded) > 1 and device.kind == "cpu"
            path = self.record.with_stem(f"{self.record.stem}-cpu") if last else self.record
            recording = Recording(
                device.kind,
                device.name,
                began,
                environment.commit_of(),
                self.wishes.strategy,
                environment.environment(device),
                tuple(problems),
            )
            try:
                output.put({path: recording.encoded})
            except output.Failure as error:
                output.note(f"--record: {error.message}")
                self.not_written = True
            else:
                output.note(f"written: {path}")

    @contextmanager
    def _shown(self) -> Iterator[Any]:
        """Progress for a person; gives what turns a problem's number into its watcher."""
        if sys.stderr is None or not sys.stderr.isatty():
            yield lambda at, p: lambda step: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        # what a narrow screen cuts is the end
        columns = [
            TextColumn("{task.fields[at]}", markup=False),
            BarColumn(bar_width=8),
            TextColumn("{task.fields[says]}", markup=False),
            TextColumn("{task.description}", markup=False),
        ]
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("", total=1, at="", says="")
            began, total = time.monotonic(), len(self.jobs)

            def show(at: int, p: ConvProblem) -> Watch:
                def watch(step: Step) -> None:
                    left = _left(self.jobs, at, self.wishes, time.monotonic() - began)
                    progress.update(
                        task, completed=step.done, total=step.total, says=f"{_says(step)}, {left}"
                    )

                progress.update(task, description=str(p), at=f"{at + 1}/{total}", completed=0, says="")
                return watch

            yield show


def _says(step: Step) -> str:
    if step.best_us is None:
        return f"{step.stage} {step.done}/{step.total}"
    best = f"{step.stage} {step.done}, best {step.best_us:.1f} us"
    return best if step.default_us is None else f"{best}, gain {step.default_us / step.best_us:.2f}"


def _left(jobs: Sequence[tuple[ConvProblem, Device]], at: int, wishes: Wishes, spent: float) -> str:
    """Time left, from what the problems so far took; before there are any, from the budget."""
    budget = BUDGET[jobs[at][1].kind] if wishes.budget is None else wishes.budget
    each = spent / at if at else budget
    seconds = each * (len(jobs) - at) if at else max(0.0, each * len(jobs) - spent)
    return f"{seconds / 60:.0f} min left" if seconds > 90 else f"{seconds:.0f} s left"


def _row(found: Recorded, device: Device) -> dict[str, Any]:
    best, default = found.best, found.default
    return {
        **_head(found.problem, device),
        "known": False,
        "kernel": best.kernel,
        "config": best.config,
        "us": best.us,
        "default": str(default),
        "default_us": default.us,
        "gain": found.gain,
        "share_of_floor": _share(found.problem, device, best.us),
        "seconds": round(found.seconds, 3),
        "tried": sum(one.us is not None for one in found.tried),
        "left": found.left,
        "failed": [{"candidate": str(one), "why": one.failure} for one in found.tried if one.failure],
    }


def _from_store(p: ConvProblem, device: Device, entry: store.Entry) -> dict[str, Any]:
    config = ",".join(f"{name}={value}" for name, value in entry.config.items())
    return {
        **_head(p, device),
        "known": True,
        "kernel": entry.kernel,
        "config": config,
        "us": entry.us,
        "default": entry.default or None,
        "default_us": entry.default_us,
        "gain": entry.default_us / entry.us,
        "share_of_floor": _share(p, device, entry.us),
        "seconds": 0.0,
        "tried": 0,
        "left": entry.left,
        "failed": [],
    }


def _head(p: ConvProblem, device: Device) -> dict[str, Any]:
    kind = family(p) if device.kind == "cpu" else family(p, device.sms)
    return {"problem": str(p), "device": str(device), "family": kind}


def _share(p: ConvProblem, device: Device, us: float | None) -> float | None:
    floor = floor_us(p, device)
    return None if floor is None or us is None else floor / us


def _lines(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Under their headings, numbers first: a narrow screen breaks long lines, but cuts nothing."""
    cells = [_HEADINGS, *map(_cells, rows)]
    shown = [at for at in range(len(_HEADINGS)) if any(row[at] for row in cells[1:])]
    widths = [max(len(row[at]) for row in cells) for at in shown]
    for row in cells:
        words = (row[at].ljust(width) for at, width in zip(shown, widths, strict=True))
        yield "  ".join(words).rstrip()


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    share = "" if row["share_of_floor"] is None else f"{row['share_of_floor']:.0%}"
    gain = "" if row["gain"] is None else f"{row['gain']:.2f}" + " (known)" * row["known"]
    return _us(row["default_us"]), _us(row["us"]), gain, share, row["problem"], row["kernel"], row["config"]


def _us(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
