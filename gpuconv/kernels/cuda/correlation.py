"""fprop, dgrad and wgrad as one correlation over strided tensors, in the terms of ``tile/correlation.cuh``.

============  ======================  =======================  =====================
..            fprop                   dgrad                    wgrad
============  ======================  =======================  =====================
in            x                       dy                       x
taps          w                       w, channels swapped      dy
out           y                       dx                       dw
images        N                       N                        C of a group
channels      C of a group            K of a group             N
filters       K of a group            C of a group             K of a group
============  ======================  =======================  =====================
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import gcd, prod, sqrt

from gpuconv.kernels.cuda import params
from gpuconv.kernels.cuda.kept import kept
from gpuconv.layout import TO_COMMON
from gpuconv.problem import ConvProblem


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a correlation.

    Attributes
    ----------
    in_size, out_size, taps, pad : int
        Cells of input and output, taps, zero cells before the first.
    stride, dilation : int
        Input cells between neighbouring outputs of a class, and between neighbouring taps of a class.
    classes, common : int
        Stride of the forward convolution and its gcd with the dilation, for dgrad; else 1.
    tap_step : int
        Dilation of the forward convolution, for dgrad.
    reverse : bool
        Whether taps are met from the last to the first: for dgrad.
    """

    in_size: int
    out_size: int
    taps: int
    pad: int
    stride: int
    dilation: int
    classes: int = 1
    common: int = 1
    tap_step: int = 1
    reverse: bool = False

    @kept
    def period(self) -> int:
        """Taps of one class lie this far apart."""
        return self.classes // self.common

    @kept
    def class_taps(self) -> int:
        """Taps of the class that has most."""
        return -(-self.taps // self.period)

    @kept
    def class_outputs(self) -> int:
        """Outputs of the class that has most."""
        return -(-self.out_size // self.classes)

    @property
    def launched_classes(self) -> int:
        """Classes that have an output."""
        return min(self.classes, self.out_size)

    @property
    def origin(self) -> int:
        """Input cell of the first output and the first tap, where there is one class."""
        assert self.classes == 1
        return self.pad - (self.taps - 1) * self.dilation if self.reverse else -self.pad

    def even(self, taps: int) -> bool:
        """Whether every class is cut into whole stages of so many taps, all the same number of them."""
        counts = {self.taps // self.period, self.class_taps}
        if self.common > 1:
            counts.add(0)
        return len(counts) == 1 and self.class_taps % taps == 0

    def pack(self) -> params.Axis:
        """As the kernel takes it."""
        inverse = pow(self.tap_step // self.common, -1, self.period) if self.period > 1 else 0
        return params.Axis(
            self.in_size, self.out_size, self.taps, self.pad,
            self.classes, self.common, self.period, inverse, self.tap_step,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Strides:
    """Elements between neighbours along each axis; of the taps, `image` counts outputs."""

    image: int
    group: int
    channel: int
    row: int
    column: int

    def pack(self) -> params.Strides:
        """As the kernel takes it."""
        return params.Strides(self.image, self.group, self.channel, self.row, self.column)


@dataclass(frozen=True)
class Correlation:
    """``out[n,g,k,i,j] = Σ in[n,g,c,·,·]·taps[g,k,c,·,·]``; of `out`, `channel` strides count k."""

    images: int
    groups: int
    channels: int
    filters: int
    rows: Axis
    columns: Axis
    in_strides: Strides
    taps_strides: Strides
    out_strides: Strides
    out_elements: int

    @kept
    def depth(self) -> int:
        """Products in the longest sum."""
        return self.channels * self.rows.class_taps * self.columns.class_taps


@lru_cache(256)  # asked for every config that is weighed
def correlation(p: ConvProblem) -> Correlation:
    """The correlation that computes `p`."""
    Cg, Kg = p.C // p.groups, p.K // p.groups
    xn, xc, xh, xw = _element_strides(p.x_shape, p.layout)
    yn, yc, yh, yw = _element_strides(p.y_shape, p.layout)
    wo, wi, wr, ws = _element_strides(p.w_shape, p.weights)
    x, y = Strides(xn, Cg * xc, xc, xh, xw), Strides(yn, Kg * yc, yc, yh, yw)
    rows, columns = _axis(p, 0), _axis(p, 1)
    elements = prod(p.operand_shapes[2])
    if p.op == "fprop":
        w = Strides(wo, Kg * wo, wi, wr, ws)
        return Correlation(p.N, p.groups, Cg, Kg, rows, columns, x, w, y, elements)
    if p.op == "dgrad":
        w = Strides(wi, Kg * wo, wo, wr, ws)
        return Correlation(p.N, p.groups, Kg, Cg, rows, columns, y, w, x, elements)
    by_channel = Strides(xc, Cg * xc, xn, xh, xw)
    by_image = Strides(yc, Kg * yc, yn, yh, yw)
    w = Strides(wi, Kg * wo, wo, wr, ws)
    return Correlation(Cg, p.groups, p.N, Kg, rows, columns, by_channel, by_image, w, elements)


def most_roundings(p: ConvProblem, depth: int) -> float:
    """Roundings of a sum of `depth` products that the bound of `gpuconv.validate.tolerance` leaves room for.

    Bias and residual cost one each, and the result's own rounding, which is the accumulator's in float32 and
    float64, is allowed beside.
    """
    return 9 + 4 * sqrt(depth) - p.bias - p.residual


def _element_strides(shape: tuple[int, ...], order: str) -> tuple[int, int, int, int]:
    """Strides of a contiguous array stored in `order`, as (N, C, H, W) or (O, I, H, W)."""
    steps = [prod(shape[axis + 1 :]) for axis in range(4)]
    a, b, c, d = (steps[axis] for axis in TO_COMMON[order])
    return a, b, c, d


def _axis(p: ConvProblem, which: int) -> Axis:
    size, out, taps = ((p.H, p.P, p.R), (p.W, p.Q, p.S))[which]
    stride, dilation, pad = p.stride[which], p.dilation[which], p.padding[which][0]
    if p.op == "fprop":
        return Axis(size, out, taps, pad, stride, dilation)
    if p.op == "wgrad":
        return Axis(size, taps, out, pad, dilation, stride)
    common = gcd(stride, dilation)
    return Axis(out, size, taps, pad, 1, dilation // common, stride, common, dilation, reverse=True)
