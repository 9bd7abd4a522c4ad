"""What is known so far: lines of JSON in one file; a kill loses the one being written, and no other."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE = "state.jsonl"
#: Processes of a step that may die in a row, nothing passing in between, before the step is given up; each
#: time the case that did it has failed.
MOST_CRASHES = 2
#: Lost CUDA contexts in a row, after each of which a fresh process goes on at once.
MOST_LOST = 5
#: Times that an item may begin without ending before it has failed.
MOST_BEGINS = 2
#: Characters of one item's data; a file of all of them stays small.
MOST_DATA = 20_000


@dataclass
class StepState:
    """One step's lines, added up.

    Attributes
    ----------
    ended : dict
        The line of each item that ended, by the item's key.
    begun : Counter
        How often each item began that has not ended.
    total : int or None
        Items there are, once the step has listed them.
    skipped : str or None
        Why the whole step was left out.
    done : bool
        Whether every item has ended.
    crashes, lost : int
        Processes that died, and those that lost the device.
    crashes_in_row, lost_in_row : int
        Those since an item passed, or since the step was asked for by name.
    faulted : set of str
        Items during which that happened.
    last_crash : str
        What is known of the last one.
    """

    ended: dict[str, dict[str, Any]] = field(default_factory=dict)
    begun: Counter[str] = field(default_factory=Counter)
    total: int | None = None
    skipped: str | None = None
    done: bool = False
    crashes: int = 0
    lost: int = 0
    crashes_in_row: int = 0
    lost_in_row: int = 0
    faulted: set[str] = field(default_factory=set)
    last_crash: str = ""

    @property
    def given_up(self) -> bool:
        """Whether it died too often in a row to be tried again."""
        return not self.done and (self.crashes_in_row >= MOST_CRASHES or self.lost_in_row >= MOST_LOST)

    @property
    def left(self) -> int | None:
        """Items that have not ended; what an earlier call listed and this one does not may have ended too."""
        return None if self.total is None else max(0, self.total - len(self.ended))

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.done or self.skipped is not None or self.given_up

    @property
    def failed(self) -> bool:
        """Whether anything went wrong."""
        return self.crashes > 0 or self.lost > 0 or self.count("failed") > 0

    def count(self, status: str) -> int:
        """Items with this status."""
        return sum(line["status"] == status for line in self.ended.values())

    @property
    def in_words(self) -> str:
        """One word for tables."""
        if self.skipped is not None:
            return "skipped"
        if self.given_up:
            return "given up"
        if self.done:
            return "failed" if self.failed else "passed"
        return "left" if self.ended or self.begun or self.crashes else "not begun"


class State:
    """The file, and what follows from it.

    Parameters
    ----------
    folder : Path
        Where the file lies; created when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / FILE

    def open_for(self, commit: str, dry_run: bool, now: str) -> str | None:
        """Begin, or go on with the same commit; what another left is put aside, and the answer says so."""
        if self.is_of(commit, dry_run):
            return None
        head = self.head()
        wanted = {"commit": commit, "dry_run": dry_run}
        said = None
        if self.path.exists():
            aside = self._free_place("damaged" if head is None else str(head.get("commit")))
            os.replace(self.path, aside)
            what = "no state of this program" if head is None else f"of {_what(head)}"
            said = f"{self.path} was {what}, not of {_what(wanted)}: begun anew; the old one is {aside.name}"
        self.append(kind="head", began=now, **wanted)
        return said

    def is_of(self, commit: str, dry_run: bool) -> bool:
        """Whether what is kept was found at that commit."""
        head = self.head() or {}
        return (head.get("commit"), head.get("dry_run")) == (commit, dry_run)

    def _free_place(self, name: str) -> Path:
        clean = "".join(letter if letter.isalnum() else "-" for letter in name)[:40]
        number = 0
        while True:
            place = self.folder / f"before-{clean}{f'-{number}' if number else ''}.jsonl"
            if not place.exists():
                return place
            number += 1

    def head(self) -> dict[str, Any] | None:
        """The first line, or None where there is none."""
        lines = self.lines()
        return lines[0] if lines and lines[0].get("kind") == "head" else None

    def append(self, **line: Any) -> None:
        """Add a line; it is on the disk when this returns."""
        text = json.dumps(line, ensure_ascii=True, default=str)
        if len(text) > MOST_DATA and isinstance(line.get("data"), dict):
            short = {name: _shortened(value) for name, value in line["data"].items()}
            text = json.dumps({**line, "data": short}, ensure_ascii=True, default=str)
        self.folder.mkdir(parents=True, exist_ok=True)
        # a kill may have left half a line
        begin = "\n" if self._torn() else ""
        with open(self.path, "a", encoding="ascii") as file:
            file.write(f"{begin}{text}\n")
            file.flush()
            os.fsync(file.fileno())

    def _torn(self) -> bool:
        try:
            with open(self.path, "rb") as file:
                file.seek(-1, os.SEEK_END)
                return file.read(1) != b"\n"
        except OSError:  # none there, or an empty one
            return False

    def lines(self) -> list[dict[str, Any]]:
        """Every whole line."""
        found = []
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            return []
        for line in text.splitlines():
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                found.append(value)
        return found

    def steps(self) -> dict[str, StepState]:
        """Every step that has lines."""
        found: dict[str, StepState] = {}
        for line in self.lines():
            if "step" in line:
                _add(found.setdefault(line["step"], StepState()), line)
        return found

    def step(self, name: str) -> StepState:
        """One step."""
        return self.steps().get(name, StepState())


def _add(state: StepState, line: dict[str, Any]) -> None:
    kind, item = line.get("kind"), line.get("item", "")
    if kind == "begin":
        state.begun[item] += 1
    elif kind == "end":
        state.ended[item] = line
        del state.begun[item]
        if line["status"] == "passed":
            state.crashes_in_row = state.lost_in_row = 0
    elif kind == "total":
        state.total = line["count"]
    elif kind == "skip":
        state.skipped = line["note"]
    elif kind == "done":
        state.done = True
    elif kind == "crash":
        state.crashes += 1
        state.crashes_in_row += 1
        state.faulted.update(line.get("items", ()))
        state.last_crash = line["note"]
    elif kind == "lost":
        state.lost += 1
        state.lost_in_row += 1
        state.faulted.add(item)
        state.last_crash = f"the device was lost: {line.get('note', '')}"
    elif kind == "again":  # what was left out or given up is asked for once more
        state.skipped, state.done = None, False
        state.crashes_in_row = state.lost_in_row = 0
        state.ended = {key: end for key, end in state.ended.items() if end["status"] != "skipped"}


def _shortened(value: Any) -> Any:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return value if len(text) <= MOST_DATA // 4 else text[: MOST_DATA // 4] + " … cut"


def _what(head: dict[str, Any]) -> str:
    return f"{'a dry run of ' if head.get('dry_run') else ''}commit {head.get('commit')}"
