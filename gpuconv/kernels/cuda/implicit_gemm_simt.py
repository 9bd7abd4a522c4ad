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
from gpuconv.kernels.cuda.correlation import Strides, correlation
from gpuconv.kernels.cuda.gemm_choice import least, neighbours, tiles_by_cost
from gpuconv.kernels.cuda.gemm_tiles import GemmConfig, GemmTiles, illegal
from gpuconv.kernels.cuda.gemm_work import work
from gpuconv.kernels.cuda.params import DepthSteps, FastDivmod, GemmParams
from gpuconv.kernels.cuda.split_sum import epilogue_defines, split_sum, sum_work
from gpuconv.kernels.work import Work
from gpuconv.problem import ITEMSIZE, ConvProblem

#: Cells along an axis: coordinates of taps that reach beyond it still fit into 32 bits.
_MOST_CELLS = 2**30


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
        if p.padding_mode != "zeros":
            return self.reject(f"pads with zeros only, not with padding_mode {p.padding_mode}")
        sizes = {"N": p.N, "C": p.C, "K": p.K, "R": p.R, "S": p.S}
        sizes |= {"the padded height": p.H + sum(p.padding[0]), "the padded width": p.W + sum(p.padding[1])}
        for name, size in sizes.items():
            if size >= _MOST_CELLS:
                return self.reject(f"takes {name} below 2**30, got {size}")
        reject = illegal(self._tiles(p, self.default_config(p, device)), device)
        return None if reject is None else self.reject(reject)

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
            params=self._params(tiles).pack(),
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
        return GemmTiles(p, correlation(p), cfg)

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

    @staticmethod
    def _params(tiles: GemmTiles) -> GemmParams:
        form, cfg = tiles.form, tiles.cfg
        rows, columns = form.rows, form.columns
        tiles_m, tiles_n = tiles.tiles_m, tiles.tiles_n
        raster = min(cfg.raster, tiles_n)
        itemsize = ITEMSIZE[tiles.p.dtype]
        # a class meets the taps from its last, each `period` before the one it met before
        order = (-rows.period, -columns.period) if rows.reverse else (1, 1)
        product, *others = (FastDivmod.of(max(1, n)) for n in tiles.blocks)
        return GemmParams(
            in_strides=form.in_strides.pack(),
            taps_strides=form.taps_strides.pack(),
            out_strides=form.out_strides.pack(),
            in_steps=_steps(form.in_strides, rows.dilation, columns.dilation, itemsize),
            taps_steps=_steps(form.taps_strides, *order, itemsize),
            split_elements=form.out_elements,
            rows=rows.pack(),
            columns=columns.pack(),
            stride_h=rows.stride,
            stride_w=columns.stride,
            dilation_h=rows.dilation,
            dilation_w=columns.dilation,
            images=form.images,
            channels=form.channels,
            filters=form.filters,
            stages_per_split=tiles.stages_per_split,
            tiles_n=tiles_n,
            raster=raster,
            tiles=product,
            band=FastDivmod.of(max(1, raster * tiles_m)),
            **dict(zip(("groups", "classes_w", "classes_h"), others, strict=True)),
        )


def _steps(strides: Strides, row: int, column: int, itemsize: int) -> DepthSteps:
    return DepthSteps(
        strides.channel * itemsize, strides.row * row * itemsize, strides.column * column * itemsize
    )
