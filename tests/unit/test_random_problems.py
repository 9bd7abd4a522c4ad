"""Random problems: repeatable, and of every kind."""

from __future__ import annotations

import pytest

from gpuconv.families import family
from gpuconv.layout import LAYOUTS, WEIGHTS
from gpuconv.problem import DTYPES, OPS
from gpuconv.validate import random_problems


@pytest.fixture(scope="module")
def many():
    return list(random_problems.problems(2000, 0))


def test_a_seed_repeats_them_and_another_does_not(many):
    assert list(random_problems.problems(50, 0)) == many[:50]
    assert list(random_problems.problems(50, 1)) != many[:50]


def test_they_are_of_every_kind(many):
    assert len(set(many)) > 1900
    for name, kinds in {
        "op": OPS,
        "dtype": DTYPES,
        "layout": LAYOUTS,
        "weights": WEIGHTS,
        "padding_mode": ("zeros", "reflect", "replicate", "circular"),
        "bias": (False, True),
        "residual": (False, True),
        "relu": (False, True),
        "N": (0, 1, 2, 3),
    }.items():
        counts = [sum(getattr(p, name) == kind for p in many) for kind in kinds]
        assert min(counts) > 20, (name, counts)
        assert sum(counts) == len(many)
    sides = [p.padding for p in many]
    assert sum(a != b for pads in sides for a, b in pads) > 500
    assert {family(p) for p in many} >= {
        "image",
        "first-layer",
        "depthwise",
        "grouped",
        "fp32",
        "nchw",
        "odd",
    }
    assert {family(p) for p in many} & {"few-tile", "pointwise", "dense"}
    assert max(p.flops for p in many) < 10**9


def test_they_keep_to_what_is_asked_for():
    found = list(random_problems.problems(100, 2, ops=("wgrad",), dtypes=("f16", "f64"), layouts=("nhwc",)))
    assert {p.op for p in found} == {"wgrad"}
    assert {p.dtype for p in found} == {"f16", "f64"}
    assert {p.layout for p in found} == {"nhwc"}
    assert not any(p.bias or p.residual or p.relu for p in found)
