"""Heat maps: how a problem's time depends on two fields of a kernel's config."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any, Final

from gpuconv.autotune.recording import Recorded, Tried
from gpuconv.report import html_svg
from gpuconv.report.html_facts import Part, Row
from gpuconv.report.html_svg import FAINT, INK

_FIELD: Final = re.compile(r"([a-z_][a-z0-9_]*)=(-?\d{1,18})", re.ASCII)
#: The darkest is the fastest; from so many times its time on, all are alike.
_SLOWEST: Final = 4.0
#: Cells of a row from which on the map takes the page's width.
WIDE: Final = 9
_CELL: Final = (0.46, 0.34)

Config = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Cell:
    """Candidates that agree in the fields of the axes.

    Attributes
    ----------
    ratio : float or None
        The fastest of them, divided by the fastest of the problem; None where none was timed.
    failed : int
        How many were refused, failed or wrong.
    default, chosen : bool
        Whether the default, and what was taken, is among them.
    """

    ratio: float | None
    failed: int
    default: bool
    chosen: bool


@dataclass(frozen=True, slots=True)
class HeatMap:
    """One problem's map.

    Attributes
    ----------
    row : Row
        The problem.
    kernel : str
        Whose config: that of what was taken.
    x, y : str and str or None
        Fields of the axes; a strip has no second.
    cells : dict
        By values of the two, the second 0 for a strip.
    explained : float
        Share of the variance of log time that the fields explain.
    others : tuple of str
        Fields that vary too, and are at their best in each cell.
    """

    row: Row
    kernel: str
    x: str
    y: str | None
    cells: dict[tuple[int, int], Cell]
    explained: float
    others: tuple[str, ...]

    @property
    def columns(self) -> list[int]:
        """Values of the first field."""
        return sorted({x for x, _ in self.cells})

    @property
    def rows(self) -> list[int]:
        """Values of the second field."""
        return sorted({y for _, y in self.cells})


def choose(part: Part, most: int) -> list[HeatMap]:
    """Maps of the problems that gained most, those of two fields before strips."""
    maps = [found for row in part.rows if (found := heat_map(row)) is not None]
    maps.sort(key=lambda one: one.y is None)  # rows come by gain, and stay so
    return maps[:most]


def heat_map(row: Row) -> HeatMap | None:
    """A problem's map; None where no field varies among two candidates that were timed."""
    if row.recorded is None:
        return None
    kernel = row.recorded.best.kernel
    configs = {
        at: config
        for at, one in enumerate(row.recorded.tried)
        if one.kernel == kernel and (config := _fields(one.config))
    }
    names = list(next(iter(configs.values()), {}))
    configs = {at: config for at, config in configs.items() if list(config) == names}
    tried = row.recorded.tried
    timed = [(config, us) for at, config in configs.items() if (us := tried[at].us) is not None]
    varying = [name for name in names if len({config[name] for config, _ in timed}) > 1]
    if not varying:
        return None
    ranked = sorted(varying, key=lambda name: (-_weight(timed, [name]), names.index(name)))
    shown = sorted(ranked[:2], key=lambda name: -len({config[name] for config in configs.values()}))
    x, y = shown[0], shown[1] if len(shown) > 1 else None
    grouped: dict[tuple[int, int], list[int]] = {}
    for at, config in configs.items():
        grouped.setdefault((config[x], config[y] if y else 0), []).append(at)
    cells = {place: _cell(row.recorded, members) for place, members in grouped.items()}
    return HeatMap(row, kernel, x, y, cells, _explained(timed, shown), tuple(ranked[2:]))


def draw(found: HeatMap, name: str) -> str:
    """The map as an element."""
    with html_svg.style():
        columns, rows = found.columns, found.rows
        width = max(3.7, _CELL[0] * len(columns) + 1.0)
        made = html_svg.figure(width, _CELL[1] * len(rows) + 0.62)
        axes = made.subplots()
        for (x, y), cell in found.cells.items():
            _draw_cell(axes, columns.index(x), rows.index(y), cell)
        axes.set_xlim(-0.5, len(columns) - 0.5)
        axes.set_ylim(-0.5, len(rows) - 0.5)
        axes.set_xticks(range(len(columns)), [str(value) for value in columns], fontsize=8)
        axes.set_xlabel(found.x, fontsize=8.5)
        if found.y is None:
            axes.set_yticks([])
        else:
            axes.set_yticks(range(len(rows)), [str(value) for value in rows], fontsize=8)
            axes.set_ylabel(found.y, fontsize=8.5)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        html_svg.plain_axes(axes)
        return html_svg.svg(made, name, f"{_title(found)}: {_in_words(found)}")


