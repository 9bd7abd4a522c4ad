"""One pool of worker threads for all CPU plans; the calling thread always works along."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from typing import TypeVar

from gpuconv.backend import blas

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

    helpers = states[1 : min(len(states), count)]
    futures = _submit([partial(work, state) for state in helpers])
    try:
        work(states[0])
    finally:
        _settle(futures)
    for future in futures:
        if not future.cancelled():
            future.result()


def _settle(futures: list[Future[None]]) -> None:
    """Withdraw what no thread has begun and wait for the rest, through any number of interrupts."""
    for future in futures:
        future.cancel()
    interrupt = None
    while True:
        try:
            wait(futures)
            break
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt


def _submit(calls: Sequence[Callable[[], None]]) -> list[Future[None]]:
    """Begin calls on the pool: fewer or none where no thread can start or the interpreter is ending."""
    global _pool, _pool_size
    with _lock:
        if _pool is None or _pool_size < len(calls):
            if _pool is not None:
                _pool.shutdown(wait=False)
            _pool_size = len(calls)
            _pool = ThreadPoolExecutor(
                _pool_size, thread_name_prefix="gpuconv", initializer=blas.enter_worker
            )
        futures: list[Future[None]] = []
        with suppress(RuntimeError):
            for call in calls:
                futures.append(_pool.submit(call))
        return futures


def _after_fork() -> None:
    """A child has no worker threads; it makes its own when it needs them."""
    global _lock, _pool, _pool_size
    _lock, _pool, _pool_size = threading.Lock(), None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
