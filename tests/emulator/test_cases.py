"""Every case under every schedule: kernel × config × problem × {forward, reverse} × {eager, lazy}."""

from __future__ import annotations

import pytest

from gpuconv.kernels.cuda.direct import CudaDirect
from tests import cases
from tests.emulator.launcher import SCHEDULES, emulated_device
from tests.emulator.machine import EmulatedMachine

ALL = cases.cases((CudaDirect(),), emulated_device())


@pytest.fixture(scope="module")
def machines(has_compiler):
    return [EmulatedMachine(schedule) for schedule in SCHEDULES]


def test_there_are_enough_problems():
    assert len({case.problem for case in ALL}) > 150


@pytest.mark.parametrize("case", ALL, ids=str)
def test_case(case, machines):
    cases.check(case, machines)
