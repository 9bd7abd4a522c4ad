"""Convolution as a matrix product of the weights with gathered patches, in cache-sized blocks.

`CpuIm2colGemm` serves every problem and direction. `CpuPointwise` is its special case of one tap without
padding, where the patches are the input itself and mostly need no copy.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Final

from gpuconv.backend.device import Device
from gpuconv.config import Config
from gpuconv.errors import Reject
from gpuconv.kernels.cpu import blocks
from gpuconv.kernels.cpu.base import CpuKernel
from gpuconv.kernels.cpu.correlation import passes
from gpuconv.kernels.cpu.patch_product import PatchProduct
from gpuconv.kernels.cpu.weight_gradient import WeightGradient
from gpuconv.plan import Plan
from gpuconv.problem import ConvProblem

_BLOCK_KIB: Final = (512, 1024, 2048, 4096, 8192, 16384)
_SPLITS: Final = (1, 2, 4, 8)
#: Of blocks and parts (wgrad: and lanes), those that came out on top for layers of ResNet-50 and MobileNetV2.
_PROMISING: Final = (
    *((4096, 1), (8192, 2), (16384, 2), (1024, 1), (512, 1), (2048, 1), (16384, 1), (8192, 1)),
    *((2048, 2), (4096, 2), (1024, 2), (4096, 4), (512, 2), (16384, 4), (1024, 4)),
)
_PROMISING_WGRAD: Final = (
    *((4096, 2, 1), (4096, 1, 2), (2048, 1, 2), (1024, 1, 4), (1024, 2, 8), (1024, 1, 1), (16384, 2, 2)),
    *((1024, 1, 2), (2048, 2, 1), (4096, 4, 4), (8192, 1, 4), (2048, 2, 8), (8192, 2, 8), (4096, 1, 4)),
    *((2048, 4, 1), (1024, 2, 1)),
)
#: Multiply-adds below which one more block costs more than a second thread gains; in groups they take longer.
_WORTH_A_BLOCK: Final = 12_000_000
_WORTH_WGRAD: Final = 8_000_000
_WORTH_GROUPS: Final = 1_000_000
_DEFAULT_KIB: Final = (4096, 2048, 1024, 512)
#: Products with so few outputs take as long as gathering: fewer, larger blocks.
_THIN: Final = 4
_THIN_KIB: Final = (16384, 8192)
#: A block of fewer pixels is too narrow for a product.
_LEAST_PIXELS: Final = 64
#: Bytes of weights that each lane may sum apart.
_LIGHT_WEIGHTS: Final = 2**20
#: Channels of a group up to which products are so small that calling them takes the time.
_FEW_INPUTS: Final = 2
#: Bytes of patches from which on a second thread helps even those.
_MANY_PATCHES: Final = 8 * 2**20
#: Pixels of a block of theirs.
_WGRAD_PIXELS: Final = 100
#: Bytes of gradients that a block may bring along.
_CACHE: Final = 20 * 2**20


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
        promising = _PROMISING_WGRAD if p.op == "wgrad" else _PROMISING
        tried = [
            self.default_config(p, device),
            *(Im2colConfig(*numbers) for numbers in promising),
            *(Im2colConfig(*numbers) for numbers in product(_BLOCK_KIB, _SPLITS, lanes)),
        ]
        return [cfg for cfg in dict.fromkeys(tried) if self.check_config(p, cfg, device) is None]

    def identity(self, p: ConvProblem, cfg: Im2colConfig, device: Device) -> Hashable:
        """How the work comes out cut: small problems make no more blocks, parts and lanes than they can."""
        return self._engine(p, cfg, device).cuts

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
        """As many blocks as the machine has processors, as large as that allows, then parts.

        The number of processors counts and not that of threads: this machine gives the same bits on any.
        """
        cores = min(blocks.ENOUGH_BLOCKS, device.cores)
        worth = _WORTH_GROUPS if p.groups > 1 else _WORTH_WGRAD if p.op == "wgrad" else _WORTH_A_BLOCK
        enough = min(cores, max(1, p.flops // 2 // worth))
        if p.op == "wgrad":
            return self._default_wgrad(p, cores, enough)
        if self._few_inputs(p):
            return Im2colConfig(8192)
        pixels, row = self._largest_pass(p)
        outputs = (p.C if p.op == "dgrad" else p.K) // p.groups
        sizes = (*_THIN_KIB, *_DEFAULT_KIB) if p.groups == 1 and outputs <= _THIN else _DEFAULT_KIB
        wide = [kib for kib in sizes if kib * 1024 >= _LEAST_PIXELS * row]
        kib = next((kib for kib in wide if pixels * row > (enough - 1) * kib * 1024), max(sizes))
        made = max(p.N, -(-pixels * row // (kib * 1024)))
        return Im2colConfig(kib, min(-(-enough // max(1, made)), self._parts(p)))

    @staticmethod
    def _few_inputs(p: ConvProblem) -> bool:
        """Whether this is depthwise, or nearly."""
        return p.C // p.groups <= _FEW_INPUTS < p.groups

    @staticmethod
    def _largest_pass(p: ConvProblem) -> tuple[int, int]:
        """Pixels, and bytes of patches of each, of the pass that takes most; dgrad has one for each phase."""
        inputs = (p.K if p.op == "dgrad" else p.C) * blocks.accumulator(p).itemsize
        found = (
            (p.N * one.rows.outputs * one.columns.outputs, inputs * one.rows.taps * one.columns.taps)
            for one in passes(p)
        )
        return max(found, key=lambda one: one[0] * one[1], default=(0, 1))

    @classmethod
    def _default_wgrad(cls, p: ConvProblem, cores: int, enough: int) -> Im2colConfig:
        """Lanes of many pixels each; where there are few, or a lane's weights are large, parts."""
        _, _, pixels = p.gemm_mnk
        patch_bytes = pixels * p.C * p.R * p.S * blocks.accumulator(p).itemsize
        if cls._few_inputs(p):
            if pixels < cores * _LEAST_PIXELS:
                return Im2colConfig(2048)
            if p.layout == "nchw" and patch_bytes > _MANY_PATCHES:
                return Im2colConfig(16384, 2, cores)
            wanted = min(_WGRAD_PIXELS, pixels // cores) * patch_bytes // pixels // 1024
            kib = next((kib for kib in (1024, 2048, 4096, 8192) if kib >= wanted), 16384)
            return Im2colConfig(kib, 1, cores if p.layout == "nhwc" else 1)
        if p.groups > 1:
            splits = min(enough, p.groups)
            return Im2colConfig(2048, splits, max(1, enough // splits))
        light = prod(p.w_shape) * blocks.accumulator(p).itemsize <= _LIGHT_WEIGHTS
        lanes = enough if light and pixels >= enough * _LEAST_PIXELS else 1
        # neither the patches nor the gradients of a block leave the cache
        outputs = p.K * pixels * blocks.accumulator(p).itemsize / max(1, patch_bytes)
        sizes = [kib for kib in _DEFAULT_KIB if kib * 1024 * outputs <= _CACHE]
        kib = next((kib for kib in sizes if patch_bytes > (lanes - 1) * kib * 1024), 1024)
        return Im2colConfig(kib, min(-(-enough // lanes), max(1, p.C // 16)), lanes)

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
