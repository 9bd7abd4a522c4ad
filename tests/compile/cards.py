"""Cards that kernels are compiled for, and which case for which."""

from __future__ import annotations

from collections.abc import Iterable

from gpuconv.backend.device import Device
from tests.cases import Case

KILOBYTE = 1024
#: Compute capability and the most shared memory that a block can ask for, from CUDA's programming guide.
CARDS = {
    (7, 5): 64 * KILOBYTE,
    (8, 0): 163 * KILOBYTE,
    (8, 6): 99 * KILOBYTE,
    (8, 9): 99 * KILOBYTE,
    (9, 0): 227 * KILOBYTE,
    (10, 0): 227 * KILOBYTE,
    (12, 0): 99 * KILOBYTE,
}


def card(capability: tuple[int, int]) -> Device:
    """Facts of a card of that capability."""
    return Device("cuda", "a card", capability=capability, sms=80, smem_block=CARDS[capability])


def assigned(cases: Iterable[Case]) -> list[tuple[Case, Device]]:
    """Each case with one card in turn; where its kernel is not for that, with the next."""
    found = []
    for number, case in enumerate(cases):
        turns = (card(tuple(CARDS)[(number + step) % len(CARDS)]) for step in range(len(CARDS)))
        found.append((case, next(each for each in turns if case.kernel.check(case.problem, each) is None)))
    return found
