"""What tuning found, kept for later processes: the user's own file of a device over the one that is shipped.

What is read here never raises: whatever is wrong with a file makes it count for nothing, with one warning.
What cannot be written still counts for this process.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from gpuconv import settings
from gpuconv.backend import folders
from gpuconv.backend.device import Device
from gpuconv.backend.folders import Unusable
from gpuconv.problem import ConvProblem
from gpuconv.store_file import (
    MOST_BYTES,
    Content,
    Entry,
    Refused,
    decode,
    device_facts,
    encode,
    file_name,
    line_of,
    merged,
    wins,
)

__all__ = [
    "Entry",
    "change",
    "device_facts",
    "entries",
    "find",
    "folder",
    "forget",
    "only",
    "put",
    "read",
    "unwritten",
]

#: Read-only, and of the same form as the user's.
SHIPPED: Final = Path(__file__).parent / "data" / "tuned"
#: Seconds to wait for others that write, each of which takes milliseconds; after a wait in vain, less.
_PATIENCE: Final = 30.0
_IMPATIENCE: Final = 0.2
_POLL: Final = 0.02
#: No link is followed, where a system can promise that, and the other end of no pipe is waited for.
_FLAGS: Final = (
    os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
)

_Stamp = tuple[int, ...] | None
#: Entries by the lines they are written on.
Lines = Mapping[bytes, Entry]
_View = Mapping[ConvProblem, Entry]
_NOTHING: Final[Lines] = MappingProxyType({})

_lock = threading.RLock()
#: Held while a file is changed, so that threads wait here and only processes for each other's lock.
_writing = threading.RLock()
_stores: dict[tuple[str | None, str], _Store] = {}
_in_vain: set[Path] = set()


def find(problem: ConvProblem, device: Device) -> Entry | None:
    """What is known of a problem on a device: by the user's own tuning, else by what is shipped.

    Warns
    -----
    RuntimeWarning
        Once for everything that is wrong with a file, which then counts for nothing.
    """
    return entries(device).get(problem)


def entries(device: Device) -> Mapping[ConvProblem, Entry]:
    """All that is known on a device; the user's own over what is shipped. Warns as `find` does."""
    return _store(device).view()


def put(device: Device, found: Iterable[Entry]) -> bool:
    """Keep entries, beside whatever other processes keep at the same time; of two the newer stays.

    Returns
    -------
    bool
        Whether they were written. If not, they count for this process alone; the next call tries again.

    Raises
    ------
    ValueError
        For an entry that could not be read back.

    Warns
    -----
    RuntimeWarning
        Once, if they cannot be written.
    """
    found = list(found)
    for one in found:
        line_of(one)  # says what is wrong with it
    return _store(device).put(found)


def unwritten(device: Device) -> int:
    """How many entries count for this process alone, because they could not be written."""
    return len(_store(device).unwritten)


def folder() -> Path:
    """Where the user's files are kept, whether it exists or not."""
    return folders.root() / "tuning"


def _store(device: Device) -> _Store:
    key = settings.read("GPUCONV_CACHE_DIR"), _name(device)
    found = _stores.get(key)
    if found is None:
        with _lock:
            found = _stores.setdefault(key, _Store(device))
    return found


@cache
def _name(device: Device) -> str:
    return file_name(device_facts(device))


class _Store:
    """One device's, as far as it has been read."""

    def __init__(self, device: Device) -> None:
        self._facts = device_facts(device)
        self._shipped_path = SHIPPED / _name(device)
        self._path: Path | None = None
        try:
            self._path = folder() / _name(device)
        except folders.FAILURES as error:
            self._failure: Exception = error
        self._lines: Lines = _NOTHING
        self._shipped: _View | None = None
        self.unwritten: dict[ConvProblem, Entry] = {}
        #: Of which state of the file, and what then counts.
        self._loaded: tuple[_Stamp, _View] | None = None

    def view(self) -> _View:
        """What counts now."""
        loaded = self._loaded
        if loaded is not None and loaded[0] == _stamp(self._path):
            return loaded[1]
        told: list[tuple[object, str]] = []
        with _lock:
            view = self._load(told)
        for topic, message in told:
            folders.say(topic, message)
        return view

    def put(self, found: Iterable[Entry]) -> bool:
        """Write entries, and those that could not be written before."""
        told: list[tuple[object, str]] = []
        with _writing:
            with _lock:
                for one in found:
                    before = self.unwritten.get(one.problem)
                    if before is None or wins(one, before):
                        self.unwritten[one.problem] = one
                waiting = list(self.unwritten.values())
                self._loaded = None
            try:
                if self._path is None:
                    raise self._failure
                lines = change(
                    self._path, self._facts, lambda there: merged(there, waiting), told, self._lines
                )
            except folders.FAILURES as error:
                told.append(_in_memory(error))
            else:
                with _lock:
                    self._lines, self._loaded = lines, None
                    for one in waiting:
                        if self.unwritten.get(one.problem) is one:
                            del self.unwritten[one.problem]
            written = not self.unwritten
        for topic, message in told:
            folders.say(topic, message)
        return written

    def _load(self, told: list[tuple[object, str]]) -> _View:
        stamp = _stamp(self._path)
        lasts = True
        try:
            if self._path is None:  # said where something is to be kept; here nothing is missed
                raise FileNotFoundError
            self._lines, stamp = self._content(told)
        except FileNotFoundError:
            self._lines = _NOTHING
        except Refused as error:
            self._lines = _NOTHING
            told.append(_not_used(self._path, error))
        except folders.FAILURES as error:
            # which may pass: a folder may be set right, a file be opened next time
            self._lines, lasts = _NOTHING, False
            told.append(_in_memory(error))
        if self._shipped is None:
            self._shipped = self._read_shipped(told)
        view = dict(self._shipped)
        for one in self._lines.values():
            view[one.problem] = one
        own = {one.problem for one in self._lines.values()} if self.unwritten else ()
        for problem, one in self.unwritten.items():
            if problem not in own or wins(one, view[problem]):
                view[problem] = one
        found = MappingProxyType(view)
        self._loaded = (stamp, found) if lasts else None
        return found

    def _content(self, told: list[tuple[object, str]]) -> tuple[Lines, _Stamp]:
        assert self._path is not None
        data, stamp = read(self._path)
        content = decode(data, self._lines)
        if content.facts != self._facts:
            raise Refused("is another device's")
        _tell_left_out(self._path, content, told)
        return content.lines, stamp

    def _read_shipped(self, told: list[tuple[object, str]]) -> _View:
        try:
            with self._shipped_path.open("rb") as file:
                content = decode(file.read(MOST_BYTES + 1))
            if content.facts != self._facts:
                raise Refused("is another device's")
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, Refused) as error:
            told.append(_not_used(self._shipped_path, error))
            return {}
        _tell_left_out(self._shipped_path, content, told)
        return content.entries


