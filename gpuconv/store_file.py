"""The form of a file of tuning results: JSON behind its own digest, one entry a line, one device a file.

Nothing here touches a disk. Whatever is not exactly what this module would have written is refused: the whole
file where its digest, its form or its device is wrong, else the one line. So no text of a file reaches
further than the types of `Entry` let it, and none that is longer, nested, doubled or not a number.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from gpuconv.arguments import show
from gpuconv.backend.device import Device
from gpuconv.problem import ConvProblem

#: Changes when the same file would mean something else.
SCHEMA: Final = 1
#: A file is no longer, and has no more entries: the oldest make room.
MOST_BYTES: Final = 16 * 2**20
MOST_ENTRIES: Final = 20_000
_MOST_LINE: Final = 4096
_MOST_FIELDS: Final = 32
_MOST_NAME: Final = 250

_KERNEL: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)
_FIELD: Final = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)
_WORDS: Final = re.compile(r"[ -~]{0,400}", re.ASCII)
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", re.ASCII)
_OTHER_SCHEMA: Final = re.compile(rb'\{"schema":(\d{1,9}),"sha256":"')
_DEVICE: Final = b'"device":'
_ENTRIES: Final = b'"entries":['
_END: Final = b"\n]}\n"
_PROBLEM: Final = b'{"problem":"'


class Refused(ValueError):
    """Why a file, or an entry, does not count."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What tuning found for one problem on one device.

    Whether its kernel still exists, and its config is one that would be tried, whoever uses it has to ask.

    Attributes
    ----------
    problem : ConvProblem
    kernel : str
        Name of the kernel that won.
    config : mapping of str to int
        Every field of its parameters by name.
    us : float
        Microseconds it took.
    default_us : float
        Microseconds of what runs untuned, measured beside it; where that failed, those of the winner.
    default : str
        What runs untuned, as it prints itself; empty where it failed.
    strategy : str
        What was tried.
    budget : float
        Seconds that the search had.
    left : int
        Candidates that there was no time for.
    digest : str
        Of the kernel's source, without comments.
    compiler : str
        As "nvrtc 13.0"; empty on a CPU.
    date : str
        UTC, as "2026-01-31T12:00:00+00:00".
    """

    problem: ConvProblem
    kernel: str
    config: Mapping[str, int]
    us: float
    default_us: float
    default: str
    strategy: str
    budget: float
    left: int
    digest: str
    compiler: str
    date: str


@dataclass(frozen=True, slots=True)
class Content:
    """A file's device, its entries by the lines they stand on, and which lines were left out, and why."""

    facts: Mapping[str, Any]
    lines: Mapping[bytes, Entry]
    left_out: tuple[str, ...] = ()

    @property
    def entries(self) -> dict[ConvProblem, Entry]:
        """By problem."""
        return {one.problem: one for one in self.lines.values()}


def device_facts(device: Device) -> dict[str, Any]:
    """What tells devices apart whose times differ; two cards of one kind are the same."""
    if device.kind == "cpu":
        return {
            "kind": "cpu",
            "name": _words(device.name),
            "threads": device.threads,
            "numpy": _words(device.numpy),
            "blas": _words(device.blas),
        }
    return {
        "kind": "cuda",
        "name": _words(device.name),
        "capability": list(device.capability),
        "sms": device.sms,
        "smem_block": device.smem_block,
        "smem_sm": device.smem_sm,
        "l2_bytes": device.l2_bytes,
    }


def file_name(facts: Mapping[str, Any]) -> str:
    """A digest: no name of a device ever becomes part of a path."""
    return hashlib.sha256(_json([SCHEMA, facts])).hexdigest() + ".json"


def wins(ours: Entry, theirs: Entry) -> bool:
    """Whether the one of these that comes to a store replaces the one that is there.

    The newer does. What is dated later than now was written under a wrong clock, and would stay until then.
    """
    return ours.date >= theirs.date or theirs.date > datetime.now(UTC).isoformat(timespec="seconds")


