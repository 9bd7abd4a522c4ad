"""How the outputs of a correlation are cut into blocks, and what a worker keeps in hand for one.

Blocks follow from the problem and the config alone, never from the number of threads: that is what makes
the last bit the same on one thread and on eight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from gpuconv.kernels.cpu.correlation import Axis, Correlation
from gpuconv.problem import ConvProblem

#: Fewer blocks than this leave threads idle, so smaller blocks are preferred where they cost little.
ENOUGH_BLOCKS: Final = 4
#: Workers are limited so that their scratch memory together stays below this, if one alone does.
SCRATCH_LIMIT: Final = 192 * 2**20


@dataclass(frozen=True, slots=True)
class Block:
    """A box of outputs: images, rows and columns of one pass, and a range of groups or channels."""

    images: tuple[int, int]
    rows: tuple[int, int]
    columns: tuple[int, int]
    groups: tuple[int, int]
    channels: tuple[int, int]

    @property
    def pixels(self) -> int:
        """Output pixels of one group."""
        return _length(self.images) * _length(self.rows) * _length(self.columns)


def cut(total: int, step: int) -> list[tuple[int, int]]:
    """Ranges of nearly equal length, none longer than `step`."""
    pieces = -(-total // max(1, step))
    return [(total * i // pieces, total * (i + 1) // pieces) for i in range(pieces)]


def boxes(
    images: int, one: Correlation, pixel_bytes: int, target: int, most_images: int
) -> list[tuple[tuple[int, int], tuple[int, int], tuple[int, int]]]:
    """Cut images × rows × columns so that a box of `pixel_bytes` a pixel takes about `target` bytes."""
    height, width = one.rows.outputs, one.columns.outputs
    pixels = max(1, target // max(1, pixel_bytes))
    if pixels >= height * width:
        together = min(most_images, pixels // (height * width))
        return [(n, (0, height), (0, width)) for n in cut(images, together)]
    rows = cut(height, pixels // width)
    columns = cut(width, pixels if pixels < width else width)
    return [((n, n + 1), r, c) for n in range(images) for r in rows for c in columns]


def accumulator(p: ConvProblem) -> np.dtype[Any]:
    """Type that sums are kept in: float64 for float64, else float32."""
    return np.dtype(np.float64 if p.dtype == "f64" else np.float32)


def source_range(axis: Axis, rows: tuple[int, int]) -> tuple[int, int]:
    """Range of source cells that outputs `rows` touch, inside the source."""
    low = rows[0] * axis.stride + axis.offset
    high = (rows[1] - 1) * axis.stride + (axis.taps - 1) * axis.dilation + axis.offset + 1
    low = min(max(low, 0), axis.size)
    return low, max(low, min(high, axis.size))


def touched(
    one: Correlation, rows: tuple[int, int], columns: tuple[int, int]
) -> tuple[slice, slice, Correlation]:
    """The box of the source that a block touches, and the pass that reads a copy of that box.

    Converting a box once is cheaper than converting what every tap sees.
    """
    high, wide = source_range(one.rows, rows), source_range(one.columns, columns)
    inner = Correlation(
        replace(one.rows, offset=one.rows.offset - high[0], size=_length(high)),
        replace(one.columns, offset=one.columns.offset - wide[0], size=_length(wide)),
    )
    return slice(*high), slice(*wide), inner


def touched_pixels(one: Correlation, rows: tuple[int, int], columns: tuple[int, int]) -> int:
    """Cells of one channel in that box."""
    return _length(source_range(one.rows, rows)) * _length(source_range(one.columns, columns))


def plain(array: Any, dtype: np.dtype[Any]) -> bool:
    """Whether an array can be written by a product as it lies: C-contiguous, aligned, of this dtype."""
    return bool(array.dtype == dtype and array.dtype.isnative and array.flags.carray)


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


def patches(
    one: Correlation,
    block: Block,
    source: Any,
    scratch: Scratch,
    pieces: tuple[int, int],
    channels_first: bool,
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
        Depth counts channels, taps, taps if `channels_first`, else taps, taps, channels.
    """
    view = in_place(one, block, source, scratch.dtype, channels_first)
    if view is not None:
        return view
    if source.dtype != scratch.dtype:
        high, wide, one = touched(one, block.rows, block.columns)
        seen = source[..., high, wide]
        source = scratch.take(pieces[1], *seen.shape)
        source[...] = seen
    n, g, c = source.shape[:3]
    m, q, r, s = _length(block.rows), _length(block.columns), one.rows.taps, one.columns.taps
    if channels_first:
        columns = scratch.take(pieces[0], g, c, r, s, n, m, q)
        gather(source, one, block, columns)
        return columns.reshape(g, c * r * s, n * m * q)
    columns = scratch.take(pieces[0], g, n, m, q, r, s, c)
    gather(source, one, block, columns.transpose(0, 6, 4, 5, 1, 2, 3))
    return columns.reshape(g, n * m * q, r * s * c)


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


def finish(p: ConvProblem, values: Any, bias: Any, residual: Any) -> None:
    """Add bias and residual and apply ReLU in place, in the accumulator's type.

    Shapes are (groups, channels, images, rows, columns) or broadcast to it.
    """
    if bias is not None:
        np.add(values, bias, out=values)
    if residual is not None:
        np.add(values, residual.astype(values.dtype, copy=False), out=values)
    if p.relu:
        np.maximum(values, 0, out=values)


def fill(p: ConvProblem, result: Any, bias: Any, residual: Any) -> None:
    """Write a result that no tap reaches: zero, plus bias and residual. Row by row, to take no memory.

    Parameters
    ----------
    result, residual : array (images, groups, channels, rows, columns)
    bias : array (groups, channels, 1, 1, 1)
    """
    if bias is None and residual is None:
        result[...] = 0
        return
    for n in range(result.shape[0]):
        for y in range(result.shape[3]):
            target = result[n : n + 1, :, :, y : y + 1].transpose(1, 2, 0, 3, 4)
            values = np.zeros(target.shape, accumulator(p))
            also = residual
            if residual is not None:
                also = residual[n : n + 1, :, :, y : y + 1].transpose(1, 2, 0, 3, 4)
            finish(p, values, bias, also)
            target[...] = values


def cells(array: Any, one: Correlation, block: Block) -> Any:
    """The block's part of a result as (groups, channels, images, rows, columns)."""
    images, groups, channels = slice(*block.images), slice(*block.groups), slice(*block.channels)
    written = array[images, groups, channels, one.rows.write, one.columns.write]
    return written[..., slice(*block.rows), slice(*block.columns)].transpose(1, 2, 0, 3, 4)


def workers(threads: int, count: int, scratch_bytes: int) -> int:
    """Threads that `count` blocks keep busy and memory has room for."""
    return max(1, min(threads, count, SCRATCH_LIMIT // max(1, scratch_bytes)))


class Scratch:
    """One worker's memory, allocated before anything is written, handed out in pieces."""

    def __init__(self, sizes: Sequence[int], dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self._pieces = [np.empty(size, dtype) for size in sizes]

    def take(self, which: int, *shape: int) -> Any:
        """Piece `which` in the given shape; its old contents are rubbish."""
        piece = self._pieces[which]
        return np.ndarray(shape, piece.dtype, piece)


def _length(of: tuple[int, int]) -> int:
    return of[1] - of[0]
