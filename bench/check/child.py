"""The process of one step: runs its items and remembers each, until none is left or time is over."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from bench.check import process
from bench.check.state import State
from bench.check.steps import Item, Skip, Step, Wait, Where

#: Exit code of a process whose device is lost.
LOST = 70


def main(arguments: list[str] | None = None) -> int:
    """Run one step; the exit code is 0 unless the process cannot go on."""
    process.die_with_parent()
    parser = argparse.ArgumentParser()
    for name in ("step", "state", "commit", "steps"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--dry-run", action="store_true")
    given = parser.parse_args(arguments)
    steps: tuple[Step, ...] = importlib.import_module(given.steps).STEPS
    step = next(step for step in steps if step.name == given.step)
    until = time.monotonic() + given.seconds
    return run(step, Where(State(Path(given.state)), given.commit, given.dry_run, until))


def run(step: Step, where: Where) -> int:
    """Go through the items that have not ended."""
    state, known = where.state, where.state.step(step.name)
    try:
        items = list(step.items(where))
    except Skip as skip:
        state.append(kind="skip", step=step.name, note=str(skip))
        return 0
    except Wait as wait:
        print(f"{step.name}: {wait}", flush=True)
        return 0
    state.append(kind="total", step=step.name, count=len(items))
    for item in _safe_first(items, known.faulted):
        if item.key in known.ended:
            continue
        if where.left < step.reserve:
            return 0
        if not _run(step, item, where):
            return LOST
    state.append(kind="done", step=step.name)
    return 0


def _safe_first(items: list[Item], faulted: set[str]) -> list[Item]:
    """In order, but behind the rest what is like an item that took its process along."""
    bad = {item.cluster for item in items if item.key in faulted} - {""}
    return sorted(items, key=lambda item: item.cluster in bad)


def _run(step: Step, item: Item, where: Where) -> bool:
    """Run one item; False if nothing can run after it."""
    where.state.append(kind="begin", step=step.name, item=item.key, at=time.time())
    begin = time.monotonic()
    status, note, lost = "passed", "", None
    data: dict[str, Any] = {}
    try:
        data = item.run() or {}
    except Skip as skip:
        status, note = "skipped", str(skip)
    except Exception as error:
        status, note = "failed", _line(error)
        data = getattr(error, "details", None) or {}
        data["traceback"] = traceback.format_exc()[-3000:]
        print(f"{step.name}: {item.key}", traceback.format_exc(), sep="\n", file=sys.stderr, flush=True)
        lost = where.lost() or (str(error) if type(error).__name__ == "LaunchError" else None)
    seconds = round(time.monotonic() - begin, 3)
    how = {"status": status, "note": note, "seconds": seconds, "data": data}
    where.state.append(kind="end", step=step.name, item=item.key, **how)
    if lost is not None:
        where.state.append(kind="lost", step=step.name, item=item.key, note=lost)
        return False
    return True


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:600]


if __name__ == "__main__":
    sys.exit(main())
