"""The whole GPU check on the emulator and the CPU, from a copy without .git, with NumPy and pytest alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.check.state import State
from bench.check.steps import NAMES
from gpuconv.report.records import ResultFile
from tests.packaging.test_wheel import environment
from tests.primitives import probes

ROOT = Path(__file__).parents[2]
COPIED = ("bench", "cuda_src", "gpuconv", "tests")
#: Steps that need no GPU at all, in a dry run.
POSSIBLE = ("environment", "primitives", "correctness", "tune", "benchmarks")


@pytest.fixture(scope="module")
def place(has_compiler, need, tmp_path_factory):
    """A copy of the checkout, and a Python that has nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    for name in COPIED:
        ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(ROOT / name, folder / "checkout" / name, ignore=ignore)
    python = environment(folder / "env", need, "numpy", "pytest")
    return folder, python


def start(place, state, out, *more):
    folder, python = place
    script = [python, "bench/gpu_check.py", "--state", state, "--out", out, "--commit", "abc1234"]
    words = [str(each) for each in (*script, "--dry-run", "--limit", 240, *more)]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("GPUCONV_", "PYTHON"))}
    env |= {"GPUCONV_EMULATOR_CACHE": str(folder / "libraries"), "PYTHONDONTWRITEBYTECODE": "1"}
    cwd = folder / "checkout"
    return subprocess.Popen(
        words, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def run(place, state, out, *more):
    with start(place, state, out, *more) as running:
        said, _ = running.communicate(timeout=300)
    return running.returncode, said


def test_nothing_else_is_installed(place):
    _, python = place
    code = "import importlib.util as u; print([n for n in {} if u.find_spec(n)])"
    names = [
        "hypothesis",
        "ml_dtypes",
        "threadpoolctl",
        "platformdirs",
        "click",
        "rich",
        "cupy",
    ]
    done = subprocess.run([python, "-c", code.format(names)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_all_of_it_walks_and_a_second_call_has_nothing_to_do(place, tmp_path):
    code, said = run(place, tmp_path / "state", tmp_path / "out")
    assert code == 0, said
    steps = State(tmp_path / "state").steps()
    assert tuple(steps) == NAMES
    for name in NAMES:
        if name in POSSIBLE:
            assert steps[name].done, f"{name}: {said}"
            assert steps[name].count("passed") > 3
        else:
            assert steps[name].skipped, name
    files = list((tmp_path / "out").iterdir())
    assert len(files) <= 8
    (results,) = (path for path in files if path.name.startswith("dry-run-"))
    found = ResultFile.load(results)
    assert found.commit == "abc1234"
    assert len(found.records) == steps["benchmarks"].count("passed")
    assert {(row["op"], row["failed"]) for row in found.extras["cases"]} == {
        ("fprop", 0), ("dgrad", 0), ("wgrad", 0), ("unfold", 0), ("fold", 0),
        ("fill", 0), ("wrap", 0), ("symm", 0),
    }  # fmt: skip
    text = (tmp_path / "out" / "gpu_check.md").read_text()
    assert "nothing here says anything about a GPU" in text
    assert "| correctness | passed |" in text
    code, said = run(place, tmp_path / "state", tmp_path / "out")
    assert code == 0
    assert said.startswith("nothing is left to do")


def test_killing_a_step_leaves_the_others_results_and_the_next_call_goes_on(place, tmp_path):
    state = State(tmp_path / "state")
    with start(place, tmp_path / "state", tmp_path / "out") as running:
        until = time.monotonic() + 120
        while not state.step("correctness").ended and time.monotonic() < until:
            time.sleep(0.02)
        (victim,) = children(running.pid)
        os.kill(victim, signal.SIGKILL)
        said, _ = running.communicate(timeout=300)
    assert running.returncode == 1, said
    assert "killed by SIGKILL" in said
    steps = state.steps()
    for name in POSSIBLE:
        assert steps[name].done == (name != "correctness"), said
    before = dict(steps["correctness"].ended)
    assert before
    # whatever was under way has failed, and is not tried again
    code, said = run(place, tmp_path / "state", tmp_path / "out")
    after = state.step("correctness")
    assert code == 1
    assert after.done, said
    assert after.count("failed") <= 1
    assert len(after.ended) > len(before)
    assert after.ended.items() >= before.items()
    begun = [(line["step"], line["item"]) for line in state.lines() if line.get("kind") == "begin"]
    assert len(begun) == len(set(begun)), "something ran twice"
    mismatches = json.loads((tmp_path / "out" / "mismatches.json").read_text())
    assert all(found["step"] == "correctness" for found in mismatches)


def test_a_wrong_answer_is_noticed(place, tmp_path):
    """The walk judges, and not only walks."""
    folder, _ = place
    data = folder / "checkout" / "tests" / "data" / "primitives.json"
    answers = json.loads(data.read_text())
    probe = "cvt.f32.f16 of every half"
    words = probes.decode(answers[probe])
    words[15360] ^= 1
    answers[probe] = probes.encode(words)
    kept = data.read_text()
    try:
        data.write_text(json.dumps(answers))
        code, said = run(place, tmp_path / "state", tmp_path / "out", "--only", "primitives")
    finally:
        data.write_text(kept)
    assert code == 1, said
    (found,) = json.loads((tmp_path / "out" / "mismatches.json").read_text())
    wanted = {"item": probe, "wrong": 1, "at": [15360], "got": ["0x3f800000"], "expected": ["0x3f800001"]}
    assert found.items() >= wanted.items()


def children(pid):
    """Processes that a process has started; on Linux."""
    if sys.platform != "linux":
        pytest.skip("only Linux lists a process's children")
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
