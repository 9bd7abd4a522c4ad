"""Every kernel there is."""

from __future__ import annotations

from functools import cache
from typing import Any

from gpuconv.kernels.base import Kernel
from gpuconv.kernels.cpu.depthwise import CpuDepthwiseBanded, CpuDepthwiseTaps
from gpuconv.kernels.cpu.fft_convolution import CpuFft
from gpuconv.kernels.cpu.im2col_gemm import CpuIm2colGemm, CpuPointwise
from gpuconv.kernels.cpu.padded import CpuPadded
from gpuconv.kernels.cpu.separable import CpuSeparable
from gpuconv.kernels.cuda.direct import CudaDirect
from gpuconv.kernels.cuda.implicit_gemm_simt import CudaImplicitGemmSimt
from gpuconv.kernels.cuda.implicit_gemm_sm80 import CudaImplicitGemmSm80


@cache
def kernels() -> tuple[Kernel[Any], ...]:
    """All kernels; among equals in preference, the first is chosen."""
    return (
        CpuPointwise(),
        CpuDepthwiseTaps(),
        CpuDepthwiseBanded(),
        CpuFft(),
        CpuSeparable(),
        CpuIm2colGemm(),
        CpuPadded(),
        CudaDirect(),
        CudaImplicitGemmSimt(),
        CudaImplicitGemmSm80(),
    )


def by_name(name: str) -> Kernel[Any]:
    """Find one kernel.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    for kernel in kernels():
        if kernel.name == name:
            return kernel
    names = ", ".join(kernel.name for kernel in kernels())
    raise ValueError(f"kernel must be one of {names}, got {name!r}")
