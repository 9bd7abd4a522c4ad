"""Depthwise convolution: one input channel for each group, no Python loop over channels.

`CpuDepthwiseBanded` computes `block_rows` output rows of a channel with one product: a banded matrix of the
taps times input rows laid out so that neighbouring products read overlapping views. `CpuDepthwiseTaps`
multiplies and adds whole rows of all channels, tap by tap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from gpuconv.backend.device import Device
from gpuconv.config import Config
from gpuconv.errors import Reject
from gpuconv.kernels.cpu.banded_product import BandedProduct
from gpuconv.kernels.cpu.base import CpuKernel
from gpuconv.kernels.cpu.correlation import passes
from gpuconv.kernels.cpu.tap_sum import TapSum
from gpuconv.plan import Plan
from gpuconv.problem import ConvProblem

_BLOCK_ROWS: Final = (1, 2, 4, 8, 16, 32)
_BLOCK_KIB: Final = (128, 256, 512, 1024, 2048, 4096, 8192)
#: Those that came out on top for layers of MobileNetV2.
_PROMISING: Final = ((2, 8192), (2, 4096), (4, 4096), (8, 4096), (4, 2048), (16, 4096), (8, 8192), (16, 2048))
_TAPS_KIB: Final = (512, 256, 1024, 8192, 2048, 4096, 128)
#: Rows of the banded matrix are mostly zeros beyond this stride or dilation.
_MOST_STEP: Final = 4
#: Elements of all banded matrices together; they are larger than the taps by their number of rows and more.
_MOST_BANDED: Final = 8 * 2**20
#: Sums of more taps, one after the other, leave the error bound.
_MOST_TAPS: Final = 64
#: Beyond this many taps and columns, laying rows out for products pays.
_FEW_TAPS: Final = 9
_FEW_COLUMNS: Final = 14
#: Up to so many of both, gathering patches takes less time than laying rows out.
_SHORT_COLUMNS: Final = 28


@dataclass(frozen=True)
class BandedConfig(Config):
    """Output rows of one product, and the KiB of laid-out rows in one block."""

    block_rows: int = 8
    block_kib: int = 2048


@dataclass(frozen=True)
class TapsConfig(Config):
    """KiB of sums in one block."""

    block_kib: int = 512


class CpuDepthwiseBanded(CpuKernel[BandedConfig]):
    """Banded products over overlapping views of the input's rows."""

    name = "cpu_depthwise_banded"
    config_type = BandedConfig

    def check(self, p: ConvProblem, device: Device) -> Reject | None:
        """Takes fprop from one input channel a group, and dgrad to and from one."""
        if (reject := super().check(p, device)) is not None:
            return reject
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
        for name, step in (("dilations", max(p.dilation)), ("strides", max(p.stride))):
            if step > _MOST_STEP:
                return self.reject(f"takes {name} up to {_MOST_STEP}, this one is {step}")
        if self._banded(p, 1) > _MOST_BANDED:
            return self.reject(f"takes up to {_MOST_BANDED} taps in all, there are {self._banded(p, 1)}")
        return None

    def configs(self, p: ConvProblem, device: Device) -> Sequence[BandedConfig]:
        """Every number of rows whose matrices are not too large, with every block size."""
        tried = [
            self.default_config(p, device),
            *(BandedConfig(*numbers) for numbers in _PROMISING),
            *(BandedConfig(*numbers) for numbers in product(_BLOCK_ROWS, _BLOCK_KIB)),
        ]
        return [cfg for cfg in dict.fromkeys(tried) if self.check_config(p, cfg, device) is None]

    def check_config(self, p: ConvProblem, cfg: BandedConfig, device: Device) -> Reject | None:
        """Bounds only; any rows and any block are right."""
        if not 1 <= cfg.block_rows <= 64:
            return self.reject(f"block_rows must be from 1 to 64, got {cfg.block_rows}")
        if self._banded(p, cfg.block_rows) > _MOST_BANDED:
            return self.reject(f"block_rows={cfg.block_rows} makes matrices of over {_MOST_BANDED} elements")
        if not 1 <= cfg.block_kib <= 2**20:
            return self.reject(f"block_kib must be from 1 to {2**20}, got {cfg.block_kib}")
        return None

    def default_config(self, p: ConvProblem, device: Device) -> BandedConfig:
        """More rows for taller kernels: the share of useful products is R of R + block_rows − 1.

        Fewer where many channels share the work.
        """
        rows = 4 if p.R <= 7 else 16 if p.R <= 16 else 32
        if p.C > 1:
            rows = 2 if p.R <= 5 else 4 if p.R <= 11 else 2 if p.layout == "nhwc" else 8
        while self._banded(p, rows) > _MOST_BANDED:
            rows //= 2
        return BandedConfig(rows, 8192)

    def workspace_bytes(self, p: ConvProblem, cfg: BandedConfig, device: Device) -> int:
        """Laid-out rows and sums of one block for each thread, and the banded matrices."""
        return self._engine(p, cfg, device).workspace_bytes

    def bind(self, p: ConvProblem, cfg: BandedConfig, device: Device) -> Plan:
        """Cut the work once; the plan only runs it."""
        engine = self._engine(p, cfg, device)
        return Plan(p, self.name, cfg, device, engine.workspace_bytes, engine.run)

    def preference(self, p: ConvProblem, device: Device) -> int:
        """Above the general case, which copies every row once for each tap; below where rows are short."""
        found = passes(p)
        width = max((one.columns.outputs for one in found), default=0)
        taps = max((one.rows.taps * one.columns.taps for one in found), default=0)
        return -1 if p.C > 1 and taps <= _FEW_TAPS and width <= _SHORT_COLUMNS else 1

    @staticmethod
    def _banded(p: ConvProblem, rows: int) -> int:
        """Elements of the banded matrices, at most."""
        tall = (rows - 1) * p.stride[0] + (p.R - 1) * p.dilation[0] + 1
        return p.K * rows * tall * p.S

    @staticmethod
    def _engine(p: ConvProblem, cfg: BandedConfig, device: Device) -> BandedProduct:
        return BandedProduct(
            p, block_rows=cfg.block_rows, block_bytes=cfg.block_kib * 1024, threads=device.threads
        )


