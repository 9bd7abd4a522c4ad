"""One problem measured; then the benchmarks under pytest, as a whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from gpuconv import measure
from gpuconv.backend.device import cpu
from gpuconv.errors import LaunchRefused
from gpuconv.problem import OPS, ConvProblem
from gpuconv.report import huge, measured
from gpuconv.report.baselines import Bound
from gpuconv.report.measured import measure_problem
from gpuconv.report.records import NO_NUMBER, ResultFile

from ..problems import NAMED
from ..stand_in import DeviceArray
from .test_measure import FakeClock

ROOT = Path(__file__).parents[2]
PLAIN = ConvProblem.parse("fprop_n2c4h6w5k3r3s3p1_nchw_f32")


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("text", ["n2c6h7w5k4r3s2u2p1g2_nhwc_f32", "n1c4h6w6k4r3s3p1g4_nchw_f64"])
def test_the_public_call_computes_the_problem(op, text):
    p = ConvProblem.parse(f"{op}_{text}")
    given = measure.operands(p)
    result = measured.public_call(p, given)()
    assert measure.error_over_bound(p, result, given) <= 1
    wrong = result + np.max(np.abs(result)) / 100
    assert measure.error_over_bound(p, wrong, given) > 1


def test_the_public_call_adds_what_is_fused():
    p = ConvProblem.parse(NAMED["fused"])
    given = measure.operands(p)
    assert measure.error_over_bound(p, measured.public_call(p, given)(), given) <= 1
    with pytest.raises(ValueError, match=r"no public function computes dgrad_.*gradients have no bias"):
        measured.public_call(replace(p, op="dgrad"), given)


class Other:
    """Another library, made up: it gives what the oracle gives, times a factor."""

    def __init__(self, name, seconds, clock, role="library", factor=1.0, error=None):
        self.name, self.role, self.factor, self.error = name, role, factor, error
        self._wait = clock.candidate(name, *(seconds if isinstance(seconds, tuple) else (seconds,)))

    def bind(self, p, given):
        if self.factor is None:
            return None
        result = self.factor * measure.reference.evaluate(p, given.a, given.b)

        def call():
            self._wait()
            if self.error is not None:
                raise self.error
            return result

        return Bound(call, lambda found: found)


@pytest.fixture
def clock(monkeypatch):
    """A clock on which a call of ours takes a fifth of a second."""
    found = FakeClock(turn_seconds=0.4)
    wait, real = found.candidate("ours", 0.2), measured.public_call

    def public_call(p, given):
        call = real(p, given)
        return lambda: (wait(), call())[1]

    monkeypatch.setattr(measured, "public_call", public_call)
    return found


def test_a_problem_is_measured_beside_others(clock):
    others = [Other("slow", 0.5, clock), Other("fast", 0.1, clock)]
    found = measure_problem(PLAIN, cpu(), baselines=others, turns=3, clock=clock, commit="abc")
    record = found.record
    assert (record.problem, record.op, record.dtype, record.layout) == (str(PLAIN), "fprop", "f32", "nchw")
    assert (record.family, record.kernel) == ("first-layer", "cpu_im2col_gemm")
    assert record.us == pytest.approx(2e5)
    assert (record.baseline, record.baseline_us) == ("fast", pytest.approx(1e5))
    assert record.ratio == pytest.approx(0.5)
    assert record.gflops == pytest.approx(PLAIN.flops / 0.2 / 1e9, rel=1e-5)
    assert 0 < record.error_over_bound <= 1
    assert (record.device, record.commit, record.date[:2]) == (cpu().name, "abc", "20")
    assert record.floor_us is record.us_cold is record.cudnn_us is record.others is None
    assert set(found.timings) == {"gpuconv", "slow", "fast"}
    assert found.remarks == ()


def test_cudnns_heuristic_is_told_but_not_compared_with(clock):
    others = [
        Other("cudnn", 0.4, clock, role="cudnn"),
        Other("cudnn heuristic", 0.3, clock, role="cudnn_heuristic"),
    ]
    record = measure_problem(PLAIN, cpu(), baselines=others, turns=1, clock=clock).record
    assert (record.cudnn_us, record.cudnn_heuristic_us) == (pytest.approx(4e5), pytest.approx(3e5))
    assert (record.baseline, record.ratio) == ("cudnn", pytest.approx(2.0))
    record = measure_problem(PLAIN, cpu(), baselines=others[1:], turns=1, clock=clock).record
    assert record.baseline is record.baseline_us is record.ratio is None


def test_whoever_cannot_or_computes_something_else_is_left_out(clock):
    others = [
        Other("none", 0.1, clock, factor=None),
        Other("wrong", 0.1, clock, factor=1.5),
        Other("broken", 0.1, clock, error=RuntimeError("not\nhere")),
    ]
    found = measure_problem(PLAIN, cpu(), baselines=others, turns=1, clock=clock)
    assert set(found.timings) == {"gpuconv"}
    assert found.remarks == ("wrong computes something else and is left out", "broken: not here")
    assert found.record.us is not None
    late = Other("late", (0.1, 0.1, RuntimeError("too late")), clock)
    found = measure_problem(PLAIN, cpu(), baselines=[late], turns=1, clock=clock)
    assert found.remarks == ("late: too late",)
    assert (found.record.baseline, found.record.us is None) == (None, False)


def test_a_wrong_result_is_not_timed(monkeypatch, clock):
    for factor, expected in ((2, None), (np.nan, NO_NUMBER)):
        monkeypatch.setattr(
            measured, "public_call", lambda p, given, f=factor: lambda: f * np.ones(p.y_shape, np.float32)
        )
        found = measure_problem(PLAIN, cpu(), clock=clock)
        assert found.record.wrong
        assert expected is None or found.record.error_over_bound == expected
        assert found.record.us is None
        assert found.timings == {}
    assert clock.log == []


def test_rounding_makes_nothing_right(monkeypatch, clock):
    for error, expected in ((1.0004, 1.0004), (0.99961, 1.0), (0.12345, 0.123), (2.3456, 2.35)):
        monkeypatch.setattr(measure, "error_over_bound", lambda p, result, given, e=error: e)
        record = measure_problem(PLAIN, cpu(), clock=clock, turns=1).record
        assert (record.error_over_bound, record.wrong) == (expected, error > 1)


def test_an_empty_batch_is_measured(clock, tmp_path):
    record = measure_problem(replace(PLAIN, N=0), cpu(), clock=clock, turns=1).record
    assert (record.gflops, record.error_over_bound) == (0, 0)
    file = ResultFile("here", record.date, None, records=(record,))
    file.save(tmp_path / "r.json")
    assert ResultFile.load(tmp_path / "r.json") == file


def test_ours_failing_while_timed_is_an_error(monkeypatch, clock):
    real, calls = measured.public_call, []

    def public_call(p, given):
        call = real(p, given)

        def fails_later():
            calls.append(1)
            if len(calls) > 2:
                raise LaunchRefused("no more")
            return call()

        return fails_later

    monkeypatch.setattr(measured, "public_call", public_call)
    with pytest.raises(LaunchRefused, match="no more"):
        measure_problem(PLAIN, cpu(), clock=clock)


def test_a_problem_on_a_device(card):
    """Arrays go there and back through what is given; the device tells its tiles and its floor."""
    clock = FakeClock(cold=True)
    device = replace(card.device(0), name="NVIDIA H200", sms=1)
    card.device = lambda index: device
    p = ConvProblem.parse("fprop_n2c8h6w5k8r3s3p1_nhwc_f16")

    def put(array):
        clock.time += 1e-3
        return DeviceArray(array)

    def get(array):
        return array.hidden

    wait, real = clock.candidate("ours", 50e-6), measured.public_call
    measured_call = lambda p, given: (lambda call: lambda: (wait(), call())[1])(real(p, given))  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measured, "public_call", measured_call)
        record = measure_problem(p, device, clock=clock, put=put, get=get, turns=2).record
    assert record.family == "dense"  # with one multiprocessor no tiles are few
    assert record.device == "NVIDIA H200"
    assert (record.us, record.us_cold) == (pytest.approx(50), pytest.approx(150))
    assert record.floor_us == pytest.approx(p.min_bytes / 4.3e12 * 1e6, rel=1e-5)
    assert record.share_of_floor == pytest.approx(record.floor_us / 50, rel=1e-5)


@pytest.mark.parametrize("op", OPS)
def test_a_huge_problem_is_checked_on_some_images(monkeypatch, clock, op):
    """Beside gpuconv over parts of the batch and no one else; wrong images are found."""
    p = ConvProblem.parse(f"{op}_n40c4h6w5k3r3s3p1_nchw_f32")
    monkeypatch.setattr(measured, "family", lambda p, *sms: "huge")
    monkeypatch.setattr(huge, "operands", lambda p, device, seed: measure.operands(p, seed))
    found = measure_problem(p, cpu(), baselines=[Other("other", 0.1, clock)], turns=1, clock=clock)
    assert found.remarks == ("other: not beside a huge problem",)
    assert (found.record.family, 0 < found.record.error_over_bound <= 1) == ("huge", True)
    assert set(found.timings) == ({"gpuconv"} if op == "wgrad" else {"gpuconv", "gpuconv, batch split"})
    real = measured.public_call
    monkeypatch.setattr(measured, "public_call", lambda p, given: lambda: real(p, given)() + np.float32(1))
    assert measure_problem(p, cpu(), clock=clock).record.wrong


@pytest.fixture
def benchmarks():
    pytest.importorskip("pytest_benchmark")
    if not (ROOT / "bench" / "conftest.py").exists():
        pytest.skip("the benchmarks are not beside these tests")
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}

    def run(*args):
        command = [sys.executable, "-m", "pytest", "bench/test_conv.py", "-p", "no:cacheprovider", *args]
        return subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=False)

    return run


def test_a_run_under_pytest_writes_its_results(benchmarks, tmp_path):
    path, own = tmp_path / "results.json", tmp_path / "own.json"
    done = benchmarks(
        *("--only", "*n1c960h7w7k960*", "--op", "dgrad", "--layout", "nhwc", "--turns", "1"),
        *("--baseline", "none", "--results", str(path), "--benchmark-json", str(own)),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "torch" not in done.stdout.partition("convolution benchmarks")[2]
    found = ResultFile.load(path)
    assert (found.schema, found.partial, found.environment["numpy"]) == (2, False, np.__version__)
    (record,) = found.records
    assert record.problem == "dgrad_n1c960h7w7k960r3s3p1g960_nhwc_f32"
    assert (record.family, record.baseline, record.commit) == ("depthwise", None, found.commit)
    assert record.us > 0
    assert 0 <= record.error_over_bound <= 1
    (row,) = [line for line in done.stdout.splitlines() if line.startswith(record.problem)]
    assert record.kernel in row
    # pytest-benchmark has the same times
    (seen,) = json.loads(own.read_text(encoding="utf-8"))["benchmarks"]
    assert seen["stats"]["min"] * 1e6 == pytest.approx(record.us, rel=1e-4)
    assert seen["extra_info"] == asdict(record)


def test_what_is_too_large_is_skipped_under_pytest(benchmarks):
    done = benchmarks("--family", "huge", "--dtype", "f16", "--baseline", "none", "-rs")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "only on a GPU" in done.stdout


def test_nothing_chosen_is_a_wrong_usage(benchmarks):
    done = benchmarks("--only", "nosuch-*")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "no layer is like that" in done.stdout + done.stderr
