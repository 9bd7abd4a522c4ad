"""What every command shares: exit codes, errors of one line, JSON and tables.

Results go to standard output, everything else to standard error.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import secrets
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from gpuconv.errors import UnsupportedProblem

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

SCHEMA: Final = 1
#: Where nobody looks at a screen, no line is broken.
_PLAIN_WIDTH: Final = 100_000
_LINKS: Final = 8
_DESCRIPTOR: Final = re.compile(r"/dev/std(out|err)|/(?:dev|proc/self)/fd/([0-9]{1,9})")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")


class Failure(click.ClickException):
    """Ends the command with one line on standard error and an exit code: 1, or a subclass's."""

    def show(self, file: Any = None) -> None:
        """Print the line."""
        note(self.message)


class WrongUsage(Failure):
    """The caller asked for what cannot be, outside of what click checks itself."""

    exit_code = 2


class NoGpu(Failure):
    """There is no CUDA device, and the command was told to use one."""

    exit_code = 3


class Mismatch(Failure):
    """A result is wrong."""

    exit_code = 4


class Interrupted(Failure):
    """Ctrl-C; the code a shell gives for it."""

    exit_code = 130


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn whatever can go wrong in a program without faults into `Failure`; faults keep their traceback."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("interrupted") from None
    except click.UsageError as error:
        raise wrong_usage(error) from None
    except UnsupportedProblem as error:
        reasons = "; ".join(map(str, error.rejects))
        raise Failure(f"no kernel runs {error.problem} on {error.device}: {reasons}") from None
    except MemoryError as error:
        raise Failure(f"not enough memory: {one_line(error)}") from None
    except BrokenPipeError:
        raise  # whoever read the output has stopped: click leaves quietly
    except OSError as error:
        raise Failure(one_line(error)) from None
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("gpuconv"):
            raise
        raise Failure(f"this command needs {error.name}: pip install 'gpuconv[cli]'") from None
    except ValueError as error:
        if not str(error).startswith("GPUCONV_"):
            raise
        raise WrongUsage(one_line(error)) from None


def wrong_usage(error: click.UsageError) -> click.ClickException:
    """What click found wrong, in one line; the help page, which it gives for no arguments at all, stays."""
    if type(error).__name__ == "NoArgsIsHelpError":
        return error
    path = error.ctx.command_path if error.ctx is not None else "gpuconv"
    return WrongUsage(f"{one_line_of(error.format_message())} ('{path} --help' tells more)")


def one_line_of(text: str) -> str:
    """A message without its line breaks."""
    return " ".join(text.split())


def one_line(error: BaseException) -> str:
    """What an exception says, in one line of sensible length."""
    if isinstance(error, OSError) and error.strerror:
        named = f"{error.filename}: " if error.filename is not None else ""
        return named + error.strerror
    text = one_line_of(str(error)) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."


def note(message: str) -> None:
    """Print one line on standard error, if anyone can still read it."""
    with suppress(OSError, ValueError):
        click.echo(f"gpuconv: {message}", err=True)


def progress(message: str) -> None:
    """Say what is being done, to a person only."""
    if sys.stderr is not None and sys.stderr.isatty():
        note(message)


@contextmanager
def progress_bar(length: int, *, shown: bool) -> Iterator[Callable[[int], Any]]:
    """Draw a bar for a person, if `shown`; gives the function that moves it on by some steps."""
    if not (shown and sys.stderr is not None and sys.stderr.isatty()):
        yield lambda steps: None
        return
    with click.progressbar(length=length, file=sys.stderr) as bar:
        yield bar.update


def emit(command: str, results: Sequence[dict[str, Any]], **about: Any) -> None:
    """Print the results of a command as JSON, under what is to be said about all of them."""
    document = {"schema": SCHEMA, "command": command, **about, "results": results}
    write(json.dumps(document, indent=2, allow_nan=False) + "\n")


def facts(rows: Iterable[tuple[str, RenderableType]]) -> Table:
    """Lay out names and values."""
    return table((), rows)


def table(columns: Sequence[str], rows: Iterable[Sequence[RenderableType]]) -> Table:
    """Lay out rows under their headings; only the last column breaks its lines."""
    from rich.box import ASCII, ROUNDED
    from rich.table import Table

    rows = list(rows)
    box = (ROUNDED if _encoding().lower().startswith("utf") else ASCII) if _on_terminal() else None
    grid = Table(box=box, show_header=bool(columns), pad_edge=box is not None)
    count = len(rows[0]) if rows else len(columns)
    for index in range(count):
        last = index == count - 1
        grid.add_column(columns[index] if columns else "", no_wrap=not last, overflow="fold")
    for row in rows:
        grid.add_row(*row)
    return grid


