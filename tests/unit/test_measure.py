"""The measuring engine, on clocks that are made up: nothing here depends on how long anything takes."""

from __future__ import annotations

from dataclasses import replace
from statistics import median

import numpy as np
import pytest

from gpuconv import measure
from gpuconv.backend.device import Device
from gpuconv.errors import LaunchError, LaunchRefused
from gpuconv.measure import Operands, interleaved
from gpuconv.problem import ConvProblem

CPU = Device("cpu", "made up")


class FakeClock:
    """Its time passes only where a candidate says so."""

    def __init__(self, figure=min, cold=False, **facts):
        self.turn_seconds, self.least_seconds, self.rest_seconds, self.most_calls = 0.15, 0.0, 0.0, 1000
        self.__dict__.update(facts)
        self.figure, self.has_cold = figure, cold
        self.time = 0.0
        self.log = []
        self.clocks, self.elsewhere = [], [None]

    def now(self):
        return self.time

    def turn(self, call, calls):
        self.log.append("turn")
        return [self._timed(call) for _ in range(calls)]

    def cold(self, call):
        if not self.has_cold:
            return None
        self.log.append("flush")
        return 3 * self._timed(call)

    def _timed(self, call):
        before = self.time
        call()
        return self.time - before

    def mhz(self):
        return self.clocks.pop(0) if self.clocks else None

    def seconds_elsewhere(self):
        return self.elsewhere.pop(0) if len(self.elsewhere) > 1 else self.elsewhere[0]

    def candidate(self, name, *seconds):
        """Takes these times one after the other, the last one from then on; may raise one instead."""
        left = list(seconds)

        def call():
            self.log.append(name)
            now = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(now, BaseException):
                raise now
            self.time += now

        return call

    def turns(self):
        """Who called, turn by turn."""
        text = " ".join(self.log).split("turn")
        return [each.split() for each in text if each]


def test_everyone_is_warmed_up_and_the_order_rotates():
    clock = FakeClock(turn_seconds=0.2)
    sides = {name: clock.candidate(name, 0.1) for name in "abc"}
    found = interleaved(sides, CPU, seconds=100, turns=4, clock=clock)
    turns = ["".join(turn) for turn in clock.turns()]
    assert turns[:6] == ["a", "a", "b", "b", "c", "c"]
    assert turns[6:] == ["aa", "bb", "cc", "bb", "cc", "aa", "cc", "aa", "bb", "aa", "bb", "cc"]
    assert [(name, timing.turns, timing.calls) for name, timing in found.items()] == [
        *(("a", 4, 2), ("b", 4, 2), ("c", 4, 2))
    ]


def test_warming_up_does_not_count():
    clock = FakeClock(figure=max)
    found = interleaved({"a": clock.candidate("a", 5.0, 0.2, 0.1)}, CPU, turns=3, clock=clock)["a"]
    assert found.us == pytest.approx(1e5)
    assert found.samples == pytest.approx([1e5] * 3)


def test_a_short_call_is_estimated_from_several():
    clock = FakeClock()
    interleaved({"a": clock.candidate("a", 0.001)}, CPU, turns=1, clock=clock)
    assert [len(turn) for turn in clock.turns()] == [1, 10, 150]


@pytest.mark.parametrize(("figure", "expected"), [(min, 1e5), (median, 3e5)])
def test_the_figure_is_the_clocks(figure, expected):
    clock = FakeClock(figure=figure, turn_seconds=0.3)
    times = (0.3, 0.3, 0.5, 0.1, 0.4, 0.2, 0.3)
    found = interleaved({"a": clock.candidate("a", *times)}, CPU, seconds=99, turns=5, clock=clock)["a"]
    assert found.us == pytest.approx(expected)
    assert found.samples == pytest.approx([5e5, 1e5, 4e5, 2e5, 3e5])
    assert found.spread == pytest.approx((0.4 - 0.2) / 0.3)
    assert interleaved({"a": clock.candidate("a", 1)}, CPU, turns=1, clock=clock)["a"].spread is None


def test_all_make_the_same_number_of_calls_unless_the_timer_is_too_coarse():
    clock = FakeClock()
    sides = {"fast": clock.candidate("fast", 0.001), "slow": clock.candidate("slow", 0.05)}
    found = interleaved(sides, CPU, turns=2, clock=clock)
    assert [found[name].calls for name in ("fast", "slow")] == [3, 3]
    clock.least_seconds = 0.03
    found = interleaved(sides, CPU, turns=2, clock=clock)
    assert [found[name].calls for name in ("fast", "slow")] == [30, 3]
    clock.most_calls = 20
    assert interleaved(sides, CPU, turns=2, clock=clock)["fast"].calls == 20


def test_every_cold_call_comes_after_a_flush():
    clock = FakeClock(figure=median, cold=True, turn_seconds=0.7)
    found = interleaved({"a": clock.candidate("a", 0.1)}, CPU, seconds=99, turns=2, clock=clock)["a"]
    # seven warm calls a turn, then five cold ones
    assert clock.log[4:] == 2 * ["turn", *7 * ["a"], *5 * ["flush", "a"]]
    assert (found.us, found.us_cold) == (pytest.approx(1e5), pytest.approx(3e5))
    clock.log.clear()
    found = interleaved({"a": clock.candidate("a", 0.1)}, CPU, turns=2, cold=False, clock=clock)["a"]
    assert found.us_cold is None
    assert "flush" not in clock.log
    clock.has_cold = False
    assert interleaved({"a": clock.candidate("a", 0.1)}, CPU, turns=2, clock=clock)["a"].us_cold is None


