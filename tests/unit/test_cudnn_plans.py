"""The list of cuDNN's plans: every layer of the tables is in it, and the page says what it says."""

from __future__ import annotations

import sys
from itertools import product

import pytest

from bench import cudnn_plans, pages
from bench.check import page as check_page
from bench.check.state import StepState
from gpuconv.backend.clocks import CpuClock
from gpuconv.backend.device import Device
from gpuconv.layout import LAYOUTS
from gpuconv.problem import OPS, ConvProblem
from gpuconv.report.records import ResultFile
from gpuconv.validate import cudnn_graph
from gpuconv.validate.cudnn import Cudnn

from .. import cudnn_stand_in

CARD = Device("cuda", "NVIDIA H200", capability=(9, 0), sms=132)
P = ConvProblem.parse("fprop_n2c4h6w5k3r3s3p1_nhwc_f32")


@pytest.fixture
def stand_in(monkeypatch):
    cudnn_graph.frontend.cache_clear()
    monkeypatch.setattr(cudnn_graph, "_load_cublas", lambda: None)
    monkeypatch.setitem(sys.modules, "cudnn", cudnn_stand_in.frontend())
    monkeypatch.setitem(sys.modules, "cupy", cudnn_stand_in.cupy())
    yield
    cudnn_graph.frontend.cache_clear()


def test_every_layer_of_the_tables_is_listed():
    """If one is not: python -m bench.cudnn_plans."""
    paths = sorted(cudnn_plans.RESULTS.glob("cudnn-plans-*.csv"))
    assert paths
    wanted = product(map(cudnn_plans.sizes, cudnn_plans.layers()), OPS, LAYOUTS)
    found = cudnn_plans.read(paths[-1])
    assert "without a device" in found.about
    assert sorted((row["layer"], row["op"], row["layout"]) for row in found.rows) == sorted(wanted)
    for row in found.rows:
        assert all(int(row[form]) > 0 for form in cudnn_plans.FORMS) or row["why"]


def test_plans_are_counted_and_reasons_kept(stand_in, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cudnn_stand_in, "PLANS", cudnn_stand_in.PLANS[:1])
    assert cudnn_plans.main(["--out", str(tmp_path), "--only", "n32c3h224w224k64*"]) == 0
    found = cudnn_plans.read(tmp_path / "cudnn-plans-9.19.1.csv")
    assert "cuDNN 9.19.1, frontend 1.28.0" in found.about
    assert len(found.rows) == len(OPS) * len(LAYOUTS) * 2
    for row in found.rows:
        assert (row["bf16"], row["f32_tf32"], row["f32"]) == ("1", "1", "0")
        assert row["why"] == "f32: Deselecting execution plan"
    text = "\n".join(cudnn_plans.section([], tmp_path))
    assert "| fprop | nhwc | 1, 1 | 1, 1 | 0, 0 | 1, 1 | 1, 1 |" in text
    assert "No plan for 12: f32: Deselecting execution plan." in text
    assert "12 rows" in capsys.readouterr().out


def test_plans_are_timed_where_there_is_a_gpu(stand_in, monkeypatch, tmp_path):
    row = cudnn_plans.timed(P, Cudnn(CARD), seconds=0.01, clock=CpuClock(settle=0))
    assert set(row) == set(cudnn_plans.TIMES)
    assert (row["plans"], row["refused"], row["untried"], row["why"]) == (2, 1, "plain", "")
    assert 0 < float(row["fastest_us"]) <= float(row["untried_us"])
    assert float(row["err/bound"]) <= 1
    monkeypatch.setattr(cudnn_stand_in, "PLANS", ())
    row = cudnn_plans.timed(P, Cudnn(CARD), seconds=0.01, clock=CpuClock(settle=0))
    assert row == {"problem": str(P), "plans": 0, "why": "cuDNN offers no plan"}


def test_a_plan_that_is_fast_because_it_is_wrong_is_not_the_fastest(stand_in, monkeypatch):
    right = cudnn_stand_in.Graph.execute_plan_at_index

    def execute(self, pack, workspace, index, *, handle):
        if index != 1:
            right(self, pack, workspace, index, handle=handle)

    monkeypatch.setattr(cudnn_stand_in.Graph, "execute_plan_at_index", execute)
    row = cudnn_plans.timed(P, Cudnn(CARD), seconds=0.01, clock=CpuClock(settle=0))
    assert (row["untried"], row["fastest"]) == ("plain", "large")
    assert row["why"] == "plain is outside the bound, inf"
    assert float(row["err/bound"]) <= 1
    monkeypatch.setattr(cudnn_stand_in, "PLANS", cudnn_stand_in.PLANS[:3])
    row = cudnn_plans.timed(P, Cudnn(CARD), seconds=0.01, clock=CpuClock(settle=0))
    assert row == {"problem": str(P), "plans": 1, "refused": 1, "why": "plain is outside the bound, inf"}


def test_the_wheel_that_is_carried_is_taken_too(monkeypatch, tmp_path, capsys):
    asked = []
    cudnn_graph.frontend.cache_clear()
    monkeypatch.setitem(sys.modules, "cudnn", None)
    monkeypatch.setattr(cudnn_plans.cudnn, "use_wheel", lambda folder: asked.append(folder.is_dir()))
    for more in ([], ["--timed"]):
        assert cudnn_plans.main(["--out", str(tmp_path), *more]) == 1
    assert asked == [True, True]
    assert list(tmp_path.iterdir()) == []


def test_without_cudnn_or_a_gpu_it_says_what_is_missing(monkeypatch, capsys, tmp_path):
    cudnn_graph.frontend.cache_clear()
    monkeypatch.setitem(sys.modules, "cudnn", None)
    assert cudnn_plans.main(["--out", str(tmp_path)]) == 1
    assert "cuDNN's frontend is not installed" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def compared(cudnn):
    lines = {
        str(P): {"status": "passed", "data": {"ours": 0.25, "cudnn": cudnn, "apart": 0.5, "kernel": "k"}}
    }
    return check_page.compared(StepState(ended={**lines, "another": {"status": "skipped", "data": {}}}))


def test_the_page_says_what_was_compared(tmp_path):
    file = ResultFile("NVIDIA H200", "2026-12-01T10:00:00+00:00", "abc1234", {"capability": [9, 0]})
    assert "No GPU has run it" in "\n".join(cudnn_plans.section([file], tmp_path))
    unseen = pages.page([pages.Found("one.json", file)], [])
    assert f"- {cudnn_plans.UNSEEN}\n" in unseen.split("\n## ")[1]
    for error, said in ((0.5, ""), (3.0, f"outside the bound on 1 of these: `{P}` (3)")):
        file.extras["agreement"] = compared(error)
        text = "\n".join(cudnn_plans.section([file], tmp_path))
        assert f"1 problems beside cuDNN, errors at most 0.25 of the bound, cuDNN's {error:.3g}" in text
        assert said in text
        assert ("outside" in text) == bool(said)
    assert cudnn_plans.UNSEEN not in pages.page([pages.Found("one.json", file)], [])
