"""Whether tuning is asked for: by a call, by a block of code, or by the environment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from math import inf
from numbers import Integral, Real
from typing import Any, Final, Literal

from gpuconv import settings
from gpuconv.arguments import show

Strategy = Literal["heuristic", "exhaustive", "random"]
STRATEGIES: Final[tuple[Strategy, ...]] = ("heuristic", "exhaustive", "random")
#: Of one problem: a day.
MOST_SECONDS: Final = 86_400


@dataclass(frozen=True, slots=True)
class Wishes:
    """How to tune; None leaves it to `gpuconv.autotune.search`."""

    budget: float | None = None
    strategy: Strategy = "heuristic"
    workers: int | None = None


_wishes: ContextVar[Wishes | None] = ContextVar("gpuconv_tuning", default=None)


def asked(tune: bool | None) -> bool:
    """Whether a call with this argument tunes its problem first."""
    if tune is not None:
        return bool(tune)
    return _wishes.get() is not None or settings.flag("GPUCONV_TUNE")


def wishes() -> Wishes:
    """How."""
    return _wishes.get() or Wishes()


@contextmanager
def tuning(
    *, budget: float | None = None, strategy: Strategy = "heuristic", workers: int | None = None
) -> Iterator[None]:
    """Tune what is called inside the block, as if each call had ``tune=True``.

    Parameters
    ----------
    budget : float, optional
        Seconds for one problem, about, compiling and the oracle aside, at most a day; by default 8 on a CPU
        and 3 on a CUDA device.
    strategy : {"heuristic", "exhaustive", "random"}
        What to try: the most promising, everything, or a random choice.
    workers : int, optional
        Threads that compile; by default as many as there are processors.

    Returns
    -------
    context manager

    Raises
    ------
    TypeError, ValueError
        For an argument of a wrong type or value.

    Notes
    -----
    It counts for the thread or the task that entered it. A problem that has been tuned before, in this
    process or another, is not tuned again: the store remembers. It is if more is wished than then: time for
    candidates that were left out, or all of them. A call with ``tune=False`` is left as it is.

    Examples
    --------
    >>> import numpy as np, gpuconv
    >>> x, w = np.ones((1, 2, 6, 6), "f"), np.ones((3, 2, 3, 3), "f")
    >>> with gpuconv.tuning(budget=0.1):
    ...     y = gpuconv.conv2d(x, w)
    """
    _check_budget(budget)
    if not isinstance(strategy, str) or strategy not in STRATEGIES:
        error = ValueError if isinstance(strategy, str) else TypeError
        raise error(f"strategy must be one of {', '.join(STRATEGIES)}, got {show(strategy)}")
    _check_workers(workers)
    token = _wishes.set(Wishes(None if budget is None else float(budget), strategy, workers))
    try:
        yield
    finally:
        _wishes.reset(token)


def _check_budget(budget: Any) -> None:
    if budget is None:
        return
    if isinstance(budget, bool) or not isinstance(budget, Real):
        raise TypeError(f"budget must be a number of seconds or None, got {show(budget)}")
    try:
        seconds = float(budget)
    except OverflowError:  # an integer may be too large for a float
        seconds = inf
    if not 0 < seconds <= MOST_SECONDS:
        raise ValueError(f"budget must be more than 0 seconds and at most {MOST_SECONDS}, got {show(budget)}")


def _check_workers(workers: Any) -> None:
    if workers is None:
        return
    if isinstance(workers, bool) or not isinstance(workers, Integral):
        raise TypeError(f"workers must be an integer or None, got {show(workers)}")
    if not 1 <= int(workers) <= 1024:
        raise ValueError(f"workers must be from 1 to 1024, got {show(workers)}")
