"""Copies of the checkout, a fault in one of them, and the tests that run there."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from tests.mutation.fault import ROOT, Fault

PARTS = ("gpuconv", "cuda_src", "tests", "pyproject.toml")
Result = Literal["caught", "SURVIVED", "BROKEN"]


@dataclass(frozen=True)
class Verdict:
    """What became of a fault; BROKEN where it does not compile or the tests cannot run."""

    name: str
    result: Result
    text: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.name:32} {self.result:8} {self.seconds:5.0f} s  {self.text}"


class Workshop:
    """As many copies as jobs; each stays in its place, on which what the emulator keeps compiled depends."""

    def __init__(self, folder: Path, jobs: int) -> None:
        self._cache = folder / "cache"
        self._original = folder / "original"
        _copy(ROOT, self._original)  # the checkout may change while this runs
        self._free: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for number in range(jobs):
            copy = folder / f"copy-{number}"
            _copy(self._original, copy)
            self._free.put(copy)
        self._running: set[subprocess.Popen[str]] = set()
        self._closed = False

    def judge(self, fault: Fault | None) -> Verdict:
        """Run the tests against a fault, or against the unchanged sources."""
        name, start = fault.name if fault else "(no fault)", time.monotonic()
        copy = self._free.get()
        try:
            if fault:
                (copy / fault.file).write_text(fault.seeded(copy), encoding="utf-8")
            result, text = self._suite(copy, fault.tests if fault else ())
        finally:
            if fault:
                shutil.copyfile(self._original / fault.file, copy / fault.file)
            self._free.put(copy)
        return Verdict(name, result, text, time.monotonic() - start)

    def close(self) -> None:
        """Stop what still runs."""
        self._closed = True
        for process in tuple(self._running):
            kill(process)

    def _suite(self, copy: Path, first: tuple[str, ...]) -> tuple[Result, str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GPUCONV_")}
        environment |= {
            "GPUCONV_EMULATOR_CACHE": str(self._cache),
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONPATH": str(copy),
            # a compiled module is found by size and second, in which two faults may well agree
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.mutation.suite", *first],
                cwd=copy, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
                text=True, encoding="utf-8", errors="replace", start_new_session=True,
            )  # fmt: skip
            self._running.add(process)
            try:
                if self._closed:
                    return "BROKEN", "stopped"
                result, text = listen(process)
                if text:
                    return result, text
                errors.seek(0)
                lines = errors.read().strip().splitlines() or [""]
                return "BROKEN", f"the tests ended with {process.wait()}: {lines[-1]}"
            finally:
                kill(process)
                self._running.discard(process)


def listen(process: subprocess.Popen[str]) -> tuple[Result, str]:
    """Follow what the suite says until its verdict, its death or too long a silence."""
    assert process.stdout
    at, patience = "the start", 120.0
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=patience)
        except queue.Empty:
            return "caught", f"{at}: still running after {patience:.0f} s"
        if line is None:
            code = process.wait()
            return ("caught", f"{at}: {signal.Signals(-code).name}") if code < 0 else ("BROKEN", "")
        kind, _, text = line.strip().partition(" ")
        if kind == "@try":
            seconds, _, at = text.partition(" ")
            patience = float(seconds)
        elif kind in ("@caught", "@passed", "@broken"):
            results: dict[str, Result] = {"@caught": "caught", "@passed": "SURVIVED", "@broken": "BROKEN"}
            return results[kind], text


def _read(stream: IO[str], lines: queue.SimpleQueue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def kill(process: subprocess.Popen[str]) -> None:
    """End a process and all it started: it leads a group of its own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _copy(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for part in PARTS:
        if (source / part).is_dir():
            shutil.copytree(source / part, target / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source / part, target / part)


@contextmanager
def workshop(jobs: int) -> Iterator[Workshop]:
    """A workshop in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="gpuconv-mutation-") as folder:
        made = Workshop(Path(folder).resolve(), jobs)
        try:
            yield made
        finally:
            made.close()
