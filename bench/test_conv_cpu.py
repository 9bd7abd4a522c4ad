"""Real layers on the CPU, beside PyTorch where it is installed."""

from __future__ import annotations

from typing import Any

from bench.baseline import TorchBaseline
from bench.measure import measure
from bench.report import Report
from gpuconv.problem import ConvProblem


def test_conv(
    benchmark: Any, problem: ConvProblem, baseline: TorchBaseline | None, report: Report, turns: int
) -> None:
    """Any time passes, a wrong result does not."""
    record = measure(benchmark, problem, baseline, turns)
    benchmark.extra_info.update(record)
    if "us" in record:
        report.records.append(record)
    assert record["error_over_bound"] <= 1
