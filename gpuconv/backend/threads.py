"""One pool of worker threads for all CPU plans; the calling thread always works along."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from gpuconv.backend import blas

State = TypeVar("State")

_lock = threading.Lock()
#: Daemons: whatever interrupts the caller, none keeps the interpreter from ending. None is at work then, for
#: `run` does not return before.
_workers: list[threading.Thread] = []
_jobs: SimpleQueue[_Job[Any]] = SimpleQueue()


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
    helpers = states[1 : min(len(states), count)]
    job = _Job(task, count, helpers)
    try:
        try:
            _invite(job, len(helpers))
            job.work(states[0])
        finally:
            job.settle()
    finally:
        job.settle()  # Ctrl-C may have come before the first did anything
    job.say()


class _Job(Generic[State]):
    """What the threads of one `run` share.

    Ctrl-C may come between any two steps of the caller, so each list changes in one step, and no step that
    was taken has to be remembered.
    """

    def __init__(self, task: Callable[[int, State], None], count: int, states: Sequence[State]) -> None:
        self._task, self._count, self._tickets = task, count, itertools.count()
        self._stop = False
        self._errors: list[BaseException] = []
        self._seats = list(states)  # for workers that have not come yet
        self._came: list[None] = []
        self._left: list[None] = []
        self._news: SimpleQueue[None] = SimpleQueue()

    def work(self, state: State) -> None:
        """Take tasks until there are no more."""
        try:
            while not self._stop:
                i = next(self._tickets)
                if i >= self._count:
                    return
                self._task(i, state)
        except BaseException:
            self._stop = True
            raise

    def join(self) -> None:
        """Work along, in a thread of the pool, if there is still a seat."""
        self._came.append(None)  # before a seat is taken: who finds no seat left waits for all who came
        try:
            with suppress(IndexError):
                state = self._seats.pop()
                self.work(state)
        except BaseException as error:
            self._errors.append(error)
        finally:
            self._left.append(None)
            self._news.put(None)

    def settle(self) -> None:
        """Leave no seat, and wait for those who have one, through any number of interrupts.

        Nothing is kept alive then by workers who find this only later.
        """
        interrupt = None
        while True:
            try:
                self._stop = True
                self._seats.clear()
                while len(self._left) < len(self._came):
                    self._news.get()
                break
            except BaseException as error:
                interrupt = error
        self._task = _over
        if interrupt is not None:
            raise interrupt

    def say(self) -> None:
        """Raise what went wrong in a worker."""
        try:
            if self._errors:
                raise self._errors[0]
        finally:
            self._errors.clear()  # which hold the frames that hold this


def _over(i: int, state: object) -> None:
    """What is left of a task that nobody may begin any more."""


def _invite(job: _Job[Any], helpers: int) -> None:
    """Ask workers: fewer or none where no thread can start or the interpreter is ending."""
    with _lock, suppress(RuntimeError):
        while len(_workers) < helpers:
            worker = threading.Thread(
                target=_serve, args=(_jobs,), name=f"gpuconv-{len(_workers)}", daemon=True
            )
            worker.start()
            _workers.append(worker)
    for _ in range(min(helpers, len(_workers))):
        _jobs.put(job)


def _serve(jobs: SimpleQueue[_Job[Any]]) -> None:
    """One worker's life."""
    blas.enter_worker()
    while True:
        jobs.get().join()


def _after_fork() -> None:
    """A child has no worker threads; it makes its own when it needs them."""
    global _lock, _workers, _jobs
    _lock, _workers, _jobs = threading.Lock(), [], SimpleQueue()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
