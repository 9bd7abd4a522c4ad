"""What a call costs beside the arithmetic: the public function on a problem that has next to none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import pytest

from bench.conftest import Session, replay
from gpuconv.problem import ConvProblem
from gpuconv.report.records import Record

TINY = "fprop_n1c1h8w8k1r3s3_nchw_f32"


@pytest.mark.benchmark(timer=replay)
def test_call_overhead(measured: Callable[..., Record], session: Session) -> None:
    """Arguments known from an earlier call, as inside a loop."""
    record = measured(ConvProblem.parse(TINY))
    if record.us is not None:
        session.extras["call_overhead"] = asdict(record)
