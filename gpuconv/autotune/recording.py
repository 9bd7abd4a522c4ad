"""What a tuner measured: every candidate of every problem with its times, for reports and for replay."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from sys import float_info
from typing import Any, Final

from gpuconv.backend import folders
from gpuconv.problem import ConvProblem

SCHEMA: Final = 1
_KINDS: Final = ("cpu", "cuda")


@dataclass(frozen=True, slots=True)
class Tried:
    """One candidate.

    Attributes
    ----------
    kernel, config : str
        Its name, and its parameters as ``name=value,…``.
    us : float or None
        Microseconds, as `gpuconv.measure.Timing` has them; None where it was not timed.
    samples : tuple of float
        The times behind it, in microseconds, in the order they were taken.
    predicted_us : float or None
        What the model of the device expects; None on a CPU.
    failure : str or None
        Why it was passed over: refused, failed, or wrong. Without a time and without this, the time was over.
    """

    kernel: str
    config: str
    us: float | None = None
    samples: tuple[float, ...] = ()
    predicted_us: float | None = None
    failure: str | None = None

    def __str__(self) -> str:
        return f"{self.kernel}({self.config})"


@dataclass(frozen=True, slots=True)
class Recorded:
    """One problem.

    Attributes
    ----------
    problem : ConvProblem
    tried : tuple of Tried
        In the order in which they were proposed; the first is the default, what runs untuned.
    chosen : int
        Which of them was taken.
    seconds : float
        How long it took to find out.
    """

    problem: ConvProblem
    tried: tuple[Tried, ...]
    chosen: int
    seconds: float

    @property
    def default(self) -> Tried:
        """What runs untuned."""
        return self.tried[0]

    @property
    def best(self) -> Tried:
        """What was taken."""
        return self.tried[self.chosen]

    @property
    def gain(self) -> float | None:
        """The default's time divided by that of what was taken; None where one has no time."""
        default, best = self.default.us, self.best.us
        return None if default is None or best is None else default / best

    @property
    def left(self) -> int:
        """How many candidates there was no time for."""
        return sum(one.us is None and one.failure is None for one in self.tried)


