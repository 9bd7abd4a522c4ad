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
from gpuconv.kernels.cpu.blocks import Block, Cut, Grid, Scratch
from gpuconv.kernels.cpu.correlation import by_group, forward
from gpuconv.layout import common_view
from gpuconv.problem import ConvProblem

_PATCHES, _PRODUCT, _SOURCE, _GRADS = range(4)


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
        self.sizes = self._scratch_sizes()
        each = sum(self.sizes) * self.dtype.itemsize
        self.workers = blocks.workers(threads, self.tasks, each)
        self.workspace_bytes = self.workers * each + self.lanes.pieces * prod(p.w_shape) * self.dtype.itemsize

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
            first, last = self.lanes[lane]
            with np.errstate(all="ignore"):  # NaN and overflow are results here, not accidents
                for box in range(first, last):
                    block = self.grid[box * self.grid.parts + part]
                    self._block(block, source, grads, partial[lane], mine, add=box > first)

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

    def _block(
        self, block: Block, source: Any, grads: Any, partial: Any, scratch: Scratch, *, add: bool
    ) -> None:
        images, groups = slice(*block.images), slice(*block.groups)
        g, c, n, m, q = (
            b - a for a, b in (block.groups, block.channels, block.images, block.rows, block.columns)
        )
        r, s, k = self.p.R, self.p.S, self.outputs
        channels = slice(*block.channels)
        seen = source[images, groups, channels]
        seen_by_pixel = patches.patches(
            self.pass_, block, seen, scratch, (_PATCHES, _SOURCE), self.channels_first
        )
        grad = grads[images, groups, :, slice(*block.rows), slice(*block.columns)]
        dy = (
            scratch.take(_GRADS, g, k, n, m, q)
            if self.channels_first
            else scratch.take(_GRADS, g, n, m, q, k)
        )
        order = (1, 2, 0, 3, 4) if self.channels_first else (1, 0, 3, 4, 2)
        dy[...] = grad.transpose(order)
        k_first = self.channels_first
        target = partial[groups, :, channels] if k_first else partial[groups, :, :, channels]
        shape = (g, k, c, r, s) if k_first else (g, r, s, c, k)
        product = scratch.take(_PRODUCT, *shape)
        matrix = product.reshape((g, k, c * r * s) if k_first else (g, r * s * c, k))
        dy = dy.reshape((g, k, n * m * q) if k_first else (g, n * m * q, k))
        left, right = (
            (dy, seen_by_pixel.transpose(0, 2, 1)) if k_first else (seen_by_pixel.transpose(0, 2, 1), dy)
        )
        for start, stop in products.pieces(matrix.shape[1], matrix.shape[2], n * m * q):
            np.matmul(left[..., start:stop], right[:, start:stop], out=matrix)
            if add:
                np.add(target, product, out=target)
            else:
                target[...] = product
            add = True

    def _scratch_sizes(self) -> tuple[int, int, int, int]:
        grid, groups, inputs = self.grid, self.grid.groups.longest, self.grid.channels.longest
        depth = groups * inputs * self.p.R * self.p.S
        half = self.p.dtype in ("f16", "bf16")
        source = groups * inputs * patches.box_cells(self.pass_, grid) if half else 0
        return depth * grid.pixels, depth * self.outputs, source, groups * self.outputs * grid.pixels
