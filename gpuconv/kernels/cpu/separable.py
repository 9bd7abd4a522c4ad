"""Convolution by filters of rank one, as most that smooth or differentiate pictures are: two short passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from gpuconv.backend.device import Device
from gpuconv.config import Config
from gpuconv.errors import Reject
from gpuconv.kernels.base import HOPELESS
from gpuconv.kernels.cpu.base import CpuKernel
from gpuconv.kernels.cpu.fft_convolution import CpuFft
from gpuconv.kernels.cpu.rank_one import RankOne
from gpuconv.kernels.cpu.usual import direct_plan
from gpuconv.plan import Plan
from gpuconv.problem import ConvProblem

_BANDS: Final = (8, 16, 32, 64)
_BOXES: Final = (128, 256, 512)
#: Pictures have so few channels; filters of networks with more are hardly ever of rank one.
_PICTURE: Final = 4
#: Taps along each axis from which two passes take less time, and outputs beside which looking takes none.
_LEAST_TAPS: Final = 7
#: Beyond as many, boxes would be mostly border, and take more memory than pictures do.
_MOST_TAPS: Final = 900
#: From as many taps on, transforms take less time where their memory allows them.
_SPECTRAL_TAPS: Final = 257
_LEAST_OUTPUTS: Final = 192 * 192


@dataclass(frozen=True)
class SeparableConfig(Config):
    """Outputs of one product, and outputs of one box along each axis."""

    band: int = 16
    box: int = 256


class CpuSeparable(CpuKernel[SeparableConfig]):
    """Look at the filters when they come: two passes if all are of rank one, else another kernel's plan."""

    name = "cpu_separable"
    config_type = SeparableConfig
    rank_one_filters = True

    def check(self, p: ConvProblem, device: Device) -> Reject | None:
        """Takes fprop and dgrad with one channel in and out for each group, all but float64."""
        if (reject := super().check(p, device)) is not None:
            return reject
        if p.op == "wgrad":
            return self.reject("takes fprop and dgrad")
        if p.dtype == "f64":
            return self.reject("float64 has no wider type for the sums between the passes")
        if not p.C == p.K == p.groups:
            return self.reject(f"takes one channel in and out a group, not {p.C}→{p.K} in {p.groups}")
        if p.stride != (1, 1) or p.dilation != (1, 1):
            return self.reject("takes no stride and no dilation")
        if max(p.R, p.S) > 4096:
            return self.reject(f"takes up to 4096 taps along an axis, there are {max(p.R, p.S)}")
        return None

    def configs(self, p: ConvProblem, device: Device) -> Sequence[SeparableConfig]:
        """Every band with every box."""
        return [SeparableConfig(band, box) for band in _BANDS for box in _BOXES]

    def check_config(self, p: ConvProblem, cfg: SeparableConfig, device: Device) -> Reject | None:
        """Bounds only; any band and any box are right."""
        if not 1 <= cfg.band <= 1024:
            return self.reject(f"band must be from 1 to 1024, got {cfg.band}")
        if not 1 <= cfg.box <= 4096:
            return self.reject(f"box must be from 1 to 4096, got {cfg.box}")
        return None

    def default_config(self, p: ConvProblem, device: Device) -> SeparableConfig:
        """Wider bands for longer filters: the share of useful products is taps of band + taps − 1."""
        return SeparableConfig(16 if max(p.R, p.S) <= 11 else 32)

    def workspace_bytes(self, p: ConvProblem, cfg: SeparableConfig, device: Device) -> int:
        """A box of each thread between the passes, or what the other plan takes."""
        return self.bind(p, cfg, device).workspace_bytes

    def bind(self, p: ConvProblem, cfg: SeparableConfig, device: Device) -> Plan:
        """Cut the work for both cases; the filters decide at each run."""
        usual = self._usual(p, device)
        engine = RankOne(p, band=cfg.band, box=cfg.box, device=device, usual=usual.run)
        memory = engine.workspace_bytes + usual.workspace_bytes
        return Plan(p, self.name, cfg, device, memory, engine.run)

    def preference(self, p: ConvProblem, device: Device) -> int:
        """Above all others for large filters of pictures, unless `cpu_fft` is faster; else below."""
        outputs = p.P * p.Q if p.op == "fprop" else p.H * p.W
        few = p.C <= _PICTURE and outputs >= _LEAST_OUTPUTS
        if not few or min(p.R, p.S) < _LEAST_TAPS or max(p.R, p.S) > _MOST_TAPS:
            return HOPELESS
        return 4 if max(p.R, p.S) < _SPECTRAL_TAPS or CpuFft().check(p, device) is not None else HOPELESS

    @staticmethod
    def _usual(p: ConvProblem, device: Device) -> Plan:
        """What dispatch would choose without this kernel."""
        fft: Any = CpuFft()
        if fft.check(p, device) is None and fft.preference(p, device) > 0:
            plan: Plan = fft.bind(p, fft.default_config(p, device), device)
            return plan
        return direct_plan(p, device)
