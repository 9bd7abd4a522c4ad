"""The engine of separable convolution: along the rows, then along the columns, in float64.

Both passes are products with a banded matrix of `band` outputs, over overlapping views of a box of the source
(along the rows x·T, along the columns T·x). Nothing is copied but the box. Zeros beside the bands would
spread NaN and infinity, so boxes that hold any are computed directly.

Filters count as separable where factors give every tap with an error of at most half of what the bound allows
for it, so that Σ|x||w − u·v| ≤ ½·u_acc·(8 + 4·√K)·Σ|x||w| whatever the data; float64's own roundoff is far
below the other half. Integer filters count only if integer factors give them exactly: then integer sums
are exact as well.
"""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import Any, Final

import numpy as np
from numpy.lib.stride_tricks import as_strided

from gpuconv.backend import blas, threads
from gpuconv.backend.device import Device
from gpuconv.kernels.cpu import blocks, boxes, epilogue
from gpuconv.kernels.cpu.blocks import Block, Cut, Grid
from gpuconv.kernels.cpu.boxes import Pass
from gpuconv.kernels.cpu.correlation import by_group, covers, passes, taps_of
from gpuconv.plan import Run
from gpuconv.problem import ConvProblem
from gpuconv.validate.tolerance import UNIT_ROUNDOFF

#: Integers up to here, and products of two of them that are no larger, are exact in float64.
_EXACT: Final = 2.0**53

Factors = tuple[Any, Any]


def factors(taps: Any, allowed: float) -> Factors | None:
    """Factors u, v of one filter with |w − u·v| ≤ allowed·|w| for each tap, exact for integers, or None.

    Parameters
    ----------
    taps : array of float64 (rows, columns)
    """
    row, column = np.unravel_index(int(np.argmax(np.abs(taps))), taps.shape)
    peak = float(taps[row, column])
    if not np.isfinite(peak):
        return None
    if peak == 0:
        return np.zeros(taps.shape[0]), np.zeros(taps.shape[1])
    v = taps[row]
    if np.all(np.rint(taps) == taps):
        if abs(peak) >= _EXACT:
            return None
        # every row of integers is a whole multiple of the primitive one
        v = v / float(np.gcd.reduce(np.abs(v).astype(np.int64)))
        allowed = 0
    u = taps[:, column] / v[column]
    return (u, v) if np.all(np.abs(np.outer(u, v) - taps) <= allowed * np.abs(taps)) else None


class RankOne:
    """fprop or dgrad at stride 1 of one channel in and out for each group; `usual` for other filters."""

    def __init__(self, p: ConvProblem, *, band: int, box: int, device: Device, usual: Run) -> None:
        self.p, self.usual = p, usual
        (self.one,) = passes(p)
        rows, columns = self.one.rows, self.one.columns
        self.bands = min(band, rows.outputs), min(band, columns.outputs)
        counts = [
            max(1, min(box, axis.outputs) // each)
            for axis, each in zip((rows, columns), self.bands, strict=True)
        ]
        self.outputs = counts[0] * self.bands[0], counts[1] * self.bands[1]
        self.size = self.outputs[0] + rows.taps - 1, self.outputs[1] + columns.taps - 1
        self.grid = Grid(
            blocks.cut(p.N, 1),
            blocks.cut(rows.outputs, self.outputs[0]),
            blocks.cut(columns.outputs, self.outputs[1]),
            blocks.cut(p.groups, 1),
            Cut(1, 1),
        )
        self.alone = replace(device, threads=1)
        self.allowed = UNIT_ROUNDOFF["f32"] * (8 + 4 * sqrt(p.gemm_mnk[2])) / 2
        each = 8 * (self.size[0] * self.size[1] + (self.size[0] + self.outputs[0]) * self.outputs[1])
        each += boxes.direct_bytes(p, self.one, self.grid, (1, 1), self.alone)
        self.workers = blocks.workers(device.threads, len(self.grid), each)
        bands = sum(each * (each + axis.taps) for each, axis in zip(self.bands, (rows, columns), strict=True))
        kept = p.groups * (bands + 8 * (rows.taps + columns.taps)) + 8 * rows.taps * columns.taps
        self.workspace_bytes = self.workers * each + 8 * kept

    def run(self, a: Any, b: Any, out: Any, bias: Any, residual: Any) -> None:
        """Compute (x, w)→y or (dy, w)→dx."""
        p = self.p
        if out.size == 0:
            return None
        taps, found = taps_of(p, self.one, b), []
        for group in range(p.groups):
            pair = factors(taps[group, 0, 0].astype(np.float64), self.allowed)
            if pair is None:
                return self.usual(a, b, out, bias, residual)
            found.append((_banded(pair[0], self.bands[0]), _banded(pair[1], self.bands[1]).T))
        of = Pass(
            one=self.one,
            source=by_group(a, p.layout, p.groups),
            result=by_group(out, p.layout, p.groups),
            taps=taps,
            bias=None if bias is None else bias.reshape(p.groups, -1, 1, 1, 1),
            residual=None if residual is None else by_group(residual, p.layout, p.groups),
        )
        if not covers(p, (self.one,)):
            wide = None if of.bias is None else of.bias.astype(blocks.accumulator(p))
            epilogue.fill(p, of.result, wide, of.residual)

        def task(i: int, room: tuple[Any, Any, Any]) -> None:
            with np.errstate(all="ignore"):  # NaN and overflow are results here, not accidents
                self._box(of, self.grid[i], found, room)

        shapes = self.size, (self.size[0], self.outputs[1]), self.outputs
        rooms = [(np.empty(shapes[0]), np.empty(shapes[1]), np.empty(shapes[2])) for _ in range(self.workers)]
        with blas.single_threaded():
            threads.run(task, len(self.grid), rooms)
        return None

    def _box(self, of: Pass, block: Block, bands: list[Factors], room: tuple[Any, Any, Any]) -> None:
        box, middle, values = room
        boxes.load(of, block, 0, box)
        line = box.reshape(-1)
        if not np.isfinite(np.dot(line, line)):
            return boxes.directly(self.p, of, block, self.alone)
        down, along = bands[block.groups[0]]
        high, wide = self.bands
        by_row, by_column = box.strides
        windows = as_strided(
            box,
            (self.outputs[1] // wide, self.size[0], along.shape[0]),
            (wide * by_column, by_row, by_column),
            writeable=False,
        )
        np.matmul(windows, along, out=middle.reshape(self.size[0], -1, wide).transpose(1, 0, 2))
        by_row = middle.strides[0]
        windows = as_strided(
            middle,
            (self.outputs[0] // high, down.shape[1], self.outputs[1]),
            (high * by_row, by_row, by_column),
            writeable=False,
        )
        np.matmul(down, windows, out=values.reshape(-1, high, self.outputs[1]))
        kept = values[: blocks.length(block.rows), : blocks.length(block.columns)]
        boxes.store(self.p, of, block, kept[None, None, None])
        return None


def _banded(taps: Any, band: int) -> Any:
    """Matrix (band, band + taps − 1) with the taps on its band."""
    matrix = np.zeros((band, band + len(taps) - 1))
    down, along = matrix.strides
    as_strided(matrix, (band, len(taps)), (down + along, along))[...] = taps
    return matrix
