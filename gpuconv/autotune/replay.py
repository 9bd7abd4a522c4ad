"""Searches replayed from a recording: no device, no time, and the same noise as when it was measured.

A call in a replay takes as long as one of the recorded calls of that candidate, drawn at random, so that a
search can be repeated as often as one likes and judged by what an exhaustive one had found.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from statistics import median
from typing import Final

from gpuconv.autotune.heuristic import Candidate
from gpuconv.autotune.recording import Recorded, Recording, Tried
from gpuconv.backend.cards import CARDS
from gpuconv.backend.device import Device
from gpuconv.measure import Timing

#: Calls of one candidate in a round, at most: of more none would be new.
_MOST_CALLS: Final = 200


class ReplayBench:
    """A `gpuconv.autotune.trial.Bench` that only remembers.

    Parameters
    ----------
    recorded : Recorded
        What an exhaustive search found.
    kind : {"cpu", "cuda"}
        Whose figure counts: a CPU's fastest call, or a GPU's median.
    seed : int
        Of the noise.
    """

    def __init__(self, recorded: Recorded, kind: str, seed: int) -> None:
        self._tried = {str(one): one for one in recorded.tried}
        self._figure = min if kind == "cpu" else median
        self._random = random.Random(seed)
        self._now = 0.0
        self.measured: set[str] = set()

    def prepare(self, candidates: Sequence[Candidate], told: Callable[[int, int], None]) -> None:
        """Nothing is compiled."""

    def judge(self, candidate: Candidate) -> tuple[str | None, float]:
        """What was found wrong then, and how long one call took."""
        one = self._tried.get(str(candidate))
        if one is None:
            return "not recorded", 0.0
        if one.failure is not None or not one.samples:
            return one.failure or "not timed", 0.0
        return None, self._call(one)

    def time(self, candidates: Sequence[Candidate], seconds: float, turns: int) -> list[Timing]:
        """As many of the recorded calls of each as there is time for."""
        found = []
        for candidate in candidates:
            one = self._tried[str(candidate)]
            each = seconds / len(candidates) / (median(one.samples) / 1e6)
            calls = [self._call(one) for _ in range(min(max(turns, int(each)), _MOST_CALLS))]
            figure = self._figure(calls) * 1e6
            samples = tuple(call * 1e6 for call in calls)
            found.append(Timing(figure, turns=turns, calls=len(calls) // turns, samples=samples))
        return found

    def now(self) -> float:
        """Seconds that all calls so far took."""
        return self._now

    def _call(self, one: Tried) -> float:
        self.measured.add(str(one))
        seconds = self._random.choice(one.samples) / 1e6
        self._now += seconds
        return seconds


def device_of(recording: Recording) -> Device:
    """Facts of the device that a recording is from, as far as it tells them.

    Raises
    ------
    ValueError
        For a card whose facts nobody knows.
    """
    known = recording.environment
    if recording.kind == "cpu":
        return Device(
            "cpu",
            recording.device,
            threads=known.get("threads", 1),
            cores=known.get("cores", known.get("threads", 1)),
            numpy=known.get("numpy", ""),
            blas=known.get("blas", ""),
        )
    for card in CARDS.values():
        if card.device.name in recording.device:
            return card.device
    raise ValueError(f"there are no facts about {recording.device}")


def efficiency(recorded: Recorded, candidate: Candidate | str) -> float:
    """The best recorded time divided by a candidate's: 1 is the best, 0 one that has no time."""
    times = {str(one): one.us for one in recorded.tried if one.us is not None}
    us = times.get(str(candidate))
    return 0.0 if us is None else min(times.values()) / us
