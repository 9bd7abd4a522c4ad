"""Many processes write one tuning store, and are killed at it, while others read: nothing is lost or torn."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import warnings

import pytest

from gpuconv import store
from gpuconv.store_file import decode

from .stored import CPU, entry, fresh, path_of

_WRITERS, _WRITES, _READERS = 16, 200, 2
#: Of one writer; each is written eight times.
_PROBLEMS = 25


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    fresh(monkeypatch, tmp_path / "cache")
    return tmp_path / "cache" / "tuning"


def of(writer, step):
    """An entry whose every part follows from these two, so that no mixture passes for one."""
    return entry(
        1000 * writer + step % _PROBLEMS,
        config={"writer": writer, "step": step},
        us=writer + 1.0,
        default_us=step + 1.0,
        date=f"2026-01-01T00:{step // 60 % 60:02}:{step % 60:02}+00:00",
    )


def steps(found):
    """The step of each problem's entry, all of which are whole."""
    for p, one in found.items():
        writer, number = divmod(p.N, 1000)
        step = one.config["step"]
        assert step % _PROBLEMS == number
        assert (one.config["writer"], one.us, one.default_us) == (writer, writer + 1.0, step + 1.0)
        assert one.date.endswith(f"{step // 60 % 60:02}:{step % 60:02}+00:00")
    return {p: one.config["step"] for p, one in found.items()}


def write(writer):
    """Put entries of its own, one at a time, and look what is there."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in range(_WRITES):
            one = of(writer, step)
            assert store.put(CPU, [one])
            assert store.find(one.problem, CPU) == one
            if step % 20 == 0:
                steps(store.entries(CPU))


def read(seen, end):
    """What was there never falls behind or goes missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = {}
        while not end.is_set():
            found = steps(store.entries(CPU))
            assert all(found.get(p, -1) >= step for p, step in before.items())
            before = found
            seen.value += 1
            time.sleep(0.05)


def finish(processes, seconds):
    until = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.1, until - time.monotonic()))
    codes = [process.exitcode for process in processes]
    for process in processes:
        if process.is_alive():
            process.kill()
            process.join()
    return codes


def test_sixteen_processes_write_two_hundred_times_each(folder):
    way = multiprocessing.get_context("spawn")
    seen, end = way.Value("q", 0), way.Event()
    readers = [way.Process(target=read, args=(seen, end)) for _ in range(_READERS)]
    writers = [way.Process(target=write, args=(number,)) for number in range(_WRITERS)]
    for process in (*readers, *writers):
        process.start()
    codes = finish(writers, 240)
    end.set()
    assert codes == [0] * _WRITERS
    assert finish(readers, 30) == [0] * _READERS
    assert seen.value > 20
    last = {of(writer, step).problem: step for writer in range(_WRITERS) for step in range(_WRITES)}
    assert len(last) == _WRITERS * _PROBLEMS
    assert steps(store.entries(CPU)) == last
    assert {path.name for path in folder.iterdir()} == {path_of(CPU).name, "lock"}


def write_for_ever(writer):
    for step in range(100_000):
        store.put(CPU, [of(writer, step % 3600)])


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no such signal")
def test_processes_that_are_killed_leave_a_whole_file_and_no_lock(folder):
    way = multiprocessing.get_context("spawn")
    processes = [way.Process(target=write_for_ever, args=(number,)) for number in range(4)]
    for process in processes:
        process.start()
    until = time.monotonic() + 60
    while len(store.entries(CPU)) < 40 and time.monotonic() < until:
        time.sleep(0.01)
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        found = decode(path_of(CPU).read_bytes())
        assert found.left_out == ()
        steps(found.entries)
    assert len(store.entries(CPU)) >= 40
    assert store.put(CPU, [of(9, 9)])
    assert store.find(of(9, 9).problem, CPU) == of(9, 9)
