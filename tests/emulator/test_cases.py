"""Every case under every schedule: kernel × config × problem × {forward, reverse} × {eager, lazy}."""

from __future__ import annotations

import pytest

from gpuconv.kernels.cuda.direct import CudaDirect
from gpuconv.problem import ConvProblem
from tests import cases, design
from tests.conftest import FULL
from tests.emulator.launcher import SCHEDULES, emulated_device
from tests.emulator.machine import EmulatedMachine

ALL = design.every(emulated_device())


@pytest.fixture(scope="module")
def machines(has_compiler):
    return [EmulatedMachine(schedule) for schedule in SCHEDULES]


def test_the_list_that_other_machines_read_is_of_this_design():
    """If not: python -m tests.design."""
    if FULL:
        # GPUCONV_FULL makes another design, which is not listed
        pytest.skip("the list is of the quick design")
    assert cases.LIST.read_text(encoding="utf-8") == design.listed_text()
    assert [case.line for case in cases.listed()] == [case.line for case in ALL]


def test_there_are_enough_problems():
    assert len({case.problem for case in ALL}) > 150


class Wrong(EmulatedMachine):
    """Gives the third element of every result wrongly."""

    def get(self, array):
        result = super().get(array)
        result.reshape(-1)[2] += 64
        return result


def test_a_mismatch_tells_all_that_a_test_needs(has_compiler):
    p = ConvProblem.parse("fprop_n1c1h3w4k1r1s1_nchw_f32")
    machine = Wrong()
    case = cases.Case(p, CudaDirect(), CudaDirect().default_config(p, machine.device))
    with pytest.raises(cases.Mismatch) as caught:
        cases.check(case, [machine])
    found = caught.value.details
    assert found["case"] == case.line
    assert found["operands"] == "operands(p, 1, integers=True)"
    assert (found["wrong"], found["at"], found["shape"]) == (1, [[0, 0, 0, 2]], [1, 1, 3, 4])
    (got,), (expected,) = found["got"], found["expected"]
    assert float.fromhex(got) - float.fromhex(expected) == 64


@pytest.mark.parametrize("case", ALL, ids=str)
def test_case(case, machines):
    cases.check(case, machines)
