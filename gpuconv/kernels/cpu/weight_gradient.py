"""The engine of wgrad: the same patches as the forward pass, multiplied by the output's gradient.

The sum runs over all images and pixels. It is cut into `lanes` that are summed apart and then added in
order, so that the result does not depend on how many threads work at it.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from gpuconv.backend import blas, threads
from gpuconv.kernels.cpu import blocks, patches, products
from gpuconv.kernels.cpu.blocks import Block, Cut, Grid, Range, Scratch, length
from gpuconv.kernels.cpu.correlation import by_group, forward
from gpuconv.kernels.cpu.products import LongSum
from gpuconv.layout import common_view
from gpuconv.problem import ConvProblem

_PATCHES, _PRODUCT, _SOURCE, _GRADS, _INNER = range(5)


class WeightGradient:
    """wgrad of one problem, cut into blocks of about `block_bytes`, `splits` channel parts and `lanes`."""

    def __init__(self, p: ConvProblem, *, block_bytes: int, splits: int, lanes: int, threads: int) -> None:
        self.p = p
        self.dtype = blocks.accumulator(p)
        self.channels_first = p.layout == "nchw"
        self.inputs, self.outputs = p.C // p.groups, p.K // p.groups
        self.pass_ = forward(p)
        groups, channels = Cut(p.groups, 1), Cut(self.inputs, 1)
        if p.groups > 1:
            groups = blocks.cut(p.groups, -(-p.groups // splits))
        else:
            channels = blocks.cut(self.inputs, -(-self.inputs // splits))
        pixel_bytes = groups.longest * channels.longest * p.R * p.S * self.dtype.itemsize
        boxes = blocks.boxes(p.N, self.pass_, pixel_bytes, block_bytes, max(1, p.N // lanes))
        self.grid = Grid(*boxes, groups, channels)
        self.lanes = blocks.cut(self.grid.boxes, -(-self.grid.boxes // lanes))
        self.tasks = self.lanes.pieces * self.grid.parts
        #: products that a block is summed from, at most
        self.pieces = -(-self.grid.pixels // products.SHORT)
        self.sizes = self._scratch_sizes()
        each = sum(self.sizes) * self.dtype.itemsize
        self.workers = blocks.workers(threads, self.tasks, each)
        self.workspace_bytes = self.workers * each + self.lanes.pieces * prod(p.w_shape) * self.dtype.itemsize

    @property
    def cuts(self) -> tuple[Grid, Cut]:
        """How the work is cut, and with it everything about this engine."""
        return self.grid, self.lanes

    def run(self, a: Any, b: Any, out: Any, bias: Any, residual: Any) -> None:
        """Compute (x, dy)→dw."""
        p = self.p
        if not self.tasks:
            out[...] = 0
            return
        source, grads = by_group(a, p.layout, p.groups), by_group(b, p.layout, p.groups)
        if self.channels_first:
            shape = (self.lanes.pieces, p.groups, self.outputs, self.inputs, p.R, p.S)
        else:
            shape = (self.lanes.pieces, p.groups, p.R, p.S, self.inputs, self.outputs)
        partial = np.empty(shape, self.dtype)
        scratch = [Scratch(self.sizes, self.dtype) for _ in range(self.workers)]

        def task(i: int, mine: Scratch) -> None:
            lane, part = divmod(i, self.grid.parts)
            with np.errstate(all="ignore"):  # NaN and overflow are results here, not accidents
                self._lane(self.lanes[lane], part, source, grads, partial[lane], mine)

        with blas.single_threaded():
            threads.run(task, self.tasks, scratch)
        with np.errstate(all="ignore"):
            total = partial[0]
            for lane in partial[1:]:
                np.add(total, lane, out=total)
            if not self.channels_first:
                total = total.transpose(0, 4, 3, 1, 2)
            target = common_view(out, p.weights)
            target.reshape(total.shape)[...] = total

    def _lane(self, boxes: Range, part: int, source: Any, grads: Any, partial: Any, scratch: Scratch) -> None:
        """Sum one part of the channels over a range of boxes."""
        any_block = self.grid[part]
        groups, channels = slice(*any_block.groups), slice(*any_block.channels)
        target = partial[groups, :, channels] if self.channels_first else partial[groups, :, :, channels]
        total = LongSum(target, lambda: scratch.take(_INNER, *target.shape), length(boxes) * self.pieces)
        for box in range(*boxes):
            self._block(self.grid[box * self.grid.parts + part], source, grads, target.shape, total, scratch)
        total.close()

    def _block(
        self,
        block: Block,
        source: Any,
        grads: Any,
        shape: tuple[int, ...],
        total: LongSum,
        scratch: Scratch,
    ) -> None:
        """Add what one block gives."""
        images, groups = slice(*block.images), slice(*block.groups)
        g, n, m, q = (length(of) for of in (block.groups, block.images, block.rows, block.columns))
        k, pixels, k_first = self.outputs, n * m * q, self.channels_first
        seen = source[images, groups, slice(*block.channels)]
        seen = patches.patches(self.pass_, block, seen, scratch, (_PATCHES, _SOURCE), k_first)
        seen = seen.transpose(0, 2, 1)
        grad = grads[images, groups, :, slice(*block.rows), slice(*block.columns)]
        product = scratch.take(_PRODUCT, *shape)
        if k_first:
            dy = scratch.take(_GRADS, g, k, n, m, q)
            dy[...] = grad.transpose(1, 2, 0, 3, 4)
            left, right, matrix = dy.reshape(g, k, pixels), seen, product.reshape(g, k, -1)
        else:
            dy = scratch.take(_GRADS, g, n, m, q, k)
            dy[...] = grad.transpose(1, 0, 3, 4, 2)
            left, right, matrix = seen, dy.reshape(g, pixels, k), product.reshape(g, -1, k)
        for start, stop in products.pieces(matrix.shape[1], matrix.shape[2], pixels):
            np.matmul(left[..., start:stop], right[:, start:stop], out=matrix)
            total.add(product)

    def _scratch_sizes(self) -> tuple[int, int, int, int, int]:
        grid, groups, inputs = self.grid, self.grid.groups.longest, self.grid.channels.longest
        depth = groups * inputs * self.p.R * self.p.S
        product = depth * self.outputs
        half = self.p.dtype in ("f16", "bf16")
        source = groups * inputs * patches.box_cells(self.pass_, grid) if half else 0
        inner = product if self.lanes.longest * self.pieces > products.FEW else 0
        return depth * grid.pixels, product, source, groups * self.outputs * grid.pixels, inner
