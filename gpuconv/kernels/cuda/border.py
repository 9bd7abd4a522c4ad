"""Borders other than zeros on CUDA devices.

fprop and wgrad read the input through an index map, see ``tile/border.cuh``. dgrad sums the gradient to the
padded input into a workspace, and ``kernels/border_sum.cu`` brings the border home and ends.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Final

from gpuconv.backend.device import Device
from gpuconv.backend.launch import Binary, KernelSpec
from gpuconv.kernels.cuda.params import BorderSumParams, FastDivmod
from gpuconv.kernels.cuda.split_sum import epilogue_defines
from gpuconv.problem import ConvProblem

#: As the ``Border`` of ``tile/border.cuh`` is written.
_BORDERS: Final = {
    "zeros": "kZeros", "reflect": "kReflect", "replicate": "kReplicate", "circular": "kCircular",
}  # fmt: skip
_LEAST_THREADS: Final = 32
_MOST_THREADS: Final = 256


def folds(p: ConvProblem) -> bool:
    """Whether what is summed is larger than the result, and `border_sum` must end it."""
    return p.op == "dgrad" and p.padding_mode != "zeros"


def summed(p: ConvProblem) -> ConvProblem:
    """The problem whose sums a kernel computes: of dgrad the one with the border in the input."""
    if not folds(p):
        return p
    return replace(
        p,
        H=p.H + sum(p.padding[0]),
        W=p.W + sum(p.padding[1]),
        padding=((0, 0), (0, 0)),
        padding_mode="zeros",
    )


def border_define(p: ConvProblem) -> dict[str, object]:
    """What lies around the input of the problem that is summed."""
    return {"BORDER": _BORDERS[summed(p).padding_mode]}


def too_large(p: ConvProblem) -> str | None:
    """Why `border_sum` cannot end a problem, or None."""
    row, blocks = _row_elements(p), _blocks(p)
    if row >= 2**31:
        return f"takes rows of fewer than 2**31 elements with padding_mode {p.padding_mode}, got {row}"
    if blocks >= 2**31:
        return f"takes fewer than 2**31 blocks with padding_mode {p.padding_mode}, got {blocks}"
    return None


def border_sum(p: ConvProblem, splits: int, device: Device) -> KernelSpec:
    """Add `splits` partial gradients to the padded input, bring its border home, add bias and residual."""
    padded, inner = summed(p), _inner(p)
    threads = _threads(p)
    row = padded.W * inner
    params = BorderSumParams(
        split_elements=prod(padded.x_shape),
        image=padded.H * row,
        row=row,
        height=p.H,
        width=p.W,
        top=p.padding[0][0],
        bottom=p.padding[0][1],
        left=p.padding[1][0],
        right=p.padding[1][1],
        row_elements=_row_elements(p),
        splits=splits,
        tiles=FastDivmod.of(-(-_row_elements(p) // threads)),
        rows=FastDivmod.of(p.H),
        inner=FastDivmod.of(inner),
        channels=FastDivmod.of(p.C),
    )
    border = _BORDERS[p.padding_mode]
    defines = {**epilogue_defines(p), "BORDER": border, "BLOCK_THREADS": threads}
    return KernelSpec(
        binary=Binary(
            "border_sum.cu",
            tuple(sorted((name, str(value)) for name, value in defines.items())),
            device.arch,
        ),
        entry="border_sum",
        grid=(_blocks(p), 1, 1),
        block=(threads, 1, 1),
        smem_bytes=0,
        pointers=("workspace", "out", "bias", "residual"),
        params=params.pack(),
    )


def _inner(p: ConvProblem) -> int:
    """Neighbours in memory that belong to one pixel."""
    return p.C if p.layout == "nhwc" else 1


def _row_elements(p: ConvProblem) -> int:
    return p.W * _inner(p)


def _threads(p: ConvProblem) -> int:
    row = _row_elements(p)
    return min(_MOST_THREADS, max(_LEAST_THREADS, 1 << (row - 1).bit_length()))


def _blocks(p: ConvProblem) -> int:
    return -(-_row_elements(p) // _threads(p)) * p.H * p.N * (p.C // _inner(p))
