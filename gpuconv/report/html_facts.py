"""What a report tells: recordings and result files brought together, problem by problem, on each device."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gpuconv.autotune.recording import Recorded, Recording
from gpuconv.families import Rates, family, floor_us, rates
from gpuconv.problem import ConvProblem
from gpuconv.report.records import Record, ResultFile
from gpuconv.report.summary import geometric_mean

_NEITHER: Final = "neither a recording ('gpuconv tune --record') nor a result file ('gpuconv bench --out')"
#: Far outside of what a convolution takes; far beyond, figures overflow.
_LEAST_US: Final = 1e-6
_MOST_US: Final = 1e15


@dataclass(frozen=True, slots=True)
class Place:
    """Where times were taken; what differs in any of this is never compared.

    Attributes
    ----------
    kind, name : str
        ``"cpu"`` or ``"cuda"``, and the processor's or the card's name.
    threads : int or None
        Of a CPU.
    capability, sms : (int, int), int
        Of a card; zeros where a file does not tell.
    """

    kind: str
    name: str
    threads: int | None = None
    capability: tuple[int, int] = (0, 0)
    sms: int = 0

    @property
    def what(self) -> str:
        """A word for people."""
        return "GPU" if self.kind == "cuda" else "CPU"


@dataclass(frozen=True, slots=True)
class Source:
    """A file; `content` has its facts, `path` is as it was given."""

    path: str
    content: Recording | ResultFile
    place: Place

    @property
    def what(self) -> str:
        """Which of the two it is."""
        if isinstance(self.content, Recording):
            return "recording"
        return "bench results" + ", cut short" * self.content.partial

    @property
    def strategy(self) -> str | None:
        """How a recording's candidates were proposed."""
        return self.content.strategy if isinstance(self.content, Recording) else None

    @property
    def problems(self) -> int:
        """How many are in it."""
        found = self.content
        return len(found.problems if isinstance(found, Recording) else found.records)


@dataclass(frozen=True, slots=True)
class Row:
    """One problem on one device: what the tuner recorded, what the benchmark found, or both.

    Attributes
    ----------
    recorded : Recorded or None
        From the latest recording that has it.
    record : Record or None
        From the latest result file that has it, one with a baseline before one without.
    floor_us : float or None
        The least time that the device allows, where its rates are known.
    """

    problem: ConvProblem
    place: Place
    recorded: Recorded | None
    record: Record | None
    floor_us: float | None

    @property
    def family(self) -> str:
        """One of `gpuconv.families.FAMILIES`."""
        return family(self.problem, self.place.sms) if self.place.sms else family(self.problem)

    @property
    def default_us(self) -> float | None:
        """What runs untuned."""
        return None if self.recorded is None else self.recorded.default.us

    @property
    def tuned_us(self) -> float | None:
        """What the tuner took."""
        return None if self.recorded is None else self.recorded.best.us

    @property
    def bench_us(self) -> float | None:
        """The public function in the benchmark, unless others disturbed it or it was wrong."""
        found = self.record
        return None if found is None or found.disturbed or found.wrong else found.us

    @property
    def us(self) -> float | None:
        """What gpuconv takes: tuned, where it was tuned."""
        return self.bench_us if self.tuned_us is None else self.tuned_us

    @property
    def gain(self) -> float | None:
        """The default's time divided by the tuned one's."""
        return None if self.recorded is None else self.recorded.gain

    @property
    def predicted_us(self) -> float | None:
        """What the model of the device expected of what was taken."""
        return None if self.recorded is None else self.recorded.best.predicted_us

    @property
    def baseline(self) -> str | None:
        """What was compared with."""
        return None if self.baseline_us is None or self.record is None else self.record.baseline

    @property
    def baseline_us(self) -> float | None:
        """Its time, unless others disturbed it."""
        return None if self.record is None or self.record.disturbed else self.record.baseline_us

    @property
    def ratio(self) -> float | None:
        """The baseline's time divided by gpuconv's: above 1 gpuconv is faster."""
        return None if self.baseline_us is None or self.us is None else self.baseline_us / self.us

    @property
    def share(self) -> float | None:
        """Of the floor: 1 is as fast as the device allows."""
        return None if self.floor_us is None or self.us is None else self.floor_us / self.us

    @property
    def kernel(self) -> str | None:
        """What runs it."""
        return self.recorded.best.kernel if self.recorded else self.record.kernel if self.record else None

    @property
    def config(self) -> str | None:
        """Its parameters."""
        return self.recorded.best.config if self.recorded else self.record.config if self.record else None

    @property
    def failures(self) -> list[tuple[str, list[str]]]:
        """Reasons why candidates were passed over, and which."""
        found: dict[str, list[str]] = {}
        for one in self.recorded.tried if self.recorded else ():
            if one.failure is not None:
                found.setdefault(one.failure, []).append(str(one))
        return list(found.items())


