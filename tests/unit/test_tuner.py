"""Tuning on request: once, for good, and never to something wrong."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import gpuconv
from gpuconv import calls, dispatch, store
from gpuconv.autotune import digest, tuner
from gpuconv.autotune.asked import Wishes
from gpuconv.autotune.heuristic import Candidate
from gpuconv.backend import jit
from gpuconv.errors import LaunchError, LaunchRefused, UnsupportedProblem
from gpuconv.problem import ConvProblem

from ..stand_in import PLAIN, Level, MadeUp
from .stored import entry
from .told import OTHER, US, Clock, call, clock, ran

__all__ = ["clock"]


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
    found = store.find(PLAIN, card.device(0))
    assert (found.kernel, found.config, found.us, found.default_us) == ("only", {"level": 1}, 40, 100)


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
    return entry(problem=problem, kernel=kernel, **({"config": {"level": level}} | values | more))


@pytest.mark.parametrize(
    "found",
    [
        _of("nobody", 1),
        _of("only", 7),
        _of("only", -1),
        _of("only", 1, config={}),
        _of("only", 1, config={"level": 1, "more": 1}),
        _of("only", 1, config={"depth": 1}),
    ],
)
def test_what_is_not_among_todays_candidates_never_runs(clock, card, found):
    store.put(card.device(0), [found])
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


@pytest.mark.parametrize(
    ("more", "wishes", "known"),
    [
        ({}, Wishes(), True),
        ({}, Wishes(budget=100.0), True),
        ({}, Wishes(strategy="random"), True),
        ({}, Wishes(strategy="exhaustive"), False),
        ({"strategy": "exhaustive"}, Wishes(strategy="exhaustive"), True),
        ({"left": 3, "budget": 1.0}, Wishes(), False),
        ({"left": 3, "budget": 1.0}, Wishes(budget=1.0), True),
        ({"left": 3, "budget": 1.0}, Wishes(budget=1.1), False),
        ({"left": 3, "budget": 3.0}, Wishes(), True),
        ({"digest": "another"}, Wishes(), False),
    ],
)
def test_what_is_known_depends_on_what_was_tried(clock, card, more, wishes, known):
    here = card.device(0)
    first = Candidate(MadeUp("only"), Level(1))
    given = {"digest": digest.digest(PLAIN, first, here), "compiler": "compiler 1", "budget": 3.0, "left": 0}
    store.put(here, [entry(problem=PLAIN, kernel="only", config={"level": 1}, **given | more)])
    assert (tuner.known(PLAIN, here, wishes) is not None) == known


def test_what_won_before_is_tried_again_and_keeps_its_place(clock, card):
    clock.us["only1"], clock.us["other2"] = 50, 49.5
    first = tuner.tune(PLAIN, card.device(0))
    for swap in (49.0, 50.5, 49.2):
        clock.us["other2"] = swap
        assert str(tuner.tune(PLAIN, card.device(0)).best) == str(first.best)
    found = tuner.tune(PLAIN, card.device(0), Wishes(strategy="random"))
    assert str(found.tried[1]) == str(first.best) != str(found.default)


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
    monkeypatch.setattr(bench, "_ready", lambda candidate: None)
    told = []
    bench.prepare(candidates, lambda *how_far: told.append(how_far))
    wanted = {s.binary for k, c, *_ in candidates for s in k.launches(p, c, device)}
    assert set(found) == wanted
    assert len(found) == len(wanted) > 6
    assert sorted(told) == [(done, len(wanted)) for done in range(len(wanted) + 1)]


def test_results_stay_within_the_bound_whatever_is_tuned(tmp_path, monkeypatch):
    """On the real CPU, with its own kernels and clock."""
    monkeypatch.setenv("GPUCONV_CACHE_DIR", str(tmp_path))
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1, 8, 20, 20)).astype("f"), rng.standard_normal((8, 8, 3, 3)).astype("f")
    with gpuconv.tuning(budget=0.2):
        y = gpuconv.conv2d(x, w, padding=1)
    np.testing.assert_allclose(y, gpuconv.conv2d(x, w, padding=1, tune=False), rtol=1e-4, atol=1e-4)
