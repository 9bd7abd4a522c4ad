"""Faults fit the sources as they are, and a rotation leaves none out."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.mutation import __main__ as command
from tests.mutation import fault, workshop
from tests.mutation.fault import ROOT, MutationError

FAULTS = fault.all_faults()
KERNEL = (
    *(f"kernels/{room}.cu" for room in ("direct", "split_sum", "border_sum", "unfold", "pad", "bias_grad")),
    *(f"include/gpuconv/direct/{room}.cuh" for room in ("block", "sums", "tiles")),
    "kernels/implicit_gemm_sm80.cu",
    *(f"include/gpuconv/mma/{room}.cuh" for room in ("copy", "results", "sums", "swizzle")),
    "kernels/implicit_gemm_simt.cu", *(f"include/gpuconv/gemm/{room}.cuh" for room in ("block", "sums")),
    *(f"include/gpuconv/tile/{room}.cuh" for room in ("depth", "digits", "operand")),
    "include/gpuconv/tile/border.cuh", "include/gpuconv/tile/copy.cuh", "include/gpuconv/tile/count.cuh",
    "include/gpuconv/tile/correlation.cuh", "include/gpuconv/tile/element.cuh",
    "include/gpuconv/epilogue/finish.cuh", "include/gpuconv/fast_divmod.cuh", "include/gpuconv/params.cuh",
)  # fmt: skip
HOST = (
    "direct", "direct_tiles", "correlation", "params", "split_sum", "border", "unfold", "pad", "gather",
    "bias_grad",
    "implicit_gemm_simt", "gemm_tiles", "gemm_choice", "implicit_gemm_sm80", "mma_tiles", "product",
)  # fmt: skip


@pytest.mark.parametrize("one", FAULTS, ids=lambda one: one.name)
def test_it_fits_exactly_once(one):
    assert one.seeded(ROOT) != (ROOT / one.file).read_text(encoding="utf-8")
    assert one.why
    assert "\n" not in one.why


def test_faults_are_many_and_distinct():
    assert len(FAULTS) >= 40
    assert len({one.name for one in FAULTS}) == len(FAULTS)
    assert len({(one.file, one.old, one.new) for one in FAULTS}) == len(FAULTS)


def test_every_file_has_one():
    wanted = {f"cuda_src/{file}" for file in KERNEL} | {f"gpuconv/kernels/cuda/{file}.py" for file in HOST}
    wanted |= {f"gpuconv/{file}.py" for file in ("backend/launch", "filters", "kernels/cpu/unfold")}
    assert wanted <= {one.file for one in FAULTS}


def test_survivors_that_are_known_exist_and_have_a_reason():
    for name, reason in command.KNOWN_SURVIVORS.items():
        assert fault.named(FAULTS, [name])
        assert reason


@pytest.mark.parametrize("old", ["not in there", "const"])
def test_sources_that_moved_on_are_named(old):
    one = replace(FAULTS[0], old=old)
    with pytest.raises(MutationError) as caught:
        one.seeded(ROOT)
    times = (ROOT / one.file).read_text(encoding="utf-8").count(old)
    assert times != 1
    assert (
        str(caught.value) == f"{one.name}: {one.file} has moved on, it holds {old!r} {times} times, not once"
    )


def test_a_missing_file_is_named():
    with pytest.raises(MutationError, match=r"there is no cuda_src/none\.cu"):
        replace(FAULTS[0], file="cuda_src/none.cu").seeded(ROOT)


def test_days_in_a_row_take_every_fault():
    start = dt.date(2024, 2, 27)
    days = [(start + dt.timedelta(days=day)).isoformat() for day in range(-(-len(FAULTS) // 12))]
    found = {one for day in days for one in fault.rotation(FAULTS, 12, day)}
    assert found == set(FAULTS)


def test_commits_take_every_fault_sooner_or_later():
    seeds = [f"{number:040x}" for number in range(400)]
    assert {one for seed in seeds for one in fault.rotation(FAULTS, 12, seed)} == set(FAULTS)


@pytest.mark.parametrize("count", [1, 12, len(FAULTS)])
def test_a_rotation_repeats(count):
    chosen = fault.rotation(FAULTS, count, "0123abcd")
    assert chosen == fault.rotation(FAULTS, count, "0123abcd")
    assert len(set(chosen)) == count


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none", "neither"], "no fault is named none, neither; --list names them all"),
        (["--rotate", "0"], f"--rotate takes from 1 to {len(FAULTS)} faults, got 0"),
        (["--rotate", "9999"], f"--rotate takes from 1 to {len(FAULTS)} faults, got 9999"),
        (["--rotate", "3", FAULTS[0].name], "--rotate chooses the faults: name none"),
        (["--seed", "abc"], "--seed goes with --rotate"),
        (["--jobs", "0"], "--jobs takes 1 or more, got 0"),
    ],
)
def test_wrong_use_is_one_line(arguments, message, capsys):
    assert command.main(arguments) == 2
    assert capsys.readouterr().err == f"tests.mutation: {message}\n"


def test_a_rotation_says_its_seed(capsys):
    assert command.main(["--rotate", "12", "--seed", "2026-01-31", "--list"]) == 0
    seed, *lines = capsys.readouterr().out.splitlines()
    assert seed == "seed 2026-01-31"
    expected = [one.name for one in fault.rotation(FAULTS, 12, "2026-01-31")]
    assert [line.split()[0] for line in lines] == expected


def _verdicts(caught, missed, result="SURVIVED"):
    texts = [("caught", f"c{i}") for i in range(caught)] + [(result, f"m{i}") for i in range(missed)]
    return [workshop.Verdict(name, what, "", 1.0) for what, name in texts]


@pytest.mark.parametrize(
    ("caught", "missed", "strict", "status"),
    [(19, 1, False, 0), (18, 2, False, 1), (20, 0, True, 0), (99, 1, True, 1)],
)
def test_the_status_says_whether_enough_was_caught(caught, missed, strict, status, capsys):
    assert command.summary(_verdicts(caught, missed), strict) == status
    assert capsys.readouterr().out.startswith(f"{caught} of {caught + missed} caught")


def test_known_survivors_pass_a_rotation(monkeypatch, capsys):
    monkeypatch.setitem(command.KNOWN_SURVIVORS, "m0", "a reason")
    assert command.summary(_verdicts(3, 1), True) == 0
    assert capsys.readouterr().out == "3 of 4 caught; not: m0\nm0 is known to survive: a reason\n"


def test_a_fault_that_does_not_compile_shows_nothing():
    assert command.summary(_verdicts(99, 1, "BROKEN"), False) == 1


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("print('@try 9 a case'); print('@caught it: so')", ("caught", "it: so")),
        ("print('@passed 3 cases')", ("SURVIVED", "3 cases")),
        ("print('noise'); print('@broken no')", ("BROKEN", "no")),
        ("import os; print('@try 9 a case', flush=True); os.abort()", ("caught", "a case: SIGABRT")),
        ("import time; print('@try 0.1 a case', flush=True); time.sleep(60)",
         ("caught", "a case: still running after 0 s")),
        ("raise SystemExit(3)", ("BROKEN", "")),
    ],
)  # fmt: skip
def test_what_the_suite_says_becomes_a_verdict(code, verdict):
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    with process:
        assert workshop.listen(process) == verdict
        workshop.kill(process)
