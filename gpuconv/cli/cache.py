"""``gpuconv cache``: what tuning found, shown, exchanged between machines, thinned out and removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click
from rich.text import Text

from gpuconv import store_care
from gpuconv.autotune import space
from gpuconv.autotune.digest import compiler, digest
from gpuconv.backend import cache as kernels
from gpuconv.backend import detect, folders, launch
from gpuconv.backend import device as devices
from gpuconv.backend.device import Device
from gpuconv.cli import output
from gpuconv.cli.output import Failure, WrongUsage
from gpuconv.kernels import registry
from gpuconv.store import Entry
from gpuconv.store_care import Held
from gpuconv.store_file import Content, Refused, decode, device_facts, encode, file_name

_FILE: Final = click.Path(path_type=Path)
_FILES: Final = click.argument(
    "paths",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
_COLUMNS: Final = ("problem", "kernel", "us", "default us", "gain", "date", "")


@click.group()
def cache() -> None:
    """Show, exchange, thin out and remove what tuning found."""


@cache.command()
@click.option("--shipped", is_flag=True, help="Every entry of the shipped store, too.")
@output.json_option
def show(shipped: bool, as_json: bool) -> None:
    """Show what was tuned, by device.

    "stale" is what was measured with other sources or another compiler: it runs until it is tuned again.
    "not used" is what would not be tried today. Of devices that are not here neither is known.
    """
    with _folders_judged():
        found, (count, size) = store_care.files(), kernels.held()
    here = _here()
    rows = [_described(held, here, shipped or not held.shipped) for held in found]
    if as_json:
        output.emit("cache show", rows, kernels={"count": count, "bytes": size})
        return
    for row in rows:
        output.show(*_page(row), "")
    if not rows:
        output.show(Text("nothing has been tuned: 'gpuconv tune' does that"), "")
    output.show("compiled kernels", Text(f"{count}, {size / 2**20:.1f} MiB"))


@cache.command()
@click.argument("target", metavar="FILE", type=_FILE)
@click.option("--all", "every", is_flag=True, help="Of every device; FILE is a folder then.")
@click.option("--cpu", is_flag=True, help="Of the CPU, whether there is a GPU or not.")
@output.json_option
def export(target: Path, every: bool, cpu: bool, as_json: bool) -> None:
    """Write what was tuned here to a file, for 'gpuconv cache import' on a machine of the same kind.

    Of the GPU where there is one, else of the CPU. In a folder the file gets a name of its device's own.
    """
    if every and cpu:
        raise WrongUsage("--all and --cpu: one of the two")
    if every and target.exists() and not target.is_dir():
        raise WrongUsage(f"--all: {target} is no folder")
    with _folders_judged():
        own = [held for held in store_care.files() if not held.shipped]
    if not every:
        name = file_name(device_facts(_device(cpu)))
        own = [held for held in own if held.path.name == name]
    for held in own:
        if held.wrong is not None:
            raise Failure(f"{held.path} {held.wrong}")
    if not own:
        raise Failure("nothing has been tuned" + ("" if every else f" on {_device(cpu)}"))
    written = {
        target / held.path.name if every or target.is_dir() else target: held.content
        for held in own
        if held.content is not None
    }
    output.put({path: lambda content=content: _bytes(content) for path, content in written.items()})  # type: ignore[misc]
    _tell("export", as_json, [_counted(path, content) for path, content in written.items()])


@cache.command("import")
@_FILES
@output.json_option
def import_(paths: tuple[Path, ...], as_json: bool) -> None:
    """Add files that 'gpuconv cache export' wrote to what was tuned here.

    Of two entries for one problem the newer stays. Nothing is added unless every file is right.
    """
    read = _read(paths)
    rows = []
    for path, content in read.items():
        with _folders_judged():
            rows.append({**_counted(path, content), **asdict(store_care.add(content))})
    _tell("import", as_json, rows)


@cache.command()
@_FILES
@click.option("--out", type=_FILE, required=True, metavar="FILE", help="What to write.")
@output.json_option
def merge(paths: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Make one file of several of one device; what was tuned here is not looked at.

    Of two entries for one problem the newer stays, of two equally old ones the later file's.
    """
    read = _read(paths)
    first = read[paths[0]].facts
    for path, content in read.items():
        if content.facts != first:
            raise Failure(f"{path} is of {_name(content.facts)}, {paths[0]} of {_name(first)}")
    joined = store_care.joined([*read.values()])
    output.put({out: lambda: joined})
    _tell("merge", as_json, [_counted(out, decode(joined))])


