"""The project's own tests of kernels, the most telling first, up to the first failure.

Files of tests that it is given by name, from ``tests/``, come before everything else.

Runs in a process of its own inside a copy of the checkout, and says on standard output, in lines that begin
with ``@``, what it is at and how it ended; see `tests.mutation.workshop`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: Cases that come before everything else.
FIRST = 40
#: Seconds after which one case, or one test, is taken for hung; most are done in one.
CASE_SECONDS, TEST_SECONDS = 120, 600
UNIT_TESTS = (
    "test_cuda_params.py", "test_cuda_src.py", "test_direct*.py", "test_correlation*.py", "test_gemm*.py",
    "test_mma*.py",
)  # fmt: skip
#: In this order: `test_direct.py` ends with sanitizers, and random examples take long to be made small.
EMULATOR_TESTS = (
    "test_direct_*.py",
    "test_split*.py",
    "test_border*.py",
    "test_elements*.py",
    "test_direct.py",
    "test_gemm_*.py",
    "test_gemm.py",
    "test_mma_*.py",
    "test_matrices.py",
    "test_mma.py",
    "test_random.py",
    "test_patches.py",
    "test_pad.py",
    "test_filters.py",
)
CPU_TESTS = ("test_patches.py", "test_filters.py")
_CONFIG = re.compile(r" \w+\(\w+=\d+(?:,\w+=\d+)*(?:\)|$)")


def say(kind: str, text: str) -> None:
    """Write a line for the process that started this one."""
    print(f"@{kind} {' '.join(text.split())}", flush=True)


class Failed(Exception):
    """A test found something; the text says what."""


def main() -> None:
    """Run everything; the last line is ``@caught``, ``@broken`` or ``@passed``."""
    # Pytest's own reports are for nobody, and what is said here must not end up among them.
    channel, sink = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    sys.stdout = os.fdopen(channel, "w", encoding="utf-8")
    try:
        passed = _run()
    except Failed as failure:
        say("caught", str(failure))
    except Exception as error:
        kind = "broken" if _does_not_compile(error) else "caught"
        say(kind, f"{type(error).__name__}: {first_line(error)}")
    else:
        say("passed", f"{passed[0]} cases, {passed[1]} tests")


def _run() -> tuple[int, int]:
    say("try", f"{CASE_SECONDS} the design of the cases")
    import gpuconv
    from tests import cases, design
    from tests.emulator.launcher import SCHEDULES
    from tests.emulator.machine import EmulatedMachine
    from tests.mutation.order import telling_first

    if Path(gpuconv.__file__).resolve().parent.parent != Path.cwd():
        say("broken", f"the copy is not what runs, but {gpuconv.__file__}")
        sys.exit()
    tests = sum(_pytest(folder, (name,), []) for folder, name in map(os.path.split, sys.argv[1:]))
    machines: list[Any] = [EmulatedMachine(schedule) for schedule in SCHEDULES]
    found = telling_first(design.cases(_kernels(), machines[0].device), machines[0].device)

    def check(some: list[cases.Case]) -> None:
        for case in some:
            say("try", f"{CASE_SECONDS} {case}")
            try:
                cases.check(case, machines)
            except Exception as error:
                if _does_not_compile(error):
                    raise
                raise Failed(f"{short(case)}: {first_line(str(error).removeprefix(f'{case}: '))}") from error

    check(found[:FIRST])
    for folder, patterns in (("unit", UNIT_TESTS), ("emulator", EMULATOR_TESTS), ("cpu", CPU_TESTS)):
        tests += _pytest(folder, patterns, found)
    check(found[FIRST:])
    return len(found), tests


def _kernels() -> tuple[Any, ...]:
    from gpuconv.kernels import registry
    from gpuconv.kernels.cuda.base import CudaKernel
    from gpuconv.kernels.cuda.direct import CudaDirect

    registered = tuple(kernel for kernel in registry.kernels() if isinstance(kernel, CudaKernel))
    return registered or (CudaDirect(),)


def short(case: Any) -> str:
    """A case by its problem and its arrays' place."""
    return f"{case.problem} offset {case.offset}"


def first_line(error: BaseException | str) -> str:
    """The first line of a report that says something; of NumPy's, also how much differs."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    for line in lines:
        if ": error:" in line or "static assertion failed" in line:  # g++ begins with where it is
            return line[line.find("error:") :] if "error:" in line else line
    differs = [line for line in lines if line.startswith(("Mismatched elements", "nan location"))]
    # a case's config is long, and its problem says enough
    return _CONFIG.sub("", " ".join([*lines[:1], *differs]))[:200] or type(error).__name__


def _does_not_compile(error: BaseException) -> bool:
    """Whether a compiler refuses the fault: a person would never see it run. Static assertions are tests."""
    return type(error).__name__ == "CompileError" and "static assertion failed" not in str(error)


class _Watch:
    """A pytest plugin: says which test runs, leaves out the cases that ran, keeps the first failure."""

    def __init__(self, done: list[Any]) -> None:
        self.done = {str(case) for case in done}
        self.failure = ""
        self.passed = 0

    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:
        """Drop the all-pairs test, whatever its name: it takes one of its cases as a parameter."""
        items[:] = [item for item in items if not any(str(value) in self.done for value in _parameters(item))]

    def pytest_collectreport(self, report: Any) -> None:
        """A module that cannot be imported."""
        if report.failed and not self.failure:
            self.failure = f"{report.nodeid}: {_last_error(report)}"

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """One more test begins."""
        say("try", f"{TEST_SECONDS} {nodeid}")

    def pytest_runtest_logreport(self, report: Any) -> None:
        """One more is over, or a part of it."""
        self.passed += report.when == "call" and report.passed
        if report.failed and not self.failure:
            self.failure = f"{report.nodeid}: {_last_error(report)}"


def _parameters(item: Any) -> Iterator[Any]:
    call = getattr(item, "callspec", None)
    return iter(call.params.values() if call else ())


def _last_error(report: Any) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return first_line(crash.message if crash else str(report.longrepr))


def _pytest(folder: str, patterns: tuple[str, ...], done: list[Any]) -> int:
    """Run a folder's tests, as many as there are; how many passed."""
    import pytest

    paths = list(dict.fromkeys(path for one in patterns for path in sorted(Path("tests", folder).glob(one))))
    if not paths:
        return 0
    watch = _Watch(done)
    # cases imported what pytest would like to rewrite
    options = ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    code = pytest.main([*options, *map(str, paths)], plugins=[watch])
    if watch.failure:
        raise Failed(watch.failure)
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise Failed(f"pytest ended with {code!r} over tests/{folder}")
    return watch.passed


if __name__ == "__main__":
    main()
