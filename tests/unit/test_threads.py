"""The worker pool and the hold on BLAS."""

from __future__ import annotations

import gc
import itertools
import os
import queue
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest
import threadpoolctl

from gpuconv.backend import blas, threads


def fresh(monkeypatch):
    """A pool of this test's own: its workers are asked by nobody else."""
    monkeypatch.setattr(threads, "_workers", [])
    monkeypatch.setattr(threads, "_jobs", queue.SimpleQueue())


def test_each_task_runs_once_and_a_state_serves_one_thread_at_a_time():
    seen, busy = [], set()

    def task(i, state):
        assert id(state) not in busy
        busy.add(id(state))
        time.sleep(0.001)
        seen.append(i)
        busy.remove(id(state))

    threads.run(task, 40, [object() for _ in range(4)])
    assert sorted(seen) == list(range(40))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, MemoryError])
def test_an_error_stops_the_rest_and_nothing_runs_afterwards(error):
    begun, ended = [], []

    def task(i, state):
        begun.append(i)
        if i == 3:
            raise error
        time.sleep(0.01)
        ended.append(i)

    with pytest.raises(error):
        threads.run(task, 1000, [None] * 4)
    after = len(begun)
    assert after < 1000
    assert len(ended) == after - 1  # what had begun was waited for
    time.sleep(0.05)
    assert len(begun) == after


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_the_caller_waits_for_its_workers_before_it_raises(error):
    caller, at_work, ended = threading.current_thread(), threading.Event(), []

    def task(i, state):
        if threading.current_thread() is caller:
            assert at_work.wait(5)
            raise error
        at_work.set()
        time.sleep(0.1)
        ended.append(i)

    with pytest.raises(error):
        threads.run(task, 2, [None] * 2)
    assert len(ended) == 1


@pytest.mark.parametrize("pool", ["new", "old"])
def test_ctrl_c_between_any_two_lines(monkeypatch, pool):
    """Wherever it comes, it is raised, nothing runs afterwards, and the next call is as any."""
    inside = threads.__file__
    fresh(monkeypatch)
    for at in itertools.count(1):
        if pool == "new":
            fresh(monkeypatch)
        lines, ran = itertools.count(1), []

        def trace(frame, event, arg, at=at, lines=lines):
            if frame.f_code.co_filename != inside:
                return None
            if event == "line" and next(lines) == at:
                raise KeyboardInterrupt
            return trace

        def task(i, state, ran=ran):
            time.sleep(0.0005)
            ran.append(i)

        raised = False
        sys.settrace(trace)
        try:
            threads.run(task, 12, [None] * 3)
        except KeyboardInterrupt:
            raised = True
        finally:
            sys.settrace(None)
        after = len(ran)
        assert raised or sorted(ran) == list(range(12))
        time.sleep(0.002)
        assert len(ran) == after
        ran.clear()
        threads.run(task, 12, [None] * 3)
        assert sorted(ran) == list(range(12))
        if next(lines) <= at:  # the call was over before
            break
    assert at > 20


