"""``gpuconv validate``: every kernel against the float64 oracle, and beside cuDNN or PyTorch."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import click

from gpuconv import measure
from gpuconv.backend import detect, launch
from gpuconv.backend import device as devices
from gpuconv.backend.device import Device
from gpuconv.cli import output
from gpuconv.cli.output import Failure, NoGpu, WrongUsage
from gpuconv.cli.problem import parse
from gpuconv.cli.validation import Session
from gpuconv.kernels import registry
from gpuconv.layout import LAYOUTS
from gpuconv.problem import DTYPES, OPS, ConvProblem
from gpuconv.report import opinions, shapes
from gpuconv.report.validated import validate as validate_problem
from gpuconv.validate import random_problems

_SEEDS: Final = 2**32
#: Random problems in one call: days.
_MOST: Final = 1_000_000


@click.command()
@click.argument("problems", metavar="[STRING]...", nargs=-1, callback=parse)
@click.option(
    "--shapes",
    "table",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    metavar="FILE",
    help="A CSV table of layers, like those of the package.",
)
@click.option(
    "--random", "count", type=click.IntRange(1, _MOST), metavar="N", help="So many random problems."
)
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
    chosen, total = _problems(problems, table, count, seed, choice)
    device = _device(cpu)
    if count is not None:
        output.note(f"--random {count} --seed {seed}")
    opinion, notes = opinions.load(device, every=every_plan)
    for note in notes:
        output.note(note)
    other = None if opinion is None else opinion.name
    session = Session(device, seed, total, configs, bool(problems), bool(kernels), as_json, other)
    with session.kept(), output.progress_bar(total, shown=True) as advance:
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


def _device(cpu: bool) -> Device:
    if cpu:
        return devices.cpu()
    found = detect.cuda()
    if not found.names:
        raise NoGpu(f"no CUDA device: {found.why_not}; --cpu validates the CPU's algorithms")
    return launch.cuda(0)


def _problems(
    given: Sequence[ConvProblem], table: Path | None, count: int | None, seed: int, choice: dict[str, Any]
) -> tuple[Iterable[ConvProblem], int]:
    """What was asked for, and how many: each once, but random ones as they are drawn."""
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
        _need(chosen.setdefault("dtypes", _there()))
        return random_problems.problems(count, seed, **chosen), count
    else:
        assert table is not None
        try:
            found = shapes.of_table(table, batch=batch, **choice)
        except ValueError as error:
            raise WrongUsage(f"--shapes: {output.one_line(error)}") from None
    _need(p.dtype for p in found)
    once = list(dict.fromkeys(found))
    return once, len(once)


def _need(dtypes: Iterable[str]) -> None:
    """Fail where NumPy lacks one."""
    for dtype in dict.fromkeys(dtypes):
        try:
            measure.numpy_dtype(dtype)
        except ModuleNotFoundError as error:
            raise Failure(output.one_line(error)) from None


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
