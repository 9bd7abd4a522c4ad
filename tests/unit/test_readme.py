"""The README is true: its examples run, its two commands are two, its links and settings exist."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from gpuconv import settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    *ROOT.glob("docs/*.md"),
    *ROOT.glob("bench/**/*.md"),
    ROOT / "cuda_src/README.md",
]


def test_examples_run():
    result = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert result.attempted >= 4
    assert result.failed == 0


def test_start_has_two_commands_of_one_line():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    start = text.split("\n## Start\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", start, re.DOTALL)
    assert start.count("```") == 4
    assert [block.count("\n") for block in blocks] == [1, 1]
    assert blocks[0].rstrip().endswith("gpuconv demo")
    assert "-m pytest" in blocks[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target
    for target in re.findall(r"`((?:bench|tests|docs|cuda_src|gpuconv)/[\w./-]*)`", text):
        # what an installation makes is not in a checkout
        assert target == "gpuconv/_cuda_src" or (ROOT / target).exists(), target


def test_settings_are_all_told():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    told = set(re.findall(r"GPUCONV_[A-Z_]+", text))
    assert told == set(settings.VARIABLES)
