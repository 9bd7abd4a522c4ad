"""The launches of ``kernels/unfold.cu``: patches of images laid out side by side, and summed back.

A problem stands for the geometry: its filters' size is the patches', its output says where patches lie, and
it has one filter, which nobody reads.
"""

from __future__ import annotations

from math import prod
from typing import Any, Final

from gpuconv.backend.device import Device
from gpuconv.backend.launch import Binary, KernelSpec, Launcher
from gpuconv.errors import CompileError, LaunchRefused, Reject, UnsupportedProblem
from gpuconv.kernels.cuda.params import FastDivmod, UnfoldParams
from gpuconv.problem import ITEMSIZE, ConvProblem

_NAME: Final = "cuda_unfold"
_THREADS: Final = 256
#: Bytes of one access.
_WIDEST: Final = 16
#: Bytes of one pixel's channels below which taps have threads of their own.
_FEW: Final = 128
#: Cells along an axis with its padding: coordinates beyond it still fit into 32 bits.
_MOST_CELLS: Final = 2**30
#: Of what a thread counts, and of blocks.
_MOST_UNITS: Final = 2**31 - 1
_MOST_BLOCKS: Final = 2**31 - 1


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
    spec = launch(p, device, folds=folds)
    try:
        if isinstance(spec, Reject):
            raise UnsupportedProblem(_text(p, folds), str(device), (spec,))
        (start,) = launcher.load((spec,), device)
        start(spec.pack({"a": launcher.pointer(source), "out": launcher.pointer(result)}))
    except (CompileError, LaunchRefused) as error:
        raise UnsupportedProblem(_text(p, folds), str(device), (Reject(_NAME, str(error)),)) from error


def launch(p: ConvProblem, device: Device, *, folds: bool) -> KernelSpec | Reject:
    """What to launch where there is something to write, or why it cannot be."""
    if device.capability < (7, 5):
        return Reject(_NAME, f"needs compute capability 7.5, {device.name} has {device.capability}")
    for name, size, pads in (("height", p.H, p.padding[0]), ("width", p.W, p.padding[1])):
        if size + sum(pads) >= _MOST_CELLS:
            return Reject(_NAME, f"takes a padded {name} below 2**30, got {size + sum(pads)}")
    last = p.layout == "nhwc"
    vector = _vector(p) if last else 1
    spread = last and not folds and p.C * ITEMSIZE[p.dtype] < _FEW
    height, width = (p.H, p.W) if folds else (p.P, p.Q)
    if last:
        axes = [p.C // vector, *((p.S, p.R) if spread else ()), width, height, p.N]
    else:
        axes = [width, height, p.C, p.N]
    outer, units = 0, 1
    while outer < len(axes) and units * axes[outer] <= _MOST_UNITS:
        units *= axes[outer]
        outer += 1
    blocks = -(-units // _THREADS)
    grid = blocks * prod(axes[outer:])
    if grid > _MOST_BLOCKS:
        return Reject(_NAME, f"takes at most 2**31 - 1 blocks, got {grid}")
    defines = {
        "ELEMENT": p.dtype,
        "FOLD": int(folds),
        "CHANNELS_LAST": int(last),
        "VECTOR": vector,
        "SPREAD_TAPS": int(spread),
    }
    return KernelSpec(
        binary=Binary(
            "unfold.cu", tuple(sorted((name, str(value)) for name, value in defines.items())), device.arch
        ),
        entry="unfold",
        grid=(grid, 1, 1),
        block=(_THREADS, 1, 1),
        smem_bytes=0,
        pointers=("a", "out"),
        params=_params(p, axes, outer, units, blocks).pack(),
    )


def _params(p: ConvProblem, axes: list[int], outer: int, units: int, blocks: int) -> UnfoldParams:
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
    extents = [FastDivmod.of(size) for size in axes]
    extents += [FastDivmod.of(1)] * (6 - len(axes))
    return UnfoldParams(
        **steps,
        height=p.H, width=p.W, rows=p.P, columns=p.Q, taps_h=p.R, taps_w=p.S,
        pad_h=p.padding[0][0], pad_w=p.padding[1][0],
        stride_h=p.stride[0], stride_w=p.stride[1], dilation_h=p.dilation[0], dilation_w=p.dilation[1],
        units=units,
        outer=outer,
        blocks=FastDivmod.of(blocks),
        extents=(FastDivmod * 6)(*extents),
        step_h=FastDivmod.of(p.stride[0]),
        step_w=FastDivmod.of(p.stride[1]),
    )  # fmt: skip


def _vector(p: ConvProblem) -> int:
    """Channels of one access: a power of two that divides them."""
    vector = _WIDEST // ITEMSIZE[p.dtype]
    while p.C % vector:
        vector //= 2
    return vector


def _text(p: ConvProblem, folds: bool) -> str:
    return f"{'fold' if folds else 'unfold'} of {p}"
