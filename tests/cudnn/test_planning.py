"""Real cuDNN plans for an H200 that is not there: every dtype, operation, layout and form of groups."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from bench import cudnn_plans
from gpuconv.layout import LAYOUTS
from gpuconv.problem import DTYPES, OPS, ConvProblem
from gpuconv.validate import cudnn_graph, random_problems
from gpuconv.validate.cudnn import NoPlan

from ..problems import NAMED, with_op

GROUPS = {
    "dense": "fprop_n4c32h14w14k48r3s3p1",
    "grouped": "fprop_n4c32h14w14k64r3s3p1g4",
    "depthwise": "fprop_n4c32h14w14k32r3s3p1g32",
    "multiplier": "fprop_n4c8h14w14k16r3s3p1g8",
    "pointwise": "fprop_n4c32h14w14k48r1s1",
    "strided, dilated, four sides": "fprop_n4c32h19w17k48r3s5u2x1p0+2x3+1d1x2",
    "image": "fprop_n1c1h128w128k1r5s5p2",
}


@pytest.fixture(autouse=True, scope="module")
def _cudnn(need):
    try:
        found = cudnn_graph.version()
    except RuntimeError as error:
        need("cudnn", str(error))
    if not found.startswith("9.19."):
        need("cudnn", f"cuDNN 9.19 plans without a driver, this is {found}")


def planned(p):
    return cudnn_graph.graph(p, described=cudnn_plans.H200)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", GROUPS)
def test_every_kind_has_plans(form, dtype, layout, op):
    p = replace(ConvProblem.parse(f"{GROUPS[form]}_{layout}_{dtype}"), op=op)
    found = planned(p)
    assert found.plans
    assert len({plan.name for plan in found.plans}) == len(found.plans)
    assert all(plan.workspace_bytes >= 0 for plan in found.plans)
    if dtype != "f32":
        assert not found.refused


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_exact_float32_leaves_out_what_rounds(layout, op):
    p = replace(ConvProblem.parse(f"fprop_n32c64h56w56k64r3s3p1_{layout}_f32"), op=op)
    exact, rounded = planned(p), planned(replace(p, precision="tf32"))
    assert {plan.name for plan in exact.plans} < {plan.name for plan in rounded.plans}
    assert sum(exact.refused.values()) > 0
    assert rounded.refused == {}
    assert planned(replace(p, precision="tf32x3")).plans == exact.plans


@pytest.mark.parametrize("end", ["+bias", "+res", "+relu", "+bias+relu", "+res+relu", "+bias+res+relu"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_forward_epilogue_is_fused(dtype, layout, end):
    assert planned(ConvProblem.parse(f"{GROUPS['dense']}_{layout}_{dtype}{end}")).plans


def test_what_needs_a_driver_says_so():
    with pytest.raises(NoPlan, match="which needs a CUDA driver"):
        planned(ConvProblem.parse("dgrad_n4c32h14w14k48r3s3p1_nhwc_f16+bias+relu"))


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("name", NAMED)
def test_awkward_problems_have_plans_or_a_reason(name, op):
    p = with_op(NAMED[name], op)
    if p.N == 0 or p.padding_mode != "zeros":
        with pytest.raises(NoPlan, match=r"^cuDNN "):
            planned(p)
    else:
        assert planned(p).plans


def test_every_random_problem_that_cudnn_has_at_all_has_plans():
    without = 0
    for p in random_problems.problems(200, 3):
        reason = cudnn_graph.unsupported(p)
        if reason is None:
            assert planned(p).plans, str(p)
            continue
        without += 1
        with pytest.raises(NoPlan, match=f"^{re.escape(reason)}$"):
            planned(p)
    assert 0 < without < 80


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_first_plan_is_the_one_that_cudnn_would_choose(monkeypatch, dtype, op):
    p = replace(ConvProblem.parse(f"fprop_n32c64h56w56k64r3s3p1_nhwc_{dtype}"), op=op)
    first = planned(p).plans[0]
    # by the mode that ranks engines by what it takes them to cost, and nothing else
    monkeypatch.setattr(cudnn_graph, "MODES", ("A",))
    assert planned(p).plans[0].name == first.name


def test_the_tables_layers_are_counted(tmp_path, capsys):
    assert cudnn_plans.main(["--out", str(tmp_path), "--only", "n32c3h224*"]) == 0
    (path,) = tmp_path.iterdir()
    found = cudnn_plans.read(path)
    assert "without a device" in found.about
    committed = cudnn_plans.read(cudnn_plans.RESULTS / path.name)
    # other versions know other plans, and other frontends tell fewer of them apart
    same = committed.about.rpartition(",")[0] == found.about.rpartition(",")[0]
    for row in found.rows:
        assert all(int(row[form]) > 0 for form in cudnn_plans.FORMS), row
        assert not same or row in committed.rows
    assert f"{len(found.rows)} rows" in capsys.readouterr().out
