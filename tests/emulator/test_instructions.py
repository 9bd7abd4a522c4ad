"""Conversions and asynchronous copies, held against NumPy and the PTX ISA."""

from __future__ import annotations

import numpy as np
import pytest

from gpuconv.errors import CompileError, LaunchError
from tests.emulator.conftest import PROBES
from tests.emulator.launcher import SCHEDULES, Emulator, Schedule
from tests.emulator.test_threads import line_of

UNSET = 0xFFFFFFFF
SOURCE = np.arange(1, 17, dtype=np.uint32) * 0x01010101


def on(schedule: Schedule) -> Emulator:
    return Emulator(schedule=schedule, sources=PROBES)


def test_every_half_widens_exactly(probe):
    patterns = np.arange(1 << 16, dtype=np.uint16)
    out = probe("half", 0, 0, out=1 << 16, grid=64, block=1024).get().view(np.float32)
    expected = patterns.view(np.float16).astype(np.float32)
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(out), nan)
    np.testing.assert_array_equal(out.view(np.uint32)[~nan], expected.view(np.uint32)[~nan])


def rounding_cases() -> np.ndarray:
    """Every half, the ties between neighbours, both floats beside each tie, and extremes; of both signs."""
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    upper = np.append(halves[1:], np.float32(65536))
    ties = (halves + upper) / 2
    extremes = np.array([np.inf, np.nan, 1e-40, 2.0**-25, 2.0**-24, 65519.996, 65520, 3e38], np.float32)
    positive = np.concatenate(
        [halves, ties, *(np.nextafter(ties, np.float32(end)) for end in (0, np.inf)), extremes]
    )
    cases = np.concatenate([positive, -positive])
    return np.concatenate([cases, np.zeros(-len(cases) % 1024, np.float32)])


def test_narrowing_rounds_to_nearest_even(probe):
    cases = rounding_cases()
    count = len(cases)
    out = probe("half", 1, 0, a=cases.view(np.uint32), out=count, grid=count // 1024, block=1024).get()
    with np.errstate(over="ignore"):
        expected = cases.astype(np.float16).view(np.uint16)
    expected = np.where(np.isnan(cases), 0x7FFF, expected)  # PTX has one NaN
    np.testing.assert_array_equal(out, expected)


def test_intrinsics(probe):
    out = probe("intrinsics", 0, 0, grid=2, block=(4, 2, 1)).get()
    assert out[:4].tolist() == [3, 8 + 3100 + 40000, 0x40490FDB, 2200]


@pytest.mark.parametrize("piece", [4, 8, 16])
def test_bytes_past_the_source_are_zeros(probe, schedule, piece):
    for source_bytes in range(piece + 1):
        out = probe(
            "piece", source_bytes, 0, 0, file="copies", a=SOURCE, block=1, smem=64,
            defines={"PIECE": piece}, emulator=on(schedule),
        ).get()  # fmt: skip
        expected = np.full(16, 0xFF, np.uint8)
        expected[:piece] = 0
        expected[:source_bytes] = SOURCE.view(np.uint8)[:source_bytes]
        np.testing.assert_array_equal(out[:4].view(np.uint8), expected)


def test_a_source_of_no_bytes_is_not_read(probe, schedule):
    emulator = on(schedule)
    a = emulator.array(SOURCE)
    out = probe("piece", 0, 64, 0, file="copies", a=a, block=1, smem=64, emulator=emulator).get()
    assert out[:4].tolist() == [0, 0, 0, 0]
    line = line_of("copies", "cp_async_ca<PIECE>")
    with pytest.raises(LaunchError) as caught:
        probe("piece", 4, 64, 0, file="copies", a=a, block=1, smem=64, emulator=emulator)
    assert str(caught.value) == (
        "piece: block (0,0,0) thread (0,0,0): reads 0 bytes behind the end of a (64 bytes) "
        f"at copies.cu:{line}"
    )


@pytest.mark.parametrize("newest", [0, 1, 2])
def test_waits_cover_all_but_the_newest_groups(probe, newest):
    words = {}
    for schedule in SCHEDULES:
        emulator = on(schedule)
        out = probe(
            "groups", newest, 0, 0, file="copies", a=SOURCE, block=1, smem=64, emulator=emulator
        ).get()
        words[schedule] = out[:4].tolist()
    eager = SOURCE[:4].tolist()
    lazy = [*eager[: 3 - newest], *[UNSET] * (newest + 1)]
    assert words == {schedule: lazy if schedule.lazy else eager for schedule in SCHEDULES}


def test_copies_read_at_once_or_at_the_wait(probe, schedule):
    out = probe("late_source", 0, 0, 0, file="copies", block=1, emulator=on(schedule)).get()
    assert out[0] == (99 if schedule.lazy else 0)


@pytest.mark.parametrize("committed", [0, 1])
def test_copies_land_when_their_thread_exits(probe, schedule, committed):
    out = probe("unwaited", committed, 0, 0, file="copies", a=SOURCE, block=2, emulator=on(schedule)).get()
    late = schedule.reverse  # thread 1 reads before thread 0 has begun
    assert out[0] == (UNSET if late else SOURCE[0])


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((16, 8, 0), "misaligned address: global load of 16 bytes, 8 past a multiple"),
        ((16, 0, 8), "misaligned address: shared store of 16 bytes, 8 past a multiple"),
        ((16, 0, 64), "shared store of 16 bytes at byte 64 of 64 bytes of shared memory"),
        ((16, 0, -16), "shared store of 16 bytes at byte -16 of 64 bytes of shared memory"),
        ((17, 0, 0), "cp.async of 16 bytes takes 0 to 16 from its source, not 17"),
        ((-1, 0, 0), "cp.async of 16 bytes takes 0 to 16 from its source, not -1"),
    ],
)
def test_wrong_copies(probe, schedule, numbers, text):
    line = line_of("copies", "cp_async_ca<PIECE>")
    with pytest.raises(LaunchError, match=f"{text} at copies.cu:{line}"):
        probe("piece", *numbers, file="copies", a=SOURCE, block=1, smem=64, emulator=on(schedule))


def test_copies_need_their_architecture(probe):
    with pytest.raises(CompileError, match=r"cp\.async needs sm_80"):
        probe("piece", 16, 0, 0, file="copies", arch="sm_75")
    with pytest.raises(CompileError, match="moves 4, 8 or 16 bytes"):
        probe("piece", 2, 0, 0, file="copies", defines={"PIECE": 2})