@pytest.mark.parametrize("at", [0, 1, 2, 5])
def test_a_candidate_that_raises_is_left_out_and_the_others_go_on(at):
    clock = FakeClock()
    error = LaunchRefused("no")
    sides = {
        "bad": clock.candidate("bad", *at * [0.15], error),
        "good": clock.candidate("good", 0.15),
    }
    found = interleaved(sides, CPU, seconds=99, turns=5, clock=clock)
    assert list(found) == ["bad", "good"]
    assert found["bad"].failure is error
    assert found["bad"].us == float("inf")
    assert (found["good"].failure, found["good"].turns) == (None, 5)
    assert clock.log.count("bad") == at + 1


@pytest.mark.parametrize("error", [LaunchError("lost"), KeyboardInterrupt()])
@pytest.mark.parametrize("at", [0, 3])
def test_nothing_goes_on_after_a_lost_device_or_an_interrupt(error, at):
    clock = FakeClock()
    sides = {"bad": clock.candidate("bad", *at * [0.15], error), "good": clock.candidate("good", 0.15)}
    with pytest.raises(type(error)):
        interleaved(sides, CPU, clock=clock)
    assert clock.log.count("bad") == at + 1


def test_all_may_fail():
    clock = FakeClock()
    found = interleaved({"a": clock.candidate("a", ValueError("no"))}, CPU, clock=clock)
    assert isinstance(found["a"].failure, ValueError)
    assert interleaved({}, CPU, clock=clock) == {}


def test_turns_get_shorter_before_they_get_fewer():
    clock = FakeClock()
    sides = {name: clock.candidate(name, 0.01) for name in "ab"}
    found = interleaved(sides, CPU, seconds=1, turns=10, clock=clock)
    assert (found["a"].turns, found["a"].calls) == (10, 5)
    warm_up = 2 * 11 * 0.01
    assert clock.time - warm_up <= 1 + 1e-9
    clock = FakeClock()
    sides = {name: clock.candidate(name, 0.1) for name in "ab"}
    found = interleaved(sides, CPU, seconds=1, turns=10, clock=clock)
    assert (found["a"].turns, found["a"].calls) == (5, 1)
    # resting is part of the time
    clock = FakeClock(rest_seconds=0.4)
    sides = {name: clock.candidate(name, 0.1) for name in "ab"}
    assert interleaved(sides, CPU, seconds=3, turns=10, clock=clock)["a"].turns == 3


def test_time_runs_out_for_candidates_slower_than_they_seemed():
    clock = FakeClock()
    found = interleaved({"a": clock.candidate("a", 0.01, 0.01, 5.0)}, CPU, seconds=1, turns=50, clock=clock)[
        "a"
    ]
    assert found.turns == 2
    clock = FakeClock()
    assert interleaved({"a": clock.candidate("a", 9.0)}, CPU, seconds=1, turns=1, clock=clock)["a"].turns == 1


def test_what_disturbed_it_is_noted():
    clock = FakeClock(turn_seconds=0.2)
    clock.elsewhere, clock.clocks = [10.0, 10.5], [1700, 1900, 1800]
    found = interleaved({"a": clock.candidate("a", 0.1)}, CPU, seconds=99, turns=10, clock=clock)["a"]
    assert found.disturbed == pytest.approx(0.5 / 2.0)  # two calls a turn
    assert found.clocks_mhz == 1800
    clock.elsewhere = [None]
    found = interleaved({"a": clock.candidate("a", 0.1)}, CPU, turns=2, clock=clock)["a"]
    assert (found.disturbed, found.clocks_mhz) == (None, None)


def test_no_time_is_refused():
    with pytest.raises(ValueError, match="turns must be at least 1, got 0"):
        interleaved({}, CPU, turns=0, clock=FakeClock())
    with pytest.raises(ValueError, match="seconds must be more than 0, got 0"):
        interleaved({}, CPU, seconds=0, clock=FakeClock())


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32", "f64"])
def test_operands_are_random_and_the_same_again(dtype):
    p = ConvProblem.parse(f"fprop_n2c8h20w20k16r3s3p1_nhwc_{dtype}+bias+res+relu")
    given, again, other = measure.operands(p), measure.operands(p), measure.operands(p, seed=1)
    assert [array.shape for array in given] == [(2, 20, 20, 8), (3, 3, 8, 16), (16,), (2, 20, 20, 16)]
    for array, same, different in zip(given, again, other, strict=True):
        assert array.dtype.name == {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}.get(
            dtype, "float64"
        )
        assert (array == same).all()
        assert (array != different).any()
        assert np.count_nonzero(array) == array.size
    assert 0.9 < np.std(given.a.astype(np.float64)) < 1.1
    bare = measure.operands(replace(p, bias=False, residual=False))
    assert bare.bias is bare.residual is None


def test_long_sums_are_checked_at_some_points(monkeypatch):
    p = ConvProblem.parse("wgrad_n2c3h20w20k4r3s3_nchw_f32")
    given = measure.operands(p)
    right = measure.reference.evaluate(p, given.a, given.b).astype(np.float32)
    whole = measure.error_over_bound(p, right, given)
    monkeypatch.setattr(measure, "_LONG_SUM", 10)
    monkeypatch.setattr(measure, "_ORACLE_TERMS", 10**9)
    monkeypatch.setattr(measure.reference, "evaluate", None)
    sampled = measure.error_over_bound(p, right, given)
    assert 0 < sampled <= whole <= 1
    assert measure.error_over_bound(p, right * 1.01, given) > 1
    assert measure.error_over_bound(p, right * np.nan, given) == float("inf")


def test_operands_unpack_in_the_order_of_a_plan():
    a, b, bias, residual = Operands(1, 2)
    assert (a, b, bias, residual) == (1, 2, None, None)
