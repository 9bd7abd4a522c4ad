"""The facts of a report as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from gpuconv.report.html_facts import Part


def as_json(part: Part) -> list[dict[str, Any]]:
    """The table of a device, as ``--json`` has it."""
    return [
        {
            "device": part.place.name,
            "kind": part.place.kind,
            "threads": part.place.threads,
            "problem": str(row.problem),
            "family": row.family,
            "kernel": row.kernel,
            "config": row.config,
            "default_us": row.default_us,
            "tuned_us": row.tuned_us,
            "gain": row.gain,
            "predicted_us": row.predicted_us,
            "bench_us": row.bench_us,
            "baseline": row.baseline,
            "baseline_us": row.baseline_us,
            "ratio": row.ratio,
            "floor_us": row.floor_us,
            "share_of_floor": row.share,
            "seconds": None if row.recorded is None else row.recorded.seconds,
            "failures": [{"why": why, "candidates": which} for why, which in row.failures],
        }
        for row in part.rows
    ]


def about(parts: Sequence[Part]) -> dict[str, Any]:
    """What is said about the devices and files, as ``--json`` has it."""
    return {
        "files": [
            {
                "file": source.path,
                "what": source.what,
                "device": part.place.name,
                "kind": part.place.kind,
                "date": source.content.date,
                "commit": source.content.commit,
                "strategy": source.strategy,
                "problems": source.problems,
                # JSON's readers allow what its writers must not
                "environment": json.loads(json.dumps(source.content.environment), parse_constant=str),
            }
            for part in parts
            for source in part.sources
        ],
        "devices": [
            {
                "device": part.place.name,
                "kind": part.place.kind,
                "threads": part.place.threads,
                "problems": len(part.rows),
                "tuned": part.tuned,
                "gain": part.gain,
                "ratio": part.ratio,
                "worst_ratio": part.worst and part.worst.ratio,
                "worst_problem": part.worst and str(part.worst.problem),
                "share_of_floor": part.share,
                "seconds": round(part.seconds, 3),
            }
            for part in parts
        ],
    }
