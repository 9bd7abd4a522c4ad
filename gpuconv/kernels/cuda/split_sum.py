"""The launch of ``kernels/split_sum.cu``, which ends whatever split its sums over blocks."""

from __future__ import annotations

from gpuconv.backend.device import Device
from gpuconv.backend.launch import Binary, KernelSpec
from gpuconv.kernels.cuda.params import FastDivmod, SplitSumParams
from gpuconv.kernels.work import Work
from gpuconv.problem import ITEMSIZE, ConvProblem

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


def sum_work(p: ConvProblem, elements: int, splits: int) -> Work:
    """What adding `splits` partial results of `elements` each asks of a device, with or without a border."""
    partial, result = (8 if p.dtype == "f64" else 4), ITEMSIZE[p.dtype]
    beside = result * (1 + p.residual)
    return Work(
        blocks=-(-elements // _THREADS),
        threads=_THREADS,
        registers=32,
        smem_bytes=0,
        multiplies=0,
        instructions=30 + 6 * splits,
        wavefronts=0,
        read_bytes=_THREADS * (splits * partial + beside - result),
        written_bytes=_THREADS * result,
        waits=1 + splits / 4,
    )
