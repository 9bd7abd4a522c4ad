"""A good config for ``kernels/implicit_gemm_simt.cu`` in constant time, and its neighbours worth a try."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

from gpuconv.backend.device import Device
from gpuconv.kernels.cuda.correlation import Correlation, correlation
from gpuconv.kernels.cuda.gemm_tiles import GemmConfig, illegal, tiles_of
from gpuconv.kernels.cuda.product import cost, splits_to_try
from gpuconv.problem import ConvProblem

#: Tiles to choose from, with the part of the multipliers' rate that each may reach: small ones read more of
#: shared memory for every product.
_TILES = {
    GemmConfig(128, 128, 32, 32, 64, 8, 8): 0.85,
    GemmConfig(128, 64, 32, 64, 32, 8, 8): 0.80,
    GemmConfig(64, 128, 32, 32, 64, 8, 8): 0.80,
    GemmConfig(64, 64, 32, 32, 32, 8, 4): 0.65,
    GemmConfig(128, 32, 32, 32, 32, 8, 4): 0.60,
    GemmConfig(32, 128, 32, 32, 32, 8, 4): 0.60,
    GemmConfig(128, 16, 32, 32, 16, 4, 4): 0.45,
    GemmConfig(32, 32, 32, 32, 16, 4, 4): 0.45,
}
_TILES_F64 = {
    GemmConfig(64, 64, 16, 16, 32, 4, 4): 0.80,
    GemmConfig(64, 32, 16, 16, 32, 4, 4): 0.70,
    GemmConfig(32, 64, 16, 16, 32, 4, 4): 0.70,
    GemmConfig(32, 32, 16, 16, 16, 4, 2): 0.50,
}
#: Places of a sum that a block's beginning and end take as long as; and what a stage takes beside its own.
_FIXED, _STAGE = 192, 3
#: Below it, a stage of 32 places is either mostly empty or a sum too long for one level.
_SHALLOW = 48


@lru_cache(256)  # asked by a problem's check, its default and its candidates
def tiles_by_cost(p: ConvProblem, device: Device) -> tuple[GemmConfig, ...]:
    """Every tile with the splits that suit it, where that is legal; the least time first.

    Time is counted in products, waves and stages. Where no tile is legal, the smallest is all there is.
    """
    form = correlation(p)
    costs: dict[GemmConfig, float] = {}
    smallest = GemmConfig()
    for tile, rate in _menu(p).items():
        smallest = cfg = _fitted(p, form, tile, device)
        if illegal(tiles_of(p, cfg), device) is None:
            costs.setdefault(cfg, cost(tiles_of(p, cfg), rate, device, _FIXED, _STAGE))
    return tuple(sorted(costs, key=lambda cfg: costs[cfg])) or (smallest,)


def least(p: ConvProblem, device: Device) -> Iterator[GemmConfig]:
    """The smallest tile, and that without splits; they may be illegal."""
    cfg = _fitted(p, correlation(p), list(_menu(p))[-1], device)
    yield cfg
    yield cfg.but(splits=1)


def _menu(p: ConvProblem) -> dict[GemmConfig, float]:
    return _TILES_F64 if p.dtype == "f64" else _TILES


def _fitted(p: ConvProblem, form: Correlation, tile: GemmConfig, device: Device) -> GemmConfig:
    """A tile with the depth of a stage and the splits that suit a problem and a device; it may be illegal."""
    legal: list[GemmConfig] = []
    for block_k in (tile.block_k, 16, 64) if form.depth >= _SHALLOW else (16,):
        cfg = tile.but(block_k=block_k)
        wanted, least_of_all = splits_to_try(tiles_of(p, cfg), device)
        for splits in dict.fromkeys((wanted, least_of_all)):
            cfg = cfg.but(splits=splits)
            if illegal(tiles_of(p, cfg), device) is None:
                if least_of_all == 1:  # no more splits than the grid asks for
                    return cfg
                legal.append(cfg)
    return legal[0] if legal else cfg


def neighbours(base: GemmConfig, p: ConvProblem) -> Iterator[GemmConfig]:
    """Configs that differ from `base` in one respect, and every other tile; they may be illegal."""
    for tile in _menu(p):
        yield tile.but(block_k=base.block_k, splits=base.splits)
    for factor in (2, 4):
        for name in ("splits", "raster"):
            value = getattr(base, name)
            yield base.but(**{name: value * factor})
            yield base.but(**{name: max(1, value // factor)})
    for block_k in (8, 16, 32, 64):
        yield base.but(block_k=block_k)
    # other forms of the same warp, of the same thread, and of the same block
    for wide, narrow in (("m", "n"), ("n", "m")):
        warp = {
            f"warp_{wide}": getattr(base, f"warp_{wide}") * 2,
            f"warp_{narrow}": getattr(base, f"warp_{narrow}") // 2,
        }
        thread = {f"thread_{wide}": getattr(base, f"thread_{wide}") * 2}
        yield base.but(**warp)
        yield base.but(**warp, **thread, **{f"thread_{narrow}": getattr(base, f"thread_{narrow}") // 2})
        yield replace(
            base,
            **thread,
            **{f"warp_{wide}": warp[f"warp_{wide}"], f"block_{wide}": getattr(base, f"block_{wide}") * 2},
        )
