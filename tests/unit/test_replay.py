"""Searches on what real machines measured: good at once, better after 16 trials, and always of one mind.

The recordings named "held-out" are of shapes that nobody looked at when rules and orders were chosen.
"""

from __future__ import annotations

import pytest

from bench import tuning
from bench.tuned import FOLDER
from gpuconv.autotune import replay, search, space
from gpuconv.autotune.recording import Recorded, Recording, Tried, as_json
from gpuconv.problem import ConvProblem
from gpuconv.report.records import ResultFile
from gpuconv.report.summary import geometric_mean

RECORDINGS = tuning.load(FOLDER)
HELD_OUT = [name for name in RECORDINGS if "held-out" in name]
#: Shares of the best recorded speed: of the untuned choice, and of at most 16 trials.
COLD, COLD_WORST, TUNED = 0.92, 0.75, 0.98


def test_there_are_recordings_of_layers_that_were_held_out():
    fitted = {one.problem for name in RECORDINGS if "fit" in name for one in RECORDINGS[name].problems}
    assert HELD_OUT
    assert fitted
    for name in HELD_OUT:
        assert not fitted & {one.problem for one in RECORDINGS[name].problems}
        assert len(RECORDINGS[name].problems) >= 24


@pytest.mark.parametrize("name", HELD_OUT)
def test_shapes_that_nobody_looked_at(name):
    recording = RECORDINGS[name]
    rows = [tuning.replayed(one, recording) for one in recording.problems]
    cold = [row.cold for row in rows]
    assert geometric_mean(cold) >= COLD
    assert min(cold) >= COLD_WORST
    assert geometric_mean([row.tuned for row in rows]) >= TUNED
    assert all(row.tried <= search.MOST for row in rows)
    assert all(row.answers == 1 for row in rows)


P = ConvProblem.parse("fprop_n1c64h56w56k64r3s3p1_nchw_f32")
RECORDING = Recording("cpu", "made up", "2026-11-29T00:00:00+00:00", None, "exhaustive", {"threads": 2})


def recorded(us):
    """Of the proposals for `P`, so many microseconds each, with a tenth of noise."""
    proposals = space.proposals(P, replay.device_of(RECORDING))
    tried = tuple(
        Tried(one.kernel.name, str(one.config), each, (each, round(1.05 * each, 3), round(1.1 * each, 3)))
        for one, each in zip(proposals, us, strict=False)
    )
    return Recorded(P, tried, 0, 1.0)


def test_a_replay_takes_the_recorded_time():
    one = recorded([100.0, 50.0, 200.0])
    bench = replay.ReplayBench(one, "cpu", 0)
    found = search.search(P, space.proposals(P, replay.device_of(RECORDING))[:3], bench, budget=0.1)
    assert str(found.best) == str(one.tried[1])
    assert bench.measured == {str(each) for each in one.tried}
    assert bench.now() <= 0.2
    assert [each.us for each in found.tried] == pytest.approx([100.0, 50.0, 200.0])
    assert replay.efficiency(one, str(one.tried[0])) == 0.5
    assert replay.efficiency(one, "nobody()") == 0.0


def test_the_median_of_a_gpu_and_the_fastest_of_a_cpu():
    proposals = space.proposals(P, replay.device_of(RECORDING))[:1]
    for kind, us in (("cpu", 100.0), ("cuda", 105.0)):
        (timing,) = replay.ReplayBench(recorded([100.0]), kind, 0).time(proposals, 1.0, 4)
        assert timing.us == pytest.approx(us)


def test_what_was_not_recorded_is_not_tried():
    proposals = space.proposals(P, replay.device_of(RECORDING))
    one = recorded([100.0])
    bench = replay.ReplayBench(one, "cpu", 0)
    assert bench.judge(proposals[1]) == ("not recorded", 0.0)
    failed = Recorded(P, (Tried(*str(proposals[0]).removesuffix(")").split("("), failure="wrong"),), 0, 1.0)
    assert replay.ReplayBench(failed, "cpu", 0).judge(proposals[0]) == ("wrong", 0.0)


def test_facts_of_the_device():
    assert replay.device_of(RECORDING).threads == 2
    found = replay.device_of(Recording("cuda", "NVIDIA H200", "", None, ""))
    assert (found.kind, found.sms) == ("cuda", 132)
    with pytest.raises(ValueError, match="no facts about Voodoo"):
        replay.device_of(Recording("cuda", "Voodoo 2", "", None, ""))


def test_a_recording_comes_home_in_the_checks_result_file(tmp_path):
    one = recorded([100.0, 50.0])
    row = {**as_json(one), "gain": 1.0}
    found = ResultFile(
        "NVIDIA H200", "2026-12-01T00:00:00+00:00", "abc1234", {"sms": 132}, extras={"tuned": [row]}
    )
    recording = tuning.of_check(found)
    assert recording.problems == (one,)
    assert (recording.kind, recording.device, recording.commit) == ("cuda", "NVIDIA H200", "abc1234")
    recording.save(tmp_path / "r.json")
    assert Recording.load(tmp_path / "r.json") == recording
    for extras in ({}, {"tuned": []}, {"tuned": [{"problem": "fprop"}]}):
        with pytest.raises(ValueError):
            tuning.of_check(ResultFile("x", "", None, extras=extras))
