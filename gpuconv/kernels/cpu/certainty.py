"""Whether a convolution by FFT keeps the error bound, output by output.

With L = log2 of the points of the transform, C channels summed and u the roundoff of float64, every output
of filter k errs by at most

    E_k = u·(24·L + C + 8)·Σ_c ‖x_c‖₂·‖w_kc‖₂

in the box that was transformed: three transforms at no more than 7u for each of their L halvings, the
products, and their sum over channels. The bound is per output: it allows u_acc·(8 + 4·√K)·Σ|x||w|, which may
be far less where an output sees dark pixels or small taps and another in the same box does not. So a lower
limit of Σ|x||w| is needed. A window of 2m − 1 taps, moved over m neighbouring outputs, always covers the same
cell of m pixels; whichever of its pixels is the largest, it meets a tap of that window:

    Σ|x||w| ≥ Σ_c max over the cell |x_c| · min over the window |w_kc|

for each tile of m×m outputs. A tile where this is less than twice what is needed is in doubt.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log2, sqrt
from typing import Any, Final

import numpy as np

from gpuconv.kernels.cpu.correlation import Axis, Correlation
from gpuconv.problem import ConvProblem
from gpuconv.validate.tolerance import UNIT_ROUNDOFF

#: Outputs of a tile along one axis; the cells of larger ones need windows with smaller least taps.
_TILES: Final = (1, 4, 16)
#: Tap over norm of its filter that is just enough for a pixel of usual size in a box of usual size.
_LEAST_SHARE: Final = 2.0**-20
#: Sums of integers are rounded to integers while their error is surely below this.
_SURELY_ROUNDED: Final = 0.25


@dataclass(frozen=True, slots=True)
class Filters:
    """What is known of one group's filters in one pass."""

    norms: Any  # (outputs, inputs): ‖w‖₂
    least: Any  # (outputs, inputs): smallest |w| in the window
    first: tuple[int, int]  # first tap of the window
    tile: tuple[int, int]  # rows and columns of outputs that share a cell
    integers: bool


def survey(taps: Any, one: Correlation) -> list[Filters]:
    """Choose for each group the window whose least taps are the largest, among squares of several sizes.

    Parameters
    ----------
    taps : array of float64 (groups, outputs, inputs, taps, taps)
    one : Correlation
        Their pass; no cell of the window should lie outside its source.
    """
    sizes, norms = np.abs(taps), np.sqrt(np.add.reduce(taps * taps, axis=(3, 4)))
    integers = np.logical_and.reduce(np.rint(taps) == taps, axis=(1, 2, 3, 4))
    scale = norms.sum(axis=2)
    groups = np.arange(len(taps))
    scores, found = [], []
    for tile in _TILES:
        if tile > 1 and 2 * tile - 1 > max(taps.shape[3:]):
            break
        high, wide = (min(tile, (count + 1) // 2) for count in taps.shape[3:])
        rows, columns = _inside(one.rows, high), _inside(one.columns, wide)
        seen = sizes[..., rows.start : rows.stop + 2 * high - 2, columns.start : columns.stop + 2 * wide - 2]
        least = _erode(seen, 2 * high - 1, 2 * wide - 1)
        # a filter of zeros is exact anyhow
        each = scale[..., None, None]
        share = np.where(each > 0, least.sum(axis=2) / np.where(each > 0, each, 1), 1).min(axis=1)
        flat = share.reshape(len(taps), -1)
        at = flat.argmax(axis=1)
        # a cell is in doubt if each of its pixels is small, so their number multiplies the margin's logarithm
        margin = np.log2(np.maximum(flat[groups, at] / _LEAST_SHARE, 1))
        scores.append(high * wide * margin)
        r, s = at // share.shape[2], at % share.shape[2]
        found.append((least[groups, :, :, r, s], r + rows.start, s + columns.start, (high, wide)))
    best = np.argmax(scores, axis=0)
    filters = []
    for group, size in enumerate(best):
        leasts, r, s, tile_ = found[size]
        first = int(r[group]), int(s[group])
        filters.append(Filters(norms[group], leasts[group], first, tile_, bool(integers[group])))
    return filters


def _inside(axis: Axis, tile: int) -> slice:
    """First taps of windows whose cells hold pixels for every output; the middle of them if any do."""
    last = axis.taps - 2 * tile + 1
    low = -axis.offset - 2 * tile + 2
    high = axis.size - axis.offset - (axis.outputs - 1) * axis.stride - tile
    if low > high:  # more padding than a window reaches across
        low, high = high, low
    spare = (high - low) // 4
    low, high = (min(max(edge, 0), last) for edge in (low + spare, high - spare))
    return slice(low, high + 1)


def _erode(sizes: Any, high: int, wide: int) -> Any:
    """Minimum over each window of the last two axes, in steps that double."""
    width = 1
    while width < high:
        step = min(width, high - width)
        sizes = np.minimum(sizes[..., :-step, :], sizes[..., step:, :])
        width += step
    width = 1
    while width < wide:
        step = min(width, wide - width)
        sizes = np.minimum(sizes[..., :-step], sizes[..., step:])
        width += step
    return sizes


def cell_peaks(filters: Filters, box: Any, outputs: tuple[int, int], spare: Any) -> Any:
    """Largest |x| of every tile's cell, as (tiles, tiles).

    Parameters
    ----------
    box : array (rows, columns)
        What the outputs see; the first output's window begins at its first cell.
    outputs : (int, int)
        At stride 1.
    spare : array
        Written; of the box's size at least, contiguous.
    """
    (high, wide), (r, s) = filters.tile, filters.first
    down, along = -(-outputs[0] // high), -(-outputs[1] // wide)
    top, left = r + high - 1, s + wide - 1
    sizes = np.ndarray((down * high, along * wide), box.dtype, spare)
    np.abs(box[top : top + down * high, left : left + along * wide], out=sizes)
    rows = np.maximum.reduce(sizes.reshape(down, high, along * wide), axis=1)
    return np.maximum.reduce(rows.reshape(down, along, wide), axis=2)


class Judge:
    """The limits of one problem at one size of transform."""

    def __init__(self, p: ConvProblem, points: int, channels: int) -> None:
        self._error = UNIT_ROUNDOFF["f64"] * (24 * log2(points) + channels + 8)
        self._allowed = UNIT_ROUNDOFF["f32"] * (8 + 4 * sqrt(p.gemm_mnk[2]))

    def rounds(self, filters: Filters, norms: Any) -> bool:
        """Whether sums of integers are known so well that the nearest integer is the sum."""
        return bool(np.all(self._errors(filters, norms) < _SURELY_ROUNDED))

    def doubts(self, filters: Filters, norms: Any, peaks: Any) -> Any:
        """Which tiles may leave the bound.

        Parameters
        ----------
        norms : array (channels,)
            ‖x_c‖₂ of the box.
        peaks : array (channels, tiles, tiles)
        """
        needed = 2 * self._errors(filters, norms) / self._allowed
        sums = np.tensordot(filters.least, peaks, axes=(1, 0))
        # a comparison that NaN fails is a doubt
        return ~np.logical_and.reduce(sums >= needed[:, None, None], axis=0)

    def _errors(self, filters: Filters, norms: Any) -> Any:
        """E_k of every filter."""
        return self._error * (filters.norms @ norms)
