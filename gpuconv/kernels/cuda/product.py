"""A correlation as one matrix product over an implicit patch matrix: rows, columns, depth, and the grid.

What ``gemm/block.cuh`` and ``tile/depth.cuh`` take, whatever multiplies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any, Final

from gpuconv.backend.device import Device
from gpuconv.kernels.cuda.correlation import Correlation, Strides, most_roundings
from gpuconv.kernels.cuda.kept import kept
from gpuconv.kernels.cuda.params import DepthSteps, FastDivmod, GemmParams
from gpuconv.problem import ITEMSIZE, ConvProblem

#: Cells along an axis: coordinates of taps that reach beyond it still fit into 32 bits.
_MOST_CELLS: Final = 2**30


@dataclass(frozen=True)
class Product:
    """A config with `block_m`, `block_n`, `block_k`, `splits` and `raster`, applied to a problem."""

    p: ConvProblem
    form: Correlation
    cfg: Any

    @kept
    def rows(self) -> int:
        """Rows of the product, in the class that has most."""
        f = self.form
        return f.images * f.rows.class_outputs * f.columns.class_outputs

    @kept
    def images_first(self) -> bool:
        """Whether rows of the product count images before pixels: where these are neighbours in memory."""
        return self.form.images > 1 and self.form.in_strides.image == 1

    @kept
    def in_along_depth(self) -> bool:
        """Whether the input's neighbours in memory lie along the depth, not along the rows of the product."""
        f = self.form
        if self.images_first:
            return False
        if f.channels > 1 and f.in_strides.channel == 1:
            return True
        # columns are: of outputs or of taps, whichever are more
        return f.rows.class_taps * f.columns.class_taps > f.rows.class_outputs * f.columns.class_outputs

    @kept
    def channels_first(self) -> bool:
        """Whether the depth counts channels before taps: where channels are neighbours in what decides."""
        f = self.form
        if f.channels == 1 or f.in_strides.channel == 1:
            return f.channels > 1
        return not self.in_along_depth and f.taps_strides.channel == 1

    @kept
    def taps_along_depth(self) -> bool:
        """Whether the taps' neighbours in memory lie along the depth, not the columns of the product."""
        return not (self.form.filters > 1 and self.form.taps_strides.image == 1)

    @property
    def out_along_n(self) -> bool:
        """Whether the results' neighbours in memory lie along the columns of the product."""
        return self.form.filters > 1 and self.form.out_strides.channel == 1

    @kept
    def in_run(self) -> int:
        """Neighbours in memory along the depth, or along the rows of the product; begun at its multiples.

        Arrays are contiguous, so all other strides are multiples of the run.
        """
        f = self.form
        if self.images_first:
            return f.images
        if f.channels > 1 and f.in_strides.channel == 1:
            return f.channels
        return 1  # rows may begin anywhere

    @kept
    def taps_run(self) -> int:
        """The same of the taps, along the depth or along the columns of the product."""
        f, s = self.form, self.form.taps_strides
        if not self.taps_along_depth:
            return f.filters
        # the depth's digits from the lowest, and whether one is met from first to last without gaps
        forward = not f.rows.reverse
        digits = [(f.columns.taps, s.column, forward), (f.rows.taps, s.row, forward)]
        digits.insert(0 if self.channels_first else 2, (f.channels, s.channel, True))
        run = 1
        for size, step, whole in digits:
            if size > 1 and not (whole and step == run):
                break
            run *= size
        return run

    @kept
    def stage_count(self) -> int:
        """Stages of the longest sum."""
        count: int = -(-self.form.depth // self.cfg.block_k)
        return count

    @property
    def stages_per_split(self) -> int:
        """Stages of one block."""
        count: int = -(-self.stage_count // self.cfg.splits)
        return count

    def roundings(self, splits: int) -> int:
        """Units of roundoff that the worst data can cost: of each level's sums, one after the other."""
        raise NotImplementedError

    @property
    def most_roundings(self) -> float:
        """See `most_roundings`."""
        return most_roundings(self.p, self.form.depth)

    @kept
    def tiles_m(self) -> int:
        """Blocks along the rows of the product."""
        count: int = -(-self.rows // self.cfg.block_m)
        return count

    @kept
    def tiles_n(self) -> int:
        """Blocks along its columns."""
        count: int = -(-self.form.filters // self.cfg.block_n)
        return count

    @kept
    def blocks(self) -> tuple[int, int, int, int]:
        """Blocks of one product; groups; classes of columns and of rows."""
        f = self.form
        products = f.columns.launched_classes, f.rows.launched_classes
        return self.tiles_m * self.tiles_n, f.groups, *products

    @property
    def params(self) -> GemmParams:
        """As the kernel takes it."""
        form, rows, columns = self.form, self.form.rows, self.form.columns
        in_strides = _reduced(form.in_strides, form.images, form.channels, rows.in_size, columns.in_size)
        taps_strides = _reduced(form.taps_strides, form.filters, form.channels, rows.taps, columns.taps)
        raster = min(self.cfg.raster, self.tiles_n)
        itemsize = ITEMSIZE[self.p.dtype]
        # a class meets the taps from its last, each `period` before the one it met before
        order = (-rows.period, -columns.period) if rows.reverse else (1, 1)
        product, *others = (FastDivmod.of(max(1, n)) for n in self.blocks)
        return GemmParams(
            in_strides=in_strides.pack(),
            taps_strides=taps_strides.pack(),
            out_strides=form.out_strides.pack(),
            in_steps=_steps(in_strides, rows.dilation, columns.dilation, itemsize),
            taps_steps=_steps(taps_strides, *order, itemsize),
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
            stages_per_split=self.stages_per_split,
            tiles_n=self.tiles_n,
            raster=raster,
            tiles=product,
            band=FastDivmod.of(max(1, raster * self.tiles_m)),
            **dict(zip(("groups", "classes_w", "classes_h"), others, strict=True)),
        )


def refusal(p: ConvProblem) -> str | None:
    """What no config of such a product can do, in words, or None."""
    if p.padding_mode != "zeros":
        return f"pads with zeros only, not with padding_mode {p.padding_mode}"
    sizes = {"N": p.N, "C": p.C, "K": p.K, "R": p.R, "S": p.S}
    sizes |= {"the padded height": p.H + sum(p.padding[0]), "the padded width": p.W + sum(p.padding[1])}
    for name, size in sizes.items():
        if size >= _MOST_CELLS:
            return f"takes {name} below 2**30, got {size}"
    return None


def beyond_limits(tiles: Product) -> str | None:
    """What is wrong with the lengths of sums and the number of blocks, in words, or None."""
    cfg, form = tiles.cfg, tiles.form
    if tiles.stage_count >= 2**30:
        return "a sum must have fewer than 2**30 stages"
    if cfg.splits > max(1, tiles.stage_count):
        return f"splits must be at most the {tiles.stage_count} stages of the sum, got {cfg.splits}"
    roundings = tiles.roundings(cfg.splits)
    if roundings > tiles.most_roundings:
        return f"sums must err by at most {tiles.most_roundings:.0f} roundings, this config makes {roundings}"
    if cfg.splits > 1 and form.out_elements >= 2**31:
        return f"splits must be 1 for results of 2**31 elements and more, got {cfg.splits}"
    if prod(tiles.blocks) * cfg.splits >= 2**31:
        return "the grid must have fewer than 2**31 blocks"
    return None


def splits_to_try(tiles: Product, device: Device) -> tuple[int, int]:
    """Parts of the sum that fill the device where results alone do not; and as few as rounding allows."""
    if tiles.form.out_elements >= 2**31:
        return 1, 1
    stages = max(1, tiles.stage_count)
    spread = min(device.sms // max(1, prod(tiles.blocks)), stages // 8, 64)
    needed = _needed(tiles)
    return min(max(needed, spread), stages), min(needed, stages)


def _needed(tiles: Product) -> int:
    """The fewest splits of those tried that keep rounding errors in bounds."""
    splits = 1
    while splits < 2**16 and tiles.roundings(splits) > tiles.most_roundings:
        splits += 1 if splits < 4 else splits // 2
    return splits


def cost(tiles: Product, rate: float, device: Device, fixed: int, stage: int) -> float:
    """Products of the busiest SM, and what takes as long as products would.

    A block's beginning and end take as long as `fixed` places, a stage as long as `stage` beside its own.
    """
    cfg = tiles.cfg
    waves = -(-prod(tiles.blocks) * cfg.splits // max(1, device.sms))
    depth = tiles.stages_per_split * (cfg.block_k + stage) + fixed
    products: float = waves * cfg.block_m * cfg.block_n * depth / rate
    return products


def _reduced(strides: Strides, images: int, channels: int, rows: int, columns: int) -> Strides:
    """Zero along axes of one cell, where a stride may be no multiple of the run.

    Addresses are made also of what lies beside such an axis and is not read; these must be aligned, too.
    """
    sizes = {"image": images, "channel": channels, "row": rows, "column": columns}
    return replace(strides, **{axis: 0 for axis, size in sizes.items() if size == 1})


def _steps(strides: Strides, row: int, column: int, itemsize: int) -> DepthSteps:
    return DepthSteps(
        strides.channel * itemsize, strides.row * row * itemsize, strides.column * column * itemsize
    )
