"""What each output pixel of a block sees, as matrices: a view of the source where it can be, else a copy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from gpuconv.kernels.cpu.blocks import Block, Grid, Range, Scratch, length
from gpuconv.kernels.cpu.correlation import Axis, Correlation


def patches(
    one: Correlation,
    block: Block,
    source: Any,
    scratch: Scratch,
    pieces: tuple[int, int],
    channels_first: bool,
    taps_first: bool = False,
) -> Any:
    """The matrices of what each output pixel of a block sees.

    Parameters
    ----------
    source : array (images, groups, channels, height, width)
        The block's images, groups and channels.
    pieces : (int, int)
        Pieces of scratch for the patches and for the converted source.

    Returns
    -------
    array (groups, depth, pixels) if `channels_first` else (groups, pixels, depth)
        Depth counts channels, taps, taps if `channels_first` and not `taps_first`, else taps, taps, channels.
    """
    view = in_place(one, block, source, scratch.dtype, channels_first)
    if view is not None:
        return view
    # 16-bit cells are converted once for all taps
    if source.itemsize == 2 and copies_box(one, length(block.rows), length(block.columns)):
        high, wide, one = touched(one, block.rows, block.columns)
        seen = source[..., high, wide]
        source = scratch.take(pieces[1], *seen.shape)
        source[...] = seen
    n, g, c = source.shape[:3]
    m, q, r, s = length(block.rows), length(block.columns), one.rows.taps, one.columns.taps
    if channels_first and taps_first:
        columns = scratch.take(pieces[0], g, r, s, c, n, m, q)
        gather(source, one, block, columns.transpose(0, 3, 1, 2, 4, 5, 6))
        return columns.reshape(g, r * s * c, n * m * q)
    if channels_first:
        columns = scratch.take(pieces[0], g, c, r, s, n, m, q)
        gather(source, one, block, columns)
        return columns.reshape(g, c * r * s, n * m * q)
    columns = scratch.take(pieces[0], g, n, m, q, r, s, c)
    gather(source, one, block, columns.transpose(0, 6, 4, 5, 1, 2, 3))
    return columns.reshape(g, n * m * q, r * s * c)


def in_place(
    one: Correlation, block: Block, source: Any, dtype: np.dtype[Any], channels_first: bool
) -> Any | None:
    """The patches of a block as a view of the source, where one tap sees one cell each: no copy at all.

    Returns
    -------
    array (groups, channels, pixels) if `channels_first` else (groups, pixels, channels), or None
        None where the patches are no such view.
    """
    if one.rows.taps * one.columns.taps != 1 or source.dtype != dtype or not source.flags.aligned:
        return None
    (top, bottom, y), (left, right, x) = (
        one.rows.inside(0, *block.rows),
        one.columns.inside(0, *block.columns),
    )
    if (top, bottom) != block.rows or (left, right) != block.columns:
        return None
    down, along = one.rows.stride, one.columns.stride
    seen = source[
        ..., y : y + (bottom - top - 1) * down + 1 : down, x : x + (right - left - 1) * along + 1 : along
    ]
    images, groups, channels, height, width = seen.shape
    by_image, by_group, by_channel, by_row, by_column = seen.strides
    count, by_pixel = 1, dtype.itemsize
    for size, stride in ((width, by_column), (height, by_row), (images, by_image)):
        if size > 1:
            if count == 1:
                by_pixel = stride
            elif stride != count * by_pixel:
                return None
            count *= size
    shape, strides = (groups, channels, count), (by_group, by_channel, by_pixel)
    view = np.lib.stride_tricks.as_strided(seen, shape, strides, writeable=False)
    if not multipliable(view):
        return None
    return view if channels_first else view.transpose(0, 2, 1)


def multipliable(matrices: Any) -> bool:
    """Whether BLAS takes a stack of matrices as it lies; NumPy's own loop for others is far slower."""
    itemsize = matrices.itemsize
    rows, columns = matrices.shape[-2:]
    for (long, step), (_, unit) in (
        ((columns, matrices.strides[-2]), (rows, matrices.strides[-1])),
        ((rows, matrices.strides[-1]), (columns, matrices.strides[-2])),
    ):
        if unit == itemsize and step % itemsize == 0 and step >= long * itemsize:
            return bool(matrices.flags.aligned)
    return False


def gather(source: Any, one: Correlation, block: Block, columns: Any) -> None:
    """Copy what each output of a block sees into `columns`, with zeros outside the source.

    Parameters
    ----------
    source : array (images, groups, channels, height, width)
        Only the block's images and groups; any strides and dtype.
    columns : array (groups, channels, taps, taps, images, rows, columns)
        Any strides; fully written.
    """
    for r in range(one.rows.taps):
        top, bottom, y = one.rows.inside(r, *block.rows)
        height = bottom - top
        for s in range(one.columns.taps):
            left, right, x = one.columns.inside(s, *block.columns)
            width = right - left
            seen = columns[:, :, r, s].transpose(2, 0, 1, 3, 4)
            if not height or not width:
                seen[...] = 0
                continue
            a, b = top - block.rows[0], left - block.columns[0]
            if height < seen.shape[3]:
                seen[:, :, :, :a] = 0
                seen[:, :, :, a + height :] = 0
            if width < seen.shape[4]:
                seen[..., :b] = 0
                seen[..., b + width :] = 0
            seen[:, :, :, a : a + height, b : b + width] = source[
                :,
                :,
                :,
                y : y + (height - 1) * one.rows.stride + 1 : one.rows.stride,
                x : x + (width - 1) * one.columns.stride + 1 : one.columns.stride,
            ]


def copies_box(one: Correlation, rows: int, columns: int) -> bool:
    """Whether copying a block's box of the source once costs less than what the taps see of it."""
    return most_touched(one, rows, columns) <= one.rows.taps * one.columns.taps * rows * columns


def touched(one: Correlation, rows: Range, columns: Range) -> tuple[slice, slice, Correlation]:
    """The box of the source that a block touches, and the pass that reads a copy of that box."""
    high, wide = source_range(one.rows, rows), source_range(one.columns, columns)
    inner = Correlation(
        replace(one.rows, offset=one.rows.offset - high[0], size=length(high)),
        replace(one.columns, offset=one.columns.offset - wide[0], size=length(wide)),
    )
    return slice(*high), slice(*wide), inner


def box_cells(one: Correlation, grid: Grid) -> int:
    """Cells of one channel in a box that is copied, at most."""
    taps = one.rows.taps * one.columns.taps
    seen = taps * grid.rows.longest * grid.columns.longest
    return grid.images.longest * min(seen, most_touched(one, grid.rows.longest, grid.columns.longest))


def most_touched(one: Correlation, rows: int, columns: int) -> int:
    """Cells of one channel that the box of so many outputs touches at most."""
    high = (rows - 1) * one.rows.stride + (one.rows.taps - 1) * one.rows.dilation + 1
    wide = (columns - 1) * one.columns.stride + (one.columns.taps - 1) * one.columns.dilation + 1
    return min(high, one.rows.size) * min(wide, one.columns.size)


def source_range(axis: Axis, rows: Range) -> Range:
    """Range of source cells that outputs `rows` touch, inside the source."""
    low = rows[0] * axis.stride + axis.offset
    high = (rows[1] - 1) * axis.stride + (axis.taps - 1) * axis.dilation + axis.offset + 1
    low = min(max(low, 0), axis.size)
    return low, max(low, min(high, axis.size))
