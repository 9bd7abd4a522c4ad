"""``gpuconv report``: what was tuned and measured, as one page of HTML."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from gpuconv.cli import output
from gpuconv.cli.output import Failure, WrongUsage
from gpuconv.report import html_facts, html_json, html_svg
from gpuconv.report.html_facts import Source

_PAGE: Final = "gpuconv-report.html"
_FILE: Final = click.Path(dir_okay=False, exists=True, path_type=Path)


@click.command()
@click.argument("files", metavar="[FILE]...", nargs=-1, type=_FILE)
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help=f"The page to write (default: {_PAGE}; with --json only where this says so).",
)
@click.option(
    "--heatmaps",
    type=click.IntRange(min=0),
    default=12,
    show_default=True,
    metavar="N",
    help="Maps of configs for each device, at most.",
)
@output.json_option
def report(files: tuple[Path, ...], out: Path | None, heatmaps: int, as_json: bool) -> None:
    """Make one page of HTML from recordings of the tuner and result files of the benchmark.

    'gpuconv tune --record FILE' writes a recording, 'gpuconv bench --out FILE' a result file, whose baselines
    appear beside the tuned times of the same device. The page needs nothing else: it can be sent and kept.
    """
    if not files:
        raise WrongUsage("name a recording, or a result file: 'gpuconv tune --record FILE' makes one")
    page = Path(_PAGE) if out is None and not as_json else out
    if page is not None:
        try:
            html_svg.check()
        except ModuleNotFoundError as error:
            raise Failure(output.one_line(error)) from None
        if any(page.exists() and page.samefile(file) for file in files):
            raise WrongUsage(f"--out: {page} is one of the files to read")
    parts = html_facts.bring_together([_load(file) for file in dict.fromkeys(files)])
    if page is not None:
        from gpuconv.report import html

        text = html.page(parts, heatmaps)
        output.put({page: lambda: text.encode("utf-8")})
    if as_json:
        rows = [row for part in parts for row in html_json.as_json(part)]
        output.emit("report", rows, **html_json.about(parts))
    if page is not None:
        output.note(f"written: {page}")


def _load(path: Path) -> Source:
    try:
        return html_facts.load(path)
    except ValueError as error:
        raise Failure(output.one_line(error)) from None
