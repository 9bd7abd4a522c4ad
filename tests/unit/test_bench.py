"""The benchmarks' own machinery: tables read whole, the choice covers every kind, results are written."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpuconv.backend import device
from gpuconv.problem import ConvProblem

pytest.importorskip("pytest_benchmark")
ROOT = Path(__file__).parents[2]
if not (ROOT / "bench" / "layers.py").exists():
    pytest.skip("the benchmarks are not beside these tests", allow_module_level=True)

HEADER = "name,N,C,H,W,K,R,S,stride,pad,dilation,groups,weight_in_network(count),source"
GOOD = "net-01,2,4,8,9,6,3,5,2,1,1,2,1,somewhere"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: importlib.import_module(f"bench.{name}")


def table(path: Path, *rows: str) -> Path:
    path.write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    return path


def test_every_row_of_the_tables_is_a_layer(module: Any) -> None:
    layers = module("layers").read_all()
    lines = sum(
        len(path.read_text(encoding="utf-8").splitlines()) - 1
        for path in (ROOT / "bench/shapes").glob("*.csv")
    )
    assert len(layers) == lines > 0
    for op in ("fprop", "dgrad", "wgrad"):
        for layer in layers:
            p = layer.problem(op, "f16", "nhwc", batch=3)
            assert (p.op, p.dtype, p.layout, p.weights, p.N) == (op, "f16", "nhwc", "hwio", 3)
            assert ConvProblem.parse(str(p)) == p


def test_a_row_is_read_column_by_column(module: Any, tmp_path: Path) -> None:
    (layer,) = module("layers").read(table(tmp_path / "t.csv", GOOD))
    assert (layer.name, layer.family, layer.count, layer.source) == ("net-01", "net", 1, "somewhere")
    assert str(layer.problem()) == "fprop_n2c4h8w9k6r3s5u2p1g2_nchw_f32"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (GOOD.replace(",8,", ",eight,", 1), r"t\.csv:3: H must be a whole number, got 'eight'"),
        (GOOD.replace(",8,", ",-8,", 1), r"t\.csv:3: H must be a whole number"),
        (GOOD + ",more", r"t\.csv:3: a row must have 14 cells, got 15"),
        (GOOD.replace(",2,1,somewhere", ",3,1,somewhere"), r"t\.csv:3: groups must divide C=4"),
        (GOOD.replace("net-01", ""), r"t\.csv:3: name must not be empty"),
    ],
)
def test_a_malformed_row_is_refused(module: Any, tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        module("layers").read(table(tmp_path / "t.csv", GOOD, row))


def test_a_wrong_header_and_a_repeated_name_are_refused(module: Any, tmp_path: Path) -> None:
    layers = module("layers")
    other = tmp_path / "other" / "t.csv"
    other.parent.mkdir()
    other.write_text("name,N\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"t\.csv: header must be name,N,C"):
        layers.read(other)
    table(tmp_path / "a.csv", GOOD)
    table(tmp_path / "b.csv", GOOD)
    with pytest.raises(ValueError, match=r"b\.csv: net-01 is already in a\.csv"):
        layers.read_all(tmp_path)


def test_the_default_choice_has_every_family_and_kind(module: Any) -> None:
    layers = module("layers")
    chosen = layers.select(layers.read_all())
    families = {layer.family for layer in chosen}
    assert families == {
        *("resnet50v1.5", "vgg16", "mobilenetv2", "efficientnetb0", "resnext50_32x4d"),
        *("convnext_tiny", "replknet31b", "sdxl", "image4k"),
    }
    kinds = {layers.kind(layer.problem()) for layer in chosen}
    assert kinds == {"image", "depthwise", "grouped", "pointwise", "dense 3x3", "dense other"}
    for pattern in layers.SELECTION:
        assert any(fnmatchcase(layer.name, pattern) for layer in chosen), pattern
    vgg = layers.select(layers.read_all(), ["vgg16"])
    assert vgg
    assert {layer.family for layer in vgg} == {"vgg16"}


@pytest.mark.parametrize("op", ["fprop", "dgrad", "wgrad"])
@pytest.mark.parametrize("text", ["n2c6h7w5k4r3s2u2p1g2_nhwc_f32", "n1c4h6w6k4r3s3p1g4_nchw_f64"])
def test_the_public_call_computes_the_problem(module: Any, op: str, text: str) -> None:
    measure = module("measure")
    p = ConvProblem.parse(f"{op}_{text}")
    a, b = measure.operands(p)
    result = measure.public_call(p, a, b)()
    assert measure.error_over_bound(p, result, a, b) <= 1
    wrong = result + np.max(np.abs(result)) / 100
    assert measure.error_over_bound(p, wrong, a, b) > 1


def test_a_run_writes_its_results(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    command = [sys.executable, "-m", "pytest", "bench/test_conv_cpu.py", "-p", "no:cacheprovider"]
    command += ["-k", "n1c960h7w7k960", "--op", "dgrad", "--layout", "nhwc", "--turns", "1", "--no-baseline"]
    command += ["--results", str(path)]
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "torch" not in done.stdout.partition("convolution benchmarks")[2]
    found = json.loads(path.read_text(encoding="utf-8"))
    assert [*tmp_path.iterdir()] == [path]
    assert found["schema"] == 1
    assert found["versions"]["numpy"] == np.__version__
    assert {"device", "date", "commit", "threads"} <= found.keys()
    (record,) = found["records"]
    assert record["problem"] == "dgrad_n1c960h7w7k960r3s3p1g960_nhwc_f32"
    assert list(record) == [
        *("problem", "op", "dtype", "layout", "kernel", "config", "us", "gflops", "error_over_bound"),
        *("baseline", "baseline_us", "ratio", "others"),
    ]
    assert record["us"] > 0
    assert record["gflops"] > 0
    assert 0 <= record["error_over_bound"] <= 1
    assert record["kernel"]
    assert record["baseline"] is record["baseline_us"] is record["ratio"] is None
    (row,) = [line for line in done.stdout.splitlines() if line.startswith(record["problem"])]
    assert record["kernel"] in row


def test_means_are_geometric_and_the_worst_is_named(module: Any) -> None:
    report = module("report")
    found = report.Report(device.cpu(), "torch 9.9")
    for k, ratio, others in ((8, 0.5, 0.0), (16, 8.0, 0.1), (32, 99.0, 0.9)):
        record = dict.fromkeys(report.RECORD, 1.0)
        record |= {"problem": f"fprop_n1c4h8w8k{k}r1s1_nchw_f32", "op": "fprop", "kernel": "some"}
        found.records.append(record | {"ratio": ratio, "others": others})
    text = "\n".join(found.lines())
    assert "ratio = torch 9.9 time / gpuconv time: above 1 gpuconv is faster" in text
    assert "! 1 of 3: other processes kept a processor busy; left out below" in text
    assert text.count("fprop_n1c4h8w8k32r1s1_nchw_f32 !") == 1
    summary = "geometric mean  2.00  worst  0.50  fprop_n1c4h8w8k8r1s1_nchw_f32"
    assert text.count(summary) == 2  # over all, and over the pointwise ones


def test_a_failed_write_leaves_the_old_file(
    module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = module("report")
    found = report.Report(device.cpu(), import_seconds={"package": 0.1, "conv2d": 0.2})
    path = tmp_path / "results.json"
    found.write(path, None)
    before = path.read_text(encoding="utf-8")
    assert json.loads(before)["import_seconds_beyond_numpy"] == {"package": 0.1, "conv2d": 0.2}

    def fail(*_: Any) -> None:
        raise OSError("no")

    monkeypatch.setattr(report.os, "replace", fail)
    with pytest.raises(OSError, match="no"):
        found.write(path, "abc")
    assert path.read_text(encoding="utf-8") == before
    assert [*tmp_path.iterdir()] == [path]
