"""A fault: one piece of one file replaced, as a person might have mistyped it."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Final

_ROOMS: Final = (
    "kernel",
    "results",
    "headers",
    "host",
    "border",
    "patches",
    "gemm",
    "gemm_results",
    "mma",
    "mma_places",
    "bias_grad",
)
ROOT = Path(__file__).resolve().parent.parent.parent


class MutationError(Exception):
    """Wrong use, or sources that a fault no longer fits."""


@dataclass(frozen=True)
class Fault:
    """A replacement that must fit exactly once.

    Attributes
    ----------
    name : str
        Short, unique.
    file : str
        From the root of the checkout.
    old, new : str
        What is there, and what takes its place.
    why : str
        What goes wrong, in a line.
    tests : tuple of str
        Files of tests, from ``tests/``, that run before everything else.
    """

    name: str
    file: str
    old: str
    new: str
    why: str
    tests: tuple[str, ...] = ()

    def seeded(self, root: Path) -> str:
        """The file's text with the fault in it."""
        path = root / self.file
        if not path.is_file():
            raise MutationError(f"{self.name}: there is no {self.file}")
        text = path.read_text(encoding="utf-8")
        found = text.count(self.old)
        if found != 1 or self.old == self.new:
            head = self.old.strip().splitlines()[0]
            raise MutationError(
                f"{self.name}: {self.file} has moved on, it holds {head!r} {found} times, not once"
            )
        return text.replace(self.old, self.new)


def all_faults() -> tuple[Fault, ...]:
    """Every fault, kernels first."""
    modules = (import_module(f"tests.mutation.faults_{room}") for room in _ROOMS)
    return tuple(chain.from_iterable(module.FAULTS for module in modules))


def named(faults: tuple[Fault, ...], names: list[str]) -> tuple[Fault, ...]:
    """Those faults, in the order of the names."""
    by_name = {fault.name: fault for fault in faults}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise MutationError(f"no fault is named {', '.join(unknown)}; --list names them all")
    return tuple(by_name[name] for name in dict.fromkeys(names))


def today() -> str:
    """The seed of a rotation that names none."""
    return dt.datetime.now(dt.UTC).date().isoformat()


def rotation(faults: tuple[Fault, ...], count: int, seed: str) -> tuple[Fault, ...]:
    """So many faults: consecutive dates take them in turn, any other text is hashed to a place to begin.

    The order mixes files, the same way for every seed.
    """
    if not 1 <= count <= len(faults):
        raise MutationError(f"--rotate takes from 1 to {len(faults)} faults, got {count}")
    mixed = sorted(faults, key=lambda fault: hashlib.sha256(fault.name.encode()).digest())
    try:
        turn = dt.date.fromisoformat(seed).toordinal()
    except ValueError:
        turn = int.from_bytes(hashlib.sha256(seed.encode()).digest(), "big")
    first = turn * count % len(mixed)
    return tuple((mixed + mixed)[first : first + count])
