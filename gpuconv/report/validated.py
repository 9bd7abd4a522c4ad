"""One problem validated: every kernel that takes it against the float64 oracle, another library beside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Final

import numpy as np

from gpuconv import dispatch, measure
from gpuconv.backend.device import Device
from gpuconv.config import Config
from gpuconv.errors import CompileError, LaunchError, LaunchRefused, Reject
from gpuconv.families import HUGE
from gpuconv.kernels import registry
from gpuconv.kernels.base import Kernel
from gpuconv.measure import Operands
from gpuconv.plan import Plan
from gpuconv.problem import ConvProblem
from gpuconv.report.measured import rounded_error, transfer
from gpuconv.report.opinions import Opinion
from gpuconv.validate.tolerance import Expected

_LONGEST: Final = 200


@dataclass(frozen=True, slots=True)
class Checked:
    """One kernel with one config.

    Attributes
    ----------
    kernel, config : str
        Its name and parameters.
    error_over_bound : float or None
        Largest error as a share of what is allowed, `gpuconv.report.records.NO_NUMBER` for NaN and infinity;
        None where it gave no result.
    worst : tuple of int
        Where that is, in the result.
    got, right : str
        What it has there, and what the oracle has: hexadecimal, exact.
    apart : float or None
        Largest difference to the other library's first result, as a share of the same bound. Two right
        results are at most 2 apart.
    failure : str or None
        Why it gave no result.
    overwrites : tuple of str
        Operands that it wrote to.
    """

    kernel: str
    config: str
    error_over_bound: float | None = None
    worst: tuple[int, ...] = ()
    got: str = ""
    right: str = ""
    apart: float | None = None
    failure: str | None = None
    overwrites: tuple[str, ...] = ()

    @property
    def within(self) -> bool:
        """Whether there is a result, and it is within the bound."""
        return self.error_over_bound is not None and self.error_over_bound <= 1

    @property
    def wrong(self) -> bool:
        """Whether it is outside the bound, or was written where nothing may be."""
        return bool(self.overwrites) or (self.error_over_bound is not None and not self.within)


@dataclass(frozen=True, slots=True)
class Beside:
    """Another library.

    Attributes
    ----------
    name : str
        Library and version.
    error_over_bound : float or None
        Its largest error, likewise, where TF32 is allowed with that bound; None where it computed nothing.
    way : str
        Which of its ways has that error.
    ways, outside : int
        How many were tried, and how many of them are outside the bound, which it does not promise.
    reason : str or None
        Why it computed nothing.
    """

    name: str
    error_over_bound: float | None = None
    way: str = ""
    ways: int = 0
    outside: int = 0
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Validated:
    """What was found about a problem.

    Attributes
    ----------
    problem : str
        Its text.
    op, dtype : str
        Of the problem.
    looked_at, elements : int
        How many elements of the result were compared, and how many it has.
    checked : tuple of Checked
        Every kernel and config.
    beside : Beside or None
        The other library.
    rejects : tuple of Reject
        Why other kernels do not take it.
    """

    problem: str
    op: str
    dtype: str
    looked_at: int
    elements: int
    checked: tuple[Checked, ...]
    beside: Beside | None = None
    rejects: tuple[Reject, ...] = ()


def validate(
    p: ConvProblem,
    device: Device,
    *,
    kernels: Sequence[str] = (),
    every_config: bool = False,
    opinion: Opinion | None = None,
    seed: int = 0,
    put: Callable[[Any], Any] | None = None,
    get: Callable[[Any], Any] | None = None,
) -> Validated:
    """Compute a problem with every kernel that takes it, and judge each result.

    Parameters
    ----------
    p : ConvProblem
        What to compute.
    device : Device
        Where.
    kernels : sequence of str
        Names: only these; empty for all.
    every_config : bool
        Every parameter worth trying; else the default, what dispatch takes, and what it falls back to.
    opinion : Opinion, optional
        Another library, judged alike but for TF32, see `gpuconv.validate.tolerance`. Nothing that it does
        is our failure, unless the device is lost.
    seed : int
        Of the operands.
    put, get : callable, optional
        As for `gpuconv.report.measured.measure_problem`.

    Raises
    ------
    LaunchError
        If a kernel, or the other library, lost the device's context; the message begins with which.
    MemoryError
        If the operands are too large for the host, or for the device.
    """
    if max(map(prod, p.operand_shapes)) >= HUGE:
        raise MemoryError("its arrays are too large for the host: 'gpuconv bench' checks some images")
    way = _Way(device, *transfer(device, put, get))
    given = measure.operands(p, seed)
    expected = measure.expected(p, given)
    beside, theirs = (None, None) if opinion is None else _asked(opinion, p, given, expected, way)
    choices, rejects = _choices(p, device, kernels, every_config)
    there = _There(given, way)
    checked = []
    for kernel, config in choices:
        try:
            checked.append(_checked(p, kernel, config, device, there, expected, theirs))
        except LaunchError as error:
            raise LaunchError(f"{p} {kernel.name}({config}): {_line(error)}") from error
    return Validated(
        str(p),
        p.op,
        p.dtype,
        expected.values.size,
        prod(p.operand_shapes[2]),
        tuple(checked),
        beside,
        rejects,
    )


def _choices(
    p: ConvProblem, device: Device, wanted: Sequence[str], every_config: bool
) -> tuple[list[tuple[Kernel[Any], Config]], tuple[Reject, ...]]:
    """Kernels that take a problem, each with its configs, the default first."""
    tried, weighed, rejects = dispatch.explain(p, device)
    ranked = [*tried, *weighed]
    names = {one.kernel.name for one in ranked if not wanted or one.kernel.name in wanted}
    choices: dict[tuple[str, Config], Kernel[Any]] = {}
    for kernel in registry.kernels():
        if kernel.name not in names:
            continue
        best = next(one.config for one in ranked if one.kernel.name == kernel.name)
        configs = [kernel.default_config(p, device), best, *kernel.fallback_configs(p, device)]
        if every_config:
            configs += kernel.configs(p, device)
        choices |= {(kernel.name, config): kernel for config in configs}
    return [(kernel, config) for (_, config), kernel in choices.items()], tuple(rejects)


class _Way:
    """To a device and back: what fails on it earlier shows here, where the host waits for it."""

    def __init__(self, device: Device, put: Callable[[Any], Any], get: Callable[[Any], Any]) -> None:
        self._may_be_lost, self._put, self._get = device.kind == "cuda", put, get

    def put(self, array: Any) -> Any:
        """A copy, on the CPU too."""
        return self._safely(self._put, array.copy())

    def get(self, array: Any) -> Any:
        """Back."""
        return self._safely(self._get, array)

    def try_it(self) -> None:
        """Raise `LaunchError` if nothing can be copied any more."""
        self.get(self.put(np.zeros(1, np.float32)))

    def _safely(self, call: Callable[[Any], Any], array: Any) -> Any:
        try:
            return call(array)
        except (LaunchError, MemoryError):
            raise
        except Exception as error:  # the driver's own, of CuPy's types
            if not self._may_be_lost:
                raise
            raise LaunchError(_line(error)) from error


class _There:
    """Operands on a device, put there anew where a kernel wrote to them."""

    def __init__(self, given: Operands, way: _Way) -> None:
        self._given, self.way = given, way
        self.operands = Operands(*(None if array is None else way.put(array) for array in given))

    def run(self, plan: Plan) -> Any:
        """The result, in memory that was full of NaN."""
        shape, dtype = plan.problem.operand_shapes[2], measure.numpy_dtype(plan.problem.dtype)
        out = self.way.put(np.full(shape, np.nan, dtype))
        a, b, bias, residual = self.operands
        plan(a, b, out, bias=bias, residual=residual)
        return self.way.get(out)

    def overwritten(self) -> tuple[str, ...]:
        """Names of the operands that are no longer what they were; afterwards they are."""
        found = []
        for name, was, now in zip(Operands._fields, self._given, self.operands, strict=True):
            if was is not None and not np.array_equal(_bits(self.way.get(now)), _bits(was)):
                found.append(name)
                self.operands = self.operands._replace(**{name: self.way.put(was)})
        return tuple(found)


def _bits(array: Any) -> Any:
    return array.view(f"u{array.dtype.itemsize}")


def _checked(
    p: ConvProblem,
    kernel: Kernel[Any],
    config: Config,
    device: Device,
    there: _There,
    expected: Expected,
    theirs: Any,
) -> Checked:
    """One kernel's result judged, and its operands looked after, for the next."""
    result, failure = _tried(lambda: there.run(kernel.bind(p, config, device)))
    overwrites, unseen = _tried(there.overwritten)
    if failure is None and unseen is None:
        found = _judged(kernel.name, config, result, expected, theirs)
    else:
        found = Checked(kernel.name, str(config), failure=failure or unseen)
    return replace(found, overwrites=overwrites or ())


