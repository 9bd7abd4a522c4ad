"""Patches and their sums, cell by cell; a forward problem stands for the geometry."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpuconv.layout import FROM_COMMON, common_view
from gpuconv.problem import ConvProblem

from .problems import NUMPY


def options_of(p: ConvProblem) -> dict[str, Any]:
    """Options of `unfold` and `fold`, kernel size included."""
    return {
        "kernel_size": (p.R, p.S),
        "stride": p.stride,
        "padding": p.padding,
        "dilation": p.dilation,
        "data_format": p.layout.upper(),
    }


def places(p: ConvProblem) -> Any:
    """For each of R, S, P, Q the row and the column of the padded image that it is."""
    r, s, i, j = np.ogrid[: p.R, : p.S, : p.P, : p.Q]
    return r * p.dilation[0] + i * p.stride[0], s * p.dilation[1] + j * p.stride[1]


def padded(p: ConvProblem, x: Any) -> Any:
    """The image, N C H W, zeros around it."""
    return np.pad(common_view(x, p.layout), ((0, 0), (0, 0), *p.padding))


def by_cells(p: ConvProblem, x: Any) -> Any:
    """Patches in the order that each layout has."""
    rows, columns = places(p)
    seen = padded(p, x)[:, :, rows, columns]  # N C R S P Q
    if p.layout == "nchw":
        return seen.reshape(p.N, p.C * p.R * p.S, p.P * p.Q)
    return seen.transpose(0, 4, 5, 2, 3, 1).reshape(p.N, p.P, p.Q, p.R * p.S * p.C)


def summed(p: ConvProblem, cols: Any) -> Any:
    """What the patches have at each cell, in float64, in the problem's layout."""
    if p.layout == "nchw":
        seen = cols.reshape(p.N, p.C, p.R, p.S, p.P, p.Q)
    else:
        seen = cols.reshape(p.N, p.P, p.Q, p.R, p.S, p.C).transpose(0, 5, 3, 4, 1, 2)
    whole = padded(p, np.zeros(p.x_shape))
    rows, columns = places(p)
    np.add.at(whole, (slice(None), slice(None), rows, columns), seen.astype(np.float64))
    (top, _), (left, _) = p.padding
    return whole[:, :, top : top + p.H, left : left + p.W].transpose(FROM_COMMON[p.layout])


def images(p: ConvProblem, seed: int = 0) -> Any:
    """Small integers."""
    return np.random.default_rng(seed).integers(-3, 4, p.x_shape).astype(NUMPY[p.dtype])


def columns(p: ConvProblem, seed: int = 0) -> Any:
    """Small integers in the shape of patches."""
    shape = by_cells(p, np.zeros(p.x_shape)).shape
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(NUMPY[p.dtype])
