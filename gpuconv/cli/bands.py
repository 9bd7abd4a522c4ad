"""Filtering of a picture in bands of rows, so that only its own pixels take memory for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import gpuconv
from gpuconv.cli.pictures import Photo
from gpuconv.options import Options
from gpuconv.problem import ConvProblem

Values = NDArray[Any]
Rows = NDArray[np.intp]

#: Values of a picture that are filtered at once.
_AT_ONCE: Final = 2**21
#: Taps whose sum is this share of their size, or less, cancel but for rounding.
_ROUNDING: Final = 1e-5
#: Which of so many rows lies at an index, in the picture or beyond its border; -1 is a row of zeros.
_ROW: Final[dict[str, Callable[[Rows, int], Rows]]] = {
    "zeros": lambda index, size: np.where((index >= 0) & (index < size), index, -1),
    "reflect": lambda index, size: size - 1 - abs(size - 1 - abs(index)),
    "replicate": lambda index, size: index.clip(0, size - 1),
    "circular": lambda index, size: index % size,
}
BORDERS: Final = tuple(_ROW)


@dataclass(frozen=True, slots=True)
class Filter:
    """Kernels and how they go over a picture.

    Attributes
    ----------
    taps : float64 array (K, R, S)
        One kernel, or two whose results are a gradient.
    stride, padding
        As for `gpuconv.conv2d`.
    border : str
        `conv2d`'s padding_mode.
    """

    taps: NDArray[np.float64]
    stride: Any
    padding: Any
    border: str

    @property
    def signed(self) -> bool:
        """Whether the results are differences: around zero, and negative as often as not."""
        return bool(abs(self.taps.sum()) <= _ROUNDING * np.abs(self.taps).sum())

    def problem(self, photo: Photo) -> ConvProblem:
        """What is to be computed, each channel an image of its own.

        Raises
        ------
        ValueError
            If the kernel or the padding does not go with the size of the picture.
        """
        (H, W, C), (K, R, S) = photo.values.shape, self.taps.shape
        options = Options(stride=self.stride, padding=self.padding, padding_mode=self.border)
        dtype = "f64" if photo.colours == "I" else "f32"  # float32 does not hold all integers of 32 bits
        return options.problem("fprop", ("picture", (C, 1, H, W)), ("kernel", (K, 1, R, S)), dtype)

    def __call__(self, photo: Photo, advance: Callable[[float], Any]) -> Photo:
        """Filter a picture; `advance` is told what share of it is done, again and again."""
        p = self.problem(photo)
        values = np.empty((p.P, p.Q, p.N), photo.values.dtype)
        for first, last, band in self._bands(photo, p):
            values[first:last] = _shown(self._filtered(band, p), values.dtype)
            advance(last / p.P)
        alpha = None if photo.alpha is None else photo.alpha[np.ix_(*_middles(p))]
        return replace(photo, values=values, alpha=alpha)

    def _bands(self, photo: Photo, p: ConvProblem) -> Iterator[tuple[int, int, Values]]:
        """First output row of a band, the one after its last, and the padded rows of the picture for it."""
        above, step = p.padding[0][0], p.stride[0]
        # neighbouring bands share R rows less the stride: high ones are worth it for high kernels
        height = max(1, 2 * p.R // step, _AT_ONCE // (p.N * max(p.W, p.Q) * step))
        for first in range(0, p.P, height):
            last = min(first + height, p.P)
            reach = np.arange(first * step, (last - 1) * step + p.R) - above
            needed = _ROW[self.border](reach, p.H)
            band = np.moveaxis(photo.values[needed], 2, 0)[:, None]
            band = band.astype(np.float64 if p.dtype == "f64" else np.float32, order="C")
            band[:, :, needed < 0] = 0
            yield first, last, band

    def _filtered(self, band: Values, p: ConvProblem) -> Values:
        w = self.taps[:, None].astype(band.dtype)
        padding = ((0, 0), p.padding[1])
        y = gpuconv.conv2d(band, w, stride=p.stride, padding=padding, padding_mode=self.border)
        if p.K == 2:
            # of 16 bits, float32 would round some magnitudes twice
            magnitude: Values = np.hypot(y[:, 0], y[:, 1], dtype=np.float64)
            return magnitude
        result: Values = np.abs(y[:, 0]) if self.signed else y[:, 0]
        return result


def _shown(y: Values, dtype: Any) -> Values:
    """Channels last; integers rounded and cut off at the ends of their range."""
    if dtype.kind != "f":
        y = np.rint(y).clip(np.iinfo(dtype).min, np.iinfo(dtype).max)
    return np.moveaxis(y, 0, 2)


def _middles(p: ConvProblem) -> list[Rows]:
    """Rows and columns of the picture under the kernel's middle, for each pixel of the result."""
    axes = zip((p.P, p.Q), (p.H, p.W), (p.R, p.S), p.stride, p.padding, strict=True)
    return [
        np.clip(np.arange(outputs) * step - before + (taps - 1) // 2, 0, size - 1)
        for outputs, size, taps, step, (before, _) in axes
    ]
