"""The engine of wgrad: the same patches as the forward pass, multiplied by the output's gradient.

The sum runs over all images and pixels. It is cut into `lanes` that are summed apart and then added in
order, so that the result does not depend on how many threads work at it.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from gpuconv.backend import blas, threads
from gpuconv.kernels.cpu import blocks
from gpuconv.kernels.cpu.blocks import Block, Scratch
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
        if p.groups > 1:
            parts = [(part, (0, self.inputs)) for part in blocks.cut(p.groups, -(-p.groups // splits))]
        else:
            parts = [((0, 1), part) for part in blocks.cut(self.inputs, -(-self.inputs // splits))]
        widest = max((b - a) * (d - c) for (a, b), (c, d) in parts)
        pixel_bytes = widest * p.R * p.S * self.dtype.itemsize
        together = max(1, p.N // lanes)
        boxes = blocks.boxes(p.N, self.pass_, pixel_bytes, block_bytes, together)
        ranges = blocks.cut(len(boxes), -(-len(boxes) // lanes)) if boxes else []
        self.lanes = len(ranges)
        self.work = [
            (lane, [Block(*box, *part) for box in boxes[first:last]])
            for lane, (first, last) in enumerate(ranges)
            for part in parts
        ]
        self.sizes = self._scratch_sizes()
        each = sum(self.sizes) * self.dtype.itemsize
        self.workers = blocks.workers(threads, len(self.work), each)
        self.workspace_bytes = self.workers * each + self.lanes * prod(p.w_shape) * self.dtype.itemsize

    def run(self, a: Any, b: Any, out: Any, bias: Any, residual: Any) -> None:
        """Compute (x, dy)→dw."""
        p = self.p
        if not self.work:
            out[...] = 0
            return
        source, grads = by_group(a, p.layout, p.groups), by_group(b, p.layout, p.groups)
        if self.channels_first:
            shape = (self.lanes, p.groups, self.outputs, self.inputs, p.R, p.S)
        else:
            shape = (self.lanes, p.groups, p.R, p.S, self.inputs, self.outputs)
        partial = np.empty(shape, self.dtype)
        scratch = [Scratch(self.sizes, self.dtype) for _ in range(self.workers)]

        def task(i: int, mine: Scratch) -> None:
            lane, lane_blocks = self.work[i]
            with np.errstate(all="ignore"):  # NaN and overflow are results here, not accidents
                for at, block in enumerate(lane_blocks):
                    self._block(block, source, grads, partial[lane], mine, add=at > 0)

        with blas.single_threaded():
            threads.run(task, len(self.work), scratch)
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
        patches = blocks.patches(self.pass_, block, seen, scratch, (_PATCHES, _SOURCE), self.channels_first)
        grad = grads[images, groups, :, slice(*block.rows), slice(*block.columns)]
        dy = (
            scratch.take(_GRADS, g, k, n, m, q)
            if self.channels_first
            else scratch.take(_GRADS, g, n, m, q, k)
        )
        order = (1, 2, 0, 3, 4) if self.channels_first else (1, 0, 3, 4, 2)
        dy[...] = grad.transpose(order)
        if self.channels_first:
            product = scratch.take(_PRODUCT, g, k, c * r * s)
            np.matmul(dy.reshape(g, k, n * m * q), patches.transpose(0, 2, 1), out=product)
            product, target = product.reshape(g, k, c, r, s), partial[groups, :, channels]
        else:
            product = scratch.take(_PRODUCT, g, r * s * c, k)
            np.matmul(patches.transpose(0, 2, 1), dy.reshape(g, n * m * q, k), out=product)
            product, target = product.reshape(g, r, s, c, k), partial[groups, :, :, channels]
        if add:
            np.add(target, product, out=target)
        else:
            target[...] = product

    def _scratch_sizes(self) -> tuple[int, int, int, int]:
        patches = product = source = grads = 0
        for _, lane_blocks in self.work:
            for block in lane_blocks:
                groups, inputs = block.groups[1] - block.groups[0], block.channels[1] - block.channels[0]
                depth = inputs * self.p.R * self.p.S
                patches = max(patches, groups * depth * block.pixels)
                product = max(product, groups * self.outputs * depth)
                grads = max(grads, groups * self.outputs * block.pixels)
                if self.p.dtype in ("f16", "bf16"):
                    box = blocks.touched_pixels(self.pass_, block.rows, block.columns)
                    source = max(source, groups * inputs * (block.images[1] - block.images[0]) * box)
        return patches, product, source, grads
