"""Random problems from a seed: small ones of every kind, awkward ones likelier than in real networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

import numpy as np

from gpuconv.arguments import LIMIT, PADDING_MODES, Padding, Pair
from gpuconv.layout import LAYOUTS, WEIGHTS
from gpuconv.problem import DTYPES, OPS, ConvProblem, Op

_KINDS: Final = ("dense", "wide", "grouped", "depthwise", "multiplier", "image")
#: Cells of a border beyond the size of the image, at most.
_WIDEST: Final = {"reflect": -1, "circular": 0}


def problems(
    count: int,
    seed: int,
    *,
    ops: Sequence[str] = OPS,
    dtypes: Sequence[str] = tuple(DTYPES),
    layouts: Sequence[str] = LAYOUTS,
) -> Iterator[ConvProblem]:
    """Draw problems: the same for the same arguments, and the first few the same for a larger `count`.

    Parameters
    ----------
    count : int
        How many.
    seed : int
        At least 0.
    ops, dtypes, layouts : sequence of str
        What to draw from.

    Examples
    --------
    >>> [str(p) for p in problems(2, 7)] == [str(p) for p in problems(3, 7)][:2]
    True
    """
    for number in range(count):
        yield _one(np.random.default_rng((seed, number)), ops, dtypes, layouts)


def _one(
    rng: np.random.Generator, ops: Sequence[str], dtypes: Sequence[str], layouts: Sequence[str]
) -> ConvProblem:
    def number(least: int, most: int) -> int:
        return int(rng.integers(least, most + 1))

    def one_of(options: Sequence[str]) -> str:
        return options[number(0, len(options) - 1)]

    def rarely(usual: int, most: int) -> int:
        return usual if rng.random() < 0.5 else number(usual, most)

    small = number(1, 4)
    groups, Cg, Kg = {
        "dense": (1, number(1, 9), number(1, 9)),
        "wide": (1, 8 * number(1, 8), 8 * number(1, 8)),
        "grouped": (small, number(1, 4), number(1, 4)),
        "depthwise": (number(2, 20), 1, 1),
        "multiplier": (small, 1, number(1, 4)),
        "image": (1, 1, 1),
    }[one_of(_KINDS)]
    N = 0 if rng.random() < 0.03 else number(1, 3)
    H, W = number(1, 20), number(1, 20)
    R, S = number(1, 5), number(1, 5)
    if rng.random() < 0.5:
        R = S = (1, 3)[number(0, 1)]
    stride, dilation = (rarely(1, 4), rarely(1, 4)), (rarely(1, 4), rarely(1, 4))
    padding = _padding(rng, (H, W), (R, S), dilation)
    op = one_of(ops)
    # gradients have no epilogue at the public door
    fused = op == "fprop" and rng.random() < 0.5
    bias, residual, relu = (fused and bool(rng.random() < 0.5) for _ in range(3))
    modes = [mode for mode in PADDING_MODES if _fits(padding, (H, W), mode)]
    mode: Any = "zeros" if rng.random() < 0.6 else one_of(modes)
    return ConvProblem(
        op=cast(Op, op), N=N, C=groups * Cg, H=H, W=W, K=groups * Kg, R=R, S=S,
        stride=stride, padding=padding, dilation=dilation, groups=groups,
        layout=one_of(layouts), weights=one_of(WEIGHTS), dtype=one_of(dtypes), padding_mode=mode,
        bias=bias, residual=residual, relu=relu,
    )  # fmt: skip


def _padding(rng: np.random.Generator, image: Pair, taps: Pair, dilation: Pair) -> Padding:
    """None, what keeps the size, or four sides of their own; more where the kernel would not fit."""
    kind = rng.random()
    sides = []
    for size, tap, step in zip(image, taps, dilation, strict=True):
        span = step * (tap - 1) + 1
        if kind < 0.4:
            before, after = (int(side) for side in rng.integers(0, 5, 2))
        else:
            before = after = span // 2 if kind < 0.7 else 0
        after += max(0, span - size - before - after)
        sides.append((before, after))
    return sides[0], sides[1]


def _fits(padding: Padding, image: Pair, mode: str) -> bool:
    widest = _WIDEST.get(mode, LIMIT)
    return all(max(pads) <= size + widest for size, pads in zip(image, padding, strict=True))
