"""``gpuconv validate``: every kernel against the float64 oracle, and beside cuDNN or PyTorch."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import click
from rich.text import Text

from gpuconv import measure
from gpuconv.backend import detect, launch
from gpuconv.backend import device as devices
from gpuconv.backend.device import Device
from gpuconv.cli import output
from gpuconv.cli.output import Failure, Mismatch, NoGpu, WrongUsage
from gpuconv.cli.problem import parse
from gpuconv.errors import LaunchError
from gpuconv.kernels import registry
from gpuconv.layout import LAYOUTS
from gpuconv.problem import DTYPES, OPS, ConvProblem
from gpuconv.report import opinions, shapes
from gpuconv.report.records import NO_NUMBER
from gpuconv.report.validated import Checked, Validated
from gpuconv.report.validated import validate as validate_problem
from gpuconv.validate import random_problems

_SEEDS: Final = 2**32
#: Problems of another library's that are told.
_SHOWN: Final = 20
_NOT_FINITE: Final = "not finite"


@click.command()
@click.argument("problems", metavar="[STRING]...", nargs=-1, callback=parse)
@click.option(
    "--shapes",
    "table",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    metavar="FILE",
    help="A CSV table of layers, like those of the package.",
)
@click.option("--random", "count", type=click.IntRange(min=1), metavar="N", help="So many random problems.")
@click.option(
    "--seed",
    type=click.IntRange(0, _SEEDS - 1),
    metavar="S",
    help="Of random problems and of every operand (default: a new one for --random, else 0).",
)
@click.option("--cpu", is_flag=True, help="Validate the CPU's algorithms; PyTorch is the second opinion.")
@click.option("--op", "ops", multiple=True, type=click.Choice(OPS), help="For tables (fprop) and --random.")
@click.option(
    "--dtype", "dtypes", multiple=True, type=click.Choice(tuple(DTYPES)), help="Alike; f32 for tables."
)
@click.option(
    "--layout", "layouts", multiple=True, type=click.Choice(LAYOUTS), help="Alike; nchw for tables."
)
@click.option("--batch", type=click.IntRange(min=1), help="Batch size of every layer of the table.")
@click.option("--kernel", "kernels", multiple=True, metavar="NAME", help="Only this kernel.")
@click.option(
    "--configs",
    type=click.Choice(("default", "all")),
    default="default",
    show_default=True,
    help="A kernel's parameters: the default, what dispatch takes and falls back to; or all worth trying.",
)
@click.option("--every-plan", is_flag=True, help="Run every plan of cuDNN, not only the one that it chooses.")
@output.json_option
def validate(
    problems: tuple[ConvProblem, ...],
    table: Path | None,
    count: int | None,
    seed: int | None,
    cpu: bool,
    kernels: tuple[str, ...],
    configs: str,
    every_plan: bool,
    as_json: bool,
    **choice: Any,
) -> None:
    """Compare every kernel's results with the float64 oracle, and with cuDNN or PyTorch where there is one.

    The oracle judges: a result outside the error bound ends the command with exit code 4, whatever the other
    library computed. Above 10^9 multiply-adds 4,096 elements are looked at. Ctrl-C keeps what was found.
    """
    for name in kernels:
        try:
            registry.by_name(name)
        except ValueError as error:
            raise WrongUsage(f"--kernel: {output.one_line(error)}") from None
    new_seed = seed is None and count is not None
    seed = secrets.randbelow(_SEEDS) if new_seed else seed or 0
    chosen = _problems(problems, table, count, seed, choice)
    device = _device(cpu)
    if count is not None:
        output.note(f"--random {count} --seed {seed}")
    opinion, notes = opinions.load(device, every=every_plan)
    for note in notes:
        output.note(note)
    other = None if opinion is None else opinion.name
    session = Session(device, seed, len(chosen), bool(problems), bool(kernels), as_json, other)
    with session.kept(), output.progress_bar(len(chosen), shown=True) as advance:
        for p in chosen:
            try:
                found = validate_problem(
                    p,
                    device,
                    kernels=kernels,
                    every_config=configs == "all",
                    opinion=opinion,
                    seed=seed,
                )
            except MemoryError as error:
                session.missed(p, output.one_line(error))
            else:
                session.add(p, found)
            advance(1)
    session.judge()


@dataclass
class Session:
    """A validation under way.

    Attributes
    ----------
    device : Device
        Where it runs.
    seed : int
        Of the operands.
    total : int
        Problems to validate.
    each : bool
        Whether each result gets a row; else they are summed up.
    some : bool
        Whether kernels were named: it is no failure that these do not take a problem.
    as_json : bool
        Whether standard output is for JSON.
    other : str or None
        What it is compared with.
    """

    device: Device
    seed: int
    total: int
    each: bool
    some: bool
    as_json: bool
    other: str | None
    found: list[Validated] = field(default_factory=list)
    not_validated: int = 0

    def add(self, p: ConvProblem, one: Validated) -> None:
        """Keep what was found about a problem."""
        self.found.append(one)
        if not one.checked and not self.some:
            self.missed(p, "; ".join(map(str, one.rejects)))
        for checked in one.checked:
            if checked.failure is not None:
                self.missed(p, f"{checked.kernel}({checked.config}): {checked.failure}")

    def missed(self, p: ConvProblem, reason: str) -> None:
        """Note what was not validated, and why."""
        self.not_validated += 1
        output.note(f"{p} is left out: {reason}")

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Print what there is, however it ends."""
        try:
            yield
        except LaunchError as error:
            self._print()
            raise Failure(f"the device is lost: {output.one_line(error)}") from None
        except BaseException:
            if self.found:
                self._print()
            raise
        self._print()

    def judge(self) -> None:
        """End with the exit code that the results deserve."""
        wrong = list(self._wrong())
        if wrong:
            results = sum(len(one.checked) for one in self.found)
            one, checked = wrong[0]
            told = _told(one, checked)
            raise Mismatch(f"{len(wrong)} of {results} results are outside the bound; the first: {told}")
        if self.not_validated:
            raise Failure(f"{self.not_validated} were not validated")
        if not any(one.checked for one in self.found):
            raise Failure("nothing was validated: the kernels named take none of these problems")

    def _wrong(self) -> Iterator[tuple[Validated, Checked]]:
        return ((one, checked) for one in self.found for checked in one.checked if checked.wrong)

    def _print(self) -> None:
        if self.as_json:
            output.emit("validate", [asdict(one) for one in self.found])
            return
        output.show(Text(f"{self.device}, against float64" + f" and {self.other}" * (self.other is not None)))
        if len(self.found) < self.total:
            output.show(Text(f"{len(self.found)} of {self.total} problems"))
        rows = self._each() if self.each else self._summary()
        if rows[1]:
            output.show("", output.table(*rows))
        output.show("", *map(Text, self._beside()))
        for one, checked in self._wrong():
            cpu = " --cpu" * (self.device.kind == "cpu")
            again = f"gpuconv validate '{one.problem}' --kernel {checked.kernel} --seed {self.seed}{cpu}"
            output.show(Text(f"wrong: {_told(one, checked)}  # {again}"))

    def _each(self) -> tuple[Sequence[str], list[list[str]]]:
        """A row for each result."""
        rows = [
            [
                one.problem,
                checked.kernel,
                checked.config,
                _number(checked.error_over_bound),
                _number(one.beside.error_over_bound if one.beside else None),
                _number(checked.apart),
                _place(checked.worst) + (f" of {one.looked_at} seen" * (one.looked_at < one.elements)),
            ]
            for one in self.found
            for checked in one.checked
        ]
        return ("problem", "kernel", "config", "err/bound", "other's", "apart", "worst at"), rows

    def _summary(self) -> tuple[Sequence[str], list[list[str]]]:
        """A row for each kernel and operation."""
        groups: dict[tuple[str, str], list[tuple[Validated, Checked]]] = {}
        for one in self.found:
            for checked in one.checked:
                if checked.error_over_bound is not None:
                    groups.setdefault((checked.kernel, one.op), []).append((one, checked))
        rows = []
        for (kernel, op), results in sorted(groups.items()):
            one, worst = max(results, key=lambda result: result[1].error_over_bound or 0)
            apart = [checked.apart for _, checked in results if checked.apart is not None]
            rows.append(
                [
                    kernel,
                    op,
                    str(len(results)),
                    _number(worst.error_over_bound),
                    str(len(apart)),
                    _number(max(apart, default=None)),
                    one.problem,
                ]
            )
        return ("kernel", "op", "results", "err/bound", "compared", "apart", "the worst"), rows

    def _beside(self) -> Iterator[str]:
        """What the other library did."""
        wrong = sum(1 for _ in self._wrong())
        results = sum(checked.error_over_bound is not None for one in self.found for checked in one.checked)
        yield f"{results - wrong} of {results} results are within the bound"
        asked = [one for one in self.found if one.beside is not None]
        computed = [one for one in asked if one.beside and one.beside.error_over_bound is not None]
        if not asked:
            return
        errors = [(one.beside.error_over_bound or 0, one.problem) for one in computed if one.beside]
        worst, problem = max(errors, default=(0.0, ""))
        counted = f"{len(computed)} of {len(asked)} problems"
        yield f"{self.other}: {counted}, at most {_number(worst)} of the bound {problem}".rstrip()
        outside = [one for one in computed if one.beside and one.beside.outside]
        for one in outside[:_SHOWN]:
            assert one.beside is not None
            ways = f"{one.beside.outside} of {one.beside.ways}" * (one.beside.ways > 1)
            error = _number(one.beside.error_over_bound)
            yield f"  outside the bound, {error}: {one.problem} {one.beside.way} {ways}".rstrip()
        if len(outside) > _SHOWN:
            yield f"  and {len(outside) - _SHOWN} more: --json has them all"
        reasons = Counter(one.beside.reason for one in asked if one.beside and one.beside.reason is not None)
        for reason, number in reasons.most_common():
            yield f"  not compared, {number}: {reason}"


