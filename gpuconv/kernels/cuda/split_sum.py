"""The launch of ``kernels/split_sum.cu``, which ends whatever split its sums over blocks."""

from __future__ import annotations

from gpuconv.backend.device import Device
from gpuconv.backend.launch import Binary, KernelSpec
from gpuconv.kernels.cuda.params import FastDivmod, SplitSumParams
from gpuconv.problem import ConvProblem

_THREADS = 128


def epilogue_defines(p: ConvProblem) -> dict[str, object]:
    """Element type and epilogue, as every kernel's sources name them."""
    return {"ELEMENT": p.dtype, "BIAS": int(p.bias), "RESIDUAL": int(p.residual), "RELU": int(p.relu)}


def split_sum(p: ConvProblem, elements: int, splits: int, channel_stride: int, device: Device) -> KernelSpec:
    """Add `splits` partial results of `elements` each, bias and residual; `elements` below 2³¹."""
    params = SplitSumParams(elements, splits, FastDivmod.of(channel_stride), FastDivmod.of(p.out_channels))
    defines = tuple(sorted((name, str(value)) for name, value in epilogue_defines(p).items()))
    return KernelSpec(
        binary=Binary("split_sum.cu", defines, device.arch),
        entry="split_sum",
        grid=(-(-elements // _THREADS), 1, 1),
        block=(_THREADS, 1, 1),
        smem_bytes=0,
        pointers=("workspace", "out", "bias", "residual"),
        params=params.pack(),
    )
