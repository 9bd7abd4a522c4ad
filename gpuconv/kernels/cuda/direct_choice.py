"""A good config for ``kernels/direct.cu`` in constant time, and its neighbours that are worth a try."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from math import prod

from gpuconv.backend.device import Device
from gpuconv.kernels.cuda.correlation import Axis, Correlation, correlation
from gpuconv.kernels.cuda.direct_tiles import MOST_TAPS, DirectConfig, Tiles, illegal
from gpuconv.problem import ConvProblem

#: Shared memory that every device gives a block without being asked.
_BUDGET = 48 * 1024


@lru_cache(256)  # asked by a problem's check and its candidates
def default(p: ConvProblem, device: Device) -> DirectConfig:
    """A good choice in constant time, for any problem: blocks of some 128 threads, stages that fit."""
    form = correlation(p)
    wide = p.dtype == "f64"
    by_channel = p.layout == "nhwc" or p.op == "wgrad"
    rows, columns = form.rows.class_outputs, form.columns.class_outputs
    thread_q = min(columns, 2 if wide else 4)
    if p.op == "wgrad" and not wide and columns <= 8:
        thread_q = columns
    thread_k = min(_power_below(form.filters), 2 if wide else 4)
    thread_p = 1 if p.op == "wgrad" else min(_power_below(rows), 4 if thread_k == 1 else 2)
    threads_k = min(_power_above(-(-form.filters // thread_k)), 16 if by_channel else 4)
    # what is left of 128 threads goes to groups, pixels and images, in the order of the memory
    free = 128 // threads_k
    block_g = 1
    if by_channel:
        block_g = min(_power_above(form.groups), max(1, 32 // threads_k))
        free //= block_g
    needed_q, needed_p = -(-columns // thread_q), -(-rows // thread_p)
    threads_q = min(_power_above(needed_q), max(1, min(free, 4 if by_channel else 16)))
    threads_p = min(needed_p if p.op == "wgrad" else _power_above(needed_p), max(1, free // threads_q))
    free = max(1, free // (threads_q * threads_p))
    more_g = min(_power_above(-(-form.groups // block_g)), free)
    block_n = min(_power_above(form.images), _power_below(free // more_g))
    cfg = DirectConfig(
        block_p=thread_p * threads_p, block_q=thread_q * threads_q, block_k=thread_k * threads_k,
        block_n=block_n, block_g=block_g * more_g, block_c=1,
        thread_p=thread_p, thread_q=thread_q, thread_k=thread_k,
        taps_r=_chunk(form.rows, 8 if p.op == "wgrad" else MOST_TAPS),
        taps_s=_chunk(form.columns, 16 if p.op == "wgrad" else MOST_TAPS),
        k_first=int(by_channel),
    )  # fmt: skip
    while cfg.threads < 32:  # a warp at least; what is beyond the problem idles
        cfg = cfg.but(block_n=2 * cfg.block_n)
    budget = min(_BUDGET, device.smem_block)
    cfg = _fit(p, form, cfg, device, budget)
    while cfg.block_c < min(form.channels, 16):
        more = cfg.but(block_c=min(2 * cfg.block_c, form.channels))
        if Tiles(p, form, more).smem_bytes > budget:
            break
        cfg = more
    return cfg.but(splits=_splits(Tiles(p, form, cfg), device))


def _fit(p: ConvProblem, form: Correlation, cfg: DirectConfig, device: Device, budget: int) -> DirectConfig:
    """Fewer taps a stage until shared memory holds them, or fewer columns where registers do not."""
    for _ in range(64):
        tiles = Tiles(p, form, cfg)
        if tiles.smem_bytes > budget:
            if cfg.taps_r > 1 and cfg.taps_r * form.rows.dilation >= cfg.taps_s * form.columns.dilation:
                cfg = cfg.but(taps_r=-(-cfg.taps_r // 2))
            elif cfg.taps_s > 1:
                cfg = cfg.but(taps_s=-(-cfg.taps_s // 2))
            elif cfg.taps_r > 1:
                cfg = cfg.but(taps_r=-(-cfg.taps_r // 2))
            elif cfg.block_g > 1:
                cfg = cfg.but(block_g=cfg.block_g // 2)
            else:
                cfg = replace(
                    cfg, block_n=max(1, cfg.block_n // 2), block_k=max(cfg.thread_k, cfg.block_k // 2)
                )
        elif illegal(tiles, device) is None:
            break
        elif cfg.taps_s > 4:
            cfg = cfg.but(taps_s=-(-cfg.taps_s // 2))
        else:
            break
    return cfg


def _splits(tiles: Tiles, device: Device) -> int:
    """Parts of the sum that fill the device where results alone do not; each keeps two stages at least."""
    blocks, wanted = prod(tiles.blocks), 2 * max(1, device.sms)
    if blocks >= wanted or tiles.form.out_elements >= 2**31:
        return 1
    splits = max(1, min(wanted // max(1, blocks), tiles.stage_count // 2, 64))
    while splits > 1 and illegal(replace(tiles, cfg=tiles.cfg.but(splits=splits)), device) is not None:
        splits //= 2  # each part is one more rounding
    return splits


def neighbours(base: DirectConfig) -> Iterator[DirectConfig]:
    """Configs that differ from `base` in one respect; they may be illegal."""
    for factor in (2, 4):
        for block, thread in (("block_p", "thread_p"), ("block_q", "thread_q"), ("block_k", "thread_k")):
            blocks, threads = getattr(base, block), getattr(base, thread)
            yield base.but(**{block: blocks * factor})
            yield base.but(**{block: max(threads, blocks // factor)})
            yield base.but(**{block: blocks * factor, thread: threads * factor})
            yield base.but(**{thread: max(1, threads // factor)})
        for name in ("block_c", "splits"):
            value = getattr(base, name)
            yield base.but(**{name: value * factor})
            yield base.but(**{name: max(1, value // factor)})
        yield base.but(block_g=base.block_g * factor)
        yield base.but(block_n=base.block_n * factor)
    yield base.but(k_first=1 - base.k_first)
    yield base.but(taps_r=1)
    yield base.but(taps_r=1, taps_s=1)
    yield base.but(stages=2)
    yield base.but(stages=3)


def _chunk(axis: Axis, most: int) -> int:
    """Taps of a stage: all, or the largest divisor not far below `most`, or `most`."""
    taps = axis.class_taps
    if taps <= most:
        return taps
    return next((part for part in range(most, most // 2, -1) if taps % part == 0), most)


def _power_above(value: int) -> int:
    return 1 << max(0, value - 1).bit_length()


def _power_below(value: int) -> int:
    return 1 << (value.bit_length() - 1)
