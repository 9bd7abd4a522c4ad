"""Patches and their sums, cell by cell; a forward problem stands for the geometry."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpuconv.layout import FROM_COMMON, common_view
from gpuconv.problem import ConvProblem
from gpuconv.validate import tolerance

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
    """What the patches have at each cell, in the problem's layout: in float64, of 64-bit integers exactly."""
    if p.layout == "nchw":
        seen = cols.reshape(p.N, p.C, p.R, p.S, p.P, p.Q)
    else:
        seen = cols.reshape(p.N, p.P, p.Q, p.R, p.S, p.C).transpose(0, 5, 3, 4, 1, 2)
    kind = np.int64 if cols.dtype == np.int64 else np.float64
    whole = padded(p, np.zeros(p.x_shape, kind))
    rows, columns = places(p)
    np.add.at(whole, (slice(None), slice(None), rows, columns), seen.astype(kind))
    (top, _), (left, _) = p.padding
    return whole[:, :, top : top + p.H, left : left + p.W].transpose(FROM_COMMON[p.layout])


def images(p: ConvProblem, seed: int = 0) -> Any:
    """Small integers."""
    return np.random.default_rng(seed).integers(-3, 4, p.x_shape).astype(NUMPY[p.dtype])


def columns(p: ConvProblem, seed: int = 0) -> Any:
    """Small integers in the shape of patches."""
    shape = by_cells(p, np.zeros(p.x_shape)).shape
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(NUMPY[p.dtype])


#: Kernels under which many patches meet in one cell: square, long either way, of few columns, strided.
CROWDED = (
    "n1c2h12w11k1r7s7p3",
    "n1c1h75w3k1r40s1p9",
    "n2c1h2w150k1r1s100",
    "n1c1h1w1500k1r1s1000p0x300",
    "n1c4h40w36k1r20s18u2x1p5d1x2",
    "n1c8h42w40k1r33s30p8",
    "n1c1h60w9k1r50s3u3x1p20x1",
    "n1c1h200w2k1r40s1u2x1p0d2x1",
)


def crowd(p: ConvProblem, largest: int) -> tuple[Any, Any, Any]:
    """Patches whose sums lose most: one tap has 1, all others what 1 in the accumulator just loses.

    Returns patches, their exact sums as multiples of that, and how many terms each sum has.
    """
    shape = by_cells(p, np.zeros(p.x_shape)).shape
    whole = np.ones(shape, np.int64)
    if p.layout == "nchw":
        taps = whole.reshape(p.N, p.C, p.R * p.S, p.P * p.Q).transpose(2, 0, 1, 3)
    else:
        taps = whole.reshape(p.N, p.P, p.Q, p.R * p.S, p.C).transpose(3, 0, 1, 2, 4)
    taps[largest] = _lost(p)
    return (whole / _lost(p)).astype(NUMPY[p.dtype]), summed(p, whole), summed(p, np.ones(shape))


def _lost(p: ConvProblem) -> int:
    return 2**53 if p.dtype == "f64" else 2**24


def error_over_bound(p: ConvProblem, found: Any, exact: Any, terms: Any) -> float:
    """Largest error of a crowd's sums as a share of what as many products may err."""
    assert not found[terms == 0].any()
    wrong = np.abs((found.astype(np.float64) * _lost(p)).astype(np.int64) - exact) / _lost(p)
    worst = 0.0
    for count in np.unique(terms[terms > 0]):
        here = terms == count
        sized = ConvProblem("fprop", 1, int(count), 1, 1, 1, 1, 1, dtype=p.dtype)
        ref = exact[here] / _lost(p)
        worst = max(worst, float((wrong[here] / tolerance.bound(sized, ref, ref)).max()))
    return worst
