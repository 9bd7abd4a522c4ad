"""The program's own folders in the user's cache: found, judged, swept, and files in them written whole.

What cannot be done raises one of `FAILURES`; what depends on these folders goes on without, and says so once.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import time
import warnings
from pathlib import Path
from typing import Final

from gpuconv import settings

#: Seconds after which a temporary file can be no other process's work of this moment.
_ABANDONED: Final = 3600.0
_said: dict[object, object] = {}
_swept: set[Path] = set()


class Unusable(Exception):
    """Why a folder or a file is left alone."""


#: All that a folder may fail by; there may be no home either, or no platformdirs to find it.
FAILURES: Final = (OSError, Unusable, RuntimeError, ValueError, ImportError)


def root() -> Path:
    """The folder of all others, whether it exists or not."""
    chosen = settings.read("GPUCONV_CACHE_DIR")
    if chosen is not None:
        return Path(chosen).absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("gpuconv", appauthor=False))


def check(path: Path) -> None:
    """Raise `Unusable` if others could have put something into an existing folder, or into a file.

    What lies there is run on the device, or chooses what is run, so it must be the user's own.
    """
    check_status(path, path.stat())


def check_status(path: Path, status: os.stat_result) -> None:
    """`check`, where the status is known."""
    if os.name == "nt":  # a user's folders have access lists there, and no such bits
        return
    if status.st_uid != os.geteuid():
        raise Unusable(f"{path} belongs to another user")
    if stat.S_IMODE(status.st_mode) & 0o022:
        raise Unusable(f"{path} can be written by others")


def make(path: Path) -> None:
    """See that a folder inside of `root` is there, and the user's alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    check(path)
    _sweep(path)


def write(path: Path, data: bytes, *, lasting: bool = False, mode: int = 0o600) -> None:
    """Write a file, whole or not at all, whoever writes at the same time.

    Parameters
    ----------
    path : Path
        In a folder that is there; `make` sees to those inside of `root`.
    data : bytes
    lasting : bool
        Wait until the data are on the disk, so that not even a loss of power leaves half of them.
    mode : int
        Who may read it; what is for others as well is 0o644.
    """
    number, temporary = tempfile.mkstemp(suffix=".tmp", dir=path.parent)
    try:
        with open(number, "wb") as file:
            file.write(data)
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _sweep(path: Path) -> None:
    """Once, remove what processes left that were killed while they wrote."""
    if path in _swept:
        return
    _swept.add(path)
    for left in path.glob("*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED:
                left.unlink()


def reason(error: BaseException) -> str:
    """What one of `FAILURES` says, in a few words."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    return str(error)


def say(topic: object, message: str) -> None:
    """Warn, once for a topic."""
    mark = object()
    if _said.setdefault(topic, mark) is mark:
        warnings.warn(message, RuntimeWarning, stacklevel=3)
