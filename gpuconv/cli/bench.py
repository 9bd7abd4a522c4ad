"""``gpuconv bench``: real layers timed beside other libraries, and two such runs compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from gpuconv import measure
from gpuconv.arguments import PRECISIONS
from gpuconv.backend import detect, launch
from gpuconv.backend import device as devices
from gpuconv.backend.device import Device
from gpuconv.cli import output
from gpuconv.cli.output import Failure, Mismatch, WrongUsage
from gpuconv.cli.problem import parse
from gpuconv.errors import CompileError, LaunchRefused, UnsupportedProblem
from gpuconv.families import FAMILIES
from gpuconv.layout import LAYOUTS
from gpuconv.problem import DTYPES, OPS, ConvProblem
from gpuconv.report import baselines, environment, plots, shapes, summary, tables
from gpuconv.report.baselines import Baseline
from gpuconv.report.measured import Measured, check_public, measure_problem
from gpuconv.report.records import Record, ResultFile, name_for


class Bench(click.Group):
    """`run` is the command where none is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the word in."""
        named = bool(args) and args[0] in self.commands
        return super().parse_args(ctx, args if named else ["run", *args])


@click.group(cls=Bench)
def bench() -> None:
    """Time convolutions beside PyTorch and SciPy; compare two runs."""


_FILE = click.Path(dir_okay=False, path_type=Path)


@bench.command(epilog="'gpuconv bench compare BEFORE AFTER' compares the files of two runs.")
@click.argument("problems", metavar="[STRING]...", nargs=-1, callback=parse)
@click.option("--op", "ops", multiple=True, type=click.Choice(OPS), help="Operation (default: fprop).")
@click.option("--dtype", "dtypes", multiple=True, type=click.Choice(tuple(DTYPES)), help="Default: f32.")
@click.option("--layout", "layouts", multiple=True, type=click.Choice(LAYOUTS), help="Default: nchw.")
@click.option("--precision", type=click.Choice(PRECISIONS), help="How products may be rounded.")
@click.option(
    "--family", "families", multiple=True, type=click.Choice(FAMILIES), help="Only problems of this kind."
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    help="Batch size of every layer (default: 1 on the CPU, else the tables').",
)
@click.option(
    "--only", multiple=True, metavar="GLOB", help="Only layers or problems of this name, as 'vgg16-*'."
)
@click.option("--all", "every", is_flag=True, help="Every layer of every table; takes hours.")
@click.option(
    "--baseline",
    "compared",
    multiple=True,
    type=click.Choice((*baselines.NAMES, "none")),
    help="What to compare with (default: what is installed).",
)
@click.option("--turns", type=click.IntRange(min=1), default=measure.TURNS, show_default=True)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=measure.SECONDS,
    show_default=True,
    help="For one problem, about, at most.",
)
@click.option("--device", "kind", type=click.Choice(("cpu", "cuda")), help="Default: a CUDA device if any.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Write a result file; a folder names it."
)
@click.option("--plot", type=_FILE, metavar="FILE", help="Draw what was found, as PNG or SVG.")
@output.json_option
def run(
    problems: tuple[ConvProblem, ...],
    compared: tuple[str, ...],
    turns: int,
    seconds: float,
    kind: str | None,
    out: Path | None,
    plot: Path | None,
    as_json: bool,
    **choice: Any,
) -> None:
    """Time layers of real networks, or the problems given, through the public functions.

    Every result is checked against the oracle first. --op, --dtype, --layout, --family, --only and
    --baseline may be given more than once. Ctrl-C keeps what was measured.
    """
    device = _device(kind)
    chosen = _problems(problems, device, choice)
    _check_files(out, plot)
    sides = _baselines(compared, device)
    names = [side.name for side in sides]
    session = Session(device, len(chosen), out, plot, as_json, names)
    chosen = session.possible(chosen)
    for remark in baselines.remarks(sides):
        output.note(remark)
    lines = tables.Lines([str(p) for p in chosen], device, bool(sides))
    session.say(*tables.legend(device, names), "", lines.head())
    with session.kept():
        for p in chosen:
            if as_json:
                output.progress(f"{len(session.records) + 1} of {len(chosen)}: {p}")
            try:
                found = measure_problem(
                    p, device, baselines=sides, seconds=seconds, turns=turns, commit=session.commit
                )
            except (UnsupportedProblem, CompileError, LaunchRefused, MemoryError) as error:
                session.missed(p, error)
                continue
            session.add(found)
            session.say(lines.row(found.record))
    session.judge()


@bench.command()
@click.argument("before", type=_FILE)
@click.argument("after", type=_FILE)
@click.option("--most", type=click.IntRange(min=1), metavar="N", help="Rows at most (default: all).")
@output.json_option
def compare(before: Path, after: Path, most: int | None, as_json: bool) -> None:
    """Compare the result files of two runs: times before ÷ after, what lost most first."""
    try:
        first, second = ResultFile.load(before), ResultFile.load(after)
    except ValueError as error:
        raise Failure(output.one_line(error)) from None
    found = summary.compare(first.records, second.records)
    if as_json:
        output.emit("bench compare", [asdict(found)])
        return
    for word, file in (("before", first), ("after", second)):
        cut = ", cut short" * file.partial
        output.show(Text(f"{word}: {file.device}, {file.date}, commit {file.commit or 'unknown'}{cut}"))
    if first.device != second.device:
        output.note("the two ran on different devices")
    if not found.changes:
        raise Failure("the two have no problem in common")
    output.show("", output.table(*tables.comparison_table(found, most)), "")
    if found.ratio is not None:
        count = sum(not change.disturbed for change in found.changes)
        mean = f"geometric mean over {count}: {found.ratio:.3f}"
        output.show(Text(f"{mean}; above 1 the second is faster"))
    for word, names in (("before", found.only_before), ("after", found.only_after)):
        if names:
            output.show(Text(f"only {word}: {len(names)}"))


@dataclass
class Session:
    """A run under way: its records, and where they go.

    Attributes
    ----------
    device : Device
        Where it runs.
    total : int
        Problems to measure.
    out, plot : Path or None
        Files to write.
    as_json : bool
        Whether standard output is for JSON.
    baselines : list of str
        What is compared with.
    """

    device: Device
    total: int
    out: Path | None
    plot: Path | None
    as_json: bool
    baselines: list[str]
    records: list[Record] = field(default_factory=list)
    not_measured: int = 0
    not_written: list[str] = field(default_factory=list)
    commit: str | None = field(default_factory=environment.commit_of)
    date: str = field(default_factory=environment.now)

    def say(self, *lines: str) -> None:
        """Print lines for people."""
        if not self.as_json:
            output.show(*map(Text, lines))

    def add(self, found: Measured) -> None:
        """Keep one more record."""
        self.records.append(found.record)
        for remark in found.remarks:
            output.note(f"{found.record.problem}: {remark}")

    def missed(self, p: ConvProblem, error: BaseException) -> None:
        """Note why a problem was not measured."""
        self.not_measured += 1
        output.note(f"{p} is left out: {output.one_line(error)}")

    def possible(self, chosen: list[ConvProblem]) -> list[ConvProblem]:
        """Note what cannot be measured for want of a package, before anything is."""
        why: dict[str, ModuleNotFoundError] = {}
        for dtype in {p.dtype for p in chosen}:
            try:
                measure.numpy_dtype(dtype)
            except ModuleNotFoundError as error:
                why[dtype] = error
        for p in chosen:
            if p.dtype in why:
                self.missed(p, why[p.dtype])
        return [p for p in chosen if p.dtype not in why]

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Write what there is, however the run ends."""
        try:
            yield
        except BaseException:
            with suppress(OSError, ValueError):  # what ended the run is what to tell
                self._write(partial=True)
            raise
        self._write(partial=False)

    def judge(self) -> None:
        """End with the exit code that the results deserve."""
        wrong = [record.problem for record in self.records if record.wrong]
        if wrong:
            raise Mismatch(f"wrong beyond the error bound: {', '.join(wrong)}")
        if self.not_written:
            raise Failure(f"not written: {', '.join(self.not_written)}")
        if self.not_measured:
            raise Failure(f"{self.not_measured} of {self.total} problems were not measured")

    def _write(self, partial: bool) -> None:
        """The file first, because what is printed may meet a closed pipe; printed even where it fails."""
        if partial and not self.records:
            return
        file = self._file(partial)
        written: list[Path] = []
        if self.out is not None:
            path = self.out
            if path.is_dir():
                path /= name_for(self.device, file.date, file.commit)
            if self._saved("--out", path, lambda: output.put({path: file.encoded})):
                written.append(path)
        if self.as_json:
            output.emit("bench", [asdict(record) for record in self.records])
        else:
            rows = summary.summary(self.records)
            self.say("", *tables.disturbed_line(self.records))
            if rows:
                output.show(output.table(*tables.summary_table(rows)))
        if (plot := self.plot) is not None:
            try:
                if self._saved("--plot", plot, lambda: plots.draw(file, plot)):
                    written.append(plot)
            except ValueError as error:
                output.note(output.one_line(error))
        for path in written:
            output.note(f"written: {path}" + ", cut short" * partial)

    def _saved(self, option: str, path: Path, save: Callable[[], None]) -> bool:
        """Whether that worked; else say so, and go on."""
        try:
            save()
        except (OSError, Failure) as error:
            output.note(f"{option}: {output.one_line(error)}")
            self.not_written.append(str(path))
            return False
        return True

    def _file(self, partial: bool) -> ResultFile:
        found = environment.environment(self.device, self.baselines)
        return ResultFile(
            self.device.name, self.date, self.commit, found, tuple(self.records), partial=partial
        )