@dataclass(frozen=True, slots=True)
class Recording:
    """A run of the tuner.

    Attributes
    ----------
    kind, device : str
        ``"cpu"`` or ``"cuda"``, and the device's name: no time means anything without it.
    date : str
        UTC, ISO 8601.
    commit : str or None
        Of gpuconv, where it ran from a checkout.
    strategy : str
        How candidates were proposed.
    environment : dict
        As `gpuconv.report.environment.environment` has it.
    problems : tuple of Recorded
        Each once.
    """

    kind: str
    device: str
    date: str
    commit: str | None
    strategy: str
    environment: dict[str, Any] = field(default_factory=dict)
    problems: tuple[Recorded, ...] = ()

    def encoded(self) -> bytes:
        """What a file holds; each candidate is a line of its own."""
        return _text(self).encode()

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all."""
        folders.write(Path(path), self.encoded(), mode=0o644)

    @classmethod
    def load(cls, path: str | Path) -> Recording:
        """Read a file.

        Raises
        ------
        ValueError
            If it is damaged or something else; says where and why.
        OSError
            If it cannot be read.
        """
        try:
            return _recording(json.loads(Path(path).read_bytes().decode("utf-8")))
        except RecursionError:
            raise ValueError(f"{path}: nested too deeply for a recording") from None
        except ValueError as error:  # no UTF-8, no JSON, no recording
            raise ValueError(f"{path}: {error}") from None


def _text(found: Recording) -> str:
    names = ("kind", "device", "date", "commit", "strategy", "environment")
    head = {"schema": SCHEMA, **{name: getattr(found, name) for name in names}}
    lines = "".join(f" {_json(name)}: {_json(value)},\n" for name, value in head.items())
    rows = ",".join(_problem_text(one) for one in found.problems)
    return f'{{\n{lines} "problems": [{rows}\n ]\n}}\n'


def as_json(one: Recorded) -> dict[str, Any]:
    """A problem as it lies in a file."""
    head = {"problem": str(one.problem), "chosen": one.chosen, "seconds": round(one.seconds, 3)}
    return {**head, "tried": [_tried_as_json(each) for each in one.tried]}


def _problem_text(one: Recorded) -> str:
    *head, (_, tried) = as_json(one).items()
    opening = ", ".join(f"{_json(name)}: {_json(value)}" for name, value in head)
    rows = ",".join(f"\n   {_json(each)}" for each in tried)
    return f'\n  {{{opening}, "tried": [{rows}\n  ]}}'


def _tried_as_json(one: Tried) -> dict[str, Any]:
    return {
        "kernel": one.kernel,
        "config": one.config,
        "us": _rounded(one.us),
        "samples": [_rounded(sample) for sample in one.samples],
        "predicted_us": _rounded(one.predicted_us),
        "failure": one.failure,
    }


def _rounded(value: float | None) -> float | None:
    """To five digits: more is noise."""
    return None if value is None else float(f"{value:.5g}")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _recording(found: Any) -> Recording:
    names = ("schema", "kind", "device", "date", "commit", "strategy", "environment", "problems")
    _check_names(found, names, "a recording")
    if found["schema"] != SCHEMA or isinstance(found["schema"], bool):
        raise ValueError(f"schema must be {SCHEMA}, got {_show(found['schema'])}")
    if found["kind"] not in _KINDS:
        raise ValueError(f"kind must be one of {', '.join(_KINDS)}, got {_show(found['kind'])}")
    _check_texts(found, ("device", "date", "strategy"), ("commit",))
    if not isinstance(found["environment"], dict):
        raise ValueError(f"environment must be an object, got {_show(found['environment'])}")
    if not isinstance(found["problems"], list):
        raise ValueError(f"problems must be a list, got {_show(found['problems'])}")
    problems = tuple(recorded(one, f"problem {at}") for at, one in enumerate(found["problems"], 1))
    if len({one.problem for one in problems}) < len(problems):
        raise ValueError("a problem is there twice")
    return Recording(**{name: found[name] for name in names[1:-1]}, problems=problems)


def recorded(found: Any, what: str = "a problem") -> Recorded:
    """What `as_json` gave.

    Raises
    ------
    ValueError
        If it is something else; begins with `what` that is.
    """
    _check_names(found, ("problem", "chosen", "seconds", "tried"), what)
    _check_texts(found, ("problem",), ())
    problem = ConvProblem.parse(found["problem"])
    if not isinstance(found["tried"], list) or not found["tried"]:
        raise ValueError(f"{what}: tried must be a list of some length, got {_show(found['tried'])}")
    chosen = found["chosen"]
    if type(chosen) is not int or not 0 <= chosen < len(found["tried"]):
        raise ValueError(f"{what}: chosen must be from 0 to {len(found['tried']) - 1}, got {_show(chosen)}")
    seconds = _number(found["seconds"], f"{what}: seconds", 0.0)
    return Recorded(problem, tuple(_tried(one, what) for one in found["tried"]), chosen, seconds)


def _tried(found: Any, what: str) -> Tried:
    _check_names(found, ("kernel", "config", "us", "samples", "predicted_us", "failure"), what)
    _check_texts(found, ("kernel", "config"), ("failure",))
    if not isinstance(found["samples"], list):
        raise ValueError(f"{what}: samples must be a list, got {_show(found['samples'])}")
    us, predicted_us = (
        None if found[name] is None else _number(found[name], f"{what}: {name}")
        for name in ("us", "predicted_us")
    )
    samples = tuple(_number(sample, f"{what}: samples") for sample in found["samples"])
    return Tried(found["kernel"], found["config"], us, samples, predicted_us, found["failure"])


def _number(value: Any, what: str, least: float = 5e-324) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not least <= value <= float_info.max:  # an integer may be too large for a float
        raise ValueError(
            f"{what} must be {'positive' if least else 'a number from 0 on'}, got {_show(value)}"
        )
    return float(value)


def _check_texts(found: Mapping[str, Any], names: tuple[str, ...], or_null: tuple[str, ...]) -> None:
    for name in (*names, *or_null):
        if not isinstance(found[name], str) and not (name in or_null and found[name] is None):
            raise ValueError(f"{name} must be text, got {_show(found[name])}")


def _check_names(found: Any, names: tuple[str, ...], what: str) -> None:
    if not isinstance(found, dict):
        raise ValueError(f"{what} must be an object, got {_show(found)}")
    if set(found) != set(names):
        raise ValueError(f"{what} must have {', '.join(names)}; it has {_show(', '.join(map(str, found)))}")


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
