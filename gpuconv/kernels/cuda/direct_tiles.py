"""Tile parameters of ``kernels/direct.cu``, all that follows from them, and which are legal."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt, prod

from gpuconv.backend.device import Device
from gpuconv.config import Config
from gpuconv.kernels.cuda.correlation import Correlation, Strides, most_roundings
from gpuconv.problem import ITEMSIZE, ConvProblem

#: Products that a plain running sum may have: n of them err by n units at most, and so stay below the bound.
SHORT_SUM = 28
MOST_TAPS = 32  # of a stage, along one axis: they are unrolled along the row
_MOST_PRODUCTS = 1024  # of a row of taps in one thread: all unrolled
_WINDOW = 48  # columns a thread keeps in registers, at most
_REGISTERS = 88  # for everything but sums, window and taps


@dataclass(frozen=True)
class DirectConfig(Config):
    """What one block, one thread and one stage take on.

    Attributes
    ----------
    block_p, block_q, block_k, block_n, block_g : int
        Rows, columns, outputs, images and groups of a block's results, in the correlation's terms.
    block_c : int
        Input channels of a stage.
    thread_p, thread_q, thread_k : int
        Rows, columns and outputs of one thread.
    taps_r, taps_s : int
        Taps of a stage.
    k_first : int
        1 where neighbouring threads hold neighbouring outputs and groups, 0 where neighbouring columns.
    stages : int
        Buffers in shared memory; more than 1 are filled by cp.async.
    splits : int
        Parts that each sum is cut into.
    """

    block_p: int = 8
    block_q: int = 32
    block_k: int = 16
    block_n: int = 1
    block_g: int = 1
    block_c: int = 4
    thread_p: int = 2
    thread_q: int = 4
    thread_k: int = 4
    taps_r: int = 3
    taps_s: int = 3
    k_first: int = 0
    stages: int = 1
    splits: int = 1

    @property
    def threads(self) -> int:
        """Threads of a block."""
        per_pixel = self.block_k // self.thread_k * self.block_n * self.block_g
        return (self.block_p // self.thread_p) * (self.block_q // self.thread_q) * per_pixel


@dataclass(frozen=True, slots=True)
class Tiles:
    """A config applied to a problem: everything ``direct.cu`` derives from its definitions."""

    p: ConvProblem
    form: Correlation
    cfg: DirectConfig

    @property
    def sum_bytes(self) -> int:
        """Bytes of an accumulator, which is also how tiles are stored."""
        return 8 if self.p.dtype == "f64" else 4

    @property
    def interleaved(self) -> bool:
        """Whether channels, not columns, are neighbours in the input."""
        return self.p.layout == "nhwc"

    @property
    def in_extents(self) -> tuple[int, int, int, int, int]:
        """Rows, columns, channels, images and groups of the halo tile; columns without padding."""
        cfg, rows, columns = self.cfg, self.form.rows, self.form.columns
        height = _reach(cfg.block_p, rows.stride, cfg.taps_r, rows.dilation)
        width = _reach(cfg.block_q, columns.stride, cfg.taps_s, columns.dilation)
        return height, width, cfg.block_c, cfg.block_n, cfg.block_g

    @property
    def lead(self) -> int:
        """Columns before the first needed one, so that loads begin at a multiple of the vector."""
        columns = self.form.columns
        if self.in_unit != "kColumn" or columns.classes > 1:
            return 0
        return columns.origin % self.in_vector

    @property
    def columns(self) -> int:
        """Columns of the halo tile as stored."""
        needed = self.lead + self.in_extents[1]
        if self.interleaved:
            return needed
        quad = 16 // self.sum_bytes
        return _round_up(_round_up(needed, quad), self.in_vector)

    @property
    def smem_bytes(self) -> int:
        """Dynamic shared memory of a block: the strides of ``InTile`` and ``TapsTile``, padding included."""
        cfg, quad = self.cfg, 16 // self.sum_bytes
        height, _, *rest = self.in_extents
        deep, plane = prod(rest), height * self.columns
        if self.interleaved:
            across = cfg.k_first and cfg.block_k // cfg.thread_k * cfg.block_g >= 32
            cells = plane * (deep if across else _spread(deep))
        else:
            cells = deep * (_spread(plane) if deep > 1 else plane)
        taps = cfg.taps_r * cfg.taps_s * cfg.block_c
        if self.taps_unit in ("kLane", "kGroup"):
            taps *= cfg.block_k * cfg.block_g
        else:
            taps *= _spread(cfg.block_k) if cfg.block_k > 1 else 1
            if cfg.block_g > 1:
                taps = cfg.block_g * _spread(_round_up(taps, 4))
        return cfg.stages * (_round_up(cells, quad) + _round_up(taps, quad)) * self.sum_bytes

    @property
    def in_unit(self) -> str:
        """The axis whose cells are neighbours in the input."""
        return _unit(self.form.in_strides, self._in_sizes, self.in_extents)

    @property
    def taps_unit(self) -> str:
        """The axis whose cells are neighbours in the taps."""
        return _unit(self.form.taps_strides, self._taps_sizes, self._taps_extents)

    @property
    def out_unit(self) -> str:
        """The axis of the results along which a thread may store several at once."""
        out = self.form.out_strides
        if self.form.filters > 1 and out.channel == 1:
            return "kLane"
        return "kColumn" if out.column == 1 and self.form.columns.classes == 1 else "kRow"

    @property
    def in_vector(self) -> int:
        """Elements that one load of the input takes where addresses allow."""
        unit, columns, cfg = self.in_unit, self.form.columns, self.cfg
        extent = self.in_extents[_AXES.index(unit)]
        if unit == "kColumn":
            starts = [
                cfg.block_q * columns.stride * (columns.class_outputs > cfg.block_q),
                cfg.taps_s * columns.dilation * (self.chunks_s > 1),
            ]
            if columns.classes > 1 or (cfg.taps_s == 1 and columns.stride > 1) or self.interleaved:
                return 1
            return self._vector(self.form.in_strides, self._in_sizes, unit, 16, starts)
        if unit == "kRow" and cfg.taps_r == 1 and self.form.rows.stride > 1:
            return 1
        return self._vector(self.form.in_strides, self._in_sizes, unit, extent, [])

    @property
    def taps_vector(self) -> int:
        """Elements that one load of the taps takes where addresses allow."""
        unit = self.taps_unit
        if unit in ("kRow", "kColumn") and self.form.rows.reverse:
            return 1
        if unit not in ("kLane", "kGroup") and self.cfg.block_k > 1:
            return 1  # apart in shared memory, where single cells spread over more banks
        extent = self._taps_extents[_AXES.index(unit)]
        return self._vector(self.form.taps_strides, self._taps_sizes, unit, extent, [])

    @property
    def stage_count(self) -> int:
        """Stages of the whole sum."""
        return -(-self.form.channels // self.cfg.block_c) * self.chunks_r * self.chunks_s

    @property
    def chunks_r(self) -> int:
        """Parts that the rows of taps are cut into."""
        return -(-self.form.rows.class_taps // self.cfg.taps_r)

    @property
    def chunks_s(self) -> int:
        """Parts that the columns of taps are cut into."""
        return -(-self.form.columns.class_taps // self.cfg.taps_s)

    @property
    def depth(self) -> int:
        """Products that one block adds up for one result, at most."""
        cfg = self.cfg
        whole = -(-self.stage_count // cfg.splits) * cfg.block_c * cfg.taps_r * cfg.taps_s
        return min(whole, self.form.depth)

    @property
    def long_sum(self) -> bool:
        """Whether sums need a second level."""
        return self.depth > SHORT_SUM

    @property
    def flush_rows(self) -> int:
        """Rows of taps of one first-level sum: some 2√n products, where both levels together err least."""
        return max(1, (2 * isqrt(self.depth) + 4) // self.cfg.taps_s)

    @property
    def roundings(self) -> int:
        """Units of roundoff that the worst data can cost: of each level's sums, one after the other."""
        cfg = self.cfg
        if not self.long_sum:
            return self.depth + cfg.splits - 1
        channels = -(-self.stage_count // cfg.splits) * cfg.block_c
        if self.flush_rows < cfg.taps_r:
            first, second = self.flush_rows, channels * -(-cfg.taps_r // self.flush_rows)
        else:  # whole channels, or where rows are counted one by one, a little less
            first = -(-self.flush_rows // cfg.taps_r) * cfg.taps_r
            second = -(-channels * cfg.taps_r // self.flush_rows)
        return min(self.depth, first * cfg.taps_s) + min(self.depth, second) + cfg.splits

    @property
    def registers(self) -> int:
        """Registers that a thread needs for all its values at once, roughly."""
        cfg, columns = self.cfg, self.form.columns
        window = _reach(cfg.thread_q, columns.stride, cfg.taps_s, columns.dilation) + 7
        sums = cfg.thread_p * cfg.thread_q * cfg.thread_k * (2 if self.long_sum else 1)
        words = sums + cfg.thread_k + (window if window <= _WINDOW + 7 else cfg.thread_q)
        return words * self.sum_bytes // 4 + _REGISTERS

    @property
    def blocks(self) -> tuple[int, int, int, int, int, int, int]:
        """Blocks along columns, rows, outputs, groups, classes of columns and of rows, and images."""
        f, cfg = self.form, self.cfg
        return (
            -(-f.columns.class_outputs // cfg.block_q), -(-f.rows.class_outputs // cfg.block_p),
            -(-f.filters // cfg.block_k), -(-f.groups // cfg.block_g),
            f.columns.launched_classes, f.rows.launched_classes, -(-f.images // cfg.block_n),
        )  # fmt: skip

    @property
    def _in_sizes(self) -> tuple[int, int, int, int, int]:
        f = self.form
        return f.rows.in_size, f.columns.in_size, f.channels, f.images, f.groups

    @property
    def _taps_sizes(self) -> tuple[int, int, int, int, int]:
        f = self.form
        return f.rows.taps, f.columns.taps, f.channels, f.filters, f.groups

    @property
    def _taps_extents(self) -> tuple[int, int, int, int, int]:
        cfg = self.cfg
        return cfg.taps_r, cfg.taps_s, cfg.block_c, cfg.block_k, cfg.block_g

    def _vector(
        self, strides: Strides, sizes: tuple[int, ...], unit: str, extent: int, starts: list[int]
    ) -> int:
        """The longest vector that divides the tile's extent, where its parts start, and the other strides."""
        steps = dict(zip(_AXES, _in_order(strides), strict=True))
        if steps[unit] != 1:
            return 1
        others = [steps[axis] for axis, size in zip(_AXES, sizes, strict=True) if axis != unit and size > 1]
        vector = 16 // ITEMSIZE[self.p.dtype]
        while vector > 1 and any(value % vector for value in (extent, *starts, *others)):
            vector //= 2
        return vector


def illegal(tiles: Tiles, device: Device) -> str | None:
    """What is wrong with a config for a problem and a device, in words, or None."""
    cfg, p = tiles.cfg, tiles.p
    for name in DirectConfig.__dataclass_fields__:
        least = 0 if name == "k_first" else 1
        most = {"k_first": 1, "taps_r": MOST_TAPS, "taps_s": MOST_TAPS, "stages": 4}.get(name, 1024)
        if not least <= getattr(cfg, name) <= most:
            return f"{name} must be from {least} to {most}, got {getattr(cfg, name)}"
    for block, thread in (("block_p", "thread_p"), ("block_q", "thread_q"), ("block_k", "thread_k")):
        if getattr(cfg, block) % getattr(cfg, thread):
            return f"{thread} must divide {block}={getattr(cfg, block)}, got {getattr(cfg, thread)}"
    if not 32 <= cfg.threads <= 1024:
        return f"a block must have from 32 to 1024 threads, this config makes {cfg.threads}"
    products = cfg.taps_s * cfg.thread_p * cfg.thread_q * cfg.thread_k
    if products > _MOST_PRODUCTS:
        return f"taps_s·thread_p·thread_q·thread_k must be at most {_MOST_PRODUCTS}, got {products}"
    if tiles.registers > min(255, 65536 // _round_up(cfg.threads, 128)):
        return f"{cfg.threads} threads of some {tiles.registers} registers are more than an SM has"
    if cfg.stages > 1 and p.dtype not in ("f32", "f64"):
        return f"stages must be 1 for {p.dtype}, which is converted on its way, got {cfg.stages}"
    if cfg.stages > 1 and device.capability < (8, 0):
        return f"stages must be 1 before compute capability 8.0, got {cfg.stages}"
    if tiles.smem_bytes > device.smem_block:
        return (
            f"a block takes {tiles.smem_bytes} bytes of shared memory, {device.name} has {device.smem_block}"
        )
    if tiles.stage_count >= 2**31:
        return "a sum must have fewer than 2**31 stages"
    if cfg.splits > max(1, tiles.stage_count):
        return f"splits must be at most the {tiles.stage_count} stages of the sum, got {cfg.splits}"
    allowed = most_roundings(p, tiles.form.depth)
    if tiles.roundings > allowed:
        return f"sums must err by at most {allowed:.0f} roundings, this config makes {tiles.roundings}"
    if cfg.splits > 1 and tiles.form.out_elements >= 2**31:
        return f"splits must be 1 for results of 2**31 elements and more, got {cfg.splits}"
    if prod(tiles.blocks) * cfg.splits >= 2**31:
        return "the grid must have fewer than 2**31 blocks"
    return None


_AXES = ("kRow", "kColumn", "kChannel", "kLane", "kGroup")


def _in_order(strides: Strides) -> tuple[int, int, int, int, int]:
    return strides.row, strides.column, strides.channel, strides.image, strides.group


def _unit(strides: Strides, sizes: tuple[int, ...], extents: tuple[int, ...]) -> str:
    """Of the axes that a tile extends along, the one with the smallest stride."""
    long = [
        (step, axis)
        for step, axis, size, extent in zip(_in_order(strides), _AXES, sizes, extents, strict=True)
        if min(size, extent) > 1
    ]
    return min(long, default=(1, "kColumn"))[1]


def _reach(results: int, stride: int, taps: int, dilation: int) -> int:
    """Cells that so many results meet; where there is one tap, only those they start at are stored."""
    return results if taps == 1 else (results - 1) * stride + (taps - 1) * dilation + 1


def _round_up(value: int, to: int) -> int:
    return -(-value // to) * to


def _spread(cells: int) -> int:
    return cells + 4 if cells % 8 == 0 else cells
