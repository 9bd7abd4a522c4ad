"""Everything that only a GPU can tell, in one command: ``python bench/gpu_check.py --help``.

It runs from a bare checkout with nothing installed but Python, NumPy and, for what they are needed for,
CuPy, PyTorch and CUDA's tools. Each step has a process of its own; what it finds is kept in ``--state``, and
the next call goes on from there.
"""

from __future__ import annotations

import argparse
import importlib
import re
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.check import page
from bench.check.state import State
from bench.check.steps import Step
from bench.check.walk import Walk

STEPS = "bench.check.steps"


class Stopped(BaseException):
    """A signal asks to end."""

    def __init__(self, number: int) -> None:
        self.number = number


def main(arguments: list[str] | None = None, source: str = STEPS) -> int:
    """Run: 0 unless a step failed, 2 for wrong arguments, 128 and its number if a signal ended it."""
    parser = _parser()
    steps: tuple[Step, ...] = importlib.import_module(source).STEPS
    given = parser.parse_args(arguments)
    names = [step.name for step in steps]
    unknown = [name for name in given.only if name not in names]
    if unknown:
        parser.error(f"--only: there is no step {', '.join(unknown)}; steps are {', '.join(names)}")
    if not given.limit > 0:
        parser.error(f"--limit must be more than 0 seconds, got {given.limit:g}")
    if given.state.resolve() == given.out.resolve():
        parser.error("--state and --out must be two folders: what is in --out is replaced")
    state = State(given.state)
    if given.list:
        found = state.steps() if state.is_of(given.commit, given.dry_run) else {}
        for line in page.listing(steps, found):
            print(line)
        return 0
    try:
        given.state.mkdir(parents=True, exist_ok=True)
        given.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"{error.filename}: {error.strerror}")
    said = state.open_for(given.commit, given.dry_run, datetime.now(UTC).isoformat(timespec="seconds"))
    if said:
        print(said)
    chosen = [step for step in steps if not given.only or step.name in given.only]
    if given.only:
        _again(state, chosen)
    if all(state.step(step.name).finished for step in chosen):
        print("nothing is left to do: every step has ended; see gpu_check.md")
    walk = Walk(state, chosen, source, given.limit, given.dry_run, _say)
    code = 0
    handlers = {number: signal.signal(number, _stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        try:
            walk.run()
        finally:
            for number in handlers:
                signal.signal(number, signal.SIG_IGN)  # the report is being written
    except Stopped as stopped:
        code = 128 + stopped.number
        print(f"stopped by {signal.Signals(stopped.number).name}; what was found is kept")
    finally:
        page.write(given.out, steps, state)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    print(f"written: {given.out / page.PAGE}")
    failed = any(found.failed for found in state.steps().values())
    return code or int(failed)


def _again(state: State, steps: list[Step]) -> None:
    """Who names a step wants what was skipped or given up in it tried anew: the reason may be gone."""
    for step in steps:
        known = state.step(step.name)
        if known.skipped is not None or known.count("skipped") or known.given_up:
            state.append(kind="again", step=step.name)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise Stopped(number)


def _say(line: str) -> None:
    print(line, flush=True)


def _commit(text: str) -> str:
    """It becomes part of a file's name."""
    if re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text) is None:
        raise argparse.ArgumentTypeError(f"must be 1 to 64 of A-Z a-z 0-9 . _ -, got {text!r}")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gpu_check.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--limit", type=float, default=540, metavar="SECONDS", help="for everything (540)")
    parser.add_argument("--state", type=Path, required=True, metavar="DIR", help="what earlier calls found")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="results, at most 8 flat files"
    )
    parser.add_argument(
        "--commit", required=True, type=_commit, metavar="SHA", help="what is checked; recorded"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="STEP",
        help="these steps; what was skipped or given up is tried again",
    )
    parser.add_argument(
        "--list", action="store_true", help="show the steps and how far they are, run nothing"
    )
    parser.add_argument("--dry-run", action="store_true", help="the emulator and the CPU in the GPU's place")
    return parser


if __name__ == "__main__":
    sys.exit(main())