def merged(there: Mapping[bytes, Entry], found: Iterable[Entry]) -> dict[bytes, Entry]:
    """Lines with other entries put among them; as many as a file may have.

    Raises
    ------
    Refused
        For an entry that could not be read back.
    """
    lines = {_problem_of(line): line for line in there}
    known = dict(there)
    for one in found:
        line = line_of(one)
        problem = _problem_of(line)
        before = lines.get(problem)
        if before is None or wins(one, known[before]):
            lines[problem], known[line] = line, one
    kept = {line: known[line] for line in lines.values()}
    room = MOST_BYTES - 2 * _MOST_LINE  # for all that is not entries
    if len(kept) <= MOST_ENTRIES and sum(map(len, kept)) + 2 * len(kept) <= room:
        return kept
    newest = {}
    for line in sorted(kept, key=lambda line: kept[line].date, reverse=True)[:MOST_ENTRIES]:
        room -= len(line) + 2
        if room < 0:
            break
        newest[line] = kept[line]
    return newest


def line_of(entry: Entry) -> bytes:
    """The one way in which an entry is written.

    Raises
    ------
    Refused
        If it could not be read back.
    """
    if not isinstance(entry.problem, ConvProblem):
        raise Refused(f"problem must be a ConvProblem, got {show(entry.problem)}")
    _check("kernel", entry.kernel, _is(_KERNEL))
    _check("config", entry.config, _is_config)
    for name in ("us", "default_us"):
        _check(name, getattr(entry, name), _is_time)
    _check("budget", entry.budget, _is_time)
    _check("left", entry.left, _is_size)
    for name in ("default", "strategy", "digest", "compiler"):
        _check(name, getattr(entry, name), _is(_WORDS))
    _check("date", entry.date, _is_date)
    line = _json(
        {
            "problem": str(entry.problem),
            "kernel": entry.kernel,
            "config": dict(entry.config),
            "us": float(entry.us),
            "default_us": float(entry.default_us),
            "default": entry.default,
            "strategy": entry.strategy,
            "budget": float(entry.budget),
            "left": entry.left,
            "digest": entry.digest,
            "compiler": entry.compiler,
            "date": entry.date,
        }
    )
    if len(line) > _MOST_LINE:
        raise Refused(f"an entry of {len(line)} bytes is too long")
    return line


def encode(facts: Mapping[str, Any], lines: Iterable[bytes]) -> bytes:
    """A whole file; of the same entries the same bytes."""
    body = b",\n".join(sorted(lines))
    rest = b"%s%s,\n%s\n%s%s" % (_DEVICE, _json(dict(facts)), _ENTRIES, body, _END)
    return _header(rest) + rest


def decode(data: bytes, known: Mapping[bytes, Entry] = MappingProxyType({})) -> Content:
    """Read a file.

    Parameters
    ----------
    data : bytes
    known : mapping
        Lines that have been read before, which saves time.

    Raises
    ------
    Refused
        If nothing in it can be trusted.
    """
    if len(data) > MOST_BYTES:
        raise Refused(f"is larger than {MOST_BYTES // 2**20} MiB")
    rest = data[data.find(b"\n") + 1 :]
    if not data.startswith(_header(rest)):
        other = _OTHER_SCHEMA.match(data)
        if other is not None and int(other[1]) != SCHEMA:
            raise Refused("was written by another version of gpuconv")
        raise Refused("is damaged")
    device, _, body = rest.partition(b",\n")
    if not (device.startswith(_DEVICE) and body.startswith(_ENTRIES) and body.endswith(_END)):
        raise Refused("is not of the form")
    facts = _facts(device[len(_DEVICE) :])
    # without their line breaks; an entry that has one of its own is not as it should be
    written = body[len(_ENTRIES) : -len(_END)].removeprefix(b"\n").split(b",\n")
    written = [] if written == [b""] else written
    try:
        lines = {line: known.get(line) or _entry(line) for line in written}
    except Refused:
        return _without_bad(facts, written)
    if len(set(map(_problem_of, lines))) == len(written) <= MOST_ENTRIES:
        return Content(facts, lines)
    return _without_bad(facts, written)


