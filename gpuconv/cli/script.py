"""A user's program run as Python would run it, to learn which problems it computes."""

from __future__ import annotations

import contextlib
import os
import runpy
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

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

    before, path, here = sys.argv, list(sys.path), os.getcwd()
    streams = sys.stdin, sys.stdout, sys.stderr
    sys.argv = [str(program), *arguments]
    sys.path.insert(0, str(program.absolute().parent))
    try:
        with dispatch.watching(watcher), _printing(quiet):
            runpy.run_path(str(program), run_name="__main__")
    except SystemExit as error:
        if error.code not in (None, 0):
            raise Failure(f"--script: {program} ended with {error.code!r}; nothing is tuned") from None
    except Exception as error:
        # of the program's own lines only
        lines = traceback.format_exception(type(error), error, _inside(error, program))
        print("".join(lines), end="", file=sys.stderr)
        raise Failure(f"--script: {program} failed: {output.one_line(error)}; nothing is tuned") from None
    finally:
        sys.argv, sys.path[:] = before, path
        sys.stdin, sys.stdout, sys.stderr = streams
        os.chdir(here)
    return list(found)


def _printing(quiet: bool) -> contextlib.AbstractContextManager[object]:
    return contextlib.redirect_stdout(sys.stderr) if quiet else contextlib.nullcontext()


def _inside(error: Exception, program: Path) -> TracebackType | None:
    """The traceback from the program's first line on; none where no line of it ran."""
    at = error.__traceback__
    while at is not None and at.tb_frame.f_code.co_filename != str(program):
        at = at.tb_next
    return at
