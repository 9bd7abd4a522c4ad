"""The report as a browser shows it: wide and narrow, light and dark, alone."""

from __future__ import annotations

import json
import re
from html import escape, unescape

import numpy as np
import pytest

from gpuconv.report import html_facts

from . import chromium
from .recordings import CARD, CARD_LAYERS, made_up, measured, result_file

WIDE, NARROW = (1200, 1600), (400, 1600)
#: Holds the page, as it is, in a window of any width, and measures it from outside.
PROBE = """<!DOCTYPE html>
<iframe srcdoc="{page}" style="border: 0; width: {width}px; height: {height}px"></iframe>
<pre id="probe"></pre>
<script>
  const frame = document.querySelector("iframe");
  frame.onload = () => {{
    const page = frame.contentDocument, window = frame.contentWindow;
    const all = names => [...page.querySelectorAll(names)];
    const box = one => one.getBoundingClientRect();
    const scale = matrix => Math.hypot(matrix.a, matrix.b);
    const size = one => parseFloat(window.getComputedStyle(one).fontSize) * scale(one.getCTM());
    document.getElementById("probe").textContent = JSON.stringify({{
      boxes: all("svg").map(one => [box(one).width, box(one).height]),
      text: Math.min(...all("svg text").map(size)),
      width: page.documentElement.clientWidth,
      whole: page.documentElement.scrollWidth,
      headings: all("h1, h2, h3").map(one => one.textContent),
      loaded: window.performance.getEntriesByType("resource").map(one => one.name),
    }});
  }};
</script>
"""


@pytest.fixture(scope="session", autouse=True)
def _browser(need):
    if chromium.find() is None:
        need("browser", "there is no Chromium")
    pytest.importorskip("matplotlib")


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    """A page of a recording measured here, and of a card and its results that are made up."""
    from gpuconv.report import html

    folder = tmp_path_factory.mktemp("report")
    card = made_up(CARD_LAYERS[:9])
    sources = []
    for name, found in (("cpu", measured()), ("card", card), ("bench", result_file(card))):
        found.save(folder / f"{name}.json")
        sources.append(html_facts.load(folder / f"{name}.json", f"{name}.json"))
    page = folder / "report.html"
    page.write_text(html.page(html_facts.bring_together(sources), heatmaps=4), encoding="utf-8")
    return page


def probe(page, size):
    width, height = size
    outer = page.with_name("outer.html")
    text = escape(page.read_text(encoding="utf-8"))
    outer.write_text(PROBE.format(page=text, width=width, height=height), encoding="utf-8")
    found = re.search(r'<pre id="probe">(.*?)</pre>', chromium.dom(outer, WIDE), re.DOTALL)
    return json.loads(unescape(found[1]))


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_everything_is_laid_out(report, size):
    found = probe(report, size)
    assert found["width"] == size[0]
    assert found["whole"] <= found["width"], "the page is wider than the window"
    figures = report.read_text(encoding="utf-8").count("<svg")
    assert figures >= 10
    assert len(found["boxes"]) == figures
    assert all(width > 200 and height > 60 for width, height in found["boxes"])
    assert found["text"] > 6, "text in a figure is too small to read"
    assert found["loaded"] == []
    for heading in (
        f"GPU: {CARD}",
        "How near to the roof",
        "Maps of configs",
        "Every problem",
        "Environment",
    ):
        assert heading in found["headings"]


def pixels(report, size, *options):
    from PIL import Image

    picture = report.with_name("report.png")
    chromium.screenshot(report, picture, size, *options)
    with Image.open(picture) as image:
        return np.asarray(image.convert("RGB")).astype(float)


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_there_is_something_to_see(report, size):
    found = pixels(report, size)
    assert found.shape == (size[1], size[0], 3)
    assert np.median(found) > 240, "the ground is light"
    for band in np.split(found, 8):
        assert band.std() > 5, "a part of the page is blank"
    blue = np.abs(found - (0, 0x72, 0xB2)).max(axis=2) < 12
    assert blue.sum() > 50, "nothing is drawn in the colour of what was tuned"


def test_in_the_dark_the_ground_is_dark_and_figures_stay_light(report):
    found = pixels(report, WIDE, "--blink-settings=preferredColorScheme=0")
    assert np.median(found[:300, :20]) < 40
    assert (found.min(axis=2) > 230).mean() > 0.1


def test_no_element_leads_outside(report):
    text = chromium.dom(report, WIDE)
    assert text.rstrip().endswith("</html>")
    for name, value in re.findall(r'\b(href|src|srcset|data|action|xlink:href)="([^"]*)"', text):
        assert value.startswith("#"), f"{name}={value}"
    assert not re.search(r"<(script|link|img|iframe|object|embed|base)\b", text)
    assert not re.search(r"url\((?!#)|@import|https?://", text)
