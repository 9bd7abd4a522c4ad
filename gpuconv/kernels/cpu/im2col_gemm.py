"""Convolution as a matrix product of the weights with gathered patches, in cache-sized blocks.

`CpuIm2colGemm` serves every problem and direction. `CpuPointwise` is its special case of one tap without
padding, where the patches are the input itself and mostly need no copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gpuconv.backend.device import Device
from gpuconv.config import Config
from gpuconv.errors import Reject
from gpuconv.kernels.cpu import blocks
from gpuconv.kernels.cpu.base import CpuKernel
from gpuconv.kernels.cpu.patch_product import PatchProduct
from gpuconv.kernels.cpu.weight_gradient import WeightGradient
from gpuconv.plan import Plan
from gpuconv.problem import ConvProblem

_BLOCK_KIB: Final = (512, 1024, 2048, 4096, 8192, 16384)
_SPLITS: Final = (1, 2, 4, 8)
#: Multiply-adds below which one more block costs more than a second thread gains.
_WORTH_A_BLOCK: Final = 1_000_000


@dataclass(frozen=True)
class Im2colConfig(Config):
    """How the work is cut.

    Attributes
    ----------
    block_kib : int
        Size of one block's patches, in KiB.
    splits : int
        Parts that the groups are cut into, or for one group the channels (output channels, wgrad: input).
    lanes : int
        wgrad: partial sums over images and pixels.
    """

    block_kib: int = 2048
    splits: int = 1
    lanes: int = 1


class CpuIm2colGemm(CpuKernel[Im2colConfig]):
    """Gather patches, multiply: right for every problem."""

    name = "cpu_im2col_gemm"
    config_type = Im2colConfig

    def configs(self, p: ConvProblem, device: Device) -> Sequence[Im2colConfig]:
        """Block sizes around the caches, with each number of parts that the channels allow."""
        lanes = _SPLITS if p.op == "wgrad" else (1,)
        tried = [Im2colConfig(kib, parts, lane) for kib in _BLOCK_KIB for parts in _SPLITS for lane in lanes]
        legal = [cfg for cfg in tried if self.check_config(p, cfg, device) is None]
        default = self.default_config(p, device)
        return legal if default in legal else [default, *legal]

    def check_config(self, p: ConvProblem, cfg: Im2colConfig, device: Device) -> Reject | None:
        """Parts must be no more than there are channels to part."""
        if not 1 <= cfg.block_kib <= 2**20:
            return self.reject(f"block_kib must be from 1 to {2**20}, got {cfg.block_kib}")
        if not 1 <= cfg.splits <= self._parts(p):
            return self.reject(f"splits must be from 1 to {self._parts(p)}, got {cfg.splits}")
        most = 64 if p.op == "wgrad" else 1
        if not 1 <= cfg.lanes <= most:
            return self.reject(f"lanes must be from 1 to {most} for {p.op}, got {cfg.lanes}")
        return None

    def default_config(self, p: ConvProblem, device: Device) -> Im2colConfig:
        """Large blocks, smaller where that makes enough of them, then parts."""
        pixels, _, depth = p.gemm_mnk
        enough = min(blocks.ENOUGH_BLOCKS, max(1, p.flops // 2 // _WORTH_A_BLOCK))
        if p.op == "wgrad":
            splits = min(enough, p.groups if p.groups > 1 else max(1, p.C // 16))
            return Im2colConfig(2048, splits, max(1, enough // splits))
        patch_bytes = pixels * depth * p.groups * blocks.accumulator(p).itemsize
        kib = next((kib for kib in (4096, 2048) if patch_bytes >= enough * kib * 1024), 1024)
        made = max(p.N, -(-patch_bytes // (kib * 1024)))
        splits = min(-(-enough // max(1, made)), self._parts(p))
        return Im2colConfig(kib, splits)

    def workspace_bytes(self, p: ConvProblem, cfg: Im2colConfig, device: Device) -> int:
        """Patches and sums of one block for each thread, the weights once more, partial sums."""
        return self._engine(p, cfg, device).workspace_bytes

    def bind(self, p: ConvProblem, cfg: Im2colConfig, device: Device) -> Plan:
        """Cut the work once; the plan only runs it."""
        engine = self._engine(p, cfg, device)
        return Plan(p, self.name, cfg, device, engine.workspace_bytes, engine.run)

    @staticmethod
    def _engine(p: ConvProblem, cfg: Im2colConfig, device: Device) -> PatchProduct | WeightGradient:
        size = cfg.block_kib * 1024
        if p.op == "wgrad":
            return WeightGradient(
                p, block_bytes=size, splits=cfg.splits, lanes=cfg.lanes, threads=device.threads
            )
        return PatchProduct(p, block_bytes=size, splits=cfg.splits, threads=device.threads)

    @staticmethod
    def _parts(p: ConvProblem) -> int:
        if p.groups > 1:
            return p.groups
        return p.K if p.op == "fprop" else p.C


class CpuPointwise(CpuIm2colGemm):
    """One tap, no padding: a matrix product, mostly without any copy."""

    name = "cpu_pointwise"

    def check(self, p: ConvProblem, device: Device) -> Reject | None:
        """Takes 1×1 kernels without padding."""
        if (p.R, p.S) != (1, 1):
            return self.reject(f"takes 1×1 kernels, this one is {p.R}×{p.S}")
        if p.padding != ((0, 0), (0, 0)):
            return self.reject("takes no padding")
        return super().check(p, device)

    def preference(self, p: ConvProblem, device: Device) -> int:
        """Above the general case."""
        return 1
