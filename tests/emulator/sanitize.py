"""Runs Python code whose kernels are built with a sanitizer, and returns what that reports.

As a command: ``python -m tests.emulator.sanitize address|thread SCRIPT.py``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.emulator import build, native

Sanitizer = Literal["address", "thread"]
ROOT = build.HERE.parent.parent
PRELOADED = {"address": ("libasan.so", "libubsan.so"), "thread": ("libtsan.so",)}
_START = re.compile(r"^(?:==\d+==ERROR: AddressSanitizer|WARNING: ThreadSanitizer|.*: runtime error:)")
#: A place in a library of ours, where the sanitizer knows no line.
_FRAME = re.compile(r"<null> <null> \((?P<library>[\w.-]+)\+(?P<offset>0x[0-9a-f]+)\)")


@dataclass(frozen=True)
class Outcome:
    """What became of the code.

    Attributes
    ----------
    returncode : int
        Of the process; a report does not change it.
    output, log : str
        Standard output, and everything the sanitizer and the code wrote elsewhere.
    reports : tuple of str
        The sanitizer's of kernels, each with what follows it.
    """

    returncode: int
    output: str
    log: str
    reports: tuple[str, ...]


def libraries(sanitizer: Sanitizer) -> list[str]:
    """Paths of the libraries to be there before Python is."""
    paths = []
    for name in PRELOADED[sanitizer]:
        command = [build.compiler(), f"-print-file-name={name}"]
        paths.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    return paths


def available(sanitizer: Sanitizer) -> bool:
    """Whether the compiler comes with the sanitizer's libraries."""
    return all(os.path.isabs(path) for path in libraries(sanitizer))


def _environment(sanitizer: Sanitizer, log: Path) -> dict[str, str]:
    common = f"log_path={log} exitcode=0 "
    return os.environ | {
        "GPUCONV_EMULATOR_SANITIZER": sanitizer,
        "LD_PRELOAD": " ".join(libraries(sanitizer)),
        "ASAN_OPTIONS": common
        + "detect_leaks=0 handle_segv=0 handle_sigfpe=0 handle_sigill=0 halt_on_error=0 "
        "detect_stack_use_after_return=0",
        "UBSAN_OPTIONS": common + "print_stacktrace=1",
        "TSAN_OPTIONS": common + "halt_on_error=0 "
        "handle_segv=0 handle_sigfpe=0 handle_sigill=0 history_size=4",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        "OPENBLAS_NUM_THREADS": "1",
    }


def split_reports(log: str) -> tuple[str, ...]:
    """A log's reports of kernels, each up to the next one; Python's own races are left out."""
    reports: list[list[str]] = []
    for line in log.splitlines():
        if _START.match(line):
            reports.append([])
        if reports and set(line) != {"="}:
            reports[-1].append(_FRAME.sub(_with_line, line))
    texts = ("\n".join(lines).strip() for lines in reports)
    return tuple(text for text in texts if re.search(r"\.cuh?:\d+", text))


def _with_line(frame: re.Match[str]) -> str:
    library = build.cache_folder() / frame["library"]
    if not library.is_file():
        return frame[0]
    return native.source_line(str(library), int(frame["offset"], 16))


def run(sanitizer: Sanitizer, code: str, timeout: float = 300) -> Outcome:
    """Run Python code in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=_environment(sanitizer, log),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        written = "\n".join(path.read_text(errors="replace") for path in sorted(Path(folder).glob("log.*")))
    text = done.stderr + "\n" + written
    return Outcome(done.returncode, done.stdout, text, split_reports(text))


def main(arguments: list[str]) -> int:
    """Run a script; 1 if it was reported or failed."""
    sanitizer, script = arguments
    if sanitizer not in PRELOADED:
        raise SystemExit(f"no sanitizer {sanitizer}; there are {', '.join(PRELOADED)}")
    outcome = run(sanitizer, Path(script).read_text(encoding="utf-8"))
    print(outcome.output, end="")
    print(outcome.log, end="", file=sys.stderr)
    return 1 if outcome.reports or outcome.returncode else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
