"""Tile parameters of ``kernels/implicit_gemm_simt.cu``, all that follows from them, and which are legal."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from gpuconv.backend.device import Device
from gpuconv.config import Config
from gpuconv.kernels.cuda.correlation import Correlation, most_roundings
from gpuconv.problem import ITEMSIZE, ConvProblem

_REGISTERS = 36  # for everything but sums, fragments and what is in flight


@dataclass(frozen=True)
class GemmConfig(Config):
    """What one block, one warp and one thread take on, and how the grid is cut.

    Attributes
    ----------
    block_m, block_n, block_k : int
        Rows, columns and depth of a block's stage.
    warp_m, warp_n, thread_m, thread_n : int
        Rows and columns of a warp's results, and of a thread's.
    splits : int
        Parts that each sum is cut into.
    raster : int
        Columns of blocks that one band of the grid walks together.
    """

    block_m: int = 128
    block_n: int = 128
    block_k: int = 32
    warp_m: int = 32
    warp_n: int = 64
    thread_m: int = 8
    thread_n: int = 8
    splits: int = 1
    raster: int = 8

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return (self.block_m // self.warp_m) * (self.block_n // self.warp_n) * 32


@dataclass(frozen=True, slots=True)
class OperandMap:
    """Who loads what of an operand: mirror of ``OperandMap`` in ``tile/operand.cuh``."""

    outer: int
    depth: int
    threads: int
    along_depth: bool
    vector: int
    itemsize: int

    @property
    def shares(self) -> tuple[int, int]:
        """Vectors of a thread along the outer axis and along the depth; 0 where they do not come out even."""
        across = self.outer // (1 if self.along_depth else self.vector)
        down = self.depth // (self.vector if self.along_depth else 1)
        if not across or not down:
            return 0, 0
        sector = max(1, 32 // (self.itemsize * self.vector))
        lanes_down = max(min(sector, down) if self.along_depth else 1, 32 // min(32, across))
        lanes_across = 32 // lanes_down
        warps = self.threads // 32
        warps_across = min(warps, across // lanes_across)
        if not warps_across:
            return 0, 0
        down_together = lanes_down * (warps // warps_across)
        outers, depths = across // (lanes_across * warps_across), down // down_together
        whole = outers * lanes_across * warps_across == across and depths * down_together == down
        return (outers, depths) if whole and warps % warps_across == 0 else (0, 0)

    @property
    def even(self) -> bool:
        """Whether every thread has the same to load."""
        return 0 not in self.shares


@dataclass(frozen=True, slots=True)
class GemmTiles:
    """A config applied to a problem: everything the kernel derives from its definitions."""

    p: ConvProblem
    form: Correlation
    cfg: GemmConfig

    @property
    def sum_bytes(self) -> int:
        """Bytes of an accumulator, which is also how tiles are stored."""
        return 8 if self.p.dtype == "f64" else 4

    @property
    def rows(self) -> int:
        """Rows of the product, in the class that has most."""
        f = self.form
        return f.images * f.rows.class_outputs * f.columns.class_outputs

    @property
    def images_first(self) -> bool:
        """Whether rows of the product count images before pixels: where these are neighbours in memory."""
        return self.form.images > 1 and self.form.in_strides.image == 1

    @property
    def in_along_depth(self) -> bool:
        """Whether the input's neighbours in memory lie along the depth, not along the rows of the product."""
        f = self.form
        if self.images_first:
            return False
        if f.channels > 1 and f.in_strides.channel == 1:
            return True
        # columns are: of outputs or of taps, whichever are more
        return f.rows.class_taps * f.columns.class_taps > f.rows.class_outputs * f.columns.class_outputs

    @property
    def channels_first(self) -> bool:
        """Whether the depth counts channels before taps: where channels are neighbours in what decides."""
        f = self.form
        if f.channels == 1 or f.in_strides.channel == 1:
            return f.channels > 1
        return not self.in_along_depth and f.taps_strides.channel == 1

    @property
    def taps_along_depth(self) -> bool:
        """Whether the taps' neighbours in memory lie along the depth, not the columns of the product."""
        return not (self.form.filters > 1 and self.form.taps_strides.image == 1)

    @property
    def out_along_n(self) -> bool:
        """Whether the results' neighbours in memory lie along the columns of the product."""
        return self.form.filters > 1 and self.form.out_strides.channel == 1

    @property
    def in_vector(self) -> int:
        """Elements that one load of the input takes where its address allows."""
        f = self.form
        if self.images_first:
            return self._vector(f.images, False, self.cfg.block_m)
        if f.channels > 1 and f.in_strides.channel == 1:
            return self._vector(f.channels, True, self.cfg.block_m)
        return 1  # rows may begin anywhere

    @property
    def taps_vector(self) -> int:
        """Elements that one load of the taps takes where its address allows."""
        f, s = self.form, self.form.taps_strides
        if not self.taps_along_depth:
            return self._vector(f.filters, False, self.cfg.block_n)
        # the depth's digits from the lowest, and whether one is met from first to last without gaps
        forward = not f.rows.reverse
        digits = [(f.columns.taps, s.column, forward), (f.rows.taps, s.row, forward)]
        digits.insert(0 if self.channels_first else 2, (f.channels, s.channel, True))
        run = 1
        for size, step, whole in digits:
            if size > 1 and not (whole and step == run):
                break
            run *= size
        return self._vector(run, True, self.cfg.block_n)

    @property
    def smem_bytes(self) -> int:
        """Dynamic shared memory of a block: two tables and two stages."""
        cfg = self.cfg
        pad = 8 if self.sum_bytes == 8 else 4
        return 2 * cfg.block_k * (32 + (cfg.block_m + cfg.block_n + 2 * pad) * self.sum_bytes)

    @property
    def stage_count(self) -> int:
        """Stages of the longest sum."""
        return -(-self.form.depth // self.cfg.block_k)

    @property
    def stages_per_split(self) -> int:
        """Stages of one block."""
        return -(-self.stage_count // self.cfg.splits)

    def roundings(self, splits: int) -> int:
        """Units of roundoff that the worst data can cost: of each level's sums, one after the other."""
        first = min(self.cfg.block_k, self.form.depth)
        return first + max(0, -(-self.stage_count // splits) - 1) + splits - 1

    @property
    def most_roundings(self) -> float:
        """See `most_roundings`."""
        return most_roundings(self.p, self.form.depth)

    @property
    def maps(self) -> tuple[OperandMap, OperandMap]:
        """Who loads what of the input and of the taps."""
        return (
            self._map(self.cfg.block_m, self.in_along_depth, self.in_vector),
            self._map(self.cfg.block_n, self.taps_along_depth, self.taps_vector),
        )

    @property
    def registers(self) -> int:
        """Registers that a thread needs for all its values at once, roughly."""
        cfg, words = self.cfg, self.sum_bytes // 4
        values = (2 * cfg.thread_m * cfg.thread_n + 2 * (cfg.thread_m + cfg.thread_n)) * words
        for each in self.maps:
            outers, depths = each.shares
            values += outers * depths * max(1, each.vector * each.itemsize // 4) + 4 * outers
        return values + _REGISTERS

    @property
    def tiles_m(self) -> int:
        """Blocks along the rows of the product."""
        return -(-self.rows // self.cfg.block_m)

    @property
    def tiles_n(self) -> int:
        """Blocks along its columns."""
        return -(-self.form.filters // self.cfg.block_n)

    @property
    def blocks(self) -> tuple[int, int, int, int]:
        """Blocks of one product; groups; classes of columns and of rows."""
        f = self.form
        products = f.columns.launched_classes, f.rows.launched_classes
        return self.tiles_m * self.tiles_n, f.groups, *products

    def _map(self, outer: int, along_depth: bool, vector: int) -> OperandMap:
        itemsize = ITEMSIZE[self.p.dtype]
        return OperandMap(outer, self.cfg.block_k, self.cfg.threads, along_depth, vector, itemsize)

    def _vector(self, run: int, along_depth: bool, outer: int) -> int:
        """The longest vector that divides a run of neighbours in memory, and the threads' work.

        Arrays are contiguous, so all other strides are multiples of the run.
        """
        # along the outer axis 4 elements fill a store to shared memory
        most = 16 // ITEMSIZE[self.p.dtype]
        vector = most if along_depth else min(most, 4)
        while vector > 1 and (run % vector or not self._map(outer, along_depth, vector).even):
            vector //= 2
        return vector


def illegal(tiles: GemmTiles, device: Device) -> str | None:
    """What is wrong with a config for a problem and a device, in words, or None."""
    cfg = tiles.cfg
    for name in GemmConfig.__dataclass_fields__:
        most = 2**16 if name in ("splits", "raster") else 1024
        if not 1 <= getattr(cfg, name) <= most:
            return f"{name} must be from 1 to {most}, got {getattr(cfg, name)}"
    for name in ("block_m", "block_n", "block_k", "warp_m", "warp_n", "thread_m", "thread_n"):
        if getattr(cfg, name) & (getattr(cfg, name) - 1):
            return f"{name} must be a power of two, got {getattr(cfg, name)}"
    for large, small in (
        ("block_m", "warp_m"),
        ("block_n", "warp_n"),
        ("warp_m", "thread_m"),
        ("warp_n", "thread_n"),
    ):
        if getattr(cfg, small) > getattr(cfg, large):
            return f"{small} must be at most {large}={getattr(cfg, large)}, got {getattr(cfg, small)}"
    lanes = (cfg.warp_m // cfg.thread_m) * (cfg.warp_n // cfg.thread_n)
    if lanes != 32:
        return f"warp_m/thread_m · warp_n/thread_n must be 32 lanes, this config makes {lanes}"
    if cfg.threads > 1024:
        return f"a block must have at most 1024 threads, this config makes {cfg.threads}"
    if cfg.block_k > cfg.threads:
        return f"block_k must be at most the {cfg.threads} threads of a block, got {cfg.block_k}"
    return _beyond_limits(tiles, device)


def _beyond_limits(tiles: GemmTiles, device: Device) -> str | None:
    cfg, form = tiles.cfg, tiles.form
    if not all(each.even for each in tiles.maps):
        return f"{cfg.threads} threads cannot share tiles of {cfg.block_m}×{cfg.block_n}×{cfg.block_k} evenly"
    if tiles.registers > min(255, 65536 // cfg.threads):
        return f"{cfg.threads} threads of some {tiles.registers} registers are more than an SM has"
    if tiles.smem_bytes > device.smem_block:
        return (
            f"a block takes {tiles.smem_bytes} bytes of shared memory, {device.name} has {device.smem_block}"
        )
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
