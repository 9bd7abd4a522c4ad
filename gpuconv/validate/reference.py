"""The oracle: convolution and its gradients by definition, in float64: for each tap, one matrix product.

Nothing here is clever, and no algorithm is shared with the code it judges; only shapes and axis orders are.
The tests judge it in turn, by seven plain loops.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuconv.layout import FROM_COMMON, TO_COMMON, common_shape, common_view
from gpuconv.problem import ConvProblem

Float64 = NDArray[np.float64]


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
    (top, bottom), (left, right) = p.padding
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

    padded = np.zeros((p.N, p.C, p.H + top + bottom, p.W + left + right))
    padded[:, :, top : top + p.H, left : left + p.W] = x
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
    result = y if p.op == "fprop" else padded[:, :, top : top + p.H, left : left + p.W]
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
    (top, _), (left, _) = p.padding
    (sh, sw), (dh, dw) = p.stride, p.dilation
    Cg, Kg = p.C // p.groups, p.K // p.groups
    order = p.weights if p.op == "wgrad" else p.layout
    i, j, u, v = (np.asarray(points)[axis] for axis in TO_COMMON[order])
    total = np.zeros(len(i))
    first = common_view(a, p.layout)
    second = common_view(b, p.layout if p.op == "wgrad" else p.weights)
    if p.op == "wgrad":
        for at, (k, c, r, s) in enumerate(zip(i, j, u, v, strict=True)):
            channel = k // Kg * Cg + c
            rows = np.arange(p.P) * sh + r * dh - top
            columns = np.arange(p.Q) * sw + s * dw - left
            high, wide = (rows >= 0) & (rows < p.H), (columns >= 0) & (columns < p.W)
            seen = first[:, channel][:, rows[high]][:, :, columns[wide]].astype(np.float64)
            total[at] = (seen * second[:, k][:, high][:, :, wide].astype(np.float64)).sum()
        return total
    for r in range(p.R):
        for s in range(p.S):
            if p.op == "fprop":
                row, column = u * sh + r * dh - top, v * sw + s * dw - left
                inside = (row >= 0) & (row < p.H) & (column >= 0) & (column < p.W)
            else:
                row, row_rest = np.divmod(u + top - r * dh, sh)
                column, column_rest = np.divmod(v + left - s * dw, sw)
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
            total[inside] += (seen * taps).sum(axis=1)
    if bias is not None:
        total += np.asarray(bias, dtype=np.float64)[j]
    if residual is not None:
        total += residual[tuple(points)].astype(np.float64)
    return total


def sample_points(problem: ConvProblem, count: int = 4096, seed: int = 0) -> NDArray[np.intp]:
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
