"""Faults in borders other than zeros: how they are read, and how their gradient is brought home."""

from __future__ import annotations

from tests.mutation.fault import Fault


def _border(name: str, old: str, new: str, why: str) -> Fault:
    return Fault(f"border-{name}", "cuda_src/include/gpuconv/tile/border.cuh", old, new, why)


def _sum(name: str, old: str, new: str, why: str) -> Fault:
    return Fault(f"border-sum-{name}", "cuda_src/kernels/border_sum.cu", old, new, why)


def _copy(name: str, old: str, new: str, why: str) -> Fault:
    return Fault(f"border-{name}", "cuda_src/include/gpuconv/tile/copy.cuh", old, new, why)


def _host(name: str, old: str, new: str, why: str) -> Fault:
    return Fault(f"border-{name}", "gpuconv/kernels/cuda/border.py", old, new, why)


FAULTS = (
    _border("mirror-repeats", "2u * (size - 1)", "2u * (size - 1) + 1", "the last cell twice, as symmetric"),
    _border(
        "replicate-beyond", "return cell < 0 ? 0 : size - 1;", "return cell < 0 ? 0 : size;", "one beyond"
    ),
    _border(
        "circular-off-by-one", "from + size : from - size", "from + size - 1 : from - size", "a cell off"
    ),
    _border("nearer-forgotten", "nearer(cell == 0 ? before : 0)", "nearer(0)", "cells before the image lost"),
    _border(
        "count-of-two",
        "(cell == size - 1 ? behind : 0) : 3;",
        "(cell == size - 1 ? behind : 0) : 2;",
        "nothing behind the image comes home",
    ),
    _border("reach-before", "holder >= -before", "holder > -before", "the outermost cell before is lost"),
    _border("reach-behind", "holder < size + behind", "holder <= size + behind", "a cell that is not there"),
    _border(
        "itself-again",
        "return ahead ? holder < 0 &&",
        "return ahead ? holder <= 0 &&",
        "cell 0 counted twice",
    ),
    _border("replicate-behind", "size - 1 + index - nearer", "size + index - nearer", "a cell further"),
    _sum("splits", "split < params.splits", "split < 1", "only the first split"),
    _sum("top", "(params.top + row)", "(params.bottom + row)", "rows shifted where sides differ"),
    _sum("left", "(params.left + column)", "(params.right + column)", "columns shifted"),
    _sum(
        "sides",
        "Holders<BORDER> columns(w, params.width, params.left, params.right)",
        "Holders<BORDER> columns(w, params.width, params.right, params.left)",
        "sides swapped",
    ),
    _sum("channel", "params.inner.divisor > 1 ? inner : outer", "inner", "bias of channel 0 for planes"),
    _sum(
        "lost",
        "lost += (total - (larger - kept)) + (term - kept);",
        "lost += total - (larger - kept);",
        "half the error lost",
    ),
    _sum(
        "uncompensated", "const Sum whole = total + lost;", "const Sum whole = total;", "a plain running sum"
    ),
    _sum("infinite", "return lost - lost == 0 ? whole : total;", "return whole;", "infinity becomes NaN"),
    _sum(
        "row",
        "* params.height + h) * params.row_elements",
        "* params.height + h) * params.width",
        "rows overlap",
    ),
    _sum(
        "tail",
        "if (along >= static_cast<unsigned>(params.row_elements)) return;",
        "",
        "writes beyond the row",
    ),
    _copy("unit-axis", "cell = holds;", "cell = first + i;", "zeros beyond the ends of rows"),
    _copy(
        "other-axes",
        "if (a != kUnit && has_border(a)) cell",
        "if (a == kRow && a != kUnit && has_border(a)) cell",
        "no border of columns where channels are neighbours",
    ),
    _copy("rows", "(axis == kRow || axis == kColumn)", "(axis == kColumn)", "no border of rows"),
    _host(
        "never",
        'return p.op == "dgrad" and p.padding_mode',
        'return p.op == "fprop" and p.padding_mode',
        "the wrong direction",
    ),
    _host(
        "split-elements",
        "split_elements=prod(padded.x_shape)",
        "split_elements=prod(p.x_shape)",
        "splits overlap",
    ),
    _host("image", "image=padded.H * row", "image=p.H * row", "images overlap"),
)