def _without_bad(facts: Mapping[str, Any], written: list[bytes]) -> Content:
    """What `decode` gives where not all lines are good."""
    lines: dict[bytes, Entry] = {}
    seen: set[ConvProblem] = set()
    left_out: list[str] = []
    for number, line in enumerate(written[: MOST_ENTRIES + 1], 1):
        try:
            if number > MOST_ENTRIES:
                raise Refused(f"more than {MOST_ENTRIES} entries")
            entry = _entry(line)
            if entry.problem in seen:
                raise Refused(f"{entry.problem} is there twice")
        except Refused as error:
            left_out.append(f"entry {number}: {error}")
        else:
            seen.add(entry.problem)
            lines[line] = entry
    return Content(facts, lines, tuple(left_out))


def _header(rest: bytes) -> bytes:
    return b'{"schema":%d,"sha256":"%s",\n' % (SCHEMA, hashlib.sha256(rest).hexdigest().encode())


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def _problem_of(line: bytes) -> bytes:
    """The problem's text on an entry's line."""
    return line[len(_PROBLEM) : line.index(b'"', len(_PROBLEM))]


def _parsed(text: bytes) -> dict[str, Any]:
    if len(text) > _MOST_LINE:
        raise Refused("is too long")
    try:
        found = json.loads(text.decode("ascii"))
    except (ValueError, RecursionError):
        raise Refused("is no JSON") from None
    if not isinstance(found, dict):
        raise Refused("is no JSON object")
    return found


def _entry(line: bytes) -> Entry:
    """Read a line; what would not be written so is refused, doubled names and other spellings among it."""
    values = _parsed(line)
    if tuple(values) != Entry.__match_args__:
        raise Refused(f"must have {', '.join(Entry.__match_args__)}")
    _check("problem", values["problem"], lambda value: isinstance(value, str))
    try:
        values["problem"] = ConvProblem.parse(values["problem"])
    except (ValueError, TypeError) as error:
        raise Refused(" ".join(str(error).split())[:200]) from None
    entry = Entry(**values)
    if line_of(entry) != line:
        raise Refused("is not in the form that gpuconv writes")
    return entry


def _facts(text: bytes) -> Mapping[str, Any]:
    """Read what a file says of its device."""
    found = _parsed(text)
    kind = found.get("kind")
    if kind not in ("cpu", "cuda"):
        raise Refused("is of no kind of device")
    example = device_facts(Device(kind, ""))
    if tuple(found) != tuple(example):
        raise Refused("does not say which device it is of")
    for name, like in example.items():
        right = _is_name if isinstance(like, str) else _is_size if isinstance(like, int) else _is_sizes
        _check(name, found[name], right)
    if _json(found) != text:
        raise Refused("does not say which device it is of")
    return found


def _check(name: str, value: Any, right: Callable[[Any], bool]) -> None:
    if not right(value):
        raise Refused(f"{name} is not right: {show(value)}")


def _is(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_size(value: Any) -> bool:
    return _is_integer(value) and 0 <= value < 2**53


def _is_sizes(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_size, value))


def _words(text: str) -> str:
    """What a system calls a part of itself, in any script, without what a terminal might obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:_MOST_NAME]


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and _words(value) == value


def _is_config(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) <= _MOST_FIELDS
        and all(map(_is(_FIELD), value))
        and all(_is_integer(number) and abs(number) < 2**53 for number in value.values())
    )


def _is_time(value: Any) -> bool:
    """A float, or when it comes from a program an integer; in microseconds, of no more than a month."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 3e12


def _is_date(value: Any) -> bool:
    if not isinstance(value, str) or _DATE.fullmatch(value) is None:
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True
