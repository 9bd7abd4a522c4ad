"""Convolution as one matrix product whose patch matrix is never stored, by tensor cores (sm_80 and later).

The choice for many channels and filters in f16 and bf16; right for everything in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Final

from gpuconv.backend.device import Device
from gpuconv.backend.launch import Binary, KernelSpec
from gpuconv.errors import Reject
from gpuconv.kernels.cuda.base import CudaKernel
from gpuconv.kernels.cuda.mma_choice import least, neighbours, tiles_by_cost
from gpuconv.kernels.cuda.mma_tiles import MmaConfig, MmaTiles, illegal, tiles_of
from gpuconv.kernels.cuda.mma_work import work
from gpuconv.kernels.cuda.product import refusal
from gpuconv.kernels.cuda.split_sum import epilogue_defines, split_sum, sum_work
from gpuconv.kernels.work import Work
from gpuconv.problem import ConvProblem

_DTYPES: Final = ("f16", "bf16")


class CudaImplicitGemmSm80(CudaKernel[MmaConfig]):
    """Tiled product over an implicit patch matrix by mma.sync, as one correlation in all directions."""

    name = "implicit_gemm_sm80"
    config_type = MmaConfig

    def check(self, p: ConvProblem, device: Device) -> Reject | None:
        """Takes f16 and bf16, zero padding, axes and channels of fewer than 2³⁰ cells each."""
        if device.kind != "cuda":
            return self.reject("runs on CUDA devices only")
        if device.capability < (8, 0):
            return self.reject(f"needs compute capability 8.0, {device.name} has {device.capability}")
        if p.dtype not in _DTYPES:
            return self.reject(f"takes {' and '.join(_DTYPES)}, not {p.dtype}")
        reason = refusal(p) or illegal(self._tiles(p, self.default_config(p, device)), device)
        return None if reason is None else self.reject(reason)

    def configs(self, p: ConvProblem, device: Device) -> Sequence[MmaConfig]:
        """The default and its neighbours: other tiles, stages, chains, splits and bands."""
        base = self.default_config(p, device)
        tried = [base, *self.fallback_configs(p, device), *neighbours(base, p)]
        legal = [cfg for cfg in tried if illegal(self._tiles(p, cfg), device) is None]
        return list(dict.fromkeys(legal))

    def fallback_configs(self, p: ConvProblem, device: Device) -> Sequence[MmaConfig]:
        """The smallest tile, also without a workspace."""
        return [cfg for cfg in least(p, device) if illegal(self._tiles(p, cfg), device) is None]

    def check_config(self, p: ConvProblem, cfg: MmaConfig, device: Device) -> Reject | None:
        """Mirrors the static assertions of ``implicit_gemm_sm80.cu`` and the device's limits."""
        reason = illegal(self._tiles(p, cfg), device)
        return None if reason is None else self.reject(reason)

    def default_config(self, p: ConvProblem, device: Device) -> MmaConfig:
        """See `mma_choice.tiles_by_cost`."""
        return tiles_by_cost(p, device)[0]

    def workspace_bytes(self, p: ConvProblem, cfg: MmaConfig, device: Device) -> int:
        """Partial sums, where sums are split."""
        return 0 if cfg.splits == 1 else cfg.splits * prod(p.operand_shapes[2]) * 4

    def launches(self, p: ConvProblem, cfg: MmaConfig, device: Device) -> tuple[KernelSpec, ...]:
        """One launch, and where sums are split a second that adds them."""
        tiles = self._tiles(p, cfg)
        form = tiles.form
        if form.out_elements == 0:
            return ()
        split = cfg.splits > 1
        spec = KernelSpec(
            binary=Binary("implicit_gemm_sm80.cu", self._defines(tiles), device.arch),
            entry="implicit_gemm_sm80",
            grid=(prod(tiles.blocks) * cfg.splits, 1, 1),
            block=(cfg.threads, 1, 1),
            smem_bytes=tiles.smem_bytes,
            pointers=("a", "b", "workspace" if split else "out", "bias", "residual"),
            params=tiles.params.pack(),
        )
        if not split:
            return (spec,)
        return spec, split_sum(p, form.out_elements, cfg.splits, form.out_strides.channel, device)

    def candidates(self, p: ConvProblem, device: Device) -> Sequence[MmaConfig]:
        """The default and every other tile, each with splits that suit it."""
        return tiles_by_cost(p, device)

    def works(self, p: ConvProblem, cfg: MmaConfig, device: Device) -> tuple[Work, ...]:
        """See `mma_work.work` and `split_sum.sum_work`."""
        tiles = self._tiles(p, cfg)
        if cfg.splits == 1:
            return (work(tiles),)
        return work(tiles), sum_work(p, tiles.form.out_elements, cfg.splits)

    @staticmethod
    def _tiles(p: ConvProblem, cfg: MmaConfig) -> MmaTiles:
        return tiles_of(p, cfg)

    @staticmethod
    def _defines(tiles: MmaTiles) -> tuple[tuple[str, str], ...]:
        # what the compiler need not know: fewer binaries
        config = {
            name: value for name, value in tiles.cfg.defines().items() if name not in ("SPLITS", "RASTER")
        }
        split = tiles.cfg.splits > 1
        last = replace(tiles.p, bias=False, residual=False, relu=False) if split else tiles.p
        values: dict[str, object] = {
            **config,
            **epilogue_defines(last),
            "SPLIT": int(split),
            "CLASSES": int(tiles.p.op == "dgrad"),
            "INSIDE": int(tiles.inside),
            "IMAGES_FIRST": int(tiles.images_first),
            "CHANNELS_FIRST": int(tiles.channels_first),
            "IN_ALONG_DEPTH": int(tiles.in_map.along_depth),
            "IN_VECTOR": tiles.in_map.vector,
            "TAPS_ALONG_DEPTH": int(tiles.taps_map.along_depth),
            "TAPS_VECTOR": tiles.taps_map.vector,
            "OUT_ALONG_N": int(tiles.out_along_n),
        }
        return tuple(sorted((name, str(value)) for name, value in values.items()))
