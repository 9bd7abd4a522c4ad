"""Matrix products whose error stays within the bound however long their sums are.

BLAS cuts the depth of a large product into pieces of a few hundred and adds those up. Of a small or narrow
one it sums the whole depth in one go, and the error of that grows with the depth itself, not with its root:
sums of constants then leave the bound. Such products are cut here, and the pieces added in two levels.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt
from typing import Any, Final

import numpy as np

#: Depth that may be summed in one go; its error is below the bound for as many products.
SHORT: Final = 256
#: Depth that a large product may have; BLAS adds up this many pieces of its own.
LONG: Final = 8192
#: Terms that may be added one after the other.
FEW: Final = 32
#: Rows, columns and multiply-adds from which BLAS cuts the depth itself.
LARGE_SIDE: Final = 16
LARGE: Final = 4_000_000


def pieces(rows: int, columns: int, depth: int) -> list[tuple[int, int]]:
    """Ranges of the depth to multiply one after the other."""
    large = min(rows, columns) >= LARGE_SIDE and rows * columns * min(depth, LONG) >= LARGE
    step = LONG if large else SHORT
    return [(start, min(start + step, depth)) for start in range(0, depth, step)]


class LongSum:
    """A sum of arrays in two levels: its error grows as the root of their number.

    Parameters
    ----------
    total : array
        Written; complete after `close`.
    inner : callable
        Returns an array like `total`; called only where there are more than a few terms.
    count : int
        Terms to come, about.
    """

    def __init__(self, total: Any, inner: Callable[[], Any], count: int) -> None:
        self._total, self._folded, self._terms = total, False, 0
        self._run = isqrt(count) + 1 if count > FEW else 0
        self._inner = inner() if self._run else total

    def add(self, term: Any) -> None:
        """Add one more array."""
        if self._terms == 0:
            self._inner[...] = term
        else:
            np.add(self._inner, term, out=self._inner)
        self._terms += 1
        if self._terms == self._run:
            self.close()

    def close(self) -> None:
        """Bring what was added so far into the total."""
        if self._run and self._terms:
            if self._folded:
                np.add(self._total, self._inner, out=self._total)
            else:
                self._total[...] = self._inner
            self._folded, self._terms = True, 0


def multiply(a: Any, b: Any, out: Any, spare: Callable[[], Any], inner: Callable[[], Any]) -> None:
    """Write ``a @ b`` to `out`.

    Parameters
    ----------
    a, b : array (…, rows, depth), (…, depth, columns)
    out : array (…, rows, columns)
        Anything that `numpy.matmul` writes to.
    spare, inner : callable
        Each returns an array like `out`, `inner` only for a depth of over `FEW` pieces.
    """
    parts = pieces(a.shape[-2], b.shape[-1], a.shape[-1])
    if len(parts) == 1:
        np.matmul(a, b, out=out)
        return
    total = LongSum(out, inner, len(parts))
    for part in parts:
        piece = spare()
        np.matmul(a[..., slice(*part)], b[..., slice(*part), :], out=piece)
        total.add(piece)
    total.close()
