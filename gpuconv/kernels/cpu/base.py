"""What CPU algorithms have in common."""

from __future__ import annotations

from gpuconv.backend.device import Device
from gpuconv.errors import Reject
from gpuconv.kernels.base import C, Kernel
from gpuconv.problem import ConvProblem


class CpuKernel(Kernel[C]):
    """An algorithm of the CPU that reads zeros around the input."""

    def check(self, p: ConvProblem, device: Device) -> Reject | None:
        """Takes what lies on the CPU, padded with zeros; ``cpu_padded`` brings other borders to that."""
        if device.kind != "cpu":
            return self.reject("runs on the CPU only")
        if p.padding_mode != "zeros":
            return self.reject(f"takes padding with zeros only, not {p.padding_mode}")
        return None
