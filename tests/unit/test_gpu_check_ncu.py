"""Which problems are profiled, and when; which are tried at all."""

from __future__ import annotations

import subprocess

import pytest

import tests.problems
from bench.check import agreement, benchmarks, heuristics, layers, profiles
from bench.check.state import State
from bench.check.steps import Skip, Wait, Where
from gpuconv.families import family
from gpuconv.problem import ConvProblem

A, B, C = (f"fprop_n1c1h{h}w64k1r3s3p1_nchw_f32" for h in (16, 32, 64))
BF16 = "fprop_n32c64h56w56k64r3s3p1_nhwc_bf16"


class Fake(Where):
    machine = None


@pytest.fixture
def where(tmp_path, monkeypatch):
    monkeypatch.setattr(profiles.shutil, "which", lambda name: f"/usr/bin/{name}")
    state = State(tmp_path)
    state.open_for("abc1234", False, "2026-12-01T10:00:00+00:00")
    return Fake(state, "abc1234", False)


def end(where, item, status="passed", note="", **record):
    data = {"record": {"problem": item, "family": "image", "us": 1.0, **record}} if record else {}
    how = {"status": status, "note": note, "seconds": 0, "data": data}
    where.state.append(kind="end", step="benchmarks", item=item, **how)


def test_profiles_wait_for_the_last_benchmark(where):
    end(where, A, ratio=0.5)
    with pytest.raises(Wait):
        profiles.items(where)
    where.state.append(kind="done", step="benchmarks")
    assert [item.key for item in profiles.items(where)] == [f"image {A}"]


def test_ratios_and_shares_are_not_compared_with_each_other(where):
    end(where, A, share_of_floor=0.1)
    end(where, B, ratio=0.9, share_of_floor=0.3)
    end(where, C, ratio=1.5, share_of_floor=0.2)
    assert profiles.worst(where.state.step("benchmarks")) == {"image": B}
    end(where, B, share_of_floor=0.3)
    end(where, C, share_of_floor=0.2)
    assert profiles.worst(where.state.step("benchmarks")) == {"image": A}


def test_a_family_of_which_nothing_was_timed_says_so(where):
    end(where, BF16, "skipped", "bf16 needs ml_dtypes, which is not installed")
    where.state.append(kind="done", step="benchmarks")
    (item,) = profiles.items(where)
    with pytest.raises(Skip, match="bf16 needs ml_dtypes"):
        item.run()


def test_ncu_that_saw_no_kernel_has_failed(monkeypatch):
    done = subprocess.CompletedProcess([], 0, "==WARNING== No kernels were profiled.", "")
    monkeypatch.setattr(profiles.subprocess, "run", lambda *args, **more: done)
    with pytest.raises(RuntimeError, match="ncu profiled no kernel"):
        profiles.profile("ncu", A)


def test_what_the_host_cannot_hold_is_not_asked_of_cudnn_alone(where, monkeypatch):
    monkeypatch.setattr(heuristics.cudnn, "cudnn", lambda where, fastest: None)
    keys = [item.key for item in heuristics.items(where)]
    assert len(keys) > 20
    assert "huge" not in {family(ConvProblem.parse(key)) for key in keys}


def test_a_type_that_numpy_lacks_is_left_out_aloud(where, monkeypatch):
    monkeypatch.setattr(tests.problems, "DTYPES", ("f16", "f32", "f64"))
    found = [p for p in layers.problems(False) if p.dtype == "bf16"]
    assert {family(p) for p in found} > {"dense", "depthwise"}
    p = ConvProblem.parse(BF16)
    for call in (
        lambda: agreement.compare(p, where, None),
        lambda: heuristics.time_it(p, where, None),
        lambda: benchmarks.time_it(p, where, None, [], None, ""),
    ):
        with pytest.raises(Skip, match="bf16 needs ml_dtypes, which is not installed"):
            call()
