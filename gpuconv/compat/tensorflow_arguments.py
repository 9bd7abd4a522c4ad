"""TensorFlow's ways to write arguments, and what they mean here."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from gpuconv import arguments
from gpuconv.arguments import Pair, show
from gpuconv.backend import arrays
from gpuconv.problem import DTYPES, Shape

_WORDS: Final = {"SAME": "same", "VALID": "valid"}


def steps(name: str, value: Any, layout: str) -> Pair:
    """(height, width) of one, two or four numbers."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (tuple, list)):
        if len(value) == 4:
            numbers = [arguments.integer(f"{name}[{at}]", number, 1) for at, number in enumerate(value)]
            of = dict(zip(layout, numbers, strict=True))
            if (of["N"], of["C"]) != (1, 1):
                raise ValueError(f"{name} must be 1 for batch and channels ({layout}), got {show(value)}")
            return of["H"], of["W"]
        if len(value) not in (1, 2):
            raise ValueError(f"{name} must be one number, a pair or four ({layout}), got {show(value)}")
        value = value[0] if len(value) == 1 else value
    return arguments.pair(name, value)


def word(value: Any, allowed: str) -> str:
    """Turn a word, all upper case, into gpuconv's."""
    if not isinstance(value, str) or value not in _WORDS:
        kind = ValueError if isinstance(value, (str, tuple, list)) else TypeError
        raise kind(f"padding must be {allowed}, got {show(value)}")
    return _WORDS[value]


def padding_of(value: Any, layout: str) -> Any:
    """Turn a word, or a pair for each axis, into gpuconv's word or four sides."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    sides = {"N": "[0, 0]", "H": "[top, bottom]", "W": "[left, right]", "C": "[0, 0]"}
    allowed = f"'SAME', 'VALID' or [{', '.join(sides[axis] for axis in layout)}] ({layout})"
    if not isinstance(value, (tuple, list)):
        return word(value, allowed)
    if len(value) != 4 or not all(isinstance(pair, (tuple, list)) for pair in value):
        raise ValueError(f"padding must be {allowed}, got {show(value)}")
    of = {
        axis: arguments.pair(f"padding[{at}]", pair, 0)
        for at, (axis, pair) in enumerate(zip(layout, value, strict=True))
    }
    if of["N"] != (0, 0) or of["C"] != (0, 0):
        raise ValueError(f"padding must be {allowed}, got {show(value)}")
    return of["H"], of["W"]


def adopted(given: dict[str, Any]) -> dict[str, Any]:
    """Arrays of one dtype in one place, as `gpuconv`'s functions view them."""
    (lead, first), *_ = given.items()
    for name, array in given.items():
        arrays.check_array(name, array)
        if isinstance(array, np.ndarray) != isinstance(first, np.ndarray):
            there = "the CPU" if isinstance(first, np.ndarray) else "a CUDA device"
            raise TypeError(f"{name} must be on {there} like {lead}; nothing is copied unasked")
    launcher = None if isinstance(first, np.ndarray) else arrays.launcher()
    views = {
        name: arrays.plain(array) if launcher is None else arrays.adopt(name, array, launcher)
        for name, array in given.items()
    }
    dtype, where = arrays.dtype_of(lead, views[lead], launcher), arrays.device_of(views[lead], launcher)
    for name, view in views.items():
        other = arrays.dtype_of(name, view, launcher)
        if other != dtype:
            raise TypeError(f"{name} must have dtype {DTYPES[dtype]} like {lead}, got {DTYPES[other]}")
        here = arrays.device_of(view, launcher)
        if here != where:
            raise TypeError(f"{name} must be on {where} like {lead}, it is on {here}")
    return views


def four(name: str, array: Any) -> Shape:
    """Shape of an array of four dimensions."""
    shape = tuple(array.shape)
    if len(shape) != 4:
        raise ValueError(f"{name} must have four dimensions, got shape {shape}")
    a, b, c, d = shape
    return a, b, c, d
