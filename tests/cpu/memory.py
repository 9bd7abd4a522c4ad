"""How much memory a call takes."""

from __future__ import annotations

import tracemalloc

#: Python's own small objects, and NumPy's buffers of 8,192 elements an operand in each thread.
SLACK = 256 * 1024


def peak_of(call) -> int:
    """Most bytes allocated at once during a call, NumPy's arrays included."""
    call()  # caches are filled before
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
