"""The GPU check when the device or its driver misbehaves, with steps that stand in for the real ones."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from bench import gpu_check
from bench.check import child, page, process
from bench.check.state import MOST_CRASHES, MOST_LOST, State
from bench.check.steps import Item
from tests.unit import gpu_check_steps as fakes


def run(tmp_path, *steps):
    folders = ["--state", str(tmp_path / "state"), "--out", str(tmp_path / "out")]
    arguments = [*folders, "--commit", "abc1234", "--limit", "60", "--only", *steps]
    return gpu_check.main(arguments, source="tests.unit.gpu_check_steps")


def test_a_process_that_cannot_be_killed_is_left_and_nothing_follows(tmp_path, monkeypatch, capsys):
    """One in a driver's call ignores even SIGKILL; here the signal is simply not sent."""
    monkeypatch.setattr(process, "_signal", lambda group, number: None)
    begin = time.monotonic()
    code = run(tmp_path, "asleep", "good")
    pid = int((tmp_path / "state" / "asleep.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert time.monotonic() - begin < 15
    assert code == 1
    said = capsys.readouterr().out
    assert "unkillable" in said
    assert "nothing else is begun in this call" in said
    state = State(tmp_path / "state")
    assert state.step("asleep").ended["sleeper"]["status"] == "failed"
    assert not state.step("good").begun
    assert not state.step("good").ended
    assert "unkillable" in (tmp_path / "out" / page.PAGE).read_text()


def test_how_one_that_cannot_be_killed_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "_signal", lambda group, number: None)
    command = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"]
    ended = process.run(command, 1.0, tmp_path / "log", os.environ, tmp_path)
    pid = int((tmp_path / "log").read_text())
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert (ended.code, ended.stopped, ended.stuck) == (-9, True, True)
    assert ended.in_words.endswith("and unkillable")


@pytest.fixture
def state(tmp_path):
    state = State(tmp_path)
    state.open_for("abc1234", False, "2026-12-01T10:00:00+00:00")
    return state


def end(state, item, status):
    state.append(kind="end", step="one", item=item, status=status, note="", seconds=0, data={})


@pytest.mark.parametrize(("kind", "most"), [("lost", MOST_LOST), ("crash", MOST_CRASHES)])
def test_only_losses_in_a_row_end_a_step(state, kind, most):
    for number in range(2 * most):
        state.append(kind=kind, step="one", item=f"bad {number}", note="gone")
        assert not state.step("one").given_up
        end(state, f"good {number}", "passed")
    for number in range(most):
        assert not state.step("one").given_up
        end(state, f"failed {number}", "failed")  # no sign that the device works
        state.append(kind=kind, step="one", item=f"worse {number}", note="gone")
    found = state.step("one")
    assert found.given_up
    assert found.failed
    state.append(kind="again", step="one")
    assert not state.step("one").finished
    assert state.step("one").failed


def test_naming_a_step_lifts_that_it_was_given_up(tmp_path):
    for _ in range(MOST_CRASHES):
        run(tmp_path, "unlisted")
    assert State(tmp_path / "state").step("unlisted").given_up
    run(tmp_path, "unlisted")
    assert State(tmp_path / "state").step("unlisted").crashes == MOST_CRASHES + 1


def test_what_is_like_a_faulting_item_comes_last(tmp_path):
    """More of them fault than a step may lose in a row, and yet everything else ran before."""
    assert run(tmp_path, "cluster") == 1
    found = State(tmp_path / "state").step("cluster")
    assert found.lost == MOST_LOST + 1
    assert found.count("passed") == 3
    assert list(found.ended)[:4] == ["bad 0", "fine 0", "fine 1", "fine 2"]
    assert found.given_up


def test_without_clusters_the_order_stays():
    items = [Item(name, lambda: None) for name in "abc"]
    assert child._safe_first(items, {"a"}) == items


def test_less_than_nothing_is_never_left(state):
    state.append(kind="total", step="one", count=1)
    for name in "abc":
        end(state, name, "passed")
    assert state.step("one").left == 0
    assert page._row(fakes.step("one"), state.step("one")) == "| one | left | 3 | 0 | 0 | 0 |  |"
