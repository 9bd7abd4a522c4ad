"""Tile parameters of ``kernels/implicit_gemm_sm80.cu``, all that follows from them, and which are legal."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from gpuconv.backend.device import Device
from gpuconv.config import Config
from gpuconv.kernels.cuda.correlation import correlation, most_roundings
from gpuconv.kernels.cuda.kept import kept
from gpuconv.kernels.cuda.product import Product, beyond_limits
from gpuconv.problem import ConvProblem

#: Registers for everything but sums, fragments and addresses.
_REGISTERS: Final = 40
#: Places of the depth that one instruction multiplies.
STEP: Final = 16
#: Products that Ampere's tensor cores add at once; later ones add more, and err by less.
_AT_ONCE: Final = 8


@dataclass(frozen=True)
class MmaConfig(Config):
    """What one block and one warp take on, how far copies run ahead, and how the grid is cut.

    Attributes
    ----------
    block_m, block_n, block_k : int
        Rows, columns and depth of a block's stage.
    warp_m, warp_n : int
        Rows and columns of a warp's results.
    stages : int
        Stages that shared memory holds, one of which is multiplied.
    chain : int
        Products of 16 places that tensor cores add up before they join the total.
    splits : int
        Parts that each sum is cut into.
    raster : int
        Columns of blocks that one band of the grid walks together.
    """

    block_m: int = 128
    block_n: int = 128
    block_k: int = 32
    warp_m: int = 64
    warp_n: int = 64
    stages: int = 4
    chain: int = 2
    splits: int = 1
    raster: int = 8

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return (self.block_m // self.warp_m) * (self.block_n // self.warp_n) * 32


@dataclass(frozen=True, slots=True)
class CopyMap:
    """Who copies what of an operand: mirror of ``CopyMap`` in ``mma/copy.cuh``."""

    outer: int
    depth: int
    threads: int
    along_depth: bool
    vector: int

    @property
    def shares(self) -> tuple[int, int]:
        """Vectors of a thread along the outer axis and along the depth; 0 where they do not come out even."""
        across = self.outer // (1 if self.along_depth else self.vector)
        down = self.depth // (self.vector if self.along_depth else 1)
        if not across or not down:
            return 0, 0
        if self.along_depth:
            wanted = down if self.vector == 8 else 8 // self.vector
            threads_down = min(down, max(wanted, self.threads // across))
        else:
            neighbours = 64 // (2 * self.vector)
            threads_down = self.threads // max(min(across, neighbours), self.threads // down)
        threads_across = self.threads // threads_down
        outers, depths = across // threads_across, down // threads_down
        whole = outers * threads_across == across and depths * threads_down == down
        return (outers, depths) if whole else (0, 0)

    @property
    def even(self) -> bool:
        """Whether every thread has the same to copy."""
        return 0 not in self.shares


@dataclass(frozen=True)
class MmaTiles(Product):
    """A config applied to a problem: everything the kernel derives from its definitions."""

    cfg: MmaConfig

    @property
    def inside(self) -> bool:
        """Whether no tap of any result lies outside the input: it then needs no coordinates."""
        p = self.p
        whole = p.R == p.S == 1 or p.op != "dgrad"
        return whole and not any(size for side in p.padding for size in side)

    @kept
    def in_map(self) -> CopyMap:
        """Who copies what of the input."""
        return self._map(self.cfg.block_m, self.in_along_depth, self.in_run)

    @kept
    def taps_map(self) -> CopyMap:
        """Who copies what of the taps."""
        return self._map(self.cfg.block_n, self.taps_along_depth, self.taps_run)

    @property
    def tabled(self) -> bool:
        """Whether threads have several places of the depth each, which a table tells them of."""
        return max(self.in_map.shares[1], self.taps_map.shares[1]) > 1

    @property
    def smem_bytes(self) -> int:
        """Dynamic shared memory of a block: offsets, any tables and their cursors; then stages or results."""
        cfg = self.cfg
        stages = cfg.stages * cfg.block_k * (cfg.block_m + cfg.block_n) * 2
        results = cfg.threads // 32 * 16 * (cfg.warp_n + 8) * 4
        tables = 80 * cfg.block_k if self.tabled else 0
        return 8 * cfg.block_m + 128 + tables + max(stages, results)

    def roundings(self, splits: int) -> int:
        """Units of roundoff that the worst data can cost: of each level's sums, one after the other.

        Ampere's tensor cores add eight products and the sum before them exactly once each is cut off one bit
        below the last of the largest, a unit for each, and cut off what they found, two units (Fasi, Higham,
        Mikaitis, Pranesh, "Numerical behavior of NVIDIA tensor cores", PeerJ Computer Science 7, 2021; later
        ones keep more bits, see Khattak, Mikaitis, "Accurate models of NVIDIA tensor cores", 2025).
        """
        chain = min(STEP * self.cfg.chain, self.form.depth)
        chains = -(-self.stage_count // splits) * (self.cfg.block_k // (STEP * self.cfg.chain))
        return chain + 2 * -(-chain // _AT_ONCE) + max(0, chains - 1) + splits - 1

    @property
    def most_roundings(self) -> float:
        """See `correlation.most_roundings`; in 16 bits the last is not allowed beside."""
        return most_roundings(self.p, self.form.depth) - 1

    @kept
    def registers(self) -> int:
        """Registers that a thread needs for all its values at once, roughly."""
        cfg = self.cfg
        sums = cfg.warp_m * cfg.warp_n // 32
        fragments = cfg.chain * (cfg.warp_n // 4 + 8)  # of the taps all, of the input two squares
        return sums + fragments + 4 * self.in_map.shares[0] + _REGISTERS

    @property
    def most_registers(self) -> int:
        """The same at worst: so that no config that NVRTC 13.0 spills is legal.

        More for filters of the taps, and for short copies, whose elements of one pixel or filter go through
        registers together where arrays are not aligned.
        """
        short = [each.vector * each.shares[1] for each in (self.in_map, self.taps_map) if each.vector < 8]
        return self.registers + 2 * self.taps_map.shares[0] + max(short, default=0)

    def _map(self, outer: int, along_depth: bool, run: int) -> CopyMap:
        """The longest vector that divides a run of neighbours in memory, and the threads' work.

        Single elements lie along the outer axis, so that a warp's lanes fill a row of shared memory.
        """
        for vector in (8, 4, 2):
            shared = CopyMap(outer, self.cfg.block_k, self.cfg.threads, along_depth, vector)
            if run % vector == 0 and shared.even:
                return shared
        return CopyMap(outer, self.cfg.block_k, self.cfg.threads, False, 1)


@lru_cache(512)  # fitted, weighed, predicted and launched: the same each time
def tiles_of(p: ConvProblem, cfg: MmaConfig) -> MmaTiles:
    """A config applied to a problem."""
    return MmaTiles(p, correlation(p), cfg)


def illegal(tiles: MmaTiles, device: Device) -> str | None:
    """What is wrong with a config for a problem and a device, in words, or None."""
    return _ill_formed(tiles.cfg) or _beyond_limits(tiles, device)


@lru_cache(1024)  # weighed for every problem
def _ill_formed(cfg: MmaConfig) -> str | None:
    for name in MmaConfig.__dataclass_fields__:
        most = 2**16 if name in ("splits", "raster") else 1024
        if not 1 <= getattr(cfg, name) <= most:
            return f"{name} must be from 1 to {most}, got {getattr(cfg, name)}"
    for name in ("block_m", "block_n", "block_k", "warp_m", "warp_n", "chain"):
        value, least = getattr(cfg, name), 1 if name == "chain" else 16
        if value & (value - 1) or value < least:
            return f"{name} must be a power of two from {least} on, got {value}"
    for large, small in (("block_m", "warp_m"), ("block_n", "warp_n")):
        if getattr(cfg, small) > getattr(cfg, large):
            return f"{small} must be at most {large}={getattr(cfg, large)}, got {getattr(cfg, small)}"
    if STEP * cfg.chain > cfg.block_k:
        return f"chain must be at most {cfg.block_k // STEP}, the steps of a stage, got {cfg.chain}"
    if cfg.stages < 2:
        return f"stages must be at least 2, got {cfg.stages}"
    if not cfg.block_k <= cfg.threads <= 1024:
        return f"a block must have from {cfg.block_k} to 1024 threads, this config makes {cfg.threads}"
    return None


def _beyond_limits(tiles: MmaTiles, device: Device) -> str | None:
    cfg = tiles.cfg
    if not (tiles.in_map.even and tiles.taps_map.even):
        return f"{cfg.threads} threads cannot share tiles of {cfg.block_m}×{cfg.block_n}×{cfg.block_k} evenly"
    if tiles.most_registers > min(255, 65536 // cfg.threads):
        return f"{cfg.threads} threads of up to {tiles.most_registers} registers are more than an SM has"
    if tiles.smem_bytes > device.smem_block:
        return (
            f"a block takes {tiles.smem_bytes} bytes of shared memory, {device.name} has {device.smem_block}"
        )
    return beyond_limits(tiles)
