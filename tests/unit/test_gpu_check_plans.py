"""The check's step that times every plan of cuDNN's, with a stand-in for its frontend."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from bench import cudnn_plans
from bench.check import agreement, child, cudnn, layers, page, plans
from bench.check.state import State
from bench.check.steps import STEPS, Skip, Where, find
from gpuconv.backend.clocks import CpuClock
from gpuconv.backend.device import Device
from gpuconv.layout import LAYOUTS
from gpuconv.problem import OPS, ConvProblem
from gpuconv.validate import cudnn_graph
from gpuconv.validate.cudnn import Cudnn

from .. import cudnn_stand_in

CARD = Device("cuda", "NVIDIA H200", capability=(9, 0), sms=132)
SMALL = [ConvProblem.parse(f"fprop_n2c4h6w5k{k}r3s3p1_nchw_f32") for k in (3, 5)]


class Card(Where):
    """A machine that has a card, which may be lost."""

    machine = SimpleNamespace(device=CARD, cupy=None)
    gone = None

    def lost(self):
        return self.gone


@pytest.fixture
def where(tmp_path, monkeypatch):
    cudnn_graph.frontend.cache_clear()
    monkeypatch.setattr(cudnn_graph, "_load_cublas", lambda: None)
    monkeypatch.setattr(cudnn, "release", lambda where, baseline: None)
    monkeypatch.setattr(cudnn, "use_wheel", lambda folder: None)
    monkeypatch.setattr(plans, "SECONDS", 0.01)
    monkeypatch.setattr(cudnn_plans, "layers", lambda: SMALL)
    monkeypatch.setattr(cudnn_plans.measure, "clock_for", lambda device: CpuClock(settle=0))
    monkeypatch.setitem(sys.modules, "cudnn", cudnn_stand_in.frontend())
    monkeypatch.setitem(sys.modules, "cupy", cudnn_stand_in.cupy())
    state = State(tmp_path / "state")
    state.folder.mkdir()
    state.open_for("abc1234", False, "2026-12-01T10:00:00+00:00")
    yield Card(state, "abc1234", False)
    cudnn_graph.frontend.cache_clear()


def test_every_layer_operation_and_dtype_comes_and_what_matters_comes_first(monkeypatch):
    real = cudnn_plans.layers()
    assert len(real) > 100
    found = list(plans.problems())
    assert len(found) == len(set(found)) == len(real) * len(OPS) * len(cudnn_plans.FORMS) * len(LAYOUTS)
    first = found[: 2 * len(OPS) * len(real)]
    assert {(p.op, p.dtype, p.layout, p.precision) for p in first} == {
        (op, dtype, "nhwc", "ieee") for op in OPS for dtype in ("bf16", "f32")
    }
    assert all(p.dtype == "bf16" for p in first[: len(first) // 2])


def test_a_step_goes_on_where_it_ended_and_leaves_the_table(where, tmp_path, monkeypatch):
    step, out = find("plans"), tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr(plans, "FIRST", (("f32", "nhwc"),))
    monkeypatch.setattr(cudnn_plans, "FORMS", ("f32",))
    where.until = 0  # no time: nothing is begun
    assert child.run(step, where) == 0
    assert not where.state.step("plans").ended
    where.until = float("inf")
    right, asked = plans.time_it, []

    def lost_once(p, *given):
        asked.append(p)
        if len(asked) == 3:
            where.gone = "an illegal address was met"
        return right(p, *given)

    monkeypatch.setattr(plans, "time_it", lost_once)
    assert child.run(step, where) == child.LOST
    where.gone = None
    assert child.run(step, where) == 0
    known = where.state.step("plans")
    assert known.finished
    assert (known.count("passed"), known.count("failed")) == (11, 1)
    assert len(asked) == len(set(asked)) == 12
    page.write(out, STEPS, where.state)
    (path,) = out.glob("*.csv")
    assert path.name == "cudnn-times-9.19.1-nvidia-h200.csv"
    found = cudnn_plans.read(path)
    assert "on NVIDIA H200, in microseconds: cuDNN 9.19.1, frontend 1.28.0, 2026-12-01" in found.about
    assert found.about.endswith("commit abc1234")
    assert len(found.rows) == 11
    assert all(float(row["fastest_us"]) > 0 and float(row["err/bound"]) <= 1 for row in found.rows)


def test_what_cudnn_cannot_and_what_is_too_large_is_skipped_with_the_reason(where, monkeypatch):
    monkeypatch.setattr(cudnn_stand_in, "PLANS", ())
    with pytest.raises(Skip, match="cuDNN: cuDNN offers no plan"):
        plans.time_it(SMALL[0], where, Cudnn(CARD))
    monkeypatch.setattr(layers, "MOST_BYTES", 1)
    with pytest.raises(Skip, match="too large"):
        plans.time_it(SMALL[0], where, Cudnn(CARD))


def test_without_a_gpu_or_the_frontend_the_step_is_skipped(where, monkeypatch):
    cudnn_graph.frontend.cache_clear()
    monkeypatch.setitem(sys.modules, "cudnn", None)
    with pytest.raises(Skip, match="those of cuDNN's frontend: cuDNN's frontend is not installed"):
        plans.items(where)
    where.dry_run = True
    with pytest.raises(Skip, match="cuDNN needs a GPU"):
        plans.items(where)


@pytest.mark.parametrize("which", [cudnn.FrontendCudnn, cudnn.TorchCudnn])
def test_enough_random_problems_are_such_as_both_sides_compute(which):
    side = which.__new__(which)
    found = list(agreement.comparable(side))
    assert len(found) == agreement.RANDOM >= 300
    assert all(p.N and p.padding_mode == "zeros" for p in found)
    assert {p.op for p in found} == set(OPS)
    if which is cudnn.TorchCudnn:
        assert not any(p.bias or p.residual or p.relu for p in found)
        assert all(before == after for p in found for before, after in p.padding)
