"""The best plan among some kernels, as dispatch ranks them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from gpuconv.backend.device import Device
from gpuconv.kernels.base import Kernel
from gpuconv.kernels.cpu.depthwise import CpuDepthwiseBanded, CpuDepthwiseTaps
from gpuconv.kernels.cpu.im2col_gemm import CpuIm2colGemm, CpuPointwise
from gpuconv.plan import Plan
from gpuconv.problem import ConvProblem

#: What kernels that look at the data fall back on. They sum products one by one: right for all data, whatever
#: its range, NaN and infinity included.
DIRECT: Final[tuple[Kernel[Any], ...]] = (
    CpuPointwise(),
    CpuDepthwiseTaps(),
    CpuDepthwiseBanded(),
    CpuIm2colGemm(),
)


def best_plan(kernels: Sequence[Kernel[Any]], p: ConvProblem, device: Device) -> Plan:
    """The plan of the kernel that ranks highest; at least one must take the problem."""
    takers = [kernel for kernel in kernels if kernel.check(p, device) is None]
    best = max(takers, key=lambda kernel: kernel.preference(p, device))
    return best.bind(p, best.default_config(p, device), device)


def direct_plan(p: ConvProblem, device: Device) -> Plan:
    """The plan of the best direct kernel."""
    return best_plan(DIRECT, p, device)
