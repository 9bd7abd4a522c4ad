"""Real convolution layers, read from the tables of the package, and the choice measured by default."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, Final, cast

from gpuconv.families import HUGE, family
from gpuconv.problem import ConvProblem, Op

SHAPES: Final = Path(__file__).parents[1] / "data" / "shapes"
NUMBERS: Final = ("N", "C", "H", "W", "K", "R", "S", "stride", "pad", "dilation", "groups")
COUNT: Final = "weight_in_network(count)"
#: Characters of a wrong header that are told.
_SHOWN: Final = 100
HEADER: Final = ["name", *NUMBERS, COUNT, "source"]
#: Six times as many channels come out as go in: of its arrays only one becomes huge.
HUGE_LAYER: Final = "efficientnetb0-06-c16k96-112x112-1x1s1-n32"

#: Names measured by default: every kind of layer, each network's distinct ones, and nothing
#: that takes seconds a call.
SELECTION: Final = (
    "resnet50v1.5-*",
    "vgg16-*",
    "mobilenetv2-*",
    "efficientnetb0-*-dw-*",
    "resnext50_32x4d-*",
    "convnext_tiny-*-dw-*",
    "replknet31b-*",
    "sdxl-unet-02-*",
    "sdxl-unet-05-*",
    "sdxl-unet-06-*",
    "sdxl-unet-07-*",
    "sdxl-unet-09-*",
    "image4k-*-3x3s1-*",
    "image4k-*-7x7s1-*",
    "image4k-*-11x11s1-*",
    "image4k-*-17x17s1-*",
)


@dataclass(frozen=True, slots=True)
class Layer:
    """One row of a table.

    Attributes
    ----------
    name : str
        Unique; what stands before the first hyphen is the network or collection it belongs to.
    forward : ConvProblem
        The layer's forward convolution at the batch size of the table, NCHW and float32.
    count : int
        How often the network has it.
    source : str
        Where the numbers come from.
    """

    name: str
    forward: ConvProblem
    count: int
    source: str

    @property
    def network(self) -> str:
        """The network or collection it belongs to."""
        return self.name.partition("-")[0]

    def problem(
        self,
        op: str = "fprop",
        dtype: str = "f32",
        layout: str = "nchw",
        batch: int | None = None,
        precision: str = "ieee",
    ) -> ConvProblem:
        """The layer as a problem; `batch` replaces the table's batch size."""
        n = self.forward.N if batch is None else batch
        how: dict[str, Any] = {"dtype": dtype, "layout": layout, "precision": precision}
        # empty weights: the layout's usual partner
        return replace(self.forward, op=cast(Op, op), weights="", N=n, **how)


def read(path: Path) -> list[Layer]:
    """Read one table.

    Raises
    ------
    ValueError
        For what is no table, and a row that describes no convolution; the message names file, line and
        column.
    """
    (_, header), *rows = _rows(path) or [(1, [])]
    if header != HEADER:
        got = ",".join(header)[:_SHOWN]
        raise ValueError(f"{path.name}: header must be {','.join(HEADER)}, got {got}")
    layers = []
    for line, row in rows:
        try:
            layers.append(_layer(row))
        except ValueError as error:
            raise ValueError(f"{path.name}:{line}: {error}") from None
    return layers


def of_table(
    path: Path, ops: Sequence[str], dtypes: Sequence[str], layouts: Sequence[str], batch: int | None
) -> list[ConvProblem]:
    """Every layer of one table as problems, forward in float32 and NCHW unless asked otherwise.

    Raises
    ------
    ValueError
        As `read`, and for a table without rows.
    """
    layers = read(path)
    if not layers:
        raise ValueError(f"{path} has no rows")
    return [
        layer.problem(op, dtype, layout, batch)
        for op, dtype, layout in product(ops or ("fprop",), dtypes or ("f32",), layouts or ("nchw",))
        for layer in layers
    ]


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Rows that are not blank, each with its line."""
    # spreadsheets begin a file with a mark of its encoding
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, strict=True)
        try:
            return [(rows.line_num, row) for row in rows if row]
        except UnicodeDecodeError as error:
            raise ValueError(f"{path.name}: not UTF-8: {error}") from None
        except csv.Error as error:
            raise ValueError(f"{path.name}:{rows.line_num}: {error}") from None


def read_all(folder: Path = SHAPES) -> list[Layer]:
    """Read every table of a folder, in order of the files' names; no two layers may share a name."""
    layers: list[Layer] = []
    seen: dict[str, str] = {}
    for path in sorted(folder.glob("*.csv")):
        for layer in read(path):
            if layer.name in seen:
                raise ValueError(f"{path.name}: {layer.name} is already in {seen[layer.name]}")
            seen[layer.name] = path.name
            layers.append(layer)
    return layers


