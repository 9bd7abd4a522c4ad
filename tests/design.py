"""Which cases there are.

They come from an all-pairs design: every value of one factor meets every value of any other at least once;
GPUCONV_FULL=1 takes all of the most telling ones. ``python -m tests.design`` writes the list that machines
without this design's tools read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations, product
from typing import Any

from gpuconv.backend.device import Device
from gpuconv.kernels import registry
from gpuconv.kernels.cuda.base import CudaKernel
from gpuconv.problem import OPS, ConvProblem

from .cases import LIST, Case
from .conftest import FULL
from .emulator.launcher import emulated_device
from .problems import NAMED, NUMPY

#: Geometries of `NAMED` without layout and dtype, and some that only tiles find awkward.
GEOMETRIES = (
    *dict.fromkeys(text.split("_")[1] for text in NAMED.values()),
    "n1c1h37w70k1r3s3p1",
    "n1c1h9w40k1r1s33p0x16",
    "n1c2h40w9k1r35s2p17x0",
    "n1c1h34w33k1r17s17p8",
    "n2c3h8w9k33r2s3p1",
    "n1c33h5w6k3r3s3p1",
    "n1c2h11w300k2r3s3p1",
    "n5c3h3w3k4r3s3p1",
    "n1c70h5w5k70r3s3p1g70",
    "n1c32h6w7k32r3s3p1g8",
    "n1c4h9w9k6r3s3p0+3x2+0d2",
    "n1c3h50w7k2r2s2u40x3p3",
    "n1c2h60w5k3r2s2p2d50x2",
    "n1c4h12w12k4r4s4u3x2p2d2x3",
    "n9c1h4w4k1r2s2p1",
    "n1c16h16w16k8r3s3p1",
    "n2c36h11w12k136r3s3p1",
    "n1c4h64w1k4r1s1u2x1",
    "n2c4h64w1k4r4s1d2x1",
    "n2c1h1w60k3r1s4u1x3",
)
WEIGHTS = (
    ("nchw", "oihw"), ("nhwc", "hwio"), ("nhwc", "ohwi"),
    ("nchw", "hwio"), ("nhwc", "oihw"), ("nchw", "ohwi"),
)  # fmt: skip
BORDERS = ("+reflect", "+replicate", "+circular")
EPILOGUES = ("", "+bias", "+res", "+relu", "+bias+res+relu")
#: Which of a problem's configs: 0 is the default, then evenly from all.
CONFIGS = range(11)
#: Elements that arrays begin after an aligned address.
OFFSETS = (0, 1, 2, 3, 4)


def cases(kernels: tuple[CudaKernel[Any], ...], device: Device) -> list[Case]:
    """The all-pairs design; under GPUCONV_FULL every geometry, direction, layout and dtype."""
    found: dict[Case, None] = {}
    for kernel, *row in _rows(kernels):
        problem = _problem(*row[:5], row[7])
        case = _case(problem, kernel, row[5], row[6], device)
        if case is not None:
            found[case] = None
    return list(found)


def _rows(kernels: tuple[CudaKernel[Any], ...]) -> Iterator[tuple[Any, ...]]:
    factors: list[Sequence[Any]] = [
        kernels, GEOMETRIES, OPS, WEIGHTS, tuple(NUMPY), EPILOGUES, CONFIGS, OFFSETS, ("",),
    ]  # fmt: skip
    if not FULL:
        yield from _all_pairs(factors)
        bordered = [geometry for geometry in GEOMETRIES if any(_allows(geometry, each) for each in BORDERS)]
        yield from _all_pairs([kernels, bordered[::3], *factors[2:-1], BORDERS])
        return
    for number, row in enumerate(product(*factors[:5])):
        for config in CONFIGS:
            at = number + config
            epilogue = EPILOGUES[at % len(EPILOGUES)] if row[2] != "wgrad" else ""
            borders = [border for border in ("", *BORDERS) if _allows(row[1], border)]
            yield (*row, epilogue, config, OFFSETS[at % 5], borders[at % len(borders)])


def _all_pairs(factors: list[Sequence[Any]]) -> Iterator[tuple[Any, ...]]:
    """Rows in which every possible pair of two factors' values is met, all values of a factor about as often.

    Row after row begins with a pair that was not met yet; each further factor takes the value that meets most
    new pairs, among equals the one that was used least.
    """
    missing = dict.fromkeys(
        ((i, a), (j, b))
        for (i, first), (j, second) in combinations(enumerate(factors), 2)
        for a, b in product(first, second)
        if _possible({i: a, j: b})
    )
    uses: Counter[tuple[int, Any]] = Counter()
    while missing:
        row = dict(next(iter(missing)))
        for at, values in enumerate(factors):
            if at in row:
                continue
            legal = [value for value in values if _possible({**row, at: value})]

            def merit(value: Any, at: int = at, row: dict[int, Any] = row) -> tuple[int, int]:
                pairs = (tuple(sorted([(at, value), each], key=lambda pair: pair[0])) for each in row.items())
                return sum(pair in missing for pair in pairs), -uses[at, value]

            row[at] = max(legal, key=merit)
        uses.update(row.items())
        for pair in combinations(sorted(row.items(), key=lambda pair: pair[0]), 2):
            missing.pop(pair, None)
        yield tuple(row[at] for at in range(len(factors)))


def _possible(row: dict[int, Any]) -> bool:
    if row.get(2) == "wgrad" and row.get(5):
        return False
    return 1 not in row or 8 not in row or _allows(row[1], row[8])


@cache
def _allows(geometry: str, border: str) -> bool:
    """Whether a geometry has such a border."""
    try:
        return border in str(_problem(geometry, "fprop", WEIGHTS[0], "f32", "", border))
    except ValueError:
        return False


@cache
def _problem(
    geometry: str, op: str, orders: tuple[str, str], dtype: str, epilogue: str, border: str
) -> ConvProblem:
    layout, weights = orders
    return ConvProblem.parse(f"{op}_{geometry}_{layout}-{weights}_{dtype}{border}{epilogue}")


def _case(p: ConvProblem, kernel: CudaKernel[Any], which: int, offset: int, device: Device) -> Case | None:
    if kernel.check(p, device) is not None:
        return None
    if which == 0:
        return Case(p, kernel, kernel.default_config(p, device), offset)
    configs = kernel.configs(p, device)
    return Case(p, kernel, configs[which * (len(configs) - 1) // (len(CONFIGS) - 1)], offset)


def every(device: Device) -> list[Case]:
    """Every CUDA kernel's cases, a design for each."""
    kernels = [kernel for kernel in registry.kernels() if isinstance(kernel, CudaKernel)]
    return [case for kernel in kernels for case in cases((kernel,), device)]


def listed_text() -> str:
    """What `LIST` must hold: every CUDA kernel's cases on a device like the emulator's."""
    return "".join(f"{case.line}\n" for case in every(emulated_device()))


if __name__ == "__main__":
    if FULL:
        raise SystemExit("GPUCONV_FULL is set: the list is of the quick design")
    LIST.write_text(listed_text(), encoding="utf-8")
