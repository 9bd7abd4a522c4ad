"""What ``kernels/implicit_gemm_simt.cu`` asks of a device under a config."""

from __future__ import annotations

from math import ceil, prod
from typing import Final

from gpuconv.kernels.cuda.gemm_tiles import GemmTiles, OperandMap
from gpuconv.kernels.work import Work
from gpuconv.problem import ITEMSIZE

#: Instructions of a stage that neither products nor loads account for: the table's next place, the barrier.
_STAGE: Final = 60
#: Instructions of one load: its place, limits, address and zeros; stores to shared memory come on top.
_LOAD: Final = 9
_START: Final = 600  # until the main loop begins, and of addresses after it


def work(tiles: GemmTiles) -> Work:
    """One launch."""
    cfg, size = tiles.cfg, tiles.sum_bytes
    stages, results = tiles.stages_per_split, cfg.thread_m * cfg.thread_n
    quad = 16 // size
    reads = cfg.block_k * (ceil(cfg.thread_m / quad) + ceil(cfg.thread_n / quad))
    loads, stores = map(sum, zip(*(_copies(each, quad) for each in tiles.maps), strict=True))
    warps = cfg.threads // 32
    cells = cfg.block_k * (cfg.block_m + cfg.block_n)
    # a quarter of a warp at a time reads 16 bytes a lane, whether or not lanes read the same
    wide = [min(each, quad) * size / 4 for each in (cfg.thread_m, cfg.thread_n)]
    counts = [each / min(each, quad) for each in (cfg.thread_m, cfg.thread_n)]
    fragments = warps * cfg.block_k * sum(a * b for a, b in zip(wide, counts, strict=True))
    return Work(
        blocks=prod(tiles.blocks) * cfg.splits,
        threads=cfg.threads,
        registers=min(255, tiles.registers),
        smem_bytes=tiles.smem_bytes,
        multiplies=results * cfg.block_k * stages,
        instructions=stages * (reads + results + _LOAD * loads + stores + _STAGE) + _START + 8 * results,
        wavefronts=stages * (fragments + cells * size / 128),
        read_bytes=stages * cells * ITEMSIZE[tiles.p.dtype],
        written_bytes=cfg.block_m * cfg.block_n * (size if cfg.splits > 1 else ITEMSIZE[tiles.p.dtype]),
        waits=2,
        wide=tiles.p.dtype == "f64",
        stages=stages,
    )


def _copies(share: OperandMap, quad: int) -> tuple[int, int]:
    """Loads from global memory and stores to shared memory of a thread in a stage."""
    vectors = prod(share.shares)
    return vectors, vectors * (share.vector if share.along_depth else ceil(share.vector / quad))
