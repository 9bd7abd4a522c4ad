"""One search at a time, of all threads and of all processes that share a store.

Two at once would disturb each other's times, and find out the same twice.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from gpuconv import settings, store
from gpuconv.backend import folders
from gpuconv.backend.device import Device

#: Seconds to wait for another process, which may have many problems before it; then both search. After a wait
#: in vain the next ones are short.
_PATIENCE: Final = 600.0
_IMPATIENCE: Final = 0.2
_POLL: Final = 0.05

#: Taken again by a thread whose search tunes.
_lock = threading.RLock()
_held: set[str] = set()
_in_vain: set[str] = set()


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
        began = time.monotonic()
        try:
            _held.add(device.kind)
            yield
        finally:
            _held.discard(device.kind)
            if lock is not None:
                lock.release()
                if time.monotonic() - began > _POLL:
                    time.sleep(2 * _POLL)  # whoever waits comes before our next


def _taken(device: Device) -> Any:
    with suppress(*folders.FAILURES):  # told where something is to be kept
        import filelock

        place = store.folder()
        folders.make(place)
        lock = filelock.FileLock(place / f"{device.kind}.searching", mode=0o600, poll_interval=_POLL)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            settings.log("plan", f"another process searches on {device.kind}; this one waits")
            try:
                lock.acquire(timeout=_IMPATIENCE if device.kind in _in_vain else _PATIENCE)
            except filelock.Timeout:
                _in_vain.add(device.kind)
                raise
        _in_vain.discard(device.kind)
        return lock
    return None


def _after_fork() -> None:
    """A child has none of the threads that may have been searching."""
    global _lock
    _lock = threading.RLock()
    _held.clear()
    _in_vain.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