def show(*parts: RenderableType) -> None:
    """Print tables and lines; a terminal gets its own width and colours, anything else long plain lines.

    A string is a heading, a `Text` a plain line; neither is ever broken, so that it can be copied whole.
    """
    from rich.console import Console
    from rich.text import Text

    terminal, page = _on_terminal(), io.StringIO()
    # a path or a problem is text, whatever brackets and colons it holds
    console = Console(
        file=page,
        force_terminal=terminal,
        width=None if terminal else _PLAIN_WIDTH,
        markup=False,
        highlight=False,
        emoji=False,
    )
    for part in parts:
        if isinstance(part, (str, Text)):
            line = Text(part, style="bold") if isinstance(part, str) else part
            console.print(line, soft_wrap=True)
        else:
            console.print(part)
    text = page.getvalue()
    if not terminal:
        text = "".join(line.rstrip() + "\n" for line in text.splitlines())
    write(text)


def put(files: Mapping[Path, Callable[[], Any]]) -> None:
    """Write files, each whole or not at all: none takes its place before all are written.

    Each comes with the function that gives its bytes. Folders that are not there are made; links stay, and
    what they lead to is written. A device or a pipe is written to, and stays what it is.
    """
    staged: list[tuple[Path, Path]] = []
    streams: list[tuple[Path, Any]] = []
    path = Path()
    try:
        for path, content in files.items():
            encoded = content()
            if is_stream(path):
                streams.append((path, encoded))
                continue
            folder = Path(os.path.realpath(path)).parent
            folder.mkdir(parents=True, exist_ok=True)
            part = folder / f".gpuconv-{secrets.token_hex(8)}"
            staged.append((part, path))
            with part.open("xb") as file:
                file.write(encoded)
        for path, encoded in streams:
            number = descriptor(path)  # opened anew, a file would be written from its beginning again
            with open(path if number is None else os.dup(number), "wb") as file:
                file.write(encoded)
        for part, path in staged:
            os.replace(part, os.path.realpath(path))
    except OSError as error:
        raise Failure(f"cannot write {path}: {error.strerror or one_line(error)}") from None
    finally:
        for part, _ in staged:
            with suppress(OSError):
                part.unlink(missing_ok=True)


def is_stream(path: Path) -> bool:
    """Whether something is there that is neither a file nor a folder: a device, a pipe, an open stream."""
    if descriptor(path) is not None:
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def descriptor(path: Path) -> int | None:
    """The number of this process's open stream that a path names, as /dev/stdout does, or a link to it."""
    for _ in range(_LINKS):
        if found := _DESCRIPTOR.fullmatch(str(path)):
            return {"out": 1, "err": 2}.get(found[1]) or int(found[2])
        if not path.is_symlink():
            break
        path = path.parent / path.readlink()
    return None


def check_writable(option: str, path: Path) -> None:
    """Refuse a file, or a folder to put one in, that cannot be written, before anything is computed."""
    if is_stream(path):  # not opened yet: a pipe waits for whoever reads it
        if not os.access(path, os.W_OK):
            raise WrongUsage(f"{option}: {path} cannot be written: {os.strerror(errno.EACCES)}")
        return
    folder = path if path.is_dir() else path.absolute().parent
    if not folder.is_dir():
        raise WrongUsage(f"{option}: there is no folder {folder}")
    try:
        # named like the file's own, which a name may be too long for
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{path.name}."):
            pass
    except OSError as error:
        raise WrongUsage(f"{option}: {path} cannot be written: {error.strerror or error}") from None


def write(text: str) -> None:
    """Write to standard output, at once, so that a failure is met here and not at exit."""
    stream = getattr(sys, "stdout", None)
    if stream is None:  # closed by whoever started the process
        return
    try:
        stream.write(text.encode(_encoding(), "replace").decode(_encoding()))
        stream.flush()
    except OSError as error:
        give_up_stdout()
        if error.errno == errno.EPIPE:
            raise
        raise Failure(f"cannot write to standard output: {one_line(error)}") from None
    except ValueError:
        if not stream.closed:
            raise
        raise Failure("cannot write to standard output: it has been closed") from None


def give_up_stdout() -> None:
    """Send what is still buffered nowhere: written again at exit, it would fail again, with a traceback."""
    stream = sys.__stdout__
    if stream is not None and sys.stdout is stream:
        with suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
    else:
        sys.stdout = io.StringIO()


def _encoding() -> str:
    return getattr(sys.stdout, "encoding", None) or "utf-8"


def _on_terminal() -> bool:
    return sys.stdout is not None and not sys.stdout.closed and sys.stdout.isatty()
