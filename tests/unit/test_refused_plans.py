"""A device that refuses a plan gets the next one; launchers and threads keep their plans apart."""

from __future__ import annotations

import gc
import threading
import time
import warnings

import numpy as np
import pytest

import gpuconv
from gpuconv import calls, dispatch
from gpuconv.backend import launch
from gpuconv.backend.device import Device
from gpuconv.errors import CompileError, LaunchError, LaunchRefused

from ..problems import public_call, with_op
from ..stand_in import FUSED, PLAIN, DeviceArray, MadeUp, StandIn, prepared, same

REFUSALS = {
    "compile": ("load", CompileError("direct.cu(3): error: no\nand more")),
    "refused at load": ("load", LaunchRefused("too much shared memory\n")),
    "no memory at load": ("load", MemoryError("pool is empty")),
    "refused at launch": ("launch", LaunchRefused("out of resources")),
    "no memory at launch": ("launch", MemoryError()),
}


@pytest.mark.parametrize("failure", REFUSALS)
@pytest.mark.parametrize("p", [PLAIN, FUSED, with_op(str(PLAIN), "dgrad"), with_op(str(PLAIN), "wgrad")])
def test_a_refused_plan_is_replaced_with_one_warning(card, kernels, failure, p):
    kernels(MadeUp("second"), MadeUp("first", 5, scribbles=True), MadeUp("third", -1))
    given, right = prepared(p)
    when, error = REFUSALS[failure]
    card.refusals[when, "first2"] = error
    with pytest.warns(RuntimeWarning) as warned:
        same(public_call(p, given), right)
    reason = (str(error) or "MemoryError").splitlines()[0]
    (message,) = [str(each.message) for each in warned]
    assert message == (f"{p} on cuda: first(level=2) failed, second(level=2) takes over: {reason}")
    # from now on without a word, even once the first would do
    loads = card.counts["load"]
    card.refusals.clear()
    same(public_call(p, given), right)
    same(public_call(p, given, tune=False), right)
    calls._plans.clear()
    same(public_call(p, given), right)
    assert set(card.ran) == {"second2(level=2)"}
    assert card.counts["load"] == loads
    plan = dispatch.plan_for(p, card.device(0))
    assert plan.kernel == "second"
    assert plan is dispatch.plan_for(p, card.device(0))


def test_a_plan_may_be_refused_long_after_it_was_chosen(card, kernels):
    kernels(MadeUp("first", 5, scribbles=True), MadeUp("second"))
    given, right = prepared(PLAIN)
    early = dispatch.plan_for(PLAIN, card.device(0))
    for _ in range(2):
        same(public_call(PLAIN, given), right)
    card.refusals["launch", "first2"] = LaunchRefused("no")
    out = DeviceArray(np.full_like(right, 7))
    with pytest.warns(RuntimeWarning, match="first.* failed, second"):
        assert public_call(PLAIN, given, out=out) is out
    same(out, right)
    # whoever holds the plan from before gets the new one, too
    out = DeviceArray(np.full_like(right, 7))
    early(given["a"], given["b"], out)
    same(out, right)
    assert card.ran == ["first2(level=2)"] * 2 + ["second2(level=2)"] * 2


def test_no_workspace_no_plan(card, kernels):
    kernels(MadeUp("first", 5, scratch=64, levels=3))
    given, right = prepared(PLAIN)
    card.no_memory_for = ("u8",)
    with pytest.warns(RuntimeWarning) as warned:
        same(public_call(PLAIN, given), right)
    one, two = [str(each.message) for each in warned]  # level 1 takes a workspace as well; 0 does without
    assert one.endswith("first(level=2) failed, first(level=1) takes over: no room for u8")
    assert two.endswith("first(level=1) failed, first(level=0) takes over: no room for u8")
    assert card.ran == ["first0(level=0)"]


def test_all_defaults_come_before_anything_less_demanding(card, kernels):
    kernels(MadeUp("low", -1, levels=2), MadeUp("high", 1, levels=3), MadeUp("middle"))
    order = ["high2", "middle2", "low2", "high1", "high0", "low1"]  # a default is not tried twice
    given, _ = prepared(PLAIN)
    for entry in order:
        card.refusals["load", entry] = CompileError(f"not {entry}")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(gpuconv.UnsupportedProblem) as raised:
            public_call(PLAIN, given)
    names = [f"{entry[:-1]}(level={entry[-1]})" for entry in order]
    assert [(each.kernel, each.reason) for each in raised.value.rejects] == [
        (name, f"not {entry}") for name, entry in zip(names, order, strict=True)
    ]
    assert raised.value.__cause__ is card.refusals["load", "low1"]
    assert raised.value.problem == str(PLAIN)
    assert len(warned) == len(order) - 1
    # where nothing worked there is nothing to keep to: memory may be free again
    card.refusals.clear()
    public_call(PLAIN, given)
    assert card.ran == ["high2(level=2)"]


def test_kernels_that_do_not_take_the_problem_are_among_the_reasons(card, kernels):
    class Never(MadeUp):
        def check(self, p, device):
            return self.reject("never does")

    kernels(Never("never"), MadeUp("only"))
    card.refusals["launch", "only2"] = LaunchRefused("not today")
    with pytest.raises(gpuconv.UnsupportedProblem) as raised:
        public_call(PLAIN, prepared(PLAIN)[0])
    assert [str(each) for each in raised.value.rejects] == ["only(level=2): not today", "never: never does"]
    assert isinstance(raised.value.__cause__, LaunchRefused)


