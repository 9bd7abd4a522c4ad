"""Pictures of a result file, through matplotlib."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from math import ceil, floor, log2
from pathlib import Path
from typing import Any, Final

from gpuconv.families import FAMILIES
from gpuconv.problem import OPS
from gpuconv.report.records import Record, ResultFile
from gpuconv.report.summary import geometric_mean

#: Endings that are known to work.
FORMATS: Final = (".png", ".svg")
#: Okabe and Ito's colours, told apart with any eyes; the shape says the same again.
_STYLES: Final = {"fprop": ("#0072B2", "o"), "dgrad": ("#D55E00", "^"), "wgrad": ("#009E73", "s")}
_MEAN: Final = "geometric mean"
#: Steps of this share of a circle never come close to an earlier one.
_GOLDEN: Final = 0.618034
#: What the lanes of a family take of its row.
_ROW: Final = 0.88
_MOST_TICKS: Final = 12


def check(path: Path) -> None:
    """Refuse what cannot be drawn, before anything is measured.

    Raises
    ------
    ValueError
        For a format that is neither PNG nor SVG.
    ModuleNotFoundError
        Without matplotlib.
    """
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"a plot must end in {' or '.join(FORMATS)}, got {path.name!r}")
    if importlib.util.find_spec("matplotlib") is None:
        raise ModuleNotFoundError("a plot needs matplotlib: pip install 'gpuconv[plot]'", name="matplotlib")


def draw(found: ResultFile, path: Path) -> None:
    """Write a picture: for each family every problem's ratio, and its share of the floor where that is known.

    Records that are disturbed or have no time are left out, as in every mean.

    Raises
    ------
    ValueError
        If there is nothing to draw.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    records = [record for record in found.records if record.us is not None and not record.disturbed]
    panels: list[tuple[str, Callable[[Record], float | None]]] = []
    if any(record.ratio is not None for record in records):
        panels.append(("ratio", lambda record: record.ratio))
    if any(record.share_of_floor is not None for record in records):
        panels.append(("share", lambda record: record.share_of_floor))
    if not panels:
        raise ValueError("nothing to draw: no record has a ratio or a share of the floor")
    names = [name for name in FAMILIES if any(record.family == name for record in records)]
    # the same file gives the same picture
    with rc_context({"svg.hashsalt": "gpuconv", "font.size": 9}):
        figure = Figure(figsize=(5.2 * len(panels) + 1.5, 0.62 * len(names) + 1.8), layout="constrained")
        plots = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (kind, value) in zip(plots, panels, strict=True):
            _panel(axes, names, records, value)
            (_ratio_axis if kind == "ratio" else _share_axis)(axes, records)
        plots[0].set_yticks(range(len(names)), [_label(name, records) for name in names])
        plots[0].set_ylim(len(names) - 0.5, -0.5)
        left_out = len(found.records) - len(records)
        note = f", {left_out} left out" if left_out else ""
        cut = ", cut short" if found.partial else ""
        commit = found.commit or "no commit"
        figure.suptitle(
            f"{found.device}, {found.date[:10]}, {commit}: {len(records)} problems{note}{cut}", fontsize=10
        )
        handles, names_of_handles = plots[0].get_legend_handles_labels()
        by_name = dict(zip(names_of_handles, handles, strict=True))
        labels = [name for name in (*OPS, _MEAN) if name in by_name]
        figure.legend(
            [by_name[name] for name in labels],
            labels,
            loc="outside lower center",
            ncols=len(labels),
            frameon=False,
        )
        metadata = {"Date": None} if path.suffix.lower() == ".svg" else None
        figure.savefig(path, dpi=150, metadata=metadata)


def _panel(
    axes: Any, names: Sequence[str], records: Sequence[Record], value: Callable[[Record], float | None]
) -> None:
    """In each row a lane for each operation: dots for problems, a bar at their geometric mean."""
    ops = [op for op in OPS if any(record.op == op for record in records)]
    height = _ROW / len(ops)
    bar: str | None = _MEAN
    for lane, op in enumerate(ops):
        xs, ys = [], []
        for at, name in enumerate(names):
            middle = at + (lane + 0.5) * height - _ROW / 2
            found = [value(record) for record in records if (record.family, record.op) == (name, op)]
            row = [each for each in found if each is not None]
            xs += row
            ys += [middle + 0.35 * height * _shift(index, len(row)) for index in range(len(row))]
            mean = geometric_mean(row)
            if mean is not None:
                ends = [middle - height / 2, middle + height / 2]
                axes.plot([mean, mean], ends, color="black", linewidth=2, label=bar, zorder=4)
                bar = None
        if xs:
            colour, marker = _STYLES[op]
            axes.scatter(xs, ys, s=20, c=colour, marker=marker, alpha=0.75, linewidths=0, label=op, zorder=3)
    for at in range(0, len(names), 2):
        axes.axhspan(at - 0.5, at + 0.5, color="0.95", linewidth=0, zorder=0)
    axes.grid(axis="x", color="0.85", linewidth=0.6, zorder=1)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _shift(index: int, count: int) -> float:
    """Where in its lane a dot lies, from -1 to 1, so that few hide each other; it means nothing."""
    return 0.0 if count < 2 else 2 * ((0.5 + index * _GOLDEN) % 1) - 1


def _ratio_axis(axes: Any, records: Sequence[Record]) -> None:
    """Powers of two, 1 among them: as far to one side means as much as to the other."""
    ratios = [record.ratio for record in records if record.ratio is not None]
    low, high = floor(log2(min(*ratios, 1.0))), ceil(log2(max(*ratios, 1.0)))
    low, high = min(low, -1), max(high, 1)
    step = ceil((high - low + 1) / _MOST_TICKS)
    powers = [power for power in range(low, high + 1) if power % step == 0]
    axes.set_xscale("log", base=2)
    axes.set_xlim(2.0 ** (low - 0.15), 2.0 ** (high + 0.15))
    axes.set_xticks([2.0**power for power in powers], [_power(power) for power in powers])
    axes.axvline(1, color="black", linewidth=0.8, linestyle="--", zorder=2)
    against = sorted({record.baseline.split()[0] for record in records if record.baseline})
    axes.set_xlabel(f"time of {' or '.join(against)} ÷ gpuconv's   (right of 1: gpuconv is faster)")


def _share_axis(axes: Any, records: Sequence[Record]) -> None:
    """From nothing to all there is."""
    most = max(record.share_of_floor for record in records if record.share_of_floor is not None)
    axes.set_xlim(0, max(1.0, 1.05 * most))
    axes.axvline(1, color="black", linewidth=0.8, linestyle="--", zorder=2)
    axes.set_xlabel("share of the floor   (1: as fast as the device allows)")


def _power(power: int) -> str:
    return str(2**power) if power >= 0 else f"1/{2**-power}"


def _label(name: str, records: Sequence[Record]) -> str:
    return f"{name}  ({sum(record.family == name for record in records)})"
