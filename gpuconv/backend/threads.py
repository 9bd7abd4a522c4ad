"""One pool of worker threads for all CPU plans; the calling thread always works along."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

State = TypeVar("State")

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0


def run(task: Callable[[int, State], None], count: int, states: Sequence[State]) -> None:
    """Call ``task(i, state)`` once for each i below `count`, on as many threads as there are states.

    Which thread takes which i is left open, so a task must write to a place of its own. A state is used by
    one thread at a time. On any exception, Ctrl-C included, no further task is begun, those under way are
    waited for, and the first exception is raised: nothing writes after this returns.
    """
    if len(states) == 1 or count <= 1:
        for i in range(count):
            task(i, states[0])
        return
    tickets = itertools.count()
    stop = False

    def work(state: State) -> None:
        nonlocal stop
        try:
            while not stop:
                i = next(tickets)
                if i >= count:
                    return
                task(i, state)
        except BaseException:
            stop = True
            raise

    helpers = min(len(states), count) - 1
    futures = [_workers(helpers).submit(work, state) for state in states[1 : helpers + 1]]
    try:
        work(states[0])
    except BaseException:
        _settle(futures)
        raise
    for error in _settle(futures):
        raise error


def _settle(futures: list[Future[None]]) -> list[BaseException]:
    """Wait until none of them runs; one that no thread has begun is withdrawn."""
    errors = []
    for future in futures:
        if not future.cancel():
            error = future.exception()
            if error is not None:
                errors.append(error)
    return errors


def _workers(wanted: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    with _lock:
        if _pool is None or _pool_size < wanted:
            if _pool is not None:
                _pool.shutdown(wait=False)
            _pool, _pool_size = ThreadPoolExecutor(wanted, thread_name_prefix="gpuconv"), wanted
        return _pool


def _after_fork() -> None:
    """A child has no worker threads; it makes its own when it needs them."""
    global _lock, _pool, _pool_size
    _lock, _pool, _pool_size = threading.Lock(), None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
