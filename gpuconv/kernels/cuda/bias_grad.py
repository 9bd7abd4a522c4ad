"""The launches of ``kernels/bias_grad.cu``: sums over images and pixels, channel by channel.

A sum errs by as many units of roundoff as additions follow one another: those of a thread's rows, of the
block's halves and of the parts. Of n terms that is about √n/4 + 8 + √n/2 at most, and so the sum keeps the
bound of `gpuconv.validate.tolerance` whatever the numbers are.
"""

from __future__ import annotations

from math import isqrt
from typing import Any, Final

from gpuconv.backend.device import Device
from gpuconv.backend.launch import Binary, KernelSpec, Launcher
from gpuconv.errors import CompileError, LaunchRefused, Reject, UnsupportedProblem
from gpuconv.kernels.cuda.params import BiasGradParams, FastDivmod
from gpuconv.kernels.cuda.split_sum import split_sum
from gpuconv.layout import common_shape
from gpuconv.problem import ConvProblem, Shape

_THREADS: Final = 256
#: Channels of a block, at most, where they are neighbours in memory.
_LANES: Final = 32
#: Rows that a thread adds, at least, before there is more than one part.
_ROWS: Final = 32
#: Pixels of an image: a step beyond them still fits into 31 bits.
_BITS: Final = 30
_MOST_BLOCKS: Final = 2**31 - 1


def enqueue(
    shape: Shape, layout: str, dtype: str, source: Any, result: Any, device: Device, launcher: Launcher
) -> None:
    """Sum a contiguous gradient of this shape into K numbers; nothing waits.

    Raises
    ------
    UnsupportedProblem
        If the device cannot; it carries the reason.
    LaunchError
        If the device's context is lost.
    MemoryError
        If there is no room for the parts' sums.
    """
    what = f"bgrad of {'x'.join(map(str, shape))} {layout} {dtype}"
    made = launches(shape, layout, dtype, device)
    if isinstance(made, Reject):
        raise UnsupportedProblem(what, str(device), (made,))
    specs, scratch = made
    try:
        steps = launcher.load(specs, device)
        workspace = launcher.empty((scratch,), "u8", device) if scratch else None
        addresses = {"a": launcher.pointer(source), "out": launcher.pointer(result), "bias": 0, "residual": 0}
        addresses["workspace"] = 0 if workspace is None else launcher.pointer(workspace)
        for spec, start in zip(specs, steps, strict=True):
            start(spec.pack(addresses))
    except (CompileError, LaunchRefused) as error:
        raise UnsupportedProblem(what, str(device), (_reject(str(error)),)) from error


def launches(
    shape: Shape, layout: str, dtype: str, device: Device
) -> tuple[tuple[KernelSpec, ...], int] | Reject:
    """What to launch, and the bytes of its workspace, or why it cannot be."""
    if device.capability < (7, 5):
        return _reject(f"needs compute capability 7.5, {device.name} has {device.capability}")
    N, K, P, Q = common_shape(shape, layout)
    last = layout == "nhwc" or P * Q == 1
    lanes = min(_LANES, 1 << (K - 1).bit_length()) if last else 1
    row_lanes, tiles = _THREADS // lanes, -(-K // lanes)
    cells = 1 if last else P * Q
    rows = N * P * Q
    part_rows = row_lanes * max(_ROWS, isqrt(rows) // 4)
    parts = max(1, -(-rows // part_rows))
    if tiles * parts > _MOST_BLOCKS:
        return _reject(f"takes at most 2**31 - 1 blocks, got {tiles * parts}")
    if cells >> _BITS:
        return _reject(f"takes images of fewer than 2**{_BITS} pixels, got {cells}")
    image = K * cells
    whole, step_cells = divmod(row_lanes, cells)
    params = BiasGradParams(
        image=image, channel=cells, rows=rows, part_rows=part_rows,
        step=whole * image + step_cells, next_image=image - cells,
        cells=cells, step_cells=step_cells, channels=K, tiles=FastDivmod.of(tiles),
    )  # fmt: skip
    wide = 8 if dtype == "f64" else 4
    defines = {"ELEMENT": dtype, "CHANNEL_LANES": lanes, "PARTIAL": int(parts > 1)}
    spec = KernelSpec(
        binary=Binary(
            "bias_grad.cu", tuple(sorted((name, str(value)) for name, value in defines.items())), device.arch
        ),
        entry="bias_grad",
        grid=(tiles * parts, 1, 1),
        block=(_THREADS, 1, 1),
        smem_bytes=_THREADS * wide,
        pointers=("a", "out" if parts == 1 else "workspace"),
        params=params.pack(),
    )
    if parts == 1:
        return (spec,), 0
    p = ConvProblem("fprop", 1, 1, 1, 1, K, 1, 1, dtype=dtype)
    return (spec, split_sum(p, K, parts, 1, device)), parts * K * wide


def _reject(reason: str) -> Reject:
    return Reject("cuda_bias_grad", reason)
