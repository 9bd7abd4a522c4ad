"""Matrix products whose error stays within the bound however long their sums are.

BLAS cuts the depth of a large product into pieces of a few hundred and adds those up. Of a small or narrow
one it sums the whole depth in one go, and the error of that grows with the depth itself, not with its root:
sums of constants then leave the bound. Such products are cut here.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

#: Depth that may be summed in one go; its error is below the bound for as many products.
SHORT: Final = 256
#: Depth that a large product may have; BLAS adds up this many pieces of its own.
LONG: Final = 8192
#: Rows, columns and multiply-adds from which BLAS cuts the depth itself.
LARGE_SIDE: Final = 16
LARGE: Final = 4_000_000


def pieces(rows: int, columns: int, depth: int) -> list[tuple[int, int]]:
    """Ranges of the depth to multiply one after the other."""
    large = min(rows, columns) >= LARGE_SIDE and rows * columns * min(depth, LONG) >= LARGE
    step = LONG if large else SHORT
    return [(start, min(start + step, depth)) for start in range(0, depth, step)]


def multiply(a: Any, b: Any, out: Any, spare: Any) -> None:
    """Write ``a @ b`` to `out`.

    Parameters
    ----------
    a, b : array (…, rows, depth), (…, depth, columns)
    out : array (…, rows, columns)
        Anything that `numpy.matmul` writes to.
    spare : callable
        Returns an array like `out` for the later pieces; called only where there are any.
    """
    first, *later = pieces(a.shape[-2], b.shape[-1], a.shape[-1])
    if not later:
        np.matmul(a, b, out=out)
        return
    np.matmul(a[..., slice(*first)], b[..., slice(*first), :], out=out)
    piece = spare()
    for part in later:
        np.matmul(a[..., slice(*part)], b[..., slice(*part), :], out=piece)
        np.add(out, piece, out=out)
