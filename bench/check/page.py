"""What a call leaves for people: one page, the result file, and what else is needed to go on or to mend."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.check.state import FILE, State, StepState
from bench.check.steps import Step

PAGE = "gpu_check.md"
#: Bytes of one file, below the 16 MiB that may come back from a machine.
MOST_BYTES = 15 * 2**20
#: Bytes of each step's log that are kept.
LOG_BYTES = 100_000
#: Failures that the page shows; `mismatches.json` has them all.
SHOWN = 25


def write(out: Path, steps: Sequence[Step], state: State) -> None:
    """Write every file anew, from the state alone; none where nothing is known."""
    head = state.head()
    if head is None:
        return
    found = {step.name: state.step(step.name) for step in steps}
    environment = _environment(found)
    files = {
        "mismatches.json": _json([*_failures(found)]),
        "environment.json": _json(environment),
        "log.txt": _logs(state, steps),
        "profiles.txt": _profiles(found),
    }
    results = _results(head, found, environment)
    if results is not None:
        from gpuconv.report import records

        name = records.name_for(results.device, results.date, results.commit)
        if head["dry_run"]:
            name = f"dry-run-{name}"
        _remove_older(out, name, state)
        results.save(out / name)
        state.append(kind="wrote", name=name, digest=_digest(out / name))
    _write_times(out, head, found.get("plans", StepState()), state)
    files[FILE] = state.path.read_text(encoding="utf-8", errors="replace")
    files[PAGE] = "\n".join(_page(head, steps, found, environment, results)) + "\n"
    for name, text in files.items():
        _write(out / name, text)


def _write_times(out: Path, head: dict[str, Any], plans: StepState, state: State) -> None:
    """The table of `bench.cudnn_plans`, where any plan was timed."""
    timed = [line["data"] for line in plans.ended.values() if "times" in line["data"]]
    if not timed:
        return
    from bench import cudnn_plans

    last = timed[-1]
    name, about = cudnn_plans.times_file(last["device"], last["cudnn"], head["began"], head["commit"])
    _remove_older(out, name, state)
    part = out / f".{name}.part"
    cudnn_plans.write(part, about, cudnn_plans.TIMES, (data["times"] for data in timed))
    os.replace(part, out / name)
    state.append(kind="wrote", name=name, digest=_digest(out / name))


def _remove_older(out: Path, name: str, state: State) -> None:
    """The result file of an earlier call may have the name of another card; whatever else lies there stays.

    A name alone would not do: the folder may be another one, and hold a file of that name that people keep.
    """
    wrote = {(line["name"], line["digest"]) for line in state.lines() if line.get("kind") == "wrote"}
    for old in out.glob(f"*{Path(name).suffix}"):
        if old.name != name and old.is_file() and (old.name, _digest(old)) in wrote:
            old.unlink()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write(path: Path, text: str) -> None:
    data = text.encode("utf-8", "replace")
    if len(data) > MOST_BYTES:
        note = b"\n(cut: the file was larger than what may come back from a machine)\n"
        data = data[: MOST_BYTES - len(note)] + note
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    os.replace(part, path)


def listing(steps: Sequence[Step], found: Mapping[str, StepState]) -> Iterator[str]:
    """One line for each step."""
    for step in steps:
        known = found.get(step.name, StepState())
        yield f"{step.name:12} {known.in_words:10} {_counted(known):38} {step.title}"


def _counted(state: StepState) -> str:
    if state.skipped is not None:
        return state.skipped
    if not state.ended and not state.crashes:
        return ""
    parts = [f"{state.count(status)} {status}" for status in ("passed", "failed", "skipped")]
    return ", ".join([*parts, *([f"{state.left} left"] if state.left else [])])


def _environment(found: dict[str, StepState]) -> dict[str, Any]:
    """What the items of the first step say, each under its own name."""
    known = found.get("environment", StepState())
    return {key: line["data"] or line["note"] for key, line in known.ended.items()}


def _failures(found: dict[str, StepState]) -> Iterator[dict[str, Any]]:
    for name, state in found.items():
        for key, line in state.ended.items():
            if line["status"] == "failed":
                yield {"step": name, "item": key, "what": line["note"], **line["data"]}
        if state.crashes:
            yield {"step": name, "item": None, "what": f"the process ended: {state.last_crash}"}


def _logs(state: State, steps: Sequence[Step]) -> str:
    parts = []
    for step in steps:
        path = state.folder / "logs" / f"{step.name}.log"
        if path.exists() and path.stat().st_size:
            with open(path, "rb") as file:
                file.seek(max(0, path.stat().st_size - LOG_BYTES))
                parts.append(f"== {step.name}\n{file.read().decode('utf-8', 'replace')}")
    return "\n".join(parts)


def _profiles(found: dict[str, StepState]) -> str:
    lines = found.get("ncu", StepState()).ended.items()
    return "\n\n".join(
        f"== {key}\n{line['data']['report']}" for key, line in lines if "report" in line["data"]
    )


def _results(head: dict[str, Any], found: dict[str, StepState], environment: dict[str, Any]) -> Any:
    """The result file, or None where no device is known."""
    device = environment.get("device")
    if not isinstance(device, dict) or "name" not in device:
        return None
    from gpuconv.report.records import Record, ResultFile

    records = []
    for line in found.get("benchmarks", StepState()).ended.values():
        if "record" in line["data"]:
            record = Record(**line["data"]["record"])
            untried = found.get("heuristics", StepState()).ended.get(record.problem, {}).get("data", {})
            records.append(replace(record, cudnn_heuristic_us=untried.get("us")))
    versions = environment.get("versions")
    extras: dict[str, Any] = {
        "cases": cases_by_kind(found.get("correctness", StepState())),
        "agreement": compared(found.get("cudnn", StepState())),
        "tuned": [line["data"] for line in found.get("tune", StepState()).ended.values() if line["data"]],
    }
    if head["dry_run"]:
        extras["dry_run"] = True
    known = {**(versions if isinstance(versions, dict) else {}), **device.get("facts", {})}
    return ResultFile(
        device["name"], head["began"], head["commit"], known, tuple(records), extras,
        partial=not found.get("benchmarks", StepState()).finished,
    )  # fmt: skip


def cases_by_kind(state: StepState) -> list[dict[str, Any]]:
    """How many of the listed cases passed and failed, by kernel, operation and dtype."""
    counts: dict[tuple[str, str, str], Counter[str]] = {}
    for line in state.ended.values():
        kind = line["data"].get("kind")
        if kind is not None:
            counts.setdefault(tuple(kind), Counter())[line["status"]] += 1
    return [
        {"kernel": kernel, "op": op, "dtype": dtype, "passed": found["passed"], "failed": found["failed"]}
        for (kernel, op, dtype), found in sorted(counts.items())
    ]


def compared(state: StepState) -> list[dict[str, Any]]:
    """Errors of ours and of cuDNN, as shares of the bound, of every problem that both computed."""
    names = ("ours", "cudnn", "apart")
    return [
        {"problem": key, **{name: line["data"][name] for name in names}}
        for key, line in state.ended.items()
        if line["data"].get("cudnn") is not None
    ]


def _page(
    head: dict[str, Any],
    steps: Sequence[Step],
    found: dict[str, StepState],
    environment: dict[str, Any],
    results: Any,
) -> Iterator[str]:
    device = environment.get("device")
    name = device["name"] if isinstance(device, dict) and "name" in device else "no device"
    yield f"# {'Dry run of the' if head['dry_run'] else 'The'} GPU check of {head['commit']} on {name}"
    yield ""
    yield f"Begun {head['began']}."
    if head["dry_run"]:
        yield "The emulator and the CPU stood in for the GPU: nothing here says anything about a GPU."
    yield ""
    yield "| step | | passed | failed | skipped | left | |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for step in steps:
        yield _row(step, found[step.name])
    failures = list(_failures(found))
    if failures:
        yield from ("", f"## Failed: {len(failures)}", "")
        for failure in failures[:SHOWN]:
            yield f"- {failure['step']}: `{failure['item'] or 'the process'}`: {_cell(failure['what'], 300)}"
        if len(failures) > SHOWN:
            yield f"- and {len(failures) - SHOWN} more: mismatches.json"
    if results is not None and results.records:
        yield from _ratios(results.records)
    yield from ("", "## What to look at next", "")
    yield from _next(steps, found, failures, results)
    if results is not None and results.records:
        yield from _each(results.records)


def _row(step: Step, state: StepState) -> str:
    left = "" if state.left is None or state.skipped is not None else str(state.left)
    cells = [step.name, state.in_words, *(str(state.count(each)) for each in ("passed", "failed", "skipped"))]
    return f"| {' | '.join([*cells, left, _cell(state.skipped or state.last_crash, 120)])} |"


def _ratios(records: Sequence[Any]) -> Iterator[str]:
    from gpuconv.report.summary import geometric_mean, summary

    yield from (
        "",
        "## Times",
        "",
        "Ratio: the baseline's time divided by gpuconv's; above 1 gpuconv is faster.",
    )
    yield ""
    yield "Beside untried: the time of the plan that cuDNN chooses untried, divided by gpuconv's. Cold: the"
    yield "time of gpuconv's calls with nothing in the cache, divided by that of warm ones."
    yield ""
    yield "| family | op | problems | geomean | worst | beside untried | cold | of the floor | the worst |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    rows = summary(records)
    for row in rows:
        of_row = [
            record
            for record in records
            if row.family in ("all", record.family) and row.op in ("all", record.op) and _counts(record)
        ]
        untried = geometric_mean(
            [each.cudnn_heuristic_us / each.us for each in of_row if each.cudnn_heuristic_us]
        )
        cold = geometric_mean([each.us_cold / each.us for each in of_row if each.us_cold])
        numbers = map(_number, (row.ratio, row.worst, untried, cold, row.share_of_floor))
        yield f"| {row.family} | {row.op} | {row.count} | {' | '.join(numbers)} | {row.worst_problem or ''} |"
    left_out = len(records) - (rows[0].count if rows else 0)
    if left_out:
        yield from ("", f"{left_out} of {len(records)} problems are left out: disturbed by others, or wrong.")


def _counts(record: Any) -> bool:
    """Whether `gpuconv.report.summary` counts it."""
    return record.us is not None and not record.disturbed


def _each(records: Sequence[Any]) -> Iterator[str]:
    """Every time, for whoever asks about one problem."""
    yield from ("", "## Each problem", "", "Times in µs.", "")
    yield "| problem | family | gpuconv | cold | baseline | fastest | untried | ratio | beside untried |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for each in records:
        untried = each.cudnn_heuristic_us
        beside = untried / each.us if untried and each.us else None
        numbers = (each.us, each.us_cold, each.baseline_us, each.cudnn_us, untried, each.ratio, beside)
        mark = " (disturbed)" if each.disturbed else ""
        yield f"| {each.problem}{mark} | {each.family} | {' | '.join(map(_number, numbers))} |"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _next(
    steps: Sequence[Step], found: dict[str, StepState], failures: list[dict[str, Any]], results: Any
) -> Iterator[str]:
    if failures:
        yield "- Failures come first: mismatches.json has problem, config, indices, got and expected of each."
    for step in steps:
        state = found[step.name]
        if state.given_up:
            lost = state.crashes + state.lost
            yield f"- {step.name} was given up after {lost} lost processes: {state.last_crash}"
            yield f"  With --only {step.name} it is tried again."
        elif not state.finished:
            yield f"- {step.name} has something left: call again, with {FILE} in --state."
        elif state.skipped is not None:
            why = _cell(state.skipped, 200)
            yield f"- {step.name} was skipped: {why}. With --only {step.name} it is tried again."
    for step in steps:
        notes = Counter(
            line["note"] for line in found[step.name].ended.values() if line["status"] == "skipped"
        )
        for note, times in notes.most_common(5):
            yield f"- {step.name}: {times} skipped: {_cell(note, 200)}"
        remarks = Counter(
            remark for line in found[step.name].ended.values() for remark in line["data"].get("remarks", ())
        )
        for remark, times in remarks.most_common(5):
            yield f"- {step.name}: at {times}: {_cell(remark, 200)}"
    compared = [record for record in (results.records if results else ()) if record.ratio is not None]
    worst: dict[str, Any] = {}
    for record in compared:
        if record.family not in worst or record.ratio < worst[record.family].ratio:
            worst[record.family] = record
    for record in sorted(worst.values(), key=lambda record: record.ratio)[:5]:
        yield f"- {record.family}: {record.ratio:.3g} of the baseline's speed at `{record.problem}`"
    if not failures and not compared and all(state.done for state in found.values()):
        yield "- Nothing: every step has ended without a failure."


def _cell(text: str, most: int) -> str:
    line = " ".join(text.split()).replace("|", "\\|")
    return line if len(line) <= most else line[: most - 1] + "…"


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n"