def _tried(call: Callable[[], Any]) -> tuple[Any, str | None]:
    """What a call gives, or why it gives nothing."""
    try:
        return call(), None
    except LaunchError:
        raise
    except (CompileError, LaunchRefused, MemoryError) as error:
        return None, _line(error)
    except Exception as error:  # a fault of one kernel's says nothing of the next
        return None, f"{type(error).__name__}: {_line(error)}"


def _judged(name: str, config: Config, result: Any, expected: Expected, theirs: Any) -> Checked:
    verdict = expected.judge(result)
    if not verdict.checked:
        return Checked(name, str(config), 0.0)
    seen, others = expected.seen(result), expected.of_others()
    apart = None
    if theirs is not None:
        apart = rounded_error(float(others.apart(seen, expected.seen(theirs)).max()))
    right = _value_at(expected, verdict.worst)
    got = float(result[verdict.worst])
    return Checked(
        name,
        str(config),
        rounded_error(verdict.error_over_bound),
        verdict.worst,
        got.hex(),
        right.hex(),
        apart,
    )


def _value_at(expected: Expected, at: tuple[int, ...]) -> float:
    if expected.points is None:
        return float(expected.values[at])
    (where,) = np.nonzero((expected.points == np.array(at)[:, None]).all(axis=0))
    return float(expected.values[where[0]])


def _asked(
    opinion: Opinion, p: ConvProblem, given: Operands, expected: Expected, device: _Way
) -> tuple[Beside, Any]:
    """What another library has, and its first result."""
    errors: dict[str, float] = {}
    first, judge = None, expected.of_others()
    try:
        for way, result in opinion.results(p, given):
            errors[way] = judge.judge(result).error_over_bound
            first = result if first is None else first
    except LaunchError as error:
        raise type(error)(f"{p} {opinion.name}: {_line(error)}") from error
    except Exception as error:  # whatever another library raises is its own affair
        try:
            device.try_it()
        except LaunchError as lost:
            raise LaunchError(f"{p} {opinion.name}: {_line(lost)}; before that {_line(error)}") from error
        known = isinstance(error, RuntimeError | MemoryError)
        reason = _line(error) if known else f"{type(error).__name__}: {_line(error)}"
        if not errors:
            return Beside(opinion.name, reason=reason), None
    if not errors:
        return Beside(opinion.name, reason="gives no result"), None
    way = max(errors, key=lambda way: errors[way])
    outside = sum(error > 1 for error in errors.values())
    return Beside(opinion.name, rounded_error(errors[way]), way, len(errors), outside), first


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
