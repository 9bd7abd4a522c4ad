"""Kernels on stand-ins whose times are told, for tests of tuning."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gpuconv import calls, dispatch
from gpuconv.autotune import digest, tuner
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


def now():
    return datetime.now(UTC).isoformat(timespec="seconds")
