"""Tile parameters of ``kernels/implicit_gemm_simt.cu``, all that follows from them, and which are legal."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from gpuconv.backend.device import Device
from gpuconv.config import Config
from gpuconv.kernels.cuda.correlation import correlation
from gpuconv.kernels.cuda.kept import kept
from gpuconv.kernels.cuda.product import Product, beyond_limits
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
        return _shares(self)

    @property
    def even(self) -> bool:
        """Whether every thread has the same to load."""
        return 0 not in self.shares


@lru_cache(1024)  # a few numbers each, met again for every problem
def _shares(share: OperandMap) -> tuple[int, int]:
    across = share.outer // (1 if share.along_depth else share.vector)
    down = share.depth // (share.vector if share.along_depth else 1)
    if not across or not down:
        return 0, 0
    sector = max(1, 32 // (share.itemsize * share.vector))
    lanes_down = max(min(sector, down) if share.along_depth else 1, 32 // min(32, across))
    lanes_across = 32 // lanes_down
    warps = share.threads // 32
    warps_across = min(warps, across // lanes_across)
    if not warps_across:
        return 0, 0
    down_together = lanes_down * (warps // warps_across)
    outers, depths = across // (lanes_across * warps_across), down // down_together
    whole = outers * lanes_across * warps_across == across and depths * down_together == down
    return (outers, depths) if whole and warps % warps_across == 0 else (0, 0)


@dataclass(frozen=True)
class GemmTiles(Product):
    """A config applied to a problem: everything the kernel derives from its definitions."""

    cfg: GemmConfig

    @property
    def sum_bytes(self) -> int:
        """Bytes of an accumulator, which is also how tiles are stored."""
        return 8 if self.p.dtype == "f64" else 4

    @kept
    def in_vector(self) -> int:
        """Elements that one load of the input takes where its address allows."""
        along_depth = self.in_along_depth and self.in_run > 1
        return self._vector(self.in_run, along_depth, self.cfg.block_m) if self.in_run > 1 else 1

    @kept
    def taps_vector(self) -> int:
        """Elements that one load of the taps takes where its address allows."""
        return self._vector(self.taps_run, self.taps_along_depth, self.cfg.block_n)

    @property
    def smem_bytes(self) -> int:
        """Dynamic shared memory of a block: two tables and two stages."""
        cfg = self.cfg
        pad = 8 if self.sum_bytes == 8 else 4
        return 2 * cfg.block_k * (24 + (cfg.block_m + cfg.block_n + 2 * pad) * self.sum_bytes)

    def roundings(self, splits: int) -> int:
        """Units of roundoff that the worst data can cost: of each level's sums, one after the other."""
        first = min(self.cfg.block_k, self.form.depth)
        return first + max(0, -(-self.stage_count // splits) - 1) + splits - 1

    @kept
    def maps(self) -> tuple[OperandMap, OperandMap]:
        """Who loads what of the input and of the taps."""
        return (
            self._map(self.cfg.block_m, self.in_along_depth, self.in_vector),
            self._map(self.cfg.block_n, self.taps_along_depth, self.taps_vector),
        )

    @kept
    def registers(self) -> int:
        """Registers that a thread needs for all its values at once, roughly."""
        cfg, words = self.cfg, self.sum_bytes // 4
        values = (2 * cfg.thread_m * cfg.thread_n + 2 * (cfg.thread_m + cfg.thread_n)) * words
        for each in self.maps:
            outers, depths = each.shares
            values += outers * depths * max(1, each.vector * each.itemsize // 4) + 4 * outers
        return values + _REGISTERS

    def _map(self, outer: int, along_depth: bool, vector: int) -> OperandMap:
        itemsize = ITEMSIZE[self.p.dtype]
        return OperandMap(outer, self.cfg.block_k, self.cfg.threads, along_depth, vector, itemsize)

    def _vector(self, run: int, along_depth: bool, outer: int) -> int:
        """The longest vector that divides a run of neighbours in memory, and the threads' work."""
        # along the outer axis 4 elements fill a store to shared memory
        most = 16 // ITEMSIZE[self.p.dtype]
        vector = most if along_depth else min(most, 4)
        while vector > 1 and (run % vector or not self._map(outer, along_depth, vector).even):
            vector //= 2
        return vector


@lru_cache(512)  # fitted, weighed, predicted and launched: the same each time
def tiles_of(p: ConvProblem, cfg: GemmConfig) -> GemmTiles:
    """A config applied to a problem."""
    return GemmTiles(p, correlation(p), cfg)


def illegal(tiles: GemmTiles, device: Device) -> str | None:
    """What is wrong with a config for a problem and a device, in words, or None."""
    return _ill_formed(tiles.cfg) or _beyond_limits(tiles, device)


@lru_cache(1024)  # weighed for every problem
def _ill_formed(cfg: GemmConfig) -> str | None:
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
    return None


def _beyond_limits(tiles: GemmTiles, device: Device) -> str | None:
    cfg = tiles.cfg
    if not all(each.even for each in tiles.maps):
        return f"{cfg.threads} threads cannot share tiles of {cfg.block_m}×{cfg.block_n}×{cfg.block_k} evenly"
    if tiles.registers > min(255, 65536 // cfg.threads):
        return f"{cfg.threads} threads of some {tiles.registers} registers are more than an SM has"
    if tiles.smem_bytes > device.smem_block:
        return (
            f"a block takes {tiles.smem_bytes} bytes of shared memory, {device.name} has {device.smem_block}"
        )
    return beyond_limits(tiles)
