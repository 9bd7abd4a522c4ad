"""Boxes of the source in float64, and outputs of one group computed directly where a box will not do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from gpuconv.backend.device import Device
from gpuconv.kernels.cpu import blocks, epilogue, patches
from gpuconv.kernels.cpu.blocks import Block, Grid, Range
from gpuconv.kernels.cpu.correlation import Axis, Correlation
from gpuconv.kernels.cpu.usual import direct_plan
from gpuconv.problem import ConvProblem


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass of one run: arrays as (images, groups, channels, height, width)."""

    one: Correlation
    source: Any
    result: Any
    taps: Any  # (groups, outputs, inputs, taps, taps)
    bias: Any  # (groups, outputs, 1, 1, 1) or None
    residual: Any


def load(of: Pass, block: Block, channel: int, box: Any) -> None:
    """Copy what a block of one group and image sees into `box`, with zeros beside it."""
    one = of.one
    rows, columns = (
        patches.source_range(one.rows, block.rows),
        patches.source_range(one.columns, block.columns),
    )
    box[...] = 0
    if blocks.length(rows) and blocks.length(columns):
        y = rows[0] - block.rows[0] * one.rows.stride - one.rows.offset
        x = columns[0] - block.columns[0] * one.columns.stride - one.columns.offset
        seen = of.source[block.images[0], block.groups[0], channel, slice(*rows), slice(*columns)]
        box[y : y + seen.shape[0], x : x + seen.shape[1]] = seen


def store(p: ConvProblem, of: Pass, block: Block, values: Any) -> None:
    """Finish float64 sums (1, 1, 1, rows, columns) of one channel in place and round them once."""
    group, channel = block.groups[0], block.channels[0]
    target = epilogue.cells(of.result, of.one, block)
    bias = None if of.bias is None else of.bias[group, channel].astype(values.dtype)
    residual = None if of.residual is None else epilogue.cells(of.residual, of.one, block)
    epilogue.finish(p, values, bias, residual)
    target[...] = values


def directly(p: ConvProblem, of: Pass, block: Block, alone: Device) -> None:
    """Compute outputs of one group and image as a small convolution of their own."""
    one, (image, _), (group, _) = of.one, block.images, block.groups
    target = epilogue.cells(of.result, one, block)[0][None, :, 0]
    residual = None if of.residual is None else epilogue.cells(of.residual, one, block)[0][None, :, 0]
    bias = None if of.bias is None else of.bias[group].reshape(-1)
    rows, columns = (
        patches.source_range(one.rows, block.rows),
        patches.source_range(one.columns, block.columns),
    )
    if not blocks.length(rows) or not blocks.length(columns):  # the padding alone
        wide = None if bias is None else bias.astype(blocks.accumulator(p)).reshape(1, -1, 1, 1, 1)
        also = None if residual is None else residual[:, None]
        return epilogue.fill(p, target[:, None], wide, also)
    seen = of.source[image, group][None, :, slice(*rows), slice(*columns)]
    part = _part(p, one, block.rows, block.columns, of.taps.shape[1:3])
    direct_plan(part, alone).run(seen, of.taps[group], target, bias, residual)
    return None


def direct_bytes(
    p: ConvProblem, one: Correlation, grid: Grid, channels: tuple[int, int], alone: Device
) -> int:
    """What `directly` may take for a block; one at an edge is smaller, but may be cut otherwise."""
    seen = [
        replace(axis, offset=0, size=(cut.longest - 1) * axis.stride + axis.taps)
        for axis, cut in ((one.rows, grid.rows), (one.columns, grid.columns))
    ]
    part = _part(p, Correlation(*seen), (0, grid.rows.longest), (0, grid.columns.longest), channels)
    return 2 * direct_plan(part, alone).workspace_bytes


def _part(
    p: ConvProblem, one: Correlation, rows: Range, columns: Range, channels: tuple[int, int]
) -> ConvProblem:
    """The problem of some outputs of one image and group."""
    (height, vertical), (width, horizontal) = _seen(one.rows, rows), _seen(one.columns, columns)
    outputs, inputs = channels
    return ConvProblem(
        op="fprop", N=1, C=inputs, H=height, W=width, K=outputs, R=one.rows.taps, S=one.columns.taps,
        stride=(one.rows.stride, one.columns.stride), padding=(vertical, horizontal), dtype=p.dtype,
        bias=p.bias, residual=p.residual, relu=p.relu,
    )  # fmt: skip


def _seen(axis: Axis, outputs: Range) -> tuple[int, Range]:
    """Source cells that outputs see, and how many zeros they see before and after."""
    low, high = patches.source_range(axis, outputs)
    start = outputs[0] * axis.stride + axis.offset
    stop = (outputs[1] - 1) * axis.stride + axis.offset + axis.taps
    return high - low, (low - start, stop - high)
