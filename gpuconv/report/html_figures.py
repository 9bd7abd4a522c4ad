"""Figures of one device: how near its problems are to the roofs, and bars of what they take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import atan2, cos, degrees, radians, sin
from typing import Any, Final, NamedTuple

from gpuconv.families import FAMILIES
from gpuconv.report import html_svg
from gpuconv.report.html_facts import Part, Row
from gpuconv.report.html_svg import BLUE, FAINT, GREY, GRID, INK, ORANGE, SKY

_WIDTH: Final = 7.6
#: Problems of one figure of bars.
PAGE: Final = 16
#: Bars end here, in lengths of a problem's first, and what is longer says so.
_LONGEST: Final = 1.5
_ROOFS: Final = ("16-bit", "tf32", "f32", "f64")


class Figure(NamedTuple):
    """A drawn figure, and what stands below it."""

    svg: str
    caption: str


class Bars(NamedTuple):
    """A figure of bars, and of what: all, or a family's from one place on."""

    heading: str
    figure: Figure


def roofline(part: Part, name: str) -> Figure | None:
    """Attained FLOP/s over FLOP/byte; None where nothing has a time.

    The roofs are the device’s rates where they are known; else they are the best that was measured in these
    very files, which limits nothing and is called so.
    """
    # an empty batch takes time, but has no place here
    rows = [row for row in part.rows if row.us is not None and row.problem.flops]
    if not rows:
        return None
    points = [(row, *_place(row, time), kind) for row in rows for time, kind in _times(row)]
    with html_svg.style():
        made = html_svg.figure(_WIDTH, 4.3)
        axes = made.subplots()
        axes.set_xscale("log")
        axes.set_yscale("log")
        xs, ys = [point[1] for point in points], [point[2] for point in points]
        roofs, bandwidth, caption = _roofs(part, xs, ys)
        left, right = min(xs) / 2, max(xs) * 2.5
        axes.set_xlim(left, right)
        axes.set_ylim(min(ys) / 2, max(*roofs.values(), *ys) * 2.2)
        titles = _draw_points(axes, points)
        _log_axis(axes.xaxis, left, right, lambda value, _: f"{value:g}")
        _log_axis(axes.yaxis, min(ys) / 2, max(ys) * 2.2, lambda value, _: html_svg.rate(value, ""))
        axes.grid(which="major", color=GRID, linewidth=0.6)
        axes.minorticks_off()
        html_svg.plain_axes(axes)
        axes.set_xlabel("FLOP per byte, every tensor touched once")
        axes.set_ylabel("FLOP/s")
        made.legend(loc="outside upper left", ncols=3, frameon=False, handletextpad=0.3, columnspacing=1.6)
        _draw_roofs(made, axes, roofs, bandwidth, part.rates is not None)
        label = f"Roofline of {len(rows)} problems: attained FLOP/s over FLOP per byte"
        return Figure(html_svg.svg(made, name, label, titles), caption)


