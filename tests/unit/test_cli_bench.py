"""`gpuconv bench`: what it measures, writes and keeps, and one clear line for whatever goes wrong."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gpuconv.backend import clocks, detect
from gpuconv.backend.device import cpu
from gpuconv.cli import bench, main, output
from gpuconv.errors import UnsupportedProblem
from gpuconv.report import baselines, measured, shapes
from gpuconv.report.records import ResultFile, name_for

from ..command import plain_machine, read_end, run, usage
from .test_records import record, result

SOME = ("fprop_n1c4h8w8k8r3s3p1_nchw_f32", "dgrad_n1c4h8w8k4r3s3p1g4_nchw_f32")
QUICK = ("--turns", "1", "--seconds", "0.001", "--baseline", "none")


@pytest.fixture(autouse=True)
def _plain_machine(monkeypatch):
    plain_machine(monkeypatch)
    monkeypatch.setattr(clocks.time, "sleep", lambda seconds: None)


@pytest.fixture
def found(monkeypatch):
    """Nothing is computed: what to find for each problem, or what to raise; it fills up as it is asked."""
    wanted, asked = {}, []

    def measure_problem(p, device, **how):
        asked.append((str(p), how))
        one = wanted.get(str(p), {})
        if isinstance(one, BaseException):
            raise one
        made = record(us=2.0, **one)
        made = replace(made, problem=str(p), op=p.op, commit=how["commit"])
        return measured.Measured(made, {}, ("a remark",) if one.get("ratio") == 7.0 else ())

    monkeypatch.setattr(bench, "measure_problem", measure_problem)
    wanted["asked"] = asked
    return wanted


def test_problems_are_checked_timed_and_written(tmp_path):
    out = tmp_path / "r.json"
    done = run("bench", *SOME, *QUICK, "--out", out)
    assert done.exit_code == 0, done.output
    file = ResultFile.load(out)
    assert [each.problem for each in file.records] == list(SOME)
    assert all(each.us > 0 and 0 <= each.error_over_bound <= 1 for each in file.records)
    assert (file.partial, file.device, file.environment["threads"]) == (False, cpu().name, cpu().threads)
    for each in file.records:
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(each.problem)]
        assert each.kernel in line
    assert "ratio" not in done.stdout.split("\n\n")[1]
    assert done.stderr == f"gpuconv: written: {out}\n"


def test_json_holds_the_records(found):
    done = run("bench", *SOME, *QUICK, "--json")
    document = json.loads(done.stdout)
    assert (document["command"], [each["problem"] for each in document["results"]]) == ("bench", list(SOME))


def test_problems_come_from_the_tables(found):
    done = run(
        *("bench", "--only", "vgg16-*", "--op", "dgrad", "--op", "wgrad", "--layout", "nhwc"),
        *("--dtype", "f16", "--batch", "2", "--turns", "3", "--seconds", "0.5", "--baseline", "none"),
    )
    assert done.exit_code == 0, done.output
    expected = shapes.choose(
        ops=("dgrad", "wgrad"), dtypes=("f16",), layouts=("nhwc",), batch=2, only=("vgg16-*",)
    )
    assert [text for text, _ in found["asked"]] == [str(p) for p in expected]
    assert len(expected) > 2
    _, how = found["asked"][0]
    assert (how["turns"], how["seconds"], how["baselines"]) == (3, 0.5, [])
    found["asked"].clear()
    assert run("bench", "--family", "image", *QUICK).exit_code == 0
    assert {text.split("_")[1][:4] for text, _ in found["asked"]} == {"n1c1"}


def test_the_word_run_may_be_said(found):
    assert run("bench", "run", SOME[0], *QUICK).exit_code == 0
    help_ = run("bench", "--help").stdout
    assert help_ == run("bench", "run", "--help").stdout
    assert all(word in help_ for word in ("--only", "--plot", "--json", "bench compare BEFORE AFTER"))


def test_rows_are_printed_as_they_are_found(found, monkeypatch):
    seen = []
    monkeypatch.setattr(bench.Session, "say", lambda self, *lines: seen.append((len(found["asked"]), lines)))
    run("bench", *SOME, *QUICK)
    assert [(count, lines[0].split()[0]) for count, lines in seen if count and lines[0]] == [
        *((1, SOME[0]), (2, SOME[1]))
    ]


def test_a_summary_and_remarks(found):
    found[SOME[0]], found[SOME[1]] = {"ratio": 7.0}, {"ratio": 2.0, "others": 1.0}
    done = run("bench", *SOME, *QUICK)
    assert done.exit_code == 0
    assert "! 1 of 2: other processes" in done.stdout
    row = done.stdout.splitlines()[-1].split()
    assert row == ["fp32", "fprop", "1", "-", "7.00", "7.00", SOME[0]]
    assert done.stderr == f"gpuconv: {SOME[0]}: a remark\n"


def test_a_folder_names_the_file(found, tmp_path):
    assert run("bench", SOME[0], *QUICK, "--out", tmp_path).exit_code == 0
    (path,) = tmp_path.iterdir()
    file = ResultFile.load(path)
    assert path.name == name_for(cpu(), file.date, file.commit)


def test_an_interrupt_keeps_what_was_measured(found, tmp_path):
    found[SOME[1]] = KeyboardInterrupt()
    out = tmp_path / "r.json"
    done = run("bench", *SOME, *QUICK, "--out", out)
    assert done.exit_code == 130
    assert done.stderr == f"gpuconv: written: {out}, cut short\ngpuconv: interrupted\n"
    file = ResultFile.load(out)
    assert (file.partial, [each.problem for each in file.records]) == (True, [SOME[0]])
    assert SOME[0] in done.stdout
    # with nothing measured nothing is written
    out.unlink()
    done = run("bench", SOME[1], *QUICK, "--out", out)
    assert (done.exit_code, done.stderr, out.exists()) == (130, "gpuconv: interrupted\n", False)


def test_a_problem_that_cannot_be_measured_is_left_out(found, tmp_path):
    found[SOME[0]] = UnsupportedProblem(SOME[0], "here", [])
    out = tmp_path / "r.json"
    done = run("bench", *SOME, *QUICK, "--out", out)
    assert done.exit_code == 1
    first, _, last = done.stderr.splitlines()
    assert first.startswith(f"gpuconv: {SOME[0]} is left out: no kernel runs")
    assert last == "gpuconv: 1 of 2 problems were not measured"
    assert [each.problem for each in ResultFile.load(out).records] == [SOME[1]]


def test_a_wrong_result_ends_with_its_code(found):
    found[SOME[1]] = {"error_over_bound": 2.0}
    done = run("bench", *SOME, *QUICK)
    assert done.exit_code == 4
    assert done.stderr == f"gpuconv: wrong beyond the error bound: {SOME[1]}\n"


def test_what_cannot_be_asked_for(monkeypatch, tmp_path):
    def refused(*words, args):
        done = run("bench", *args)
        assert (done.exit_code, done.stdout) == (2, ""), done.output
        assert done.stderr.count("\n") == 1
        assert all(word in done.stderr for word in words), done.stderr

    refused("--op, --all choose from the tables", args=(SOME[0], "--op", "dgrad", "--all"))
    refused("no public function computes", args=(SOME[1] + "+bias",))
    refused("no layer is like that", args=("--only", "nosuch-*"))
    refused("precision 'tf32' goes with float32 only", args=("--dtype", "f16", "--precision", "tf32"))
    refused("--baseline none goes with no other", args=(SOME[0], "--baseline", "none", "--baseline", "torch"))
    refused("--out: there is no folder", args=(SOME[0], "--out", tmp_path / "no" / "r.json"))
    refused("--plot: a plot must end in .png or .svg", args=(SOME[0], *QUICK, "--plot", tmp_path / "r.txt"))
    usage(run("bench", "fprop"), "problem must look like")
    usage(run("bench", "--family", "thick"), "'thick' is not one of")
    usage(run("bench", "--batch", "0"), "--batch")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    refused("pip install 'gpuconv[plot]'", args=(SOME[0], *QUICK, "--plot", tmp_path / "r.png"))


def test_what_is_missing(monkeypatch):
    done = run("bench", SOME[0], "--device", "cuda")
    assert (done.exit_code, done.stderr) == (1, "gpuconv: no CUDA device: CuPy is not installed\n")
    monkeypatch.setattr(baselines, "installed", lambda name: False)
    done = run("bench", SOME[0], "--baseline", "torch")
    assert (done.exit_code, done.stderr) == (1, "gpuconv: --baseline torch: it is not installed\n")


def test_a_cuda_device_is_taken_where_there_is_one(monkeypatch, card, found):
    monkeypatch.setattr(detect, "cuda", lambda: detect.Cuda("14", ("stand-in",)))
    used = []
    monkeypatch.setattr(bench.tables, "legend", lambda device, names: used.append(device) or [])
    monkeypatch.setattr(bench.environment, "environment", lambda device, names: {})
    for args in ((), ("--device", "cuda"), ("--device", "cpu")):
        assert run("bench", SOME[0], *QUICK, *args).exit_code == 0
    assert [device.name for device in used] == ["stand-in", "stand-in", cpu().name]
    # a card gets the tables' own batch sizes
    found["asked"].clear()
    assert run("bench", "--only", "resnet50v1.5-02*", *QUICK).exit_code == 0
    assert {text.split("c")[0] for text, _ in found["asked"]} == {"fprop_n32", "fprop_n64", "fprop_n256"}


def test_a_plot(need, found, tmp_path):
    if importlib.util.find_spec("matplotlib") is None:
        need("plot", "matplotlib is not installed")
    found[SOME[0]] = {"ratio": 2.0}
    plot = tmp_path / "p.svg"
    done = run("bench", *SOME, *QUICK, "--plot", plot)
    assert (done.exit_code, done.stderr) == (0, f"gpuconv: written: {plot}\n")
    assert plot.read_text(encoding="utf-8").startswith("<?xml")
    plot.unlink()
    done = run("bench", SOME[1], *QUICK, "--plot", plot)
    assert (done.exit_code, plot.exists()) == (0, False)
    assert done.stderr.startswith("gpuconv: nothing to draw")


def test_what_cannot_be_written_is_told_before_anything_is_measured(found, tmp_path, monkeypatch):
    def refuse(*args, **how):
        raise PermissionError(13, "Permission denied")

    long = tmp_path / ("x" * 250 + ".json")
    done = run("bench", SOME[0], *QUICK, "--out", long)
    assert (done.exit_code, done.stdout, found["asked"]) == (2, "", [])
    assert "--out: " in done.stderr
    assert "cannot be written: File name too long" in done.stderr
    monkeypatch.setattr(output.tempfile, "NamedTemporaryFile", refuse)
    monkeypatch.setattr(bench.plots, "check", lambda path: None)
    for option, where in (("--out", tmp_path), ("--plot", tmp_path / "p.png")):
        done = run("bench", SOME[0], *QUICK, option, where)
        assert (done.exit_code, done.stdout, found["asked"]) == (2, "", [])
        assert done.stderr == f"gpuconv: {option}: {where} cannot be written: Permission denied\n"


def test_what_was_measured_is_printed_even_where_saving_fails(found, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output.os, "replace", full)
    monkeypatch.setattr(bench.plots, "check", lambda path: None)
    monkeypatch.setattr(bench.plots, "draw", full)
    out, plot = tmp_path / "r.json", tmp_path / "p.png"
    found[SOME[0]] = {"ratio": 7.0}
    done = run("bench", SOME[0], *QUICK, "--out", out, "--plot", plot)
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1].split()[:5] == ["fp32", "fprop", "1", "-", "7.00"]
    *_, first, second, last = done.stderr.splitlines()
    assert (first[:15], second[:16]) == ("gpuconv: --out:", "gpuconv: --plot:")
    assert "No space left" in first
    assert last == f"gpuconv: not written: {out}, {plot}"
    # what a wrong result deserves comes first
    found[SOME[0]] = {"error_over_bound": 2.0}
    assert run("bench", SOME[0], *QUICK, "--out", out).exit_code == 4


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes that have a name")
def test_results_go_down_a_pipe_that_nobody_waits_for_before(found, tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "nobody")
    monkeypatch.setattr(bench.plots, "check", lambda path: None)
    bench._check_files(tmp_path / "nobody", tmp_path / "nobody")
    with read_end(pipe := tmp_path / "pipe") as reader:
        done = run("bench", SOME[0], *QUICK, "--out", pipe)
        assert (done.exit_code, done.stderr) == (0, f"gpuconv: written: {pipe}\n")
        assert json.loads(reader.read())["records"][0]["problem"] == SOME[0]
    assert pipe.is_fifo()


def test_a_missing_type_is_told_before_and_others_go_on(found, monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    bf16 = SOME[0].replace("f32", "bf16")
    done = run("bench", bf16, SOME[1], *QUICK)
    assert done.exit_code == 1
    assert [text for text, _ in found["asked"]] == [SOME[1]]
    assert done.stderr.splitlines() == [
        f"gpuconv: {bf16} is left out: bfloat16 needs ml_dtypes: pip install 'gpuconv[bf16]'",
        "gpuconv: 1 of 2 problems were not measured",
    ]


def test_families_that_no_table_has(found):
    assert run("bench", "--family", "tf32", "--only", "vgg16-*", *QUICK).exit_code == 0
    assert {text.rpartition("_")[2] for text, _ in found["asked"]} == {"tf32", "tf32x3"}
    found["asked"].clear()
    assert run("bench", "--family", "huge", "--dtype", "f16", *QUICK).exit_code == 0
    assert [text for text, _ in found["asked"]] == [str(shapes.huge(layout="nchw"))]


def test_a_huge_problem_is_left_out_on_a_cpu():
    done = run("bench", str(shapes.huge()), *QUICK)
    assert done.exit_code == 1
    assert "is left out: its arrays take 5.0 GB" in done.stderr


@pytest.fixture
def two(tmp_path):
    before, after = tmp_path / "a.json", tmp_path / "b.json"
    result(record(8, us=4.0), record(16, us=4.0), record(24)).save(before)
    result(record(8, us=2.0), record(16, us=5.0), record(32), commit=None, partial=True).save(after)
    return before, after


def test_two_runs_compared(two):
    done = run("bench", "compare", *two)
    assert (done.exit_code, done.stderr) == (0, "")
    for words in (
        "before: Made-Up 9000, 2026-11-20T14:56:40+00:00, commit 48eb2db\n",
        "commit unknown, cut short\n",
        "geometric mean over 2: 1.265; above 1 the second is faster",
        "only before: 1",
        "only after: 1",
    ):
        assert words in done.stdout
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("fprop")]
    assert rows == [[record(16).problem, "4.0", "5.0", "0.80"], [record(8).problem, "4.0", "2.0", "2.00"]]
    short = run("bench", "compare", *two, "--most", "1").stdout
    assert record(8).problem not in short
    assert "over 2: 1.265" in short
    (found,) = json.loads(run("bench", "compare", *two, "--json").stdout)["results"]
    assert [change["ratio"] for change in found["changes"]] == [0.8, 2.0]


def test_runs_that_cannot_be_compared(two, tmp_path):
    before, after = two
    result(record(48), device="Another").save(after)
    done = run("bench", "compare", before, after)
    assert done.exit_code == 1
    assert done.stderr == (
        "gpuconv: the two ran on different devices\ngpuconv: the two have no problem in common\n"
    )
    after.write_text("{}", encoding="utf-8")
    done = run("bench", "compare", before, after)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == f"gpuconv: {after}: no result file of gpuconv: it has no schema\n"
    done = run("bench", "compare", before, tmp_path / "c.json")
    assert done.exit_code == 1
    assert "No such file" in done.stderr
    usage(run("bench", "compare", before), "Missing argument 'AFTER'")


def test_the_overview_names_it():
    assert "bench" in main._COMMANDS
    assert Path(shapes.SHAPES).is_dir()
