"""Writes what follows from the result files: ``bench/results/README.md``, and the figures in the main README.

``python -m bench.pages`` writes them; a test fails when either says something else than the files do.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import cudnn_plans, first, tuning
from bench.check import bordering, patching
from gpuconv.backend.device import Device
from gpuconv.problem import DTYPES, OPS
from gpuconv.report.records import Record, ResultFile
from gpuconv.report.summary import Summary, summary
from tests import cases
from tests.compile import cards, test_pad, test_unfold

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
PAGE = RESULTS / "README.md"
MAIN = ROOT / "README.md"
BEGIN, END = "<!-- figures: python -m bench.pages -->", "<!-- end of figures -->"
#: (kernel, op, dtype)
Kind = tuple[str, str, str]


@dataclass(frozen=True)
class Found:
    """One result file and its name."""

    name: str
    file: ResultFile

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU ran it: its environment has a compute capability."""
        return "capability" in self.file.environment


def load(folder: Path = RESULTS) -> list[Found]:
    """Every result file of a folder, the oldest first.

    Raises
    ------
    ValueError
        If one is damaged, or of a dry run, which says nothing about a device.
    """
    found = [Found(path.name, ResultFile.load(path)) for path in sorted(folder.glob("*.json"))]
    for one in found:
        if one.file.extras.get("dry_run"):
            raise ValueError(f"{one.name} is of a dry run: it says nothing about a device")
    return sorted(found, key=lambda one: (one.file.date, one.name))


def page(found: Sequence[Found], listed: Sequence[cases.Case]) -> str:
    """The page of results."""
    gpu = [one for one in found if one.on_gpu]
    cpu = [one for one in found if not one.on_gpu]
    parts = [
        "# Results",
        "",
        *_unseen(gpu, listed),
        "",
        "## Kernels",
        "",
        *_kernels(gpu, listed),
        "",
        "## What the compiler makes of them",
        "",
        *_compiled_to(RESULTS / "static"),
        *(first.section() if not _timed(gpu, first.KERNEL) else ()),
        *tuning.section(RESULTS / "tuning"),
        *cudnn_plans.section([one.file for one in gpu], RESULTS),
        *_times("GPUs", gpu),
        *_times("CPUs", cpu),
        "",
        "## Files",
        "",
        "`python -m bench.pages` wrote this page from these files and from `tests/data/cases.txt`:",
        "",
        *(f"- `{one.name}`: {_count(len(one.file.records), 'problem')}{_partial(one)}" for one in found),
        "",
        "A file is named by device, date and commit. `gpuconv bench --out FILE` and `bench/gpu_check.py`",
        "write them; `bench/README.md` tells what is in them and how it is measured. `environment` (in",
        "older files `versions`) names, for a CPU, the BLAS and the kind of processor it took this one for,",
        "on which the dense layers depend most.",
    ]
    return "\n".join(parts) + "\n"


def _timed(gpu: Iterable[Found], kernel: str) -> bool:
    """Whether a GPU has."""
    return any(record.kernel == kernel and record.us for one in gpu for record in one.file.records)


def _partial(one: Found) -> str:
    return ", cut short" if one.file.partial else ""


def _unseen(gpu: Sequence[Found], listed: Sequence[cases.Case]) -> Iterator[str]:
    """First of all, what no GPU has run, and what failed there."""
    kinds, seen = _kinds(listed), _seen(gpu)
    wrong = [kind for kind in kinds if kind in seen and not seen[kind][-1].passed]
    missing = [kind for kind in kinds if kind not in seen]
    yield "## Never seen on a GPU"
    yield ""
    if not gpu:
        yield "Everything: no GPU has run any kernel of this project yet, and no time there is known."
    elif not missing and not wrong:
        yield "Nothing: every kernel has run on a GPU for every operation and dtype that it has."
    elif not missing:
        yield "Nothing; but see the next heading."
    if missing:
        yield ""
        yield from _by_op(missing)
    if not any(one.file.extras.get("agreement") for one in gpu):
        yield from ([] if missing else [""])
        yield f"- {cudnn_plans.UNSEEN}"
    if wrong:
        yield from ("", "## Seen, and wrong", "", "Nothing of these passed when a GPU ran them last:", "")
        yield from _by_op(wrong)


def _by_op(kinds: Sequence[Kind]) -> Iterator[str]:
    """A line for each kernel and operation."""
    for kernel, op in dict.fromkeys((kernel, op) for kernel, op, _ in kinds):
        dtypes = [dtype for one, its_op, dtype in kinds if (one, its_op) == (kernel, op)]
        yield f"- `{kernel}` {op}: {', '.join(dtypes)}"


def _kinds(listed: Iterable[cases.Case]) -> list[Kind]:
    """Every kernel × operation × dtype that has cases; and patches, which have tests of their own."""
    names = list(dict.fromkeys(case.kernel.name for case in listed))
    found = {_kind(case) for case in listed}
    kinds = [kind for name in names for op in OPS for dtype in DTYPES if (kind := (name, op, dtype)) in found]
    apart = [(room.KERNEL, name) for room in (patching, bordering) for name in room.KINDS]
    return [*kinds, *((kernel, name, dtype) for kernel, name in apart for dtype in DTYPES)]


