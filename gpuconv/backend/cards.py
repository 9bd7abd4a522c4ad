"""Cards by name: facts and rates of one typical card for each compute capability, from datasheets.

Shared memory and lanes are those of the CUDA C++ programming guide's tables of compute capabilities; SMs,
clock (boost) and bandwidth those of the vendor's datasheet of the card named. Tensor lanes are its dense
16-bit rate with float32 sums, divided by SMs, clock and two: 65 TFLOP/s of T4, 312 of A100, 71 of
RTX 3090, 165 of RTX 4090, 210 of RTX 5090. Hopper's 989 are given for 1.83 GHz, not for the boost clock: 2048
lanes, of which mma.sync reaches some 65 % (arXiv 2501.12084), so 1331. On Blackwell's data center cards it is
taken to be as fast as on Ampere's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from gpuconv.backend.device import Device

_KIB: Final = 1024
_MIB: Final = 1024 * _KIB


@dataclass(frozen=True, slots=True)
class Card:
    """What a card can do in a second.

    Attributes
    ----------
    device : Device
        Its facts.
    clock : float
        Cycles a second.
    bandwidth : float
        Bytes a second from and to its memory.
    f32_lanes, f64_lanes, tensor_lanes : int
        Multiply-adds that one SM begins in a cycle; the last of 16-bit numbers by mma.sync.
    registers : int
        Of one SM, 32 bits each.
    threads : int
        That one SM holds.
    """

    device: Device
    clock: float
    bandwidth: float
    f32_lanes: int
    f64_lanes: int
    tensor_lanes: int
    threads: int
    registers: int = 65536


def _card(
    name: str,
    capability: tuple[int, int],
    sms: int,
    smem_kib: tuple[int, int],
    l2_mib: int,
    ghz: float,
    gigabytes: float,
    lanes: tuple[int, int, int],
    threads: int,
) -> Card:
    block, sm = smem_kib
    device = Device(
        "cuda",
        name,
        capability=capability,
        sms=sms,
        smem_block=block * _KIB,
        smem_sm=sm * _KIB,
        l2_bytes=l2_mib * _MIB,
    )
    return Card(device, ghz * 1e9, gigabytes * 1e9, *lanes, threads)


CARDS: Final = {
    card.device.name: card
    for card in (
        _card("T4", (7, 5), 40, (64, 64), 4, 1.59, 320, (64, 2, 512), 1024),
        _card("A100", (8, 0), 108, (163, 164), 40, 1.41, 1555, (64, 32, 1024), 2048),
        _card("RTX 3090", (8, 6), 82, (99, 100), 6, 1.695, 936, (128, 2, 256), 1536),
        _card("RTX 4090", (8, 9), 128, (99, 100), 72, 2.52, 1008, (128, 2, 256), 1536),
        _card("H200", (9, 0), 132, (227, 228), 50, 1.98, 4800, (128, 64, 1331), 2048),
        _card("B200", (10, 0), 148, (227, 228), 126, 1.965, 8000, (128, 64, 1024), 2048),
        _card("RTX 5090", (12, 0), 170, (99, 100), 96, 2.407, 1792, (128, 2, 256), 1536),
    )
}


def like(device: Device) -> Card:
    """Rates of a CUDA device: those of the card whose capability is the next below, its bandwidth by SMs.

    A whole H200 is exact; of any other card the ratio of computing to reading is about right, which is what
    plans are chosen by.
    """
    cards = sorted(CARDS.values(), key=lambda card: card.device.capability)
    below = [card for card in cards if card.device.capability <= device.capability]
    near = below[-1] if below else cards[0]
    share = max(1, device.sms) / near.device.sms
    return replace(near, device=device, bandwidth=near.bandwidth * share)
