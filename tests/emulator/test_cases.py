"""Every case under every schedule: kernel × config × problem × {forward, reverse} × {eager, lazy}."""

from __future__ import annotations

import pytest

from gpuconv.kernels.cuda.direct import CudaDirect
from tests import cases, design
from tests.conftest import FULL
from tests.emulator.launcher import SCHEDULES, emulated_device
from tests.emulator.machine import EmulatedMachine

ALL = design.cases((CudaDirect(),), emulated_device())


@pytest.fixture(scope="module")
def machines(has_compiler):
    return [EmulatedMachine(schedule) for schedule in SCHEDULES]


def test_the_list_that_other_machines_read_is_of_this_design():
    """If not: python -m tests.design."""
    if FULL:
        pytest.skip("the list is of the quick design")
    assert cases.LIST.read_text(encoding="utf-8") == design.listed_text()
    assert [case.line for case in cases.listed()] == [case.line for case in ALL]


def test_there_are_enough_problems():
    assert len({case.problem for case in ALL}) > 150


@pytest.mark.parametrize("case", ALL, ids=str)
def test_case(case, machines):
    cases.check(case, machines)
