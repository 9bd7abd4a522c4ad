"""What the memory accesses of a launch cost, by place in the source."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

KINDS = ("global load", "global store", "shared load", "shared store")


@dataclass(frozen=True)
class Tally:
    """Costs of the accesses of one kind.

    Attributes
    ----------
    requests : int
        Instructions of a warp.
    lanes, bytes : int
        Threads that took part, and what they moved.
    sectors, ideal_sectors : int
        Global memory: stretches of 32 bytes that were touched, and how few could hold as many distinct bytes.
    wavefronts, ideal_wavefronts : int
        Shared memory: passes over the 32 banks, and how few there would be without bank conflicts.
    """

    requests: int = 0
    lanes: int = 0
    bytes: int = 0
    sectors: int = 0
    ideal_sectors: int = 0
    wavefronts: int = 0
    ideal_wavefronts: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(Tally)))


@dataclass(frozen=True)
class Site:
    """One place in the source; `kind` is one of `KINDS`."""

    file: str
    line: int
    kind: str
    tally: Tally


@dataclass(frozen=True)
class Counts:
    """A launch's accesses."""

    sites: tuple[Site, ...]

    def total(self, kind: str) -> Tally:
        """Sum over all places of one of `KINDS`."""
        return _sum(site.tally for site in self.sites if site.kind == kind)

    def at(self, file: str, line: int, kind: str) -> Tally:
        """Of one line."""
        return _sum(s.tally for s in self.sites if (s.file, s.line, s.kind) == (file, line, kind))

    def __str__(self) -> str:
        rows = [
            f"{site.file}:{site.line} {site.kind}: {tally.requests} requests, "
            f"{tally.sectors}/{tally.ideal_sectors} sectors, "
            f"{tally.wavefronts}/{tally.ideal_wavefronts} wavefronts"
            for site in self.sites
            for tally in [site.tally]
        ]
        return "\n".join(rows)


def _sum(tallies: Iterable[Tally]) -> Tally:
    return sum(tallies, Tally())


def read(runtime: Any) -> Counts:
    """Copy what the runtime counted since it was last cleared."""
    how_many = ctypes.c_int()
    rows = runtime.emulator_counts(ctypes.byref(how_many))
    names = [one.name for one in fields(Tally)]
    sites = [
        Site(
            Path(row.file.decode()).name,
            row.line,
            KINDS[row.access],
            Tally(*(getattr(row, name) for name in names)),
        )
        for row in rows[: how_many.value]
    ]
    return Counts(tuple(sorted(sites, key=lambda site: (site.file, site.line, site.kind))))
