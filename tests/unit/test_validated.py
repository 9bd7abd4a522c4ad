"""One problem validated on a device: which kernels and configs run, and what is said of their results."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace

import numpy as np
import pytest

from gpuconv.backend.launch import using
from gpuconv.errors import LaunchError, LaunchRefused
from gpuconv.kernels import registry
from gpuconv.problem import ConvProblem
from gpuconv.report import validated

from ..stand_in import DeviceArray, MadeUp, StandIn

P = ConvProblem.parse("fprop_n2c4h6w5k3r3s3p1_nhwc_f16+bias+res+relu")


@pytest.fixture
def launcher():
    made = StandIn()
    with using(made):
        yield made


@pytest.fixture
def kernels(monkeypatch):
    found = [MadeUp("best", 9, levels=3), MadeUp("other")]
    monkeypatch.setattr(registry, "kernels", lambda: tuple(found))
    return found


def validate(launcher, p=P, **how):
    return validated.validate(
        p, launcher.device(0), put=lambda array: DeviceArray(array), get=lambda array: array.hidden, **how
    )


def test_every_kernel_runs_by_its_default_and_what_it_falls_back_to(launcher, kernels):
    found = validate(launcher)
    levels = [("best", 2), ("best", 1), ("best", 0), ("other", 2)]
    assert [(one.kernel, one.config) for one in found.checked] == [(k, f"level={n}") for k, n in levels]
    assert launcher.ran == [f"{kernel}{n}(level={n})" for kernel, n in levels]
    assert all(0 < one.error_over_bound <= 1 and not one.wrong for one in found.checked)
    assert (found.problem, found.looked_at, found.elements) == (str(P), 180, 180)
    assert [one.kernel for one in validate(launcher, kernels=("other",)).checked] == ["other"]
    every = validate(launcher, every_config=True).checked
    assert len(every) == 6


def test_kernels_that_do_not_take_it_say_why(launcher, monkeypatch, kernels):
    monkeypatch.setattr(kernels[1], "check", lambda p, device: kernels[1].reject("has no such thing"))
    found = validate(launcher)
    assert [str(reject) for reject in found.rejects] == ["other: has no such thing"]
    assert {one.kernel for one in found.checked} == {"best"}


def test_what_a_device_refuses_is_told_and_the_rest_goes_on(launcher, kernels):
    launcher.refusals["launch", "best2"] = LaunchRefused("too many resources\nrequested")
    found = validate(launcher).checked
    assert found[0].failure == "too many resources requested"
    assert (found[0].error_over_bound, found[0].wrong) == (None, False)
    assert all(one.failure is None for one in found[1:])
    launcher.refusals["launch", "best2"] = ZeroDivisionError("of nothing")
    found = validate(launcher).checked
    assert found[0].failure == "ZeroDivisionError: of nothing"
    assert all(one.failure is None for one in found[1:])
    launcher.refusals["launch", "best2"] = LaunchError("illegal address")
    with pytest.raises(LaunchError, match=rf"^{re.escape(str(P))} best\(level=2\): illegal address$"):
        validate(launcher)


class DriversOwn(RuntimeError):
    """What CuPy raises where it waits for a device."""


def test_a_device_that_is_lost_shows_at_the_copy_and_the_kernel_is_named(launcher, kernels):
    copies = []

    def get(array):
        copies.append(array)
        if len(copies) > 6:  # the result and four operands of the first
            raise DriversOwn("an illegal address\nwas met")
        return array.hidden

    with pytest.raises(LaunchError, match=r"_f16\S* best\(level=1\): an illegal address was met$"):
        validated.validate(P, launcher.device(0), put=DeviceArray, get=get)


@pytest.mark.parametrize("name", ["a", "b", "bias", "residual"])
def test_who_writes_to_an_operand_is_named_and_the_next_is_not_blamed(launcher, kernels, monkeypatch, name):
    right = StandIn.compute

    def compute(self, p, addresses):
        right(self, p, addresses)
        if self.ran[-1].startswith("best1"):
            self.view(addresses[name], (1,), p)[0] += 8

    monkeypatch.setattr(StandIn, "compute", compute)
    found = validate(launcher).checked
    assert [one.overwrites for one in found] == [(), (name,), (), ()]
    assert [one.wrong for one in found] == [False, True, False, False]
    assert all(one.within for one in found)


def test_what_is_left_unwritten_is_wrong(launcher, kernels, monkeypatch):
    monkeypatch.setattr(StandIn, "compute", lambda self, p, addresses: None)
    for one in validate(launcher).checked:
        assert one.wrong
        assert one.got == "nan"


def test_the_worst_element_is_named_with_what_is_there_and_what_should_be(launcher, kernels, monkeypatch):
    right = StandIn.compute

    def compute(self, p, addresses):
        right(self, p, addresses)
        out = self.view(addresses["out"], p.operand_shapes[2], p)
        out[0, 1, 2, 1] += 8

    monkeypatch.setattr(StandIn, "compute", compute)
    one = validate(launcher).checked[0]
    assert one.wrong
    assert one.worst == (0, 1, 2, 1)
    assert float.fromhex(one.got) - float.fromhex(one.right) == pytest.approx(8, abs=0.02)
    monkeypatch.setattr(validated.measure.tolerance, "WHOLE_UP_TO", 0)
    found = validate(launcher)
    assert (found.checked[0].worst, found.checked[0].got) == (one.worst, one.got)
    assert float.fromhex(found.checked[0].right) == pytest.approx(float.fromhex(one.right))


def test_other_libraries_errors_are_no_faults_of_ours(launcher, kernels):
    class Fails:
        name = "another"

        def __init__(self, error, after):
            self.error, self.after = error, after

        def results(self, p, given):
            yield from [("way", validated.measure.expected(p, given).values)] * self.after
            raise self.error

    found = validate(launcher, opinion=Fails(RuntimeError("no\nengine"), 0))
    assert (found.beside.error_over_bound, found.beside.reason) == (None, "no engine")
    assert found.checked[0].apart is None
    found = validate(launcher, opinion=Fails(MemoryError(), 1))
    assert (found.beside.error_over_bound, found.beside.reason, found.beside.ways) == (0, None, 1)
    assert found.checked[0].apart == found.checked[0].error_over_bound
    found = validate(launcher, opinion=Fails(KeyError("odd"), 0))
    assert found.beside.reason == "KeyError: 'odd'"
    assert all(one.failure is None for one in found.checked)
    with pytest.raises(LaunchError, match=rf"^{re.escape(str(P))} another: lost"):
        validate(launcher, opinion=Fails(LaunchError("lost"), 0))

    def get(array):
        raise DriversOwn("an illegal address")

    with pytest.raises(LaunchError, match=r" another: an illegal address; before that odd$"):
        validated.validate(
            P, launcher.device(0), opinion=Fails(RuntimeError("odd"), 0), put=DeviceArray, get=get
        )


def test_a_result_of_another_shape_is_a_reason(launcher, kernels):
    class Odd:
        name = "another"

        def results(self, p, given):
            yield from [("way", np.zeros((1, 2, 3, 4)))] * given.a.size

    found = validate(launcher, opinion=Odd())
    assert found.beside.reason.startswith("ValueError: result has shape (1, 2, 3, 4), expected is")
    assert found.checked[0].apart is None
    monkey = type("Silent", (), {"name": "another", "results": lambda self, p, given: iter(())})()
    assert validate(launcher, opinion=monkey).beside.reason == "gives no result"


def test_tf32_is_judged_by_its_own_bound_in_other_libraries_only(launcher, kernels):
    p = ConvProblem.parse("fprop_n2c64h6w5k3r3s3p1_nhwc_f32_tf32")

    class Rounds:
        name = "another"

        def __init__(self, keep):
            self.keep = keep

        def results(self, p, given):
            cut = [cut_to(array, self.keep) for array in given[:2]]
            yield "way", validated.measure.expected(p, given._replace(a=cut[0], b=cut[1])).values

    found = validate(launcher, p, opinion=Rounds(10))
    assert 0.001 < found.beside.error_over_bound <= 1
    assert found.beside.outside == 0
    assert all(one.within and one.apart <= 2 for one in found.checked)
    assert validate(launcher, replace(p, precision="ieee"), opinion=Rounds(10)).beside.outside == 1
    assert validate(launcher, p, opinion=Rounds(3)).beside.outside == 1
    expected = validated.measure.expected(p, validated.measure.operands(p))
    assert not expected.judge(next(Rounds(10).results(p, validated.measure.operands(p)))[1]).ok


def cut_to(array, keep):
    """float32 with so many bits behind the point, the others cut."""
    mask = np.uint32(0xFFFFFFFF << (23 - keep) & 0xFFFFFFFF)
    return (array.view(np.uint32) & mask).view(np.float32)


def test_an_error_without_limit_is_no_warning():
    p = ConvProblem.parse("fprop_n1c1h2w2k1r1s1_nchw_f64")
    zeros = validated.measure.Operands(np.zeros(p.x_shape), np.zeros(p.w_shape))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        verdict = validated.measure.expected(p, zeros).judge(np.ones(p.y_shape))
    assert verdict.error_over_bound == np.inf


def test_an_empty_result_is_right(launcher, kernels):
    found = validate(launcher, ConvProblem.parse("fprop_n0c4h8w8k4r3s3_nchw_f32"))
    assert [one.error_over_bound for one in found.checked] == [0.0] * len(found.checked)
    assert found.elements == 0
