"""Time candidates beside each other; benchmarks, the tuner and the command line all do it here.

Candidates take turns, in an order that rotates, so that whatever changes meanwhile (clocks, temperature,
neighbours) meets all of them alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, inf
from statistics import median, quantiles
from typing import Any, Final, NamedTuple

import numpy as np

from gpuconv.backend.clocks import Call, Clock, CpuClock, CudaClock
from gpuconv.backend.device import Device
from gpuconv.errors import LaunchError
from gpuconv.problem import DTYPES, ConvProblem
from gpuconv.validate import reference, tolerance
from gpuconv.validate.tolerance import Expected

__all__ = [
    "Call",
    "Clock",
    "CpuClock",
    "CudaClock",
    "Operands",
    "Timing",
    "clock_for",
    "error_over_bound",
    "expected",
    "interleaved",
    "numpy_dtype",
    "operands",
]

TURNS: Final = 5
SECONDS: Final = 8.0
#: A candidate gets so many turns even where they take longer than asked for: one alone shows no spread.
_LEAST_TURNS: Final = 2
#: A call shorter than this share of a turn is estimated from several.
_SHORT: Final = 0.1
_ESTIMATING_CALLS: Final = 10
_COLD_CALLS: Final = 5
#: Elements that sum more products than this are checked at fewer points, these many products in all.
_LONG_SUM: Final = 2 * 10**6
_ORACLE_TERMS: Final = 3 * 10**8


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a candidate's call takes.

    Attributes
    ----------
    us : float
        Microseconds with whatever an earlier call left in the caches: the median over turns on a GPU, the
        fastest call on a CPU. Infinite where the candidate failed.
    us_cold : float or None
        Median over calls that found nothing of their own in the cache; None on a CPU.
    spread : float or None
        Interquartile range of the times behind `us`, as a share of their median; None for a single one.
    turns, calls : int
        How often it was its turn, and how many calls it made each time.
    clocks_mhz : float or None
        Median clock of a GPU's multiprocessors.
    disturbed : float or None
        Processors that others kept busy meanwhile, on average: 0.25 is a quarter of one. None for a GPU, and
        where the system does not tell.
    samples : tuple of float
        The times behind `us`, in microseconds and in order.
    failure : Exception or None
        What it raised.
    """

    us: float
    us_cold: float | None = None
    spread: float | None = None
    turns: int = 0
    calls: int = 0
    clocks_mhz: float | None = None
    disturbed: float | None = None
    samples: tuple[float, ...] = field(default=(), repr=False)
    failure: Exception | None = None


class Operands(NamedTuple):
    """What a problem is computed from; `bias` and `residual` are None where it has none."""

    a: Any
    b: Any
    bias: Any = None
    residual: Any = None


def clock_for(device: Device) -> Clock:
    """The clock for a kind of device.

    Raises
    ------
    RuntimeError
        For a CUDA device where CuPy cannot be imported; says why.
    """
    return CpuClock() if device.kind == "cpu" else CudaClock(device)


def interleaved(
    candidates: Mapping[str, Call],
    device: Device,
    *,
    seconds: float = SECONDS,
    turns: int = TURNS,
    cold: bool = True,
    clock: Clock | None = None,
) -> dict[str, Timing]:
    """Time candidates by turns.

    Each is called a few times first, which counts for nothing. All make the same number of calls in a turn,
    unless so few calls of a fast one would be lost in the timer's resolution.

    Parameters
    ----------
    candidates : mapping of str to callable
        Called without arguments; a GPU's enqueue their work on the current stream and wait for nothing.
    device : Device
        Where they run.
    seconds : float
        About how long all turns may take together, warming up aside. Two turns are made in any case, or one
        where `turns` says so.
    turns : int
        Turns of each candidate, at most.
    cold : bool
        On a GPU, also time calls after the L2 cache was filled with something else.
    clock : Clock, optional
        By default `clock_for` the device.

    Returns
    -------
    dict of str to Timing
        In the order of `candidates`. One that raised has its exception as `failure` and took infinitely
        long; the others went on without it.

    Raises
    ------
    LaunchError
        If a candidate lost the device's context: nothing can run there any more.
    ValueError
        If `turns` or `seconds` leaves no time.
    """
    if turns < 1:
        raise ValueError(f"turns must be at least 1, got {turns}")
    if not seconds > 0:
        raise ValueError(f"seconds must be more than 0, got {seconds}")
    clock = clock_for(device) if clock is None else clock
    runs = [_Run(name, call, clock) for name, call in candidates.items()]
    for run in runs:
        run.warm_up()
    working = [run for run in runs if run.failure is None]
    turns = _share_out(working, seconds, turns, clock)
    began, elsewhere = clock.now(), clock.seconds_elsewhere()
    done = 0
    while working and done < turns:
        if done >= _LEAST_TURNS and clock.now() - began >= seconds:
            break
        first = done % len(working)
        for run in working[first:] + working[:first]:
            run.turn(cold)
        working = [run for run in working if run.failure is None]
        done += 1
    disturbed = None
    if elsewhere is not None and (after := clock.seconds_elsewhere()) is not None:
        disturbed = max(0.0, after - elsewhere) / max(clock.now() - began, 1e-9)
    return {run.name: run.timing(disturbed) for run in runs}


