"""Convolution as one matrix product whose patch matrix is never stored, by fused multiply-add.

The choice for many channels and filters in f32 and f64; right for everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from gpuconv.backend.device import Device
from gpuconv.backend.launch import Binary, KernelSpec
from gpuconv.errors import Reject
from gpuconv.kernels.cuda.base import CudaKernel
from gpuconv.kernels.cuda.gemm_choice import least, neighbours, tiles_by_cost
from gpuconv.kernels.cuda.gemm_tiles import GemmConfig, GemmTiles, illegal, tiles_of
from gpuconv.kernels.cuda.gemm_work import work
from gpuconv.kernels.cuda.product import refusal
from gpuconv.kernels.cuda.split_sum import epilogue_defines, split_sum, sum_work
from gpuconv.kernels.work import Work
from gpuconv.problem import ConvProblem


class CudaImplicitGemmSimt(CudaKernel[GemmConfig]):
    """Tiled matrix product over an implicit patch matrix, as one correlation in all directions."""

    name = "implicit_gemm_simt"
    config_type = GemmConfig

    def check(self, p: ConvProblem, device: Device) -> Reject | None:
        """Takes zero padding, axes and channels of fewer than 2³⁰ cells each, in fewer than 2³¹ blocks."""
        if device.kind != "cuda":
            return self.reject("runs on CUDA devices only")
        if device.capability < (7, 5):
            return self.reject(f"needs compute capability 7.5, {device.name} has {device.capability}")
        reason = refusal(p) or illegal(self._tiles(p, self.default_config(p, device)), device)
        return None if reason is None else self.reject(reason)

    def configs(self, p: ConvProblem, device: Device) -> Sequence[GemmConfig]:
        """The default and its neighbours: other tiles, depths of a stage, splits and bands."""
        base = self.default_config(p, device)
        tried = [base, *self.fallback_configs(p, device), *neighbours(base, p)]
        legal = [cfg for cfg in tried if illegal(self._tiles(p, cfg), device) is None]
        return list(dict.fromkeys(legal))

    def fallback_configs(self, p: ConvProblem, device: Device) -> Sequence[GemmConfig]:
        """The smallest tile, also without a workspace."""
        return [cfg for cfg in least(p, device) if illegal(self._tiles(p, cfg), device) is None]

    def check_config(self, p: ConvProblem, cfg: GemmConfig, device: Device) -> Reject | None:
        """Mirrors the static assertions of ``implicit_gemm_simt.cu`` and the device's limits."""
        reason = illegal(self._tiles(p, cfg), device)
        return None if reason is None else self.reject(reason)

    def default_config(self, p: ConvProblem, device: Device) -> GemmConfig:
        """See `gemm_choice.tiles_by_cost`."""
        return tiles_by_cost(p, device)[0]

    def workspace_bytes(self, p: ConvProblem, cfg: GemmConfig, device: Device) -> int:
        """Partial sums, where sums are split."""
        if cfg.splits == 1:
            return 0
        return cfg.splits * prod(p.operand_shapes[2]) * (8 if p.dtype == "f64" else 4)

    def launches(self, p: ConvProblem, cfg: GemmConfig, device: Device) -> tuple[KernelSpec, ...]:
        """One launch, and where sums are split a second that adds them."""
        tiles = self._tiles(p, cfg)
        form = tiles.form
        if form.out_elements == 0:
            return ()
        split = cfg.splits > 1
        spec = KernelSpec(
            binary=Binary("implicit_gemm_simt.cu", self._defines(tiles), device.arch),
            entry="implicit_gemm_simt",
            grid=(prod(tiles.blocks) * cfg.splits, 1, 1),
            block=(cfg.threads, 1, 1),
            smem_bytes=tiles.smem_bytes,
            pointers=("a", "b", "workspace" if split else "out", "bias", "residual"),
            params=tiles.params.pack(),
        )
        if not split:
            return (spec,)
        return spec, split_sum(p, form.out_elements, cfg.splits, form.out_strides.channel, device)

    def candidates(self, p: ConvProblem, device: Device) -> Sequence[GemmConfig]:
        """The default and every other tile, each with splits that suit it."""
        return tiles_by_cost(p, device)

    def works(self, p: ConvProblem, cfg: GemmConfig, device: Device) -> tuple[Work, ...]:
        """See `gemm_work.work` and `split_sum.sum_work`."""
        tiles = self._tiles(p, cfg)
        if cfg.splits == 1:
            return (work(tiles),)
        return work(tiles), sum_work(p, tiles.form.out_elements, cfg.splits)

    @staticmethod
    def _tiles(p: ConvProblem, cfg: GemmConfig) -> GemmTiles:
        return tiles_of(p, cfg)

    @staticmethod
    def _defines(tiles: GemmTiles) -> tuple[tuple[str, str], ...]:
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
            "IMAGES_FIRST": int(tiles.images_first),
            "CHANNELS_FIRST": int(tiles.channels_first),
            "IN_ALONG_DEPTH": int(tiles.in_along_depth),
            "IN_VECTOR": tiles.in_vector,
            "TAPS_ALONG_DEPTH": int(tiles.taps_along_depth),
            "TAPS_VECTOR": tiles.taps_vector,
            "OUT_ALONG_N": int(tiles.out_along_n),
        }
        return tuple(sorted((name, str(value)) for name, value in values.items()))
