"""Depthwise convolution: one input channel for each group, no Python loop over channels.

`CpuDepthwiseBanded` computes `block_rows` output rows of a channel with one product: a banded matrix of the
taps times input rows laid out so that neighbouring products read overlapping views. `CpuDepthwiseTaps`
multiplies and adds whole channels-last rows, tap by tap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gpuconv.backend.device import Device
from gpuconv.config import Config
from gpuconv.errors import Reject
from gpuconv.kernels.base import Kernel
from gpuconv.kernels.cpu.banded_product import BandedProduct
from gpuconv.kernels.cpu.tap_sum import TapSum
from gpuconv.plan import Plan
from gpuconv.problem import ConvProblem

_BLOCK_ROWS: Final = (4, 8, 16, 32)
_BLOCK_KIB: Final = (128, 256, 512, 1024, 2048, 4096, 8192)
#: Rows of the banded matrix are mostly zeros beyond this dilation.
_MOST_DILATION: Final = 4
#: Channels-last: beyond this many taps and columns, laying rows out for products pays.
_FEW_TAPS: Final = 9
_FEW_COLUMNS: Final = 14


@dataclass(frozen=True)
class BandedConfig(Config):
    """Output rows of one product, and the KiB of laid-out rows in one block."""

    block_rows: int = 8
    block_kib: int = 2048


@dataclass(frozen=True)
class TapsConfig(Config):
    """KiB of sums in one block."""

    block_kib: int = 512


class CpuDepthwiseBanded(Kernel[BandedConfig]):
    """Banded products over overlapping views of the input's rows."""

    name = "cpu_depthwise_banded"
    config_type = BandedConfig

    def check(self, p: ConvProblem, device: Device) -> Reject | None:
        """Takes fprop from one input channel a group, and dgrad to and from one."""
        if device.kind != "cpu":
            return self.reject("runs on the CPU only")
        if p.op == "wgrad":
            return self.reject("takes fprop and dgrad")
        if p.groups != p.C:
            return self.reject(f"takes one input channel a group, there are {p.C // p.groups}")
        if p.op == "dgrad" and p.groups != p.K:
            return self.reject(f"dgrad takes one output channel a group, there are {p.K // p.groups}")
        if p.groups == 1 and p.K > 4:
            return self.reject(f"takes at most 4 outputs of a single channel, there are {p.K}")
        if p.R * p.S == 1:
            return self.reject("takes more than one tap")
        if max(p.dilation) > _MOST_DILATION:
            return self.reject(f"takes dilations up to {_MOST_DILATION}, this one is {max(p.dilation)}")
        return None

    def configs(self, p: ConvProblem, device: Device) -> Sequence[BandedConfig]:
        """Every number of rows with every block size."""
        return [BandedConfig(rows, kib) for rows in _BLOCK_ROWS for kib in _BLOCK_KIB]

    def check_config(self, p: ConvProblem, cfg: BandedConfig, device: Device) -> Reject | None:
        """Bounds only; any rows and any block are right."""
        if not 1 <= cfg.block_rows <= 64:
            return self.reject(f"block_rows must be from 1 to 64, got {cfg.block_rows}")
        if not 1 <= cfg.block_kib <= 2**20:
            return self.reject(f"block_kib must be from 1 to {2**20}, got {cfg.block_kib}")
        return None

    def default_config(self, p: ConvProblem, device: Device) -> BandedConfig:
        """More rows for taller kernels: the share of useful products is R of R + block_rows − 1."""
        return BandedConfig(8 if p.R <= 7 else 16 if p.R <= 11 else 32)

    def workspace_bytes(self, p: ConvProblem, cfg: BandedConfig, device: Device) -> int:
        """Laid-out rows and sums of one block for each thread, and the banded matrices."""
        return self._engine(p, cfg, device).workspace_bytes

    def bind(self, p: ConvProblem, cfg: BandedConfig, device: Device) -> Plan:
        """Cut the work once; the plan only runs it."""
        engine = self._engine(p, cfg, device)
        return Plan(p, self.name, cfg, device, engine.workspace_bytes, engine.run)

    def preference(self, p: ConvProblem, device: Device) -> int:
        """Above the general case, which copies every row once for each tap."""
        return 1

    @staticmethod
    def _engine(p: ConvProblem, cfg: BandedConfig, device: Device) -> BandedProduct:
        return BandedProduct(
            p, block_rows=cfg.block_rows, block_bytes=cfg.block_kib * 1024, threads=device.threads
        )


class CpuDepthwiseTaps(Kernel[TapsConfig]):
    """Multiply and add, one whole block of channels-last rows for each tap."""

    name = "cpu_depthwise_taps"
    config_type = TapsConfig

    def check(self, p: ConvProblem, device: Device) -> Reject | None:
        """Takes fprop and dgrad of NHWC problems with one channel in and out for each group."""
        if device.kind != "cpu":
            return self.reject("runs on the CPU only")
        if p.op == "wgrad":
            return self.reject("takes fprop and dgrad")
        if p.layout != "nhwc":
            return self.reject("takes NHWC")
        if not p.C == p.K == p.groups or p.C == 1:
            return self.reject(
                f"takes one channel in and out for each of several groups, not {p.C}→{p.K} in {p.groups}"
            )
        return None

    def configs(self, p: ConvProblem, device: Device) -> Sequence[TapsConfig]:
        """Every block size."""
        return [TapsConfig(kib) for kib in _BLOCK_KIB]

    def check_config(self, p: ConvProblem, cfg: TapsConfig, device: Device) -> Reject | None:
        """Bounds only; any block is right."""
        if not 1 <= cfg.block_kib <= 2**20:
            return self.reject(f"block_kib must be from 1 to {2**20}, got {cfg.block_kib}")
        return None

    def default_config(self, p: ConvProblem, device: Device) -> TapsConfig:
        """Sums, products and input of a block within a core's own cache."""
        return TapsConfig()

    def workspace_bytes(self, p: ConvProblem, cfg: TapsConfig, device: Device) -> int:
        """Sums and products of one block for each thread, and the weights in the accumulator's type."""
        return self._engine(p, cfg, device).workspace_bytes

    def bind(self, p: ConvProblem, cfg: TapsConfig, device: Device) -> Plan:
        """Cut the work once; the plan only runs it."""
        engine = self._engine(p, cfg, device)
        return Plan(p, self.name, cfg, device, engine.workspace_bytes, engine.run)

    def preference(self, p: ConvProblem, device: Device) -> int:
        """Above banded products where rows are short or taps few."""
        return 2 if p.R * p.S <= _FEW_TAPS or p.Q <= _FEW_COLUMNS else 0

    @staticmethod
    def _engine(p: ConvProblem, cfg: TapsConfig, device: Device) -> TapSum:
        return TapSum(p, block_bytes=cfg.block_kib * 1024, threads=device.threads)
