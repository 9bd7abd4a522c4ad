"""Axis orders: which letter stands where, and views that bring any of them to one common order.

Activations are ``nchw`` or ``nhwc``; weights ``oihw``, ``hwio`` or ``ohwi``, where I counts the input
channels of one group.
"""

from __future__ import annotations

from typing import Any, Final

LAYOUTS: Final = ("nchw", "nhwc")
WEIGHTS: Final = ("oihw", "hwio", "ohwi")
DEFAULT_WEIGHTS: Final = {"nchw": "oihw", "nhwc": "hwio"}

_COMMON: Final = {"nchw": "nchw", "nhwc": "nchw", "oihw": "oihw", "hwio": "oihw", "ohwi": "oihw"}


def _to(order: str) -> tuple[int, ...]:
    return tuple(order.index(axis) for axis in _COMMON[order])


def _from(order: str) -> tuple[int, ...]:
    return tuple(_COMMON[order].index(axis) for axis in order)


TO_COMMON: Final = {order: _to(order) for order in _COMMON}
FROM_COMMON: Final = {order: _from(order) for order in _COMMON}


def common_view(array: Any, order: str) -> Any:
    """View `array`, stored in `order`, as NCHW (activations) or OIHW (weights); no copy."""
    return array.transpose(TO_COMMON[order])


def common_shape(shape: tuple[int, ...], order: str) -> tuple[int, int, int, int]:
    """Read a shape given in `order` as (N, C, H, W) or (O, I, H, W)."""
    a, b, c, d = (shape[axis] for axis in TO_COMMON[order])
    return a, b, c, d


def ordered_shape(shape: tuple[int, int, int, int], order: str) -> tuple[int, int, int, int]:
    """Write an (N, C, H, W) or (O, I, H, W) shape in `order`."""
    a, b, c, d = (shape[axis] for axis in FROM_COMMON[order])
    return a, b, c, d
