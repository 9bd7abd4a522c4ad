"""Result files: written, read, refused, summed up, compared and drawn."""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from gpuconv.backend.device import Device
from gpuconv.families import family
from gpuconv.problem import OPS, ConvProblem
from gpuconv.report import baselines, environment, plots, tables
from gpuconv.report.records import FIELDS, Record, ResultFile, name_for
from gpuconv.report.summary import compare, geometric_mean, summary

RESULTS = Path(__file__).parents[2] / "bench" / "results"
CPU = Device("cpu", "made up", threads=2)


def record(k=8, op="fprop", geometry="h8w8r1s1", **values):
    p = ConvProblem.parse(f"{op}_n1c8{geometry.replace('r', f'k{k}r')}_nchw_f32")
    first = {"kernel": "some", "config": "a=1", "us": 2.0, "error_over_bound": 0.1, "others": 0.0}
    if "ratio" in values:
        first |= {"baseline": "torch 9.9", "baseline_us": values["ratio"] * values.get("us", 2.0)}
    return Record(str(p), p.op, p.dtype, p.layout, family(p), **{**first, **values})


def result(*records, **values):
    first = {"device": "Made-Up 9000", "date": "2026-11-20T14:56:40+00:00", "commit": "48eb2db"}
    return ResultFile(**{**first, "records": records, **values})


def test_a_record_has_the_fields_that_were_agreed_on():
    assert FIELDS[:20] == (
        "problem", "op", "dtype", "layout", "family", "kernel", "config", "us", "us_cold", "floor_us",
        "share_of_floor", "error_over_bound", "baseline", "baseline_us", "ratio", "device", "commit", "date",
        "cudnn_us", "cudnn_heuristic_us",
    )  # fmt: skip


def test_what_is_written_is_read_again(tmp_path):
    whole = replace(record(ratio=0.5), us_cold=3.0, floor_us=1.0, share_of_floor=0.5, cudnn_us=1.0)
    file = result(
        whole,
        record(16),
        environment={"numpy": "9.9", "threads": 2},
        extras={"import_seconds_beyond_numpy": {"package": 0.1}},
        partial=True,
    )
    path = tmp_path / "r.json"
    file.save(path)
    assert ResultFile.load(path) == file
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line.count('"problem"') for line in lines[-4:]] == [1, 1, 0, 0]
    assert json.loads(lines[-4].rstrip(","))["cudnn_us"] == 1.0
    assert os.stat(path).st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not RESULTS.is_dir(), reason="the results are not beside these tests")
def test_every_result_file_of_the_project_is_read():
    paths = sorted(RESULTS.glob("*.json"))
    assert len(paths) >= 2
    for path in paths:
        found = ResultFile.load(path)
        assert len(found.records) == len(json.loads(path.read_text(encoding="utf-8"))["records"]) > 0
        for each in found.records:
            assert (each.device, each.commit) == (found.device, found.commit)
    old = ResultFile.load(RESULTS / "cpu-amd-epyc-2026-11-20-48eb2db.json")
    assert (old.schema, old.partial, old.environment["threads"]) == (1, False, 2)
    assert set(old.extras) == {"import_seconds_beyond_numpy", "call_overhead"}
    first = old.records[0]
    assert (first.family, first.us, first.ratio, first.us_cold) == ("first-layer", 2218.43, 0.246, None)


@pytest.mark.skipif(not RESULTS.is_dir(), reason="the results are not beside these tests")
def test_what_the_readme_says_of_images_is_what_was_measured():
    files = [ResultFile.load(path) for path in RESULTS.glob("cpu-*.json")]
    images = [each for file in files for each in file.records if each.family == "image" and each.ratio]
    faster = {op for op in OPS if all(each.ratio > 1 for each in images if each.op == op)}
    said = "faster on large one-channel images forward and in the gradient to the input."
    assert faster == {"fprop", "dgrad"}
    assert said in " ".join((RESULTS.parents[1] / "README.md").read_text(encoding="utf-8").split())


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "r.json"
    result(record()).save(path)
    before = path.read_text(encoding="utf-8")

    def fail(*_):
        raise OSError("no")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no"):
        result().save(path)
    assert path.read_text(encoding="utf-8") == before
    assert list(tmp_path.iterdir()) == [path]


