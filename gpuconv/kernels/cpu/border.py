"""Borders that repeat cells of the input: written around images, and brought home again for the gradient."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuconv.problem import ConvProblem


def sources(p: ConvProblem, axis: int) -> NDArray[np.intp]:
    """The cell of the input that each cell of the padded one holds, along height (0) or width (1)."""
    size, (before, behind) = (p.H, p.W)[axis], p.padding[axis]
    cells = np.arange(-before, size + behind)
    if p.padding_mode == "circular":
        return cells % size
    if p.padding_mode == "reflect":
        cells = np.abs(cells)
        return np.minimum(cells, 2 * (size - 1) - cells)
    return np.clip(cells, 0, size - 1)


def pad(p: ConvProblem, x: Any, padded: Any) -> None:
    """Write images and their borders.

    Parameters
    ----------
    x : array (n, C, H, W)
    padded : array (n, C, top + H + bottom, left + W + right)
        Any strides; fully written.
    """
    (top, _), (left, _) = p.padding
    high, wide = sources(p, 0), sources(p, 1)
    middle = padded[:, :, top : top + p.H]
    middle[..., left : left + p.W] = x
    for border in (slice(None, left), slice(left + p.W, None)):
        middle[..., border] = x[..., wide[border]]
    for border in (slice(None, top), slice(top + p.H, None)):
        for row, source in enumerate(high[border], border.start or 0):
            padded[:, :, row] = middle[:, :, source]


def fold(p: ConvProblem, padded: Any) -> Any:
    """Sum, for each cell of the input, of what the cells that hold it have got: the adjoint of `pad`.

    Parameters
    ----------
    padded : array (n, C, top + H + bottom, left + W + right)
        Overwritten.

    Returns
    -------
    array (n, C, H, W)
        A view of `padded`; each axis costs three roundings at most.
    """
    rows = _fold_last(p, 0, padded.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)
    return _fold_last(p, 1, rows)


def _fold_last(p: ConvProblem, axis: int, padded: Any) -> Any:
    size, (before, behind) = (p.H, p.W)[axis], p.padding[axis]
    inner = padded[..., before : before + size]
    if p.padding_mode == "replicate":
        for edge, border in ((0, range(before)), (size - 1, range(before + size, before + size + behind))):
            if border:
                terms = (padded[..., cell] for cell in border)
                inner[..., edge] = _compensated(inner[..., edge], terms)
        return inner
    held = sources(p, axis)
    for cell in (*range(before), *range(before + size, before + size + behind)):
        target = inner[..., held[cell]]
        np.add(target, padded[..., cell], out=target)
    return inner


def _compensated(first: Any, terms: Iterable[Any]) -> Any:
    """A sum whose error does not grow with the number of terms (Neumaier 1974, with Knuth's exact errors)."""
    total, lost = first.copy(), np.zeros_like(first)
    for term in terms:
        larger = total + term
        kept = larger - total
        lost += (total - (larger - kept)) + (term - kept)
        total = larger
    return np.where(np.isfinite(lost), total + lost, total)
