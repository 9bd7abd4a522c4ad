"""fprop and dgrad brought to one form: stride-aware correlations that read zero outside their source.

The gradient to the input of a strided convolution falls apart into residue classes: the inputs at rows
a, a+stride, a+2·stride, … see the same subset of the taps, and each class is a correlation of stride 1.
No product with a stuffed-in zero is ever computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np

from gpuconv.layout import common_view
from gpuconv.problem import ConvProblem


@dataclass(frozen=True, slots=True)
class Axis:
    """Along one axis, output i and tap t read the source at ``i·stride + t·dilation + offset``."""

    outputs: int
    taps: int
    stride: int
    dilation: int
    offset: int
    size: int
    write: slice  # where these outputs lie in the result
    pick: slice  # which of the problem's taps these are, in this order

    def inside(self, tap: int, start: int, stop: int) -> tuple[int, int, int]:
        """Of outputs `start` to `stop`, the range whose source cell exists, and the first such cell."""
        base = tap * self.dilation + self.offset
        low = max(start, -(base // self.stride))
        high = min(stop, (self.size - 1 - base) // self.stride + 1)
        return low, max(low, high), low * self.stride + base


@dataclass(frozen=True, slots=True)
class Correlation:
    """One pass over the source: ``out[n,g,k,i,j] = Σ source[n,g,c,·,·]·taps[g,k,c,r,s]``."""

    rows: Axis
    columns: Axis


def forward(p: ConvProblem) -> Correlation:
    """The convolution itself, which is also the geometry of the gradient to the weights."""
    (top, _), (left, _) = p.padding
    return Correlation(
        Axis(p.P, p.R, p.stride[0], p.dilation[0], -top, p.H, slice(None), slice(None)),
        Axis(p.Q, p.S, p.stride[1], p.dilation[1], -left, p.W, slice(None), slice(None)),
    )


def passes(p: ConvProblem) -> tuple[Correlation, ...]:
    """Every correlation of fprop or dgrad; their writes are disjoint but need not cover the result."""
    if p.op == "fprop":
        return (forward(p),)
    (top, _), (left, _) = p.padding
    rows = _classes(p.H, p.P, p.R, p.stride[0], p.dilation[0], top)
    columns = _classes(p.W, p.Q, p.S, p.stride[1], p.dilation[1], left)
    return tuple(Correlation(a, b) for a in rows for b in columns)


def covers(p: ConvProblem, found: tuple[Correlation, ...]) -> bool:
    """Whether the passes write every element of the result."""
    height, width = (p.P, p.Q) if p.op == "fprop" else (p.H, p.W)
    return sum(one.rows.outputs * one.columns.outputs for one in found) == height * width


def taps_of(p: ConvProblem, one: Correlation, w: Any) -> Any:
    """The weights of one pass as a view (groups, outputs of a group, inputs of a group, taps, taps)."""
    view = common_view(w, p.weights)
    view = view.reshape(p.groups, p.K // p.groups, *view.shape[1:])
    if p.op == "dgrad":
        view = view.transpose(0, 2, 1, 3, 4)
    return view[..., one.rows.pick, one.columns.pick]


def by_group(array: Any, layout: str, groups: int) -> Any:
    """View activations as (N, groups, channels of a group, height, width)."""
    view = common_view(array, layout)
    n, channels, height, width = view.shape
    # splitting one axis in two is always a view
    return np.reshape(view, (n, groups, channels // groups, height, width))


def _classes(size: int, grads: int, taps: int, stride: int, dilation: int, pad: int) -> list[Axis]:
    """Residue classes of input cells that at least one tap reaches."""
    common = gcd(stride, dilation)
    step = stride // common  # taps of one class lie this far apart
    found = []
    for first in range(min(step, taps)):
        # input cells h with (h + pad − first·dilation) divisible by the stride
        residue = (first * dilation - pad) % stride
        if residue >= size:
            continue
        count = len(range(first, taps, step))
        last = first + (count - 1) * step
        offset = (residue + pad - last * dilation) // stride
        stop = first - step if first >= step else None
        found.append(
            Axis(
                outputs=-(-(size - residue) // stride),
                taps=count,
                stride=1,
                dilation=dilation // common,
                offset=offset,
                size=grads,
                write=slice(residue, None, stride),
                pick=slice(last, stop, -step),
            )
        )
    return found
