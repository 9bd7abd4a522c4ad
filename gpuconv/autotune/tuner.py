"""Tuning on request: what the store knows is taken, all else is searched for, kept, and used from now on."""

from __future__ import annotations

import secrets
import warnings
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Final

from gpuconv import dispatch, settings, store
from gpuconv.autotune import asked, memory, space
from gpuconv.autotune.alone import alone
from gpuconv.autotune.asked import Wishes
from gpuconv.autotune.digest import compiler, digest
from gpuconv.autotune.heuristic import Candidate
from gpuconv.autotune.recording import Recorded, Tried
from gpuconv.autotune.search import BUDGET, MOST, Watch, chosen, search
from gpuconv.autotune.trial import LiveBench
from gpuconv.backend.device import Device
from gpuconv.errors import LaunchError
from gpuconv.measure import Clock
from gpuconv.plan import Plan
from gpuconv.problem import ConvProblem

_SEEDS: Final = 2**32


def plan_for(problem: ConvProblem, device: Device) -> Plan:
    """The plan of a problem that is tuned first, unless it has been; see `gpuconv.dispatch.plan_for`.

    A search that comes to nothing costs a warning, and the untuned plan runs.
    """
    # what is known waits for no search of another thread's, and may have been found by one meanwhile
    if settings.read("GPUCONV_KERNEL") is None and not _adopted(problem, device):
        with alone(device):
            if not _adopted(problem, device):
                _try(problem, device)
    return dispatch.plan_for(problem, device)


def _adopted(problem: ConvProblem, device: Device) -> bool:
    found = known(problem, device, asked.wishes())
    if found is not None:
        dispatch.adopt(problem, device, found)
    return found is not None


def _try(problem: ConvProblem, device: Device) -> None:
    try:
        tune(problem, device, asked.wishes())
    except LaunchError:
        raise
    except (RuntimeError, MemoryError) as error:
        reason = " ".join(str(error).split())[:300]
        warnings.warn(f"{problem} on {device.kind} stays untuned: {reason}", RuntimeWarning, stacklevel=4)


def known(problem: ConvProblem, device: Device, wishes: Wishes | None = None) -> Candidate | None:
    """What the store has on a problem, if it is of today's sources and compiler, and all that is wished.

    A search that had no time for all it wanted is repeated by one that has more.
    """
    found = memory.remembered(problem, device)
    if found is None:
        return None
    candidate, entry = found
    if entry.digest != digest(problem, candidate, device) or entry.compiler != compiler(device):
        return None
    wishes = wishes or Wishes()
    more_time = entry.left > 0 and _budget(wishes, device) > entry.budget
    more = wishes.strategy == "exhaustive" != entry.strategy
    return None if more_time or more else candidate


def tune(
    problem: ConvProblem,
    device: Device,
    wishes: Wishes | None = None,
    *,
    clock: Clock | None = None,
    watch: Watch = lambda step: None,
) -> Recorded:
    """Search for the best candidate, put it into the store, and use it from now on.

    Parameters
    ----------
    problem : ConvProblem
    device : Device
    wishes : Wishes, optional
    clock : Clock, optional
        By default the device's.
    watch : callable, optional
        As for `gpuconv.autotune.search.search`.

    Raises
    ------
    UnsupportedProblem
        If no kernel takes the problem.
    RuntimeError
        If no candidate passed; nothing changes then.
    LaunchError
        If the device's context is lost.

    Warns
    -----
    RuntimeWarning
        For each candidate whose result is wrong. It is never used.
    """
    wishes = wishes or Wishes()
    with alone(device):
        before = memory.remembered(problem, device)
        proposals = space.proposals(problem, device)
        if not proposals:
            dispatch.plan_for(problem, device)  # says why
        seed = secrets.randbelow(_SEEDS)
        candidates = chosen(proposals, wishes.strategy, MOST, seed)
        if before is not None:
            candidates = _with(candidates, before[0])
        found = search(
            problem,
            candidates,
            LiveBench(problem, device, seed, workers=wishes.workers, clock=clock),
            budget=_budget(wishes, device),
            incumbent=None if before is None else str(before[0]),
            watch=watch,
        )
        for one in found.tried:
            if one.failure is not None and one.failure.startswith("wrong"):
                _warn_of_wrong(problem, one, seed)
        best = candidates[found.chosen]
        store.put(device, [_entry(found, best, device, wishes)])
        dispatch.adopt(problem, device, best)
        settings.log(
            "plan", f"{problem} on {device.kind} tuned in {found.seconds:.1f} s: {best}, {_gain(found)}"
        )
        return found


def _budget(wishes: Wishes, device: Device) -> float:
    return BUDGET[device.kind] if wishes.budget is None else wishes.budget


def _with(candidates: list[Candidate], before: Candidate) -> list[Candidate]:
    """What won before is tried again, whatever else is: right after the default, so that there is time."""
    rest = [one for one in candidates[1:] if one[:2] != before[:2]]
    return candidates if candidates[0][:2] == before[:2] else [candidates[0], before, *rest]


def _entry(found: Recorded, best: Candidate, device: Device, wishes: Wishes) -> store.Entry:
    us, default_us = found.best.us, found.default.us
    assert us is not None
    return store.Entry(
        problem=found.problem,
        kernel=best.kernel.name,
        config=asdict(best.config),
        us=us,
        default_us=us if default_us is None else default_us,
        default="" if default_us is None else str(found.default),
        strategy=wishes.strategy,
        budget=_budget(wishes, device),
        left=found.left,
        digest=digest(found.problem, best, device),
        compiler=compiler(device),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _gain(found: Recorded) -> str:
    return "the default failed" if found.gain is None else f"{found.gain:.2f} times as fast as the default"


def _warn_of_wrong(problem: ConvProblem, one: Tried, seed: int) -> None:
    message = (
        f"{problem}: {one} is {one.failure}; it is not used. Please report it: "
        f"GPUCONV_KERNEL={one.kernel} GPUCONV_CONFIG={one.config} gpuconv validate '{problem}' --seed {seed}"
        f"{' --cpu' * (one.kernel.startswith('cpu_'))}"
    )
    warnings.warn(message, RuntimeWarning, stacklevel=4)
