"""The oracle: convolution and its gradients by definition, in float64: for each tap, one matrix product.

Nothing here is clever, and no algorithm is shared with the code it judges; only shapes and axis orders are.
The tests judge it in turn, by seven plain loops.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpuconv.layout import FROM_COMMON, TO_COMMON, common_shape, common_view
from gpuconv.problem import ConvProblem

Float64 = NDArray[np.float64]
#: That are looked at of a result too large to compute whole.
POINTS: Final = 4096
#: What `numpy.pad` calls the borders.
PAD_MODES: Final = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def evaluate(problem: ConvProblem, a: Any, b: Any, *, bias: Any = None, residual: Any = None) -> Float64:
    """Compute the whole result of a problem in float64, before any activation.

    Parameters
    ----------
    problem : ConvProblem
        What to compute; `problem.relu` is not applied here.
    a, b : array
        (x, w) for fprop, (dy, w) for dgrad, (x, dy) for wgrad, in the problem's layouts.
    bias, residual : array, optional
        Added to the result where the problem names them.

    Returns
    -------
    array of float64
        y, dx or dw in the problem's layout.
    """
    p = problem
    (sh, sw), (dh, dw) = p.stride, p.dilation
    Cg, Kg = p.C // p.groups, p.K // p.groups
    x, w, y = (np.zeros(common_shape(*shape)) for shape in _stored(p))
    a, b = (np.asarray(operand, dtype=np.float64) for operand in (a, b))
    if p.op == "wgrad":
        x[...], y[...] = common_view(a, p.layout), common_view(b, p.layout)
    elif p.op == "dgrad":
        y[...], w[...] = common_view(a, p.layout), common_view(b, p.weights)
    else:
        x[...], w[...] = common_view(a, p.layout), common_view(b, p.weights)

    padded = np.pad(x, ((0, 0), (0, 0), *p.padding), PAD_MODES[p.padding_mode])  # type: ignore[call-overload]
    # one matrix product of a group's channels for each tap
    pixels, groups = p.P * p.Q, (p.N, p.groups)
    y_matrix = y.reshape(*groups, Kg, pixels)
    for r in range(p.R):
        rows = slice(r * dh, r * dh + (p.P - 1) * sh + 1, sh)
        for s in range(p.S):
            columns = slice(s * dw, s * dw + (p.Q - 1) * sw + 1, sw)
            seen = padded[:, :, rows, columns]
            tap = w[:, :, r, s].reshape(p.groups, Kg, Cg)
            if p.op == "fprop":
                y_matrix += tap @ seen.reshape(*groups, Cg, pixels)
            elif p.op == "dgrad":
                seen += (tap.transpose(0, 2, 1) @ y_matrix).reshape(seen.shape)
            else:
                products = y_matrix @ seen.reshape(*groups, Cg, pixels).transpose(0, 1, 3, 2)
                w[:, :, r, s] = products.sum(axis=0).reshape(p.K, Cg)
    if p.op == "wgrad":
        return w.transpose(FROM_COMMON[p.weights])
    result = y if p.op == "fprop" else _folded(p, padded)
    if bias is not None:
        result = result + np.asarray(bias, dtype=np.float64)[:, None, None]
    if residual is not None:
        result = result + common_view(np.asarray(residual, dtype=np.float64), p.layout)
    return result.transpose(FROM_COMMON[p.layout])


def evaluate_at(
    problem: ConvProblem, a: Any, b: Any, points: NDArray[np.intp], *, bias: Any = None, residual: Any = None
) -> Float64:
    """Compute chosen elements of the result, for problems too large to compute whole.

    Parameters
    ----------
    problem, a, b, bias, residual
        As for `evaluate`.
    points : (4, n) array of integers
        Indices into the result, in the problem's layout: ``result[tuple(points)]``.

    Returns
    -------
    (n,) array of float64
    """
    p = problem
    (sh, sw), (dh, dw) = p.stride, p.dilation
    Cg, Kg = p.C // p.groups, p.K // p.groups
    order = p.weights if p.op == "wgrad" else p.layout
    i, j, u, v = chosen = [np.asarray(points)[axis] for axis in TO_COMMON[order]]
    owner = np.arange(len(i))
    total = np.zeros(len(i))
    first = common_view(a, p.layout)
    second = common_view(b, p.layout if p.op == "wgrad" else p.weights)
    if p.op == "wgrad":
        for at, (k, c, r, s) in enumerate(zip(i, j, u, v, strict=True)):
            channel = k // Kg * Cg + c
            rows = _source(np.arange(p.P) * sh + r * dh, p, 0)
            columns = _source(np.arange(p.Q) * sw + s * dw, p, 1)
            high, wide = rows >= 0, columns >= 0
            seen = first[:, channel][:, rows[high]][:, :, columns[wide]].astype(np.float64)
            total[at] = (seen * second[:, k][:, high][:, :, wide].astype(np.float64)).sum()
        return total
    if p.op == "dgrad":  # each cell that holds a point gets a gradient of its own
        held = list(zip(_holders(u, p, 0), _holders(v, p, 1), strict=True))
        owner = np.repeat(owner, [len(rows) * len(columns) for rows, columns in held])
        pairs = [np.stack(np.meshgrid(*each, indexing="ij")).reshape(2, -1) for each in held]
        u, v = np.concatenate(pairs, axis=1)
        i, j = i[owner], j[owner]
    for r in range(p.R):
        for s in range(p.S):
            if p.op == "fprop":
                row, column = _source(u * sh + r * dh, p, 0), _source(v * sw + s * dw, p, 1)
                inside = (row >= 0) & (column >= 0)
            else:
                row, row_rest = np.divmod(u - r * dh, sh)
                column, column_rest = np.divmod(v - s * dw, sw)
                inside = (row_rest == 0) & (row >= 0) & (row < p.P)
                inside &= (column_rest == 0) & (column >= 0) & (column < p.Q)
            n, out, row, column = i[inside], j[inside], row[inside], column[inside]
            # the channels this output sums over: its group's
            depth, group = (Cg, out // Kg) if p.op == "fprop" else (Kg, out // Cg)
            channels = group[:, None] * depth + np.arange(depth)
            seen = first[n[:, None], channels, row[:, None], column[:, None]].astype(np.float64)
            if p.op == "fprop":
                taps = second[out, :, r, s].astype(np.float64)
            else:
                taps = second[channels, (out % Cg)[:, None], r, s].astype(np.float64)
            np.add.at(total, owner[inside], (seen * taps).sum(axis=1))
    if bias is not None:
        total += np.asarray(bias, dtype=np.float64)[chosen[1]]
    if residual is not None:
        total += residual[tuple(points)].astype(np.float64)
    return total


def _source(cells: Any, p: ConvProblem, axis: int) -> Any:
    """Along one axis, the cell of x that cells of the padded input hold; −1 for a zero."""
    size, (before, _) = (p.H, p.W)[axis], p.padding[axis]
    inner = cells - before
    if p.padding_mode == "circular":
        return inner % size
    if p.padding_mode == "reflect":
        return size - 1 - np.abs(size - 1 - np.abs(inner))
    held = np.clip(inner, 0, size - 1)
    return held if p.padding_mode == "replicate" else np.where(held == inner, inner, -1)


def _holders(cells: Any, p: ConvProblem, axis: int) -> list[Any]:
    """Along one axis, for each cell of x, the cells of the padded input that hold it."""
    size, (before, after) = (p.H, p.W)[axis], p.padding[axis]
    border = np.r_[:before, before + size : before + size + after]
    held = _source(border, p, axis)
    return [np.r_[cell + before, border[held == cell]] for cell in cells]


def _folded(p: ConvProblem, padded: Float64) -> Float64:
    """Sum of all cells of the padded input that hold the same cell of x."""
    high, wide = (_source(np.arange(size), p, axis) for axis, size in enumerate(padded.shape[2:]))
    rows = np.zeros((p.N, p.C, p.H, padded.shape[3]))
    np.add.at(rows.transpose(2, 0, 1, 3), high[high >= 0], padded.transpose(2, 0, 1, 3)[high >= 0])
    result = np.zeros((p.N, p.C, p.H, p.W))
    np.add.at(result.transpose(3, 0, 1, 2), wide[wide >= 0], rows.transpose(3, 0, 1, 2)[wide >= 0])
    return result


def sample_points(problem: ConvProblem, count: int = POINTS, seed: int = 0) -> NDArray[np.intp]:
    """Choose elements of the result to check: every corner, the edges, tile borders and random ones.

    Returns
    -------
    (4, n) array of integers
        Indices in the problem's layout; n is about `count`.
    """
    rng = np.random.default_rng(seed)
    shape = problem.operand_shapes[2]
    points = np.stack([rng.integers(0, size, count) for size in shape])
    # half of them have some axes moved to an end or beside a likely tile border
    for axis, size in enumerate(shape):
        tiles = [np.add.outer((-1, 0), np.arange(tile, size, tile)) for tile in (32, 128)]
        border = np.concatenate([[0, size - 1], *tiles], axis=None)
        moved = rng.random(count // 2) < 0.5
        points[axis, : count // 2][moved] = rng.choice(border, moved.sum())
    corners = np.stack(np.meshgrid(*([0, size - 1] for size in shape), indexing="ij")).reshape(4, -1)
    return np.unique(np.concatenate([corners, points], axis=1), axis=1)


def _stored(p: ConvProblem) -> tuple[tuple[tuple[int, ...], str], ...]:
    return (p.x_shape, p.layout), (p.w_shape, p.weights), (p.y_shape, p.layout)
