"""The engine of fprop and dgrad: gather a block's patches, multiply by the weights, finish, store."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np

from gpuconv.backend import blas, threads
from gpuconv.kernels.cpu import blocks, epilogue, patches, products
from gpuconv.kernels.cpu.blocks import Block, Cut, Grid, Scratch, Work
from gpuconv.kernels.cpu.correlation import Correlation, by_group, covers, passes, taps_of
from gpuconv.problem import ConvProblem

_PATCHES, _SUMS, _SOURCE, _SPARE, _INNER = range(5)


@dataclass(frozen=True, slots=True)
class _Call:
    """The arrays of one run, activations as (images, groups, channels, height, width)."""

    source: Any
    matrices: list[Any]
    result: Any
    straight: Any  # the output itself where products may be written into it, else None
    bias: Any
    residual: Any


class PatchProduct:
    """fprop or dgrad of one problem, cut into blocks of about `block_bytes` and `splits` parts.

    In NCHW a group's product is weights (channels, depth) × patches (depth, pixels); in NHWC it is patches
    (pixels, depth) × weights (depth, channels). Either way the result has the layout of the output, and is
    written straight into it when that is contiguous and of the accumulator's type.
    """

    def __init__(self, p: ConvProblem, *, block_bytes: int, splits: int, threads: int) -> None:
        self.p = p
        self.dtype = blocks.accumulator(p)
        self.channels_first = p.layout == "nchw"
        # the order of the depth in which most weights need no copy, or one in long runs
        self.taps_first = not self.channels_first or p.op == "dgrad" or p.weights != "oihw"
        self.inputs, self.outputs = p.C // p.groups, p.K // p.groups
        self.height, self.width = p.P, p.Q
        if p.op == "dgrad":
            self.inputs, self.outputs = self.outputs, self.inputs
            self.height, self.width = p.H, p.W
        self.passes = passes(p)
        self.whole = covers(p, self.passes)
        self.work = Work([self._grid(one, block_bytes, splits) for one in self.passes])
        self.sizes = self._scratch_sizes()
        each = sum(self.sizes) * self.dtype.itemsize
        self.workers = blocks.workers(threads, len(self.work), each)
        # the weights may have to be reordered or converted once, for all passes together
        self.workspace_bytes = self.workers * each + prod(p.w_shape) * self.dtype.itemsize

    @property
    def cuts(self) -> tuple[Grid, ...]:
        """How the work is cut, and with it everything about this engine."""
        return self.work.grids

    def run(self, a: Any, b: Any, out: Any, bias: Any, residual: Any) -> None:
        """Compute (x, w)→y or (dy, w)→dx."""
        p = self.p
        if out.size == 0:
            return
        call = _Call(
            source=by_group(a, p.layout, p.groups),
            matrices=[self._matrix(one, b) for one in self.passes],
            result=by_group(out, p.layout, p.groups),
            straight=out
            if epilogue.plain(out, self.dtype) and len(self.passes) == 1 and self.whole
            else None,
            bias=None if bias is None else bias.astype(self.dtype).reshape(p.groups, -1, 1, 1, 1),
            residual=None if residual is None else by_group(residual, p.layout, p.groups),
        )
        scratch = [Scratch(self.sizes, self.dtype) for _ in range(self.workers)]

        def task(i: int, mine: Scratch) -> None:
            index, block = self.work[i]
            with np.errstate(all="ignore"):  # NaN and overflow are results here, not accidents
                self._block(call, index, block, mine)

        if not self.whole:
            epilogue.fill(p, call.result, call.bias, call.residual)
        with blas.single_threaded():
            threads.run(task, len(self.work), scratch)

    def _block(self, call: _Call, index: int, block: Block, scratch: Scratch) -> None:
        one, matrix = self.passes[index], call.matrices[index]
        images, groups, channels = slice(*block.images), slice(*block.groups), slice(*block.channels)
        # all parts of the channels see the same, and follow each other
        seen_from = index, block.images, block.rows, block.columns, block.groups
        if scratch.kept is None or scratch.kept[0] != seen_from:
            seen = call.source[images, groups]
            order = self.channels_first, self.taps_first
            found = patches.patches(one, block, seen, scratch, (_PATCHES, _SOURCE), *order)
            scratch.kept = seen_from, found
        seen_by_pixel = scratch.kept[1]
        count, width = block.groups[1] - block.groups[0], block.channels[1] - block.channels[0]
        sums = None if call.straight is None else self._place(block, call.straight)
        written = sums is not None
        if self.channels_first:
            if sums is None:
                sums = scratch.take(_SUMS, count, width, block.pixels)
            a, b = matrix[groups, channels], seen_by_pixel
        else:
            if sums is None:
                sums = scratch.take(_SUMS, count, block.pixels, width)
            a, b = seen_by_pixel, matrix[groups, :, channels]
        spare, inner = (partial(scratch.take, which, *sums.shape) for which in (_SPARE, _INNER))
        products.multiply(a, b, sums, spare, inner)
        if not self.channels_first:
            sums = sums.transpose(0, 2, 1)
        target = epilogue.cells(call.result, one, block)
        values = target if written else sums.reshape(target.shape)
        if call.bias is not None or call.residual is not None or self.p.relu:
            bias = None if call.bias is None else call.bias[groups, channels]
            residual = None if call.residual is None else epilogue.cells(call.residual, one, block)
            epilogue.finish(self.p, values, bias, residual)
        if not written:
            target[...] = values

    def _matrix(self, one: Correlation, w: Any) -> Any:
        """The weights of one pass: (groups, channels, depth) or (groups, depth, channels)."""
        taps = taps_of(self.p, one, w)
        groups, outputs, inputs, r, s = taps.shape
        shape: tuple[int, ...] = (groups, outputs, inputs * r * s)
        if self.taps_first:
            taps, shape = taps.transpose(0, 3, 4, 2, 1), (groups, r * s * inputs, outputs)
        matrix = taps.reshape(shape) if taps.dtype == self.dtype else None
        if matrix is None or not patches.multipliable(matrix):
            matrix = np.array(taps, self.dtype, order="C").reshape(shape)
        return matrix.transpose(0, 2, 1) if self.taps_first and self.channels_first else matrix

    def _place(self, block: Block, out: Any) -> Any:
        """The block's part of a contiguous output, shaped as the product, or None if it is no matrix."""
        n, i, j = block.images[0], block.rows[0], block.columns[0]
        pixels, groups, channels = self.height * self.width, slice(*block.groups), slice(*block.channels)
        first = i * self.width + j
        if self.channels_first:
            if block.images[1] - n > 1:
                return None
            rows = out.reshape(self.p.N, self.p.groups, self.outputs, pixels)
            return rows[n, groups, channels, first : first + block.pixels]
        first += n * pixels
        rows = out.reshape(self.p.N * pixels, self.p.groups, self.outputs)
        return rows[first : first + block.pixels, groups, channels].transpose(1, 0, 2)

    def _grid(self, one: Correlation, block_bytes: int, splits: int) -> Grid:
        groups, channels = Cut(self.p.groups, 1), Cut(self.outputs, 1)
        if self.p.groups > 1:
            groups = blocks.cut(self.p.groups, -(-self.p.groups // splits))
        else:
            channels = blocks.cut(self.outputs, -(-self.outputs // splits))
        pixel_bytes = groups.longest * self._depth(one) * self.dtype.itemsize
        boxes = blocks.boxes(self.p.N, one, pixel_bytes, block_bytes, self._images_together(one))
        return Grid(*boxes, groups, channels)

    def _depth(self, one: Correlation) -> int:
        return self.inputs * one.rows.taps * one.columns.taps

    def _images_together(self, one: Correlation) -> int:
        """In NCHW, images in one product cost a copy of their results: done only for small images."""
        share = max(1, self.p.N // blocks.ENOUGH_BLOCKS)
        if not self.channels_first:
            return share
        return max(1, min(share, 256 // (one.rows.outputs * one.columns.outputs)))

    def _scratch_sizes(self) -> tuple[int, int, int, int, int]:
        patch = sums = source = spare = inner = 0
        for one, grid in zip(self.passes, self.work.grids, strict=True):
            groups = grid.groups.longest
            patch = max(patch, groups * self._depth(one) * grid.pixels)
            block = groups * grid.channels.longest * grid.pixels
            sums = max(sums, block)
            # a block at an edge is smaller, and the smaller the shorter its pieces
            if self._depth(one) > products.SHORT:
                spare = max(spare, block)
            if self._depth(one) > products.SHORT * products.FEW:
                inner = max(inner, block)
            if self.p.dtype in ("f16", "bf16"):
                source = max(source, groups * self.inputs * patches.box_cells(one, grid))
        return patch, sums, source, spare, inner
