"""Patches of images laid out side by side, and the sum of such patches back into images, with NumPy.

A problem stands for the geometry: its filters' size is the patches', its output says where patches lie, and
it has one filter, which nobody reads.
"""

from __future__ import annotations

from itertools import product
from math import gcd, prod
from typing import Any, Final

import numpy as np

from gpuconv.backend import threads
from gpuconv.backend.device import Device
from gpuconv.kernels.cpu.blocks import Block, Cut, Range, accumulator, cut, length
from gpuconv.kernels.cpu.correlation import Axis, Correlation, by_group, forward
from gpuconv.kernels.cpu.patches import gather
from gpuconv.kernels.cuda.direct_tiles import SHORT_SUM
from gpuconv.layout import common_view
from gpuconv.problem import ConvProblem

#: Cells of one block: few enough to stay in a cache over all taps.
_BLOCK: Final = 2**16


def split_view(p: ConvProblem, cols: Any) -> Any:
    """View patches as (N, C, R, S, P, Q)."""
    # splitting axes is always a view
    if p.layout == "nchw":
        return np.reshape(cols, (p.N, p.C, p.R, p.S, p.P, p.Q))
    return np.reshape(cols, (p.N, p.P, p.Q, p.R, p.S, p.C)).transpose(0, 5, 3, 4, 1, 2)


def unfold(p: ConvProblem, x: Any, cols: Any, device: Device) -> None:
    """Copy every patch of `x` into `cols`, bit by bit; zeros where a patch lies on the padding."""
    one = forward(p)
    source, target = by_group(x, p.layout, 1), split_view(p, cols)
    rows = cut(p.P, max(1, _BLOCK // (p.C * p.R * p.S * p.Q)))

    def task(i: int, _: None) -> None:
        n, part = divmod(i, rows.pieces)
        y = rows[part]
        block = Block((n, n + 1), y, (0, p.Q), (0, 1), (0, p.C))
        columns = target[n : n + 1, :, :, :, y[0] : y[1]].transpose(1, 2, 3, 0, 4, 5)
        gather(source[n : n + 1], one, block, columns[None])

    threads.run(task, p.N * rows.pieces, [None] * device.threads)


def fold(p: ConvProblem, cols: Any, x: Any, device: Device) -> None:
    """Sum into each cell of `x` what the patches have there, in the accumulator's type.

    Tap after tap; where more of them meet than a plain sum may have, each half of the taps apart, and so on.
    """
    one = forward(p)
    source, target = split_view(p, cols), common_view(x, p.layout)
    kind = accumulator(p)
    sizes = dict(zip("nchw", target.shape, strict=True))
    room, steps = _BLOCK, {}
    for axis in reversed(p.layout[1:]):  # whole rows of memory before parts of several
        steps[axis] = min(sizes[axis], max(1, room))
        room //= steps[axis]
    cuts: list[Cut] = [cut(sizes[axis], steps[axis]) for axis in "chw"]
    parts = tuple(one_cut.pieces for one_cut in cuts)

    def task(i: int, _: None) -> None:
        n, rest = divmod(i, prod(parts))
        rest, k = divmod(rest, parts[2])
        channel, j = divmod(rest, parts[1])
        c, h, w = cuts[0][channel], cuts[1][j], cuts[2][k]
        sums = np.zeros((length(c), length(h), length(w)), kind)
        with np.errstate(all="ignore"):  # NaN and overflow are results here, not accidents
            _add(source[n, slice(*c)], one, (h, w), ((0, p.R), (0, p.S)), sums)
            target[n, slice(*c), slice(*h), slice(*w)] = sums

    threads.run(task, p.N * prod(parts), [None] * device.threads)


def _add(
    patches: Any, one: Correlation, cells: tuple[Range, Range], taps: tuple[Range, Range], sums: Any
) -> None:
    """Add what a range of taps has at some cells, which are zero before: (C, R, S, P, Q) to (C, H, W)."""
    rows, columns = taps
    meeting = _meeting(one.rows, rows), _meeting(one.columns, columns)
    if prod(meeting) > SHORT_SUM:
        rest = np.zeros_like(sums)
        for half, into in zip(_halves(rows, columns, across=meeting[0] > 1), (sums, rest), strict=True):
            _add(patches, one, cells, half, into)
        sums += rest
        return
    down, along = one.rows.stride, one.columns.stride
    for r, s in product(range(*rows), range(*columns)):
        (top, bottom, y), (left, right, x) = _seen(one.rows, r, cells[0]), _seen(one.columns, s, cells[1])
        if top < bottom and left < right:
            a, b = y - cells[0][0], x - cells[1][0]
            sums[
                :,
                a : a + (bottom - top - 1) * down + 1 : down,
                b : b + (right - left - 1) * along + 1 : along,
            ] += patches[:, r, s, top:bottom, left:right]


def _halves(rows: Range, columns: Range, *, across: bool) -> tuple[tuple[Range, Range], ...]:
    """Both halves of a range of taps, cut across its rows or else across its columns."""
    start, stop = rows if across else columns
    cuts = (start, (start + stop) // 2), ((start + stop) // 2, stop)
    return tuple((one, columns) if across else (rows, one) for one in cuts)


def _meeting(axis: Axis, taps: Range) -> int:
    """How many of these taps meet in one cell, at most: those that lie a stride apart, or some strides."""
    return -(-length(taps) // (axis.stride // gcd(axis.stride, axis.dilation)))


def _seen(axis: Axis, tap: int, cells: Range) -> tuple[int, int, int]:
    """The range of patches whose tap lies on some of `cells`, and the first such cell."""
    base = tap * axis.dilation + axis.offset
    low = max(0, -(-(cells[0] - base) // axis.stride))
    high = min(axis.outputs, (cells[1] - 1 - base) // axis.stride + 1)
    return low, max(low, high), low * axis.stride + base