def _stamp(path: Path | None) -> _Stamp:
    """What differs between two states of a file; None where there is none."""
    if path is None:
        return None
    try:
        return _stamp_of(os.stat(path, follow_symlinks=False))
    except (OSError, ValueError):
        return None


def _stamp_of(status: os.stat_result) -> _Stamp:
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode, status.st_uid


def read(path: Path) -> tuple[bytes, _Stamp]:
    """Read a file of the user's; one byte more than it may have, if it has more.

    Raises
    ------
    OSError
        If it cannot be read, or is not there.
    Unusable
        If others could have put something into it or into its folder, or if it is a link or no file at all.
    """
    folders.check(path.parent)
    try:
        if path.is_symlink():
            raise Unusable(f"{path} is a link")
        number = os.open(path, _FLAGS)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Unusable(f"{path} is a link") from None
        raise
    try:
        status = os.fstat(number)
        if not stat.S_ISREG(status.st_mode):
            raise Unusable(f"{path} is no file")
        folders.check_status(path, status)
    except BaseException:
        os.close(number)
        raise
    with open(number, "rb") as file:
        return file.read(MOST_BYTES + 1), _stamp_of(status)


def change(
    path: Path,
    facts: Mapping[str, Any],
    how: Callable[[Lines], Mapping[bytes, Entry]],
    told: list[tuple[object, str]],
    known: Lines = _NOTHING,
) -> Mapping[bytes, Entry]:
    """Change a file of the user's while no other process does.

    Parameters
    ----------
    path : Path
    facts : mapping
        Of its device.
    how : callable
        From the lines that are there to those that shall be. A file that is damaged has none.
    told : list
        Takes what there is to warn of.
    known : mapping
        Lines that have been read before.

    Raises
    ------
    OSError, Unusable, RuntimeError
        If it cannot be changed; it is as it was.
    """
    folders.make(path.parent)
    with only(path.parent):
        there: Lines | None = _NOTHING
        try:
            content = decode(read(path)[0], known)
            if content.facts != facts:
                raise Refused("is another device's")
            _tell_left_out(path, content, told)
            there = content.lines if not content.left_out else None
            lines = how(content.lines)
        except FileNotFoundError:
            lines = how(_NOTHING)
        except Refused as error:
            there = None
            told.append(_not_used(path, error))
            lines = how(_NOTHING)
        if there is None or lines.keys() != there.keys():
            folders.write(path, encode(facts, lines), lasting=True)
    return lines


@contextmanager
def only(place: Path) -> Iterator[None]:
    """Keep the folder to this process and this thread.

    Raises
    ------
    OSError, RuntimeError
        If others keep it for too long, or it cannot be kept.
    """
    import filelock

    with _writing:
        patience = _IMPATIENCE if place in _in_vain else _PATIENCE
        lock = filelock.FileLock(place / "lock", timeout=patience, mode=0o600, poll_interval=_POLL)
        try:
            lock.acquire()
        except filelock.Timeout:
            _in_vain.add(place)
            raise Unusable(f"{place} was kept by another process for {patience:g} s") from None
        _in_vain.discard(place)
        try:
            yield
        finally:
            lock.release()


def forget() -> None:
    """Forget what has been read, and what could not be written."""
    with _lock:
        _stores.clear()


def _not_used(path: Path | None, error: Exception) -> tuple[object, str]:
    what = str(error) if isinstance(error, Refused) else f"cannot be read: {folders.reason(error)}"
    return ("tuning", path), f"{path} {what}; it is not used"


def _in_memory(error: Exception) -> tuple[object, str]:
    return "tuning in memory", f"tuning results are kept in memory only: {folders.reason(error)}"


def _tell_left_out(path: Path, content: Content, told: list[tuple[object, str]]) -> None:
    if content.left_out:
        first, *others = content.left_out
        more = f", and {len(others)} more" if others else ""
        told.append((("tuning entries", path), f"{path}: not used: {first}{more}"))


def _after_fork() -> None:
    """A child has none of the threads that held these."""
    global _lock, _writing
    _lock, _writing = threading.RLock(), threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
