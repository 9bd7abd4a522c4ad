"""One problem measured: checked first, then timed beside what it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, Final

import gpuconv
from gpuconv import measure
from gpuconv.backend import detect
from gpuconv.backend.device import Device
from gpuconv.dispatch import plan_for
from gpuconv.errors import LaunchError
from gpuconv.families import family, floor_us
from gpuconv.measure import Clock, Operands, Timing
from gpuconv.problem import ConvProblem
from gpuconv.report import environment, huge
from gpuconv.report.baselines import Baseline, BatchSplit, agree
from gpuconv.report.records import NO_NUMBER, Record

OURS: Final = "gpuconv"


@dataclass(frozen=True, slots=True)
class Measured:
    """A record and where its numbers come from.

    Attributes
    ----------
    record : Record
        For the result file.
    timings : mapping of str to Timing
        gpuconv's under ``"gpuconv"``, the others' under their names; empty where nothing was timed.
    remarks : tuple of str
        Why something was not timed.
    """

    record: Record
    timings: Mapping[str, Timing]
    remarks: tuple[str, ...] = ()


def check_public(p: ConvProblem) -> None:
    """Raise ``ValueError`` for a problem that no public function computes."""
    if p.op != "fprop" and (p.bias or p.residual or p.relu):
        raise ValueError(f"no public function computes {p}: gradients have no bias, residual or activation")


def public_call(p: ConvProblem, given: Operands) -> Callable[[], Any]:
    """The public function that computes a problem, bound to operands; it allocates its result.

    Raises
    ------
    ValueError
        If no public function computes it.
    """
    how: dict[str, Any] = {
        "stride": p.stride,
        "padding": p.padding,
        "padding_mode": p.padding_mode,
        "dilation": p.dilation,
        "groups": p.groups,
        "data_format": p.layout.upper(),
        "weight_format": p.weights.upper(),
        "precision": p.precision,
    }
    check_public(p)
    a, b, bias, residual = given
    if p.op == "fprop":
        how |= {"residual": residual, "activation": "relu" if p.relu else None}
        return lambda: gpuconv.conv2d(a, b, bias, **how)
    if p.op == "dgrad":
        return lambda: gpuconv.conv2d_input_grad(p.x_shape, b, a, **how)
    return lambda: gpuconv.conv2d_weight_grad(a, p.w_shape, b, **how)


def measure_problem(
    p: ConvProblem,
    device: Device,
    *,
    baselines: Sequence[Baseline] = (),
    seconds: float = measure.SECONDS,
    turns: int = measure.TURNS,
    cold: bool = True,
    clock: Clock | None = None,
    put: Callable[[Any], Any] | None = None,
    get: Callable[[Any], Any] | None = None,
    seed: int = 0,
    commit: str | None = None,
    timed: bool = True,
) -> Measured:
    """Compute a problem through the public function, check the result, and time it beside baselines.

    Parameters
    ----------
    p : ConvProblem
        What to measure.
    device : Device
        Where.
    baselines : sequence of Baseline
        What to compare with; one that cannot compute the problem is left out with a remark. A huge problem
        is compared with `BatchSplit` only: the others start from arrays on the host.
    seconds, turns, cold, clock
        As for `gpuconv.measure.interleaved`.
    put, get : callable, optional
        From a NumPy array to one on the device, and back; by default CuPy's for a CUDA device.
    seed : int
        Of the operands.
    commit : str, optional
        For the record.
    timed : bool
        False to check only.

    Returns
    -------
    Measured
        A result outside the bound has no times: how fast something wrong is does not matter.

    Raises
    ------
    UnsupportedProblem
        If no kernel runs it.
    ValueError
        If no public function computes it.
    MemoryError
        For a huge problem on a CPU.
    RuntimeError
        Whatever a call of ours raised while it was timed.
    """
    put, get = transfer(device, put, get)
    kind = family(p) if device.kind == "cpu" else family(p, device.sms)
    remarks: list[str] = []
    if kind == "huge":
        given = huge.operands(p, device, seed)
        ours = public_call(p, given)
        seen = huge.looked_at(p, get)
        result = seen(ours())
        error = huge.error_over_bound(p, result, given, get)
        remarks += [f"{side.name}: not beside a huge problem" for side in baselines]
        baselines = [BatchSplit(device, seen)]
    else:
        given = measure.operands(p, seed)
        ours = public_call(p, Operands(*(None if array is None else put(array) for array in given)))
        result = get(ours())
        error = measure.error_over_bound(p, result, given)
    plan = plan_for(p, device)  # after the call: a device may have refused the first one
    record = Record(
        problem=str(p),
        op=p.op,
        dtype=p.dtype,
        layout=p.layout,
        family=kind,
        kernel=plan.kernel,
        config=str(plan.config),
        floor_us=_rounded(floor_us(p, device)),
        error_over_bound=rounded_error(error),
        device=device.name,
        commit=commit,
        date=environment.now(),
    )
    if record.wrong or not timed:
        return Measured(record, {})
    sides: dict[str, Callable[[], Any]] = {OURS: ours}
    for baseline in baselines:
        call = _bound(baseline, p, given, result, remarks)
        if call is not None:
            sides[baseline.name] = call
    timings = measure.interleaved(sides, device, seconds=seconds, turns=turns, cold=cold, clock=clock)
    if (failure := timings[OURS].failure) is not None:
        raise failure
    remarks += [f"{name}: {timing.failure}" for name, timing in timings.items() if timing.failure]
    roles = {baseline.name: baseline.role for baseline in baselines}
    return Measured(_timed(record, p, timings, roles), timings, tuple(remarks))


def _bound(
    baseline: Baseline, p: ConvProblem, given: Operands, ours: Any, remarks: list[str]
) -> Callable[[], Any] | None:
    """A baseline's call that gives what ours gives, or None with a remark."""
    try:
        bound = baseline.bind(p, given)
        theirs = None if bound is None else bound.numpy(bound.call())
    except LaunchError:  # the device is lost, not the baseline
        raise
    except (RuntimeError, MemoryError) as error:  # some dtypes are missing on some processors
        remarks.append(f"{baseline.name}: {' '.join(str(error).split())[:200]}")
        return None
    if bound is None:
        return None
    if not agree(theirs, ours):
        remarks.append(f"{baseline.name} computes something else and is left out")
        return None
    return bound.call