class CpuDepthwiseTaps(CpuKernel[TapsConfig]):
    """Multiply and add one whole block of channels-last rows for each tap."""

    name = "cpu_depthwise_taps"
    config_type = TapsConfig

    def check(self, p: ConvProblem, device: Device) -> Reject | None:
        """Takes fprop and dgrad with one channel in and out for each group."""
        if (reject := super().check(p, device)) is not None:
            return reject
        if p.op == "wgrad":
            return self.reject("takes fprop and dgrad")
        if not p.C == p.K == p.groups or p.C == 1:
            return self.reject(
                f"takes one channel in and out for each of several groups, not {p.C}→{p.K} in {p.groups}"
            )
        if p.R * p.S > _MOST_TAPS:
            return self.reject(f"takes up to {_MOST_TAPS} taps, there are {p.R * p.S}")
        return None

    def configs(self, p: ConvProblem, device: Device) -> Sequence[TapsConfig]:
        """Every block size."""
        return [TapsConfig(kib) for kib in _TAPS_KIB]

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
        """Above banded products where rows are short or taps few; in NCHW else below everything."""
        few = p.R * p.S <= _FEW_TAPS
        short = _FEW_COLUMNS if few else _FEW_COLUMNS // 2
        if p.layout == "nhwc":
            return 2 if few or p.Q <= short else 0
        return 2 if p.Q <= short else -1

    @staticmethod
    def _engine(p: ConvProblem, cfg: TapsConfig, device: Device) -> TapSum:
        return TapSum(p, block_bytes=cfg.block_kib * 1024, threads=device.threads)
