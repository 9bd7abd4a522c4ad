"""What C libraries print by themselves, behind Python's back."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Final

from gpuconv.cli.output import one_line_of

_STDERR: Final = 2
#: What Pillow calls every file when it talks to libtiff.
_NO_NAME: Final = re.compile(r"^(tempfile|filename)\.tif: ")


@contextmanager
def heard(lines: list[str]) -> Iterator[None]:
    """Add to `lines` what is printed to file descriptor 2 meanwhile, instead of letting it through.

    The descriptor belongs to the whole process: what other threads print there is heard too. Where standard
    error is closed, its number may be another file's, so it is left alone.
    """
    file = _file()
    if file is None:
        yield
        return
    with file:
        kept = os.dup(_STDERR)
        try:
            os.dup2(file.fileno(), _STDERR)
            yield
        finally:
            os.dup2(kept, _STDERR)
            os.close(kept)
            file.seek(0)
            text = file.read().decode(errors="replace")
            lines += [_NO_NAME.sub("", one_line_of(line))[:300] for line in text.splitlines() if line.strip()]


def _file() -> IO[bytes] | None:
    """Where to listen, if one can."""
    if sys.__stderr__ is None or sys.__stderr__.closed:
        return None
    try:
        sys.__stderr__.flush()
        return tempfile.TemporaryFile()
    except OSError:
        return None
