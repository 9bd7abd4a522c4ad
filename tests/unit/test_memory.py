"""A new shape borrows from its nearest tuned neighbour, where that is legal and the model agrees."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from gpuconv import dispatch, store
from gpuconv.autotune import memory, space
from gpuconv.autotune.digest import compiler, digest
from gpuconv.autotune.heuristic import Candidate, predicted
from gpuconv.backend import device
from gpuconv.backend.cards import CARDS
from gpuconv.problem import ConvProblem

from .stored import entry

CPU, H200 = device.cpu(), CARDS["H200"].device
P = ConvProblem.parse("fprop_n1c64h56w56k64r3s3p1_nchw_f32")
DEEP = ConvProblem.parse("fprop_n32c128h28w28k128r3s3p1_nhwc-ohwi_f16")


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("GPUCONV_CACHE_DIR", str(tmp_path))


def tuned(p, candidate, here, **more):
    """Put it into the store."""
    found = entry(problem=p, kernel=candidate.kernel.name, config=asdict(candidate.config), **more)
    assert store.put(here, [found])


def untuned(p, here):
    return dispatch._untuned(p, here, None)[0][0]


def other(p, here):
    """A candidate of the same kernel that is not the untuned choice."""
    first = untuned(p, here)
    return next(one for one in space.proposals(p, here)[1:] if one.kernel is first.kernel)


def borrowed(p, here):
    return memory.borrowed(p, here, untuned(p, here))


def test_nothing_known_nothing_borrowed():
    assert borrowed(P, CPU) is None
    assert memory.remembered(P, CPU) is None


def test_a_near_problem_of_the_same_kind_lends():
    best = other(P, CPU)
    tuned(P, best, CPU)
    for more in ({"H": 60}, {"N": 2}, {"K": 96}, {"relu": True}, {"bias": True}, {"N": 2, "K": 128}):
        found = borrowed(replace(P, **more), CPU)
        assert found is not None, more
        assert found[:2] == best[:2]
    assert borrowed(P, CPU) is None  # it is its own best


@pytest.mark.parametrize(
    "text",
    [
        "fprop_n1c64h224w224k64r3s3p1_nchw_f32",  # far away
        "fprop_n1c64h56w56k64r3s3u2p1_nchw_f32",
        "fprop_n1c64h56w56k64r3s3p2d2_nchw_f32",
        "fprop_n1c64h56w56k64r3s3p1g2_nchw_f32",
        "fprop_n1c64h56w56k64r5s5p2_nchw_f32",
        "fprop_n1c64h56w56k64r3s3p1_nhwc_f32",
        "fprop_n1c64h56w56k64r3s3p1_nchw-ohwi_f32",
        "fprop_n1c64h56w56k64r3s3p1_nchw_f64",
        "fprop_n1c64h56w56k64r3s3p1_nchw_f32+reflect",
        "dgrad_n1c64h56w56k64r3s3p1_nchw_f32",
    ],
)
def test_others_do_not(text):
    tuned(P, other(P, CPU), CPU)
    assert borrowed(ConvProblem.parse(text), CPU) is None


def test_the_nearest_lends():
    first, second = [one for one in space.proposals(P, CPU)[1:] if one.kernel is untuned(P, CPU).kernel][:2]
    tuned(replace(P, N=4), first, CPU)
    tuned(replace(P, H=64), second, CPU)
    assert borrowed(P, CPU)[:2] == second[:2]


def test_what_is_not_legal_here_is_left():
    p = ConvProblem.parse("fprop_n1c64h7w7k8r3s3p1_nchw_f32")
    large = replace(p, K=16)
    best = next(one for one in space.proposals(large, CPU) if getattr(one.config, "splits", 1) == 8)
    tuned(large, best, CPU)
    assert borrowed(p, CPU) is not None
    assert borrowed(replace(p, K=4), CPU) is None


def test_a_cpus_rank_must_lead_to_the_same_kernel():
    p = ConvProblem.parse("fprop_n1c96h28w28k96r3s3p1g96_nhwc_f32")
    wrong = next(one for one in space.proposals(p, CPU) if one.kernel is not untuned(p, CPU).kernel)
    tuned(replace(p, N=2), wrong, CPU)
    assert borrowed(p, CPU) is None


def test_a_cards_model_must_agree():
    near = replace(DEEP, H=32)
    first = untuned(near, H200)
    for one in space.proposals(DEEP, H200):
        if space.live(near, H200, one.kernel.name, asdict(one.config)) is None:
            continue
        tuned(DEEP, Candidate(one.kernel, one.config), H200)
        there = predicted(near, one.kernel, one.config, H200).seconds
        found = borrowed(near, H200)
        assert (found is not None) == (there <= 1.05 * first.seconds), one
    assert store.find(DEEP, H200) is not None


def test_dispatch_takes_what_is_remembered_then_what_is_borrowed(monkeypatch):
    monkeypatch.setattr(dispatch, "_choices", {})
    best, near = other(P, CPU), replace(P, W=60)
    tuned(P, best, CPU)
    assert str(dispatch._candidates(P, CPU, None, None)[0][0]) == str(best)
    assert str(dispatch._candidates(near, CPU, None, None)[0][0]) == str(best)
    assert dispatch.plan_for(near, CPU).config == best.config
    monkeypatch.setenv("GPUCONV_KERNEL", best.kernel.name)
    assert dispatch.plan_for(near, CPU).config == best.kernel.default_config(near, CPU)


def test_on_a_card_the_rest_of_the_list_stays_behind_it():
    best = other(DEEP, H200)
    tuned(DEEP, best, H200)
    before = dispatch._untuned(DEEP, H200, None)[0]
    tried, _ = dispatch._candidates(DEEP, H200, None, None)
    assert tried[0][:2] == best[:2]
    assert [one[:2] for one in tried[1:]] == [one[:2] for one in before if one[:2] != best[:2]]


def test_explain_plan_tells_what_was_measured():
    from tests.command import results, run

    best = other(DEEP, H200)
    today = {"digest": digest(DEEP, best, H200), "compiler": compiler(H200), "us": 21.5, "default_us": 43.0}

    def told():
        (found,) = results(run("explain-plan", "--json", "--device", "H200", str(DEEP)), "explain-plan")
        times = {f"{one['kernel']}({one['config']})": one["measured_us"] for one in found["candidates"]}
        return found, {name: time for name, time in times.items() if time is not None}

    tuned(DEEP, best, H200, **today, default="what ran untuned then(config=1)")
    assert told()[1] == {str(best): 21.5}
    tuned(DEEP, best, H200, **today, default=str(untuned(DEEP, H200)))
    found, times = told()
    assert times == {str(best): 21.5, str(untuned(DEEP, H200)): 43.0}
    text = run("explain-plan", "--device", "H200", str(DEEP)).stdout
    assert "21.5 us measured; " in text
    assert found["chosen"] == str(best)
    tuned(DEEP, best, H200, **today | {"digest": "another source"})
    assert told()[1] == {}
