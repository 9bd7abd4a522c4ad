"""Which plan runs a problem; the answer stays the same for the life of the process.

What was tuned is taken from the store; else what a near problem was tuned to, where that suits; else what
the heuristic, or on a CPU the kernels' rank, has first. There are two exceptions to the same answer: a
problem may be tuned on request, and a CUDA device may refuse a plan, which does not compile, or launch, or
find memory. Then the next one is taken, with one warning, and kept.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, overload

from gpuconv import settings
from gpuconv.autotune.heuristic import Candidate, predicted, ranked
from gpuconv.autotune.memory import borrowed, remembered
from gpuconv.autotune.space import by_preference, takers
from gpuconv.backend import arrays
from gpuconv.backend.device import Device
from gpuconv.backend.launch import Launcher
from gpuconv.config import Config
from gpuconv.errors import CompileError, LaunchError, LaunchRefused, Reject, UnsupportedProblem
from gpuconv.kernels import registry
from gpuconv.kernels.base import Kernel
from gpuconv.plan import Plan
from gpuconv.problem import ConvProblem

_REFUSALS: Final = (CompileError, LaunchRefused, MemoryError)

_lock = threading.Lock()
_Key = tuple[ConvProblem, Device, str | None, str | None, int]
_choices: dict[_Key, Choice] = {}
#: Told of every problem that a plan is asked for.
_watchers: list[Callable[[ConvProblem, Device], None]] = []


def plan_for(problem: ConvProblem, device: Device) -> Plan:
    """Find a plan, the same one for the same problem and device.

    GPUCONV_KERNEL and GPUCONV_CONFIG, where set, leave one choice.

    Raises
    ------
    UnsupportedProblem
        If no kernel takes the problem on the device, or every plan was refused; it carries the reasons.
    CompileError, LaunchRefused, MemoryError
        If GPUCONV_KERNEL is set and the device refused its plan.
    LaunchError
        If the device's context is lost.
    ValueError
        If GPUCONV_KERNEL or GPUCONV_CONFIG names nothing legal.

    Warns
    -----
    RuntimeWarning
        Where a CUDA device refused a plan, here or when it runs, and another is taken from now on.
    """
    for watcher in _watchers:
        watcher(problem, device)
    name, config, launcher, key = _key(problem, device)
    choice = _choices.get(key)
    if choice is None:
        candidates, rejects = _candidates(problem, device, name, config)
        made = Choice(problem, device, launcher, candidates, rejects, name is not None)
        with _lock:
            choice = _choices.setdefault(key, made)
    return choice.plan()


def _key(problem: ConvProblem, device: Device) -> tuple[str | None, str | None, Launcher | None, _Key]:
    """What variables force, the launcher at work, and under what a choice is kept."""
    name, config = settings.read("GPUCONV_KERNEL"), settings.read("GPUCONV_CONFIG")
    launcher = None if device.kind == "cpu" else _launcher(problem, device)
    # what one launcher has loaded means nothing to another; a choice keeps its own alive, so its number stays
    # its own
    return name, config, launcher, (problem, device, name, config, id(launcher))


def adopt(problem: ConvProblem, device: Device, tuned: Candidate) -> None:
    """Let a tuned candidate run a problem from now on.

    Who holds an older plan keeps it.
    """
    _, _, launcher, key = _key(problem, device)
    known = _choices.get(key)
    if known is not None and known.candidates[0][:2] == tuned[:2]:
        return
    rest, rejects = _untuned(problem, device, None)
    candidates = [tuned, *(one for one in rest if one[:2] != tuned[:2] and device.kind == "cuda")]
    with _lock:
        _choices[key] = Choice(problem, device, launcher, candidates, rejects, False)


@contextmanager
def watching(watcher: Callable[[ConvProblem, Device], None]) -> Iterator[None]:
    """Be told of every problem that a plan is asked for inside the block; of each at its first call."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


