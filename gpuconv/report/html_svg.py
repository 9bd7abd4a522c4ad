"""Figures as SVG inside a page: nothing from outside, no identifier twice, the same every time."""

from __future__ import annotations

import importlib.util
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any, Final

#: Okabe and Ito's colours, told apart with any eyes, and grey for what is not the subject.
BLUE: Final = "#0072B2"
SKY: Final = "#56B4E9"
ORANGE: Final = "#E69F00"
GREY: Final = "#b4b8bd"
INK: Final = "#22262b"
FAINT: Final = "#6b7178"
GRID: Final = "#e4e6e9"

_STYLE: Final = {
    "font.size": 9,
    "text.parse_math": False,
    "svg.fonttype": "none",  # the reader's own font; what is measured here is a wide one
    "text.color": INK,
    "axes.facecolor": "none",
    "axes.labelcolor": FAINT,
    "axes.edgecolor": "#9aa0a6",
    "axes.linewidth": 0.7,
    "xtick.color": "#9aa0a6",
    "ytick.color": "#9aa0a6",
    "xtick.labelcolor": FAINT,
    "ytick.labelcolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
#: What the page needs once instead of in each figure.
CSS: Final = "figure svg * { stroke-linejoin: round; stroke-linecap: butt; }"
_TITLE: Final = re.compile(r'<g id="title-(\d+)">')


def check() -> None:
    """Refuse what cannot be drawn, before anything is read.

    Raises
    ------
    ModuleNotFoundError
        Without matplotlib.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ModuleNotFoundError("a report needs matplotlib: pip install 'gpuconv[plot]'", name="matplotlib")


@contextmanager
def style() -> Iterator[None]:
    """What a figure is drawn and written under."""
    from matplotlib import rc_context

    with rc_context(_STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that its font lacks: the reader's has it
        yield


def figure(width: float, height: float) -> Any:
    """An empty figure, in inches, that leaves the ground to the page."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained")
    made.patch.set_visible(False)
    return made


def svg(made: Any, name: str, label: str, titles: Sequence[str] = ()) -> str:
    """Write a figure as an element.

    Parameters
    ----------
    made : Figure
        What `figure` gave. An artist whose gid is ``title-3`` shows the third of `titles` under the mouse.
    name : str
        Of this figure alone: other figures' identifiers are other ones.
    label : str
        What it shows, in words.
    titles : sequence of str
        See there.
    """
    from matplotlib import rc_context

    page = io.StringIO()
    with rc_context({"svg.hashsalt": f"gpuconv {name}"}):
        made.savefig(page, format="svg", metadata={"Date": None})
    text = page.getvalue()
    text = text[text.index("<svg") :]
    width, height = (float(value) for value in re.findall(r' (?:width|height)="([\d.]+)pt"', text)[:2])
    text = re.sub(r" <metadata>.*?</metadata>\n", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r" <defs>\s*<style.*?</style>\s*</defs>\n", "", text, count=1, flags=re.DOTALL)
    text = _TITLE.sub(lambda found: f"<g><title>{escape(titles[int(found[1])])}</title>", text)
    text = re.sub(r'<g id="[^"]*"', "<g", text).replace("xlink:href=", "href=")
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    head = (
        f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {width:g} {height:g}"'
        f' width="{width * 4 / 3:.0f}" height="{height * 4 / 3:.0f}">'
    )
    return head + text[text.index(">") + 1 :].rstrip()


def plain_axes(axes: Any) -> None:
    """Let an axis' grid be all there is to see of it."""
    axes.set_axisbelow(True)
    axes.tick_params(length=0)


def us(value: float | None) -> str:
    """A time to three digits, for people."""
    if value is None:
        return "–"
    if value >= 0.9995e6:
        return f"{value / 1e6:.3g} s" if value < 1e9 else f"{value / 1e6:,.0f} s"
    if value >= 1e4:
        return f"{value / 1e3:.3g} ms"
    return f"{value:,.0f} µs" if value >= 100 else f"{value:.3g} µs"


def times(value: float | None) -> str:
    """A quotient, for people."""
    if value is None:
        return "–"
    return f"{value:.2f}×" if value < 100 else f"{value:,.0f}×"


def rate(value: float, unit: str) -> str:
    """A rate to three digits with the prefix that suits it."""
    for prefix, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if value >= 0.9995 * size:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"