def _kind(case: cases.Case) -> Kind:
    return case.kernel.name, case.problem.op, case.problem.dtype


@dataclass(frozen=True)
class Seen:
    """What one file says of a kind, and whether anything of it passed."""

    text: str
    passed: bool


def _seen(gpu: Iterable[Found]) -> dict[Kind, list[Seen]]:
    """Where each kind ran, and what came out, the latest last."""
    found: dict[Kind, list[Seen]] = {}
    for one in gpu:
        where = f"{one.file.device} at {one.file.commit}"
        counted = {
            (row["kernel"], row["op"], row["dtype"]): (row["passed"], row["failed"])
            for row in one.file.extras.get("cases", [])
        }
        records: dict[Kind, list[Record]] = {}
        for record in one.file.records:
            if record.kernel is not None:
                records.setdefault((record.kernel, record.op, record.dtype), []).append(record)
        for kind in dict.fromkeys([*counted, *records]):
            says = []
            passed, failed = counted.get(kind, (0, 0))
            if passed or failed:
                says.append(f"{passed} of {_count(passed + failed, 'case')} passed")
            right = any(record.us is not None and not record.wrong for record in records.get(kind, []))
            wrong = sum(record.wrong for record in records.get(kind, []))
            if wrong:
                says.append(f"{_count(wrong, 'problem')} wrong")
            rows = summary(records.get(kind, []))
            if rows and rows[0].ratio is not None:
                says.append(f"ratio {rows[0].ratio:.2f}, worst {rows[0].worst:.2f}")
            if says:
                text = f"{where}: {'; '.join(says)}"
                found.setdefault(kind, []).append(Seen(text, passed > 0 or right))
    return found


def _kernels(gpu: Sequence[Found], listed: Sequence[cases.Case]) -> Iterator[str]:
    yield "Cases of `tests/data/cases.txt`: each passes on the emulator in four orders of threads, at every"
    yield "commit that lands (`tests/emulator/test_cases.py`). Kernels are compiled for each architecture,"
    yield "none with spilled registers (`tests/compile`). `cuda_unfold` and `cuda_pad` are not in that list:"
    yield "every cell of their results is compared in `tests/emulator/test_patches.py` and `test_pad.py`, at"
    yield "every commit that lands as well."
    yield ""
    yield "| kernel | op | dtype | cases on the emulator | compiled for | on a GPU |"
    yield "| --- | --- | --- | --- | --- | --- |"
    seen, compiled = _seen(gpu), _compiled(listed)
    for kind in _kinds(listed):
        of_kind = [case for case in listed if _kind(case) == kind]
        problems = len({case.problem for case in of_kind})
        count = f"{len(of_kind)} ({_count(problems, 'problem')})" if of_kind else "no list"
        last = seen[kind][-1].text if kind in seen else "never"
        yield f"| {' | '.join((*kind, count, ', '.join(compiled[kind])))} | {last} |"


def _compiled(listed: Sequence[cases.Case]) -> dict[Kind, list[str]]:
    """Architectures of the cards that cases are compiled for."""
    found: dict[Kind, dict[Device, None]] = {}
    for case, device in cards.assigned(listed):
        found.setdefault(_kind(case), {})[device] = None
    for number, (p, folds) in enumerate(test_unfold.FORMS):
        device = cards.card(list(cards.CARDS)[number % len(cards.CARDS)])
        kind = (patching.KERNEL, patching.KINDS[folds], p.dtype)
        found.setdefault(kind, {})[device] = None
    short = {name: dtype for dtype, name in DTYPES.items()}
    for number, ((_, wide), _) in enumerate(test_pad.FORMS):
        device = cards.card(test_pad.capability(number))
        for name in bordering.KINDS:
            found.setdefault((bordering.KERNEL, name, short[wide.name]), {})[device] = None
    return {
        kind: [device.arch for device in sorted(devices, key=lambda device: device.capability)]
        for kind, devices in found.items()
    }


