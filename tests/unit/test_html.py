"""Reports: what files say together, which maps are drawn, and a page that is whole, harmless and the same."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from math import prod

import pytest

from gpuconv.autotune.recording import Recorded, Tried
from gpuconv.backend.cards import CARDS
from gpuconv.families import H200, floor_us
from gpuconv.problem import ConvProblem
from gpuconv.report import html_facts, html_heat, html_json, html_svg
from gpuconv.report.summary import geometric_mean

from ..browser.recordings import CARD, CARD_LAYERS, LAYERS, REFUSED, made_up, measured, result_file

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="matplotlib is missing"
)

P = ConvProblem.parse(CARD_LAYERS[0])
EVIL = "<script>alert(1)</script>&\"'<!--$\\frac{]]>\ud800\0"


@pytest.fixture(scope="module")
def real():
    """Measured on this processor."""
    return measured(LAYERS[:2])


@pytest.fixture
def source(tmp_path):
    """A saved file as a source."""

    def save(found, name="found.json"):
        found.save(tmp_path / name)
        return html_facts.load(tmp_path / name, name)

    return save


def of(*tried, chosen=0, problem=P, **values):
    """A recording of one problem."""
    return made_up((), problems=(Recorded(problem, tried, chosen, 1.5),), **values)


def page(*sources, **options):
    from gpuconv.report import html

    return html.page(html_facts.bring_together(sources), **options)


class Reader(HTMLParser):
    """Notes headings, tables, figures and what could load something; every element must be closed."""

    VOID = ("meta", "br", "wbr")

    def __init__(self, text):
        super().__init__()
        self.open, self.headings, self.rows, self.labels, self.ids, self.loads = [], [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
        if tag in ("h1", "h2", "h3", "h4"):
            self.headings.append("")
        if tag == "svg":
            self.labels.append(values["aria-label"])
        self.ids += [values["id"]] if "id" in values else []
        inner = {"href", "src", "xlink:href", "action", "data", "srcset"} & set(values)
        self.loads += [values[name] for name in inner if not values[name].startswith("#")]
        self.loads += [tag] if tag in ("script", "link", "iframe", "img", "object", "embed", "base") else []

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if set(self.open) & {"th", "td"} and "table" in self.open:
            self.rows[-1][-1] += data
        if set(self.open) & {"h1", "h2", "h3", "h4"}:
            self.headings[-1] += data


def test_files_are_told_apart_by_content(source, real, tmp_path):
    recording = source(real, "a.txt")
    bench = source(result_file(real), "b.txt")
    assert (recording.what, recording.problems, recording.strategy) == ("recording", 2, "exhaustive")
    assert (bench.what, bench.problems, bench.strategy) == ("bench results", 2, None)
    assert recording.place == bench.place
    assert recording.place.what == "CPU"
    card = source(made_up(), "c.txt")
    assert card.place == source(result_file(made_up()), "d.txt").place
    assert (card.place.what, card.place.capability, card.place.sms) == ("GPU", (9, 0), 132)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "neither a recording"),
        (b"\xff\xfe", "neither a recording"),
        (b"[1, 2]", "neither a recording"),
        (b"{}", "neither a recording"),
        (b'{"problems": []}', "must have"),
        (b'{"records": []}', "no schema"),
        (b"[" * 100_000, "neither a recording"),
    ],
)
def test_what_is_neither_is_refused(tmp_path, content, words):
    path = tmp_path / "wrong.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        html_facts.load(path)
    assert str(path) in str(caught.value)


def test_nothing_in_a_file_is_refused(source):
    for empty in (made_up(()), result_file(made_up(()))):
        with pytest.raises(ValueError, match="there is no problem in it"):
            source(empty)


def test_tuned_times_meet_the_baselines_of_their_device(source):
    found = made_up(CARD_LAYERS[:3])
    (part,) = html_facts.bring_together([source(found, "a"), source(result_file(found, factor=0.8), "b")])
    assert len(part.rows) == 3
    gains = [one.gain for one in found.problems]
    assert [row.gain for row in part.rows] == pytest.approx(sorted(gains, reverse=True), rel=1e-3)
    assert part.gain == pytest.approx(geometric_mean(gains), rel=1e-3)
    assert part.ratio == pytest.approx(0.8, rel=1e-3)
    assert (part.tuned, part.seconds, part.twice) == (3, 7.5, 0)
    for row in part.rows:
        assert row.floor_us == floor_us(row.problem, CARDS["H200"].device)
        assert row.share == pytest.approx(row.floor_us / row.tuned_us)


def test_other_devices_and_threads_stay_apart(source, real):
    fewer = replace(real, environment={**real.environment, "threads": 77})
    bench = result_file(made_up(), device="Made-up B200")
    parts = html_facts.bring_together(
        [source(real, "a"), source(fewer, "b"), source(made_up(), "c"), source(bench, "d")]
    )
    assert [part.place.what for part in parts] == ["GPU", "GPU", "CPU", "CPU"]
    assert all(part.ratio is None for part in parts if part.tuned)


def test_the_worst_ratio_is_named(source):
    found = made_up(CARD_LAYERS[:3])
    file = result_file(found)
    slow = file.records[1]
    slow = replace(slow, baseline_us=slow.us / 2, ratio=0.5)
    (part,) = html_facts.bring_together(
        [source(replace(file, records=(file.records[0], slow, file.records[2])))]
    )
    assert (part.worst.ratio, str(part.worst.problem)) == (pytest.approx(0.5, rel=1e-3), slow.problem)
    assert part.tuned == 0
    assert part.gain is None


def test_disturbed_results_do_not_count(source):
    found = made_up(CARD_LAYERS[:1])
    parts = html_facts.bring_together([source(found, "a"), source(result_file(found, others=0.5), "b")])
    assert (parts[0].ratio, parts[0].rows[0].bench_us, parts[0].rows[0].baseline) == (None, None, None)
    text = page(source(found, "a"), source(result_file(found, others=0.5), "b"))
    assert "1 result benchmarked while other processes kept a processor busy, and left out" in text


def test_the_latest_counts(source):
    early = of(Tried("k", "a=1", 9.0), date="2026-11-01T00:00:00+00:00")
    late = of(Tried("k", "a=1", 3.0), date="2026-12-01T00:00:00+00:00")
    for order in ((early, late), (late, early)):
        (part,) = html_facts.bring_together([source(one, str(at)) for at, one in enumerate(order)])
        assert (part.rows[0].tuned_us, part.twice) == (3.0, 1)


def test_a_map_has_the_two_fields_that_matter():
    timed = [
        Tried("k", f"a={a},b={b},c={c}", us=10.0 * a + 3 * b + 0.01 * c)
        for c in (1, 2)
        for a in (1, 2, 4)
        for b in (1, 2)
    ]
    failed = Tried("k", "a=8,b=1,c=1", failure=REFUSED), Tried("k", "a=4,b=2,c=4", failure=REFUSED)
    late = Tried("k", "a=8,b=2,c=1")
    found = of(*timed, *failed, late, Tried("other", "x=1", 5.0), chosen=2)
    row = html_facts.Row(P, None, found.problems[0], None, None)
    drawn = html_heat.heat_map(row)
    assert (drawn.x, drawn.y, drawn.others) == ("a", "b", ("c",))
    assert (drawn.columns, drawn.rows) == ([1, 2, 4, 8], [1, 2])
    best = drawn.cells[1, 1]
    assert (best.ratio, best.failed, best.default, best.chosen) == (pytest.approx(13.01 / 5), 0, True, False)
    assert drawn.cells[2, 1].chosen
    assert drawn.cells[4, 2] == html_heat.Cell(pytest.approx(46.01 / 5), 1, False, False)
    assert drawn.cells[8, 1] == html_heat.Cell(None, 1, False, False)
    assert drawn.cells[8, 2] == html_heat.Cell(None, 0, False, False)
    assert 0.99 < drawn.explained < 1


def test_one_field_makes_a_strip_and_none_makes_nothing():
    def map_of(*tried):
        return html_heat.heat_map(html_facts.Row(P, None, of(*tried).problems[0], None, None))

    strip = map_of(Tried("k", "a=1,b=7", 2.0), Tried("k", "a=2,b=7", 3.0))
    assert (strip.x, strip.y, strip.rows, [cell.ratio for cell in strip.cells.values()]) == (
        "a",
        None,
        [0],
        [1.0, 1.5],
    )
    assert map_of(Tried("k", "a=1", 2.0)) is None
    assert map_of(Tried("k", "a=1", 2.0), Tried("k", "a=2", failure="no")) is None
    assert map_of(Tried("k", EVIL, 2.0), Tried("k", "a=2,", 2.0)) is None
    assert map_of(Tried("k", "a=1", 2.0), Tried("k", "b=2", 3.0), Tried("k", "a=1,b=2", 3.0)) is None


def test_maps_of_most_gain_come_first_and_strips_last(source):
    found = made_up()
    strip = Recorded(P, (Tried("k", "a=1", 90.0), Tried("k", "a=2", 1.0)), 1, 1.0)
    found = replace(found, problems=(strip, *found.problems[1:]))
    (part,) = html_facts.bring_together([source(found)])
    maps = html_heat.choose(part, 100)
    assert len(maps) == len(CARD_LAYERS)
    assert maps[-1].y is None
    gains = [one.row.gain for one in maps[:-1]]
    assert gains == sorted(gains, reverse=True)
    assert len(html_heat.choose(part, 3)) == 3


def test_a_page_has_every_part(source, real):
    files = [
        source(made_up(), "card.json"),
        source(result_file(made_up()), "bench.json"),
        source(real, "cpu.json"),
    ]
    text = page(*files, heatmaps=2)
    read = Reader(text)
    assert read.loads == []
    assert "http" not in text.replace("http-equiv", "")
    assert len(read.ids) == len(set(read.ids))
    assert [heading for heading in read.headings if heading.startswith(("GPU", "CPU"))] == [
        f"GPU: {CARD}", f"CPU: {real.device}",
    ]  # fmt: skip
    for heading in ("How near to the roof", "Maps of configs", "Every problem", "Environment"):
        assert read.headings.count(heading) == 2
    kinds = [label.split()[0] for label in read.labels]
    assert kinds.count("Roofline") == 2
    assert kinds.count("Bars") > 2
    assert sum("times the fastest" in label for label in read.labels) == 4
    cells = {cell for row in read.rows for cell in row}
    assert {"card.json", "bench.json", "cpu.json", "0123abc", "2026-11-20 14:56 UTC"} <= cells
    for one in (*made_up().problems, *real.problems):
        assert sum(str(one.problem) in row[0] for row in read.rows) == 1


def test_times_of_a_cpu_are_never_taken_for_a_gpus(source, real):
    text = page(source(real))
    assert "All times are of a CPU: <strong>" in text
    assert "Nothing here was measured on a GPU." in text
    text = page(source(made_up(CARD_LAYERS[:1])))
    assert f"All times are of a GPU: <strong>{CARD}</strong>" in text
    assert "Nothing here was measured" not in text


def test_roofs_are_known_rates_or_the_best_measured(source, real):
    known = page(source(made_up()), heatmaps=0)
    assert f"{H200.flops['16-bit'] / 1e12:g} TFLOP/s, 16-bit, measured" in known
    assert "67 TFLOP/s, f32, datasheet" in known
    assert "tf32" not in known
    assert "best measured here" not in known
    for unknown in (real, made_up(device="Made-up card")):
        text = page(source(unknown), heatmaps=0)
        best = max(one.problem.flops / one.best.us / 1e3 for one in unknown.problems)
        shown = re.search(r"([\d.]+) ([GT])FLOP/s, best measured here", text)
        assert float(shown[1]) * {"G": 1, "T": 1e3}[shown[2]] == pytest.approx(best, rel=0.01)
        assert "not what the device allows" in text
        assert "datasheet" not in text


def test_figures_of_many_problems_are_parted(source):
    from gpuconv.report import html_figures

    few = made_up(CARD_LAYERS[: html_figures.PAGE])
    (part,) = html_facts.bring_together([source(few)])
    assert [one.heading for one in html_figures.bars(part, "x")] == [""]
    layers = [f"fprop_n1c1h{size}w64k1r3s3_nchw_f32" for size in range(8, 8 + 2 * html_figures.PAGE + 1)]
    (part,) = html_facts.bring_together([source(made_up([*layers, CARD_LAYERS[0]]))])
    headings = [one.heading for one in html_figures.bars(part, "x")]
    assert headings == ["image (1 of 3)", "image (2 of 3)", "image (3 of 3)", "dense"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "–"),
        (0.5, "0.5 µs"),
        (99.44, "99.4 µs"),
        (1234.4, "1,234 µs"),
        (23553, "23.6 ms"),
        (999_600, "1 s"),
    ],
)
def test_times_are_short(value, words):
    assert html_svg.us(value) == words


def test_failures_are_told_with_their_reasons(source):
    text = page(source(made_up(CARD_LAYERS[:2])), heatmaps=0)
    assert text.count(f"<li>{REFUSED}: <code>implicit_gemm_sm80(block_m=256") == 2
    assert "wrong: 1.7 times the bound" in text
    assert "8 candidates of 2 problems were refused, failed or wrong" in text


def test_the_same_files_give_the_same_page(source, real):
    card = made_up(CARD_LAYERS[:3])
    assert page(source(real), source(card, "b")) == page(source(card, "b"), source(real))


def test_what_comes_from_files_is_text(source, tmp_path):
    tried = Tried(EVIL, EVIL, 2.0), Tried(EVIL, EVIL + "2", failure=EVIL), Tried("k", "a=1", 3.0)
    values = dict.fromkeys(("date", "commit", "strategy"), EVIL)
    evil = of(*tried, device=f"H200 {EVIL}", **values)
    evil = replace(evil, environment={**evil.environment, EVIL: [EVIL, {EVIL: None}], "nan": float("nan")})
    bench = result_file(evil, device=evil.device)
    bench = replace(bench, records=tuple(replace(one, baseline=EVIL) for one in bench.records))
    found = [html_facts.Source(EVIL, one, html_facts._place("cuda", one)) for one in (evil, bench)]
    text = page(*found)
    text.encode("utf-8")
    read = Reader(text)
    assert read.loads == []
    assert "<script" not in text
    assert "\0" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;&#x27;" in text
    json.dumps(html_json.about(html_facts.bring_together(found)), allow_nan=False)


def test_odd_times_still_make_a_page(source):
    for recording in (
        of(Tried("k", "a=1", failure="no")),
        of(Tried("k", "a=1", failure="no"), Tried("k", "a=2", 3.0), chosen=1),
        of(Tried("k", "a=1", 1e-6), Tried("k", "a=2", 1e15), chosen=1),
        of(*(Tried("k", f"a={at},b={at % 3}", 1.0) for at in range(-20, 20))),
    ):
        Reader(page(source(recording)))


@pytest.mark.parametrize("us", [5e-324, 1e300])
def test_times_that_cannot_be_are_refused(source, us):
    found = of(Tried("k", "a=1", us))
    for file in (
        found,
        replace(
            result_file(found),
            records=(
                replace(
                    result_file(of(Tried("k", "a=1", 2.0))).records[0],
                    us=us,
                    baseline=None,
                    baseline_us=None,
                    ratio=None,
                ),
            ),
        ),
    ):
        with pytest.raises(ValueError, match="no time that can be drawn"):
            source(file)


def test_intensity_counts_each_tensor_once():
    from gpuconv.report import html_figures

    row = html_facts.Row(P, None, None, None, None)
    x, y = html_figures._place(row, 2.0)
    assert x == P.flops / (2 * sum(map(prod, P.operand_shapes)))
    assert y == P.flops / 2e-6
