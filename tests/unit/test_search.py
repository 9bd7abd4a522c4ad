"""The search finds what is fastest among what is right, in its time, and says the same each time."""

from __future__ import annotations

from typing import ClassVar

import pytest

from gpuconv.autotune import search
from gpuconv.autotune.heuristic import Candidate
from gpuconv.measure import Timing
from gpuconv.problem import ConvProblem

from ..stand_in import Level, MadeUp

P = ConvProblem.parse("fprop_n2c4h6w5k3r3s3p1_nchw_f32")
KERNEL = MadeUp("only")


def candidates(count):
    return [Candidate(KERNEL, Level(level)) for level in range(count)]


def name(level):
    return f"only(level={level})"


class Bench:
    """Times as told, one second at first sight, and no clock but its own."""

    sees: ClassVar[float] = 0.001

    def __init__(self, us, *, wrong=(), dies=(), seen=None, each=0.0):
        self.us, self.wrong, self.dies, self.seen, self.each = us, wrong, dies, seen or {}, each
        self.clock, self.judged, self.rounds, self.prepared = 0.0, [], [], 0

    def prepare(self, found, told):
        self.prepared += len(found)
        told(len(found), len(found))

    def judge(self, candidate):
        level = candidate.config.level
        self.clock += self.each
        self.judged.append(level)
        return ("wrong: by far" if level in self.wrong else None), self.seen.get(level, self.sees)

    def time(self, found, seconds, turns):
        levels = [one.config.level for one in found]
        self.rounds.append(levels)
        self.clock += seconds
        return [
            Timing(float("inf"), failure=ValueError("it broke")) if level in self.dies else self.timing(level)
            for level in levels
        ]

    def timing(self, level):
        return Timing(self.us[level], turns=1, calls=1, samples=(self.us[level],))

    def now(self):
        return self.clock


def run(us, budget=8.0, incumbent=None, **how):
    bench = Bench(us, **how)
    steps = []
    found = search.search(
        P, candidates(len(us)), bench, budget=budget, incumbent=incumbent, watch=steps.append
    )
    return found, bench, steps


def test_the_fastest_wins():
    found, bench, steps = run([10.0, 9.0, 5.0, 7.0, 20.0, 30.0, 6.0, 40.0])
    assert str(found.best) == name(2)
    assert found.gain == 2.0
    assert [one.us for one in found.tried] == [10.0, 9.0, 5.0, 7.0, 20.0, 30.0, 6.0, 40.0]
    # all; the better half and the default; those within a tenth of the best and the default
    assert bench.rounds == [list(range(8)), [0, 1, 2, 3, 6], [0, 2]]
    assert bench.prepared == 8
    assert [step.stage for step in steps] == ["compiling", *["judging"] * 8, *["timing"] * 3]
    assert steps[-1][3:] == (5.0, 10.0)


@pytest.mark.parametrize(
    ("us", "incumbent", "best"),
    [
        ([10.0, 9.8], None, 0),  # nearly as fast as the best is as good
        ([10.0, 9.6], None, 1),
        ([10.0, 8.1, 8.0], None, 1),  # among equals what was proposed first
        ([10.0, 8.1, 8.0], name(2), 2),  # but what won before stays
        ([10.0, 8.3, 8.0], name(1), 1),  # even where it is a little slower
        ([10.0, 8.5, 8.0], name(1), 2),
        ([10.0, 9.8], name(1), 1),
        ([10.0, 9.95], name(1), 0),  # unless there is nothing in it
        ([10.0, 9.6], name(0), 0),  # the default may be what won
    ],
)
def test_what_is_nearly_equal(us, incumbent, best):
    assert str(run(us, incumbent=incumbent)[0].best) == name(best)


def test_what_is_wrong_never_wins_and_is_never_timed():
    found, bench, _ = run([10.0, 1.0, 5.0], wrong={1})
    assert str(found.best) == name(2)
    assert found.tried[1].failure == "wrong: by far"
    assert found.tried[1].us is None
    assert all(1 not in levels for levels in bench.rounds)


def test_a_wrong_default_gives_way():
    found, _, _ = run([10.0, 12.0, 11.0], wrong={0})
    assert str(found.best) == name(2)
    assert found.gain is None


def test_what_fails_while_it_is_timed_is_out():
    found, _, _ = run([10.0, 1.0, 5.0], dies={1})
    assert str(found.best) == name(2)
    assert found.tried[1].failure == "failed: it broke"