def _device(kind: str | None) -> Device:
    if kind == "cpu":
        return devices.cpu()
    found = detect.cuda()
    if found.names:
        return launch.cuda(0)
    if kind == "cuda":
        raise Failure(f"no CUDA device: {found.why_not}")
    return devices.cpu()


def _problems(given: Sequence[ConvProblem], device: Device, choice: dict[str, Any]) -> list[ConvProblem]:
    """What was asked for, each once."""
    if given:
        options = {"ops": "op", "dtypes": "dtype", "layouts": "layout", "families": "family", "every": "all"}
        asked = [f"--{options.get(name, name)}" for name, value in choice.items() if value]
        if asked:
            raise WrongUsage(f"{', '.join(asked)} choose from the tables, but problems are given")
        for p in given:
            try:
                check_public(p)
            except ValueError as error:
                raise WrongUsage(output.one_line(error)) from None
        return list(dict.fromkeys(given))
    defaults = {"ops": ("fprop",), "dtypes": ("f32",), "layouts": ("nchw",)}
    choice |= {name: value for name, value in defaults.items() if not choice[name]}
    choice["batch"] = choice["batch"] or (1 if device.kind == "cpu" else None)
    try:
        found = shapes.choose(**choice)
    except ValueError as error:  # a precision that does not go with the dtype
        raise WrongUsage(output.one_line(error)) from None
    if not found:
        raise WrongUsage(
            "no layer is like that; names are as 'resnet50v1.5-*', and --all looks at every layer there is"
        )
    return found


def _baselines(names: Sequence[str], device: Device) -> list[Baseline]:
    if "none" in names:
        if len(names) > 1:
            raise WrongUsage("--baseline none goes with no other")
        return []
    for name in names:
        if not baselines.installed(name):
            raise Failure(f"--baseline {name}: it is not installed")
    wanted = names or [name for name in baselines.NAMES if baselines.installed(name)]
    return [side for name in dict.fromkeys(wanted) for side in baselines.load(name, device)]


def _check_files(out: Path | None, plot: Path | None) -> None:
    """Refuse what cannot be written before anything is measured."""
    for name, path in (("--out", out), ("--plot", plot)):
        if path is not None:
            output.check_writable(name, path)
    if plot is not None:
        try:
            if plot.exists() and not output.is_stream(plot):  # drawn over, where a result file is replaced
                with open(plot, "ab"):
                    pass
        except OSError as error:
            raise WrongUsage(f"--plot: {plot} cannot be written: {error.strerror or error}") from None
        try:
            plots.check(plot)
        except (ValueError, ModuleNotFoundError) as error:
            raise WrongUsage(f"--plot: {output.one_line(error)}") from None
