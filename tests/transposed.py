"""Random transposed convolutions, and one that is computed tap by tap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from gpuconv.layout import FROM_COMMON, LAYOUTS, WEIGHTS, ordered_shape

from .problems import DTYPES, NUMPY


@dataclass(frozen=True)
class Transposed:
    """Sizes and options of one transposed convolution; x is N×K×H×W, the output has C channels."""

    N: int
    K: int
    C: int
    H: int
    W: int
    R: int
    S: int
    stride: tuple[int, int] = (1, 1)
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    output_padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    layout: str = "nchw"
    weights: str = "oihw"
    dtype: str = "f32"

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the output, by PyTorch's formula."""
        steps = zip(
            (self.H, self.W), (self.R, self.S), self.stride, self.padding, self.output_padding, self.dilation,
            strict=True,
        )  # fmt: skip
        height, width = ((n - 1) * u - sum(p) + d * (taps - 1) + o + 1 for n, taps, u, p, o, d in steps)
        return height, width

    @property
    def shapes(self) -> tuple[Any, Any, Any]:
        """Shapes of x, w and the output, in their orders."""
        x, out = (self.N, self.K, self.H, self.W), (self.N, self.C, *self.size)
        w = self.K, self.C // self.groups, self.R, self.S
        return ordered_shape(x, self.layout), ordered_shape(w, self.weights), ordered_shape(out, self.layout)

    @property
    def options(self) -> dict[str, Any]:
        """As the public functions take them."""
        same = ("stride", "padding", "output_padding", "dilation", "groups")
        formats = {"data_format": self.layout.upper(), "weight_format": self.weights.upper()}
        return {name: getattr(self, name) for name in same} | formats

    def integers(self, seed: int) -> tuple[Any, Any, Any]:
        """Arrays x, w and grad_out of small integers."""
        rng = np.random.default_rng(seed)
        x, w, out = (rng.integers(-3, 4, shape).astype(NUMPY[self.dtype]) for shape in self.shapes)
        return x, w, out


def by_taps(t: Transposed, x: Any, w: Any) -> Any:
    """Each tap adds a multiple of the whole image, `stride` apart, to the output; then the edges are cut."""
    common = {"nchw": (0, 1, 2, 3), "nhwc": (0, 3, 1, 2)}[t.layout]
    x = x.transpose(common).astype(np.float64)
    order = {"oihw": (0, 1, 2, 3), "hwio": (3, 2, 0, 1), "ohwi": (0, 3, 1, 2)}[t.weights]
    w = w.transpose(order).astype(np.float64)
    height, width = t.size
    (top, bottom), (left, right) = t.padding
    whole = np.zeros((t.N, t.C, height + top + bottom, width + left + right))
    k, c = t.K // t.groups, t.C // t.groups
    for g, r, s in np.ndindex(t.groups, t.R, t.S):
        y, z = r * t.dilation[0], s * t.dilation[1]
        part = np.einsum("nkhw,kc->nchw", x[:, g * k : (g + 1) * k], w[g * k : (g + 1) * k, :, r, s])
        rows = slice(y, y + (t.H - 1) * t.stride[0] + 1, t.stride[0])
        columns = slice(z, z + (t.W - 1) * t.stride[1] + 1, t.stride[1])
        whole[:, g * c : (g + 1) * c, rows, columns] += part
    cut = whole[:, :, top : top + height, left : left + width]
    return cut.transpose(FROM_COMMON[t.layout])


@st.composite
def transposed(draw: Any, **fixed: Any) -> Transposed:
    """Small ones of every kind, output paddings beyond the stride included."""
    small = st.integers(1, 4)
    pairs = st.tuples(small, small)
    groups, k, c = draw(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)))
    stride, dilation = draw(pairs), draw(pairs)
    most = tuple(max(steps) - 1 for steps in zip(stride, dilation, strict=True))
    sides = st.tuples(st.integers(0, 4), st.integers(0, 4))
    values = {
        "N": draw(st.integers(0, 3)), "K": groups * k, "C": groups * c,
        "H": draw(st.integers(1, 7)), "W": draw(st.integers(1, 7)), "R": draw(small), "S": draw(small),
        "stride": stride, "dilation": dilation, "groups": groups, "padding": draw(st.tuples(sides, sides)),
        "output_padding": tuple(draw(st.integers(0, limit)) for limit in most),
        "layout": draw(st.sampled_from(LAYOUTS)), "weights": draw(st.sampled_from(WEIGHTS)),
        "dtype": draw(st.sampled_from(DTYPES)),
    }  # fmt: skip
    found = Transposed(**(values | fixed))
    assume(min(found.size) >= 1)
    return found
