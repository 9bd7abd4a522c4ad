"""Images under every boundary on a device: exact, with helpers that need no more than NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

import gpuconv
from bench.check.steps import need_dtype
from gpuconv.problem import DTYPES
from tests.borders import BOUNDARIES, padded
from tests.cases import Machine, Mismatch, difference
from tests.problems import NUMPY

#: What records and pages call the kernel.
KERNEL = "cuda_pad"
KINDS = tuple(BOUNDARIES)
#: Images of planes and of channels, some smaller than what lies around them.
SHAPES = ((7, 9), (300, 41), (1, 2), (5, 4, 3), (33, 70, 4))
PROBLEMS = tuple(DTYPES)
_TAPS = (3, 6)


def check(boundary: str, dtype: str, machine: Machine) -> dict[str, Any]:
    """Small integers come out exact, at an aligned address and beside one."""
    need_dtype(dtype)
    kind = [KERNEL, boundary, dtype]
    rng = np.random.default_rng(0)
    taps = rng.integers(-3, 4, _TAPS).astype(NUMPY[dtype])
    fill = 2 if boundary == "fill" else 0
    try:
        for shape in SHAPES:
            image = rng.integers(-3, 4, shape).astype(NUMPY[dtype])
            padding = [(size - 1, size - 1) for size in _TAPS]
            planes = padded(image, padding, boundary, fill, np.float64)[:, 0]
            windows = np.lib.stride_tricks.sliding_window_view(planes, _TAPS, (1, 2))
            expected = np.einsum("cijrs,rs->ijc", windows, taps.astype(np.float64))
            expected = expected.reshape(*expected.shape[:2], *shape[2:]).astype(NUMPY[dtype])
            for offset in (0, 3):
                with machine.at_work():
                    arrays = machine.put(image, offset), machine.put(taps, offset)
                    got = machine.get(gpuconv.correlate2d(*arrays, "full", boundary, fill))
                if got.tobytes() != expected.tobytes():
                    message = f"correlate2d of {shape} {dtype} under {boundary}, offset {offset}: not exact"
                    raise Mismatch(message, problem=str(shape), offset=offset, **difference(got, expected))
    except Exception as error:
        error.details = {**(getattr(error, "details", None) or {}), "kind": kind}  # type: ignore[attr-defined]
        raise
    return {"kind": kind}
