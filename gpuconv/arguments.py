"""What a caller may write for each argument, and the one clear error for anything else.

Every function returns the normal form or raises ``TypeError``/``ValueError`` that names the argument, its
value and what is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from gpuconv.layout import DEFAULT_WEIGHTS, LAYOUTS, WEIGHTS

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]

#: Sizes, strides, paddings and dilations stay below this, so that sums of a few fit into 64 bits.
LIMIT: Final = 2**31 - 1
PADDING_WORDS: Final = ("valid", "same", "same_lower")
PRECISIONS: Final = ("ieee", "tf32", "tf32x3", "relaxed")
PADDING_MODES: Final = ("zeros", "reflect", "replicate", "circular")


def show(value: object) -> str:
    """``repr`` of a value, on one line and cut to its length, whatever the value is."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a caller's own __repr__ may raise anything, and Python refuses to write huge integers
        text = f"a value of type {type(value).__name__} that cannot be printed"
    return text if len(text) <= 80 else text[:77] + "..."


def integer(name: str, value: Any, minimum: int) -> int:
    """An int or NumPy integer of at least `minimum`; bools, floats and strings are not integers."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {show(value)} ({type(value).__name__})")
    number = int(value)
    if not minimum <= number <= LIMIT:
        raise ValueError(f"{name} must be from {minimum} to {LIMIT}, got {show(number)}")
    return number


def pair(name: str, value: Any, minimum: int = 1) -> Pair:
    """An integer for both axes, or one for each: (height, width)."""
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"{name} must be an integer or a pair (height, width), got {show(value)}")
        return integer(f"{name}[0]", value[0], minimum), integer(f"{name}[1]", value[1], minimum)
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer or a pair (height, width), got {show(value)}")
    number = integer(name, value, minimum)
    return number, number


def choice(name: str, value: Any, allowed: Iterable[Any]) -> Any:
    """One of a few words, spelled as written here."""
    options = tuple(allowed)
    if not any(type(value) is type(option) and value == option for option in options):
        kind = ValueError if isinstance(value, str) else TypeError
        raise kind(f"{name} must be one of {', '.join(map(repr, options))}, got {show(value)}")
    return value


def flag(name: str, value: Any) -> bool:
    """Exactly True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {show(value)}")
    return bool(value)


def shape4(name: str, value: Any) -> tuple[int, int, int, int]:
    """Four integers, none negative."""
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{name} must be a tuple of four integers, got {show(value)}")
    if len(value) != 4:
        raise ValueError(f"{name} must have four dimensions, got {len(value)}: {show(value)}")
    a, b, c, d = (integer(f"{name}[{axis}]", size, 0) for axis, size in enumerate(value))
    return a, b, c, d


def layouts(data_format: Any, weight_format: Any) -> tuple[str, str]:
    """Lower-case layout of activations and weights; weights default to the layout's usual partner."""
    layout = choice("data_format", data_format, (name.upper() for name in LAYOUTS)).lower()
    if weight_format is None:
        return layout, DEFAULT_WEIGHTS[layout]
    return layout, choice("weight_format", weight_format, (name.upper() for name in WEIGHTS)).lower()


def padding(
    value: Any, *, size: Pair, kernel_size: Pair, stride: Pair, dilation: Pair, name: str = "padding"
) -> Padding:
    """((top, bottom), (left, right)) from an int, a pair, four sides or a word.

    ``"same"`` is TensorFlow's at every stride: ⌈H/stride⌉ outputs, the odd cell at the bottom and right;
    ``"same_lower"`` puts it at the top and left; ``"valid"`` pads nothing.
    """
    if isinstance(value, str):
        word = choice(name, value, PADDING_WORDS)
        if word == "valid":
            return (0, 0), (0, 0)
        axes = zip(size, kernel_size, stride, dilation, strict=True)
        vertical, horizontal = (_same(*axis, lower=word == "same_lower") for axis in axes)
        return vertical, horizontal
    allowed = (
        "an integer, a pair (height, width), four sides ((top, bottom), (left, right)) or one of "
        + ", ".join(map(repr, PADDING_WORDS))
    )
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"{name} must be {allowed}, got {show(value)}")
        sides = [isinstance(side, (tuple, list)) for side in value]
        if all(sides):
            return pair(f"{name}[0]", value[0], 0), pair(f"{name}[1]", value[1], 0)
        if any(sides):
            raise ValueError(f"{name} must be {allowed}, got {show(value)}")
        vertical_size, horizontal_size = pair(name, value, 0)
        return (vertical_size, vertical_size), (horizontal_size, horizontal_size)
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be {allowed}, got {show(value)}")
    side = integer(name, value, 0)
    return (side, side), (side, side)


def check_border(name: str, value: Any, mode: str, padding: Padding, size: Pair) -> None:
    """Refuse a padding that would need the input more than once, as PyTorch does."""
    if mode not in ("reflect", "circular"):
        return
    for axis, cells, pads in zip(("height", "width"), size, padding, strict=True):
        most = cells - 1 if mode == "reflect" else cells
        if max(pads) > most:
            raise ValueError(
                f"{name} must be at most {most} along the {axis} of {cells} with padding_mode {mode!r}, "
                f"got {show(value)}, that is {pads[0]}+{pads[1]}"
            )


def _same(size: int, taps: int, stride: int, dilation: int, *, lower: bool) -> Pair:
    total = max((-(-size // stride) - 1) * stride + dilation * (taps - 1) + 1 - size, 0)
    small = total // 2
    return (total - small, small) if lower else (small, total - small)
