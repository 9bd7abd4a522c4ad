"""Images with borders as NumPy makes them, and the types that they may turn into."""

from __future__ import annotations

from typing import Any

import numpy as np

from .problems import DTYPES, NUMPY

#: What a constant, the image again and its mirror image are to NumPy.
BOUNDARIES = {"fill": "constant", "wrap": "wrap", "symm": "symmetric"}
INTEGERS = tuple(np.dtype(f"{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8))
BOOL = np.dtype(bool)
_FLOATS = {short: np.dtype(NUMPY[short]) for short in DTYPES}
#: Types of images, and those that have all their numbers, but for integers of 64 bits.
WIDER = [
    *((dtype, dtype) for dtype in _FLOATS.values()),
    *((dtype, _FLOATS["f32"]) for short, dtype in _FLOATS.items() if short in ("f16", "bf16")),
    *((dtype, _FLOATS["f64"]) for short, dtype in _FLOATS.items() if short != "f64"),
    *((dtype, _FLOATS["f64"]) for dtype in (*INTEGERS, BOOL)),
    *((dtype, _FLOATS["f32"]) for dtype in (*INTEGERS, BOOL) if dtype.itemsize <= 2),
]


def padded(image: Any, padding: Any, boundary: str, fill: float, dtype: Any) -> Any:
    """Channels of an image as planes, (C, 1, H, W), with their borders."""
    planes = np.atleast_3d(image).transpose(2, 0, 1)[:, None].astype(dtype)
    constant = {"constant_values": fill} if boundary == "fill" else {}
    return np.pad(planes, ((0, 0), (0, 0), *padding), BOUNDARIES[boundary], **constant)