def damaged(file, **values):
    return {**file, "records": [{**file["records"][0], **values}]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: [f], "no result file of gpuconv"),
        (lambda f: {"a": 1}, "no result file of gpuconv"),
        (lambda f: {**f, "schema": 3}, "schema must be 1 or 2, got 3"),
        (lambda f: {**f, "schema": True}, "schema must be 1 or 2, got True"),
        (lambda f: {**f, "device": 7}, "device must be text, got 7"),
        (lambda f: {**f, "partial": 1}, "partial must be true or false, got 1"),
        (lambda f: {**f, "records": {}}, "records must be a list, got {}"),
        (lambda f: {**f, "more": 1}, "unknown: 'more'"),
        (lambda f: {name: f[name] for name in f if name != "date"}, "date missing"),
        (lambda f: {**f, "records": ["a"]}, "record 1: must be an object, got 'a'"),
        (lambda f: {**f, "records": 2 * f["records"]}, "record 2: .* was there before"),
        (lambda f: damaged(f, problem="conv"), "record 1: problem must look like"),
        (lambda f: damaged(f, problem=None), "record 1: problem must be text, got None"),
        (lambda f: damaged(f, op="dgrad"), "record 1: op must be the problem's, fprop, got 'dgrad'"),
        (lambda f: damaged(f, dtype="f16"), "record 1: dtype must be the problem's, f32"),
        (lambda f: damaged(f, family="thick"), "record 1: family must be one of huge, .* got 'thick'"),
        (lambda f: damaged(f, us="fast"), "record 1: us must be a number above 0, or null, got 'fast'"),
        (lambda f: damaged(f, us=0), "record 1: us must be a number above 0, or null, got 0"),
        (lambda f: damaged(f, us=True), "record 1: us must be a number"),
        (lambda f: damaged(f, gflops=float("inf")), "record 1: gflops must be a number"),
        (
            lambda f: damaged(f, others=-1),
            "record 1: others must be a number no less than 0, or null, got -1",
        ),
        (lambda f: damaged(f, kernel=3), "record 1: kernel must be text or null, got 3"),
        (lambda f: damaged(f, ratio=2.0), "record 1: baseline, baseline_us and ratio go together"),
        (
            lambda f: damaged(f, ratio=2.0, baseline="torch", baseline_us=1.0),
            r"record 1: ratio must be baseline_us / us, got 2\.0",
        ),
        (lambda f: damaged(f, fast=1), "record 1: unknown: 'fast'"),
        (lambda f: {**f, "schema": 1}, "versions, threads missing"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, change, message):
    path = tmp_path / "r.json"
    result(record()).save(path)
    path.write_text(json.dumps(change(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")
    with pytest.raises(ValueError, match=message) as found:
        ResultFile.load(path)
    assert str(found.value).startswith(f"{path}: ")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_refused(tmp_path, content):
    path = tmp_path / "r.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"r\.json: (no JSON|nested too deeply)"):
        ResultFile.load(path)


@pytest.mark.parametrize("row", ["a", {}, {"problem": 3}, {"problem": "conv"}])
def test_a_damaged_row_of_schema_1_is_refused(tmp_path, row):
    head = {"schema": 1, "device": "d", "date": "2026", "commit": None, "versions": {}, "threads": 2}
    path = tmp_path / "r.json"
    path.write_text(json.dumps({**head, "records": [row]}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"r\.json: (record 1|problem must)"):
        ResultFile.load(path)


def test_names_of_files():
    date = "2026-11-20T14:56:40+00:00"
    assert name_for(Device("cpu", "AMD EPYC"), date, "48eb2db") == "cpu-amd-epyc-2026-11-20-48eb2db.json"
    card = Device("cuda", "NVIDIA H200", index=1)
    assert name_for(card, date, "48eb2db-dirty") == "nvidia-h200-2026-11-20-48eb2db-dirty.json"
    for commit, there in (
        ("../../x y", "x-y"),
        ("/", "no-commit"),
        ("..", "no-commit"),
        ("a" * 999, "a" * 80),
    ):
        assert name_for("card", date, commit) == f"card-2026-11-20-{there}.json"
    odd = name_for("../Intel(R) Xeon(R) CPU @ 2.20GHz/", date, None)
    assert odd == "..-intel-r-xeon-r-cpu-2.20ghz-2026-11-20-no-commit.json"


def test_means_are_geometric_and_the_worst_is_named():
    records = [
        record(8, ratio=0.5, share_of_floor=0.2),
        record(16, ratio=8.0, share_of_floor=0.8),
        record(24, ratio=99.0, others=0.9),
        record(32),
        record(40, us=None, error_over_bound=2.0),
        record(8, op="dgrad", ratio=2.0),
    ]
    rows = summary(records)
    assert [(row.family, row.op, row.count, row.compared) for row in rows] == [
        *(("all", "all", 4, 3), ("fp32", "fprop", 3, 2), ("fp32", "dgrad", 1, 1))
    ]
    assert [row.ratio for row in rows] == pytest.approx([2.0, 2.0, 2.0])
    assert (rows[1].worst, rows[1].worst_problem) == (0.5, records[0].problem)
    assert rows[1].share_of_floor == pytest.approx(0.4)
    assert rows[2].share_of_floor is None
    assert len(summary(records[:2])) == 1  # all of one kind need no sum of all
    assert summary([]) == []
    assert geometric_mean([]) is None
    (line,) = tables.disturbed_line(records)
    assert line.startswith("! 1 of 6")


def test_families_come_in_their_order():
    depthwise = record(8, geometry="h8w8r3s3g8")
    assert [row.family for row in summary([record(), depthwise])] == ["all", "depthwise", "fp32"]


def test_two_runs_compared():
    before = [record(8, us=4.0), record(16, us=4.0), record(24), record(32, us=1.0), record(40, us=None)]
    after = [record(8, us=2.0), record(16, us=5.0), record(48), record(32, us=9.0, others=1.0), record(40)]
    found = compare(before, after)
    assert [change.ratio for change in found.changes] == pytest.approx([1 / 9, 0.8, 2.0])
    assert [change.disturbed for change in found.changes] == [True, False, False]
    assert found.ratio == pytest.approx((0.8 * 2.0) ** 0.5)
    assert found.only_before == (record(24).problem,)
    assert found.only_after == (record(48).problem, record(40).problem)
    head, rows = tables.comparison_table(found, most=2)
    assert head[-1] == "before / after"
    assert [row[-1] for row in rows] == ["0.11", "0.80"]
    assert rows[0][0].endswith(" !")


def test_columns_stay_where_they_are():
    records = [record(8, ratio=0.5), record(4096, us=123456.78, others=0.5)]
    lines = tables.Lines([each.problem for each in records], CPU, compared=True)
    head, first, second = lines.head(), *map(lines.row, records)
    for title, cells in (
        ("µs", ("2.0", "123456.8")),
        ("ratio", ("0.50", "-")),
        ("err/bound", ("0.1", "0.1")),
    ):
        end = head.index(f" {title} ") + 1 + len(title)
        assert [line[:end].split()[-1] for line in (first, second)] == list(cells)
    assert "!" in second
    assert "of floor" not in head
    assert "of floor" in tables.Lines([], Device("cuda", "card"), compared=False).head()
    assert "ratio" not in tables.Lines([], CPU, compared=False).head()
    plain = list(tables.plain((["problem", "µs"], [["a", "1.0"], ["long", "100.0"]])))
    assert plain == ["problem     µs", "a          1.0", "long     100.0"]


def test_commit_is_that_of_a_checkout(tmp_path):
    assert environment.commit_of(tmp_path) is None
    (tmp_path / ".git").mkdir()  # an empty one
    assert environment.commit_of(tmp_path) is None
    here = environment.environment(CPU, ["torch 9.9"])
    assert (here["threads"], here["baselines"]) == (2, ["torch 9.9"])


@pytest.fixture
def matplotlib(need):
    if importlib.util.find_spec("matplotlib") is None:
        need("plot", "matplotlib is not installed")


def test_plots(matplotlib, tmp_path):
    records = [record(8, ratio=0.5), record(16, ratio=8.0), record(8, op="dgrad", ratio=2.0)]
    shares = [replace(each, floor_us=1.0, share_of_floor=0.5) for each in records]
    slow = record(24, ratio=99.0, others=0.9)
    for name, start in (("p.png", b"\x89PNG"), ("p.svg", b"<?xml")):
        plots.draw(result(*shares, slow), tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
    plots.draw(result(*shares, slow), tmp_path / "again.svg")
    both = (tmp_path / "p.svg").read_text(encoding="utf-8")
    assert (tmp_path / "again.svg").read_text(encoding="utf-8") == both
    for words in ("Made-Up 9000, 2026-11-20, 48eb2db: 3 problems, 1 left out", "share of the floor"):
        assert words in both
    plots.draw(result(*records, partial=True), tmp_path / "p.svg")
    ratios = (tmp_path / "p.svg").read_text(encoding="utf-8")
    assert "time of torch ÷ gpuconv" in ratios
    assert "cut short" in ratios
    assert "share of the floor" not in ratios
    with pytest.raises(ValueError, match="nothing to draw"):
        plots.draw(result(record(), slow), tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_what_cannot_be_drawn_is_refused_early(monkeypatch):
    with pytest.raises(ValueError, match=r"must end in \.png or \.svg, got 'a\.pdf'"):
        plots.check(Path("a.pdf"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'gpuconv\[plot\]'"):
        plots.check(Path("a.PNG"))
    assert not baselines.installed("torch")
