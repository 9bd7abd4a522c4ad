"""The search for the fastest candidate of one problem.

All that are proposed are judged, those that pass are timed in three rounds: the better half of the first
comes to the second, what is within a tenth of its best to the last, and the default to all of them. What is
nearly as fast as the best counts as equal, and among equals the default wins, then what won before, then what
was proposed first: so searches that are repeated on a machine that is never quite still agree.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from gpuconv.autotune.asked import Strategy
from gpuconv.autotune.heuristic import Candidate
from gpuconv.autotune.recording import Recorded, Tried
from gpuconv.autotune.trial import Bench
from gpuconv.problem import ConvProblem

#: Candidates that are tried, unless all are.
MOST: Final = 16
#: Seconds for one problem, compiling and the oracle aside.
BUDGET: Final = {"cpu": 8.0, "cuda": 3.0}

#: A candidate this much slower than the best is as good.
_TIE: Final = 1.03
#: What won before has to be beaten by more, and gives way to the default only where there is no difference.
_STAYS: Final = 1.05
_TIE_AGAIN: Final = 1.01
#: Within it the last round decides.
_NEAR: Final = 1.10
#: So many times slower than the best at first sight is out, if the time is long enough to be believed.
_HOPELESS: Final = 2.5
_BELIEVED: Final = 0.02
#: Calls of a candidate in a round beside those of its turns: they warm up, and tell how long it takes.
_WARMING: Final = 2
#: Samples of one candidate that a recording keeps.
_KEPT: Final = 24
#: Shares of the budget: judging ends with the first, the rounds take the rest.
_JUDGING, _FIRST, _SECOND = 0.4, 0.2, 0.15
_TURNS: Final = (2, 4, 8)
_LEAST_SECONDS: Final = 0.05


def chosen(proposals: Sequence[Candidate], strategy: Strategy, most: int, seed: int) -> list[Candidate]:
    """What a strategy tries of what is proposed; the default always."""
    if strategy == "exhaustive":
        return list(proposals)
    if strategy == "heuristic":
        return list(proposals[:most])
    drawn = random.Random(seed).sample(proposals[1:], min(most - 1, len(proposals) - 1))
    return [*proposals[:1], *drawn]


class Step(NamedTuple):
    """How far a search is.

    Attributes
    ----------
    stage : {"compiling", "judging", "timing"}
    done, total : int
        Candidates that are compiled or judged; in the race, once they are timed.
    best_us, default_us : float or None
        The best time so far and the default's, in microseconds.
    """

    stage: str
    done: int
    total: int
    best_us: float | None = None
    default_us: float | None = None


Watch = Callable[[Step], None]


@dataclass(slots=True)
class _Runner:
    """A candidate in the race."""

    candidate: Candidate
    sight: float = 0.0  # seconds of the call that was judged
    us: float | None = None
    samples: list[float] = field(default_factory=list)
    failure: str | None = None

    def see(self) -> None:
        """Take what it took at first sight for its time, if it has no better."""
        if self.us is None:
            self.us, self.samples = self.sight * 1e6, [self.sight * 1e6]

    @property
    def tried(self) -> Tried:
        """For the recording."""
        kernel, config, seconds, _ = self.candidate
        predicted = None if seconds is None else seconds * 1e6
        us = None if self.failure else self.us
        step = max(1, len(self.samples) / _KEPT)
        kept = tuple(self.samples[int(at * step)] for at in range(min(_KEPT, len(self.samples))))
        return Tried(kernel.name, str(config), us, kept, predicted, self.failure)


def search(
    p: ConvProblem,
    candidates: Sequence[Candidate],
    bench: Bench,
    *,
    budget: float,
    incumbent: str | None = None,
    watch: Watch = lambda step: None,
) -> Recorded:
    """Try candidates.

    Parameters
    ----------
    p : ConvProblem
    candidates : sequence of Candidate
        The default first; see `gpuconv.autotune.space.proposals`.
    bench : Bench
    budget : float
        Seconds, about, from when the first candidate is judged. With less than it takes, fewer are tried; the
        default is in any case. What was left out has neither a time nor a failure.
    incumbent : str, optional
        What won before, as a candidate prints itself.
    watch : callable, optional
        Told of each `Step`.

    Returns
    -------
    Recorded
        Its `chosen` is the default where nothing else is clearly faster.

    Raises
    ------
    RuntimeError
        If no candidate passed.
    LaunchError
        If the device's context is lost.
    """
    began = bench.now()
    bench.prepare(candidates, lambda done, total: watch(Step("compiling", done, total)))
    until = bench.now() + budget
    runners = [_Runner(one) for one in candidates]
    racing = _judge(runners, bench, until - (1 - _JUDGING) * budget, watch)
    for share, turns, keep in (
        (_FIRST, _TURNS[0], _better_half),
        (_SECOND, _TURNS[1], _near_the_best),
        (None, _TURNS[2], None),
    ):
        if len(racing) == 1 and racing[0].us is not None:
            break
        left = max(until - bench.now(), _LEAST_SECONDS)
        seconds = left if share is None else min(left, max(share * budget, _LEAST_SECONDS))
        longest = sum(map(_believed, racing))
        if (_WARMING + 1) * longest > left:  # no time for a race: what was seen so far decides
            for one in racing:
                one.see()
            break
        most = int(seconds / longest) - _WARMING if longest else turns
        _time(racing, bench, seconds, max(1, min(turns, most)))
        racing = _passed(racing)
        if keep is not None:
            racing = keep(racing, runners[0])
        watch(Step("timing", len(racing), len(runners), min(map(_us, racing)), runners[0].us))
    won = _winner(racing, runners[0], incumbent)
    seconds = bench.now() - began
    return Recorded(p, tuple(one.tried for one in runners), runners.index(won), seconds)


def _judge(runners: Sequence[_Runner], bench: Bench, until: float, watch: Watch) -> list[_Runner]:
    """Those that are right, and not hopeless at first sight."""
    found: list[_Runner] = []
    for done, one in enumerate(runners, 1):
        if found and bench.now() > until:
            break
        one.failure, one.sight = bench.judge(one.candidate)
        if one.failure is None:
            found.append(one)
        watch(Step("judging", done, len(runners)))
    if not found:
        raise RuntimeError(_none_passed(runners))
    best = min(one.sight for one in found)
    racing = []
    for one in found:
        if one.sight > max(_BELIEVED, _HOPELESS * best) and one is not runners[0]:
            one.see()
        else:
            racing.append(one)
    return racing


def _believed(one: _Runner) -> float:
    """Seconds of a call; 0 where one is too short to be told from what a first call costs."""
    seconds = one.sight if one.us is None else one.us / 1e6
    return seconds if seconds > _BELIEVED else 0.0


def _time(racing: Sequence[_Runner], bench: Bench, seconds: float, turns: int) -> None:
    timings = bench.time([one.candidate for one in racing], seconds, turns)
    for one, timing in zip(racing, timings, strict=True):
        if timing.failure is not None:
            one.failure = f"failed: {timing.failure}"[:200]
        else:
            one.us = timing.us
            one.samples += timing.samples


def _passed(racing: Sequence[_Runner]) -> list[_Runner]:
    found = [one for one in racing if one.failure is None]
    if not found:
        raise RuntimeError(_none_passed(racing))
    return found


def _better_half(racing: list[_Runner], default: _Runner) -> list[_Runner]:
    count = max(4, -(-len(racing) // 2))
    last = sorted(_us(one) for one in racing)[:count][-1]
    return [one for one in racing if _us(one) <= last or one is default]


def _near_the_best(racing: list[_Runner], default: _Runner) -> list[_Runner]:
    best = min(map(_us, racing))
    return [one for one in racing if _us(one) <= _NEAR * best or one is default]


def _winner(racing: Sequence[_Runner], default: _Runner, incumbent: str | None) -> _Runner:
    best = min(map(_us, racing))
    # what was called but once is told apart by more
    once = any(len(one.samples) == 1 for one in racing)
    before = [one for one in racing if str(one.candidate) == incumbent and _us(one) <= _STAYS * best]
    tie = _NEAR if once else _TIE
    if default in racing and _us(default) <= (_TIE_AGAIN if before and not once else tie) * best:
        return default
    return (before or [one for one in racing if _us(one) <= tie * best])[0]


def _us(one: _Runner) -> float:
    assert one.us is not None
    return one.us


def _none_passed(runners: Sequence[_Runner]) -> str:
    reasons = "; ".join(f"{one.candidate}: {one.failure}" for one in runners)
    return f"no candidate passed: {reasons}"
