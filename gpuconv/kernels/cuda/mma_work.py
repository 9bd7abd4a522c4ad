"""What ``kernels/implicit_gemm_sm80.cu`` asks of a device under a config."""

from __future__ import annotations

from math import ceil, prod
from typing import Final

from gpuconv.kernels.cuda.mma_tiles import STEP, CopyMap, MmaTiles
from gpuconv.kernels.work import Work

#: Instructions of a stage beside products and copies: the next place of the depth, the ring, the barrier.
_STAGE: Final = 70
_COPY: Final = 8  # a place, limits, an address, the copy
_ELEMENT: Final = 5  # more for each element that goes through registers
_START: Final = 800  # until the main loop begins, and of addresses after it
_WAVEFRONT: Final = 128  # bytes


def work(tiles: MmaTiles) -> Work:
    """One launch."""
    cfg = tiles.cfg
    stages, steps = tiles.stages_per_split, cfg.block_k // STEP
    results = cfg.warp_m * cfg.warp_n / 32
    squares = steps * (cfg.warp_m + cfg.warp_n) // 16
    copies = sum(map(_copies, (tiles.in_map, tiles.taps_map)))
    after = 6 * results
    stage_bytes = 2 * cfg.block_k * (cfg.block_m + cfg.block_n)
    written = cfg.block_m * cfg.block_n * (4 if cfg.splits > 1 else 2)
    # squares of 512 bytes; results go out and back in float32
    read = cfg.threads // 32 * squares * 512
    waits_for_elements = stages if 1 in (tiles.in_map.vector, tiles.taps_map.vector) else 0
    return Work(
        blocks=prod(tiles.blocks) * cfg.splits,
        threads=cfg.threads,
        registers=min(255, tiles.registers),
        smem_bytes=tiles.smem_bytes,
        multiplies=results * cfg.block_k * stages,
        instructions=stages * (steps // cfg.chain * results + squares + copies + _STAGE) + _START + after,
        wavefronts=(stages * (read + stage_bytes) + 8 * cfg.block_m * cfg.block_n) / _WAVEFRONT,
        read_bytes=stages * stage_bytes,
        written_bytes=written,
        waits=2 + waits_for_elements,
        tensor=True,
        stages=stages,
    )


def _copies(share: CopyMap) -> int:
    """Instructions that a thread's copies of a stage take."""
    vectors = prod(share.shares)
    return vectors * (_COPY + (ceil(share.vector * _ELEMENT) if share.vector == 1 else 0))
