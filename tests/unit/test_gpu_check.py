"""The GPU check's machinery, with tiny steps in the place of the real ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import gpu_check
from bench.check import page, process
from bench.check.state import MOST_DATA, State
from bench.check.steps import NAMES, STEPS
from gpuconv.report.records import ResultFile
from tests.unit import gpu_check_steps as fakes

ROOT = Path(__file__).parents[2]
FAKES = "tests.unit.gpu_check_steps"
COMMON = ("--commit", "abc1234")


@pytest.fixture
def check(tmp_path, capsys):
    """Run the command here on some fake steps; gives its exit code and what it said."""

    def run(*steps, limit=60, more=()):
        folders = ("--state", str(tmp_path / "state"), "--out", str(tmp_path / "out"))
        only = ("--only", *steps) if steps else ()
        arguments = [*folders, *COMMON, "--limit", str(limit), *more, *only]
        code = gpu_check.main([str(each) for each in arguments], source=FAKES)
        return code, capsys.readouterr().out

    return run


def known(tmp_path, name):
    return State(tmp_path / "state").step(name)


def traces(tmp_path):
    path = tmp_path / "state" / "ran.txt"
    return path.read_text().splitlines() if path.exists() else []


def alive(pid):
    """Whether a process runs; one that waits for its parent to look does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def test_a_good_step_passes_and_is_not_run_again(check, tmp_path):
    code, said = check("good")
    assert (code, traces(tmp_path)) == (0, ["good a", "good b", "good c"])
    assert "3 passed, 0 failed, 0 skipped of 3; passed" in said
    code, said = check("good")
    assert code == 0
    assert "nothing is left to do" in said
    assert len(traces(tmp_path)) == 3


def test_a_failure_is_written_so_that_it_can_become_a_test(check, tmp_path):
    code, _ = check("wrong")
    assert code == 1
    assert traces(tmp_path) == ["wrong right"]
    (found,) = json.loads((tmp_path / "out" / "mismatches.json").read_text())
    assert found["what"] == "Mismatch: 2 is not 3"
    wanted = {"step": "wrong", "item": "wrong", "problem": "a problem", "got": ["2"], "expected": ["3"]}
    assert found.items() >= wanted.items()
    text = (tmp_path / "out" / page.PAGE).read_text()
    assert "- wrong: `wrong`: Mismatch: 2 is not 3" in text
    # and it stays a failure when nothing is left
    assert check("wrong")[0] == 1


def test_what_is_missing_is_skipped_with_its_reason(check, tmp_path):
    code, said = check("absent", "partly")
    assert code == 0
    assert "absent: skipped: the tool is not on the path" in said
    text = (tmp_path / "out" / page.PAGE).read_text()
    assert "absent was skipped: the tool is not on the path" in text
    assert "partly: 1 skipped: bf16 needs ml_dtypes" in text
    # who names the step has it tried again
    check("partly")
    assert traces(tmp_path) == ["partly", "partly"]


def test_a_crash_costs_its_case_and_the_next_call_goes_on_after_it(check, tmp_path):
    code, said = check("crash", "good")
    assert code == 1
    assert "killed by SIGSEGV during killer: about to die" in said
    assert traces(tmp_path) == ["crash first", "crash killer", "good a", "good b", "good c"]
    found = known(tmp_path, "crash")
    assert found.ended["killer"]["status"] == "failed"
    assert not found.finished
    check("crash", "good")
    assert traces(tmp_path)[5:] == ["crash last"]
    assert known(tmp_path, "crash").done
    assert check("crash")[0] == 1


def test_a_step_that_dies_without_an_item_is_given_up_after_two_calls(check, tmp_path):
    assert check("unlisted")[0] == 1
    assert not known(tmp_path, "unlisted").given_up
    check("unlisted")
    assert known(tmp_path, "unlisted").given_up
    text = (tmp_path / "out" / page.PAGE).read_text()
    assert "unlisted was given up after 2 lost processes" in text
    assert "there is not even a list" in text
    assert known(tmp_path, "unlisted").finished


def test_a_hang_is_ended_with_its_children_and_fails_when_it_comes_twice(check, tmp_path):
    begin = time.monotonic()
    code, _ = check("hang", "good")
    assert time.monotonic() - begin < 15
    assert code == 0  # it may only have been short of time
    assert "good c" in traces(tmp_path)
    child = int((tmp_path / "state" / "child.pid").read_text())
    assert not alive(child)
    assert check("hang")[0] == 1
    assert known(tmp_path, "hang").ended["sleeper"]["note"] == "did not end in 2 tries"
    check("hang")
    assert known(tmp_path, "hang").done
    assert traces(tmp_path).count("hang") == 2
    assert traces(tmp_path)[-1] == "hang last"


