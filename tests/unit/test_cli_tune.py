"""gpuconv tune: what it finds is told, kept and used, whatever ends it."""

from __future__ import annotations

import builtins
import json

import pytest

from gpuconv import calls, dispatch
from gpuconv.autotune import search, space, trial, tuner
from gpuconv.autotune.recording import Recording
from gpuconv.backend import device
from gpuconv.cli import script, tuning
from gpuconv.problem import ConvProblem
from tests.command import plain_machine, process, results, run

P = "fprop_n1c8h12w12k8r3s3p1_nchw_f32"
Q = "dgrad_n1c8h12w12k8r3s3p1_nhwc_f32"
QUICK = ("--budget", "0.1")
HEADER = "name,N,C,H,W,K,R,S,stride,pad,dilation,groups,weight_in_network(count),source\n"


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """A store of its own, and nothing decided yet."""
    plain_machine(monkeypatch)
    monkeypatch.setenv("GPUCONV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(calls, "_plans", {})
    monkeypatch.setattr(dispatch, "_choices", {})


def tuned(*arguments):
    found = run("tune", "--json", *QUICK, *arguments)
    assert found.exit_code == 0, found.output
    return results(found, "tune")


def _tries(text):
    """How many candidates there are to try."""
    return min(search.MOST, len(space.proposals(ConvProblem.parse(text), device.cpu())))


def test_problems_are_tuned_and_the_second_run_measures_nothing(monkeypatch):
    first = tuned(P, Q, P)
    assert [one["problem"] for one in first] == [P, Q]
    for one in first:
        assert not one["known"]
        assert one["us"] > 0
        assert one["gain"] == pytest.approx(one["default_us"] / one["us"])
        assert one["tried"] >= 1
        assert one["tried"] + one["left"] + len(one["failed"]) == _tries(one["problem"])
        assert one["device"].startswith("cpu")
    plan = dispatch.plan_for(ConvProblem.parse(P), device.cpu())
    assert (plan.kernel, str(plan.config)) == (first[0]["kernel"], first[0]["config"])

    class None_:
        def __init__(self, *args, **how):
            raise AssertionError("something was measured")

    monkeypatch.setattr(tuner, "LiveBench", None_)
    second = tuned(P, Q)
    for before, after in zip(first, second, strict=True):
        assert after["known"]
        assert (after["kernel"], after["config"]) == (before["kernel"], before["config"])
        assert after["us"] == pytest.approx(before["us"])
        assert after["default_us"] == pytest.approx(before["default_us"])
    assert "something was measured" in str(run("tune", *QUICK, "--again", P).exception)


def test_a_table_for_people():
    found = run("tune", *QUICK, P)
    assert found.exit_code == 0, found.output
    lines = found.stdout.splitlines()
    assert lines[0].split() == [
        *("default", "us", "best", "us", "gain", "problem", "kernel", "config")  # a CPU's floor is not known
    ]
    assert lines[1].split()[3] == P
    assert lines[-1].startswith("1 tuned; gain, geometric mean: ")
    again = run("tune", *QUICK, P).stdout
    assert "(known)" in again
    assert "0 tuned, 1 known before" in again


def test_a_table_of_layers(tmp_path):
    table = tmp_path / "layers.csv"
    table.write_text(HEADER + "a-1,1,4,8,8,4,3,3,1,1,1,1,1,here\na-2,1,4,8,8,4,1,1,1,0,1,1,1,here\n")
    options = ("--op", "fprop", "--op", "wgrad", "--dtype", "f64", "--layout", "nhwc", "--batch", "2")
    found = tuned("--shapes", str(table), *options)
    assert [one["problem"] for one in found] == [
        "fprop_n2c4h8w8k4r3s3p1_nhwc_f64",
        "fprop_n2c4h8w8k4r1s1_nhwc_f64",
        "wgrad_n2c4h8w8k4r3s3p1_nhwc_f64",
        "wgrad_n2c4h8w8k4r1s1_nhwc_f64",
    ]


PROGRAM = """
import sys
import numpy as np
import gpuconv
print("hello", sys.argv[1:], __name__)
x, w = np.ones((1, 3, 9, 9), "f"), np.ones((4, 3, 3, 3), "f")
y = gpuconv.conv2d(x, w)
gpuconv.conv2d(x, w)
gpuconv.conv2d_weight_grad(x, w.shape, y)
"""


def test_a_program_tells_its_problems(tmp_path, monkeypatch):
    program = tmp_path / "prog.py"
    program.write_text(PROGRAM)
    found = run("tune", *QUICK, "--script", str(program), "--", "one", "--two")
    assert found.exit_code == 0, found.output
    assert "hello ['one', '--two'] __main__\n" in found.stdout
    assert "fprop_n1c3h9w9k4r3s3_nchw_f32" in found.stdout
    assert "wgrad_n1c3h9w9k4r3s3_nchw_f32" in found.stdout
    monkeypatch.setattr(calls, "_plans", {})  # as another process has it
    quiet = run("tune", *QUICK, "--json", "--script", str(program))
    assert [one["known"] for one in json.loads(quiet.stdout)["results"]] == [True, True]
    assert "hello" in quiet.stderr


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("import sys\nsys.exit(3)", 1, "ended with 3; nothing is tuned"),
        ("1 / 0", 1, "failed: division by zero; nothing is tuned"),
        ("def (", 1, "failed: "),
        ("class Own(BaseException): pass\nraise Own('so')", 1, "failed: so; nothing is tuned"),
        ("pass", 2, "computed no convolution"),
        ("raise SystemExit", 2, "computed no convolution"),
    ],
)
def test_a_program_that_fails_is_not_tuned(tmp_path, text, code, says):
    program = tmp_path / "prog.py"
    program.write_text(text)
    found = run("tune", "--script", str(program))
    assert found.exit_code == code, found.output
    assert says in found.stderr.splitlines()[-1]
    assert "script.py" not in found.stderr
    assert "runpy" not in found.stderr