def _compiled_to(folder: Path) -> Iterator[str]:
    """The static tables."""
    for path in sorted(folder.glob("nvrtc-*.json")):
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        yield f"The largest loop of each default config, as NVRTC {path.stem[6:]} compiles it. No GPU is"
        yield "asked: what bounds a loop says nothing about how often it waits. `python -m bench.static`"
        yield "writes the file; a test fails where a loop gets worse. Integer instructions are also given for"
        yield "each fused multiply-add, which by tensor cores is one of 16×8×16. Cycles: how long a warp's"
        yield "turn keeps multiplication, issue and shared memory of an SM busy, the last as if no two lanes"
        yield "of a warp read the same word. By tensor cores, 16-bit orders other than NHWC with channels a"
        yield "multiple of 8 go by short copies or element by element, and cost more."
        yield ""
        titles = (
            "kernel", "problem", "for", "instructions", "fused multiply-adds", "integer", "registers",
            "shared", "warps of an SM", "cycles", "bound by",
        )  # fmt: skip
        yield f"| {' | '.join(titles)} |"
        yield f"|{' --- |' * len(titles)}"
        for row in rows:
            each = row["integer"] / (row["share"] * row["instructions"])
            cells = (
                row["kernel"], f"`{row['problem']}`", row["card"],
                row["instructions"], f"{row['share']:.1%}", f"{row['integer']} ({each:.2f})",
                row["registers"], f"{row['smem_bytes'] / 1024:.1f} KiB", row["warps_per_sm"],
                ", ".join(f"{busy:.1f}" for busy in row["cycles"].values()), row["bound"],
            )  # fmt: skip
            yield f"| {' | '.join(map(str, cells))} |"


def newest(found: Iterable[Found]) -> dict[tuple[str, str, str], list[Record]]:
    """Records by device, layout and dtype; of a problem measured twice on a device, the later."""
    latest: dict[tuple[str, str], Record] = {}
    for one in found:
        for record in one.file.records:
            latest[record.device or one.file.device, record.problem] = record
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for (device, _), record in latest.items():
        groups.setdefault((device, record.layout, record.dtype), []).append(record)
    return dict(sorted(groups.items()))


def _times(title: str, found: Sequence[Found]) -> Iterator[str]:
    """Families and operations, for each device, layout and dtype."""
    if not found:
        return
    yield from ("", f"## Times on {title}", "")
    yield "Ratio: the baseline's time divided by gpuconv's; above 1 gpuconv is faster. Mean is geometric."
    for (device, layout, dtype), records in newest(found).items():
        commits = ", ".join(dict.fromkeys(str(record.commit) for record in records))
        names = ", ".join(sorted({record.baseline for record in records if record.baseline}))
        yield from (
            "",
            f"### {device}, {layout} {dtype}",
            "",
            f"At {commits}, beside {names or 'nothing'}.",
            "",
        )
        rows = summary(records)
        with_floor = any(row.share_of_floor is not None for row in rows)
        floor = " of the floor |" if with_floor else ""
        yield f"| family | op | problems | mean | worst |{floor} the worst |"
        yield f"|{' --- |' * (6 + with_floor)}"
        for row in rows:
            yield _row(row, with_floor)
        left_out = len(records) - rows[0].count if rows else len(records)
        if left_out:
            yield from ("", f"{_count(left_out, 'problem')} left out: disturbed by others, or wrong.")


def _row(row: Summary, with_floor: bool) -> str:
    numbers = [_number(row.ratio), _number(row.worst), *([_number(row.share_of_floor)] if with_floor else [])]
    worst = "" if row.worst_problem is None else f"`{row.worst_problem}`"
    return f"| {' | '.join([row.family, row.op, str(row.count), *numbers, worst])} |"


def figures(found: Sequence[Found]) -> str:
    """What the main README says about speed, markers included."""
    lines = []
    if not any(one.on_gpu for one in found):
        lines.append("There is no GPU figure yet.")
    groups = [
        (kind, device, layout, dtype, records)
        for kind, some in (("GPU", True), ("CPU", False))
        for (device, layout, dtype), records in newest(one for one in found if one.on_gpu == some).items()
    ]
    rows = [
        (device, f"{layout} {dtype}", summary(records)[0])
        for _, device, layout, dtype, records in groups
        if summary(records)
    ]
    if rows:
        lines += ["", "| device | | problems | ratio, mean | worst |", "| --- | --- | --- | --- | --- |"]
        lines += [
            f"| {device} | {what} | {row.count} | {_number(row.ratio)} | {_number(row.worst)} |"
            for device, what, row in rows
        ]
        lines += [
            "",
            "Ratio: the baseline's time divided by gpuconv's; above 1 gpuconv is faster. By family and",
        ]
        lines += ["operation: `bench/results/README.md`."]
    return "\n".join([BEGIN, *lines, END])


def with_figures(text: str, block: str) -> str:
    """A README with its block of figures replaced.

    Raises
    ------
    ValueError
        If it has no place for it.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the README has no lines {BEGIN} and {END}")
    return f"{before}{block}{after}"


def drifted() -> list[Path]:
    """Pages that say something else than the files do."""
    return [path for path, text in _wanted().items() if path.read_text(encoding="utf-8") != text]


def _wanted() -> dict[Path, str]:
    found = load()
    main = with_figures(MAIN.read_text(encoding="utf-8"), figures(found))
    return {PAGE: page(found, cases.listed()), MAIN: main}


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.2f}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def main() -> int:
    """Write both; the exit code is 1 where that is not possible."""
    try:
        wanted = _wanted()
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    for path, text in wanted.items():
        path.write_text(text, encoding="utf-8")
        print(f"written: {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
