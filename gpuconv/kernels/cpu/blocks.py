"""How the outputs of a correlation are cut into blocks, and the memory a worker keeps for one.

Blocks follow from the problem and the config alone, never from the number of threads: that is what makes
the last bit the same on one thread and on eight. None is listed; each is computed from its number.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from typing import Any, Final

import numpy as np

from gpuconv.kernels.cpu.correlation import Correlation
from gpuconv.problem import ConvProblem

Range = tuple[int, int]

#: Fewer blocks than this leave threads idle, so smaller blocks are preferred where they cost little.
ENOUGH_BLOCKS: Final = 4
#: Workers are limited so that their scratch memory together stays below this, if one alone does.
SCRATCH_LIMIT: Final = 192 * 2**20


@dataclass(frozen=True, slots=True)
class Block:
    """A box of outputs: images, rows and columns of one pass, and a range of groups or channels."""

    images: Range
    rows: Range
    columns: Range
    groups: Range
    channels: Range

    @property
    def pixels(self) -> int:
        """Output pixels of one group."""
        return length(self.images) * length(self.rows) * length(self.columns)


@dataclass(frozen=True, slots=True)
class Cut:
    """`total` things in `pieces` ranges of nearly equal length."""

    total: int
    pieces: int

    @property
    def longest(self) -> int:
        """Length of the longest range."""
        return -(-self.total // self.pieces) if self.pieces else 0

    def __getitem__(self, i: int) -> Range:
        return self.total * i // self.pieces, self.total * (i + 1) // self.pieces


def cut(total: int, step: int) -> Cut:
    """As few ranges as possible, none longer than `step`."""
    return Cut(total, -(-total // max(1, step)))


@dataclass(frozen=True, slots=True)
class Grid:
    """All blocks of one pass, numbered; channels and groups change fastest, images slowest."""

    images: Cut
    rows: Cut
    columns: Cut
    groups: Cut
    channels: Cut

    def __len__(self) -> int:
        return self.boxes * self.parts

    @property
    def boxes(self) -> int:
        """Boxes of pixels, each in all its parts."""
        return self.images.pieces * self.rows.pieces * self.columns.pieces

    @property
    def parts(self) -> int:
        """Parts of the channels that each box comes in."""
        return self.groups.pieces * self.channels.pieces

    @property
    def pixels(self) -> int:
        """Pixels of the largest box."""
        return prod(one.longest for one in (self.images, self.rows, self.columns))

    def __getitem__(self, i: int) -> Block:
        i, channels = divmod(i, self.channels.pieces)
        i, groups = divmod(i, self.groups.pieces)
        i, columns = divmod(i, self.columns.pieces)
        images, rows = divmod(i, self.rows.pieces)
        return Block(
            self.images[images],
            self.rows[rows],
            self.columns[columns],
            self.groups[groups],
            self.channels[channels],
        )


def boxes(
    images: int, one: Correlation, pixel_bytes: int, target: int, most_images: int
) -> tuple[Cut, Cut, Cut]:
    """Cut images, rows and columns so that a box of `pixel_bytes` a pixel takes about `target` bytes."""
    height, width = one.rows.outputs, one.columns.outputs
    pixels = max(1, target // max(1, pixel_bytes))
    if pixels >= height * width:
        together = min(most_images, pixels // (height * width))
        return cut(images, together), Cut(height, 1), Cut(width, 1)
    return cut(images, 1), cut(height, pixels // width), cut(width, min(pixels, width))


class Work:
    """The blocks of several passes, numbered through."""

    def __init__(self, grids: Sequence[Grid]) -> None:
        self.grids = tuple(grids)
        self._ends = list(accumulate(map(len, grids)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, i: int) -> tuple[int, Block]:
        """Number of the pass, and the block."""
        index = bisect_right(self._ends, i)
        return index, self.grids[index][i - (self._ends[index - 1] if index else 0)]


def accumulator(p: ConvProblem) -> np.dtype[Any]:
    """Type that sums are kept in: float64 for float64, else float32."""
    return np.dtype(np.float64 if p.dtype == "f64" else np.float32)


def workers(threads: int, count: int, scratch_bytes: int) -> int:
    """Threads that `count` blocks keep busy and memory has room for."""
    return max(1, min(threads, count, SCRATCH_LIMIT // max(1, scratch_bytes)))


class Scratch:
    """One worker's memory, allocated before anything is written, handed out in pieces."""

    def __init__(self, sizes: Sequence[int], dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        #: what a piece holds that the next block may use again: of which blocks, and the matrices
        self.kept: tuple[Any, Any] | None = None
        self._pieces = [np.empty(size, dtype) for size in sizes]

    def take(self, which: int, *shape: int) -> Any:
        """Piece `which` in the given shape; its old contents are rubbish."""
        piece = self._pieces[which]
        return np.ndarray(shape, piece.dtype, piece)


def length(of: Range) -> int:
    """Of a range."""
    return of[1] - of[0]