@pytest.mark.parametrize("when", ["load", "launch"])
def test_a_lost_device_names_the_plan_and_nothing_else_is_tried(card, kernels, when):
    kernels(MadeUp("first", 5, levels=3), MadeUp("second"))
    card.refusals[when, "first2"] = LaunchError("illegal address")
    given, _ = prepared(PLAIN)
    for _ in range(2):
        with pytest.raises(LaunchError) as raised:
            public_call(PLAIN, given)
        assert str(raised.value) == f"{PLAIN} on cuda: first(level=2): illegal address"
        assert raised.value.__cause__ is card.refusals[when, "first2"]
    assert not card.ran


@pytest.mark.parametrize("when", ["load", "launch"])
@pytest.mark.parametrize("error", [CompileError("no"), LaunchRefused("no"), MemoryError("no")])
def test_a_forced_kernel_raises_its_own_error(card, kernels, monkeypatch, when, error):
    kernels(MadeUp("first", 5, levels=3), MadeUp("second"))
    given, right = prepared(PLAIN)
    monkeypatch.setenv("GPUCONV_KERNEL", "first")
    card.refusals[when, "first2"] = error
    for _ in range(2):
        with pytest.raises(type(error)) as raised:
            public_call(PLAIN, given)
        assert raised.value is error
    monkeypatch.setenv("GPUCONV_CONFIG", "level=1")
    same(public_call(PLAIN, given), right)
    monkeypatch.setenv("GPUCONV_KERNEL", "second")
    same(public_call(PLAIN, given), right)
    monkeypatch.setenv("GPUCONV_CONFIG", "level=3")
    with pytest.raises(ValueError, match=r"^GPUCONV_CONFIG: second: level must be from 0 to 2"):
        public_call(PLAIN, given)
    assert card.ran == ["first1(level=1)", "second1(level=1)"]


def test_other_errors_are_not_swallowed(card, kernels):
    kernels(MadeUp("first", 5), MadeUp("second"))
    card.refusals["launch", "first2"] = ZeroDivisionError("a fault of ours")
    with pytest.raises(ZeroDivisionError):
        public_call(PLAIN, prepared(PLAIN)[0])
    assert not card.ran


def test_a_warning_made_an_error_leaves_the_next_call_to_the_next_plan(card, kernels):
    kernels(MadeUp("first", 5), MadeUp("second"))
    given, right = prepared(PLAIN)
    card.refusals["load", "first2"] = CompileError("no")
    with pytest.raises(RuntimeWarning, match="second"):  # pytest makes errors of warnings
        public_call(PLAIN, given)
    same(public_call(PLAIN, given), right)


def test_plans_of_one_launcher_are_not_used_with_another(kernels):
    given, right = prepared(PLAIN)
    first, second = StandIn(), StandIn()
    for which in (first, second, first):
        with launch.using(which):
            same(public_call(PLAIN, given), right)
    assert (len(first.ran), first.counts["load"]) == (2, 1)
    assert (len(second.ran), second.counts["load"]) == (1, 1)


def test_a_launcher_gone_leaves_its_number_to_nobody(kernels):
    """Numbers of dead objects are given anew; that of a launcher whose plans are in a table must not be."""
    given, right = prepared(PLAIN)
    for _ in range(20):
        fresh = StandIn()
        with launch.using(fresh):
            same(public_call(PLAIN, given), right)
        assert len(fresh.ran) == 1
        del fresh
        gc.collect()


def test_a_launcher_that_cannot_be_hashed(kernels):
    class Unhashable(StandIn):
        __hash__ = None

    given, right = prepared(PLAIN)
    with launch.using(found := Unhashable()):
        for _ in range(2):
            same(public_call(PLAIN, given), right)
    assert found.counts["load"] == 1


def test_the_facts_of_a_device_belong_to_the_plan(kernels):
    class Weak(MadeUp):
        def check(self, p, device):
            return None if device.capability >= (9, 0) else self.reject("needs 9.0")

    class Old(StandIn):
        def device(self, index):
            return Device("cuda", "old", index=index, capability=(7, 0))

    kernels(Weak("new"))
    with launch.using(Old()), pytest.raises(gpuconv.UnsupportedProblem, match=r"needs 9\.0"):
        public_call(PLAIN, prepared(PLAIN)[0])


def test_many_threads_agree_on_the_next_plan(card, kernels):
    class Slow(MadeUp):
        def check(self, p, device):
            time.sleep(0.02)
            return super().check(p, device)

    kernels(Slow("first", 5, scribbles=True), MadeUp("second", 4), MadeUp("third"))
    given, right = prepared(PLAIN)
    gate, found, wrong = threading.Barrier(8), [], []

    def refuse_all():
        gate.wait(10)  # until every thread runs the plan that fails
        raise LaunchRefused("no")

    card.refusals["launch", "first2"] = refuse_all
    card.refusals["load", "second2"] = CompileError("no")
    for entry in ("first2", "third2"):  # long enough for another thread to begin it as well
        card.refusals["load", entry] = lambda: time.sleep(0.05)

    def work():
        gate.wait(10)
        try:
            found.extend(public_call(PLAIN, given) for _ in range(5))
        except BaseException as error:
            wrong.append(error)

    workers = [threading.Thread(target=work) for _ in range(8)]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert not wrong
    assert len(found) == 40
    for result in found:
        same(result, right)
    assert [str(each.message).split(": ")[1].split("(")[0] for each in warned] == ["first", "second"]
    assert card.counts["load"] == 3
    assert set(card.ran) == {"third2(level=2)"}
