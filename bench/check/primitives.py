"""Instructions on silicon against what the emulator gave."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from bench.check.benches import bench
from bench.check.steps import Item, Skip, Where
from tests.cases import Mismatch
from tests.primitives import probes


def items(where: Where) -> Iterable[Item]:
    """One for each probe."""
    place = bench(where)
    for name, probe in probes.PROBES.items():
        yield Item(name, lambda name=name, probe=probe: compare(name, probe, place))  # type: ignore[misc]


def compare(name: str, probe: probes.Probe, place: probes.Bench) -> dict[str, Any]:
    """The words must be the same."""
    if place.capability < probe.capability:
        raise Skip(f"needs compute capability {'.'.join(map(str, probe.capability))}")
    expected = probes.decode(probes.recorded()[name])
    got = probes.answer(probe, place)
    wrong = np.flatnonzero(got != expected)
    if len(wrong):
        some = wrong[:16].tolist()
        raise Mismatch(
            f"{len(wrong)} of {len(expected)} words differ, the first at {some[0]}",
            probe=name, wrong=len(wrong), at=some,
            got=[f"{got[at]:#x}" for at in some], expected=[f"{expected[at]:#x}" for at in some],
        )  # fmt: skip
    return {"words": len(expected)}