def _fields(text: str) -> dict[str, int]:
    """A config's fields; nothing where it is not one."""
    matches = [_FIELD.fullmatch(part) for part in text.split(",")]
    return {found[1]: int(found[2]) for found in matches if found} if all(matches) else {}


def _explained(timed: Sequence[tuple[Config, float]], names: Sequence[str]) -> float:
    """Share of the variance of log time that lies between groups which agree in these fields."""
    groups: dict[tuple[int, ...], list[float]] = {}
    for config, us in timed:
        groups.setdefault(tuple(config[name] for name in names), []).append(log(us))
    mean = sum(log(us) for _, us in timed) / len(timed)
    whole = sum((log(us) - mean) ** 2 for _, us in timed)
    between = sum(len(group) * (sum(group) / len(group) - mean) ** 2 for group in groups.values())
    return between / whole if whole > 0 else 0.0


def _weight(timed: Sequence[tuple[Config, float]], names: Sequence[str]) -> float:
    """The same without what chance explains: as many groups as candidates would explain everything."""
    groups = len({tuple(config[name] for name in names) for config, _ in timed})
    if len(timed) <= groups:
        return 0.0
    return 1 - (1 - _explained(timed, names)) * (len(timed) - 1) / (len(timed) - groups)


def _cell(recorded: Recorded, members: Sequence[int]) -> Cell:
    fastest = min(_times(recorded.tried))
    times = _times([recorded.tried[at] for at in members])
    return Cell(
        min(times) / fastest if times else None,
        sum(recorded.tried[at].failure is not None for at in members),
        0 in members,
        recorded.chosen in members,
    )


def _times(tried: Sequence[Tried]) -> list[float]:
    return [one.us for one in tried if one.us is not None]


def _draw_cell(axes: Any, x: int, y: int, cell: Cell) -> None:
    from matplotlib.patches import Rectangle

    colour, ink = _colours(cell.ratio)
    hatch = "////" if cell.ratio is None and cell.failed else None
    axes.add_patch(
        Rectangle(
            (x - 0.48, y - 0.46), 0.96, 0.92, facecolor=colour, edgecolor="#d5d8dc", linewidth=0, hatch=hatch
        )
    )
    if cell.ratio is None:
        text = "×" if cell.failed else "·"
        axes.text(x, y, text, ha="center", va="center", fontsize=11, color=INK)
    else:
        text = f"{cell.ratio:.2f}" if cell.ratio < 9.995 else f"{cell.ratio:.0f}"
        axes.text(x, y - 0.03, text, ha="center", va="center", fontsize=7.5, color=ink)
        if cell.failed:
            axes.text(x + 0.4, y - 0.36, "×", ha="center", va="center", fontsize=7, color=ink)
    mark = {"linestyle": "", "markeredgewidth": 0.9, "clip_on": False}
    if cell.default:
        axes.plot(
            [x - 0.36], [y + 0.3], marker="o", markersize=4.2, markerfacecolor="none", color=ink, **mark
        )
    if cell.chosen:
        axes.plot([x + 0.36], [y + 0.3], marker="*", markersize=5.5, color=ink, **mark)


def _colours(ratio: float | None) -> tuple[Any, Any]:
    """Of a cell and of what is written on it."""
    if ratio is None:
        return "#f1f2f4", FAINT
    from matplotlib import colormaps

    share = min(log(ratio) / log(_SLOWEST), 1.0)
    colour = colormaps["YlGnBu_r"](0.12 + 0.8 * share)
    red, green, blue = (value**2.2 for value in colour[:3])
    light = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return colour, "white" if light < 0.2 else INK  # whichever stands out more


def _title(found: HeatMap) -> str:
    return f"{found.row.problem}, {found.x}" + (f" by {found.y}" if found.y else "")


def _in_words(found: HeatMap) -> str:
    """Every cell, for who cannot see it."""
    parts = []
    for (x, y), cell in sorted(found.cells.items()):
        where = f"{found.x} {x}" + (f" and {found.y} {y}" if found.y else "")
        value = "not timed" if cell.ratio is None else f"{cell.ratio:.2f} times the fastest"
        value += ", default" * cell.default + ", taken" * cell.chosen
        parts.append(f"{where} {value}" + (f", {cell.failed} failed" if cell.failed else ""))
    return "; ".join(parts)
