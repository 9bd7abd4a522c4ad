"""`gpuconv report`: the page it writes, its JSON, and one clear line for whatever goes wrong."""

from __future__ import annotations

import importlib.util
import json
import os
import sys

import pytest

from gpuconv.report import html_svg

from ..browser.recordings import CARD, CARD_LAYERS, made_up, result_file
from ..command import fails, plain_machine, results, run, usage

SOME = CARD_LAYERS[:2]


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    plain_machine(monkeypatch)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "tuned.json"
    made_up(SOME).save(path)
    return path


@pytest.fixture
def bench(tmp_path):
    path = tmp_path / "bench.json"
    result_file(made_up(SOME)).save(path)
    return path


drawn = pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib is missing")


@drawn
def test_a_page_is_written(recording, bench, tmp_path):
    done = run("report", recording, bench)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "gpuconv: written: gpuconv-report.html\n")
    text = (tmp_path / "gpuconv-report.html").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert text.endswith("</html>\n")
    assert CARD in text
    assert "other 9.9" in text
    assert run("report", recording, bench, "-o", "again.html").exit_code == 0
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == text
    assert sorted(os.listdir(tmp_path)) == ["again.html", "bench.json", "gpuconv-report.html", "tuned.json"]


@drawn
def test_maps_are_as_many_as_asked_for(recording):
    for wanted, maps in (("0", 0), ("1", 1), ("5", 2)):
        assert run("report", recording, "--heatmaps", wanted, "-o", "r.html").exit_code == 0
        with open("r.html", encoding="utf-8") as file:
            assert file.read().count('aria-label="Map ') == maps


def test_json_has_the_same_facts_and_needs_no_matplotlib(recording, bench, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = run("report", recording, bench, "--json")
    rows = results(done, "report")
    document = json.loads(done.stdout)
    assert {row["problem"] for row in rows} == set(SOME)
    for row, one in zip(rows, sorted(made_up(SOME).problems, key=lambda one: -one.gain), strict=True):
        assert (row["tuned_us"], row["kernel"]) == (pytest.approx(one.best.us, rel=1e-4), one.best.kernel)
        assert row["gain"] == pytest.approx(one.gain, rel=1e-3)
        assert (row["kind"], row["baseline"]) == ("cuda", "other 9.9")
        assert len(row["failures"]) == 2
    assert [file["what"] for file in document["files"]] == ["bench results", "recording"]
    (device,) = document["devices"]
    assert (device["problems"], device["tuned"]) == (2, 2)
    assert sorted(os.listdir(tmp_path)) == ["bench.json", "tuned.json"]


@drawn
def test_json_and_a_page_where_both_are_asked_for(recording):
    done = run("report", recording, "--json", "-o", "r.html")
    assert len(results(done, "report")) == 2
    assert os.path.getsize("r.html") > 10_000


def test_no_file_says_how_to_make_one():
    fails(run("report"), 2, "gpuconv tune --record FILE")


def test_wrong_files_are_one_line_and_leave_nothing(tmp_path):
    whole = tmp_path / "whole.json"
    made_up(SOME).save(whole)
    cut, empty, other = tmp_path / "cut.json", tmp_path / "empty.json", tmp_path / "other.json"
    cut.write_bytes(whole.read_bytes()[:-20])
    made_up(()).save(empty)
    other.write_text('{"hello": 1}')
    for wrong, words in ((cut, "neither"), (empty, "no problem in it"), (other, "neither a recording")):
        fails(run("report", whole, wrong), 1, str(wrong), words)
    usage(run("report", tmp_path / "nowhere.json"), "nowhere.json")
    usage(run("report", tmp_path), "directory")
    assert not (tmp_path / "gpuconv-report.html").exists()


def test_a_damaged_byte_is_one_line(recording, tmp_path):
    whole = recording.read_bytes()
    for at in range(3, len(whole), len(whole) // 23):
        recording.write_bytes(whole[:at] + b"\x00" + whole[at + 1 :])
        done = run("report", recording, "--json")
        if done.exit_code:
            fails(done, 1)


def test_without_matplotlib_one_line_says_what_to_install(recording, monkeypatch):
    monkeypatch.setattr(html_svg.importlib.util, "find_spec", lambda name: None)
    fails(run("report", recording), 1, "pip install 'gpuconv[plot]'")
    assert not os.path.exists("gpuconv-report.html")


@drawn
def test_a_page_that_cannot_be_written_leaves_nothing(recording, tmp_path):
    fails(run("report", recording, "-o", recording), 2, "one of the files to read")
    usage(run("report", recording, "-o", tmp_path), "directory")
    (tmp_path / "file").write_text("kept")
    fails(run("report", recording, "-o", tmp_path / "file" / "r.html"), 1, "cannot write")
    assert sorted(os.listdir(tmp_path)) == ["file", "tuned.json"]
    assert (tmp_path / "file").read_text() == "kept"
