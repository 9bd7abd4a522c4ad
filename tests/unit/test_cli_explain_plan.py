"""explain-plan says what dispatch does."""

from __future__ import annotations

import pytest

from gpuconv import dispatch
from gpuconv.backend.cards import CARDS
from gpuconv.problem import ConvProblem
from tests.command import fails, plain_machine, results, run, usage

P = "fprop_n32c256h28w28k256r3s3p1_nhwc_f32"


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    plain_machine(monkeypatch)


def explained(*arguments, **environment):
    found = run("explain-plan", "--json", *arguments, **environment)
    assert found.exit_code == 0, found.output
    return results(found, "explain-plan")


@pytest.mark.parametrize("card", CARDS)
def test_the_order_is_that_of_dispatch(card):
    (found,) = explained("--device", card, P)
    p, device = ConvProblem.parse(P), CARDS[card].device
    tried, _ = dispatch._candidates(p, device, None, None)
    assert found["chosen"] == str(tried[0])
    assert [f"{one['kernel']}({one['config']})" for one in found["candidates"] if one["tried"]] == [
        str(one) for one in tried
    ]
    assert all(one["predicted_us"] > 0 and one["limit"] for one in found["candidates"])
    assert "data sheet" in found["device"]
    names = {one["kernel"] for one in found["candidates"]} | {one["kernel"] for one in found["rejects"]}
    assert {"cuda_direct", "implicit_gemm_simt", "cpu_im2col_gemm"} <= names


def test_the_cpu():
    (found,) = explained(P)
    assert found["chosen"].startswith("cpu_")
    assert all(one["predicted_us"] is None for one in found["candidates"])
    assert sum(one["tried"] for one in found["candidates"]) == 1


def test_what_is_forced_is_chosen():
    (found,) = explained("--device", "H200", P, GPUCONV_KERNEL="cuda_direct")
    assert {one["kernel"] for one in found["candidates"]} == {"cuda_direct"}
    (found,) = explained(
        "--device", "H200", P, GPUCONV_KERNEL="implicit_gemm_simt", GPUCONV_CONFIG="block_m=64,warp_m=32"
    )
    assert [one["config"] for one in found["candidates"]] == [found["chosen"].split("(")[1][:-1]]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--device", "H2000", P), "'H2000' is none of cpu, cuda, T4"),
        (("fprop_n1",), "problem must look like"),
        ((), "Missing argument"),
    ],
)
def test_wrong_usage_is_one_line(arguments, word):
    usage(run("explain-plan", *arguments), word)


@pytest.mark.parametrize(
    ("environment", "word"),
    [
        ({"GPUCONV_KERNEL": "cuda_dirct"}, "GPUCONV_KERNEL: kernel must be one of"),
        ({"GPUCONV_CONFIG": "splits=2"}, "GPUCONV_CONFIG: needs GPUCONV_KERNEL"),
    ],
)
def test_wrong_variables_are_named(environment, word):
    fails(run("explain-plan", P, **environment), 2, word)


def test_without_a_gpu_that_is_said():
    fails(run("explain-plan", "--device", "cuda", P), 3, "there is no CUDA device: CuPy is not installed")


def test_where_nothing_runs_it_that_is_said():
    (found,) = explained(
        "--device", "T4", P.replace("f32", "f32+reflect"), GPUCONV_KERNEL="implicit_gemm_simt"
    )
    assert found["chosen"] is None
    assert [one["kernel"] for one in found["rejects"]] == ["implicit_gemm_simt"]
