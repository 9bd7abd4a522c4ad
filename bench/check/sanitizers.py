"""CUDA's sanitizers on the smallest problems."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from functools import partial
from typing import Any

from bench.check.steps import ROOT, Item, Skip, Where

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
#: Exit code of the tool where it has something to report.
REPORTED = 9


def items(where: Where) -> Iterable[Item]:
    """One for each tool."""
    command = shutil.which("compute-sanitizer")
    if command is None:
        raise Skip("compute-sanitizer is not on the path")
    if where.dry_run:
        raise Skip("compute-sanitizer needs a GPU")
    where.machine  # noqa: B018  (raises Skip without a device)
    return [Item(tool, partial(run, command, tool)) for tool in TOOLS]


def run(command: str, tool: str) -> dict[str, Any]:
    """The tool around a process that runs them."""
    script = [sys.executable, "-m", "tests.gpu.bodies"]
    words = [command, "--tool", tool, "--error-exitcode", str(REPORTED), *script]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    text = f"{done.stdout}\n{done.stderr}".strip()
    print(text, flush=True)
    lines = [line for line in text.splitlines() if "ERROR SUMMARY" in line or "RACECHECK SUMMARY" in line]
    if done.returncode == REPORTED:
        raise AssertionError(f"{tool} reports: {' '.join(lines)} {text[:1500]}")
    if done.returncode != 0 or "done" not in done.stdout:
        raise RuntimeError(f"under {tool} the run ended with {done.returncode}: {text[-1500:]}")
    return {"summary": lines}
