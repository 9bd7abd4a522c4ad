"""What a call costs beside the arithmetic: the public function on a problem that has next to none."""

from __future__ import annotations

from typing import Any

from bench.baseline import TorchBaseline
from bench.measure import measure
from bench.report import Report
from gpuconv.problem import ConvProblem

TINY = "fprop_n1c1h8w8k1r3s3_nchw_f32"


def test_call_overhead(benchmark: Any, baseline: TorchBaseline | None, report: Report, turns: int) -> None:
    """Arguments known from an earlier call, as inside a loop."""
    record = measure(benchmark, ConvProblem.parse(TINY), baseline, turns)
    benchmark.extra_info.update(record)
    if "us" in record:
        report.call_overhead = record
    assert record["error_over_bound"] <= 1
