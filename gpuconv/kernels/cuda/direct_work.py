"""What ``kernels/direct.cu`` asks of a device under a config."""

from __future__ import annotations

from math import ceil, prod
from typing import Final

from gpuconv.kernels.cuda.direct_tiles import Tiles
from gpuconv.kernels.work import Work
from gpuconv.problem import ITEMSIZE

#: Instructions that one load of ``tile/copy.cuh`` costs: coordinates, limits, address, load and store.
_COPY: Final = 34
#: Instructions that a channel costs a thread beside its products: loop, addresses, guards.
_CHANNEL: Final = 12
_START: Final = 150  # until the main loop begins, and one result's way out after it
_SECTOR: Final = 32
#: Registers that the check of a config allows for, and compilers do not need.
_SPARE: Final = 40


def work(tiles: Tiles) -> Work:
    """One launch."""
    cfg, form = tiles.cfg, tiles.form
    channels = tiles.depth / (cfg.taps_r * cfg.taps_s)
    stages = ceil(tiles.stage_count / cfg.splits)
    loads = _loads(tiles)
    windows, taps = _reads(tiles)
    results = cfg.thread_p * cfg.thread_q * cfg.thread_k
    per_channel = windows + taps + _CHANNEL
    flushes = results * tiles.depth / max(1, tiles.flush_rows * cfg.taps_s) if tiles.long_sum else 0
    warps = ceil(cfg.threads / 32)
    # neighbours along a row read neighbouring windows, neighbours along the outputs neighbouring taps
    quads = 4 if not cfg.k_first and not tiles.interleaved else 1
    tap_quads = min(4, cfg.block_k // cfg.thread_k) if cfg.k_first else 1
    shared = warps * channels * (windows * quads + taps * tap_quads)
    written = cfg.block_p * cfg.block_q * cfg.block_k * cfg.block_n * cfg.block_g * ITEMSIZE[tiles.p.dtype]
    return Work(
        blocks=prod(tiles.blocks) * cfg.splits,
        threads=cfg.threads,
        registers=max(32, min(255, tiles.registers) - _SPARE),
        smem_bytes=tiles.smem_bytes,
        multiplies=results * tiles.depth,
        instructions=channels * per_channel
        + stages * loads * _COPY / cfg.threads
        + flushes
        + _START
        + 12 * results,
        wavefronts=shared + stages * loads / 8,
        read_bytes=stages * _bytes(tiles),
        written_bytes=written * form.out_elements / max(1, _covered(tiles)),
        waits=stages if cfg.stages == 1 else 1 + stages / 8,
        wide=tiles.p.dtype == "f64",
        stages=stages,
    )


def _covered(tiles: Tiles) -> int:
    """Results that all blocks of one split have room for."""
    cfg = tiles.cfg
    return prod(tiles.blocks) * cfg.block_p * cfg.block_q * cfg.block_k * cfg.block_n * cfg.block_g


def _loads(tiles: Tiles) -> float:
    """Loads of one stage by all threads of a block."""
    cfg = tiles.cfg
    cells = prod(tiles.in_extents[:1]) * tiles.columns * prod(tiles.in_extents[2:])
    taps = cfg.taps_r * cfg.taps_s * cfg.block_c * cfg.block_k * cfg.block_g
    return cells / tiles.in_vector + taps / tiles.taps_vector


def _bytes(tiles: Tiles) -> float:
    """Bytes of the sectors that one stage of a block reads."""
    cfg, size = tiles.cfg, ITEMSIZE[tiles.p.dtype]
    height, width, channels, images, groups = tiles.in_extents
    extents = {"kRow": height, "kColumn": width, "kChannel": channels, "kLane": images, "kGroup": groups}
    cells = prod(extents.values())
    taps = cfg.taps_r * cfg.taps_s * cfg.block_c * cfg.block_k * cfg.block_g
    of_taps = {
        "kRow": cfg.taps_r, "kColumn": cfg.taps_s, "kChannel": cfg.block_c,
        "kLane": cfg.block_k, "kGroup": cfg.block_g,
    }  # fmt: skip
    read = 0.0
    for count, run in ((cells, extents[tiles.in_unit]), (taps, of_taps[tiles.taps_unit])):
        sectors = ceil(run * size / _SECTOR) + (run * size % _SECTOR > 0) / 2
        read += count / run * sectors * _SECTOR
    return read


def _reads(tiles: Tiles) -> tuple[float, float]:
    """Shared-memory loads of a thread for one channel: of windows and of taps."""
    cfg, rows, columns = tiles.cfg, tiles.form.rows, tiles.form.columns
    quad = 16 // tiles.sum_bytes
    stride = 1 if cfg.taps_r == 1 else rows.stride
    met = (cfg.thread_p - 1) * stride + (cfg.taps_r - 1) * rows.dilation + 1
    slides = met <= 16 and cfg.taps_r * cfg.taps_s * cfg.thread_p * cfg.thread_q * cfg.thread_k <= 1024
    along = 1 if cfg.taps_s == 1 else columns.stride
    window = (cfg.thread_q - 1) * along + (cfg.taps_s - 1) * columns.dilation + 1
    by_quads = not tiles.interleaved and cfg.thread_q * along % quad == 0
    each = ceil((window + tiles.lead % quad) / quad) if by_quads else window
    if window > 48:
        each = cfg.taps_s * cfg.thread_q
    together = quad if cfg.thread_k % quad == 0 else 2 if cfg.thread_k % 2 == 0 else 1
    windows = (met if slides else cfg.taps_r * cfg.thread_p) * each
    return windows, cfg.thread_p * cfg.taps_r * cfg.taps_s * cfg.thread_k / together
