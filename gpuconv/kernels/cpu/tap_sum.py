"""The engine of depthwise convolution by taps: multiply a block of channels-last rows by each, and add.

NCHW problems are copied to channels-last a block at a time: where rows are short, vectors over channels are
longer.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from gpuconv.backend import threads
from gpuconv.kernels.cpu import blocks, epilogue, patches
from gpuconv.kernels.cpu.blocks import Block, Cut, Grid, Scratch, Work
from gpuconv.kernels.cpu.correlation import Correlation, by_group, covers, passes, taps_of
from gpuconv.layout import common_view
from gpuconv.problem import ConvProblem

_SUMS, _PRODUCTS, _SOURCE = range(3)


class TapSum:
    """fprop or dgrad of one depthwise problem, in blocks of about `block_bytes` of sums."""

    def __init__(self, p: ConvProblem, *, block_bytes: int, threads: int) -> None:
        self.p = p
        self.dtype = blocks.accumulator(p)
        self.copies = p.layout == "nchw" or p.dtype in ("f16", "bf16")
        self.passes = passes(p)
        self.whole = covers(p, self.passes)
        pixel_bytes, together = p.C * self.dtype.itemsize, max(1, p.N // blocks.ENOUGH_BLOCKS)
        self.work = Work(
            [
                Grid(*blocks.boxes(p.N, one, pixel_bytes, block_bytes, together), Cut(p.C, 1), Cut(1, 1))
                for one in self.passes
            ]
        )
        sums = source = 0
        for one, grid in zip(self.passes, self.work.grids, strict=True):
            sums = max(sums, p.C * grid.pixels)
            if self.copies:
                source = max(source, p.C * patches.box_cells(one, grid))
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
        if not self.whole:
            spread = None if bias is None else bias.reshape(p.groups, -1, 1, 1, 1)
            also = None if residual is None else by_group(residual, p.layout, p.groups)
            epilogue.fill(p, by_group(out, p.layout, p.groups), spread, also)
        source, result = self._channels_last(a), self._channels_last(out)
        residual = None if residual is None else self._channels_last(residual)

        def task(i: int, mine: Scratch) -> None:
            index, block = self.work[i]
            one, images = self.passes[index], slice(*block.images)
            cells = (images, one.rows.write, one.columns.write)
            part = (slice(None), slice(*block.rows), slice(*block.columns))
            with np.errstate(all="ignore"):  # NaN and overflow are results here, not accidents
                sums = self._sum(one, block, source[images], taps[index], mine)
                beside = None if residual is None else residual[cells][part]
                epilogue.finish(p, sums, bias, beside)
                result[cells][part] = sums

        threads.run(task, len(self.work), scratch)

    def _channels_last(self, array: Any) -> Any:
        return common_view(array, self.p.layout).transpose(0, 2, 3, 1)

    def _sum(self, one: Correlation, block: Block, source: Any, taps: Any, scratch: Scratch) -> Any:
        """Sum of a block over all taps, as (images, rows, columns, channels)."""
        rows, columns = block.rows, block.columns
        if self.copies and patches.copies_box(one, rows[1] - rows[0], columns[1] - columns[0]):
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