def bars(part: Part, name: str) -> Iterator[Bars]:
    """What default, tuned and baseline take, what gained most first; many problems by family and page."""
    rows = [row for row in part.rows if _reference(row) is not None]
    if len(rows) <= PAGE:
        groups = [("", rows)] if rows else []
    else:
        found = [(each, [row for row in rows if row.family == each]) for each in FAMILIES]
        groups = [(each, group) for each, group in found if group]
    for number, (heading, group) in enumerate(groups):
        pages = -(-len(group) // PAGE)
        for page in range(pages):
            some = group[page * PAGE : (page + 1) * PAGE]
            of = f" ({page + 1} of {pages})" if pages > 1 else ""
            yield Bars(heading + of, _bars(some, f"{name}-{number}-{page}"))


def _times(row: Row) -> Iterator[tuple[float, str]]:
    """What is known to have run, with its kind; tuned comes last, and lies on top."""
    if row.tuned_us is None and row.bench_us is not None:
        yield row.bench_us, "benchmarked"
    if row.default_us is not None:
        yield row.default_us, "default"
    if row.tuned_us is not None:
        yield row.tuned_us, "tuned"


def _place(row: Row, us: float) -> tuple[float, float]:
    return row.problem.flops / row.problem.min_bytes, row.problem.flops / us * 1e6


def _roofs(part: Part, xs: Sequence[float], ys: Sequence[float]) -> tuple[dict[str, float], float, str]:
    """FLOP/s by name, bytes/s, and what to say about them."""
    known = part.rates
    if known is None:
        best, bandwidth = max(ys), max(y / x for x, y in zip(xs, ys, strict=True))
        said = (
            "No rates are known for this device. The dotted lines are the best measured here,"
            f" {html_svg.rate(best, 'FLOP/s')} and {html_svg.rate(bandwidth, 'B/s')} among these problems:"
            " they show where the others stand, not what the device allows."
        )
        return {"best measured here": best}, bandwidth, said
    used = {_rate_of(row) for row in part.rows}
    roofs = {
        f"{name}, {_source(name in known.measured)}": known.flops[name] for name in _ROOFS if name in used
    }
    if "tf32x3" in used:  # each product is made of three
        roofs[f"tf32x3, {_source('tf32' in known.measured)}"] = known.flops["tf32"] / 3
    said = "The lines are the device’s rates, each measured on such a device or the datasheet’s, as it says."
    return roofs, known.bandwidth, said


def _rate_of(row: Row) -> str:
    p = row.problem
    if p.dtype in ("f16", "bf16"):
        return "16-bit"
    if p.dtype == "f64" or p.precision == "ieee":
        return p.dtype
    return "tf32x3" if p.precision == "tf32x3" else "tf32"


def _source(measured: bool) -> str:
    return "measured" if measured else "datasheet"


def _log_axis(axis: Any, low: float, high: float, words: Callable[[float, Any], str]) -> None:
    """Label powers of ten, and what lies between them where there are few."""
    from matplotlib.ticker import LogLocator

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 200 * low else (1.0,)))
    axis.set_major_formatter(words)


def _draw_roofs(made: Any, axes: Any, roofs: dict[str, float], bandwidth: float, known: bool) -> None:
    """Last of all: at which angle the words rise with their line, the finished axes tell."""
    left, right = axes.get_xlim()
    line = {
        "color": INK if known else FAINT,
        "linewidth": 1.1,
        "linestyle": "-" if known else ":",
        "zorder": 2,
    }
    near = {"textcoords": "offset points", "fontsize": 8, "color": FAINT}
    ridge = min(max(max(roofs.values()) / bandwidth, left), right)
    axes.plot([left, ridge], [left * bandwidth, ridge * bandwidth], **line)
    for name, roof in roofs.items():
        axes.plot([min(max(roof / bandwidth, left), right), right], [roof, roof], **line)
        words = f"{html_svg.rate(roof, 'FLOP/s')}, {name}"
        axes.annotate(words, (right, roof), xytext=(0, 7), ha="right", **near)
    bottom = axes.get_ylim()[0]
    start = max(left, bottom / bandwidth)
    made.draw_without_rendering()
    (x0, y0), (x1, y1) = axes.transData.transform(
        [(start, start * bandwidth), (10 * start, 10 * start * bandwidth)]
    )
    angle = degrees(atan2(y1 - y0, x1 - x0))
    words = f"{html_svg.rate(bandwidth, 'B/s')}, {'memory' if known else 'best measured here'}"
    shift = (
        6 * cos(radians(angle)) - 6 * sin(radians(angle)),
        6 * sin(radians(angle)) + 6 * cos(radians(angle)),
    )
    axes.annotate(
        words, (start, start * bandwidth), xytext=shift, rotation=angle, rotation_mode="anchor", **near
    )


