"""What CUDA kernels have in common: launches as plain data, and a plan that makes them."""

from __future__ import annotations

from abc import abstractmethod
from math import prod
from typing import Any

from gpuconv.backend import launch
from gpuconv.backend.device import Device
from gpuconv.kernels.base import C, Kernel
from gpuconv.kernels.work import Work
from gpuconv.plan import Plan
from gpuconv.problem import ConvProblem


class CudaKernel(Kernel[C]):
    """An algorithm described by its launches; `check` must turn down devices of any other kind."""

    @abstractmethod
    def launches(self, p: ConvProblem, cfg: C, device: Device) -> tuple[launch.KernelSpec, ...]:
        """Return what to launch, in order, without asking CUDA anything.

        The arrays are contiguous, their addresses multiples of an element's size and no more; the result has
        at least one element.
        """

    @abstractmethod
    def works(self, p: ConvProblem, cfg: C, device: Device) -> tuple[Work, ...]:
        """Return what each of `launches` asks of the device, about."""

    def workspace_bytes(self, p: ConvProblem, cfg: C, device: Device) -> int:
        """None, unless a kernel says otherwise."""
        return 0

    def bind(self, p: ConvProblem, cfg: C, device: Device) -> Plan:
        """Compile and load; the plan only fills in addresses, and waits for nothing."""
        launcher = launch.current()
        # an empty result needs no launch, and CUDA refuses an empty grid
        specs = self.launches(p, cfg, device) if prod(p.operand_shapes[2]) else ()
        steps = tuple(zip(specs, launcher.load(specs, device), strict=True)) if specs else ()
        scratch = self.workspace_bytes(p, cfg, device) if specs else 0

        def address(array: Any) -> int:
            return 0 if array is None else launcher.pointer(array)

        def run(a: Any, b: Any, out: Any, bias: Any, residual: Any) -> None:
            workspace = launcher.empty((scratch,), "u8", device) if scratch else None
            addresses = {
                "a": address(a),
                "b": address(b),
                "out": address(out),
                "bias": address(bias),
                "residual": address(residual),
                "workspace": address(workspace),
            }
            for spec, start in steps:
                start(spec.pack(addresses))

        return Plan(p, self.name, cfg, device, scratch, run)
