"""How many plans cuDNN offers for every layer of the tables; with a GPU, how long they take.

``python -m bench.cudnn_plans`` plans for the description of an H200, which needs no device, and writes
``bench/results/cudnn-plans-VERSION.csv``. ``--timed`` runs every plan on the GPU at hand and writes
``bench/results/cudnn-times-VERSION-DEVICE.csv``.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from bench.check import cudnn
from gpuconv import measure
from gpuconv.layout import LAYOUTS
from gpuconv.problem import OPS, ConvProblem
from gpuconv.report import environment, shapes
from gpuconv.report.records import ResultFile
from gpuconv.validate import cudnn_graph
from gpuconv.validate.cudnn import Cudnn, NoPlan, by_time

RESULTS = Path(__file__).parent / "results"
#: Columns: dtype and precision.
FORMS = ("f16", "bf16", "f32", "f32_tf32", "f64")
#: What cuDNN asks of a device that is not there: the H200's own properties.
H200 = json.dumps(
    {
        "deviceName": "NVIDIA H200",
        "deviceVer": 900,
        "driverVer": 13000,
        "cudaDeviceId": 0,
        "pciDeviceId": 0,
        "isTccDriver": 0,
        "supportCoopLaunch": 1,
        "multiProcessorCount": 132,
        "warpSize": 32,
        "maxGridSize": [2147483647, 65535, 65535],
        "maxBlockSize": [1024, 1024, 64],
        "maxThreadsPerBlock": 1024,
        "maxThreadsPerSM": 2048,
        "maxCtasPerSM": 32,
        "regsPerBlock": 65536,
        "maxRegistersPerSM": 65536,
        "maxSharedMemoryPerBlock": 49152,
        "maxSharedMemoryPerBlockOptin": 232448,
        "reservedSharedMemoryPerBlock": 1024,
        "totalGlobalMem": 150000000000,
        "l2CacheSize": 62914560,
        "smClockRateKHz": 1980000,
        "memClockRateKHz": 3201000,
    }
)
#: What the page says until a GPU has said something else.
UNSEEN = "cuDNN beside it: no result has been compared with one of cuDNN's, no plan has run, no time is known"
#: Problems that are named on the page.
SHOWN = 10
TIMES = ("problem", "plans", "refused", "untried_us", "fastest_us", "untried", "fastest", "err/bound", "why")


@dataclass(frozen=True)
class Offers:
    """What a file of plans says.

    Attributes
    ----------
    name : str
        Of the file.
    about : str
        Versions, device and date, in words.
    rows : list of dict
        A layer, operation and layout each, with the number of plans for each of `FORMS`.
    """

    name: str
    about: str
    rows: list[dict[str, str]]


def layers() -> list[ConvProblem]:
    """Every layer of the tables once, as a forward problem."""
    return list(dict.fromkeys(layer.forward for layer in shapes.read_all()))


def problem(layer: ConvProblem, op: Any, layout: str, form: str) -> ConvProblem:
    """One column of one row."""
    dtype, _, precision = form.partition("_")
    how: dict[str, Any] = {"dtype": dtype, "precision": precision or "ieee"}
    return replace(layer, op=op, layout=layout, weights="", **how)


def sizes(p: ConvProblem) -> str:
    """The part of a problem's text that its operation, layout and dtype have no part in."""
    return str(p).split("_")[1]


def counted(chosen: Iterable[ConvProblem]) -> Iterator[dict[str, Any]]:
    """A row for each layer, operation and layout: how many plans, and why where there are none."""
    for layer, op, layout in product(chosen, OPS, LAYOUTS):
        row: dict[str, Any] = {"layer": sizes(layer), "op": op, "layout": layout}
        why = []
        for form in FORMS:
            p = problem(layer, op, layout, form)
            try:
                row[form] = len(cudnn_graph.graph(p, described=H200).plans)
            except NoPlan as error:
                row[form] = 0
                why.append(f"{form}: {error}")
        yield {**row, "why": "; ".join(why)}


def timed(p: ConvProblem, by: Cudnn, seconds: float = 1.0, clock: Any = None) -> dict[str, Any]:
    """One row of times: cuDNN's own choice, and the fastest whose result is within the bound, its error too.

    A plan that is faster but wrong, or writes nothing, is named in ``"why"``.
    """
    try:
        given = measure.operands(p)
        prepared = by.prepare(p, given)
        times = prepared.timings(seconds=seconds, clock=clock)
    except (NoPlan, MemoryError) as error:
        return {"problem": str(p), "plans": 0, "why": str(error) or type(error).__name__}
    untried = prepared.graph.plans[0]
    row = {"problem": str(p), "plans": len(times), "refused": sum(prepared.graph.refused.values())}
    judge, beyond = measure.expected(p, given).of_others(), []
    for plan, timing in by_time(times):
        if timing.failure is not None:
            return {**row, "why": "; ".join([f"none runs: {timing.failure}", *beyond])}
        error = judge.judge(prepared.computed(plan)).error_over_bound
        if error <= 1:
            break
        beyond.append(f"{plan.name} is outside the bound, {error:.3g}")
    else:
        return {**row, "why": "; ".join(beyond)}
    first = times[untried]
    if first.failure is not None:
        beyond.append(f"the untried one does not run: {first.failure}")
    return {
        **row,
        "untried": untried.name,
        "untried_us": "" if first.failure else f"{first.us:.6g}",
        "fastest": plan.name,
        "fastest_us": f"{timing.us:.6g}",
        "err/bound": f"{error:.3g}",
        "why": "; ".join(beyond),
    }


