"""Compiled kernels kept on disk, by a digest of all they depend on.

Nothing here raises: what cannot be read is compiled again, what cannot be written stays in memory, and each
of the two is said once.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from gpuconv.backend import folders

#: Before the payload: this, and a digest over its name and itself, so that neither damage nor mix-up passes.
_MAGIC = b"gpuconv\x01"
_HEADER = len(_MAGIC) + 32
#: Nothing of another name is ever removed.
_OURS = re.compile(r"[0-9a-f]{64}\.cubin", re.ASCII)


def folder() -> Path:
    """Where kernels are kept, whether it exists or not."""
    return folders.root() / "cubins"


def get(key: str) -> bytes | None:
    """What was put under the key, or None."""
    try:
        path = folder()
        folders.check(path)
        data = (path / f"{key}.cubin").read_bytes()
    except FileNotFoundError:
        return None
    except folders.FAILURES as error:
        _unusable(error)
        return None
    payload = data[_HEADER:]
    if data[:_HEADER] != _header(key, payload):
        folders.say("damaged kernel", f"{path / f'{key}.cubin'} is damaged and is written anew")
        return None
    return payload


def put(key: str, payload: bytes) -> None:
    """Keep the payload, whole or not at all, whoever writes at the same time."""
    try:
        path = folder()
        folders.make(path)
        folders.write(path / f"{key}.cubin", _header(key, payload) + payload)
    except folders.FAILURES as error:
        _unusable(error)


def held() -> tuple[int, int]:
    """How many compiled kernels are kept, and their bytes.

    Raises
    ------
    OSError, Unusable
        If the folder cannot be looked at, or others could have put something into it.
    """
    sizes = [path.stat().st_size for path in _kernels()]
    return len(sizes), sum(sizes)


def clear() -> int:
    """Remove all compiled kernels; how many there were. Raises as `held` does."""
    found = _kernels()
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


def _kernels() -> list[Path]:
    path = folder()
    try:
        folders.check(path)
    except FileNotFoundError:
        return []
    return [one for one in path.iterdir() if _OURS.fullmatch(one.name) and not one.is_dir()]


def _header(key: str, payload: bytes) -> bytes:
    return _MAGIC + hashlib.sha256(key.encode() + payload).digest()


def _unusable(error: Exception) -> None:
    message = f"compiled kernels are kept in memory only: {folders.reason(error)}"
    folders.say("kernels in memory", message)
