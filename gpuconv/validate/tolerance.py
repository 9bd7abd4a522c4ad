"""How far a result may be from the oracle.

With K the number of products summed, u the unit roundoff of the result's type and of the accumulator
(float32's for 16-bit inputs)::

    |y − ref| ≤ u_out·|ref| + u_acc·(8 + 4·√K)·Σ|a||b| + smallest subnormal

Good implementations reach about a quarter of it; TF32 rounding or float16 accumulation break it by orders
of magnitude. Integer data whose sums are exact in the accumulator must come out exactly.

A library that multiplies as TF32 where the problem lets it is allowed (2·u_tf32 + u_tf32²)·Σ|a||b| more: each
operand is rounded to eleven significant bits, or cut, as tensor cores do, so u_tf32 is 2⁻¹⁰.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod, sqrt
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpuconv.problem import ConvProblem
from gpuconv.validate import reference

UNIT_ROUNDOFF: Final = {"f16": 2.0**-11, "bf16": 2.0**-8, "f32": 2.0**-24, "f64": 2.0**-53}
#: Of an operand whose lower bits are cut.
TF32_ROUNDOFF: Final = 2.0**-10
SMALLEST_SUBNORMAL: Final = {"f16": 2.0**-24, "bf16": 2.0**-133, "f32": 2.0**-149, "f64": 2.0**-1074}

#: Above this many multiply-adds a problem is checked at sampled points.
WHOLE_UP_TO: Final = 10**9


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a result compares to the oracle.

    Attributes
    ----------
    error_over_bound : float
        Largest error as a share of what is allowed; the result is right when it is at most 1.
    worst : tuple of int
        Where that is, in the result.
    checked, total : int
        Elements compared, and elements there are.
    """

    error_over_bound: float
    worst: tuple[int, ...]
    checked: int
    total: int

    @property
    def ok(self) -> bool:
        """Whether every checked element lies within the bound."""
        return self.error_over_bound <= 1


def bound(
    problem: ConvProblem, ref: NDArray[np.float64], magnitude: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Largest error allowed for each element.

    Parameters
    ----------
    problem : ConvProblem
        Gives the dtype and the number of products summed.
    ref : array of float64
        The exact result, before the activation.
    magnitude : array of float64
        The same sum over absolute values, bias and residual included: Σ|a||b|.
    """
    accumulator = "f64" if problem.dtype == "f64" else "f32"
    factor = 8 + 4 * sqrt(problem.gemm_mnk[2])
    rounded = UNIT_ROUNDOFF[problem.dtype] * np.abs(ref)
    return rounded + UNIT_ROUNDOFF[accumulator] * factor * magnitude + SMALLEST_SUBNORMAL[problem.dtype]


@dataclass(frozen=True, slots=True)
class Expected:
    """What the oracle says of a problem and its operands, for any number of results.

    Attributes
    ----------
    shape : tuple of int
        Of a result.
    values, allowed : array of float64
        The right numbers, and the largest error allowed for each: of the whole result, or of `points`.
    points : (4, n) array of integers or None
        Indices of what is looked at; None for everything.
    allowed_tf32 : array of float64 or None
        What is allowed to those who multiply as TF32; None where the problem does not let them.
    """

    shape: tuple[int, ...]
    values: NDArray[np.float64]
    allowed: NDArray[np.float64]
    points: NDArray[np.intp] | None
    allowed_tf32: NDArray[np.float64] | None = None

    def of_others(self) -> Expected:
        """The same for other libraries, which take TF32 where the problem lets them."""
        return self if self.allowed_tf32 is None else replace(self, allowed=self.allowed_tf32)

    def seen(self, result: Any) -> NDArray[np.float64]:
        """Return what is looked at of a result.

        Raises
        ------
        ValueError
            If a result has another shape.
        """
        if result.shape != self.shape:
            raise ValueError(f"result has shape {result.shape}, expected is {self.shape}")
        found: NDArray[np.float64] = result if self.points is None else result[tuple(self.points)]
        return found.astype(np.float64)

    def judge(self, result: Any) -> Verdict:
        """Compare a result; finite inputs are assumed, so NaN or infinity is an error without limit."""
        if self.values.size == 0:
            return Verdict(0.0, (), 0, prod(self.shape))
        share = self.apart(self.seen(result), self.values)
        at = int(np.argmax(share))
        worst = np.unravel_index(at, share.shape) if self.points is None else self.points[:, at]
        place = tuple(int(index) for index in worst)
        return Verdict(float(share.flat[at]), place, share.size, prod(self.shape))

    def apart(self, one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far two of what `seen` returns lie apart, as shares of what is allowed."""
        # infinite beside a bound that is next to nothing: an error without limit, and no news
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            share = np.abs(one - other) / self.allowed
        return np.where(np.isnan(share), np.inf, share)


def expected(
    problem: ConvProblem,
    a: Any,
    b: Any,
    *,
    bias: Any = None,
    residual: Any = None,
    points: NDArray[np.intp] | None = None,
) -> Expected:
    """Ask the oracle: whole, or at sampled points above `WHOLE_UP_TO` multiply-adds.

    Parameters
    ----------
    problem : ConvProblem
        What is computed, `relu` included.
    a, b, bias, residual : array
        What goes in.
    points : (4, n) array of integers, optional
        What to look at in any case.
    """
    inputs: dict[str, Any] = {"a": a, "b": b, "bias": bias, "residual": residual}
    absolute = {name: None if array is None else np.abs(array) for name, array in inputs.items()}
    if points is None and problem.flops > 2 * WHOLE_UP_TO:
        points = reference.sample_points(problem)
    if points is None:
        ref = reference.evaluate(problem, **inputs)
        magnitude = reference.evaluate(problem, **absolute)
    else:
        ref = reference.evaluate_at(problem, points=points, **inputs)
        magnitude = reference.evaluate_at(problem, points=points, **absolute)
    allowed = bound(problem, ref, magnitude)
    values = np.maximum(ref, 0) if problem.relu else ref
    allowed_tf32 = None
    if problem.dtype == "f32" and problem.precision == "tf32":
        allowed_tf32 = allowed + (2 * TF32_ROUNDOFF + TF32_ROUNDOFF**2) * magnitude
    return Expected(problem.operand_shapes[2], values, allowed, points, allowed_tf32)


def judge(
    problem: ConvProblem, result: Any, a: Any, b: Any, *, bias: Any = None, residual: Any = None
) -> Verdict:
    """Compare one result with the oracle.

    Parameters
    ----------
    problem : ConvProblem
        What was computed, `relu` included.
    result : array
        What came out; finite inputs are assumed, so NaN or infinity is an error without limit.
    a, b, bias, residual : array
        What went in.
    """
    if result.shape != problem.operand_shapes[2]:
        raise ValueError(f"result has shape {result.shape}, {problem} gives {problem.operand_shapes[2]}")
    return expected(problem, a, b, bias=bias, residual=residual).judge(result)