def test_a_lost_device_costs_one_case_and_a_new_process_goes_on(check, tmp_path):
    code, said = check("lost")
    assert code == 1
    assert "the device was lost; a new process goes on" in said
    found = known(tmp_path, "lost")
    assert found.done
    assert {key: line["status"] for key, line in found.ended.items()} == {
        "loser": "failed",
        "after": "passed",
    }


def test_the_limit_holds_and_what_is_left_is_no_failure(check, tmp_path):
    begin = time.monotonic()
    code, _ = check("slow", "good", limit=7)
    assert time.monotonic() - begin < 7
    assert code == 0
    done = len([line for line in traces(tmp_path) if line.startswith("slow")])
    assert 0 < done < 40
    assert f"{40 - done} left" in "".join(page.listing(fakes.STEPS, State(tmp_path / "state").steps()))
    assert "has something left: call again" in (tmp_path / "out" / page.PAGE).read_text()
    check("slow", limit=30)  # in rounds of its share
    assert traces(tmp_path).count("slow 0") == 1
    assert known(tmp_path, "slow").done
    assert len(set(traces(tmp_path))) == len(traces(tmp_path))


def test_files_are_few_flat_and_small(check, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "MOST_BYTES", 50_000)
    check("chatty", "good")
    files = list((tmp_path / "out").iterdir())
    assert len(files) <= 8
    for path in files:
        assert path.is_file()
        assert path.stat().st_size <= 50_000, path.name
    assert "cut" in (tmp_path / "out" / "log.txt").read_text()[-100:]
    lines = (tmp_path / "state" / "state.jsonl").read_text().splitlines()
    assert max(map(len, lines)) < 2 * MOST_DATA


def test_state_of_another_commit_is_put_aside(check, tmp_path):
    check("good")
    code, said = check("good", more=("--commit", "def5678"))
    assert code == 0
    assert "was of commit abc1234, not of commit def5678: begun anew" in said
    assert len(traces(tmp_path)) == 6
    assert (tmp_path / "state" / "before-abc1234.jsonl").exists()
    _, said = check("good", more=("--commit", "def5678", "--dry-run"))
    assert "not of a dry run of commit def5678" in said


def test_the_state_file_alone_is_enough_to_go_on(check, tmp_path):
    """A fresh machine has nothing else; and a kill in the middle of a line loses that line only."""
    check("crash")
    text = (tmp_path / "out" / "state.jsonl").read_text()
    for path in (tmp_path / "state").rglob("*.log"):
        path.unlink()
    (tmp_path / "state" / "ran.txt").unlink()
    (tmp_path / "state" / "state.jsonl").write_text(text + '{"kind": "end", "step": "crash", "it')
    check("crash")
    assert traces(tmp_path) == ["crash last"]
    assert known(tmp_path, "crash").done


