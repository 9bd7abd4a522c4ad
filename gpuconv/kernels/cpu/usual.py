"""The direct plan of a problem: what kernels that look at the data fall back on."""

from __future__ import annotations

from typing import Any, Final

from gpuconv.backend.device import Device
from gpuconv.kernels.base import Kernel
from gpuconv.kernels.cpu.depthwise import CpuDepthwiseBanded, CpuDepthwiseTaps
from gpuconv.kernels.cpu.im2col_gemm import CpuIm2colGemm, CpuPointwise
from gpuconv.plan import Plan
from gpuconv.problem import ConvProblem

#: They sum products one by one: right for all data, whatever its range, NaN and infinity included.
_DIRECT: Final[tuple[Kernel[Any], ...]] = (
    CpuPointwise(),
    CpuDepthwiseTaps(),
    CpuDepthwiseBanded(),
    CpuIm2colGemm(),
)


def direct_plan(p: ConvProblem, device: Device) -> Plan:
    """The plan of the best direct kernel, as dispatch ranks them."""
    takers = [kernel for kernel in _DIRECT if kernel.check(p, device) is None]
    best = max(takers, key=lambda kernel: kernel.preference(p, device))
    return best.bind(p, best.default_config(p, device), device)
