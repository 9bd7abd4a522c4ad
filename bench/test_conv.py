"""Real layers beside other libraries, where they are installed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.conftest import Session, replay
from gpuconv.problem import ConvProblem
from gpuconv.report.records import Record


@pytest.mark.benchmark(timer=replay)
def test_conv(problem: ConvProblem, measured: Callable[..., Record], session: Session) -> None:
    """Any time passes, a wrong result does not."""
    record = measured(problem)
    if record.us is not None:
        session.records.append(record)