def _draw_points(axes: Any, points: Sequence[tuple[Row, float, float, str]]) -> list[str]:
    """Each point shows its problem under the mouse; gives the titles."""
    styles = {
        "benchmarked": {"marker": "D", "markersize": 5, "markerfacecolor": SKY, "markeredgecolor": "white"},
        "default": {"marker": "o", "markersize": 5.5, "markerfacecolor": "white", "markeredgecolor": FAINT},
        "tuned": {"marker": "o", "markersize": 6.5, "markerfacecolor": BLUE, "markeredgecolor": "white"},
    }
    titles: list[str] = []
    seen: set[str] = set()
    before: tuple[Row, float] | None = None
    for row, x, y, kind in points:
        if kind == "tuned" and before is not None and before[0] is row:
            axes.plot([x, x], [before[1], y], color=GREY, linewidth=1, zorder=3)
        time = row.problem.flops / y * 1e6
        label = "_" if kind in seen else kind
        seen.add(kind)
        axes.plot(
            [x],
            [y],
            linestyle="",
            label=label,
            gid=f"title-{len(titles)}",
            zorder=4 + (kind == "tuned"),
            **styles[kind],
        )
        titles.append(f"{row.problem}\n{kind}: {html_svg.us(time)}, {html_svg.rate(y, 'FLOP/s')}")
        before = row, y
    return titles


def _reference(row: Row) -> float | None:
    """What the bars of a problem are measured by."""
    return row.default_us if row.default_us is not None else row.us


def _bars(rows: Sequence[Row], name: str) -> Figure:
    with html_svg.style():
        series = [_series(row) for row in rows]
        lines = sum(len(each) + 1.5 for each in series)
        made = html_svg.figure(_WIDTH, 0.165 * lines + 0.75)
        axes = made.subplots()
        head = {"fontsize": 8.5, "va": "center"}
        y = 0.0
        seen: set[str] = set()
        for row, each in zip(rows, series, strict=True):
            reference = _reference(row)
            assert reference is not None
            axes.text(0, y + 0.15, str(row.problem), fontfamily="monospace", **head)
            if row.gain is not None:
                gain = f"gain {html_svg.times(row.gain)}"
                axes.text(_LONGEST, y + 0.15, gain, ha="right", fontweight="bold", **head)
            for at, (kind, colour, time) in enumerate(each, 1):
                share = time / reference
                label = "_" if kind in seen else kind
                seen.add(kind)
                axes.barh(y + at, min(share, _LONGEST), height=0.82, color=colour, label=label, linewidth=0)
                _say(axes, y + at, share, time, dark=colour == BLUE)
            y += len(each) + 1.5
        axes.set_ylim(y - 0.4, -0.6)
        axes.set_xlim(0, _LONGEST)
        axes.set_yticks([])
        ticks = (0, 0.25, 0.5, 0.75, 1, 1.25, 1.5)
        axes.set_xticks(ticks, [f"{tick:.0%}" for tick in ticks])
        axes.grid(axis="x", color=GRID, linewidth=0.6)
        axes.spines["left"].set_visible(False)
        html_svg.plain_axes(axes)
        axes.set_xlabel("time as a share of the first bar’s   (shorter is faster)")
        made.legend(loc="outside upper left", ncols=4, frameon=False, handlelength=1.1, columnspacing=1.6)
        label = f"Bars of the time of {len(rows)} problems: {', '.join(sorted(seen))}"
        return Figure(html_svg.svg(made, name, label), _against(rows))


def _series(row: Row) -> list[tuple[str, str, float]]:
    """The bars of a problem, with their colours."""
    found = [
        ("default", GREY, row.default_us),
        ("tuned", BLUE, row.tuned_us),
        ("benchmarked, not tuned", SKY, row.bench_us if row.recorded is None else None),
        ("baseline", ORANGE, row.baseline_us),
    ]
    return [(kind, colour, time) for kind, colour, time in found if time is not None]


def _say(axes: Any, y: float, share: float, time: float, dark: bool) -> None:
    """The time at a bar's end: behind it, or inside where there is no room."""
    text = html_svg.us(time)
    if share > _LONGEST:
        text = f"{text}, {share:.3g} times as long ▸"
    inside = share > _LONGEST - 0.2
    axes.annotate(
        text,
        (min(share, _LONGEST), y),
        xytext=(-4 if inside else 4, 0),
        textcoords="offset points",
        ha="right" if inside else "left",
        va="center_baseline",
        fontsize=7.5,
        color="white" if inside and dark else INK if inside else FAINT,
    )


def _against(rows: Sequence[Row]) -> str:
    names = list(dict.fromkeys(row.baseline for row in rows if row.baseline))
    return f"Baseline: {', '.join(names)}." if names else ""
