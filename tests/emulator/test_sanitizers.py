"""The sanitizers find what was planted, and nothing else; in patches and borders, nothing."""

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

#: Every kernel that makes its results one by one: layouts, vectors or none, long sums, borders, conversions.
SOUND = """
import numpy as np
import gpuconv
from gpuconv.backend.launch import using
from gpuconv.problem import ConvProblem
from tests import patches
from tests.emulator.launcher import SCHEDULES, Emulator
from tests.problems import NUMPY

for schedule in SCHEDULES:
    emulator = Emulator(schedule=schedule)
    with using(emulator):
        for text, offset in {problems}:
            p = ConvProblem.parse("fprop_" + text)
            x, cols, options = patches.images(p), patches.columns(p), patches.options_of(p)
            found = gpuconv.unfold(emulator.array(x, offset=offset), **options).get()
            np.testing.assert_array_equal(found, patches.by_cells(p, x))
            found = gpuconv.fold(emulator.array(cols, offset=offset), p.x_shape, **options).get()
            np.testing.assert_array_equal(found, patches.summed(p, cols).astype(found.dtype))
        for dtype, boundary in (("u1", "symm"), ("f2", "wrap"), ("i8", "fill")):
            in1, in2 = np.arange(42).reshape(7, 3, 2).astype(dtype), np.ones((5, 9), np.float32)
            there = emulator.array(in1[::-1])[::-1], emulator.array(in2, offset=1)
            found = gpuconv.correlate2d(*there, "full", boundary, 2).get()
            np.testing.assert_array_equal(found, gpuconv.correlate2d(in1, in2, "full", boundary, 2))
print("done")
"""
GATHERED = (
    ("n2c3h7w9k1r3s3p1_nchw_f32", 0),
    ("n1c16h6w5k1r3s2p2d2x3_nhwc_f16", 3),
    ("n1c3h9w8k1r6s6u1x2p3_nhwc_f64", 1),
    ("n1c8h6w5k1r6s5p3_nhwc_f16", 0),
)


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


@pytest.mark.parametrize("which", ["address", "thread"])
def test_patches_and_borders(has_compiler, need, which):
    if not sanitize.available(which):
        need("emulator", f"g++ has no library for -fsanitize={which}")
    outcome = sanitize.run(which, SOUND.format(problems=GATHERED))
    assert outcome.output.endswith("done\n"), outcome.log
    assert outcome.reports == (), outcome.log
