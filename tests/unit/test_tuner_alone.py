"""Tuning by one thread, or one process, while others tune or look."""

from __future__ import annotations

import os
import threading
import time
import warnings

import filelock
import pytest

from gpuconv import calls, store
from gpuconv.autotune import alone, digest
from gpuconv.autotune.heuristic import Candidate
from gpuconv.backend import folders

from ..stand_in import PLAIN, Level, MadeUp
from .stored import entry
from .told import call, clock, now, ran

__all__ = ["clock"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_of_a_process_that_tunes_can_tune(clock, card):
    with alone._lock:
        done = threading.Event()
        found = []

        def fork():  # from a thread that does not hold the lock
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # that there are threads is the point
                pid = os.fork()
            if not pid:
                call(tune=True)
                os._exit(0)
            found.append(os.waitpid(pid, 0)[1])
            done.set()

        threading.Thread(target=fork).start()
        assert done.wait(20)
    assert found == [0]


def test_a_process_waits_for_the_search_of_another(clock, card, tmp_path):
    """And then knows what that has found."""
    here = card.device(0)
    other = filelock.FileLock(store.folder() / "cuda.searching")
    store.folder().mkdir(mode=0o700)
    other.acquire()
    thread = threading.Thread(target=call, kwargs={"tune": True})
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    assert clock.turns == 0
    first = Candidate(MadeUp("only"), Level(0))
    known = {"digest": digest.digest(PLAIN, first, here), "compiler": "compiler 1", "date": now()}
    store.put(here, [entry(problem=PLAIN, kernel="only", config={"level": 0}, **known)])
    other.release()
    thread.join(10)
    assert not thread.is_alive()
    assert (ran(card), clock.turns) == ("only0(level=0)", 0)


def test_a_process_that_does_not_move_is_waited_for_once(clock, card, monkeypatch):
    monkeypatch.setattr(alone, "_PATIENCE", 0.5)
    monkeypatch.setattr(alone, "_in_vain", set())
    store.folder().mkdir(mode=0o700)
    with filelock.FileLock(store.folder() / "cuda.searching"):
        began = time.monotonic()
        call(tune=True)
        assert time.monotonic() - began > 0.5
        assert ran(card) == "only1(level=1)"
        assert alone._in_vain == {"cuda"}
    with alone.alone(card.device(0)):
        assert not alone._in_vain


def test_where_the_folder_cannot_be_used_nobody_waits(clock, card, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GPUCONV_CACHE_DIR", str(tmp_path / "file"))
    monkeypatch.setattr(folders, "_said", {})
    with pytest.warns(RuntimeWarning, match="in memory only"):
        call(tune=True)
    assert ran(card) == "only1(level=1)"


def test_what_is_known_waits_for_no_search(clock, card):
    call(tune=True)
    calls._plans.clear()
    with alone.alone(card.device(0)):
        thread = threading.Thread(target=call, kwargs={"tune": True})
        thread.start()
        thread.join(10)
        assert not thread.is_alive()


def test_a_call_that_looked_before_a_tuning_is_not_remembered(clock, card, monkeypatch):
    """Between its plan and the table another thread tunes."""
    find = calls._find

    def slow(found, options, launcher):
        plan = find(found, options, launcher)
        if found.tune is None:
            monkeypatch.setattr(calls, "_find", find)
            call(tune=True)
        return plan

    monkeypatch.setattr(calls, "_find", slow)
    call()
    assert ran(card) == "only2(level=2)"
    call()
    assert ran(card) == "only1(level=1)"