@pytest.mark.parametrize("how", [{"wrong": {0, 1}}, {"dies": {0, 1}}])
def test_where_nothing_passes_all_reasons_are_told(how):
    with pytest.raises(RuntimeError, match=r"no candidate passed: only\(level=0\): .*; only\(level=1\): "):
        run([1.0, 2.0], **how)


def test_what_is_hopeless_at_first_sight_is_not_timed():
    found, bench, _ = run([1e6, 1e6, 4e6], seen={0: 1.0, 1: 1.0, 2: 4.0})
    assert bench.rounds[0] == [0, 1]
    assert found.tried[2].us == 4e6
    # but a short time is not to be believed, and the default always stays
    _, bench, _ = run([10.0, 10.0, 40.0], seen={0: 1e-5, 1: 1e-5, 2: 4e-5})
    assert bench.rounds[0] == [0, 1, 2]
    _, bench, _ = run([4e5, 1e5], seen={0: 0.4, 1: 0.1})
    assert bench.rounds[0] == [0, 1]


def test_when_the_time_is_over_the_rest_is_not_tried():
    found, bench, _ = run([10.0] + [5.0] * 9, budget=1.0, each=0.15)
    assert bench.judged == [0, 1, 2]
    assert (found.tried[5].us, found.tried[5].failure) == (None, None)
    assert found.left == 7
    assert str(found.best) == name(1)


def test_what_comes_before_the_first_judgement_is_not_of_the_budget():
    class Slow(Bench):
        def prepare(self, found, told):
            self.clock += 100.0

    found = search.search(P, candidates(3), Slow([10.0, 5.0, 20.0]), budget=1.0)
    assert (found.left, str(found.best)) == (0, name(1))
    assert found.seconds >= 100.0


class Honest(Bench):
    """Takes the time that its calls take: two that warm up, then one each turn."""

    def judge(self, candidate):
        seconds = self.us[candidate.config.level] / 1e6
        self.clock += seconds
        self.judged.append(candidate.config.level)
        return None, seconds

    def time(self, found, seconds, turns):
        self.rounds.append([one.config.level for one in found])
        self.clock += sum(self.us[one.config.level] / 1e6 * (2 + turns) for one in found)
        return [self.timing(one.config.level) for one in found]


@pytest.mark.parametrize("seconds", [0.1, 0.5, 1.0, 2.0])
def test_long_calls_keep_to_the_budget(seconds):
    us = [seconds * 1e6, *[0.8 * seconds * 1e6] * 15]
    bench = Honest(us)
    found = search.search(P, candidates(16), bench, budget=8.0)
    assert bench.clock <= 8.0 + seconds
    assert found.left == sum(one.us is None for one in found.tried) == 16 - len(bench.judged)
    assert (found.left > 0) == (seconds > 0.1)
    assert str(found.best) == name(1)


@pytest.mark.parametrize(("other", "best"), [(1e6, 1), (1.9e6, 0)])
def test_calls_too_long_for_a_race_are_judged_by_the_first(other, best):
    """What was seen but once has to be faster by a tenth."""
    bench = Honest([2e6, other])
    found = search.search(P, candidates(2), bench, budget=6.0)
    assert (str(found.best), found.left, bench.rounds) == (name(best), 0, [])
    found = search.search(P, candidates(2), Honest([2e6, other]), budget=0.5)
    assert (str(found.best), found.left) == (name(0), 1)


def test_a_default_alone_is_timed_once():
    found, bench, _ = run([10.0])
    assert bench.rounds == [[0]]
    assert found.gain == 1.0


def test_few_samples_are_kept():
    class Many(Bench):
        def timing(self, level):
            return Timing(self.us[level], samples=tuple(float(at) for at in range(1, 1001)))

    found = search.search(P, candidates(2), Many([1.0, 2.0]), budget=1.0)
    assert len(found.tried[0].samples) == 24
    assert found.tried[0].samples[0] == 1.0
    assert found.tried[0].samples[-1] > 900


def test_strategies():
    found = candidates(40)
    assert search.chosen(found, "exhaustive", 16, 0) == found
    assert search.chosen(found, "heuristic", 16, 0) == found[:16]
    drawn = search.chosen(found, "random", 16, 1)
    assert drawn[0] == found[0]
    assert len(set(drawn)) == 16
    assert drawn == search.chosen(found, "random", 16, 1) != search.chosen(found, "random", 16, 2)
    assert search.chosen(found[:3], "random", 16, 1)[0] == found[0]
    assert len(search.chosen(found[:3], "random", 16, 1)) == 3
