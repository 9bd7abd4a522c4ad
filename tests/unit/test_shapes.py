"""The tables of real layers: read whole, refused where they are damaged, and chosen from."""

from __future__ import annotations

from fnmatch import fnmatchcase
from math import prod

import pytest

from gpuconv.problem import OPS, ConvProblem
from gpuconv.report import shapes

HEADER = "name,N,C,H,W,K,R,S,stride,pad,dilation,groups,weight_in_network(count),source"
GOOD = "net-01,2,4,8,9,6,3,5,2,1,1,2,1,somewhere"


def table(path, *rows):
    path.write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    return path


def test_every_row_of_the_tables_is_a_layer():
    layers = shapes.read_all()
    paths = list(shapes.SHAPES.glob("*.csv"))
    assert len(paths) == 2
    assert len(layers) == sum(len(path.read_text(encoding="utf-8").splitlines()) - 1 for path in paths) > 0
    for op in OPS:
        for layer in layers:
            p = layer.problem(op, "f16", "nhwc", batch=3)
            assert (p.op, p.dtype, p.layout, p.weights, p.N) == (op, "f16", "nhwc", "hwio", 3)
            assert ConvProblem.parse(str(p)) == p


def test_a_row_is_read_column_by_column(tmp_path):
    (layer,) = shapes.read(table(tmp_path / "t.csv", GOOD))
    assert (layer.name, layer.network, layer.count, layer.source) == ("net-01", "net", 1, "somewhere")
    assert str(layer.problem()) == "fprop_n2c4h8w9k6r3s5u2p1g2_nchw_f32"
    assert str(layer.problem(precision="tf32")) == "fprop_n2c4h8w9k6r3s5u2p1g2_nchw_f32_tf32"


def test_a_mark_of_the_encoding_and_blank_lines_are_no_rows(tmp_path):
    path = table(tmp_path / "t.csv", "", GOOD, "", GOOD.replace("-01", "-02"), "")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert [layer.name for layer in shapes.read(path)] == ["net-01", "net-02"]
    with pytest.raises(ValueError, match=r"t\.csv:4: a row must have 14 cells, got 1"):
        shapes.read(table(path, "", GOOD, "odd"))


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
def test_a_malformed_row_is_refused(tmp_path, row, message):
    with pytest.raises(ValueError, match=message):
        shapes.read(table(tmp_path / "t.csv", GOOD, row))


def test_a_wrong_header_and_a_repeated_name_are_refused(tmp_path):
    other = tmp_path / "other" / "t.csv"
    other.parent.mkdir()
    other.write_text("name,N\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"t\.csv: header must be name,N,C"):
        shapes.read(other)
    table(tmp_path / "a.csv", GOOD)
    table(tmp_path / "b.csv", GOOD)
    with pytest.raises(ValueError, match=r"b\.csv: net-01 is already in a\.csv"):
        shapes.read_all(tmp_path)


def test_the_default_choice_has_every_network_and_kind():
    layers = shapes.read_all()
    chosen = [
        layer for layer in layers if any(fnmatchcase(layer.name, pattern) for pattern in shapes.SELECTION)
    ]
    assert {layer.network for layer in chosen} == {
        *("resnet50v1.5", "vgg16", "mobilenetv2", "efficientnetb0", "resnext50_32x4d"),
        *("convnext_tiny", "replknet31b", "sdxl", "image4k"),
    }
    for pattern in shapes.SELECTION:
        assert any(fnmatchcase(layer.name, pattern) for layer in chosen), pattern
    assert shapes.choose() == list(dict.fromkeys(layer.problem() for layer in chosen))
    kinds = {shapes.family(p) for p in shapes.choose(dtypes=["bf16", "f32"], layouts=["nhwc", "nchw"])}
    assert kinds == {
        *("image", "first-layer", "depthwise-large", "depthwise", "grouped", "fp32", "nchw", "pointwise"),
        *("few-tile", "dense"),
    }


def test_families_beyond_the_tables():
    found = shapes.choose(families=["tf32"], dtypes=["f32", "f16"], layouts=["nhwc"], ops=OPS)
    assert {(p.op, p.precision) for p in found} == {(op, how) for op in OPS for how in ("tf32", "tf32x3")}
    assert {p.precision for p in shapes.choose(families=["tf32"], precision="tf32x3")} == {"tf32x3"}
    assert shapes.choose(families=["tf32"], precision="ieee") == []
    found = shapes.choose(families=["huge"], dtypes=["f16"], layouts=["nhwc"], ops=OPS, batch=1)
    assert found == [shapes.huge(), shapes.huge("dgrad")]
    assert {shapes.family(p) for p in found} == {"huge"}
    assert prod(found[0].y_shape) - prod(found[0].y_shape[1:]) < 2**31  # one image less is not


def test_the_layers_of_a_day_with_a_gpu():
    layers = pytest.importorskip("bench.check.layers")
    found = layers.problems(False)
    kinds = {(p.op, p.precision) for p in found if shapes.family(p) == "tf32"}
    assert kinds == {(op, how) for op in OPS for how in ("tf32", "tf32x3")}
    assert [p for p in found if shapes.family(p) == "huge"] == [shapes.huge()]
    assert shapes.huge() not in layers.problems(True)
    few = layers.limited(found, 1)
    assert shapes.huge() not in few
    assert {p.precision for p in few} == {"ieee", "tf32", "tf32x3"}


def test_problems_are_chosen(tmp_path):
    small = "small-01,1,8,8,8,8,1,1,1,0,1,1,2,somewhere"
    same = small.replace("small-01", "same-01")
    vgg = "vgg16-01,4,8,8,8,8,3,3,1,1,1,8,1,somewhere"
    table(tmp_path / "t.csv", small, same, vgg)

    def chosen(**how):
        return [str(p) for p in shapes.choose(folder=tmp_path, **how)]

    pointwise, depthwise = "n1c8h8w8k8r1s1", "n4c8h8w8k8r3s3p1g8"
    assert chosen() == [f"fprop_{depthwise}_nchw_f32"]
    assert chosen(every=True) == [f"fprop_{pointwise}_nchw_f32", f"fprop_{depthwise}_nchw_f32"]
    assert chosen(only=["s*"]) == [f"fprop_{pointwise}_nchw_f32"]
    assert chosen(only=["*k8r1*"], ops=["dgrad"]) == [f"dgrad_{pointwise}_nchw_f32"]
    assert chosen(every=True, families=["depthwise"]) == [f"fprop_{depthwise}_nchw_f32"]
    assert chosen(batch=9) == [f"fprop_{depthwise}_nchw_f32".replace("n4", "n9")]
    assert chosen(dtypes=["f16", "f64"], layouts=["nhwc", "nchw"]) == [
        f"fprop_{depthwise}_{layout}_{dtype}" for dtype in ("f16", "f64") for layout in ("nhwc", "nchw")
    ]
    assert chosen(only=["nothing"]) == []
