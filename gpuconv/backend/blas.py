"""NumPy's BLAS held at one thread while a plan runs.

BLAS splits a product differently for each thread count and the last bits follow (seen in 282 of 300 random
products). Plans therefore share out their own, fixed blocks among threads and keep BLAS to one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import threadpoolctl

_lock = threading.Lock()
_holders = 0
_saved: list[tuple[Any, int]] = []


@cache
def _controllers() -> tuple[Any, ...]:
    """Every BLAS loaded; found once, which takes milliseconds, when the first plan runs."""
    return tuple(threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers)


def threads() -> int | None:
    """Threads BLAS uses now, or None where no BLAS answers."""
    return max((found.get_num_threads() for found in _controllers()), default=None)


def description() -> str:
    """Name and version of each BLAS found."""
    return ", ".join(f"{found.internal_api} {found.version}" for found in _controllers()) or "unknown"


def one_thread() -> None:
    """Enter: BLAS runs in the calling thread until every holder has called `release`."""
    global _holders
    with _lock:
        _holders += 1
        if _holders == 1:
            _saved[:] = [(found, found.get_num_threads()) for found in _controllers()]
            for found, _ in _saved:
                found.set_num_threads(1)


def release() -> None:
    """Leave: the last holder gives BLAS its threads back."""
    global _holders
    with _lock:
        _holders -= 1
        if _holders == 0:
            for found, count in _saved:
                found.set_num_threads(count)
            _saved.clear()


@contextmanager
def single_threaded() -> Iterator[None]:
    """Hold BLAS at one thread inside a ``with`` block."""
    one_thread()
    try:
        yield
    finally:
        release()


def _after_fork() -> None:
    """A child inherits the count but none of the threads that held it."""
    global _lock, _holders
    _lock = threading.Lock()
    if _holders:
        _holders = 1
        release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
