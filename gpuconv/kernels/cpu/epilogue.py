"""The end of a block: bias, residual, ReLU, and where the result goes."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from gpuconv.kernels.cpu.blocks import Block, accumulator
from gpuconv.kernels.cpu.correlation import Correlation
from gpuconv.problem import ConvProblem

_FILLED_AT_ONCE: Final = 16_384


def plain(array: Any, dtype: np.dtype[Any]) -> bool:
    """Whether an array can be written by a product as it lies: C-contiguous, aligned, of this dtype."""
    return bool(array.dtype == dtype and array.dtype.isnative and array.flags.carray)


def cells(array: Any, one: Correlation, block: Block) -> Any:
    """The block's part of a result as (groups, channels, images, rows, columns)."""
    images, groups, channels = slice(*block.images), slice(*block.groups), slice(*block.channels)
    written = array[images, groups, channels, one.rows.write, one.columns.write]
    return written[..., slice(*block.rows), slice(*block.columns)].transpose(1, 2, 0, 3, 4)


def finish(p: ConvProblem, values: Any, bias: Any, residual: Any) -> None:
    """Add bias and residual and apply ReLU in place, in the accumulator's type.

    Shapes are (groups, channels, images, rows, columns) or broadcast to it.
    """
    if bias is not None:
        np.add(values, bias, out=values)
    if residual is not None:
        np.add(values, residual, out=values, dtype=values.dtype)
    if p.relu:
        np.maximum(values, 0, out=values)


def fill(p: ConvProblem, result: Any, bias: Any, residual: Any) -> None:
    """Write a result that no tap reaches: zero, plus bias and residual; in small pieces, to take no memory.

    Parameters
    ----------
    result, residual : array (images, groups, channels, rows, columns)
    bias : array (groups, channels, 1, 1, 1)
    """
    if bias is None and residual is None:
        result[...] = 0
        return
    step = max(1, _FILLED_AT_ONCE // (result.shape[1] * result.shape[2]))
    for n in range(result.shape[0]):
        for y in range(result.shape[3]):
            for x in range(0, result.shape[4], step):
                part = (slice(n, n + 1), slice(None), slice(None), slice(y, y + 1), slice(x, x + step))
                target = result[part].transpose(1, 2, 0, 3, 4)
                values = np.zeros(target.shape, accumulator(p))
                also = None if residual is None else residual[part].transpose(1, 2, 0, 3, 4)
                finish(p, values, bias, also)
                target[...] = values
