"""One problem measured: gpuconv and the baseline in alternate turns, each by its fastest call."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

import gpuconv
from bench.baseline import TorchBaseline
from gpuconv.backend import device
from gpuconv.dispatch import plan_for
from gpuconv.problem import DTYPES, ConvProblem
from gpuconv.validate import reference
from gpuconv.validate.tolerance import bound, judge

TURNS: Final = 5
#: The slower side's turn takes about this long, all turns together about that long at most.
TURN_SECONDS: Final = 0.15
TOGETHER_SECONDS: Final = 8.0
MOST_CALLS: Final = 1000
#: Elements that sum more products than this are checked at fewer points, these many products in all.
LONG_SUM: Final = 2 * 10**6
ORACLE_TERMS: Final = 3 * 10**8
#: Idle threads of the side that ran last stop spinning within this time.
SETTLE_SECONDS: Final = 0.05


def operands(p: ConvProblem, seed: int = 0) -> tuple[Any, Any]:
    """Normally distributed operands of a problem."""
    if p.dtype == "bf16":
        import ml_dtypes

        dtype = np.dtype(ml_dtypes.bfloat16)
    else:
        dtype = np.dtype(DTYPES[p.dtype])
    rng = np.random.default_rng(seed)
    drawn = np.float64 if p.dtype == "f64" else np.float32
    first, second, _ = p.operand_shapes
    a, b = (rng.standard_normal(shape, drawn).astype(dtype, copy=False) for shape in (first, second))
    return a, b


def public_call(p: ConvProblem, a: Any, b: Any) -> Callable[[], Any]:
    """The public function that computes a problem, bound to operands; it allocates its result."""
    how: dict[str, Any] = {
        "stride": p.stride,
        "padding": p.padding,
        "dilation": p.dilation,
        "groups": p.groups,
        "data_format": p.layout.upper(),
        "weight_format": p.weights.upper(),
        "precision": p.precision,
    }
    if p.op == "dgrad":
        return lambda: gpuconv.conv2d_input_grad(p.x_shape, b, a, **how)
    if p.op == "wgrad":
        return lambda: gpuconv.conv2d_weight_grad(a, p.w_shape, b, **how)
    return lambda: gpuconv.conv2d(a, b, **how)


def error_over_bound(p: ConvProblem, result: Any, a: Any, b: Any) -> float:
    """Largest error as a share of what is allowed."""
    depth = p.gemm_mnk[2]
    if depth <= LONG_SUM:
        return judge(p, result, a, b).error_over_bound
    # a gradient to the weights from huge images: some of the points the judge would take, to end in seconds
    points = reference.sample_points(p, max(16, ORACLE_TERMS // depth))
    ref = reference.evaluate_at(p, a, b, points)
    allowed = bound(p, ref, reference.evaluate_at(p, np.abs(a), np.abs(b), points))
    share = np.abs(result[tuple(points)].astype(np.float64) - ref) / allowed
    return float(np.where(np.isnan(share), np.inf, share).max())


def alternate(
    benchmark: Any, ours: Callable[[], Any], theirs: Callable[[], Any] | None, turns: int
) -> tuple[float, float | None] | None:
    """Time both sides by turns.

    Both sides make the same number of calls, and each side's threads come to rest before the other begins.

    Parameters
    ----------
    benchmark : pytest_benchmark fixture
        Keeps every single time of ours.
    ours, theirs : callable
        Called at least once before.
    turns : int
        Turns of each side; slow problems get fewer, but two.

    Returns
    -------
    (seconds, seconds or None) or None
        Fastest call of ours and of theirs; None where pytest-benchmark is told not to measure.
    """
    estimates = [_estimate(side) for side in (ours, theirs) if side is not None]
    calls = min(MOST_CALLS, max(1, round(TURN_SECONDS / max(estimates))))
    turns = min(turns, max(2, int(TOGETHER_SECONDS / (calls * sum(estimates)))))
    times: list[float] = []
    done = 0

    def before_each_call() -> None:
        nonlocal done
        if done % calls == 0 and theirs is not None:
            times.extend(_turn(theirs, calls))
            time.sleep(SETTLE_SECONDS)
        done += 1

    benchmark.pedantic(ours, setup=before_each_call, rounds=turns * calls)
    if benchmark.stats is None:
        return None
    return benchmark.stats.stats.min, min(times, default=None)


def measure(benchmark: Any, p: ConvProblem, baseline: TorchBaseline | None, turns: int) -> dict[str, Any]:
    """Check and time one problem.

    Returns
    -------
    dict
        The record of the result file; without its times where nothing is measured, without a baseline where
        there is none.
    """
    a, b = operands(p)
    plan = plan_for(p, device.cpu())
    ours = public_call(p, a, b)
    result = ours()
    record: dict[str, Any] = {
        "problem": str(p),
        "op": p.op,
        "dtype": p.dtype,
        "layout": p.layout,
        "kernel": plan.kernel,
        "config": str(plan.config),
        "error_over_bound": float(f"{error_over_bound(p, result, a, b):.3g}"),
    }
    theirs = None if baseline is None else baseline.bind(p, a, b)
    if baseline is not None and theirs is not None:
        try:
            answer = theirs()
        except RuntimeError:  # PyTorch lacks some dtypes on some processors
            theirs = None
        else:
            if not baseline.agrees(p, answer, result):
                raise AssertionError(f"{baseline.name} computes something else than {p}")
            del answer
    del result
    start, elsewhere = time.perf_counter(), _seconds_elsewhere()
    fastest = alternate(benchmark, ours, theirs, turns)
    wall, after = time.perf_counter() - start, _seconds_elsewhere()
    if fastest is None:
        return record
    if elsewhere is not None and after is not None:
        record["others"] = round(max(0.0, after - elsewhere) / wall, 2)
    record |= {"us": round(fastest[0] * 1e6, 2), "gflops": round(p.flops / fastest[0] / 1e9, 2)}
    if baseline is not None and fastest[1] is not None:
        record |= {
            "baseline": baseline.name,
            "baseline_us": round(fastest[1] * 1e6, 2),
            "ratio": round(fastest[1] / fastest[0], 3),
        }
    return record


def _seconds_elsewhere() -> float | None:
    """Seconds that others kept our processors busy, since some fixed time; None if not on Linux."""
    try:
        ours = {f"cpu{index}" for index in os.sched_getaffinity(0)}
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    except (AttributeError, OSError):
        return None
    busy = 0
    for name, *ticks in map(str.split, lines):
        if name in ours:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, ticks[:8])
            busy += user + nice + system + irq + softirq + steal
    return busy / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])


def _estimate(side: Callable[[], Any]) -> float:
    """Seconds a call takes, roughly; a short one needs a few calls to get going."""
    first = _turn(side, 1)[0]
    return first if first > TURN_SECONDS / 10 else min(_turn(side, 10))


def _turn(side: Callable[[], Any], calls: int) -> list[float]:
    """Seconds of each of some calls, after a rest."""
    time.sleep(SETTLE_SECONDS)
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        side()
        times.append(time.perf_counter() - start)
    return times
