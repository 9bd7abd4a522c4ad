"""The tuner on the emulator: real kernels are compiled, judged between red zones, and chosen."""

from __future__ import annotations

import time

import numpy as np
import pytest

import gpuconv
from gpuconv import calls, dispatch, store
from gpuconv.autotune import search, tuner
from gpuconv.autotune.heuristic import Candidate
from gpuconv.autotune.space import proposals
from gpuconv.autotune.trial import LiveBench
from gpuconv.backend.launch import using
from gpuconv.problem import ConvProblem
from tests.emulator.launcher import SCHEDULES, Emulator

PROBLEMS = [
    "fprop_n1c8h6w7k8r3s3p1_nhwc_f16+bias+res+relu",
    "dgrad_n1c6h7w6k5r3s3u2p1_nchw_f32",
    "wgrad_n2c5h6w6k6r3s3_nhwc-ohwi_f64",
]


#: Seconds; a first launch compiles, which takes long where g++ has much to do.
HOURS = 7200.0


class Clock:
    """The host's time; an emulator launches at once and waits."""

    turn_seconds, least_seconds, rest_seconds, most_calls = 0.01, 0.0, 0.0, 4
    now = staticmethod(time.perf_counter)

    def turn(self, call, count):
        began = time.perf_counter()
        for _ in range(count):
            call()
        return [(time.perf_counter() - began) / count]

    def figure(self, seconds):
        return min(seconds)

    cold = mhz = seconds_elsewhere = lambda self, *_: None


@pytest.fixture
def emulator(has_compiler, tmp_path, monkeypatch):
    monkeypatch.setenv("GPUCONV_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("gpuconv.measure.clock_for", lambda device: Clock())
    monkeypatch.setattr(calls, "_plans", {})
    monkeypatch.setattr(dispatch, "_choices", {})
    with using(found := Emulator(schedule=SCHEDULES[3])):
        yield found


def few(p, device):
    """Each kernel's best."""
    best = {}
    for one in proposals(p, device):
        best.setdefault(one.kernel.name, one)
    return list(best.values())


@pytest.mark.parametrize("text", PROBLEMS)
def test_every_kernels_best_is_judged_right(emulator, text):
    p, device = ConvProblem.parse(text), emulator.device(0)
    candidates = few(p, device)
    assert len(candidates) >= 2
    bench = LiveBench(p, device, 5)
    found = search.search(p, candidates, bench, budget=HOURS)
    assert [one.failure for one in found.tried] == [None] * len(candidates)
    assert all(one.us for one in found.tried)


def test_a_public_call_tunes_and_computes_with_what_won(emulator, monkeypatch):
    monkeypatch.setattr(search, "MOST", 3)
    monkeypatch.setattr(tuner, "MOST", 3)
    rng = np.random.default_rng(0)
    x, w = (rng.integers(-3, 4, shape).astype("f") for shape in ((1, 4, 6, 6), (4, 4, 3, 3)))
    with gpuconv.tuning(budget=HOURS):
        y = gpuconv.conv2d(emulator.array(x), emulator.array(w), padding=1)
    np.testing.assert_array_equal(y.get(), gpuconv.conv2d(x, w, padding=1, tune=False))
    p, device = ConvProblem.parse("fprop_n1c4h6w6k4r3s3p1_nchw_f32"), emulator.device(0)
    entry = store.find(p, device)
    assert entry is not None
    assert dispatch.plan_for(p, device).kernel == entry.kernel
    launched = len(emulator.launched)
    gpuconv.conv2d(emulator.array(x), emulator.array(w), padding=1, tune=True)
    assert len(emulator.launched) - launched <= 2  # the plan's own: nothing was measured


class Wide(Emulator):
    """A launcher that gives one launch another grid or parameter: a fault of the host's."""

    spoil = staticmethod(lambda packed: packed)

    def _run(self, spec, entry, packed):
        super()._run(spec, entry, self.spoil(packed))


def test_a_kernel_that_leaves_its_result_is_caught(has_compiler, monkeypatch):
    """The pointer to the result is moved by one element: it writes behind, and leaves the first out."""
    monkeypatch.setattr("gpuconv.measure.clock_for", lambda device: Clock())
    p = ConvProblem.parse("fprop_n1c4h6w6k4r3s3p1_nchw_f32")
    with using(emulator := Wide()):
        candidate = proposals(p, emulator.device(0))[0]
        bench = LiveBench(p, emulator.device(0), 5)
        assert bench.judge(candidate) == (None, pytest.approx(0.1, abs=1))

        def moved(packed):
            address = int.from_bytes(packed[16:24], "little") + 4
            return packed[:16] + address.to_bytes(8, "little") + packed[24:]

        spec, *_ = candidate.kernel.launches(p, candidate.config, emulator.device(0))
        assert spec.pointers[2] == "out"
        emulator.spoil = moved
        wrong, _ = bench.judge(Candidate(candidate.kernel, candidate.config))
        assert wrong == "wrong: it writes behind out"
