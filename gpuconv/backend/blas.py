"""NumPy's BLAS held at one thread while a plan runs.

BLAS splits a product differently for each thread count and the last bits follow. Plans therefore share out
their own, fixed blocks among threads and keep BLAS to one in each.

Most builds have one limit for the whole process: it is lowered by the first holder and put back by the last.
OpenBLAS built on OpenMP has one for each thread: every thread lowers its own.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_lock = threading.Lock()
_holders = 0
_saved: list[int] = []


@cache
def _controllers() -> tuple[Any, ...]:
    """Every BLAS loaded; found once, which takes milliseconds, when the first plan runs."""
    try:
        import threadpoolctl
    except ImportError:  # every installation has it; a bare checkout on a machine made for GPUs may not
        message = (
            "threadpoolctl is not installed: BLAS uses its own threads, on whose number last bits depend"
        )
        warnings.warn(message, RuntimeWarning, stacklevel=2)
        return ()
    return tuple(threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers)


@cache
def _limits_each_thread() -> tuple[Any, ...]:
    return tuple(
        found
        for found in _controllers()
        if found.internal_api == "openblas"
        and found.threading_layer == "openmp"
        and hasattr(found, "clear_controlling_thread")  # before threadpoolctl 3.8 the process's was set
    )


@cache
def _limits_process() -> tuple[Any, ...]:
    return tuple(found for found in _controllers() if found not in _limits_each_thread())


def _set(found: Any, count: int) -> None:
    """Set a limit from whichever thread; threadpoolctl 3.8 lets only one, the last to have cleared this."""
    clear = getattr(found, "clear_controlling_thread", None)
    if clear is None:
        found.set_num_threads(count)
        return
    clear(force=True)
    found.set_num_threads(count)
    clear(force=True)


def threads() -> int | None:
    """Threads BLAS uses now, or None where no BLAS answers."""
    return max((found.get_num_threads() for found in _controllers()), default=None)


def description() -> str:
    """Name, version and chosen processor kind of each BLAS found."""
    return ", ".join(
        " ".join(filter(None, (found.internal_api, found.version, getattr(found, "architecture", None))))
        for found in _controllers()
    )


@contextmanager
def single_threaded() -> Iterator[None]:
    """Hold BLAS at one thread, in this thread and in every one that called `enter_worker`."""
    global _holders
    own = [(found, found.get_num_threads()) for found in _limits_each_thread()]
    for found, _ in own:
        found.set_num_threads(1)
    with _lock:
        if _holders == 0:
            _saved[:] = [found.get_num_threads() for found in _limits_process()]
            for found in _limits_process():
                _set(found, 1)
        _holders += 1
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0:
                for found, count in zip(_limits_process(), _saved, strict=True):
                    _set(found, count)
        for found, count in own:
            found.set_num_threads(count)


def enter_worker() -> None:
    """Called once in each of our worker threads, which run nothing but blocks of plans."""
    for found in _limits_each_thread():
        found.set_num_threads(1)


def _after_fork() -> None:
    """A child inherits the lowered limit but none of the threads that would put it back."""
    global _lock, _holders
    _lock = threading.Lock()
    if _holders:
        _holders = 0
        for found, count in zip(_limits_process(), _saved, strict=True):
            _set(found, count)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
