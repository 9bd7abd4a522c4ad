"""Borders that repeat cells of the input: written around images, and brought home again for the gradient."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from gpuconv.problem import ConvProblem

#: Cells that are summed with their errors at a time.
AT_ONCE: Final = 2**17


def held(p: ConvProblem, axis: int) -> tuple[slice, slice]:
    """The cells of the input that the border before it and behind it holds, along height (0) or width (1).

    One cell stands for all where the border replicates it.
    """
    size, (before, behind) = (p.H, p.W)[axis], p.padding[axis]
    if p.padding_mode == "circular":
        return slice(size - before, None), slice(None, behind)
    if p.padding_mode == "reflect":
        last = size - 2 - behind
        return slice(before, 0, -1), slice(size - 2, last if last >= 0 else None, -1)
    return slice(0, 1), slice(size - 1, None)


def pad(p: ConvProblem, x: Any, padded: Any) -> None:
    """Write images and their borders.

    Parameters
    ----------
    x : array (n, C, H, W)
    padded : array (n, C, top + H + bottom, left + W + right)
        Any strides; fully written.
    """
    (top, bottom), (left, right) = p.padding
    middle = padded[:, :, top : top + p.H]
    middle[..., left : left + p.W] = x
    before, behind = held(p, 1)
    if left:
        middle[..., :left] = x[..., before]
    if right:
        middle[..., left + p.W :] = x[..., behind]
    before, behind = held(p, 0)
    if top:
        padded[:, :, :top] = middle[:, :, before]
    if bottom:
        padded[:, :, top + p.H :] = middle[:, :, behind]


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
    size, (before, _) = (p.H, p.W)[axis], p.padding[axis]
    inner = padded[..., before : before + size]
    borders = padded[..., :before], padded[..., before + size :]
    for border, cells in zip(borders, held(p, axis), strict=True):
        if not border.shape[-1]:
            continue
        target = inner[..., cells]
        if p.padding_mode == "replicate":
            target[..., 0] = _compensated(target[..., 0], border)
        else:
            np.add(target, border, out=target)
    return inner


def _compensated(first: Any, terms: Any) -> Any:
    """A sum along the last axis whose error does not grow with the number of terms.

    Pairs are added with their exact errors (Knuth's), which are summed beside (Neumaier 1974).
    """
    total, lost = first.copy(), np.zeros_like(first)
    step = max(1, AT_ONCE // max(1, first.size))
    for start in range(0, terms.shape[-1], step):
        some = np.concatenate([total[..., None], terms[..., start : start + step]], axis=-1)
        while some.shape[-1] > 1:
            half = some.shape[-1] // 2
            a, b = some[..., :half], some[..., half : 2 * half]
            larger = a + b
            kept = larger - a
            lost += ((a - (larger - kept)) + (b - kept)).sum(axis=-1)
            some = np.concatenate([larger, some[..., 2 * half :]], axis=-1)
        total = some[..., 0]
    return np.where(np.isfinite(lost), total + lost, total)
