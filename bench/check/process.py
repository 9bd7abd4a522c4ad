"""A process of its own for each step: it may hang, crash or be killed, and takes its children with it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: Seconds between asking a process to end and ending it.
GRACE = 2.0
#: Seconds that a killed process has to be gone; in a driver's call it may stay for ever.
KILLED = 1.0


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes
    ----------
    code : int
        Its exit code, or minus the signal's number.
    stopped : bool
        Whether its time was over.
    seconds : float
        How long it ran.
    stuck : bool
        Whether it was still there after it had been killed.
    """

    code: int
    stopped: bool
    seconds: float
    stuck: bool = False

    @property
    def in_words(self) -> str:
        """For a report."""
        if self.stuck:
            return f"stopped after {self.seconds:.0f} s and unkillable"
        if self.stopped:
            return f"stopped after {self.seconds:.0f} s"
        if self.code < 0:
            with contextlib.suppress(ValueError):
                return f"killed by {signal.Signals(-self.code).name}"
        return f"exit code {self.code}"


def run(
    command: Sequence[str], seconds: float, log: Path, environment: Mapping[str, str], folder: Path
) -> Ended:
    """Run a command with its output added to a log; when its time is over, it and all its children end."""
    begin = time.monotonic()
    with open(log, "ab") as file:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=dict(environment),
            cwd=folder,
        )
        stopped = stuck = False
        try:
            process.wait(max(seconds, 0.0))
        except subprocess.TimeoutExpired:
            stopped = True
        finally:  # on Ctrl-C too
            stuck = _end(process)
    return Ended(process.returncode, stopped, time.monotonic() - begin, stuck)


def _end(process: subprocess.Popen[bytes]) -> bool:
    """End the process if it still runs, and whatever it started; True if it stays all the same."""
    if process.poll() is None:
        _signal(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    _signal(process.pid, signal.SIGKILL)
    try:
        process.wait(KILLED)
    except subprocess.TimeoutExpired:
        process.returncode = -signal.SIGKILL  # what it will be, whenever the driver lets go of it
        return True
    return False


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def die_with_parent() -> None:
    """Ask Linux to kill this process when the one that started it dies, however that comes."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        set_death_signal = 1
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
