"""Tuning on request: once, for good, and never to something wrong."""

from __future__ import annotations

import os
import threading
import warnings

import numpy as np
import pytest

import gpuconv
from gpuconv import calls, dispatch, store
from gpuconv.autotune import digest, tuner
from gpuconv.autotune.asked import Wishes
from gpuconv.backend import jit
from gpuconv.errors import LaunchError, LaunchRefused, UnsupportedProblem
from gpuconv.problem import ConvProblem

from ..problems import public_call
from ..stand_in import PLAIN, MadeUp, prepared, same

#: Microseconds of each kernel and level; the default is level 2 of the first.
US = {"only2": 100, "only1": 40, "only0": 80, "other2": 60, "other1": 90, "other0": 95}


class Clock:
    """Takes as long as the table says of what ran last."""

    turn_seconds, least_seconds, rest_seconds, most_calls = 0.001, 0.0, 0.0, 10

    def __init__(self, card, us):
        self.card, self.us, self.time, self.turns = card, us, 0.0, 0

    def now(self):
        return self.time

    def turn(self, call, calls):
        self.turns += 1
        for _ in range(calls):
            call()
        seconds = self.us[self.card.ran[-1].partition("(")[0]] / 1e6
        self.time += calls * seconds
        return [seconds] * calls

    def cold(self, call):
        return None

    def figure(self, seconds):
        return min(seconds)

    def mhz(self):
        return None

    def seconds_elsewhere(self):
        return None