def _timed(record: Record, p: ConvProblem, timings: Mapping[str, Timing], roles: Mapping[str, str]) -> Record:
    """The record with its times."""
    ours = timings[OURS]
    others = {name: timing.us for name, timing in timings.items() if name != OURS and timing.failure is None}
    of_role = {roles[name]: us for name, us in others.items()}
    compared = [(us, name) for name, us in others.items() if roles[name] != "cudnn_heuristic"]
    theirs, baseline = min(compared, default=(None, None))
    return replace(
        record,
        us=_rounded(ours.us),
        us_cold=_rounded(ours.us_cold),
        share_of_floor=None if record.floor_us is None else _rounded(record.floor_us / ours.us),
        baseline=baseline,
        baseline_us=_rounded(theirs),
        ratio=None if theirs is None else _rounded(theirs / ours.us),
        cudnn_us=_rounded(of_role.get("cudnn")),
        cudnn_heuristic_us=_rounded(of_role.get("cudnn_heuristic")),
        gflops=_rounded(p.flops / ours.us / 1e3),
        others=None if ours.disturbed is None else round(ours.disturbed, 2),
    )


def rounded_error(error: float) -> float:
    """To three digits, but never from the wrong side of the bound to the right one."""
    if not isfinite(error):
        return NO_NUMBER
    short = float(f"{error:.3g}")
    return error if error > 1 >= short else short


def _rounded(value: float | None) -> float | None:
    """To six digits: more is noise."""
    return None if value is None else float(f"{value:.6g}")


def transfer(
    device: Device, put: Callable[[Any], Any] | None = None, get: Callable[[Any], Any] | None = None
) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """What brings NumPy arrays to a device and back; CuPy's for a CUDA device, unless given."""
    if device.kind == "cuda" and (put is None or get is None):
        cupy = detect.cupy()

        def to_device(array: Any) -> Any:
            # as integers: CuPy moves those whatever it knows of bfloat16
            with cupy.cuda.Device(device.index):
                return cupy.asarray(array.view(f"u{array.itemsize}")).view(array.dtype)

        def from_device(array: Any) -> Any:
            return cupy.asnumpy(array.view(f"u{array.itemsize}")).view(array.dtype)

        return put or to_device, get or from_device
    return put or _as_it_is, get or _as_it_is


def _as_it_is(array: Any) -> Any:
    return array
