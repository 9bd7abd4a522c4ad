"""The launches of ``kernels/unfold.cu``: patches of images laid out side by side, and summed back.

A problem stands for the geometry: its filters' size is the patches', its output says where patches lie, and
it has one filter, which nobody reads.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from gpuconv.backend.device import Device
from gpuconv.backend.launch import KernelSpec, Launcher
from gpuconv.errors import Reject
from gpuconv.kernels.cuda import gather
from gpuconv.kernels.cuda.correlation import correlation
from gpuconv.kernels.cuda.direct_tiles import SHORT_SUM
from gpuconv.kernels.cuda.params import Count, FastDivmod, UnfoldParams
from gpuconv.problem import ITEMSIZE, ConvProblem

_ENTRY: Final = "unfold"
#: Bytes of one access.
_WIDEST: Final = 16
#: Bytes of one pixel's channels below which taps have threads of their own.
_FEW: Final = 128
#: Of what counts the cells along an axis with its padding: coordinates beyond them still fit into 32.
_BITS: Final = 30


def enqueue(
    p: ConvProblem, source: Any, result: Any, device: Device, launcher: Launcher, *, folds: bool
) -> None:
    """Lay out patches, or sum them back, from one contiguous array into another; nothing waits.

    Raises
    ------
    UnsupportedProblem
        If the device cannot; it carries the reason.
    LaunchError
        If the device's context is lost.
    """
    if 0 in result.shape:
        return
    what = f"{'fold' if folds else 'unfold'} of {p}"
    gather.start(what, launch(p, device, folds=folds), source, result, device, launcher)


def launch(p: ConvProblem, device: Device, *, folds: bool) -> KernelSpec | Reject:
    """What to launch where there is something to write, or why it cannot be."""
    cells = {"height": p.H + sum(p.padding[0]), "width": p.W + sum(p.padding[1])}
    refused = gather.refusal(_ENTRY, device, _BITS, cells)
    if refused is not None:
        return refused
    last = p.layout == "nhwc"
    vector = _vector(p) if last else 1
    spread = last and not folds and p.C * ITEMSIZE[p.dtype] < _FEW
    height, width = (p.H, p.W) if folds else (p.P, p.Q)
    if last:
        axes = [p.C // vector, *((p.S, p.R) if spread else ()), width, height, p.N]
    else:
        axes = [width, height, p.C, p.N]
    counting = gather.count(axes)
    defines = {
        "ELEMENT": p.dtype,
        "FOLD": int(folds),
        "CHANNELS_LAST": int(last),
        "VECTOR": vector,
        "SPREAD_TAPS": int(spread),
        "LONG_SUM": int(folds and _most_meeting(p) > SHORT_SUM),
    }
    return gather.spec(_ENTRY, defines, counting, _params(p, counting.params), device)


def _most_meeting(p: ConvProblem) -> int:
    """Taps that meet in one cell, at most: a fold is the gradient of a convolution whose filter is ones."""
    return correlation(replace(p, op="dgrad")).depth


def _params(p: ConvProblem, count: Count) -> UnfoldParams:
    if p.layout == "nhwc":
        patch = p.R * p.S * p.C
        steps = {
            "image": p.H * p.W * p.C, "channel": 1, "row": p.W * p.C, "column": p.C,
            "cols_image": p.P * p.Q * patch, "cols_channel": 1,
            "tap_row": p.S * p.C, "tap_column": p.C, "patch_row": p.Q * patch, "patch_column": patch,
        }  # fmt: skip
    else:
        plane = p.P * p.Q
        steps = {
            "image": p.C * p.H * p.W, "channel": p.H * p.W, "row": p.W, "column": 1,
            "cols_image": p.C * p.R * p.S * plane, "cols_channel": p.R * p.S * plane,
            "tap_row": p.S * plane, "tap_column": plane, "patch_row": p.Q, "patch_column": 1,
        }  # fmt: skip
    return UnfoldParams(
        **steps,
        height=p.H, width=p.W, rows=p.P, columns=p.Q, taps_h=p.R, taps_w=p.S,
        pad_h=p.padding[0][0], pad_w=p.padding[1][0],
        stride_h=p.stride[0], stride_w=p.stride[1], dilation_h=p.dilation[0], dilation_w=p.dilation[1],
        count=count,
        step_h=FastDivmod.of(p.stride[0]),
        step_w=FastDivmod.of(p.stride[1]),
    )  # fmt: skip


def _vector(p: ConvProblem) -> int:
    """Channels of one access: a power of two that divides them."""
    vector = _WIDEST // ITEMSIZE[p.dtype]
    while p.C % vector:
        vector //= 2
    return vector
