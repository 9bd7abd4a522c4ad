"""The engine of channels-last depthwise convolution: for each tap, multiply a block of rows and add it."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from gpuconv.backend import threads
from gpuconv.kernels.cpu import blocks, epilogue, patches
from gpuconv.kernels.cpu.blocks import Cut, Grid, Range, Scratch, Work
from gpuconv.kernels.cpu.correlation import Correlation, by_group, covers, passes, taps_of
from gpuconv.problem import ConvProblem

_SUMS, _PRODUCTS, _SOURCE = range(3)


class TapSum:
    """fprop or dgrad of one channels-last depthwise problem, in blocks of about `block_bytes` of sums."""

    def __init__(self, p: ConvProblem, *, block_bytes: int, threads: int) -> None:
        self.p = p
        self.dtype = blocks.accumulator(p)
        self.passes = passes(p)
        self.whole = covers(p, self.passes)
        together = max(1, p.N // blocks.ENOUGH_BLOCKS)
        pixel_bytes = p.C * self.dtype.itemsize
        self.work = Work(
            [
                Grid(*blocks.boxes(p.N, one, pixel_bytes, block_bytes, together), Cut(p.groups, 1), Cut(1, 1))
                for one in self.passes
            ]
        )
        sums = source = 0
        for one, grid in zip(self.passes, self.work.grids, strict=True):
            sums = max(sums, p.C * grid.pixels)
            source = max(source, p.C * patches.box_cells(one, grid, p.dtype))
        self.sizes = (sums, sums, source)
        each = sum(self.sizes) * self.dtype.itemsize
        self.workers = blocks.workers(threads, len(self.work), each)
        self.workspace_bytes = self.workers * each + prod(p.w_shape) * self.dtype.itemsize

    def run(self, a: Any, b: Any, out: Any, bias: Any, residual: Any) -> None:
        """Compute (x, w)→y or (dy, w)→dx."""
        p = self.p
        if out.size == 0:
            return
        taps = [
            np.ascontiguousarray(taps_of(p, one, b)[:, 0, 0].transpose(1, 2, 0), self.dtype)
            for one in self.passes
        ]
        bias = None if bias is None else bias.astype(self.dtype)
        scratch = [Scratch(self.sizes, self.dtype) for _ in range(self.workers)]

        def task(i: int, mine: Scratch) -> None:
            index, block = self.work[i]
            one, images, rows, columns = self.passes[index], block.images, block.rows, block.columns
            with np.errstate(all="ignore"):  # NaN and overflow are results here, not accidents
                sums = self._sum(one, rows, columns, a[slice(*images)], taps[index], mine)
                cells = (slice(*images), one.rows.write, one.columns.write)
                part = (slice(None), slice(*rows), slice(*columns))
                epilogue.finish(p, sums, bias, None if residual is None else residual[cells][part])
                out[cells][part] = sums

        if not self.whole:
            spread = None if bias is None else bias.reshape(p.groups, -1, 1, 1, 1)
            also = None if residual is None else by_group(residual, p.layout, p.groups)
            epilogue.fill(p, by_group(out, p.layout, p.groups), spread, also)
        threads.run(task, len(self.work), scratch)

    def _sum(
        self, one: Correlation, rows: Range, columns: Range, source: Any, taps: Any, scratch: Scratch
    ) -> Any:
        """Sum of a block over all taps, as (images, rows, columns, channels)."""
        if patches.converts_box(one, source.dtype, rows[1] - rows[0], columns[1] - columns[0]):
            high, wide, one = patches.touched(one, rows, columns)
            seen = source[:, high, wide]
            source = scratch.take(_SOURCE, *seen.shape)
            source[...] = seen
        images, channels = source.shape[0], source.shape[3]
        sums = scratch.take(_SUMS, images, rows[1] - rows[0], columns[1] - columns[0], channels)
        sums[...] = 0
        down, along = one.rows.stride, one.columns.stride
        for r in range(one.rows.taps):
            top, bottom, y = one.rows.inside(r, *rows)
            for s in range(one.columns.taps):
                left, right, x = one.columns.inside(s, *columns)
                height, width = bottom - top, right - left
                if not height or not width:
                    continue
                seen = source[
                    :, y : y + (height - 1) * down + 1 : down, x : x + (width - 1) * along + 1 : along
                ]
                product = np.multiply(
                    seen, taps[r, s], out=scratch.take(_PRODUCTS, *seen.shape), dtype=self.dtype
                )
                part = sums[:, top - rows[0] : bottom - rows[0], left - columns[0] : right - columns[0]]
                np.add(part, product, out=part)
        return sums
