"""A report as one page of HTML that needs nothing else: no script, no network, no fonts of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any, Final

from gpuconv.report import html_figures, html_heat, html_svg
from gpuconv.report.html_facts import Part, Row, Source
from gpuconv.report.html_heat import WIDE, HeatMap
from gpuconv.report.html_style import CSS
from gpuconv.report.html_svg import times, us

#: Maps of a device, unless asked otherwise.
HEATMAPS: Final = 12
#: Reasons up to here are shown without being asked for.
_FEW: Final = 12
_DATE: Final = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(:\d\d)?(\+00:00|Z)", re.ASCII)
#: Nothing may be loaded, whatever a file made its way into the page.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def page(parts: Sequence[Part], heatmaps: int = HEATMAPS) -> str:
    """Write the page; the same facts give the same text.

    Parameters
    ----------
    parts : sequence of Part
        What `gpuconv.report.html_facts.bring_together` found.
    heatmaps : int
        Maps of configs for each device, at most.
    """
    title = "gpuconv report: " + ", ".join(dict.fromkeys(part.place.name for part in parts))
    body = "\n".join(
        [
            "<header>",
            *_head(parts),
            "</header>",
            "<main>",
            *(line for at, part in enumerate(parts) for line in _device(part, at, heatmaps)),
            "</main>",
            f"<footer>{''.join(_reading(parts))}</footer>",
        ]
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_text(title)}</title>\n<style>{CSS}{html_svg.CSS}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _head(parts: Sequence[Part]) -> Iterator[str]:
    yield "<h1>Convolutions, tuned and measured</h1>"
    kinds = sorted({part.place.what for part in parts})
    if len(parts) == 1:
        yield f'<p class="lead">All times are of {_named(parts[0])}.</p>'
    else:
        each = "; ".join(_named(part) for part in parts)
        yield f'<p class="lead">Times are of {len(parts)} devices, each told apart: {each}.</p>'
    if "GPU" not in kinds:
        yield '<p class="faint">Nothing here was measured on a GPU.</p>'
    if len(parts) > 1:
        links = "".join(
            f'<li><a href="#device-{at}">{part.place.what}: {_text(part.place.name)}</a></li>'
            for at, part in enumerate(parts)
        )
        yield f'<nav aria-label="Devices"><ul>{links}</ul></nav>'
    rows = [_source_cells(part, source) for part in parts for source in part.sources]
    heads = ("File", "What", "Device", "Date", "Commit", "Strategy", "Problems")
    yield _table("Made from these files", heads, rows, numbers=(6,))


def _named(part: Part) -> str:
    place = part.place
    threads = f" ({place.threads} thread{'s' * (place.threads != 1)})" if place.threads else ""
    return f"a {place.what}: <strong>{_text(place.name)}</strong>{threads}"


def _source_cells(part: Part, source: Source) -> list[str]:
    content = source.content
    return [
        f"<code>{_text(source.path)}</code>",
        _text(source.what),
        f"{part.place.what}, {_text(part.place.name)}",
        _date(content.date),
        _text(content.commit or "–"),
        _text(source.strategy or "–"),
        str(source.problems),
    ]


def _device(part: Part, at: int, heatmaps: int) -> Iterator[str]:
    place, name = part.place, f"device-{at}"
    yield f'<section aria-labelledby="{name}">'
    yield f'<h2 id="{name}">{place.what}: {_text(place.name)}</h2>'
    yield from _tiles(part)
    yield from _left_out(part)
    drawn = html_figures.roofline(part, f"{name}-roofline")
    if drawn is not None:
        yield "<h3>How near to the roof</h3>"
        yield _figure(drawn.svg, _text(drawn.caption), "large", "Roofline")
    bars = list(html_figures.bars(part, f"{name}-bars"))
    if bars:
        yield "<h3>Default, tuned and baseline</h3>"
    for one in bars:
        if one.heading:
            yield f"<h4>{_text(one.heading)}</h4>"
        yield _figure(one.figure.svg, _text(one.figure.caption), "large", f"Bars {one.heading}".strip())
    yield from _maps(html_heat.choose(part, heatmaps), name)
    yield "<h3>Every problem</h3>"
    yield _problems(part)
    yield from _failures(part)
    yield "<h3>Environment</h3>"
    yield _environment(part)
    yield "</section>"


def _tiles(part: Part) -> Iterator[str]:
    rows = part.rows
    gains = sum(row.gain is not None for row in rows)
    compared = sum(row.ratio is not None for row in rows)
    shares = sum(row.share is not None for row in rows)
    found = [("Problems", str(len(rows)), f"{part.tuned} tuned" if part.tuned else "none tuned here")]
    if part.gain is not None:
        found.append(("Gain, default to tuned", times(part.gain), f"geometric mean of {gains}"))
    if part.ratio is not None and part.worst is not None:
        found.append(("Against the baseline", times(part.ratio), f"geometric mean of {compared}"))
        worst = _text(str(part.worst.problem)).replace("_", "_<wbr>")
        found.append(("Worst against the baseline", times(part.worst.ratio), worst))
    if part.share is not None:
        found.append(("Share of the floor", f"{part.share:.0%}", f"geometric mean of {shares}"))
    if part.tuned:
        found.append(
            ("Spent on tuning", _seconds(part.seconds), f"{part.seconds / part.tuned:.1f} s a problem")
        )
    tiles = "".join(
        f'<div><dt>{name}</dt><dd class="figure">{value}</dd><dd class="under">{under}</dd></div>'
        for name, value, under in found
    )
    yield f'<dl class="tiles">{tiles}</dl>'


def _left_out(part: Part) -> Iterator[str]:
    """What does not count, and why."""
    disturbed = sum(row.record is not None and row.record.disturbed for row in part.rows)
    wrong = sum(row.record is not None and row.record.wrong for row in part.rows)
    counts = (
        (disturbed, "benchmarked while other processes kept a processor busy, and left out"),
        (wrong, "benchmarked with a wrong result, and left out"),
        (part.twice, "in a later file too, which counts instead"),
    )
    said = [f"{_plural(count, 'result')} {words}" for count, words in counts if count]
    if said:
        yield f'<p class="note">{"; ".join(said)}.</p>'


def _maps(found: Sequence[HeatMap], name: str) -> Iterator[str]:
    if not found:
        return
    yield "<h3>Maps of configs</h3>"
    yield (
        '<p class="note">Each cell: its fastest candidate’s time divided by the fastest of the problem; dark'
        " is fast. ○ the default, ★ what was taken, × refused or failed, · not timed, empty: not tried.</p>"
    )
    yield '<div class="maps">'
    for at, one in enumerate(found):
        wide = "wide" if len(one.columns) > WIDE else ""
        svg = html_heat.draw(one, f"{name}-map-{at}")
        caption = f"{_text(one.kernel)}: {_fields(one)}"
        gain = "" if one.row.gain is None else f"; gain {times(one.row.gain)}"
        heading = f"<h4>{_text(str(one.row.problem))}</h4>"
        yield _figure(svg, f"{caption}{gain}.", wide, f"Map {at + 1}", heading)
    yield "</div>"


def _fields(found: HeatMap) -> str:
    """What the axes are, and how much of the matter they are."""
    axes = f"{found.x} and {found.y}" if found.y else found.x
    if not found.others:
        return f"only {axes} var{'y' if found.y else 'ies'}"
    best = f"{', '.join(found.others)} at {'its' if len(found.others) == 1 else 'their'} best"
    share = "nearly all" if found.explained > 0.99 else f"{found.explained:.0%}"
    return f"{axes} explain {share} of how its times vary; {best}"


def _problems(part: Part) -> str:
    rows, place = part.rows, part.place
    any_of = {
        "predicted": any(row.predicted_us is not None for row in rows),
        "benchmarked": any(row.bench_us is not None for row in rows),
        "baseline": any(row.baseline_us is not None for row in rows),
        "floor": part.rates is not None,
    }
    heads = ["Problem and family", "Kernel and config", "Default", "Tuned", "Gain"]
    heads += ["Predicted"] * any_of["predicted"] + ["Bench"] * any_of["benchmarked"]
    heads += ["Baseline", "Ratio"] * any_of["baseline"] + ["Of floor"] * any_of["floor"] + ["Spent"]
    lines = []
    for row in rows:
        cells = [
            f'<span class="mono">{_text(str(row.problem))}</span><span class="faint">{row.family}</span>',
            f'{_text(row.kernel or "–")}<span class="mono">{_config(row.config)}</span>',
            us(row.default_us),
            f'<span class="strong">{us(row.tuned_us)}</span>',
            times(row.gain),
        ]
        cells += [us(row.predicted_us)] * any_of["predicted"] + [_benchmarked(row)] * any_of["benchmarked"]
        cells += [_baseline(row), times(row.ratio)] * any_of["baseline"]
        cells += ["–" if row.share is None else f"{row.share:.0%}"] * any_of["floor"]
        cells += ["–" if row.recorded is None else f"{row.recorded.seconds:.1f} s"]
        lines.append(cells)
    caption = f"Times on the {place.what}, what gained most first"
    classes = {0: "problem", 1: "kernel"}
    return _table(caption, heads, lines, numbers=range(2, len(heads)), classes=classes)


def _benchmarked(row: Row) -> str:
    found = row.record
    if found is None or found.us is None:
        return "–"
    return us(found.us) + (
        ' <abbr title="disturbed or wrong: does not count">!</abbr>' if row.bench_us is None else ""
    )


def _baseline(row: Row) -> str:
    if row.baseline_us is None:
        return "–"
    return f'{us(row.baseline_us)}<span class="faint">{_text(row.baseline or "")}</span>'


def _failures(part: Part) -> Iterator[str]:
    found = [(row, row.failures) for row in part.rows if row.failures]
    if not found:
        return
    yield "<h3>What was passed over</h3>"
    items = []
    for row, failures in found:
        reasons = "".join(f"<li>{_text(why)}: {_candidates(which)}</li>" for why, which in failures)
        items.append(f'<li><span class="mono">{_text(str(row.problem))}</span><ul>{reasons}</ul></li>')
    whole = f"<ul>{''.join(items)}</ul>"
    count = sum(len(which) for _, failures in found for _, which in failures)
    passed = f"{_plural(count, 'candidate')} of {_plural(len(found), 'problem')}"
    said = f"{passed} {'was' if count == 1 else 'were'} refused, failed or wrong"
    if sum(len(failures) for _, failures in found) <= _FEW:
        yield f'<div class="failures"><p class="note">{said}.</p>{whole}</div>'
    else:
        yield f'<details class="failures"><summary>{said}</summary>{whole}</details>'


def _candidates(which: Sequence[str]) -> str:
    some = ", ".join(f"<code>{_config(one)}</code>" for one in which[:3])
    return some + (f" and {len(which) - 3} more" if len(which) > 3 else "")


def _environment(part: Part) -> str:
    """A column for each environment that differs."""
    by_content: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for source in part.sources:
        found = source.content.environment
        by_content.setdefault(json.dumps(found, sort_keys=True), (found, []))[1].append(source.path)
    kinds = list(by_content.values())
    names = list(dict.fromkeys(name for found, _ in kinds for name in found))
    heads = ["", *("Value" if len(kinds) == 1 else "<br>".join(map(_text, paths)) for _, paths in kinds)]
    lines = [
        [_text(name), *(_value(found[name]) if name in found else "–" for found, _ in kinds)]
        for name in names
    ]
    lines.insert(0, ["device", *[_text(part.place.name)] * len(kinds)])
    return _table("What the times depend on beside the code", heads, lines)


def _reading(parts: Sequence[Part]) -> Iterator[str]:
    yield "<h2>How to read this</h2>"
    yield (
        "<p>Default: what runs untuned. Tuned: what the tuner took. Both are times of one kernel’s plan,"
        " taken in turns; a CPU’s is the fastest call, a GPU’s the median with a warm cache. Gain: default"
        " divided by tuned.</p>"
    )
    if any(row.record is not None for part in parts for row in part.rows):
        yield (
            "<p>Bench and baseline are from a result file of the benchmark: times of the public"
            " function and of the fastest that it was compared with. Ratio: the baseline’s time divided by"
            " the tuned one, or by the benchmarked one of what was not tuned here; above 1 gpuconv is faster."
            " A tuned time and a baseline come from different runs, so small differences mean nothing.</p>"
        )
    yield (
        "<p>The floor of a problem is the time that its operations, or its bytes, take at the device’s rate,"
        " whichever is longer, every tensor touched once. FLOP: two for every multiply-add.</p>"
    )


def _figure(svg: str, caption: str, kind: str, name: str, heading: str = "") -> str:
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    scroll = f'tabindex="0" role="group" aria-label="{escape(name)}"'
    return f'<figure class="{kind}">{heading}<div class="card" {scroll}>{svg}</div>{below}</figure>'


def _table(
    caption: str,
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    numbers: Iterable[int] = (),
    classes: dict[int, str] | None = None,
) -> str:
    """A table of cells that are HTML; the first of a row is its heading."""
    by_column = {**dict.fromkeys(numbers, "number"), **(classes or {})}
    marks = {at: f' class="{name}"' for at, name in by_column.items()}
    head = "".join(
        f'<th scope="col"{marks.get(at, "")}>{name}</th>' if name else "<td></td>"
        for at, name in enumerate(heads)
    )
    lines = "\n".join(
        f'<tr><th scope="row"{marks.get(0, "")}>{row[0]}</th>'
        + "".join(f"<td{marks.get(at, '')}>{cell}</td>" for at, cell in enumerate(row[1:], 1))
        + "</tr>"
        for row in rows
    )
    scroll = f'class="scroll" tabindex="0" role="group" aria-label="{escape(caption)}"'
    return (
        f"<div {scroll}><table><caption>{escape(caption)}</caption>"
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{lines}\n</tbody></table></div>"
    )


def _text(value: str) -> str:
    """Anything from a file, as text; what no page can hold becomes a question mark."""
    return escape(value.encode("utf-8", "replace").decode("utf-8").replace("\0", "?"))


def _config(text: str | None) -> str:
    return _text(text or "").replace(",", ",<wbr>")


def _value(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(one, str | int) for one in value):
        return _text(", ".join(map(str, value)) or "–")
    return _text(value if isinstance(value, str) else "–" if value is None else json.dumps(value))


def _date(text: str) -> str:
    found = _DATE.fullmatch(text)
    return f'<time datetime="{found[0]}">{found[1]} {found[2]} UTC</time>' if found else _text(text)


def _seconds(value: float) -> str:
    return (
        f"{value:.1f} s"
        if value < 100
        else f"{value / 60:.0f} min"
        if value < 6000
        else f"{value / 3600:.1f} h"
    )


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"
