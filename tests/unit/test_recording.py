"""Recordings are read as they were written, or refused in words."""

from __future__ import annotations

import json

import pytest

from gpuconv.autotune.recording import Recorded, Recording, Tried
from gpuconv.problem import ConvProblem

P = ConvProblem.parse("fprop_n1c8h9w9k8r3s3p1_nchw_f32")
TRIED = (
    Tried("cpu_im2col_gemm", "block_kib=1024,splits=1,lanes=1", 20.0, (21.0, 20.0), None),
    Tried("cpu_im2col_gemm", "block_kib=512,splits=1,lanes=1", 10.0, (10.0,), 12.5),
    Tried("cpu_fft", "rows=2,columns=2", failure="wrong: é"),
)
RECORDING = Recording(
    "cpu",
    "some CPU",
    "2026-11-29T00:00:00+00:00",
    None,
    "heuristic",
    {"threads": 2},
    (Recorded(P, TRIED, 1, 1.5),),
)


@pytest.fixture
def path(tmp_path):
    RECORDING.save(tmp_path / "r.json")
    return tmp_path / "r.json"


def test_there_and_back(path):
    assert Recording.load(path) == RECORDING
    (one,) = RECORDING.problems
    assert (one.default, one.best, one.gain) == (TRIED[0], TRIED[1], 2.0)
    assert Recorded(P, TRIED, 2, 1.0).gain is None
    assert str(TRIED[2]) == "cpu_fft(rows=2,columns=2)"
    before = path.read_bytes()
    Recording.load(path).save(path)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == ["r.json"]


def changed(change):
    def make(text):
        found = json.loads(text)
        change(found, found["problems"][0], found["problems"][0]["tried"][0])
        return json.dumps(found)

    return make


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda text: text[:-9], "Expecting"),
        (lambda text: "[" * 100000, "nested too deeply"),
        (lambda text: "[]", "a recording must be an object"),
        (lambda text: "{}", "a recording must have schema, kind"),
        (changed(lambda f, p, t: f.update(schema=2)), "schema must be 1, got 2"),
        (changed(lambda f, p, t: f.update(schema=True)), "schema"),
        (changed(lambda f, p, t: f.update(kind="tpu")), "kind must be one of cpu, cuda, got 'tpu'"),
        (changed(lambda f, p, t: f.update(kind=["cpu"])), "kind"),
        (changed(lambda f, p, t: f.update(device=1)), "device must be text"),
        (changed(lambda f, p, t: f.update(commit=1)), "commit must be text"),
        (changed(lambda f, p, t: f.update(environment=[])), "environment must be an object"),
        (changed(lambda f, p, t: f.update(problems={})), "problems must be a list"),
        (changed(lambda f, p, t: f.update(problems=[p, p])), "a problem is there twice"),
        (changed(lambda f, p, t: f.update(more=1)), "it has"),
        (changed(lambda f, p, t: p.update(problem="fprop")), "problem"),
        (changed(lambda f, p, t: p.update(problem=1)), "problem must be text"),
        (changed(lambda f, p, t: p.update(chosen=3)), "problem 1: chosen must be from 0 to 2, got 3"),
        (changed(lambda f, p, t: p.update(chosen=True)), "chosen"),
        (changed(lambda f, p, t: p.update(seconds=-1)), "seconds must be a number from 0 on, got -1"),
        (changed(lambda f, p, t: p.update(seconds=10**400)), "seconds must be a number from 0 on, got 1000"),
        (changed(lambda f, p, t: t.update(us=10**400)), "us must be positive, got 1000"),
        (changed(lambda f, p, t: p.update(tried=[])), "tried must be a list of some length"),
        (changed(lambda f, p, t: t.update(us=0)), "us must be positive, got 0"),
        (changed(lambda f, p, t: t.update(us="1")), "us"),
        (changed(lambda f, p, t: t.update(samples=[1, -1])), "samples must be positive, got -1"),
        (changed(lambda f, p, t: t.update(samples=None)), "samples must be a list"),
        (changed(lambda f, p, t: t.update(predicted_us=float("inf"))), "predicted_us"),
        (changed(lambda f, p, t: t.update(kernel=None)), "kernel must be text"),
        (changed(lambda f, p, t: t.pop("failure")), "must have"),
    ],
)
def test_what_is_none_is_refused_in_words(path, make, says):
    path.write_text(make(path.read_text()))
    with pytest.raises(ValueError) as raised:
        Recording.load(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert says in str(raised.value)


def test_no_text_at_all(path):
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="utf-8"):
        Recording.load(path)


def test_what_cannot_be_written_leaves_what_was_there(path, monkeypatch):
    import os

    def full(*_):
        raise OSError(28, "No space left on device")

    before = path.read_bytes()
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        RECORDING.save(path)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == ["r.json"]
