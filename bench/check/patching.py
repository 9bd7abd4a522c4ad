"""Patches and their sums on a device: exact, with the bodies that need no more than NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

import gpuconv
from bench.check.steps import need_dtype
from gpuconv.problem import DTYPES, ConvProblem
from tests import patches
from tests.cases import Machine, Mismatch, difference
from tests.problems import NUMPY

#: What records and pages call the kernel.
KERNEL = "cuda_unfold"
KINDS = ("unfold", "fold")
#: Rows that end anywhere, few and many channels, whole vectors, cells in no patch.
SHAPES = (
    "n2c3h7w9k1r3s3p1",
    "n1c5h13w12k1r2s4u3x2p0+2x3+1",
    "n2c16h6w5k1r3s2p2d2x3",
    "n1c130h3w4k1r1s1p1",
)
PROBLEMS = tuple(
    f"{shape}_{layout}_{dtype}" for dtype in DTYPES for layout in ("nchw", "nhwc") for shape in SHAPES
)


def check(name: str, text: str, machine: Machine) -> dict[str, Any]:
    """Small integers come out exact, at an aligned address and beside one."""
    p = ConvProblem.parse(f"fprop_{text}")
    need_dtype(p.dtype)
    kind = [KERNEL, name, p.dtype]
    x, cols, options = patches.images(p), patches.columns(p), patches.options_of(p)
    given = x if name == "unfold" else cols
    expected = patches.by_cells(p, x) if name == "unfold" else patches.summed(p, cols)
    expected = np.ascontiguousarray(expected).astype(NUMPY[p.dtype])
    try:
        for offset in (0, 3):
            with machine.at_work():
                source = machine.put(given, offset)
                out = machine.poisoned(expected.shape, expected.dtype, offset)
                if name == "unfold":
                    gpuconv.unfold(source, out=out, **options)
                else:
                    gpuconv.fold(source, p.x_shape, out=out, **options)
                got = machine.get(out)
            if got.tobytes() != expected.tobytes():
                message = f"{name} of {text} at offset {offset} is not exact"
                raise Mismatch(message, problem=str(p), offset=offset, **difference(got, expected))
    except Exception as error:
        error.details = {**(getattr(error, "details", None) or {}), "kind": kind}  # type: ignore[attr-defined]
        raise
    return {"kind": kind}