def test_a_thread_whose_start_is_interrupted_keeps_nobody_waiting():
    done = run_python(
        WORK
        + """
import threading
start = threading.Thread.start
def interrupted(self):
    start(self)
    raise KeyboardInterrupt
threading.Thread.start = interrupted
out = np.full((2, 16, 64, 64), -1, "f")
try:
    gpuconv.conv2d(x, w, padding=1, out=out)
except KeyboardInterrupt:
    print((out == -1).all())
"""
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_what_is_over_keeps_nothing_alive_while_the_workers_are_busy(monkeypatch):
    fresh(monkeypatch)
    busy, go_on = threading.Barrier(3), threading.Event()

    def hold(i, state):
        busy.wait(10)
        go_on.wait(10)

    holder = threading.Thread(target=threads.run, args=(hold, 2, [None] * 2))
    holder.start()
    busy.wait(10)  # the holder and its worker are at work
    array = np.zeros(100)
    kept = weakref.ref(array)
    threads.run(lambda i, state, array=array: array.sum(), 4, [None] * 2)
    del array
    gc.collect()
    assert kept() is None
    go_on.set()
    holder.join(10)


def test_threads_that_cannot_start_are_done_without(monkeypatch):
    """The first helper starts, the next does not: what began is still waited for."""
    fresh(monkeypatch)
    start, started = threading.Thread.start, []

    def limited(self):
        if len(started) >= 1:
            raise RuntimeError("can't start new thread")
        started.append(self)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", limited)
    ended = []
    for _ in range(5):
        ended.clear()
        threads.run(lambda i, state: (time.sleep(0.005), ended.append(i)), 6, [None] * 4)
        assert sorted(ended) == list(range(6))


def test_callers_that_ask_for_more_threads_do_not_disturb_others():
    failures = []

    def caller(count):
        try:
            for _ in range(20):
                threads.run(lambda i, state: time.sleep(0.0002), 10, [None] * count)
        except Exception as error:
            failures.append(error)

    callers = [threading.Thread(target=caller, args=(count,)) for count in range(2, 12)]
    for one in callers:
        one.start()
    for one in callers:
        one.join()
    assert not failures


def test_blas_is_held_at_one_thread_and_given_back():
    if not blas._controllers():
        pytest.skip("threadpoolctl knows no BLAS here")
    before = blas.threads()
    inside = []

    def hold(seconds):
        with blas.single_threaded():
            time.sleep(seconds)
            inside.append(blas.threads())

    # from several threads, overlapping: the last to leave gives it back
    holders = [threading.Thread(target=hold, args=(0.01 * i,)) for i in range(5)]
    for one in holders:
        one.start()
    for one in holders:
        one.join()
    assert inside == [1] * 5
    assert blas.threads() == before


def test_blas_is_held_whoever_set_it_last():
    """A limit that another thread has set, and still holds, does not stop ours, and comes back after it."""
    if not blas._controllers():
        pytest.skip("threadpoolctl knows no BLAS here")
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before, inside = blas.threads(), []

        def hold():
            with blas.single_threaded():
                inside.append(blas.threads())

        other = threading.Thread(target=hold)
        other.start()
        other.join()
        assert inside == [1]
        assert blas.threads() == before


def test_a_limit_for_each_thread_is_lowered_in_each(monkeypatch):
    """OpenBLAS on OpenMP: the caller's own limit comes back, the workers' stay at one."""

    class EachThread:
        def __init__(self):
            self.local = threading.local()

        def get_num_threads(self):
            return getattr(self.local, "count", 8)

        def set_num_threads(self, count):
            self.local.count = count

    fake = EachThread()
    monkeypatch.setattr(blas, "_limits_each_thread", lambda: (fake,))
    monkeypatch.setattr(blas, "_limits_process", lambda: ())
    fresh(monkeypatch)
    seen = set()
    with blas.single_threaded():
        threads.run(lambda i, state: (seen.add(fake.get_num_threads()), time.sleep(0.01)), 8, [None] * 4)
    assert seen == {1}
    assert fake.get_num_threads() == 8


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


WORK = """
import numpy as np, gpuconv
x, w = np.ones((2, 16, 64, 64), "f"), np.ones((16, 16, 3, 3), "f")
def go(): return gpuconv.conv2d(x, w, padding=1).sum()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_works():
    code = WORK + "import os\nfirst = go()\npid = os.fork()\nif pid == 0: os._exit(int(go() != first))\n"
    code += "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    done = run_python("import warnings; warnings.simplefilter('ignore')\n" + code)
    assert done.stdout.strip() == "0", done.stderr


def test_a_call_while_the_interpreter_ends_works():
    done = run_python(WORK + "import atexit\natexit.register(lambda: print(go()))\ngo()")
    assert done.stdout.strip() == str(np.float32(done.stdout.strip())), done.stderr
    assert not done.stderr


WITHOUT = """
import sys, warnings
sys.modules["threadpoolctl"] = None
import numpy as np, gpuconv
from gpuconv.backend import blas
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(2):
        y = gpuconv.conv2d(np.ones((1, 2, 4, 4), "f"), np.ones((3, 2, 3, 3), "f"))
assert (y == 18).all()
print([str(warning.message) for warning in caught], blas.threads())
"""


def test_without_threadpoolctl_it_works_and_says_once_what_is_lost():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
    message = "threadpoolctl is not installed: BLAS uses its own threads, on whose number last bits depend"
    assert (done.returncode, done.stdout.strip()) == (0, f"{[message]} None"), done.stderr
