"""Direct convolution: halo tiles of the input in shared memory, a register block of results in each thread.

The choice for few channels, depthwise and grouped convolutions and one-channel images; right for everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from gpuconv.backend.device import Device
from gpuconv.backend.launch import Binary, KernelSpec
from gpuconv.errors import Reject
from gpuconv.kernels.cuda import border
from gpuconv.kernels.cuda.base import CudaKernel
from gpuconv.kernels.cuda.correlation import correlation
from gpuconv.kernels.cuda.direct_choice import default, neighbours
from gpuconv.kernels.cuda.direct_tiles import DirectConfig, Tiles, illegal
from gpuconv.kernels.cuda.direct_work import work
from gpuconv.kernels.cuda.params import DirectParams, FastDivmod
from gpuconv.kernels.cuda.split_sum import epilogue_defines, split_sum, sum_work
from gpuconv.kernels.work import Work
from gpuconv.problem import ConvProblem

#: Cells along an axis: coordinates of a tile that reaches beyond it still fit into 32 bits.
_MOST_CELLS = 2**30


class CudaDirect(CudaKernel[DirectConfig]):
    """Tiled direct convolution and its gradients, as one correlation."""

    name = "cuda_direct"
    config_type = DirectConfig

    def check(self, p: ConvProblem, device: Device) -> Reject | None:
        """Takes axes and channels of fewer than 2³⁰ cells each, in fewer than 2³¹ blocks."""
        if device.kind != "cuda":
            return self.reject("runs on CUDA devices only")
        if device.capability < (7, 5):
            return self.reject(f"needs compute capability 7.5, {device.name} has {device.capability}")
        sizes = {"N": p.N, "C": p.C, "K": p.K, "R": p.R, "S": p.S}
        sizes |= {"the padded height": p.H + sum(p.padding[0]), "the padded width": p.W + sum(p.padding[1])}
        for name, size in sizes.items():
            if size >= _MOST_CELLS:
                return self.reject(f"takes {name} below 2**30, got {size}")
        reject = border.too_large(p) if border.folds(p) else None
        if reject is None:
            reject = illegal(self._tiles(p, self.default_config(p, device)), device)
        return None if reject is None else self.reject(reject)

    def configs(self, p: ConvProblem, device: Device) -> Sequence[DirectConfig]:
        """The default and its neighbours: other tiles, register blocks, stages and splits."""
        base = self.default_config(p, device)
        tried = [base, *self.fallback_configs(p, device), *neighbours(base)]
        legal = [cfg for cfg in tried if illegal(self._tiles(p, cfg), device) is None]
        return list(dict.fromkeys(legal))

    def fallback_configs(self, p: ConvProblem, device: Device) -> Sequence[DirectConfig]:
        """Without a workspace, with little shared memory and few threads."""
        base = replace(self.default_config(p, device), splits=1)
        small = replace(base, taps_r=1, taps_s=1, block_c=1)
        return [cfg for cfg in (base, small) if illegal(self._tiles(p, cfg), device) is None]

    def check_config(self, p: ConvProblem, cfg: DirectConfig, device: Device) -> Reject | None:
        """Mirrors the static assertions of ``direct.cu`` and the device's limits."""
        reason = illegal(self._tiles(p, cfg), device)
        return None if reason is None else self.reject(reason)

    def default_config(self, p: ConvProblem, device: Device) -> DirectConfig:
        """See `direct_choice.default`."""
        return default(border.summed(p), device)

    def workspace_bytes(self, p: ConvProblem, cfg: DirectConfig, device: Device) -> int:
        """Partial sums, where something is yet to be added."""
        if cfg.splits == 1 and not border.folds(p):
            return 0
        return cfg.splits * prod(border.summed(p).operand_shapes[2]) * (8 if p.dtype == "f64" else 4)

    def launches(self, p: ConvProblem, cfg: DirectConfig, device: Device) -> tuple[KernelSpec, ...]:
        """One launch, and where sums are split or have a border a second that adds them."""
        tiles = self._tiles(p, cfg)
        form = tiles.form
        if form.out_elements == 0:
            return ()
        partial = cfg.splits > 1 or border.folds(p)
        spec = KernelSpec(
            binary=Binary("direct.cu", self._defines(p, tiles, partial), device.arch),
            entry="direct",
            grid=(prod(tiles.blocks) * cfg.splits, 1, 1),
            block=(cfg.threads, 1, 1),
            smem_bytes=tiles.smem_bytes,
            pointers=("a", "b", "workspace" if partial else "out", "bias", "residual"),
            params=self._params(tiles).pack(),
        )
        if not partial:
            return (spec,)
        if border.folds(p):
            return spec, border.border_sum(p, cfg.splits, device)
        return spec, split_sum(p, form.out_elements, cfg.splits, form.out_strides.channel, device)

    def works(self, p: ConvProblem, cfg: DirectConfig, device: Device) -> tuple[Work, ...]:
        """The main launch, and the one that adds."""
        tiles = self._tiles(p, cfg)
        main = work(tiles)
        if cfg.splits == 1 and not border.folds(p):
            return (main,)
        return main, sum_work(p, tiles.form.out_elements, cfg.splits)

    @staticmethod
    def _tiles(p: ConvProblem, cfg: DirectConfig) -> Tiles:
        summed = border.summed(p)
        return Tiles(summed, correlation(summed), cfg)

    @staticmethod
    def _defines(p: ConvProblem, tiles: Tiles, partial: bool) -> tuple[tuple[str, str], ...]:
        form = tiles.form
        values: dict[str, object] = {
            **tiles.cfg.defines(),
            **epilogue_defines(p),
            **border.border_define(p),
            "PARTIAL": int(partial),
            "STRIDE_H": form.rows.stride,
            "STRIDE_W": form.columns.stride,
            "DILATION_H": form.rows.dilation,
            "DILATION_W": form.columns.dilation,
            "CLASSES": int(p.op == "dgrad"),
            "GUARD_TAPS": int(not (form.rows.even(tiles.cfg.taps_r) and form.columns.even(tiles.cfg.taps_s))),
            "LONG_SUM": int(tiles.long_sum),
            "FLUSH_ROWS": min(tiles.flush_rows, tiles.cfg.taps_r),
            "INTERLEAVED": int(tiles.interleaved),
            "IN_UNIT": tiles.in_unit,
            "IN_VECTOR": tiles.in_vector,
            "LEAD": tiles.lead,
            "TAPS_UNIT": tiles.taps_unit,
            "TAPS_VECTOR": tiles.taps_vector,
            "OUT_UNIT": tiles.out_unit,
        }
        return tuple(sorted((name, str(value)) for name, value in values.items()))

    @staticmethod
    def _params(tiles: Tiles) -> DirectParams:
        form, cfg = tiles.form, tiles.cfg
        names = ("tiles_q", "tiles_p", "blocks_k", "blocks_g", "classes_w", "classes_h", "blocks_n")
        return DirectParams(
            in_strides=form.in_strides.pack(),
            taps_strides=form.taps_strides.pack(),
            out_strides=form.out_strides.pack(),
            split_elements=form.out_elements,
            rows=form.rows.pack(),
            columns=form.columns.pack(),
            images=form.images,
            groups=form.groups,
            channels=form.channels,
            filters=form.filters,
            chunks_r=tiles.chunks_r,
            chunks_s=tiles.chunks_s,
            stages=tiles.stage_count,
            stages_per_split=-(-tiles.stage_count // cfg.splits),
            flush_rows=tiles.flush_rows,
            **{name: FastDivmod.of(max(1, n)) for name, n in zip(names, tiles.blocks, strict=True)},
        )
