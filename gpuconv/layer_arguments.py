"""What a caller may write for a layer, and how the layer writes it."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpuconv import arguments
from gpuconv.arguments import Padding, show
from gpuconv.problem import DTYPES


def padding(value: Any) -> str | Padding:
    """A word as it is, anything else as four sides."""
    sides = arguments.padding(value, size=(1, 1), kernel_size=(1, 1), stride=(1, 1), dilation=(1, 1))
    return value if isinstance(value, str) else sides


def short(value: Any) -> Any:
    """Equal numbers for both axes, or on both sides, as one."""
    if not isinstance(value, tuple):
        return value
    first, second = value
    if isinstance(first, tuple) and first[0] == first[1] and second[0] == second[1]:
        return short((first[0], second[0]))
    return first if first == second and isinstance(first, int) else value


def dtype(value: Any) -> str:
    """A dtype's name."""
    name = np.dtype(value).name if isinstance(value, (type, np.dtype)) else value
    return str(arguments.choice("dtype", name, DTYPES.values()))


def generator(rng: Any) -> np.random.Generator:
    """What draws the first parameters."""
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        allowed = "None, a seed or a numpy.random.Generator"
        raise type(error)(f"rng must be {allowed}, got {show(rng)}") from None
