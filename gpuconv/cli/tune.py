"""``gpuconv tune``: find the fastest kernel and tile for each problem, and remember it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from gpuconv import measure
from gpuconv.autotune.asked import MOST_SECONDS, STRATEGIES, Strategy, Wishes
from gpuconv.autotune.search import BUDGET
from gpuconv.backend import detect, launch
from gpuconv.backend import device as devices
from gpuconv.backend.device import Device
from gpuconv.cli import output, script
from gpuconv.cli.output import WrongUsage
from gpuconv.cli.tuning import Session
from gpuconv.layout import LAYOUTS
from gpuconv.problem import DTYPES, OPS, ConvProblem
from gpuconv.report import shapes

_FILE: Final = click.Path(dir_okay=False, path_type=Path)
_THERE: Final = click.Path(dir_okay=False, exists=True, path_type=Path)


@click.command()
@click.argument("words", metavar="[STRING]...", nargs=-1, type=click.UNPROCESSED)
@click.option("--shapes", "table", type=_THERE, metavar="FILE", help="A CSV table of layers.")
@click.option(
    "--script",
    "program",
    type=_THERE,
    metavar="FILE",
    help="A program; what it runs is tuned: FILE [-- ARGS].",
)
@click.option("--op", "ops", multiple=True, type=click.Choice(OPS), help="For tables (default: fprop).")
@click.option("--dtype", "dtypes", multiple=True, type=click.Choice(tuple(DTYPES)), help="Alike; f32.")
@click.option("--layout", "layouts", multiple=True, type=click.Choice(LAYOUTS), help="Alike; nchw.")
@click.option("--batch", type=click.IntRange(min=1), help="Batch size of every layer of the table.")
@click.option("--cpu", is_flag=True, help="Tune for the CPU, whether there is a GPU or not.")
@click.option(
    "--budget",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help=f"For one problem, preparing aside (default: {BUDGET['cpu']:g} on a CPU, else {BUDGET['cuda']:g}).",
)
@click.option(
    "--strategy",
    type=click.Choice(STRATEGIES),
    default=STRATEGIES[0],
    show_default=True,
    help="What to try: the 16 most promising candidates, all, or 16 at random.",
)
@click.option("--workers", type=click.IntRange(1, 1024), metavar="N", help="Threads that compile.")
@click.option("--again", is_flag=True, help="Tune what has been tuned before, too.")
@click.option("--record", type=_FILE, metavar="FILE", help="Write every measured time, for 'gpuconv report'.")
@output.json_option
def tune(
    words: tuple[str, ...],
    table: Path | None,
    program: Path | None,
    cpu: bool,
    budget: float | None,
    strategy: Strategy,
    workers: int | None,
    again: bool,
    record: Path | None,
    as_json: bool,
    **choice: Any,
) -> None:
    """Find the fastest kernel and parameters for each problem, and remember them for every later process.

    On a GPU where there is one, else on the CPU. Every candidate's result is compared with the float64 oracle
    before it is timed. What has been tuned before is told, not measured again. Ctrl-C keeps what was found;
    'gpuconv cache' shows, exports and clears it.
    """
    if budget is not None and not 0 < budget <= MOST_SECONDS:
        raise WrongUsage(f"--budget must be more than 0 seconds and at most {MOST_SECONDS}, got {budget:g}")
    chosen = _problems(words, table, program, choice)
    if record is not None:
        record = record.absolute()  # a program may go to another folder
        output.check_writable("--record", record)
    if program is not None:
        found = script.problems(program, words, quiet=as_json)
        jobs = [(p, device) for p, device in found if not cpu or device.kind == "cpu"]
        if not jobs:
            raise WrongUsage(f"--script: {program} computed no convolution{' on the CPU' if cpu else ''}")
    else:
        device = _device(cpu)
        jobs = [(p, device) for p in chosen]
    session = Session(jobs, Wishes(budget, strategy, workers), again, record, as_json)
    session.run()
    session.judge()


def _device(cpu: bool) -> Device:
    """A GPU if there is one."""
    return devices.cpu() if cpu or not detect.cuda().names else launch.cuda(0)


def _problems(
    words: Sequence[str], table: Path | None, program: Path | None, choice: dict[str, Any]
) -> list[ConvProblem]:
    """What is named or listed, each once; nothing where a program tells."""
    given = bool(words) and program is None
    if given + (table is not None) + (program is not None) != 1:
        raise WrongUsage("name problems, or give --shapes FILE, or --script FILE: one of the three")
    options = {"ops": "--op", "dtypes": "--dtype", "layouts": "--layout", "batch": "--batch"}
    asked = [options[name] for name, value in choice.items() if value]
    if asked and table is None:
        raise WrongUsage(f"{', '.join(asked)} choose from a table: give --shapes FILE")
    if program is not None:
        return []
    if table is None:
        try:
            found = [ConvProblem.parse(word) for word in words]
        except ValueError as error:
            raise WrongUsage(output.one_line(error)) from None
    else:
        try:
            found = shapes.of_table(table, **choice)
        except ValueError as error:
            raise WrongUsage(f"--shapes: {output.one_line(error)}") from None
    for dtype in dict.fromkeys(p.dtype for p in found):
        try:
            measure.numpy_dtype(dtype)
        except ModuleNotFoundError as error:
            raise output.Failure(output.one_line(error)) from None
    return list(dict.fromkeys(found))
