"""The files of the tuning store, for whoever looks after them: listed, exchanged, thinned out, removed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gpuconv import store
from gpuconv.backend import folders
from gpuconv.backend.folders import Unusable
from gpuconv.store_file import (
    MOST_BYTES,
    Content,
    Entry,
    Refused,
    decode,
    encode,
    file_name,
    merged,
)

#: Nothing of another name is ever removed.
_OURS: Final = re.compile(r"[0-9a-f]{64}\.json|.+\.tmp", re.ASCII)


@dataclass(frozen=True, slots=True)
class Held:
    """A file of the store: its content, or what is wrong with it.

    Attributes
    ----------
    path : Path
    shipped : bool
        Whether it came with the package.
    size : int
        Bytes.
    content : Content or None
    wrong : str or None
        Why it counts for nothing.
    damaged : bool
        Whether that is its content's fault, not that of what surrounds it.
    """

    path: Path
    shipped: bool
    size: int
    content: Content | None
    wrong: str | None = None
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class Added:
    """How many entries were new, replaced others, or were older than those that were there."""

    new: int
    replaced: int
    kept: int


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was taken out of a file, and what is left; where nothing is, the file is gone."""

    held: Held
    dropped: int
    left: int


def files() -> list[Held]:
    """Every file of the user's store, then every shipped one.

    Raises
    ------
    OSError, Unusable
        If the user's folder cannot be looked at, or others could have put something into it.
    """
    own = [_held(path, False) for path in _listed()]
    shipped = sorted(store.SHIPPED.glob("*.json")) if store.SHIPPED.is_dir() else []
    return own + [_held(path, True) for path in shipped]


def load(path: Path) -> Content:
    """Read a file from anywhere, all of it or nothing.

    Raises
    ------
    OSError
        If it cannot be read.
    Refused
        If anything in it is wrong.
    """
    with path.open("rb") as file:
        content = decode(file.read(MOST_BYTES + 1))
    if content.left_out:
        raise Refused(f"is not used: {content.left_out[0]}")
    return content


def joined(contents: Sequence[Content]) -> bytes:
    """One file of several of one device; of two entries for a problem the newer.

    Raises
    ------
    Refused
        If they are of different devices.
    """
    first, *others = contents
    lines = dict(first.lines)
    for other in others:
        if other.facts != first.facts:
            raise Refused("is of another device than the first")
        lines = merged(lines, other.lines.values())
    return encode(first.facts, lines)


def add(content: Content) -> Added:
    """Put what a file holds into the user's store, for the device that it is of.

    Raises
    ------
    OSError, Unusable, RuntimeError
        If that cannot be written; it is as it was.
    """
    counts = Added(0, 0, 0)

    def put_in(there: store.Lines) -> dict[bytes, Entry]:
        nonlocal counts
        before = {one.problem for one in there.values()}
        after = merged(there, content.lines.values())
        come = {one.problem for line, one in after.items() if line not in there}
        counts = Added(len(come - before), len(come & before), len(content.lines) - len(come))
        return after

    store.change(store.folder() / file_name(content.facts), content.facts, put_in, [])
    return counts


def prune(keep: Callable[[Entry], bool]) -> list[Pruned]:
    """Take out of the user's files what is not to be kept, and whatever in them is damaged.

    Files that others could have written stay as they are.

    Raises
    ------
    OSError, Unusable, RuntimeError
        If they cannot be changed.
    """
    found = []
    for held in _alone(False):
        if held.content is None:
            if held.damaged:
                held.path.unlink()
                found.append(Pruned(held, 0, 0))
            continue
        kept = {line: one for line, one in held.content.lines.items() if keep(one)}
        dropped = len(held.content.lines) - len(kept) + len(held.content.left_out)
        if not kept:
            held.path.unlink()
        elif dropped:
            folders.write(held.path, encode(held.content.facts, kept), lasting=True)
        found.append(Pruned(held, dropped, len(kept)))
    return found


def clear() -> tuple[list[Held], list[str]]:
    """Remove the user's files, and what was left of such; gives those, and why others are still there.

    Raises
    ------
    OSError, Unusable, RuntimeError
        If their folder cannot be looked at, or be kept from other processes.
    """
    removed, left = [], []
    for held in _alone(True):
        try:
            held.path.unlink()
        except OSError as error:  # a folder of such a name, for instance
            left.append(folders.reason(error))
        else:
            removed.append(held)
    store.forget()
    return removed, left


def _alone(temporaries: bool) -> Iterator[Held]:
    """The user's files, while no other process changes them."""
    place = store.folder()
    if not place.is_dir():
        return
    folders.make(place)
    with store.only(place):
        for path in _listed(temporaries):
            yield _held(path, False)


def _listed(temporaries: bool = False) -> Iterable[Path]:
    place = store.folder()
    try:
        folders.check(place)
    except FileNotFoundError:
        return []
    there = sorted(path for path in place.iterdir() if _OURS.fullmatch(path.name))
    return [path for path in there if temporaries or path.suffix == ".json"]


def _held(path: Path, shipped: bool) -> Held:
    size = 0
    with suppress(OSError):
        size = path.lstat().st_size
    try:
        data = path.read_bytes() if shipped else store.read(path)[0]
        content = decode(data)
        if path.name != file_name(content.facts):
            raise Refused("does not have its device's name")
    except Refused as error:
        return Held(path, shipped, size, None, str(error), True)
    except OSError as error:
        return Held(path, shipped, size, None, f"cannot be read: {error.strerror or error}")
    except Unusable as error:
        return Held(path, shipped, size, None, str(error).removeprefix(f"{path} "))
    return Held(path, shipped, size, content)
