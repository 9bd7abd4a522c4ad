"""A good config for ``kernels/implicit_gemm_sm80.cu`` in constant time, and its neighbours worth a try."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from gpuconv.backend.device import Device
from gpuconv.kernels.cuda.correlation import Correlation, correlation
from gpuconv.kernels.cuda.mma_tiles import STEP, MmaConfig, illegal, tiles_of
from gpuconv.kernels.cuda.product import cost, splits_to_try
from gpuconv.problem import ConvProblem

#: Tiles to choose from, with the part of the tensor cores' rate that each may reach: small ones read more of
#: shared memory for every product.
_TILES: Final = {
    MmaConfig(128, 128, 32, 64, 64, 4): 0.80,
    MmaConfig(128, 64, 32, 64, 32, 4): 0.70,
    MmaConfig(64, 128, 32, 32, 64, 4): 0.70,
    MmaConfig(64, 64, 32, 32, 32, 4): 0.55,
    MmaConfig(128, 32, 32, 32, 32, 4): 0.45,
    MmaConfig(32, 128, 32, 32, 32, 4): 0.45,
    MmaConfig(128, 16, 32, 32, 16, 4): 0.30,
    MmaConfig(32, 32, 32, 16, 16, 4): 0.30,
}
#: Places of a sum that a block's beginning and end take as long as; and what a stage takes beside its own.
_FIXED: Final = 256
_STAGE: Final = 4
#: Below it a stage of 32 places is mostly empty.
_SHALLOW: Final = 24


@lru_cache(256)  # asked by a problem's check, its default and its candidates
def tiles_by_cost(p: ConvProblem, device: Device) -> tuple[MmaConfig, ...]:
    """Every tile with the splits that suit it, where that is legal; the least time first.

    Time is counted in products, waves and stages. Where no tile is legal, the smallest is all there is.
    """
    form = correlation(p)
    costs: dict[MmaConfig, float] = {}
    smallest = MmaConfig()
    for tile, rate in _TILES.items():
        smallest = cfg = _fitted(p, form, tile, device)
        tiles = tiles_of(p, cfg)
        if illegal(tiles, device) is None:
            costs.setdefault(cfg, cost(tiles, rate, device, _FIXED, _STAGE))
    return tuple(sorted(costs, key=lambda cfg: costs[cfg])) or (smallest,)


def least(p: ConvProblem, device: Device) -> Iterator[MmaConfig]:
    """The smallest tile, and that without splits; they may be illegal."""
    cfg = _fitted(p, correlation(p), list(_TILES)[-1], device)
    yield cfg
    yield cfg.but(splits=1)


def _fitted(p: ConvProblem, form: Correlation, tile: MmaConfig, device: Device) -> MmaConfig:
    """A tile with a stage and splits that suit a problem and a device; it may be illegal.

    The longest chain of a stage that rounding allows, deeper stages where sums are long, fewer of them where
    shared memory is short.
    """
    deep = form.depth > _SHALLOW
    for block_k in (tile.block_k, 64, STEP) if deep else (STEP, tile.block_k):
        for stages in (tile.stages, 3, 2):
            for chain in (4, 2, 1):
                cfg = tile.but(block_k=block_k, stages=stages, chain=min(chain, block_k // STEP))
                for splits in splits_to_try(tiles_of(p, cfg), device):
                    cfg = cfg.but(splits=splits)
                    if illegal(tiles_of(p, cfg), device) is None:
                        return cfg
    return cfg


def neighbours(base: MmaConfig, p: ConvProblem) -> Iterator[MmaConfig]:
    """Configs that differ from `base` in one respect, and every other tile; they may be illegal."""
    for tile in _TILES:
        yield tile.but(block_k=base.block_k, chain=base.chain, splits=base.splits)
    for factor in (2, 4):
        for name in ("splits", "raster"):
            value = getattr(base, name)
            yield base.but(**{name: value * factor})
            yield base.but(**{name: max(1, value // factor)})
    for stages in (2, 3, 5, 6):
        yield base.but(stages=stages)
    for block_k, chain in ((16, 1), (32, 1), (32, 2), (64, 1), (64, 2), (64, 4)):
        yield base.but(block_k=block_k, chain=chain)
        yield base.but(block_k=block_k, chain=chain, stages=3)
    # other forms of the same warp, and blocks of more warps and of fewer
    for wide, narrow in (("m", "n"), ("n", "m")):
        warp = {
            f"warp_{wide}": getattr(base, f"warp_{wide}") * 2,
            f"warp_{narrow}": getattr(base, f"warp_{narrow}") // 2,
        }
        yield base.but(**warp)
        yield base.but(**{f"block_{wide}": getattr(base, f"block_{wide}") * 2})
        yield base.but(**{f"warp_{narrow}": warp[f"warp_{narrow}"]})
