"""Options of the benchmarks, and the table at the end of a run; measuring is `gpuconv.report`'s."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gpuconv import measure
from gpuconv.backend import detect, launch
from gpuconv.backend import device as devices
from gpuconv.backend.device import Device
from gpuconv.families import FAMILIES
from gpuconv.layout import LAYOUTS
from gpuconv.problem import DTYPES, OPS, ConvProblem
from gpuconv.report import baselines, environment, shapes, summary, tables
from gpuconv.report.baselines import Baseline
from gpuconv.report.measured import OURS, measure_problem
from gpuconv.report.records import Record, ResultFile


@dataclass
class Session:
    """What a run has found so far."""

    device: Device
    commit: str | None
    date: str = field(default_factory=environment.now)
    baselines: list[Baseline] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    extras: dict[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.records or self.extras)


SESSION = pytest.StashKey[Session]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Every choice a run leaves open; the same words as `gpuconv bench` has."""
    group = parser.getgroup("convolution benchmarks")

    def add(name: str, **how: Any) -> None:
        group.addoption(f"--{name}", dest=f"bench_{name}", **how)

    def add_several(name: str, choices: tuple[str, ...] | None, **how: Any) -> None:
        add(name, action="append", default=[], choices=choices, **how)

    add_several("op", OPS, help="operation; repeatable (default: fprop)")
    add_several("dtype", tuple(DTYPES), help="element type; repeatable (default: f32)")
    add_several("layout", LAYOUTS, help="layout; repeatable (default: nchw)")
    add_several("family", FAMILIES, help="only problems of this kind; repeatable")
    add("batch", type=_positive, metavar="N", help="batch size (default: 1 on the CPU, else the tables')")
    add_several("only", None, metavar="GLOB", help="only layers or problems of this name; repeatable")
    add("all", action="store_true", help="every layer of every table, not the default choice; takes hours")
    add("turns", type=_positive, default=measure.TURNS, help=f"of each side (default: {measure.TURNS})")
    add_several(
        "baseline", (*baselines.NAMES, "none"), help="compare with; repeatable (default: what is installed)"
    )
    add("device", choices=("cpu", "cuda"), default="cpu", help="where (default: cpu)")
    add("results", metavar="FILE", help="write what was measured to a JSON file")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Refuse what cannot work before anything is measured."""
    path = config.getoption("bench_results", None)
    if path is not None and not Path(path).resolve().parent.is_dir():
        raise pytest.UsageError(f"--results: there is no directory {Path(path).resolve().parent}")
    on_cuda = config.getoption("bench_device", "cpu") == "cuda"
    if on_cuda and not (found := detect.cuda()).names:
        raise pytest.UsageError(f"--device cuda: {found.why_not}")
    # a table of its own says the same in less; --benchmark-verbose shows both
    config.option.benchmark_quiet = True
    commit = None if path is None else environment.commit_of()
    session = config.stash[SESSION] = Session(launch.cuda(0) if on_cuda else devices.cpu(), commit)
    if "bench_baseline" in config.option:
        session.baselines = _baselines(config.getoption("bench_baseline"), session.device)
        problems(config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each problem, named by it."""
    if "problem" in metafunc.fixturenames:
        metafunc.parametrize("problem", problems(metafunc.config), ids=str)


def problems(config: pytest.Config) -> list[ConvProblem]:
    """What the options ask for."""

    def asked(name: str, default: Any) -> Any:
        return config.getoption(f"bench_{name}", None) or default

    on_cpu = config.stash[SESSION].device.kind == "cpu"
    found = shapes.choose(
        ops=asked("op", ["fprop"]),
        dtypes=asked("dtype", ["f32"]),
        layouts=asked("layout", ["nchw"]),
        families=asked("family", []),
        batch=asked("batch", 1 if on_cpu else None),
        only=asked("only", []),
        every=asked("all", False),
    )
    if not found:
        raise pytest.UsageError(
            "no layer is like that; names are as 'resnet50v1.5-*', --all looks at every one"
        )
    return found


