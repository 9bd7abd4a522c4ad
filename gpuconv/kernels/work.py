"""What a launch asks of a device, as plain numbers: what the heuristic predicts times from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Work:
    """One launch, in terms of one of its blocks.

    Attributes
    ----------
    blocks, threads, registers, smem_bytes : int
        Of the launch, of a block, of a thread, of a block.
    multiplies : float
        Multiply-adds of a thread, those of results and taps that are not there included.
    instructions : float
        All other instructions of a thread.
    wavefronts : float
        Cycles that a block keeps shared memory busy.
    read_bytes, written_bytes : float
        What a block moves between its SM and the L2 cache, whole sectors.
    waits : float
        How often a block waits for memory with nothing else to do.
    wide : bool
        Whether it multiplies float64.
    tensor : bool
        Whether tensor cores multiply 16-bit numbers.
    stages : int
        Turns of a block's main loop.
    """

    blocks: int
    threads: int
    registers: int
    smem_bytes: int
    multiplies: float
    instructions: float
    wavefronts: float
    read_bytes: float
    written_bytes: float
    waits: float
    wide: bool = False
    tensor: bool = False
    stages: int = 1
