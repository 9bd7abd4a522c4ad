"""The judges judged: seven plain loops against the oracle, and wrong results against the bound."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gpuconv.layout import FROM_COMMON, common_shape, common_view
from gpuconv.problem import ConvProblem
from gpuconv.validate import reference, tolerance

from ..problems import NAMED, operands, public_call, with_op
from ..strategies import problems


def by_hand(p, a, b):
    """Seven loops, one multiplication at a time."""
    orders = {
        "fprop": (p.layout, p.weights, p.layout),
        "dgrad": (p.layout, p.weights, p.layout),
        "wgrad": (p.layout, p.layout, p.weights),
    }
    one, two, out = orders[p.op]
    a, b = common_view(a, one).astype(float), common_view(b, two).astype(float)
    result = np.zeros(common_shape(p.operand_shapes[2], out))
    high, wide = (list(border(p, axis)) for axis in (0, 1))
    Cg, Kg = p.C // p.groups, p.K // p.groups
    ranges = map(range, (p.N, p.K, p.P, p.Q, Cg, p.R, p.S))
    for n, k, i, j, c, r, s in itertools.product(*ranges):
        h, w = high[i * p.stride[0] + r * p.dilation[0]], wide[j * p.stride[1] + s * p.dilation[1]]
        if h is not None and w is not None:
            x, weight, y = (n, k // Kg * Cg + c, h, w), (k, c, r, s), (n, k, i, j)
            first, second, target = {
                "fprop": (x, weight, y),
                "dgrad": (y, weight, x),
                "wgrad": (x, y, weight),
            }[p.op]
            result[target] += a[first] * b[second]
    return result.transpose(FROM_COMMON[out])


def border(p, axis):
    """Along one axis, the cell of x that each cell of the padded input holds; None for a zero."""
    size, (before, after) = (p.H, p.W)[axis], p.padding[axis]
    for cell in range(-before, size + after):
        if 0 <= cell < size:
            yield cell
        elif p.padding_mode == "zeros":
            yield None
        elif p.padding_mode == "replicate":
            yield 0 if cell < 0 else size - 1
        elif p.padding_mode == "circular":
            yield cell + size if cell < 0 else cell - size
        else:
            yield -cell if cell < 0 else 2 * (size - 1) - cell


@settings(max_examples=60)
@given(problems(), st.integers(0, 99))
def test_oracle_equals_seven_loops(p, seed):
    assume(p.flops < 40_000)
    given_ = operands(p, seed, integers=True)
    a, b = given_["a"], given_["b"]
    np.testing.assert_array_equal(reference.evaluate(p, a, b), by_hand(p, a, b))


@settings(max_examples=200)
@given(problems(), st.integers(0, 99))
def test_points_equal_the_whole(p, seed):
    assume(p.N > 0)
    given_ = operands(p, seed, integers=True)
    points = reference.sample_points(p, 64, seed)
    whole = reference.evaluate(p, **given_)
    np.testing.assert_array_equal(reference.evaluate_at(p, points=points, **given_), whole[tuple(points)])


def test_points_hold_every_corner_and_repeat():
    p = ConvProblem.parse("fprop_n4c2h70w70k64r3s3_nhwc_f32")
    points = reference.sample_points(p)
    chosen = set(map(tuple, points.T.tolist()))
    corners = set(itertools.product(*((0, size - 1) for size in p.y_shape)))
    assert corners <= chosen
    assert len(chosen) == points.shape[1] > 2000
    np.testing.assert_array_equal(points, reference.sample_points(p))


WRONG = {
    "one element off by a thousandth": lambda y: y + 1e-3 * (np.arange(y.size).reshape(y.shape) == 7),
    "rounded to TF32": lambda y: (y.view(np.uint32) & 0xFFFFE000).view(np.float32),
    "accumulated in float16": lambda y: y.astype(np.float16).astype(np.float32),
    "shifted by one pixel": lambda y: np.roll(y, 1, axis=-1),
    "one NaN": lambda y: np.where(np.arange(y.size).reshape(y.shape) == 3, np.float32(np.nan), y),
    "one infinity": lambda y: np.where(np.arange(y.size).reshape(y.shape) == 3, np.float32(np.inf), y),
    "all zeros": np.zeros_like,
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("op", ["fprop", "dgrad", "wgrad"])
def test_wrong_results_break_the_bound(op, name):
    p = with_op(NAMED["plain 3x3"], op)
    given_ = operands(p)
    right = public_call(p, given_)
    assert tolerance.judge(p, right, **given_).ok
    verdict = tolerance.judge(p, WRONG[name](right), **given_)
    assert not verdict.ok
    assert verdict.checked == verdict.total == right.size


def test_large_problems_are_sampled(monkeypatch):
    p = with_op(NAMED["plain 3x3"], "fprop")
    given_ = operands(p)
    right = public_call(p, given_)
    monkeypatch.setattr(tolerance, "WHOLE_UP_TO", 0)
    verdict = tolerance.judge(p, right, **given_)
    assert verdict.ok
    assert verdict.checked > 0
    assert not tolerance.judge(p, right + np.float32(1e-3), **given_).ok


def test_a_result_of_another_shape_is_refused():
    p = with_op(NAMED["plain 3x3"], "fprop")
    with pytest.raises(ValueError, match="has shape"):
        tolerance.judge(p, np.zeros((1, 1, 1, 1)), **operands(p))
