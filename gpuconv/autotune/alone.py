"""One search at a time, of all threads and of all processes that share a store.

Two at once would disturb each other's times, and find out the same twice.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from gpuconv import store
from gpuconv.backend import folders
from gpuconv.backend.device import Device

#: Seconds to wait for another process, which may have many problems before it; then both search.
_PATIENCE: Final = 600.0
_POLL: Final = 0.05

#: Taken again by a thread whose search tunes.
_lock = threading.RLock()
_held: set[str] = set()


@contextmanager
def alone(device: Device) -> Iterator[None]:
    """Wait until nobody else searches on a device of this kind.

    What others found meanwhile is in the store. Where its folder cannot be used, only threads wait.
    """
    with _lock:
        if device.kind in _held:
            yield
            return
        lock = _taken(device)
        _held.add(device.kind)
        try:
            yield
        finally:
            _held.discard(device.kind)
            if lock is not None:
                lock.release()


def _taken(device: Device) -> Any:
    with suppress(*folders.FAILURES):  # told where something is to be kept
        import filelock

        place = store.folder()
        folders.make(place)
        lock = filelock.FileLock(
            place / f"{device.kind}.searching", timeout=_PATIENCE, mode=0o600, poll_interval=_POLL
        )
        lock.acquire()
        return lock
    return None


def _after_fork() -> None:
    """A child has none of the threads that may have been searching."""
    global _lock
    _lock = threading.RLock()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