def test_a_program_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "prog.py"
    program.write_text(PROGRAM + "import io, os\nos.chdir('/')\nsys.stdout = io.StringIO()\n")
    found = run("tune", *QUICK, "--record", "r.json", "--script", str(program))
    assert found.exit_code == 0, found.output
    assert "2 tuned" in found.stdout
    assert len(Recording.load(tmp_path / "r.json").problems) == 2


LATE = """
import threading, time
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)
pool.submit(int)  # its worker goes on waiting for work
threading.Thread(target=threading.Event().wait, daemon=True).start()
def late(then):
    time.sleep(0.2)
    then()
"""


@pytest.mark.parametrize("end", ["", "raise SystemExit(0)"])
def test_threads_that_a_program_leaves_are_waited_for(tmp_path, end):
    program = tmp_path / "prog.py"
    work = "".join(f"    {line}\n" for line in PROGRAM.strip().splitlines())
    program.write_text(
        f"{LATE}def work():\n{work}"
        "def more(): threading.Thread(target=late, args=(work,)).start()\n"
        f"threading.Thread(target=late, args=(more,)).start()\n{end}\n"
    )
    assert len(script.problems(program, (), quiet=True)) == 2


def test_an_interrupt_ends_the_wait_for_threads(tmp_path):
    program = tmp_path / "prog.py"
    program.write_text(
        f"{LATE}import _thread, builtins\n"
        "builtins.end_of_test = threading.Event()\n"
        "threading.Thread(target=end_of_test.wait).start()\n"
        "threading.Thread(target=late, args=(_thread.interrupt_main,)).start()\n"
    )
    try:
        with pytest.raises(KeyboardInterrupt):
            script.problems(program, (), quiet=True)
    finally:
        builtins.end_of_test.set()
        del builtins.end_of_test


@pytest.mark.parametrize("flag", [(), ("--json",)])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_program_may_close_its_streams(tmp_path, stream, flag):
    program = tmp_path / "prog.py"
    program.write_text(f"{PROGRAM}sys.{stream}.close()\n")
    found = process("tune", "--cpu", *QUICK, *flag, "--script", program, cwd=tmp_path)
    assert (found.returncode, "Traceback" in found.stderr) == (0, False), found.stderr
    assert "hello" in (found.stderr if flag else found.stdout)
    if flag:
        assert len(json.loads(found.stdout)["results"]) == 2
    else:
        assert "2 tuned" in found.stdout


def test_a_program_that_closes_more_than_its_own_streams(tmp_path):
    program = tmp_path / "prog.py"
    program.write_text(f"{PROGRAM}sys.__stdout__.close()\n")
    found = process("tune", "--cpu", *QUICK, "--script", program, cwd=tmp_path)
    assert found.returncode == 1
    assert found.stderr == "gpuconv: cannot write to standard output: it has been closed\n"


def test_what_was_measured_is_recorded(tmp_path):
    path = tmp_path / "r.json"
    found = run("tune", *QUICK, "--strategy", "random", "--record", str(path), P)
    assert found.exit_code == 0, found.output
    recording = Recording.load(path)
    assert (recording.kind, recording.strategy) == ("cpu", "random")
    assert recording.environment["threads"] == device.cpu().threads
    (one,) = recording.problems
    assert str(one.problem) == P
    assert len(one.tried) == _tries(P)
    path.unlink()
    known = run("tune", *QUICK, "--record", str(path), P)
    assert known.exit_code == 0
    assert not path.exists()
    assert "nothing was measured, so nothing is written" in known.stderr
    (tmp_path / "link.json").symlink_to(path)
    again = run("tune", *QUICK, "--again", "--record", str(tmp_path / "link.json"), P)
    assert again.exit_code == 0, again.output
    assert (tmp_path / "link.json").is_symlink()
    assert Recording.load(path).problems


def test_an_interrupt_keeps_what_is_done(tmp_path, monkeypatch):
    path, seen = tmp_path / "r.json", []

    class Impatient(trial.LiveBench):
        def prepare(self, candidates, told):
            seen.append(self.p)
            if len(seen) == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(tuner, "LiveBench", Impatient)
    found = run("tune", *QUICK, "--record", str(path), P, Q)
    assert found.exit_code == 130
    assert "1 tuned" in found.stdout
    assert found.stderr.splitlines()[-1] == "gpuconv: interrupted"
    assert len(Recording.load(path).problems) == 1
    assert tuner.known(ConvProblem.parse(P), device.cpu()) is not None
    assert tuner.known(ConvProblem.parse(Q), device.cpu()) is None


