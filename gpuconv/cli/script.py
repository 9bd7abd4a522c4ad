"""A user's program run as Python would run it, to learn which problems it computes."""

from __future__ import annotations

import concurrent.futures.thread
import os
import runpy
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import click

from gpuconv import dispatch
from gpuconv.backend.device import Device
from gpuconv.cli import output
from gpuconv.cli.output import Failure
from gpuconv.problem import ConvProblem


def problems(program: Path, arguments: Sequence[str], *, quiet: bool) -> list[tuple[ConvProblem, Device]]:
    """Every problem that a program computes and where, in the order of its first calls.

    Parameters
    ----------
    program : Path
    arguments : sequence of str
        What it finds in ``sys.argv``.
    quiet : bool
        Whether what it prints goes to standard error: standard output is for JSON then.

    Raises
    ------
    Failure
        If it ends with an error; its traceback has been printed.
    """
    found: dict[tuple[ConvProblem, Device], None] = {}

    def watcher(p: ConvProblem, device: Device) -> None:
        found.setdefault((p, device))

    try:
        with dispatch.watching(watcher), _surroundings(program, arguments, quiet):
            _run(program)
    except SystemExit as error:
        raise Failure(f"--script: {program} ended with {error.code!r}; nothing is tuned") from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a program may have its own kinds
        # of the program's own lines only
        lines = traceback.format_exception(type(error), error, _inside(error, program))
        with suppress(OSError, ValueError):
            click.echo("".join(lines), nl=False, err=True)
        raise Failure(f"--script: {program} failed: {output.one_line(error)}; nothing is tuned") from None
    return list(found)


def _run(program: Path) -> None:
    """Run it to the end of its last thread, as Python does before it ends; executors' workers aside."""
    others = {*threading.enumerate()}
    try:
        runpy.run_path(str(program), run_name="__main__")
    except SystemExit as error:
        if error.code not in (None, 0):
            raise
    # these wait for Python's end themselves
    workers = getattr(concurrent.futures.thread, "_threads_queues", {})

    def running() -> list[threading.Thread]:
        started = [each for each in threading.enumerate() if each not in others]
        return [each for each in started if not each.daemon and each not in workers]

    while threads := running():
        threads[0].join(0.1)  # not for ever, which Ctrl-C could not end on every system


@contextmanager
def _surroundings(program: Path, arguments: Sequence[str], quiet: bool) -> Iterator[None]:
    """What a program finds, and may change without changing ours."""
    argv, path, here = sys.argv, list(sys.path), os.getcwd()
    streams = sys.stdin, sys.stdout, sys.stderr
    sys.argv = [str(program), *arguments]
    sys.path.insert(0, str(program.absolute().parent))
    sys.stdout, sys.stderr = own = _own(sys.stderr if quiet else sys.stdout), _own(sys.stderr)
    try:
        yield
    finally:
        for stream in own:
            with suppress(AttributeError, OSError, ValueError):
                stream.flush()
        sys.argv, sys.path[:] = argv, path
        sys.stdin, sys.stdout, sys.stderr = streams
        os.chdir(here)


def _own(stream: Any) -> Any:
    """A stream to the same place, which may be closed alone; as it is where it has no descriptor."""
    try:
        stream.flush()
        how = {"encoding": stream.encoding, "errors": stream.errors}
        return open(stream.fileno(), "w", 1 if stream.line_buffering else -1, closefd=False, **how)
    except (AttributeError, OSError, ValueError):
        return stream


def _inside(error: BaseException, program: Path) -> TracebackType | None:
    """The traceback from the program's first line on; none where no line of it ran."""
    at = error.__traceback__
    while at is not None and at.tb_frame.f_code.co_filename != str(program):
        at = at.tb_next
    return at