@pytest.fixture(scope="session")
def session(pytestconfig: pytest.Config) -> Session:
    """Where a benchmark leaves what it measured."""
    return pytestconfig.stash[SESSION]


@pytest.fixture
def measured(benchmark: Any, session: Session, pytestconfig: pytest.Config) -> Callable[..., Record]:
    """Check and time a problem; pytest-benchmark gets every single time of ours.

    Its test must be marked ``pytest.mark.benchmark(timer=replay)``.
    """

    def run(p: ConvProblem) -> Record:
        try:
            found = measure_problem(
                p,
                session.device,
                baselines=session.baselines,
                turns=pytestconfig.getoption("bench_turns", measure.TURNS),
                commit=session.commit,
                timed=benchmark.enabled,
            )
        except (
            MemoryError,
            ModuleNotFoundError,
        ) as error:  # too large for here, or of a type that is not here
            pytest.skip(str(error))
        benchmark.extra_info.update({name: getattr(found.record, name) for name in found.record.__slots__})
        samples = found.timings[OURS].samples if found.timings else ()
        replay.load(samples)
        benchmark.pedantic(lambda: None, rounds=max(1, len(samples)))
        assert not found.record.wrong, f"error over bound: {found.record.error_over_bound}"
        return found.record

    return run


class Replay:
    """A timer that tells times measured before: pytest-benchmark asks it before and after each call."""

    __name__ = "replay"  # for pytest-benchmark's own report

    def __init__(self) -> None:
        self._ticks: list[float] = []

    def load(self, microseconds: tuple[float, ...]) -> None:
        """Tell these next."""
        self._ticks = [tick for each in reversed(microseconds) for tick in (each / 1e6, 0.0)]

    def __call__(self) -> float:
        return self._ticks.pop() if self._ticks else 0.0


replay = Replay()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    """The table, and the result file."""
    found = config.stash[SESSION]
    if not found:
        return
    terminalreporter.section("convolution benchmarks")
    for line in _lines(found):
        terminalreporter.write_line(line)
    path = config.getoption("bench_results", None)
    if path is None:
        return
    partial = exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    names = [side.name for side in found.baselines]
    ResultFile(
        device=found.device.name,
        date=found.date,
        commit=found.commit,
        environment=environment.environment(found.device, names),
        records=tuple(found.records),
        extras=found.extras,
        partial=partial,
    ).save(Path(path).resolve())
    terminalreporter.write_line(f"written: {path}" + ", cut short" * partial)


def _lines(found: Session) -> list[str]:
    lines: list[str] = []
    if found.records:
        lines += [*tables.legend(found.device, [side.name for side in found.baselines]), ""]
        table = tables.Lines(
            [record.problem for record in found.records], found.device, bool(found.baselines)
        )
        lines += [table.head(), *map(table.row, found.records), "", *tables.disturbed_line(found.records)]
        rows = summary.summary(found.records)
        lines += tables.plain(tables.summary_table(rows)) if rows else []
    if (call := found.extras.get("call_overhead")) is not None:
        beside = "" if call["baseline"] is None else f", {call['baseline']} {call['baseline_us']:.1f} µs"
        lines.append(f"call overhead: conv2d of {call['problem']} takes {call['us']:.1f} µs{beside}")
    if (imports := found.extras.get("import_seconds_beyond_numpy")) is not None:
        each = ", ".join(f"{name} {value * 1e3:.1f} ms" for name, value in imports.items())
        lines.append(f"import beyond NumPy: {each}")
    return lines


def _baselines(names: list[str], device: Device) -> list[Baseline]:
    if "none" in names:
        return []
    for name in names:
        if not baselines.installed(name):
            raise pytest.UsageError(f"--baseline {name}: it is not installed")
    wanted = names or [name for name in baselines.NAMES if baselines.installed(name)]
    return [side for name in wanted for side in baselines.load(name, device)]


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)