def _told(one: Validated, checked: Checked) -> str:
    error = _number(checked.error_over_bound)
    error = error if error == _NOT_FINITE else f"{error} of the bound"
    where = f"at {_place(checked.worst)}, got {checked.got}, right is {checked.right}"
    return f"{one.problem} {checked.kernel}({checked.config}): {error} {where}"


def _place(at: Sequence[int]) -> str:
    return f"({', '.join(map(str, at))})" if at else ""


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return _NOT_FINITE if value >= NO_NUMBER else f"{value:.3g}"


def _device(cpu: bool) -> Device:
    if cpu:
        return devices.cpu()
    found = detect.cuda()
    if not found.names:
        raise NoGpu(f"no CUDA device: {found.why_not}; --cpu validates the CPU's algorithms")
    return launch.cuda(0)


def _problems(
    given: Sequence[ConvProblem], table: Path | None, count: int | None, seed: int, choice: dict[str, Any]
) -> list[ConvProblem]:
    """What was asked for, each once."""
    if bool(given) + (table is not None) + (count is not None) != 1:
        raise WrongUsage("name problems, or give --shapes FILE, or --random N: one of the three")
    options = {"ops": "--op", "dtypes": "--dtype", "layouts": "--layout", "batch": "--batch"}
    asked = [options[name] for name, value in choice.items() if value]
    batch = choice.pop("batch")
    if given:
        if asked:
            raise WrongUsage(f"{', '.join(asked)} choose from tables and random problems, not from these")
        found = list(given)
    elif count is not None:
        if batch:
            raise WrongUsage("--batch goes with --shapes")
        chosen = {name: values for name, values in choice.items() if values}
        chosen.setdefault("dtypes", _there())
        found = list(random_problems.problems(count, seed, **chosen))
    else:
        assert table is not None
        try:
            layers = shapes.read(table)
        except (ValueError, UnicodeDecodeError) as error:
            raise WrongUsage(f"--shapes: {output.one_line(error)}") from None
        found = [
            layer.problem(op, dtype, layout, batch)
            for op in choice["ops"] or ("fprop",)
            for dtype in choice["dtypes"] or ("f32",)
            for layout in choice["layouts"] or ("nchw",)
            for layer in layers
        ]
        if not found:
            raise WrongUsage(f"--shapes: {table} has no rows")
    for dtype in dict.fromkeys(p.dtype for p in found):
        try:
            measure.numpy_dtype(dtype)
        except ModuleNotFoundError as error:
            raise Failure(output.one_line(error)) from None
    return list(dict.fromkeys(found))


def _there() -> tuple[str, ...]:
    """The dtypes that NumPy has here."""
    found = []
    for name in DTYPES:
        try:
            measure.numpy_dtype(name)
        except ModuleNotFoundError as error:
            output.note(f"{name} is left out: {output.one_line(error)}")
            continue
        found.append(name)
    return tuple(found)
