"""How long a plan will take on a CUDA device, from what its launches ask of it: no clock, no device needed.

A launch runs in waves of as many blocks as the SMs hold. In each wave an SM is busy with whatever it has
most of: multiply-adds, instructions to issue, cycles of shared memory, bytes from L2; and no wave is shorter
than one block's own chain of waits. The launch is not shorter than its bytes take from memory either. So
tiles that leave lanes idle, grids that leave SMs idle, and traffic are weighed in one unit, seconds.

The idea is that of analytic models such as Hong and Kim, "An Analytical Model for a GPU Architecture", ISCA
2009; constants are those of `gpuconv.backend.cards` and of microbenchmarks published for these cards.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from typing import Any, Final, NamedTuple

from gpuconv.backend.cards import Card, like
from gpuconv.backend.device import Device
from gpuconv.config import Config
from gpuconv.kernels.base import Kernel
from gpuconv.kernels.cuda.base import CudaKernel
from gpuconv.kernels.work import Work
from gpuconv.problem import ConvProblem

#: Seconds between two launches of one stream.
_LAUNCH: Final = 2.5e-6
#: Cycles from a load to its data when it misses the caches of the SM (Jia et al., "Dissecting the NVIDIA
#: Volta/Turing GPU architecture via microbenchmarking", 2018 and 2019, and later cards measured alike).
_WAIT: Final = 500
#: Cycles that a block needs to begin and to end.
_BLOCK: Final = 1200
#: Bytes that L2 gives one SM in a cycle, when all ask.
_L2_BYTES: Final = 40
#: Instructions that an SM issues in a cycle, each for 32 threads.
_ISSUED: Final = 4
#: Multiply-adds of a thread's share of one tensor-core instruction: 16 × 8 × 16 of a warp.
_TENSOR_MULTIPLIES: Final = 64
_MOST_BLOCKS: Final = 32
#: What a stream of reads reaches of a memory's rate.
_REACHED: Final = 0.9
#: Part of reading that computing does not hide, or the other way round.
_NOT_HIDDEN: Final = 0.1
#: Warps on an SM that would lose half their rate to barriers and to waits for their own results: with many
#: independent multiply-adds in a thread, few warps go a long way.
_HALF_RATE_WARPS: Final = 1.5


class Candidate(NamedTuple):
    """A kernel, a config, and how long they take where that was predicted.

    Attributes
    ----------
    kernel : Kernel
    config : Config
    seconds : float or None
    limit : str
        What takes the time: "multiplying", "instructions", "shared memory", "L2", "waiting" or "memory".
    """

    kernel: Kernel[Any]
    config: Config
    seconds: float | None = None
    limit: str = ""

    def __str__(self) -> str:
        return f"{self.kernel.name}({self.config})"


def predict(works: Iterable[Work], p: ConvProblem, device: Device) -> tuple[float, str]:
    """Seconds that launches take one after the other, and what takes most of them.

    Parameters
    ----------
    works : iterable of Work
    p : ConvProblem
        Gives the bytes that must come from memory.
    device : Device

    Returns
    -------
    (float, str)
    """
    card = like(device)
    total, longest = 0.0, (0.0, "waiting")
    for index, work in enumerate(works):
        cycles, limit = _cycles(work, card)
        seconds = cycles / card.clock
        from_memory = p.min_bytes if index == 0 else work.blocks * (work.read_bytes + work.written_bytes)
        memory = from_memory / (card.bandwidth * _REACHED)
        if memory > seconds:
            limit = "memory"
        seconds = max(seconds, memory) + _NOT_HIDDEN * min(seconds, memory)
        total += _LAUNCH + seconds
        longest = max(longest, (seconds, limit))
    return total, longest[1]


def predicted(p: ConvProblem, kernel: Kernel[Any], config: Config, device: Device) -> Candidate:
    """One kernel and config of a CUDA device with its time."""
    assert isinstance(kernel, CudaKernel), f"{kernel.name} takes a CUDA device"
    return Candidate(kernel, config, *predict(kernel.works(p, config, device), p, device))


def ranked(p: ConvProblem, kernels: Iterable[Kernel[Any]], device: Device) -> list[Candidate]:
    """The candidates of CUDA kernels that take a problem, the fastest first; among equals the first."""
    found = []
    for kernel in kernels:
        assert isinstance(kernel, CudaKernel), f"{kernel.name} takes a CUDA device"
        found += [predicted(p, kernel, config, device) for config in kernel.candidates(p, device)]
    return sorted(found, key=lambda one: one.seconds or 0.0)


def _cycles(work: Work, card: Card) -> tuple[float, str]:
    """Of a whole launch: full waves, then what is left."""
    held = occupancy(work, card)
    full, rest = divmod(work.blocks, max(1, card.device.sms) * held)
    cycles, limit = _wave(work, held, card) if full else (0.0, "waiting")
    cycles *= full
    if rest:
        last, last_limit = _wave(work, ceil(rest / max(1, card.device.sms)), card)
        cycles, limit = cycles + last, limit if full else last_limit
    return cycles, limit


def occupancy(work: Work, card: Card) -> int:
    """Blocks that one SM holds at a time; one at least: a config that does not fit is refused before."""
    warps = ceil(work.threads / 32)
    registers = warps * 32 * (ceil(work.registers / 8) * 8)
    smem = work.smem_bytes + 1024  # the driver keeps some for every block
    limits = (
        _MOST_BLOCKS,
        card.threads // (warps * 32),
        card.registers // max(1, registers),
        card.device.smem_sm // smem,
    )
    return max(1, min(limits))


def _wave(work: Work, resident: int, card: Card) -> tuple[float, str]:
    """Cycles that an SM needs for so many blocks at once, and what for."""
    lanes = card.tensor_lanes if work.tensor else card.f64_lanes if work.wide else card.f32_lanes
    issued = work.multiplies / (_TENSOR_MULTIPLIES if work.tensor else 1)
    warps = ceil(work.threads / 32)
    busy = {
        "multiplying": work.multiplies * warps * 32 / lanes,
        "instructions": (issued + work.instructions) * warps / _ISSUED,
        "shared memory": work.wavefronts,
        "L2": (work.read_bytes + work.written_bytes) / _L2_BYTES,
    }
    limit = max(busy, key=lambda name: busy[name])
    reached = resident * warps / (resident * warps + _HALF_RATE_WARPS)
    together = resident * busy[limit] / reached
    chain = max(busy["multiplying"], busy["instructions"]) + work.waits * _WAIT
    if chain > together:
        together, limit = chain, "waiting"
    return together + _BLOCK, limit
