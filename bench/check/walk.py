"""The walk over the steps, within a limit."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.check import process
from bench.check.child import LOST
from bench.check.state import MOST_BEGINS, State, StepState
from bench.check.steps import ROOT, Step

#: Seconds kept for writing the report, and for a process that does not end when asked.
MARGIN = 6.0
#: With less left, no step is begun.
LEAST = 3.0
#: Characters of a log that go with a crash.
TAIL = 2000


class Walk:
    """Runs what is left of some steps.

    Parameters
    ----------
    state : State
        What is known, and where it is kept.
    steps : sequence of Step
        In order.
    source : str
        The module whose STEPS these are; the processes import it.
    limit : float
        Seconds for everything.
    dry_run : bool
        Passed on.
    say : callable
        Takes lines for whoever watches.
    """

    def __init__(
        self,
        state: State,
        steps: Sequence[Step],
        source: str,
        limit: float,
        dry_run: bool,
        say: Callable[[str], None] = print,
    ) -> None:
        self.state, self.steps, self.source, self.dry_run, self.say = state, steps, source, dry_run, say
        margin = min(MARGIN, limit / 4)
        self._until = time.monotonic() + limit - margin
        self._tired: set[str] = set()
        self._stuck = False

    @property
    def left(self) -> float:
        """Seconds left for steps."""
        return self._until - time.monotonic()

    def run(self) -> None:
        """Run each step for its share; then, while there is time, those that have something left."""
        while True:
            waiting = [step for step in self.steps if self._is_waiting(step)]
            if not waiting:
                return
            for step in waiting:
                if self.left < LEAST:
                    self.say(
                        f"time is over: {', '.join(s.name for s in self.steps if self._is_waiting(s))} left"
                    )
                    return
                self._run(step)
                if self._stuck:
                    self.say("its process holds the device: nothing else is begun in this call")
                    return

    def _is_waiting(self, step: Step) -> bool:
        return step.name not in self._tired and not self.state.step(step.name).finished

    def _run(self, step: Step) -> None:
        """One process of a step, and what its end means."""
        self._give_up_items(step)
        before = self.state.step(step.name)
        seconds = min(step.seconds, self.left)
        self.say(f"{step.name}: {step.title} ({seconds:.0f} s at most)")
        ended = process.run(
            self._command(step, before, seconds),
            min(seconds + step.late, self.left),
            self.log(step),
            self._environment(),
            ROOT,
        )
        state = self.state.step(step.name)
        if ended.code == LOST:
            self.say(f"{step.name}: the device was lost; a new process goes on")
        elif ended.stuck:
            self._stuck = True
            self._crashed(step, state, ended)
        elif ended.stopped:
            # what was under way is tried once more in the next call
            self._tired.add(step.name)
            self._give_up_items(step)
            self.say(f"{step.name}: {ended.in_words}")
        elif ended.code != 0:
            self._crashed(step, state, ended)
        elif not state.finished and len(state.ended) == len(before.ended):
            self._tired.add(step.name)  # there was time for none
        self.say(f"{step.name}: {_counts(self.state.step(step.name))}")

    def _command(self, step: Step, before: StepState, seconds: float) -> list[str]:
        # the end comes before the kill, if items take no longer than usual
        words = {
            "step": step.name,
            "state": str(self.state.folder.resolve()),
            "commit": str((self.state.head() or {}).get("commit")),
            "steps": self.source,
            "seconds": f"{max(0.1, seconds - 1):.1f}",
        }
        flags = [part for name, value in words.items() for part in (f"--{name}", value)]
        return [sys.executable, "-m", "bench.check.child", *flags, *(["--dry-run"] if self.dry_run else [])]

    def _environment(self) -> dict[str, str]:
        folder = self.state.folder.resolve()
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        return os.environ | {
            "PYTHONPATH": path,
            "PYTHONUNBUFFERED": "1",
            "GPUCONV_CACHE_DIR": str(folder / "cache"),
            "CUPY_CACHE_DIR": str(folder / "cache" / "cupy"),
        }

    def log(self, step: Step) -> Path:
        """Where the step's output goes."""
        folder = self.state.folder / "logs"
        folder.mkdir(exist_ok=True)
        return folder / f"{step.name}.log"

    def _give_up_items(self, step: Step) -> None:
        """What began twice and never ended has failed: it hangs, or takes longer than there is."""
        for item, times in self.state.step(step.name).begun.items():
            if times >= MOST_BEGINS:
                note = f"did not end in {times} tries"
                self.state.append(
                    kind="end", step=step.name, item=item, status="failed", note=note, seconds=0, data={}
                )

    def _crashed(self, step: Step, state: StepState, ended: process.Ended) -> None:
        """The item under way has failed; the rest waits for the next call."""
        self._tired.add(step.name)
        tail = self.log(step).read_text(encoding="utf-8", errors="replace")[-TAIL:]
        for item in state.begun:
            self.state.append(
                kind="end", step=step.name, item=item, status="failed", seconds=0,
                note=f"the process ended: {ended.in_words}", data={"log": tail},
            )  # fmt: skip
        under_way = ", ".join(state.begun) or "no item"
        note = f"{ended.in_words} during {under_way}: {(tail.strip().splitlines() or [''])[-1][:300]}"
        self.state.append(kind="crash", step=step.name, note=note, items=list(state.begun))
        self.say(f"{step.name}: {note}")


def _counts(state: StepState) -> str:
    if state.skipped is not None:
        return f"skipped: {state.skipped}"
    parts = [f"{state.count(status)} {status}" for status in ("passed", "failed", "skipped")]
    of = "" if state.total is None else f" of {state.total}"
    return f"{', '.join(parts)}{of}; {state.in_words}"
