"""The answers that GPUs are held against are still the emulator's, under every schedule."""

from __future__ import annotations

import re

import numpy as np
import pytest

from gpuconv.backend.source import cuda_source_folder
from tests.emulator.launcher import SCHEDULES
from tests.primitives import probes


@pytest.fixture(scope="module")
def folder(has_compiler, tmp_path_factory):
    return tmp_path_factory.mktemp("probes")


def test_the_record_has_every_probe():
    assert list(probes.recorded()) == list(probes.PROBES)


@pytest.mark.parametrize("name", probes.PROBES)
def test_answers(folder, name):
    """If not: python -m tests.primitives.probes, once it is clear that the emulator is right."""
    expected = probes.decode(probes.recorded()[name])
    for schedule in SCHEDULES:
        got = probes.answer(probes.PROBES[name], probes.emulated(folder, schedule))
        np.testing.assert_array_equal(got, expected, err_msg=f"{name} {schedule}")


def test_all_the_shared_memory_of_a_block(folder):
    for size in (1024, 96 * 1024, 232448):
        got = probes.answer(probes.large_shared(size), probes.emulated(folder))
        assert got.tolist() == [3 * (31 - i) + 1 for i in range(32)]


def test_words_survive_the_text():
    words = np.array([0, 1, 2**32 - 1, 5, 5, 2**31], np.uint32)
    np.testing.assert_array_equal(probes.decode(probes.encode(words)), words)


def test_every_wrapper_has_a_probe():
    source = (probes.HERE / "kernels" / probes.FILE).read_text(encoding="utf-8")
    for header in (cuda_source_folder() / "include" / "gpuconv" / "ptx").glob("*.cuh"):
        for name in re.findall(r"__forceinline__ [\w ]+?\*? ?(\w+)\(", header.read_text(encoding="utf-8")):
            if name != "Bits":
                assert re.search(rf"ptx::{name}\b", source), f"{name} of {header.name} has no probe"
