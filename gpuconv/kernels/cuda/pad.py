"""The launch of ``kernels/pad.cu``: channels of an image as planes, in another type, with a border around."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from gpuconv.arguments import Padding
from gpuconv.backend.device import Device
from gpuconv.backend.launch import KernelSpec, Launcher
from gpuconv.errors import Reject
from gpuconv.kernels.cuda import gather
from gpuconv.kernels.cuda.params import FastDivmod, PadAxis, PadParams
from gpuconv.problem import DTYPES

_ENTRY: Final = "pad"
#: As the kernel numbers them.
_BOUNDARIES: Final = ("fill", "wrap", "symm")
#: Of what counts the cells along an axis with its padding; an image and its mirror image more fit into 31.
_BITS: Final = 29


def enqueue(
    image: Any,
    planes: Any,
    padding: Padding,
    boundary: str,
    fill: float,
    device: Device,
    launcher: Launcher,
) -> None:
    """Lay out an image's channels and what lies around them; nothing waits.

    Parameters
    ----------
    image : array (H, W) or (H, W, C)
        Of float or integer type, or bool; any strides.
    planes : array (C, 1, top + H + bottom, left + W + right)
        Written: contiguous, of a float type that has the numbers of image's.
    padding, boundary, fill
        As `correlate2d` has them; the constant in the type of `planes`.

    Raises
    ------
    UnsupportedProblem
        If the device cannot; it carries the reason.
    LaunchError
        If the device's context is lost.
    """
    what = f"planes {tuple(planes.shape)} of an image {tuple(image.shape)} in {planes.dtype.name}"
    made = launch(image, planes.dtype, padding, boundary, fill, device)
    gather.start(what, made, image, planes, device, launcher)


def launch(
    image: Any, dtype: np.dtype[Any], padding: Padding, boundary: str, fill: float, device: Device
) -> KernelSpec | Reject:
    """What to launch, or why it cannot be; of the image its shape, strides and dtype."""
    H, W, *channels = image.shape
    (top, bottom), (left, right) = padding
    height, width = top + H + bottom, left + W + right
    refused = gather.refusal(_ENTRY, device, _BITS, {"height": height, "width": width})
    if refused is not None:
        return refused
    counting = gather.count([width, *(channels or [1]), height])
    row, column, *channel = (step // image.dtype.itemsize for step in image.strides)
    with np.errstate(over="ignore"):
        bits = np.array(fill).astype(dtype).tobytes()
    params = PadParams(
        row=row,
        column=column,
        channel=channel[0] if channel else 0,
        plane_row=width,
        plane=height * width,
        fill=int.from_bytes(bits, "little"),
        rows=_axis(H, top, boundary),
        columns=_axis(W, left, boundary),
        boundary=_BOUNDARIES.index(boundary),
        count=counting.params,
    )
    defines: dict[str, object] = {"ELEMENT": short_name(dtype), "SOURCE": short_name(image.dtype)}
    return gather.spec(_ENTRY, defines, counting, params, device)


def short_name(dtype: np.dtype[Any]) -> str:
    """A type as kernels name it: a problem's dtype, or a letter and a number of bits."""
    if dtype.kind in "biu":
        return f"{'i' if dtype.kind == 'i' else 'u'}{8 * dtype.itemsize}"
    return next(short for short, name in DTYPES.items() if name == dtype.name)


def _axis(size: int, before: int, boundary: str) -> PadAxis:
    if boundary == "fill":
        return PadAxis(size, -before, FastDivmod.of(1))
    period = size if boundary == "wrap" else 2 * size
    return PadAxis(size, -before % period, FastDivmod.of(period))