class Choice:
    """The plans that may run one problem, best first, and how far down that list it is.

    Plans of CUDA devices come out with a `run` that goes down the list where it must; those of the CPU, whose
    list is one long, come out as they are.
    """

    def __init__(
        self,
        problem: ConvProblem,
        device: Device,
        launcher: Launcher | None,
        candidates: Sequence[Candidate],
        rejects: Sequence[Reject],
        forced: bool,
    ) -> None:
        self.problem, self.device, self.launcher = problem, device, launcher
        self.candidates, self.rejects = candidates, rejects
        self._raises_refusals = forced or device.kind == "cpu"
        self._refused: list[Reject] = []  # as many as have been passed over
        self._bound: Plan | None = None
        self._plan: Plan | None = None
        # taken again by the same thread if what shows warnings computes a convolution itself
        self._lock = threading.RLock()

    def plan(self) -> Plan:
        """The plan at work."""
        plan = self._plan
        if plan is None:
            with self._lock:
                while (plan := self._plan) is None:
                    self._bind()
        return plan

    def run(self, a: Any, b: Any, out: Any, bias: Any, residual: Any) -> None:
        """Run the plan at work; if it is refused, the next one."""
        while True:
            bound = self._bound
            if bound is None:
                self.plan()
                continue
            try:
                return bound.run(a, b, out, bias, residual)
            except _REFUSALS as error:
                with self._lock:
                    if bound is self._bound:  # else another thread was here first
                        self._pass_over(error)
            except LaunchError as error:
                raise LaunchError(f"{bound}: {error}") from error

    def _bind(self) -> None:
        """Bind the next candidate, or pass over it."""
        kernel, config, *_ = self.candidates[len(self._refused)]
        try:
            bound = kernel.bind(self.problem, config, self.device)
        except _REFUSALS as error:
            self._pass_over(error)
            return
        except LaunchError as error:
            raise LaunchError(f"{self._where}: {kernel.name}({config}): {error}") from error
        self._bound = bound
        self._plan = bound if self.device.kind == "cpu" else replace(bound, run=self.run)
        settings.log("plan", f"{bound}  # gpuconv problem '{self.problem}'")

    def _pass_over(self, error: Exception) -> None:
        """Move on with a warning, or raise where there is nowhere to move to."""
        if self._raises_refusals:
            raise error
        failed = str(self.candidates[len(self._refused)])
        reason = next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)
        refused = [*self._refused, Reject(failed, reason)]
        last = len(refused) == len(self.candidates)
        # where all are refused the next call starts over: memory, for one, may be free again by then
        self._refused = [] if last else refused
        self._plan = self._bound = None
        if last:
            reasons = [*refused, *self.rejects]
            raise UnsupportedProblem(str(self.problem), str(self.device), reasons) from error
        chosen = str(self.candidates[len(refused)])
        message = f"{self._where}: {failed} failed, {chosen} takes over: {reason}"
        warnings.warn(message, RuntimeWarning, stacklevel=2)

    @property
    def _where(self) -> str:
        return f"{self.problem} on {self.device.kind}"


def _launcher(problem: ConvProblem, device: Device) -> Launcher:
    try:
        return arrays.launcher()
    except RuntimeError as error:
        raise UnsupportedProblem(str(problem), str(device), [Reject("cuda", str(error))]) from error


def _candidates(
    problem: ConvProblem, device: Device, name: str | None, config: str | None
) -> tuple[Sequence[Candidate], list[Reject]]:
    """What may run the problem, best first, and why the others may not; one choice where one is forced."""
    if config is not None and name is None:
        raise ValueError("GPUCONV_CONFIG: needs GPUCONV_KERNEL, whose parameters it gives")
    if name is None:
        found, rejects = _untuned(problem, device, None)
        first = remembered(problem, device)
        tuned = borrowed(problem, device, found[0]) if first is None else first[0]
        if tuned is None:
            return found, rejects
        rest = [one for one in found if one[:2] != tuned[:2]] if device.kind == "cuda" else []
        return [tuned, *rest], rejects
    try:
        kernel = registry.by_name(name)
    except ValueError as error:
        raise ValueError(f"GPUCONV_KERNEL: {error}") from None
    found, rejects = _untuned(problem, device, kernel)
    return ([Candidate(kernel, _forced(kernel, problem, device, config))] if config else found), rejects


