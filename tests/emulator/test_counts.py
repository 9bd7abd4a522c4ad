"""Costs of patterns of access that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tests.emulator.conftest import PROBES
from tests.emulator.counts import KINDS
from tests.emulator.launcher import Emulator


@pytest.fixture
def counts(probe):
    def run(entry, stride, base=0, block=32, grid=1):
        emulator = Emulator(sources=PROBES, count=True)
        a = np.zeros(8192, np.uint32)
        probe(entry, stride, base, file="banks", a=a, smem=16384, block=block, grid=grid, emulator=emulator)
        return emulator.counters

    return run


@pytest.mark.parametrize(
    ("entry", "stride", "wavefronts", "ideal"),
    [
        ("shared4", 4, 1, 1),
        ("shared4", 8, 2, 1),
        ("shared4", 12, 1, 1),  # odd numbers of words meet every bank once
        ("shared4", 16, 4, 1),
        ("shared4", 128, 32, 1),
        ("shared4", 132, 1, 1),
        ("shared4", 0, 1, 1),  # one word for all
        ("shared2", 2, 1, 1),  # two lanes in each of 16 words
        ("shared2", 64, 16, 1),
        ("shared8", 8, 2, 2),  # half a warp at a time
        ("shared8", 16, 4, 2),
        ("shared8", 0, 2, 2),
        ("shared16", 16, 4, 4),  # a quarter of a warp at a time
        ("shared16", 32, 8, 4),
        ("shared16", 128, 32, 4),
        ("shared16", 144, 4, 4),
    ],
)
def test_banks(counts, entry, stride, wavefronts, ideal):
    tally = counts(entry, stride).total("shared store")
    assert (tally.requests, tally.lanes) == (1, 32)
    assert (tally.wavefronts, tally.ideal_wavefronts) == (wavefronts, ideal)


@pytest.mark.parametrize(
    ("entry", "stride", "base", "sectors", "ideal"),
    [
        ("global4", 4, 0, 4, 4),
        ("global4", 4, 4, 5, 4),  # not from a multiple of 32
        ("global4", 8, 0, 8, 4),
        ("global4", 32, 0, 32, 4),
        ("global4", 128, 0, 32, 4),
        ("global4", 0, 0, 1, 1),
        ("global16", 16, 0, 16, 16),
        ("global16", 16, 16, 17, 16),
        ("global16", 32, 0, 32, 16),
    ],
)
def test_sectors(counts, entry, stride, base, sectors, ideal):
    tally = counts(entry, stride, base).total("global load")
    assert (tally.requests, tally.sectors, tally.ideal_sectors) == (1, sectors, ideal)


def test_every_warp_and_block_counts(counts):
    tally = counts("shared4", 4, block=128, grid=3).total("shared store")
    assert (tally.requests, tally.lanes, tally.bytes, tally.wavefronts) == (12, 384, 1536, 12)


def test_copies_count_on_both_sides(counts):
    made = counts("copy16", 32)
    assert made.total("global load").sectors == 32
    assert made.total("global load").ideal_sectors == 16
    assert made.total("shared store").wavefronts == 4
    assert made.total("shared load").requests == made.total("global store").requests == 0


def test_lanes_that_stay_away(counts):
    tally = counts("some_lanes", 0).total("shared store")
    assert (tally.requests, tally.lanes, tally.wavefronts) == (2, 24, 2)


def test_places(counts):
    made = counts("shared4", 4)
    (site,) = made.sites
    lines = (PROBES / "kernels" / "banks.cu").read_text().splitlines()
    assert (site.file, site.kind) == ("banks.cu", "shared store")
    assert "st_shared(reinterpret_cast<T*>" in lines[site.line - 1]
    assert made.at("banks.cu", site.line, "shared store") == site.tally
    assert str(made) == f"banks.cu:{site.line} shared store: 1 requests, 0/0 sectors, 1/1 wavefronts"
    assert set(KINDS) >= {site.kind}


def test_counters_are_of_the_last_launch(probe):
    emulator = Emulator(sources=PROBES, count=True)
    for _ in range(2):
        probe("shared4", 4, 0, file="banks", smem=16384, emulator=emulator)
        assert emulator.counters.total("shared store").requests == 1
    assert Emulator(sources=PROBES).counters is None
