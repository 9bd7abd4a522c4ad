"""Options of the benchmarks, and the table at the end of a run."""

from __future__ import annotations

from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

import pytest

from bench import baseline as baselines
from bench import layers, measure
from bench.report import Report, commit_of
from gpuconv.backend import device
from gpuconv.layout import LAYOUTS
from gpuconv.problem import DTYPES, OPS, ConvProblem

REPORT = pytest.StashKey[Report]()
COMMIT = pytest.StashKey[str | None]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Every choice a run leaves open."""
    group = parser.getgroup("convolution benchmarks")

    def add(name: str, **how: Any) -> None:
        group.addoption(f"--{name}", dest=f"bench_{name.replace('-', '_')}", **how)

    add("op", action="append", choices=OPS, help="operation; repeatable (default: fprop)")
    add("dtype", choices=tuple(DTYPES), default="f32", help="element type (default: f32)")
    add("layout", choices=LAYOUTS, default="nchw", help="layout (default: nchw)")
    add("batch", type=_positive, default=1, metavar="N", help="batch size of every layer (default: 1)")
    add(
        "family",
        action="append",
        metavar="NAME",
        help="only layers whose name begins like this, as vgg16 or sdxl-unet; repeatable",
    )
    add("all", action="store_true", help="every layer of every table, not the default choice; takes hours")
    add(
        "turns",
        type=_positive,
        default=measure.TURNS,
        metavar="N",
        help=f"turns of each side (default: {measure.TURNS})",
    )
    add("no-baseline", action="store_true", help="leave PyTorch out even if it is installed")
    add("results", metavar="FILE", help="write what was measured to a JSON file")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Refuse what cannot work before anything is measured."""
    path = config.getoption("bench_results", None)
    if path is not None and not Path(path).resolve().parent.is_dir():
        raise pytest.UsageError(f"--results: there is no directory {Path(path).resolve().parent}")
    for family in config.getoption("bench_family", None) or []:
        known = layers.read_all()
        if not any(layer.name.startswith(family) for layer in known):
            names = ", ".join(dict.fromkeys(layer.family for layer in known))
            raise pytest.UsageError(f"--family: no layer is called {family}…; families are {names}")
    # a table of its own says the same in less; --benchmark-verbose shows both
    config.option.benchmark_quiet = True
    config.stash[REPORT] = Report(device.cpu())
    config.stash[COMMIT] = None if path is None else commit_of()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each operation of each distinct layer, named by its problem."""
    if "problem" in metafunc.fixturenames:
        metafunc.parametrize("problem", problems(metafunc.config), ids=str)


def problems(config: pytest.Config) -> list[ConvProblem]:
    """What the options ask for; layers that are the same problem appear once."""
    families, every = config.getoption("bench_family", None) or [], config.getoption("bench_all", False)
    chosen = layers.select(layers.read_all(), families, every)
    dtype, layout = config.getoption("bench_dtype", "f32"), config.getoption("bench_layout", "nchw")
    batch = config.getoption("bench_batch", 1)
    return list(
        dict.fromkeys(
            layer.problem(op, dtype, layout, batch)
            for op in config.getoption("bench_op", None) or ["fprop"]
            for layer in chosen
        )
    )


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> Report:
    """Where a benchmark leaves what it measured."""
    return pytestconfig.stash[REPORT]


@pytest.fixture(scope="session")
def turns(pytestconfig: pytest.Config) -> int:
    """Turns of each side."""
    count: int = pytestconfig.getoption("bench_turns", measure.TURNS)
    return count


@pytest.fixture(scope="session")
def baseline(pytestconfig: pytest.Config, report: Report) -> baselines.TorchBaseline | None:
    """PyTorch with as many threads as gpuconv has, if it is there and wanted."""
    if pytestconfig.getoption("bench_no_baseline", False):
        return None
    found = baselines.load(report.device.threads)
    report.baseline = None if found is None else found.name
    return found


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    """The table; then the result file, unless the run was cut short."""
    found = config.stash[REPORT]
    if not found:
        return
    terminalreporter.section("convolution benchmarks")
    for line in found.lines():
        terminalreporter.write_line(line)
    path = config.getoption("bench_results", None)
    if path is None:
        return
    if exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        terminalreporter.write_line(f"not written, the run was cut short: {path}")
        return
    found.write(Path(path).resolve(), config.stash[COMMIT])
    terminalreporter.write_line(f"written: {path}")


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)
