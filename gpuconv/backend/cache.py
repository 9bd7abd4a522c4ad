"""Compiled kernels kept on disk, by a digest of all they depend on.

Nothing here raises: what cannot be read is compiled again, what cannot be written stays in memory, and each
of the two is said once.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from gpuconv.backend import folders

#: Before the payload: this, and a digest over its name and itself, so that neither damage nor mix-up passes.
_MAGIC = b"gpuconv\x01"
_HEADER = len(_MAGIC) + 32


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


def _header(key: str, payload: bytes) -> bytes:
    return _MAGIC + hashlib.sha256(key.encode() + payload).digest()


def _unusable(error: Exception) -> None:
    message = f"compiled kernels are kept in memory only: {folders.reason(error)}"
    folders.say("kernels in memory", message)