class _Run:
    """One candidate and what has been found out about it."""

    def __init__(self, name: str, call: Call, clock: Clock) -> None:
        self.name, self.call, self.clock = name, call, clock
        self.estimate = 0.0
        self.calls = 1
        self.turns = 0
        self.seconds: list[float] = []
        self.cold: list[float] = []
        self.mhz: list[float] = []
        self.failure: Exception | None = None

    def warm_up(self) -> None:
        """Call it, and estimate how long a call takes; a short one needs a few calls to get going."""
        try:
            first = self.clock.figure(self.clock.turn(self.call, 1))
            calls = _ESTIMATING_CALLS if first < _SHORT * self.clock.turn_seconds else 1
            self.estimate = max(self.clock.figure(self.clock.turn(self.call, calls)), 1e-9)
        except LaunchError:
            raise
        except Exception as error:
            self.failure = error

    def turn(self, cold: bool) -> None:
        """Time it once more."""
        try:
            self.seconds += self.clock.turn(self.call, self.calls)
            mhz = self.clock.mhz()
            for _ in range(min(self.calls, _COLD_CALLS) if cold else 0):
                found = self.clock.cold(self.call)
                if found is None:
                    break
                self.cold.append(found)
        except LaunchError:
            raise
        except Exception as error:
            self.failure = error
            return
        self.turns += 1
        if mhz is not None:
            self.mhz.append(mhz)

    def timing(self, disturbed: float | None) -> Timing:
        """The result."""
        if self.failure is not None:
            return Timing(inf, failure=self.failure)
        return Timing(
            us=self.clock.figure(self.seconds) * 1e6,
            us_cold=median(self.cold) * 1e6 if self.cold else None,
            spread=_spread(self.seconds),
            turns=self.turns,
            calls=self.calls,
            clocks_mhz=median(self.mhz) if self.mhz else None,
            disturbed=disturbed,
            samples=tuple(second * 1e6 for second in self.seconds),
        )


def _share_out(runs: list[_Run], seconds: float, turns: int, clock: Clock) -> int:
    """Give each run its number of calls; return how many turns there is time for.

    Where time is short, turns get shorter before they get fewer.
    """
    if not runs:
        return 0
    each = min(clock.turn_seconds, seconds / turns / len(runs))
    slowest = max(run.estimate for run in runs)
    for run in runs:
        calls = max(round(each / slowest), ceil(clock.least_seconds / run.estimate))
        run.calls = min(max(calls, 1), clock.most_calls)
    together = sum(run.calls * run.estimate + clock.rest_seconds for run in runs)
    return min(turns, max(_LEAST_TURNS, int(seconds / together)))


def _spread(times: list[float]) -> float | None:
    if len(times) < 2:
        return None
    low, middle, high = quantiles(times, n=4, method="inclusive")
    return (high - low) / middle if middle > 0 else None


def operands(p: ConvProblem, seed: int = 0) -> Operands:
    """Normally distributed NumPy operands of a problem, the same for the same seed.

    Never zeros: on those a GPU draws less power and runs faster.
    """
    dtype = numpy_dtype(p.dtype)
    rng = np.random.default_rng(seed)
    drawn = np.float64 if p.dtype == "f64" else np.float32

    def draw(shape: tuple[int, ...]) -> Any:
        return rng.standard_normal(shape, drawn).astype(dtype, copy=False)

    first, second, result = p.operand_shapes
    a, b = draw(first), draw(second)
    bias = draw((p.out_channels,)) if p.bias else None
    return Operands(a, b, bias, draw(result) if p.residual else None)


def numpy_dtype(name: str) -> np.dtype[Any]:
    """NumPy's dtype for one of ours.

    Raises
    ------
    ModuleNotFoundError
        For bfloat16 without ml_dtypes; says how to get it.
    """
    if name != "bf16":
        return np.dtype(DTYPES[name])
    try:
        import ml_dtypes
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "bfloat16 needs ml_dtypes: pip install 'gpuconv[bf16]'", name="ml_dtypes"
        ) from None
    bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return bfloat16


def error_over_bound(p: ConvProblem, result: Any, given: Operands) -> float:
    """Largest error of a result as a share of what is allowed; 1 is the limit, infinite if it is no number.

    Checked whole, or at sampled points where that would take long.
    """
    return expected(p, given).judge(result).error_over_bound


def expected(p: ConvProblem, given: Operands, *, terms: int | None = None) -> Expected:
    """What the oracle says of a problem: whole, or at as many points as it ends with in seconds.

    Where it looks at points, `terms` is how many products it may sum in all.
    """
    depth = p.gemm_mnk[2]
    a, b, bias, residual = given
    points = None
    # the weights' gradient of huge images: some of the points the oracle would take
    if terms is None and p.op == "wgrad" and depth > _LONG_SUM:
        terms = _ORACLE_TERMS
    if terms is not None and (p.flops > 2 * tolerance.WHOLE_UP_TO or depth > _LONG_SUM):
        points = reference.sample_points(p, min(reference.POINTS, max(16, terms // depth)))
    return tolerance.expected(p, a, b, bias=bias, residual=residual, points=points)
