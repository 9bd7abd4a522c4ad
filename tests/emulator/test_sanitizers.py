"""The sanitizers find what was planted, and nothing else."""

from __future__ import annotations

import pytest

from tests.emulator import sanitize
from tests.emulator.test_threads import line_of

CODE = """
import struct
import numpy as np
from gpuconv.backend.launch import Binary, KernelSpec
from tests.emulator.conftest import PROBES
from tests.emulator.launcher import SCHEDULES, Emulator

for schedule in SCHEDULES:
    emulator = Emulator(schedule=schedule, sources=PROBES)
    a = emulator.array(np.arange(64, dtype=np.uint32))
    out = emulator.array(np.zeros(64, np.uint32))
    block, smem = {block}
    file, params = Binary("{file}.cu", (), "sm_80"), struct.pack("4i", *{numbers}){cut}
    spec = KernelSpec(file, "{entry}", (2, 1, 1), (block, 1, 1), smem, ("a", "out"), params)
    (run,) = emulator.load((spec,), emulator.device(0))
    try:
        run(spec.pack(dict(a=a.pointer, out=out.pointer)))
    except Exception as error:
        print(type(error).__name__, error)
print("done")
"""


@pytest.fixture
def sanitized(has_compiler, need):
    def run(which, entry, *numbers, file="cells", block=32, smem=256):
        if not sanitize.available(which):
            need("emulator", f"g++ has no library for -fsanitize={which}")
        numbers = (*numbers, 0, 0, 0, 0)[:4]
        cut = "[:8]" if file == "cells" else ""
        code = CODE.format(file=file, entry=entry, numbers=numbers, block=(block, smem), cut=cut)
        outcome = sanitize.run(which, code)
        assert outcome.output.endswith("done\n"), outcome.log
        return outcome

    return run


def test_a_race_is_found_though_values_may_be_right(sanitized):
    outcome = sanitized("thread", "race", 1, 0)
    assert outcome.reports
    assert "data race" in outcome.reports[0]
    line = line_of("cells", "void race") + 1
    assert f"cells.cu:{line}" in outcome.reports[0]
    assert f"cells.cu:{line + 2}" in outcome.reports[0]


@pytest.mark.parametrize(("entry", "numbers"), [("race", (1, 1)), ("rotate", (5,))])
def test_barriers_end_races(sanitized, entry, numbers):
    outcome = sanitized("thread", entry, *numbers)
    assert outcome.reports == ()


def test_memory_behind_the_window(sanitized):
    outcome = sanitized("address", "scribble", 60, smem=60)
    assert any("AddressSanitizer" in report for report in outcome.reports), outcome.log
    assert f"cells.cu:{line_of('cells', 'dynamic_shared()[p.n]')}" in outcome.log


def test_a_local_array_beyond_its_end(sanitized):
    outcome = sanitized("address", "local_array", 1, 0)
    assert any("index 8 out of bounds" in report or "stack-buffer" in report for report in outcome.reports)
    assert sanitized("address", "local_array", 0, 7).reports == ()


def test_undefined_arithmetic(sanitized):
    outcome = sanitized("address", "overflow", 1, 0)
    assert any("signed integer overflow" in report for report in outcome.reports), outcome.log
    assert sanitized("address", "overflow", 0, 0).reports == ()


@pytest.mark.parametrize("which", ["address", "thread"])
def test_sound_copies(sanitized, which):
    outcome = sanitized(which, "piece", 12, 0, 0, file="copies", block=1)
    assert outcome.reports == (), outcome.log


@pytest.mark.parametrize("which", ["address", "thread"])
def test_faults_are_still_reports(sanitized, which):
    outcome = sanitized(which, "read_global", 1 << 12)
    assert "behind the end of" in outcome.output, outcome.log