@cache.command()
@click.option("--older-than", type=click.IntRange(0, 36500), metavar="DAYS", help="What is older, too.")
@output.json_option
def prune(older_than: int | None, as_json: bool) -> None:
    """Remove what can be of no use: damaged files, and entries whose kernel or parameters are no more."""
    oldest = ""
    if older_than is not None:
        oldest = (datetime.now(UTC) - timedelta(days=older_than)).isoformat(timespec="seconds")
    with _folders_judged():
        found = store_care.prune(lambda entry: entry.date >= oldest and _exists(entry))
        left = [held for held in store_care.files() if not held.shipped and held.wrong is not None]
    rows: list[dict[str, Any]] = [
        {
            "path": str(one.held.path),
            "device": None if one.held.content is None else dict(one.held.content.facts),
            "wrong": one.held.wrong,
            "dropped": one.dropped,
            "left": one.left,
        }
        for one in found
    ]
    for held in left:
        output.note(f"{held.path} {held.wrong}; it is left as it is")
    if as_json:
        output.emit("cache prune", rows)
        return
    for row in rows:
        what = f"{row['dropped']} removed, {row['left']} left"
        what = what if row["wrong"] is None else f"removed: it {row['wrong']}"
        output.show(Text(f"{_name(row['device']) if row['device'] else row['path']}: {what}"))
    if not rows and not left:
        output.show(Text("nothing has been tuned"))


