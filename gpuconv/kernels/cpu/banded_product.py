"""The engine of depthwise convolution in rows: a banded matrix of taps times overlapping input rows.

A channel's input rows are laid out as Z[y, s, q]: for each row y the columns that tap s sees. The product
with a matrix T[b, (y, s)], which holds the taps of output row b on a band and zeros beside it, gives
`block_rows` output rows at once. Consecutive products read overlapping views of the same Z::

             y=0      y=1      y=2      y=3
    b=0   | w[0,:] | w[1,:] | w[2,:] |   0    |
    b=1   |   0    | w[0,:] | w[1,:] | w[2,:] |     3×3 taps, stride 1, block_rows=2

The zeros beside the band would carry NaN and infinity into rows that do not see them. A block whose sum is
not finite is therefore computed again, tap by tap.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from gpuconv.backend import blas, threads
from gpuconv.kernels.cpu import blocks, epilogue, patches, products
from gpuconv.kernels.cpu.blocks import Block, Cut, Grid, Scratch, Work
from gpuconv.kernels.cpu.correlation import Axis, Correlation, by_group, covers, passes, taps_of
from gpuconv.problem import ConvProblem

_ROWS, _SUMS, _SPARE, _INNER = range(4)


class BandedProduct:
    """fprop or dgrad with one input channel a group; `outputs` results of it."""

    def __init__(self, p: ConvProblem, *, block_rows: int, block_bytes: int, threads: int) -> None:
        self.p = p
        self.dtype = blocks.accumulator(p)
        self.outputs = p.K // p.groups if p.op == "fprop" else 1
        self.passes = passes(p)
        self.whole = covers(p, self.passes)
        self.bands = [min(block_rows, one.rows.outputs) for one in self.passes]
        self.work = Work(
            [self._grid(one, band, block_bytes) for one, band in zip(self.passes, self.bands, strict=True)]
        )
        laid = sums = 0
        for one, band, grid in zip(self.passes, self.bands, self.work.grids, strict=True):
            rows, cells = grid.rows.longest * band, grid.groups.longest * grid.columns.longest
            laid = max(laid, cells * _height(one, rows) * one.columns.taps)
            sums = max(sums, cells * rows * self.outputs)
        self.sizes = (laid, sums, sums, sums)
        each = sum(self.sizes) * self.dtype.itemsize
        self.workers = blocks.workers(threads, len(self.work), each)
        matrices = sum(
            p.groups * self.outputs * band * _height(one, band) * one.columns.taps
            for one, band in zip(self.passes, self.bands, strict=True)
        )
        self.workspace_bytes = self.workers * each + (matrices + prod(p.w_shape)) * self.dtype.itemsize

    def run(self, a: Any, b: Any, out: Any, bias: Any, residual: Any) -> None:
        """Compute (x, w)→y or (dy, w)→dx."""
        p = self.p
        if out.size == 0:
            return
        source, result = by_group(a, p.layout, p.groups), by_group(out, p.layout, p.groups)
        taps = [taps_of(p, one, b)[:, :, 0].astype(self.dtype) for one in self.passes]
        bands = [self._band(*parts) for parts in zip(self.passes, self.bands, taps, strict=True)]
        bias = None if bias is None else bias.astype(self.dtype).reshape(p.groups, -1, 1, 1, 1)
        residual = None if residual is None else by_group(residual, p.layout, p.groups)
        straight = epilogue.plain(out, self.dtype) and p.layout == "nchw"
        straight = straight and self.whole and len(self.passes) == 1

        def task(i: int, mine: Scratch) -> None:
            index, block = self.work[i]
            one = self.passes[index]
            # the grid counts whole products; the last one may reach beyond the result
            first, last = (edge * self.bands[index] for edge in block.rows)
            block = replace(block, rows=(first, min(last, one.rows.outputs)))
            with np.errstate(all="ignore"):  # NaN and overflow are results here, not accidents
                target = epilogue.cells(result, one, block)
                values = self._sum(index, block, source, bands[index], taps[index], target, straight, mine)
                beside = None if residual is None else epilogue.cells(residual, one, block)
                groups = slice(*block.groups)
                epilogue.finish(p, values, None if bias is None else bias[groups], beside)
                if values is not target:
                    target[...] = values

        scratch = [Scratch(self.sizes, self.dtype) for _ in range(self.workers)]
        if not self.whole:
            epilogue.fill(p, result, bias, residual)
        with blas.single_threaded():
            threads.run(task, len(self.work), scratch)

    def _sum(
        self,
        index: int,
        block: Block,
        source: Any,
        bands: Any,
        taps: Any,
        target: Any,
        straight: bool,
        scratch: Scratch,
    ) -> Any:
        """Sums of a block as (groups, outputs, 1, rows, columns): `target` itself where written in place."""
        one, band = self.passes[index], self.bands[index]
        groups, (first, last), (left, right) = slice(*block.groups), block.rows, block.columns
        count, height, width = block.groups[1] - block.groups[0], last - first, right - left
        each = self._products(block, band)
        tall, wide = _height(one, each * band), one.columns.taps
        laid = scratch.take(_ROWS, count, tall, wide, width)
        # Z is a gather whose only row tap walks over consecutive source rows
        offset = one.rows.offset + first * one.rows.stride
        every_row = Axis(tall, 1, 1, 1, offset, one.rows.size, slice(None), slice(None))
        whole = Block((0, 1), (0, tall), block.columns, block.groups, (0, 1))
        view = laid.transpose(0, 2, 1, 3)[:, None, None, :, None]
        seen = source[block.images[0] : block.images[1], groups]
        patches.gather(seen, Correlation(every_row, one.columns), whole, view)

        by_group_, by_row, by_tap, by_column = laid.strides
        depth = bands.shape[-1]
        windows = as_strided(
            laid,
            (count, 1, each, depth, width),
            (by_group_, 0, band * one.rows.stride * by_row, by_tap, by_column),
            writeable=False,
        )
        shape = (count, self.outputs, each, band, width)
        spare, inner = (partial(scratch.take, which, *shape) for which in (_SPARE, _INNER))
        if straight and height == each * band:
            values = target
            products.multiply(bands[groups], windows, target[:, :, 0].reshape(shape), spare, inner)
        else:
            sums = scratch.take(_SUMS, *shape)
            products.multiply(bands[groups], windows, sums, spare, inner)
            values = sums.reshape(count, self.outputs, 1, each * band, width)[:, :, :, :height]
        if not np.isfinite(np.add.reduce(values, axis=None)):
            self._tap_by_tap(one, laid, taps[groups], values, scratch)
        return values

    def _tap_by_tap(self, one: Correlation, laid: Any, taps: Any, values: Any, scratch: Scratch) -> None:
        """The same sums without a single product outside the taps."""
        height = values.shape[3]
        stride, dilation = one.rows.stride, one.rows.dilation
        shape = (values.shape[0], self.outputs, 1, height, values.shape[4])
        total = products.LongSum(
            values, partial(scratch.take, _INNER, *shape), one.rows.taps * one.columns.taps
        )
        for r in range(one.rows.taps):
            rows = laid[:, r * dilation : r * dilation + (height - 1) * stride + 1 : stride]
            for s in range(one.columns.taps):
                seen, tap = rows[:, None, None, :, s], taps[:, :, r, s, None, None, None]
                total.add(np.multiply(seen, tap, out=scratch.take(_SPARE, *shape)))
        total.close()

    def _band(self, one: Correlation, band: int, taps: Any) -> Any:
        """T for every output of every group, as (groups, outputs, 1, band, depth)."""
        groups, outputs, r, s = taps.shape
        matrix = np.zeros((groups, outputs, band, _height(one, band), s), self.dtype)
        by_group_, by_output, by_band, by_row, by_tap = matrix.strides
        diagonal = as_strided(
            matrix,
            (groups, outputs, band, r, s),
            (by_group_, by_output, by_band + one.rows.stride * by_row, one.rows.dilation * by_row, by_tap),
        )
        diagonal[...] = taps[:, :, None]
        return matrix.reshape(groups, outputs, 1, band, -1)

    def _grid(self, one: Correlation, band: int, block_bytes: int) -> Grid:
        """Cut images, groups, rows (in whole products), and columns where one product is too big."""
        line = one.columns.taps * self.dtype.itemsize * _height(one, band)
        columns = blocks.cut(one.columns.outputs, max(1, block_bytes // line))
        fitting = max(1, block_bytes // (line * columns.longest))  # products in one block
        tall = -(-one.rows.outputs // band)
        most = max(1, -(-self.p.groups * self.p.N // blocks.ENOUGH_BLOCKS))
        groups = blocks.cut(self.p.groups, min(max(1, fitting // tall), most))
        rows = blocks.cut(tall, fitting)
        return Grid(blocks.cut(self.p.N, 1), rows, columns, groups, Cut(self.outputs, 1))

    @staticmethod
    def _products(block: Block, band: int) -> int:
        return -(-(block.rows[1] - block.rows[0]) // band)


def _height(one: Correlation, outputs: int) -> int:
    """Source rows that consecutive outputs span."""
    return (outputs - 1) * one.rows.stride + (one.rows.taps - 1) * one.rows.dilation + 1