def test_what_cannot_be_tuned_is_left_out_and_counts_as_failure(monkeypatch):
    def refuse(*args, **how):
        raise RuntimeError("no candidate passed: because")

    monkeypatch.setattr(tuner, "search", refuse)
    found = run("tune", *QUICK, P)
    assert found.exit_code == 1
    assert f"{P} is left out: no candidate passed: because" in found.stderr
    assert "1 of 1 problems were not tuned" in found.stderr


def test_a_wrong_candidate_ends_with_4(monkeypatch):
    class Strict(trial.LiveBench):
        def judge(self, candidate):
            wrong, seconds = super().judge(candidate)
            return ("wrong: by far" if "splits=2" in str(candidate) else wrong), seconds

    monkeypatch.setattr(tuner, "LiveBench", Strict)
    found = run("tune", "--json", *QUICK, P)
    assert found.exit_code == 4
    (one,) = json.loads(found.stdout)["results"]
    assert "splits=2" not in one["config"]
    assert any(each["why"] == "wrong: by far" for each in one["failed"])
    assert "is wrong: by far" in found.stderr
    assert found.stderr.splitlines()[-1].startswith("gpuconv: wrong, and not used: ")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((), "one of the three"),
        ((P, "--shapes", __file__), "one of the three"),
        (("fprop_n1",), "fprop_n1"),
        ((P, "--op", "wgrad"), "--op"),
        ((P, "--budget", "0"), "--budget"),
        ((P, "--budget", "nan"), "--budget must be more than 0 seconds and at most 86400, got nan"),
        ((P, "--budget", "inf"), "--budget"),
        ((P, "--strategy", "best"), "--strategy"),
        ((P, "--workers", "0"), "--workers"),
        (("--shapes", "nowhere.csv"), "nowhere.csv"),
        (("--script", "nowhere.py"), "nowhere.py"),
        ((P, "--record", "/nowhere/at/all.json"), "--record: there is no folder /nowhere/at"),
    ],
)
def test_wrong_usage(arguments, word):
    found = run("tune", *arguments)
    assert found.exit_code == 2, found.output
    assert found.stdout == ""
    assert found.stderr.count("\n") == 1
    assert word in found.stderr


def test_a_table_that_is_none(tmp_path):
    table = tmp_path / "layers.csv"
    table.write_text("a,b\n1,2\n")
    found = run("tune", "--shapes", str(table))
    assert found.exit_code == 2
    assert "--shapes: layers.csv: header must be" in found.stderr
    table.write_text(HEADER)
    assert "has no rows" in run("tune", "--shapes", str(table)).stderr


def test_progress_in_words():
    step = search.Step("judging", 3, 16)
    assert tuning._says(step) == "judging 3/16"
    assert tuning._says(search.Step("timing", 4, 16, 12.34, 24.68)) == "timing 4, best 12.3 us, gain 2.00"
    jobs = [(ConvProblem.parse(P), device.cpu())] * 4
    wishes = tuning.Wishes()
    assert tuning._left(jobs, 0, wishes, 1.0) == "31 s left"
    assert tuning._left(jobs, 2, wishes, 8.0) == "8 s left"
    assert tuning._left(jobs * 100, 2, wishes, 8.0) == "27 min left"


def test_what_there_was_no_time_for_is_told_and_tried_when_there_is(monkeypatch):
    judge = trial.LiveBench.judge

    def slow(self, candidate):
        failure, seconds = judge(self, candidate)
        self.clock.hours += 0.06
        return failure, seconds

    monkeypatch.setattr(trial.CpuClock, "hours", 0.0, raising=False)
    monkeypatch.setattr(trial.CpuClock, "now", lambda self: self.hours)
    monkeypatch.setattr(trial.LiveBench, "judge", slow)
    count = _tries(P)
    found = run("tune", *QUICK, P)
    assert (found.exit_code, found.stdout.splitlines()[-1]) == (
        0,
        f"no time for {count - 1} candidates of 1 problem: a larger --budget tries more",
    )
    (again,) = tuned(P)
    assert (again["known"], again["left"]) == (True, count - 1)
    (more,) = results(run("tune", "--json", "--budget", "60", P), "tune")
    assert (more["known"], more["left"], more["failed"]) == (False, 0, [])
    (known,) = tuned("--strategy", "random", P)
    assert known["known"]
    (all_,) = tuned("--strategy", "exhaustive", P)
    assert not all_["known"]


def test_what_could_not_be_kept_ends_with_1(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("in the way")
    found = run("tune", *QUICK, P)
    assert found.exit_code == 1
    assert found.stdout.splitlines()[-1].startswith("1 tuned")
    assert found.stderr.splitlines()[-1] == "gpuconv: 1 of 1 results are forgotten with this process"