@pytest.fixture
def clock(card, kernels, monkeypatch, tmp_path):
    """Two kernels on stand-ins, of times that are told, and a store of their own."""
    monkeypatch.setenv("GPUCONV_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(digest, "_cuda", lambda file: "source")
    monkeypatch.setattr(digest, "compiler", lambda device: "compiler 1")
    monkeypatch.setattr(tuner, "compiler", digest.compiler)
    kernels(MadeUp("only", rank=2), MadeUp("other", rank=1))
    made = Clock(card, dict(US))
    monkeypatch.setattr("gpuconv.measure.clock_for", lambda device: made)
    monkeypatch.setattr(calls, "_plans", {})
    monkeypatch.setattr(dispatch, "_choices", {})
    return made


OTHER = ConvProblem.parse("fprop_n2c4h6w5k3r3s3p1_nhwc_f32")
#: Found out on the CPU, before anything is tuned or forced.
PREPARED = {p: prepared(p) for p in (PLAIN, OTHER)}


def call(p=PLAIN, **how):
    given, right = PREPARED[p]
    same(public_call(p, given, **how), right)


def ran(card):
    return card.ran[-1]


def test_a_call_tunes_once_and_all_calls_follow(clock, card):
    call()
    assert ran(card) == "only2(level=2)"
    call(tune=True)
    assert ran(card) == "only1(level=1)"
    turns = clock.turns
    assert turns > 6
    call()  # one that was in the table before
    assert ran(card) == "only1(level=1)"
    call(tune=True)
    call(tune=False)
    assert ran(card) == "only1(level=1)"
    assert clock.turns == turns
    entry = store.find(PLAIN, card.device(0))
    assert (entry.kernel, entry.config, entry.us, entry.default_us) == ("only", {"level": 1}, 40, 100)


def test_another_process_measures_and_compiles_nothing(clock, card, monkeypatch):
    call(tune=True)
    monkeypatch.setattr(calls, "_plans", {})
    monkeypatch.setattr(dispatch, "_choices", {})
    loads, turns = card.counts["load"], clock.turns
    call()
    assert ran(card) == "only1(level=1)"
    call(tune=True)
    assert clock.turns == turns
    assert card.counts["load"] == loads + 1  # of what runs


def test_the_block_and_the_variable_ask_too(clock, card, monkeypatch):
    with gpuconv.tuning(budget=1):
        call(tune=False)
        assert ran(card) == "only2(level=2)"
        call()
    assert ran(card) == "only1(level=1)"
    turns = clock.turns
    monkeypatch.setenv("GPUCONV_TUNE", "1")
    call(OTHER, tune=False)
    assert clock.turns == turns
    call(OTHER)
    assert clock.turns > turns


def test_the_block_counts_for_its_thread_alone(clock, card):
    with gpuconv.tuning():
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    assert clock.turns == 0


def test_the_variable_must_be_0_or_1(clock, monkeypatch):
    monkeypatch.setenv("GPUCONV_TUNE", "yes")
    with pytest.raises(ValueError, match="GPUCONV_TUNE must be 0 or 1, got 'yes'"):
        call()


def test_a_forced_kernel_is_not_tuned(clock, card, monkeypatch):
    monkeypatch.setenv("GPUCONV_KERNEL", "other")
    call(tune=True)
    assert ran(card) == "other2(level=2)"
    assert clock.turns == 0


def test_old_sources_are_measured_anew_but_run_meanwhile(clock, card, monkeypatch):
    call(tune=True)
    turns = clock.turns
    for name, changed in (("digest", lambda *_: "other"), ("compiler", lambda device: "compiler 2")):
        monkeypatch.setattr(tuner, name, changed)
        monkeypatch.setattr(calls, "_plans", {})
        monkeypatch.setattr(dispatch, "_choices", {})
        call()
        assert ran(card) == "only1(level=1)"
        assert clock.turns == turns
        clock.us["other2"] = 10
        call(tune=True)
        assert ran(card) == "other2(level=2)"
        assert clock.turns > turns
        turns = clock.turns
        clock.us.update(US)
        store.put(card.device(0), [_of("only", 1)])


def _of(kernel, level, problem=PLAIN, **more):
    values = {
        "us": 40.0,
        "default_us": 100.0,
        "digest": "d",
        "compiler": "c",
        "date": "2099-01-01T00:00:00+00:00",
    }
    return store.Entry(problem=problem, kernel=kernel, config={"level": level}, **(values | more))


@pytest.mark.parametrize(
    "entry",
    [
        _of("nobody", 1),
        _of("only", 7),
        _of("only", -1),
        store.Entry(PLAIN, "only", {}, 1.0, 1.0, "", "", "2099-01-01T00:00:00+00:00"),
        store.Entry(PLAIN, "only", {"level": 1, "more": 1}, 1.0, 1.0, "", "", "2099-01-01T00:00:00+00:00"),
        store.Entry(PLAIN, "only", {"depth": 1}, 1.0, 1.0, "", "", "2099-01-01T00:00:00+00:00"),
    ],
)
def test_what_is_not_among_todays_candidates_never_runs(clock, card, entry):
    store.put(card.device(0), [entry])
    call()
    assert ran(card) == "only2(level=2)"


def test_what_is_wrong_is_told_and_never_used(clock, card, monkeypatch):
    compute = card.compute

    def wrong(p, addresses):
        compute(p, addresses)
        if ran(card) == "only1(level=1)":
            card.view(addresses["out"], p.operand_shapes[2], p)[0, 0, 0, 0] += 1

    monkeypatch.setattr(card, "compute", wrong)
    with pytest.warns(RuntimeWarning, match=r"only\(level=1\) is wrong: .* GPUCONV_KERNEL=only .*--seed \d+"):
        call(tune=True)
    assert ran(card) == "other2(level=2)"


def test_where_all_are_refused_the_warning_says_so_and_nothing_changes(clock, card):
    for kernel in ("only", "other"):
        for level in range(3):
            card.refusals["load", f"{kernel}{level}"] = LaunchRefused("not today")
    with (
        pytest.warns(RuntimeWarning, match="stays untuned: no candidate passed: .*not today"),
        pytest.raises(UnsupportedProblem),
        pytest.warns(RuntimeWarning, match="takes over"),
    ):
        call(tune=True)
    assert store.find(PLAIN, card.device(0)) is None


def test_some_may_be_refused(clock, card):
    card.refusals["load", "only1"] = LaunchRefused("not today")
    card.refusals["launch", "only2"] = MemoryError("not now")
    call(tune=True)
    assert ran(card) == "other2(level=2)"


def test_what_was_tuned_may_be_refused_later(clock, card):
    call(tune=True)
    card.refusals["launch", "only1"] = LaunchRefused("no longer")
    with pytest.warns(RuntimeWarning, match=r"only\(level=1\) failed, only\(level=2\) takes over"):
        call()
    assert ran(card) == "only2(level=2)"


def test_a_lost_device_is_an_error(clock, card):
    card.refusals["launch", "only1"] = LaunchError("gone")
    with pytest.raises(LaunchError, match=r"only\(level=1\): gone"):
        call(tune=True)
    assert store.find(PLAIN, card.device(0)) is None


def test_an_interrupt_leaves_what_was_there(clock, card, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(clock, "figure", interrupt)
    with pytest.raises(KeyboardInterrupt):
        call(tune=True)
    assert store.find(PLAIN, card.device(0)) is None
    call()
    assert ran(card) == "only2(level=2)"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_of_a_process_that_tunes_can_tune(clock, card):
    with tuner._lock:
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


def test_what_is_known_waits_for_no_search(clock, card):
    call(tune=True)
    calls._plans.clear()
    with tuner._lock:
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


def test_what_won_before_is_tried_again_and_keeps_its_place(clock, card):
    clock.us["only1"], clock.us["other2"] = 50, 49.5
    first = tuner.tune(PLAIN, card.device(0))
    for swap in (49.0, 50.5, 49.2):
        clock.us["other2"] = swap
        assert str(tuner.tune(PLAIN, card.device(0)).best) == str(first.best)
    found = tuner.tune(PLAIN, card.device(0), Wishes(strategy="random"))
    assert str(first.best) in map(str, found.tried)


def test_a_problem_that_nobody_takes_says_why(clock, card, kernels):
    kernels()
    with pytest.raises(UnsupportedProblem):
        tuner.tune(PLAIN, card.device(0))


@pytest.mark.parametrize(
    ("how", "error", "says"),
    [
        ({"budget": 0}, ValueError, "budget must be more than 0 seconds and at most 86400, got 0"),
        ({"budget": float("nan")}, ValueError, "budget"),
        ({"budget": float("inf")}, ValueError, "budget"),
        ({"budget": 1e308}, ValueError, "budget"),
        ({"budget": 10**400}, ValueError, "budget must be more than 0 seconds and at most 86400, got 1000"),
        ({"strategy": np.array([1, 2])}, TypeError, "strategy"),
        ({"budget": "1"}, TypeError, "budget must be a number of seconds or None, got '1'"),
        ({"budget": True}, TypeError, "budget"),
        (
            {"strategy": "best"},
            ValueError,
            "strategy must be one of heuristic, exhaustive, random, got 'best'",
        ),
        ({"strategy": 1}, TypeError, "strategy"),
        ({"strategy": ["random"]}, TypeError, "strategy"),
        ({"workers": 0}, ValueError, "workers must be from 1 to 1024, got 0"),
        ({"workers": 1.0}, TypeError, "workers must be an integer or None, got 1.0"),
    ],
)
def test_wrong_wishes(how, error, says):
    with pytest.raises(error, match=says.replace("(", r"\(")), gpuconv.tuning(**how):
        pass


def test_cubins_are_compiled_ahead_side_by_side(monkeypatch):
    """Only where cubins are what the launcher at work takes; one that fails does not end it."""
    from gpuconv.autotune import space, trial
    from gpuconv.backend.cards import CARDS
    from gpuconv.errors import CompileError

    device = CARDS["H200"].device
    p = ConvProblem.parse("fprop_n1c64h14w14k64r3s3p1_nhwc_f16")
    found, lock = [], threading.Lock()

    def compile_all(binaries):
        with lock:
            found.extend(binaries)
        raise CompileError("no compiler")

    monkeypatch.setattr(jit, "compile_all", compile_all)
    monkeypatch.setattr(trial, "_compiles", lambda device: True)
    bench = trial.LiveBench(p, device, 1, workers=3, clock=Clock(None, {}))
    candidates = space.proposals(p, device)[:12]
    bench.prepare(candidates)
    wanted = {s.binary for k, c, *_ in candidates for s in k.launches(p, c, device)}
    assert set(found) == wanted
    assert len(found) == len(wanted) > 6


def test_results_stay_within_the_bound_whatever_is_tuned(tmp_path, monkeypatch):
    """On the real CPU, with its own kernels and clock."""
    monkeypatch.setenv("GPUCONV_CACHE_DIR", str(tmp_path))
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1, 8, 20, 20)).astype("f"), rng.standard_normal((8, 8, 3, 3)).astype("f")
    with gpuconv.tuning(budget=0.2):
        y = gpuconv.conv2d(x, w, padding=1)
    np.testing.assert_allclose(y, gpuconv.conv2d(x, w, padding=1, tune=False), rtol=1e-4, atol=1e-4)