def choose(
    *,
    ops: Sequence[str] = ("fprop",),
    dtypes: Sequence[str] = ("f32",),
    layouts: Sequence[str] = ("nchw",),
    families: Sequence[str] = (),
    batch: int | None = None,
    only: Sequence[str] = (),
    every: bool = False,
    precision: str | None = None,
    folder: Path = SHAPES,
) -> list[ConvProblem]:
    """Problems from the tables; layers that are the same problem appear once.

    Parameters
    ----------
    ops, dtypes, layouts : sequence of str
        Every one with every other.
    families : sequence of str
        Only problems of these of `gpuconv.families.FAMILIES`; empty for all. No table's batch is huge: for
        that family there is `huge`, forward and in the gradient to the input, unless names are asked for.
    batch : int, optional
        Replaces the tables' batch sizes.
    only : sequence of str
        Globs: only layers whose name, or whose problem's text, matches one; looked for in all the tables.
    every : bool
        Every layer of every table, not those that match `SELECTION`.
    precision : str, optional
        As in `gpuconv.problem.ConvProblem`. By default ``"ieee"``, and where the family tf32 is asked for
        also ``"tf32"`` and ``"tf32x3"``, of float32.
    folder : Path
        Where the tables are.
    """
    every = every or bool(only)
    layers = [layer for layer in read_all(folder) if every or _matches(SELECTION, layer.name)]
    found = [
        p
        for op, dtype, layout in product(ops, dtypes, layouts)
        for layer in layers
        for rounding in _precisions(dtype, precision, families)
        for p in (layer.problem(op, dtype, layout, batch, rounding),)
        if (not only or _matches(only, layer.name, str(p))) and (not families or family(p) in families)
    ]
    if "huge" in families and not only:
        found += [
            huge(op, dtype, layout, precision or "ieee", folder)
            for op, dtype, layout in product(ops, dtypes, layouts)
            if op != "wgrad"
        ]
    return list(dict.fromkeys(found))


def _precisions(dtype: str, asked: str | None, families: Sequence[str]) -> tuple[str, ...]:
    if asked is not None:
        return (asked,)
    return ("ieee", "tf32", "tf32x3") if "tf32" in families and dtype == "f32" else ("ieee",)


def huge(
    op: str = "fprop",
    dtype: str = "f16",
    layout: str = "nhwc",
    precision: str = "ieee",
    folder: Path = SHAPES,
) -> ConvProblem:
    """`HUGE_LAYER` with the smallest batch whose output has 2³¹ elements."""
    (layer,) = (layer for layer in read_all(folder) if layer.name == HUGE_LAYER)
    one = layer.problem(batch=1)
    return layer.problem(op, dtype, layout, -(-HUGE // prod(one.y_shape)), precision)


def _matches(patterns: Iterable[str], *names: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)


def _layer(row: list[str]) -> Layer:
    if len(row) != len(HEADER):
        raise ValueError(f"a row must have {len(HEADER)} cells, got {len(row)}")
    cells = dict(zip(HEADER, row, strict=True))
    if not cells["name"]:
        raise ValueError("name must not be empty")
    n = {column: _integer(column, cells[column]) for column in (*NUMBERS, COUNT)}
    sizes: dict[str, Any] = {axis: n[axis] for axis in "NCHWKRS"}
    stride, pad, dilation = n["stride"], n["pad"], n["dilation"]
    forward = ConvProblem(
        "fprop",
        **sizes,
        stride=(stride, stride),
        padding=((pad, pad), (pad, pad)),
        dilation=(dilation, dilation),
        groups=n["groups"],
    )
    return Layer(cells["name"], forward, n[COUNT], cells["source"])


def _integer(column: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{column} must be a whole number, got {text!r}")
    return int(text)
