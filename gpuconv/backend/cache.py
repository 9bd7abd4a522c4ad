"""Compiled kernels kept on disk, by a digest of all they depend on.

Nothing here raises: what cannot be read is compiled again, what cannot be written stays in memory, and each
of the two is said once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
import warnings
from pathlib import Path

from gpuconv import settings

#: Before the payload: this, and a digest over its name and itself, so that neither damage nor mix-up passes.
_MAGIC = b"gpuconv\x01"
_HEADER = len(_MAGIC) + 32
#: Seconds after which a temporary file can be no other process's work of this moment.
_ABANDONED = 3600.0
_said: set[str] = set()
_swept: set[Path] = set()


class Unusable(Exception):
    """Why the folder is left alone."""


def folder() -> Path:
    """Where kernels are kept, whether it exists or not."""
    chosen = settings.read("GPUCONV_CACHE_DIR")
    if chosen is not None:
        return Path(chosen).absolute() / "cubins"
    import platformdirs

    return Path(platformdirs.user_cache_dir("gpuconv", appauthor=False)) / "cubins"


def check(path: Path) -> None:
    """Raise `Unusable` if others could have put something into an existing folder.

    A cubin runs with the user's rights on the device, and its memory, so it must be the user's own.
    """
    if os.name == "nt":  # a user's folders have access lists there, and no such bits
        return
    status = path.stat()
    if status.st_uid != os.geteuid():
        raise Unusable(f"{path} belongs to another user")
    if status.st_mode & 0o022:
        raise Unusable(f"{path} can be written by others")


def get(key: str) -> bytes | None:
    """What was put under the key, or None."""
    try:
        path = folder()
        check(path)
        data = (path / f"{key}.cubin").read_bytes()
    except FileNotFoundError:
        return None
    except (OSError, Unusable, RuntimeError, ValueError, ImportError) as error:
        _unusable(error)
        return None
    payload = data[_HEADER:]
    if data[:_HEADER] != _header(key, payload):
        _say("damaged", f"{path / f'{key}.cubin'} is damaged and is written anew")
        return None
    return payload


def put(key: str, payload: bytes) -> None:
    """Keep the payload, whole or not at all, whoever writes at the same time."""
    try:
        path = folder()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        check(path)
        _sweep(path)
        number, temporary = tempfile.mkstemp(suffix=".tmp", dir=path)
        try:
            with open(number, "wb") as file:
                file.write(_header(key, payload) + payload)
            os.replace(temporary, path / f"{key}.cubin")
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except (OSError, Unusable, RuntimeError, ValueError, ImportError) as error:
        _unusable(error)


def _header(key: str, payload: bytes) -> bytes:
    return _MAGIC + hashlib.sha256(key.encode() + payload).digest()


def _sweep(path: Path) -> None:
    """Once, remove what processes left that were killed while they wrote."""
    if path in _swept:
        return
    _swept.add(path)
    for left in path.glob("*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED:
                left.unlink()


def _unusable(error: Exception) -> None:
    reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.strerror else error
    _say("unusable", f"compiled kernels are kept in memory only: {reason}")


def _say(topic: str, message: str) -> None:
    if topic not in _said:
        _said.add(topic)
        warnings.warn(message, RuntimeWarning, stacklevel=3)
