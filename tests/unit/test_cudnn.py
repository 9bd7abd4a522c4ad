"""cuDNN's frontend: what is asked of it, what comes back, and one clear line for whatever is missing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from gpuconv import measure
from gpuconv.backend.clocks import CpuClock
from gpuconv.backend.device import Device, cpu
from gpuconv.problem import DTYPES, OPS, ConvProblem
from gpuconv.validate import cudnn_graph, random_problems
from gpuconv.validate.cudnn import Cudnn, NoPlan

from .. import cudnn_stand_in
from ..problems import NAMED, with_op

CARD = Device("cuda", "stand-in", capability=(9, 0), sms=1)
P = ConvProblem.parse("fprop_n2c4h6w5k3r3s3p1_nhwc_f32")
COMPILED = "only plans that cuDNN compiles, which needs a CUDA driver and NVRTC"


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    cudnn_graph.frontend.cache_clear()
    monkeypatch.setattr(cudnn_graph, "_load_cublas", lambda: None)
    yield
    cudnn_graph.frontend.cache_clear()


@pytest.fixture
def modules(monkeypatch):
    found = cudnn_stand_in.frontend(), cudnn_stand_in.cupy()
    monkeypatch.setitem(sys.modules, "cudnn", found[0])
    monkeypatch.setitem(sys.modules, "cupy", found[1])
    return found


@pytest.fixture
def card(modules):
    return Cudnn(CARD)


def judged(card, p, seed=0):
    given = measure.operands(p, seed)
    result = card.compute(p, given)
    assert result.dtype == measure.numpy_dtype(p.dtype)
    return measure.expected(p, given).judge(result)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("name", [name for name in NAMED if "circular" not in name])
def test_the_same_problem_is_asked_of_cudnn(card, name, op):
    p = with_op(NAMED[name], op)
    if p.N == 0 or p.padding_mode != "zeros":
        with pytest.raises(NoPlan, match=r"cuDNN (takes no empty batch|pads with zeros only)"):
            judged(card, p)
        return
    verdict = judged(card, p)
    assert verdict.ok, f"{p}: {verdict}"
    assert verdict.checked == verdict.total


def test_random_problems_come_out_right(card):
    asked = 0
    for p in random_problems.problems(300, 5):
        if cudnn_graph.unsupported(p) is None:
            verdict = judged(card, p)
            assert verdict.ok, f"{p}: {verdict}"
            asked += 1
    assert asked > 200


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("end", ["+bias", "+res", "+relu", "+bias+res", "+bias+res+relu", "+res+relu"])
@pytest.mark.parametrize("op", ["fprop", "dgrad"])
def test_the_epilogue_is_part_of_the_graph(card, dtype, end, op):
    p = ConvProblem.parse(f"{op}_n2c4h6w5k3r3s3p1_nhwc_{dtype}{end}")
    verdict = judged(card, p)
    assert verdict.ok, f"{p}: {verdict}"


@pytest.mark.parametrize(
    ("text", "deselected", "first"),
    [
        ("f16", 0, "tensor"),
        ("f64", 0, "tensor"),
        ("f32_tf32", 0, "tensor"),
        ("f32", 5, "plain"),
        ("f32_tf32x3", 5, "plain"),
        ("f32_relaxed", 3, "plain"),
    ],
)
def test_float32_is_exact_unless_tf32_is_asked_for(modules, text, deselected, first):
    p = ConvProblem.parse(f"fprop_n2c4h6w5k3r3s3p1_nhwc_{text}")
    planned = cudnn_graph.graph(p, handle="a handle")
    assert len(planned.graph.deselected) == deselected
    assert planned.plans[0].name == first
    assert planned.refused == ({"Deselecting execution plan": 1} if deselected else {})
    accumulator = np.float64 if p.dtype == "f64" else np.float32
    assert planned.graph.accumulator == (accumulator, accumulator)


def test_each_plan_counts_once_and_runs(card):
    prepared = card.prepare(P, measure.operands(P))
    assert [plan.name for plan in prepared.graph.plans] == ["plain", "large"]
    results = dict(prepared.results())
    assert [plan.index for plan in results] == [1, 3]
    for result in results.values():
        assert measure.error_over_bound(P, result, measure.operands(P)) <= 1
    times = prepared.timings(seconds=0.01, clock=CpuClock(settle=0))
    assert all(timing.failure is None and timing.us > 0 for timing in times.values())
    assert prepared.fastest(seconds=0.01, clock=CpuClock(settle=0)) in times


def test_cudnns_own_choice_comes_first(modules):
    planned = cudnn_graph.graph(P, handle="a handle")
    assert planned.graph.modes == ["A", "B", "FALLBACK"]
    assert planned.plans[0].index == min(plan.index for plan in planned.plans)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_a_plan_leaves_out_is_no_number_and_no_plan_of_others(card, monkeypatch, dtype):
    right = cudnn_stand_in.Graph.execute_plan_at_index

    def execute(self, pack, workspace, index, *, handle):
        if index != 3:
            right(self, pack, workspace, index, handle=handle)

    monkeypatch.setattr(cudnn_stand_in.Graph, "execute_plan_at_index", execute)
    p = replace(P, dtype=dtype)
    given = measure.operands(p)
    prepared = card.prepare(p, given)
    errors = [measure.error_over_bound(p, result, given) for _, result in prepared.results()]
    assert all(error <= 1 for error in errors[:-1])
    assert errors[-1] == np.inf
    assert prepared.fastest(seconds=0.01, clock=CpuClock(settle=0)).name != "large"
    monkeypatch.setattr(cudnn_stand_in.Graph, "execute_plan_at_index", lambda self, *a, **k: None)
    assert measure.error_over_bound(p, card.compute(p, given), given) == np.inf
    with pytest.raises(NoPlan, match=r"no plan runs: .* leaves numbers out"):
        prepared.fastest(seconds=0.01, clock=CpuClock(settle=0))


def test_plans_run_on_cupys_stream_with_memory_from_its_pool(card, modules):
    frontend, cupy = modules
    prepared = card.prepare(P, measure.operands(P))
    list(prepared.results())
    assert set(frontend.streams) == {77}
    assert cupy.allocated == [1, 1 << 20]
    assert prepared.graph.graph.ran == [(1, 4097), (3, 4098)]


def test_a_plan_that_fails_says_nothing_of_the_next(card, monkeypatch):
    right = cudnn_stand_in.Graph.execute_plan_at_index

    def execute(self, pack, workspace, index, *, handle):
        if index == 1:
            raise RuntimeError("CUDNN_STATUS_EXECUTION_FAILED\nand more")
        right(self, pack, workspace, index, handle=handle)

    monkeypatch.setattr(cudnn_stand_in.Graph, "execute_plan_at_index", execute)
    prepared = card.prepare(P, measure.operands(P))
    first, second = prepared.results()
    assert first[1] == "CUDNN_STATUS_EXECUTION_FAILED"
    assert measure.error_over_bound(P, second[1], measure.operands(P)) <= 1
    assert prepared.fastest(seconds=0.01, clock=CpuClock(settle=0)).name == "large"
    monkeypatch.setattr(cudnn_stand_in, "PLANS", cudnn_stand_in.PLANS[:3])
    prepared = card.prepare(P, measure.operands(P))
    with pytest.raises(NoPlan, match="no plan runs: CUDNN_STATUS_EXECUTION_FAILED"):
        prepared.fastest(seconds=0.01, clock=CpuClock(settle=0))


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("no engine takes it", "no engine takes it"),
        (
            "No valid configs\nWarning: X; Reason: C == 7\nWarning: Y; Reason: other",
            "No valid configs: C == 7",
        ),
        ("No\nX_RUNTIME_PREREQUISITE_MISSING; Reason: this->libcuda == nullptr", COMPILED),
        ("x" * 999, "x" * 197 + "..."),
    ],
)
def test_the_reason_is_kept_where_there_is_no_plan(card, monkeypatch, raised, said):
    def check(self):
        raise cudnn_stand_in.NotSupported(raised)

    monkeypatch.setattr(cudnn_stand_in.Graph, "check_support", check)
    with pytest.raises(NoPlan) as error:
        card.prepare(P, measure.operands(P))
    assert str(error.value) == said


def test_nothing_left_is_no_plan_either(modules, monkeypatch):
    monkeypatch.setattr(cudnn_stand_in, "PLANS", cudnn_stand_in.PLANS[:1])
    with pytest.raises(NoPlan, match="Deselecting execution plan"):
        cudnn_graph.graph(P, handle="a handle")


def module(**content):
    made = ModuleType("cudnn")
    for name, value in content.items():
        setattr(made, name, value)
    return made


def unloadable():
    raise RuntimeError("Unable to find symbol cudnnGetVersion")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, "cuDNN's frontend is not installed"),
        (module(__file__="/elsewhere/cudnn.py"), r"the module cudnn \(/elsewhere/cudnn.py\) is not NVIDIA's"),
        (cudnn_stand_in.frontend(__version__="1.17.2"), "must be from 1.18 to below 1.29, got 1.17.2"),
        (cudnn_stand_in.frontend(__version__="1.29.0"), "must be from 1.18 to below 1.29, got 1.29.0"),
        (
            cudnn_stand_in.frontend(backend_version=unloadable),
            "cuDNN itself cannot be loaded: Unable to find",
        ),
        (cudnn_stand_in.frontend(backend_version=lambda: 8907), "cuDNN must be 9 or newer, got 8907"),
    ],
)
def test_a_missing_or_foreign_cudnn_is_one_clear_line(monkeypatch, found, said):
    monkeypatch.setitem(sys.modules, "cudnn", found)
    for ask in (cudnn_graph.frontend, cudnn_graph.version, lambda: Cudnn(CARD)):
        with pytest.raises(RuntimeError, match=said) as error:
            ask()
        assert "gpuconv[cudnn13]" in str(error.value)
        assert "\n" not in str(error.value)


def test_an_import_that_breaks_is_one_clear_line(monkeypatch, tmp_path):
    (tmp_path / "cudnn.py").write_text("raise OSError('libsomething.so: file too short\\nand more')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cudnn", raising=False)
    with pytest.raises(RuntimeError, match=r"cannot be imported: libsomething.so: file too short: pip"):
        cudnn_graph.frontend()
    (tmp_path / "cudnn.py").write_text("import no_such_module")
    with pytest.raises(RuntimeError, match="frontend cannot be imported: No module named 'no_such_module'"):
        cudnn_graph.frontend()


def test_a_device_that_does_not_start_is_one_clear_line(modules):
    def fails():
        raise RuntimeError("CUDNN_STATUS_NOT_INITIALIZED")

    modules[0].create_handle = fails
    with pytest.raises(RuntimeError, match=r"does not start on cuda:0 \(stand-in\): CUDNN_STATUS_NOT_INIT"):
        Cudnn(CARD)
    with pytest.raises(RuntimeError, match="runs on CUDA devices, not on cpu"):
        Cudnn(cpu())


def test_importing_it_imports_nothing_of_nvidias():
    code = "import sys, gpuconv.validate.cudnn; print({'cudnn', 'cupy', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_versions_are_read():
    assert cudnn_graph._version("1.28.0rc1") == (1, 28)
    assert cudnn_graph._version("odd") == (0,)