@dataclass(frozen=True, slots=True)
class Part:
    """One device: its problems, what gained most first, and the files that they are from."""

    place: Place
    rows: tuple[Row, ...]
    sources: tuple[Source, ...]

    @property
    def rates(self) -> Rates | None:
        """What is known about the device."""
        return _rates(self.place)

    @property
    def gain(self) -> float | None:
        """Geometric mean."""
        return geometric_mean([row.gain for row in self.rows if row.gain is not None])

    @property
    def ratio(self) -> float | None:
        """Geometric mean over the problems that have a baseline."""
        return geometric_mean([row.ratio for row in self.rows if row.ratio is not None])

    @property
    def worst(self) -> Row | None:
        """The problem with the lowest ratio."""
        return min((row for row in self.rows if row.ratio is not None), key=_ratio, default=None)

    @property
    def share(self) -> float | None:
        """Geometric mean of the share of the floor."""
        return geometric_mean([row.share for row in self.rows if row.share is not None])

    @property
    def tuned(self) -> int:
        """Problems that a tuner recorded."""
        return sum(row.recorded is not None for row in self.rows)

    @property
    def seconds(self) -> float:
        """That tuning them took."""
        return sum(row.recorded.seconds for row in self.rows if row.recorded is not None)

    @property
    def twice(self) -> int:
        """Recorded or benchmarked problems that a later file has too, and which are left out therefore."""
        kept = sum((row.recorded is not None) + (row.record is not None) for row in self.rows)
        return sum(source.problems for source in self.sources) - kept


@dataclass
class _Merged:
    """Problems of one device so far."""

    recorded: dict[ConvProblem, Recorded] = field(default_factory=dict)
    records: dict[ConvProblem, Record] = field(default_factory=dict)
    sources: list[Source] = field(default_factory=list)


def load(path: Path, name: str | None = None) -> Source:
    """Read a file of either kind; which one, its content tells.

    Raises
    ------
    ValueError
        If it is damaged, something else, or has no problems; says where and why.
    OSError
        If it cannot be read.
    """
    try:
        found = json.loads(path.read_bytes().decode("utf-8"))
    except RecursionError:
        raise ValueError(f"{path}: {_NEITHER}: nested too deeply") from None
    except ValueError as error:  # no UTF-8, no JSON
        raise ValueError(f"{path}: {_NEITHER}: {error}") from None
    names = found if isinstance(found, dict) else {}
    content: Recording | ResultFile
    if "problems" in names:
        content = Recording.load(path)
        place = _place(content.kind, content)
    elif "records" in names:
        content = ResultFile.load(path)
        place = _place("cuda" if "capability" in content.environment else "cpu", content)
    else:
        raise ValueError(f"{path}: {_NEITHER}")
    source = Source(str(path) if name is None else name, content, place)
    if not source.problems:
        raise ValueError(f"{path}: there is no problem in it")
    for us in _times(content):
        if us is not None and not _LEAST_US <= us <= _MOST_US:
            raise ValueError(f"{path}: {us:g} microseconds is no time that can be drawn")
    return source


def bring_together(sources: Iterable[Source]) -> list[Part]:
    """Sort what was found by device and problem; where files disagree, the latest of a kind counts."""
    by_place: dict[Place, _Merged] = {}
    for source in sorted(sources, key=lambda one: (one.content.date, one.path)):
        merged = by_place.setdefault(source.place, _Merged())
        merged.sources.append(source)
        if isinstance(source.content, Recording):
            merged.recorded |= {one.problem: one for one in source.content.problems}
            continue
        for record in source.content.records:
            p = ConvProblem.parse(record.problem)
            before = merged.records.get(p)
            if before is None or before.baseline_us is None or record.baseline_us is not None:
                merged.records[p] = record
    parts = [_part(place, merged) for place, merged in by_place.items()]
    return sorted(parts, key=lambda part: (part.place.kind != "cuda", part.place.name, str(part.place)))


def _times(content: Recording | ResultFile) -> Iterator[float | None]:
    if isinstance(content, Recording):
        return (us for one in content.problems for each in one.tried for us in (each.us, each.predicted_us))
    return (us for one in content.records for us in (one.us, one.baseline_us))


def _part(place: Place, merged: _Merged) -> Part:
    problems = dict.fromkeys([*merged.recorded, *merged.records])
    facts = _Card(place)
    rows = [
        Row(p, place, merged.recorded.get(p), merged.records.get(p), floor_us(p, facts)) for p in problems
    ]
    rows.sort(key=lambda row: (-(row.gain or 0), -(row.ratio or 0), str(row.problem)))
    return Part(place, tuple(rows), tuple(merged.sources))


@dataclass(frozen=True, slots=True)
class _Card:
    """A place as `gpuconv.families` asks for it."""

    place: Place

    @property
    def kind(self) -> str:
        return self.place.kind

    @property
    def name(self) -> str:
        return self.place.name

    @property
    def capability(self) -> tuple[int, int]:
        return self.place.capability


def _rates(place: Place) -> Rates | None:
    return rates(_Card(place))


def _place(kind: str, found: Recording | ResultFile) -> Place:
    """The environment may hold anything; what is not as it should be is not known."""
    said = found.environment
    if kind == "cpu":
        return Place(kind, found.device, threads=_count(said.get("threads")) or None)
    capability = said.get("capability")
    both = [_count(one) for one in capability] if isinstance(capability, list) else []
    known = (both[0], both[1]) if len(both) == 2 else (0, 0)
    return Place(kind, found.device, capability=known, sms=_count(said.get("sms")))


def _count(value: Any) -> int:
    return value if type(value) is int and 0 < value < 2**31 else 0


def _ratio(row: Row) -> float:
    assert row.ratio is not None
    return row.ratio