def times_file(device: str, by: str, date: str, commit: str | None) -> tuple[str, str]:
    """Name and first line of the file of times on a device, by the cuDNN of `Cudnn.name`."""
    version = by.split()[1].rstrip(",")
    name = re.sub(r"\W+", "-", device.lower())
    about = f"Every plan run and timed on {device}, in microseconds: {by}, {date[:10]}, commit {commit}"
    return f"cudnn-times-{version}-{name}.csv", about


def write(path: Path, about: str, columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> int:
    """Write a table under a line that says what it is; return its length.

    Rows are written as they come, so that what ends early leaves what it found.
    """
    count = 0
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(f"# {about}\n")
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        for row in rows:
            table.writerow(row)
            file.flush()
            count += 1
    return count


def read(path: Path) -> Offers:
    """Read a file of plans."""
    with open(path, encoding="utf-8", newline="") as file:
        about = file.readline().removeprefix("# ").strip()
        return Offers(path.name, about, list(csv.DictReader(file, strict=True)))


def section(gpu: Sequence[ResultFile], folder: Path = RESULTS) -> Iterator[str]:
    """What the page of results says about cuDNN: what was compared with it, and which plans it offers."""
    yield from ("", "## cuDNN", "")
    seen = [(file, file.extras["agreement"]) for file in gpu if file.extras.get("agreement")]
    if not seen:
        yield "No GPU has run it: no result has been compared, no time is known."
    for file, rows in seen:
        worst = {side: max(row[side] for row in rows) for side in ("ours", "cudnn")}
        beyond = sorted((row for row in rows if row["cudnn"] > 1), key=lambda row: -row["cudnn"])
        text = f"{file.device} at {file.commit}: {len(rows)} problems beside cuDNN, errors at most"
        yield f"- {text} {worst['ours']:.3g} of the bound, cuDNN's {worst['cudnn']:.3g}"
        if beyond:
            told = ", ".join(f"`{row['problem']}` ({row['cudnn']:.3g})" for row in beyond[:SHOWN])
            yield f"- cuDNN outside the bound on {len(beyond)} of these: {told}"
    for path in sorted(folder.glob("cudnn-times-*.csv")):
        yield from ("", f"- `{path.name}`: {read(path).about}")
    for path in sorted(folder.glob("cudnn-plans-*.csv")):
        found = read(path)
        number = len({row["layer"] for row in found.rows})
        yield ""
        yield f"{found.about}."
        yield "No plan was run, so nothing is said about times, and a driver would add the plans that cuDNN"
        yield f"compiles. Median and least number over the {number} different layers of the tables:"
        yield from ("", f"| op | layout | {' | '.join(FORMS)} |", f"|{' --- |' * (2 + len(FORMS))}")
        for op, layout in product(OPS, LAYOUTS):
            rows = [row for row in found.rows if (row["op"], row["layout"]) == (op, layout)]
            yield f"| {op} | {layout} | {' | '.join(_spread(rows, form) for form in FORMS)} |"
        without = Counter(row["why"] for row in found.rows if row["why"])
        for why, times in sorted(without.items()):
            yield from ("", f"No plan for {times}: {why}.")
        link = f"[`{found.name}`]({found.name})"
        yield from ("", f"Each layer: {link}, written by `python -m bench.cudnn_plans`.")


def _spread(rows: Sequence[dict[str, str]], form: str) -> str:
    counts = [int(row[form]) for row in rows]
    return f"{median(counts):.0f}, {min(counts)}" if counts else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file; 1 where cuDNN, or a GPU for ``--timed``, is missing."""
    parser = argparse.ArgumentParser(prog="bench.cudnn_plans", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="where (bench/results)")
    parser.add_argument("--only", default="*", metavar="GLOB", help="layers whose sizes are like this")
    parser.add_argument("--timed", action="store_true", help="run and time every plan on the GPU")
    for name, allowed, default in (
        ("op", OPS, ("fprop",)),
        ("form", FORMS, ("bf16",)),
        ("layout", LAYOUTS, ("nhwc",)),
    ):
        text = f"with --timed (default: {default[0]})"
        parser.add_argument(f"--{name}", nargs="+", choices=allowed, default=default, help=text)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        cudnn.use_wheel(Path(folder))
        return _written(given)


def _written(given: argparse.Namespace) -> int:
    chosen = [layer for layer in layers() if Path(sizes(layer)).match(given.only)]
    try:
        version = cudnn_graph.version()
        frontend = cudnn_graph.frontend().__version__
        by = _on_gpu() if given.timed else None
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    if by is None:
        path = given.out / f"cudnn-plans-{version}.csv"
        about = f"cuDNN {version}, frontend {frontend}, {environment.now()[:10]}"
        about = f"Planned for the description of an H200, without a device: {about}"
        count = write(path, about, ("layer", "op", "layout", *FORMS, "why"), counted(chosen))
    else:
        name, about = times_file(by.device.name, by.name, environment.now(), environment.commit_of())
        path = given.out / name
        wanted = (
            problem(layer, op, layout, form)
            for op, layout, form, layer in product(given.op, given.layout, given.form, chosen)
        )
        count = write(path, about, TIMES, (timed(p, by) for p in wanted))
    print(f"written: {path}, {count} rows")
    return 0


def _on_gpu() -> Cudnn:
    from gpuconv.backend import detect, launch

    why_not = detect.cuda().why_not
    if why_not:
        raise RuntimeError(why_not)
    return Cudnn(launch.cuda(0))


if __name__ == "__main__":
    sys.exit(main())
