"""Random problems."""

from __future__ import annotations

from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from gpuconv.arguments import LIMIT, PADDING_MODES
from gpuconv.layout import LAYOUTS, WEIGHTS
from gpuconv.problem import OPS, ConvProblem

from .problems import NUMPY


@st.composite
def problems(draw: Any, ops: tuple[str, ...] = OPS) -> ConvProblem:
    """Small problems of every kind, awkward ones likelier than in real networks."""
    small = st.integers(1, 4)
    op = draw(st.sampled_from(ops))
    kind = draw(st.sampled_from(("dense", "grouped", "depthwise", "multiplier", "image")))
    groups, Cg, Kg = {
        "dense": (1, draw(st.integers(1, 9)), draw(st.integers(1, 9))),
        "grouped": (draw(small), draw(small), draw(small)),
        "depthwise": (draw(st.integers(2, 20)), 1, 1),
        "multiplier": (draw(small), 1, draw(small)),
        "image": (1, 1, 1),
    }[kind]
    sides = st.tuples(st.integers(0, 4), st.integers(0, 4))
    pairs = st.tuples(small, small)
    layout = draw(st.sampled_from(LAYOUTS))
    N, H, W = draw(st.integers(0, 3)), draw(st.integers(1, 14)), draw(st.integers(1, 14))
    R, S = draw(st.sampled_from(((1, 1), (3, 3), *[(r, s) for r in range(1, 6) for s in range(1, 6)])))
    stride, dilation, padding = draw(pairs), draw(pairs), (draw(sides), draw(sides))
    for size, taps, step, pads in zip((H, W), (R, S), dilation, padding, strict=True):
        assume(step * (taps - 1) + 1 <= size + sum(pads))
    most = {"reflect": -1, "circular": 0}
    modes = [
        mode
        for mode in ("zeros", "zeros", *PADDING_MODES)
        if all(max(pads) <= size + most.get(mode, LIMIT) for size, pads in zip((H, W), padding, strict=True))
    ]
    fused = op == "fprop"
    return ConvProblem(
        op=op, N=N, C=groups * Cg, H=H, W=W, K=groups * Kg, R=R, S=S,
        stride=stride, padding=padding, dilation=dilation, groups=groups,
        layout=layout, weights=draw(st.sampled_from(WEIGHTS)), dtype=draw(st.sampled_from(tuple(NUMPY))),
        padding_mode=draw(st.sampled_from(modes)),
        bias=fused and draw(st.booleans()), residual=fused and draw(st.booleans()),
        relu=fused and draw(st.booleans()),
    )  # fmt: skip