def _untuned(
    problem: ConvProblem, device: Device, only: Kernel[Any] | None
) -> tuple[Sequence[Candidate], list[Reject]]:
    """What runs a problem that nobody has tuned, best first; on a CPU that is one."""
    kernels, rejects = takers(problem, device, None if only is None else (only,))
    if not kernels:
        raise UnsupportedProblem(str(problem), str(device), rejects)
    if device.kind == "cpu":
        return by_preference(problem, kernels, device)[:1], rejects
    best: dict[str, Candidate] = {}
    for one in ranked(problem, kernels, device):
        best.setdefault(one.kernel.name, one)
    return _List(problem, device, list(best.values())), rejects


class _List(Sequence[Candidate]):
    """Each kernel's best; behind them less demanding configs, each once, found when one is asked for."""

    def __init__(self, problem: ConvProblem, device: Device, best: list[Candidate]) -> None:
        self._problem, self._device, self._best = problem, device, best
        self._all: list[Candidate] | None = None

    @overload
    def __getitem__(self, at: int) -> Candidate: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Candidate]: ...
    def __getitem__(self, at: int | slice) -> Candidate | Sequence[Candidate]:
        if isinstance(at, int) and 0 <= at < len(self._best):
            return self._best[at]
        return self._whole()[at]

    def __len__(self) -> int:
        return len(self._whole())

    def _whole(self) -> list[Candidate]:
        if self._all is None:
            known = {(one.kernel.name, one.config) for one in self._best}
            less = (
                Candidate(one.kernel, config)
                for one in self._best
                for config in one.kernel.fallback_configs(self._problem, self._device)
            )
            rest = [one for one in less if (one.kernel.name, one.config) not in known]
            self._all = [*self._best, *rest]
        return self._all


def explain(
    problem: ConvProblem, device: Device
) -> tuple[Sequence[Candidate], Sequence[Candidate], list[Reject]]:
    """What `plan_for` goes down, in its order; what else was weighed; why other kernels do not take it.

    Raises
    ------
    ValueError
        If GPUCONV_KERNEL or GPUCONV_CONFIG names nothing legal.
    """
    name, config = settings.read("GPUCONV_KERNEL"), settings.read("GPUCONV_CONFIG")
    try:
        tried, rejects = _candidates(problem, device, name, config)
    except UnsupportedProblem as error:
        return [], [], list(error.rejects)
    if device.kind == "cpu":
        weighed = [] if name is not None else by_preference(problem, takers(problem, device)[0], device)
        return tried, [one for one in weighed if one[:2] != tried[0][:2]], rejects
    known = {one[:2] for one in tried}
    weighed = [] if name is not None else ranked(problem, list({one.kernel for one in tried}), device)
    tried = [predicted(problem, one.kernel, one.config, device) for one in tried]
    return tried, [one for one in weighed if one[:2] not in known], rejects


def measured(problem: ConvProblem, device: Device) -> dict[tuple[str, Config], float]:
    """Microseconds of what tuning chose and of what would run untuned, where the problem was tuned.

    By name of the kernel and config, as the store has them: on this device, but at another time.
    """
    found = remembered(problem, device)
    if found is None:
        return {}
    (kernel, config, *_), entry = found
    default = _untuned(problem, device, None)[0][0]
    times = {(kernel.name, config): entry.us}
    # what ran untuned then may be another than today
    return (
        {(default.kernel.name, default.config): entry.default_us} | times
        if str(default) == entry.default
        else times
    )


def _forced(kernel: Kernel[Any], problem: ConvProblem, device: Device, text: str) -> Config:
    """The config that GPUCONV_CONFIG gives."""
    try:
        config: Config = kernel.config_type.parse(text)
    except ValueError as error:
        raise ValueError(f"GPUCONV_CONFIG: {error}") from None
    reject = kernel.check_config(problem, config, device)
    if reject is not None:
        raise ValueError(f"GPUCONV_CONFIG: {reject}")
    return config
