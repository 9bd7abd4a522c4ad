"""Real convolution layers, read from the tables in ``shapes/``, and the choice benchmarked by default."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, cast

from gpuconv.problem import ConvProblem, Op

SHAPES: Final = Path(__file__).parent / "shapes"
NUMBERS: Final = ("N", "C", "H", "W", "K", "R", "S", "stride", "pad", "dilation", "groups")
COUNT: Final = "weight_in_network(count)"
HEADER: Final = ["name", *NUMBERS, COUNT, "source"]

#: Names benchmarked unless --all is given: every kind of layer, each network's distinct ones, and nothing
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
        Unique; what stands before the first hyphen is the family.
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
    def family(self) -> str:
        """The network or collection it belongs to."""
        return self.name.partition("-")[0]

    def problem(
        self, op: str = "fprop", dtype: str = "f32", layout: str = "nchw", batch: int | None = None
    ) -> ConvProblem:
        """The layer as a problem; `batch` replaces the table's batch size."""
        n = self.forward.N if batch is None else batch
        # empty weights: the layout's usual partner
        return replace(self.forward, op=cast(Op, op), dtype=dtype, layout=layout, weights="", N=n)


def read(path: Path) -> list[Layer]:
    """Read one table.

    Raises
    ------
    ValueError
        For a row that describes no convolution; the message names file, line and column.
    """
    with open(path, encoding="utf-8", newline="") as file:
        rows = csv.reader(file, strict=True)
        header = next(rows, [])
        if header != HEADER:
            raise ValueError(f"{path.name}: header must be {','.join(HEADER)}, got {','.join(header)}")
        layers = []
        for row in rows:
            try:
                layers.append(_layer(row))
            except ValueError as error:
                raise ValueError(f"{path.name}:{rows.line_num}: {error}") from None
    return layers


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


def select(layers: Iterable[Layer], families: Sequence[str] = (), every: bool = False) -> list[Layer]:
    """Keep the default choice, or all if `every`; of those, the names that begin like one of `families`."""
    return [
        layer
        for layer in layers
        if (every or any(fnmatchcase(layer.name, pattern) for pattern in SELECTION))
        and (not families or layer.name.startswith(tuple(families)))
    ]


def kind(p: ConvProblem) -> str:
    """The group a problem is summed up in."""
    if p.C == p.K == 1:
        return "image"
    if p.groups > 1:
        return "depthwise" if p.groups == p.C else "grouped"
    if p.R * p.S == 1:
        return "pointwise"
    return "dense 3x3" if p.R == p.S == 3 else "dense other"


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