def test_list_runs_nothing(check, tmp_path):
    code, said = check(more=("--list",))
    assert code == 0
    assert [line.split()[0] for line in said.splitlines()] == [step.name for step in fakes.STEPS]
    assert "not begun" in said
    assert not list(tmp_path.iterdir())  # nor is anything created
    check("good")
    assert "3 passed" in check(more=("--list",))[1]
    assert "3 passed" not in check(more=("--list", "--commit", "def5678"))[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--only", "nonsense"), "there is no step nonsense; steps are environment, "),
        (("--limit", "0"), "--limit must be more than 0 seconds, got 0"),
        (("--out", "state"), "--state and --out must be two folders"),
        (("--commit", "a/../../b"), "must be 1 to 64 of A-Z a-z 0-9 . _ -, got 'a/../../b'"),
        (("--commit", ""), "must be 1 to 64"),
    ],
)
def test_wrong_arguments(arguments, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        gpu_check.main(["--state", "state", "--out", "out", *COMMON, *arguments])
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_whole_files(tmp_path, number):
    code = f"import sys; from bench.gpu_check import main; sys.exit(main(source={FAKES!r}))"
    words = ["--state", tmp_path / "state", "--out", tmp_path / "out", *COMMON, "--only", "good", "slow"]
    command = [sys.executable, "-c", code, *map(str, words)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        until = time.monotonic() + 30
        while "slow 1" not in traces(tmp_path) and time.monotonic() < until:
            time.sleep(0.05)
        running.send_signal(number)
        said, _ = running.communicate(timeout=20)
    assert running.returncode == 128 + number, said
    assert f"stopped by {number.name}" in said
    text = (tmp_path / "out" / page.PAGE).read_text()
    assert "| good | passed | 3 |" in text
    assert not [path.name for path in (tmp_path / "out").iterdir() if path.name.endswith(".part")]
    before = len(traces(tmp_path))
    time.sleep(0.6)
    assert len(traces(tmp_path)) == before, "a step went on by itself"


def test_a_killed_parent_takes_its_step_along(tmp_path):
    if sys.platform != "linux":
        pytest.skip("only Linux tells a process of its parent's death")
    code = f"import sys; from bench.gpu_check import main; sys.exit(main(source={FAKES!r}))"
    words = ["--state", tmp_path / "state", "--out", tmp_path / "out", *COMMON, "--only", "slow"]
    with subprocess.Popen([sys.executable, "-c", code, *map(str, words)], cwd=ROOT) as running:
        until = time.monotonic() + 30
        while "slow 1" not in traces(tmp_path) and time.monotonic() < until:
            time.sleep(0.05)
        running.kill()
    time.sleep(0.3)
    before = len(traces(tmp_path))
    time.sleep(0.6)
    assert len(traces(tmp_path)) == before


def test_a_result_file_from_what_steps_found(tmp_path):
    state = State(tmp_path / "state")
    state.open_for("abc1234", False, "2026-12-01T10:00:00+00:00")

    def end(step, item, status="passed", **data):
        state.append(kind="end", step=step, item=item, status=status, note="", seconds=1, data=data)

    problem, other = "fprop_n1c1h64w64k1r3s3p1_nchw_f32", "fprop_n1c1h32w32k1r3s3p1_nchw_f32"
    record = {"problem": problem, "op": "fprop", "dtype": "f32", "layout": "nchw", "family": "image"}
    times = {"us": 10.0, "baseline": "cuDNN", "baseline_us": 5.0, "ratio": 0.5, "us_cold": 20.0}
    end("environment", "device", name="NVIDIA H200", facts={"capability": [9, 0]})
    end("environment", "versions", numpy="2.5")
    end("correctness", "one", kind=["cuda_direct", "fprop", "f32"])
    end("correctness", "two", "failed", kind=["cuda_direct", "fprop", "f32"])
    end("benchmarks", problem, record={**record, **times}, remarks=["somebody said something"])
    end("benchmarks", other, record={**record, **times, "problem": other, "ratio": 2.0, "us": 2.5})
    end("heuristics", problem, us=7.0)
    out = tmp_path / "out"
    out.mkdir()
    (out / "of-others.json").write_text("{}")
    end("environment", "device", name="another card", facts={"capability": [9, 0]})
    page.write(out, STEPS, state)
    older = out / "another-card-2026-12-01-abc1234.json"
    (tmp_path / "kept").mkdir()
    older_there = tmp_path / "kept" / older.name
    older_there.write_text("people's own")
    assert older.exists()
    end("environment", "device", name="NVIDIA H200", facts={"capability": [9, 0]})
    page.write(tmp_path / "kept", STEPS, state)
    assert older_there.read_text() == "people's own"
    page.write(out, STEPS, state)
    names = sorted(path.name for path in out.iterdir())
    assert len(names) == 8
    assert "of-others.json" in names, "only what the check itself wrote may go"
    assert older.name not in names
    found = ResultFile.load(out / "nvidia-h200-2026-12-01-abc1234.json")
    assert [each.cudnn_heuristic_us for each in found.records] == [7.0, None]
    assert found.partial
    assert found.environment == {"numpy": "2.5", "capability": [9, 0]}
    (row,) = found.extras["cases"]
    assert row == {"kernel": "cuda_direct", "op": "fprop", "dtype": "f32", "passed": 1, "failed": 1}
    text = (out / page.PAGE).read_text()
    assert "# The GPU check of abc1234 on NVIDIA H200" in text
    # beside the plan chosen untried 7/10; cold the mean of 20/10 and 20/2.5
    assert f"| image | fprop | 2 | 1 | 0.5 | 0.7 | 4 |  | {problem} |" in text
    assert f"| {problem} | image | 10 | 20 | 5 |  | 7 | 0.5 | 0.7 |" in text
    assert "benchmarks: at 1: somebody said something" in text
    assert f"- image: 0.5 of the baseline's speed at `{problem}`" in text


def test_how_a_process_ended_in_words(tmp_path):
    def run(code, seconds=20.0):
        command = [sys.executable, "-c", code]
        return process.run(command, seconds, tmp_path / "log", os.environ, tmp_path)

    assert run("print('hello')").code == 0
    assert (tmp_path / "log").read_text() == "hello\n"
    assert run("raise SystemExit(3)").in_words == "exit code 3"
    assert run("import os; os.kill(os.getpid(), 9)").in_words == "killed by SIGKILL"
    assert run("import time; time.sleep(60)", 0.3).stopped


def test_the_real_steps_are_the_issues():
    wanted = ("environment", "primitives", "correctness", "sanitizers", "cudnn", "tune")
    assert NAMES == (*wanted, "heuristics", "benchmarks", "plans", "ncu")
