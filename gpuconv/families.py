"""Kinds of problems that tables sum up together, and the least time that a device needs for one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Final, Protocol

from gpuconv.problem import ConvProblem

#: In the order in which they are tried.
FAMILIES: Final = (
    *("huge", "image", "first-layer", "depthwise-large", "depthwise", "grouped", "tf32", "fp32", "nchw"),
    *("odd", "pointwise", "few-tile", "dense"),
)
#: Elements from which on a tensor is huge: 32 bits with a sign no longer count them.
HUGE: Final = 2**31
_LARGE_TAPS: Final = 13
_TILE: Final = 128


class Facts(Protocol):
    """What is asked of a device; `gpuconv.backend.device.Device` has it."""

    @property
    def kind(self) -> str:
        """``"cpu"`` or ``"cuda"``."""

    @property
    def name(self) -> str:
        """The card's name."""

    @property
    def capability(self) -> tuple[int, int]:
        """Compute capability."""


@dataclass(frozen=True, slots=True)
class Rates:
    """How fast a device computes and reads at best.

    Attributes
    ----------
    flops : mapping of str to float
        FLOP/s by what is multiplied: ``"16-bit"``, ``"tf32"``, ``"f32"`` or ``"f64"``.
    bandwidth : float
        Bytes/s from and to its memory.
    measured : frozenset of str
        Which of these were measured on such a device; the others are the datasheet's. ``"bandwidth"`` is the
        name of the second.
    """

    flops: Mapping[str, float]
    bandwidth: float
    measured: frozenset[str]


H200: Final = Rates(
    flops={
        # measured with bfloat16: a large matrix product of random numbers (datasheet: 989 TFLOP/s, of float16
        # as of bfloat16)
        "16-bit": 790e12,
        "tf32": 494e12,  # datasheet, without sparsity
        "f32": 67e12,  # datasheet
        "f64": 67e12,  # datasheet, of its tensor cores
    },
    # measured: a copy, its reads and its writes together (datasheet: 4.8 TB/s)
    bandwidth=4.3e12,
    measured=frozenset({"16-bit", "bandwidth"}),
)
#: By compute capability and a whole word of the name: others of the same capability have another memory, as a
#: GH200 has. A part of a card (MIG) has but a part of these.
RATES: Final[Mapping[tuple[tuple[int, int], str], Rates]] = {((9, 0), "H200"): H200}


def family(p: ConvProblem, sms: int = 132) -> str:
    """Name the first of `FAMILIES` that a problem belongs to.

    Parameters
    ----------
    p : ConvProblem
        What is asked about.
    sms : int
        Streaming multiprocessors of the device: fewer output tiles than these are few. Whether a pointwise
        convolution is bound by bytes is asked of an H200, so that every table means the same.

    Returns
    -------
    str
        huge: a tensor of 2³¹ elements or more. image: C = K = 1. first-layer: C ≤ 4. depthwise-large:
        depthwise, R or S ≥ 13. depthwise: as many groups as input channels. grouped: more than one.
        tf32: float32 whose products may be rounded. fp32: float32, float64. nchw. odd: dilated, or C or K
        no multiple of 8. pointwise: 1×1 bound by bytes. few-tile: fewer 128×128 tiles than `sms`. dense.

    Examples
    --------
    >>> family(ConvProblem.parse("fprop_n32c64h56w56k64r3s3p1_nhwc_bf16"))
    'dense'
    """
    rows, columns, _ = p.gemm_mnk
    tests = {
        "huge": max(map(prod, p.operand_shapes)) >= HUGE,
        "image": p.C == p.K == 1,
        "first-layer": p.C <= 4,
        "depthwise-large": p.groups == p.C and max(p.R, p.S) >= _LARGE_TAPS,
        "depthwise": p.groups == p.C,
        "grouped": p.groups > 1,
        "tf32": p.dtype == "f32" and p.precision != "ieee",
        "fp32": p.dtype in ("f32", "f64"),
        "nchw": p.layout == "nchw",
        "odd": p.dilation != (1, 1) or p.C % 8 != 0 or p.K % 8 != 0,
        "pointwise": p.R == p.S == 1 and _seconds_of_bytes(p, H200) > _seconds_of_flops(p, H200),
        "few-tile": -(-rows // _TILE) * -(-columns // _TILE) < sms,
    }
    return next((name for name, found in tests.items() if found), "dense")


def rates(device: Facts) -> Rates | None:
    """What is known about a device, or None: for CPUs, parts of cards, and cards not in the table."""
    words = re.findall(r"\w+", device.name)
    if device.kind != "cuda" or "MIG" in words:
        return None
    for (capability, word), found in RATES.items():
        if device.capability == capability and word in words:
            return found
    return None


def floor_us(p: ConvProblem, device: Facts) -> float | None:
    """Least microseconds for a problem: max(FLOPs/rate, bytes/bandwidth), every tensor touched once.

    None for a CPU or an unknown card.
    """
    known = rates(device)
    if known is None:
        return None
    return 1e6 * max(_seconds_of_flops(p, known), _seconds_of_bytes(p, known))


def _seconds_of_flops(p: ConvProblem, known: Rates) -> float:
    if p.dtype in ("f16", "bf16"):
        return p.flops / known.flops["16-bit"]
    if p.dtype == "f64" or p.precision == "ieee":
        return p.flops / known.flops[p.dtype]
    products = 3 if p.precision == "tf32x3" else 1
    return products * p.flops / known.flops["tf32"]


def _seconds_of_bytes(p: ConvProblem, known: Rates) -> float:
    return p.min_bytes / known.bandwidth