@cache.command()
@click.option("--kernels", "compiled", is_flag=True, help="Compiled kernels, too.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@output.json_option
def clear(compiled: bool, yes: bool, as_json: bool) -> None:
    """Remove everything that was tuned here; the shipped store stays.

    Only gpuconv's own files are removed.
    """
    with _folders_judged():
        count = sum(not held.shipped for held in store_care.files())
        compiled_count = kernels.held()[0] if compiled else 0
    if not yes:
        more = f" and {_some(compiled_count, 'compiled kernel')}" if compiled else ""
        try:
            click.confirm(f"Remove {_some(count, 'file')} of tuning results{more}?", abort=True, err=True)
        except click.Abort:
            raise Failure("nothing was removed") from None
    with _folders_judged():
        removed, left = store_care.clear()
        gone = kernels.clear() if compiled else 0
    if as_json:
        output.emit(
            "cache clear", [{"path": str(held.path), "size": held.size} for held in removed], kernels=gone
        )
    else:
        files = _some(sum(held.path.suffix == ".json" for held in removed), "file")
        output.show(Text(f"removed: {files} of tuning results, {_some(gone, 'compiled kernel')}"))
    if left:
        raise Failure(f"not removed: {'; '.join(left)}")


@contextmanager
def _folders_judged() -> Iterator[None]:
    try:
        yield
    except folders.Unusable as error:
        raise Failure(output.one_line(error)) from None


def _here() -> dict[str, Device]:
    """Devices of this machine, by the names of their files."""
    cards = (launch.cuda(index) for index in range(len(detect.cuda().names)))
    return {file_name(device_facts(device)): device for device in (devices.cpu(), *cards)}


def _device(cpu: bool) -> Device:
    """A GPU if there is one, as for ``gpuconv tune``."""
    return devices.cpu() if cpu or not detect.cuda().names else launch.cuda(0)


def _read(paths: Sequence[Path]) -> dict[Path, Content]:
    found = {}
    for path in paths:
        try:
            found[path] = store_care.load(path)
        except Refused as error:
            raise Failure(f"{path} {error}") from None
    return found


def _bytes(content: Content) -> bytes:
    return encode(content.facts, content.lines)


def _counted(path: Path, content: Content) -> dict[str, Any]:
    return {"path": str(path), "device": dict(content.facts), "entries": len(content.lines)}


def _tell(command: str, as_json: bool, rows: Sequence[dict[str, Any]]) -> None:
    if as_json:
        output.emit(f"cache {command}", rows)
        return
    for row in rows:
        counts = _some(row["entries"], "entry", "entries")
        if "new" in row:
            counts = f"{row['new']} new, {row['replaced']} replaced, {row['kept']} kept as they were"
        line = f"{row['path']}: {_name(row['device'])}: {counts}"
        if output.descriptor(Path(row["path"])) is None:
            output.show(Text(line))
        else:  # whoever reads what was written there expects nothing else
            output.note(line)


def _described(held: Held, here: Mapping[str, Device], listed: bool) -> dict[str, Any]:
    content = held.content
    found: dict[str, Any] = {
        "path": str(held.path),
        "shipped": held.shipped,
        "bytes": held.size,
        "wrong": held.wrong,
        "device": None if content is None else dict(content.facts),
        "count": 0 if content is None else len(content.lines),
        "left_out": [] if content is None else list(content.left_out),
        "entries": [],
    }
    if content is not None and listed:
        device = here.get(held.path.name)
        found["entries"] = [
            {
                **asdict(entry),
                "problem": str(entry.problem),
                "gain": entry.default_us / entry.us,
                "state": None if device is None else _state(entry, device),
            }
            for entry in content.lines.values()
        ]
    return found


def _state(entry: Entry, device: Device) -> str | None:
    """Whether an entry still says what would be measured; None where that cannot be told."""
    found = space.live(entry.problem, device, entry.kernel, entry.config)
    if found is None:
        return "not used"
    try:
        now = digest(entry.problem, found, device), compiler(device)
    except (OSError, ValueError):  # sources that are not there
        return None
    return "fresh" if now == (entry.digest, entry.compiler) else "stale"


def _exists(entry: Entry) -> bool:
    """Whether there is a kernel of that name with parameters of these names."""
    try:
        kernel = registry.by_name(entry.kernel)
    except ValueError:
        return False
    return set(entry.config) == {field.name for field in fields(kernel.config_type)}


def _page(row: Mapping[str, Any]) -> list[Any]:
    """One file's, for people."""
    if row["wrong"] is not None:
        return [Text(f"{row['path']} {row['wrong']}; it is not used")]
    head = f"{_name(row['device'])}, {_some(row['count'], 'problem')}" + " (shipped)" * row["shipped"]
    parts: list[Any] = [head]
    if row["entries"]:
        parts.append(output.table(_COLUMNS, [_cells(one) for one in row["entries"]]))
    parts += [Text(f"not used: {why}") for why in row["left_out"]]
    return parts


def _cells(one: Mapping[str, Any]) -> tuple[str, ...]:
    config = ",".join(f"{name}={value}" for name, value in one["config"].items())
    return (
        one["problem"],
        f"{one['kernel']}({config})",
        f"{one['us']:.1f}",
        f"{one['default_us']:.1f}",
        f"{one['gain']:.2f}",
        one["date"].removesuffix("+00:00").replace("T", " "),
        one["state"] or "",
    )


def _some(count: int, one: str, many: str | None = None) -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def _name(facts: Mapping[str, Any]) -> str:
    """A device, with what tells it from others of its name."""
    if facts["kind"] == "cpu":
        threads = facts["threads"]
        return f"cpu ({facts['name']}, {threads} thread{'s' * (threads != 1)}, NumPy {facts['numpy']})"
    major, minor = facts["capability"]
    return f"cuda ({facts['name']}, {major}.{minor}, {facts['sms']} SMs)"
