"""ldmatrix and mma.sync, held against the PTX ISA's tables, written out here, and exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gpuconv.errors import CompileError, LaunchError
from tests.emulator.conftest import PROBES
from tests.emulator.launcher import Emulator
from tests.emulator.test_threads import line_of

#: PTX ISA, "Warp-level matrix load instruction: ldmatrix": the row of a matrix that threads get, and its
#: elements, the first in the low half of the register.
LOADED = {
    0: (0, (0, 1)), 1: (0, (2, 3)), 2: (0, (4, 5)), 3: (0, (6, 7)),
    4: (1, (0, 1)), 5: (1, (2, 3)), 6: (1, (4, 5)), 7: (1, (6, 7)),
    28: (7, (0, 1)), 29: (7, (2, 3)), 30: (7, (4, 5)), 31: (7, (6, 7)),
}  # fmt: skip
#: PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type": row and column of what some threads
#: hold, as its figures have it: a0 to a7, b0 to b3, c0 to c3.
A = {
    0: ((0, 0), (0, 1), (8, 0), (8, 1), (0, 8), (0, 9), (8, 8), (8, 9)),
    1: ((0, 2), (0, 3), (8, 2), (8, 3), (0, 10), (0, 11), (8, 10), (8, 11)),
    3: ((0, 6), (0, 7), (8, 6), (8, 7), (0, 14), (0, 15), (8, 14), (8, 15)),
    4: ((1, 0), (1, 1), (9, 0), (9, 1), (1, 8), (1, 9), (9, 8), (9, 9)),
    31: ((7, 6), (7, 7), (15, 6), (15, 7), (7, 14), (7, 15), (15, 14), (15, 15)),
}
B = {
    0: ((0, 0), (1, 0), (8, 0), (9, 0)),
    1: ((2, 0), (3, 0), (10, 0), (11, 0)),
    3: ((6, 0), (7, 0), (14, 0), (15, 0)),
    4: ((0, 1), (1, 1), (8, 1), (9, 1)),
    31: ((6, 7), (7, 7), (14, 7), (15, 7)),
}
SUM = {
    0: ((0, 0), (0, 1), (8, 0), (8, 1)),
    1: ((0, 2), (0, 3), (8, 2), (8, 3)),
    4: ((1, 0), (1, 1), (9, 0), (9, 1)),
    31: ((7, 6), (7, 7), (15, 6), (15, 7)),
}


def places(table: dict[int, tuple[tuple[int, int], ...]], lane: int) -> list[tuple[int, int]]:
    """What any lane holds: as lane 0 does, so far on as lanes 1 and 4 are."""
    return [
        (row + lane // 4 * (down[0] - row) + lane % 4 * (right[0] - row),
         column + lane // 4 * (down[1] - column) + lane % 4 * (right[1] - column))
        for (row, column), right, down in zip(table[0], table[1], table[4], strict=True)
    ]  # fmt: skip


@pytest.mark.parametrize("table", [A, B, SUM], ids=["a", "b", "sum"])
def test_the_rule_holds_for_every_lane_of_the_tables(table):
    for lane, known in table.items():
        assert places(table, lane) == list(known)


def test_fragments_hold_every_element_once():
    for table, count in ((A, 256), (B, 128), (SUM, 128)):
        assert len({place for lane in range(32) for place in places(table, lane)}) == count


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("apart", [16, 32, 80])
def test_ldmatrix(probe, schedule, transposed, apart):
    halves = np.arange(4 * 64, dtype=np.uint16).reshape(4, 8, 8) * 3 + 1
    emulator = Emulator(schedule=schedule, sources=PROBES)
    out = probe(
        "load", int(transposed), 0, apart, file="matrices", a=halves.reshape(-1).view(np.uint32), out=128,
        smem=32 * apart, emulator=emulator,
    ).get()  # fmt: skip
    got = out.view(np.uint16).reshape(32, 4, 2)
    for lane, (row, columns) in LOADED.items():
        for matrix in range(4):
            held = halves[matrix].T if transposed else halves[matrix]
            assert got[lane, matrix].tolist() == [held[row, column] for column in columns]
    held = halves.transpose(0, 2, 1) if transposed else halves
    np.testing.assert_array_equal(got.transpose(1, 0, 2).reshape(4, 8, 8), held)


def product(probe, kind, a, b, before, **options):
    """What one instruction makes of matrices of float64 that the type holds."""
    bits = {0: lambda m: m.astype(np.float16).view(np.uint16), 1: bf16}[kind]
    a, b = bits(a), bits(b)
    words = np.zeros((32, 10), np.uint32)
    for lane in range(32):
        held = [a[place] for place in places(A, lane)] + [b[place] for place in places(B, lane)]
        words[lane, :6] = np.array(held, np.uint16).view(np.uint32)
        words[lane, 6:] = np.array([before[place] for place in places(SUM, lane)], np.float32).view(np.uint32)
    out = probe("multiply", kind, 0, 0, file="matrices", a=words.reshape(-1), out=128, **options).get()
    result = np.zeros((16, 8), np.float32)
    for lane, values in enumerate(out.view(np.float32).reshape(32, 4)):
        for place, value in zip(places(SUM, lane), values, strict=True):
            result[place] = value
    return result


def bf16(matrix):
    return (np.asarray(matrix, np.float32).view(np.uint32) >> 16).astype(np.uint16)


@pytest.mark.parametrize("kind", [0, 1])
def test_products_of_integers_are_exact(probe, schedule, kind):
    rng = np.random.default_rng(kind)
    a, b = rng.integers(-9, 10, (16, 16)).astype(float), rng.integers(-9, 10, (16, 8)).astype(float)
    before = rng.integers(-99, 100, (16, 8)).astype(float)
    emulator = Emulator(schedule=schedule, sources=PROBES)
    np.testing.assert_array_equal(product(probe, kind, a, b, before, emulator=emulator), before + a @ b)


def cut(value: Fraction, unit: Fraction) -> Fraction:
    """Toward zero, to a multiple."""
    return int(value / unit) * unit


def by_rule(terms: list[Fraction]) -> Fraction:
    """Cut off one bit below the last of the largest, added exactly, cut off to 24 bits."""
    largest = max(map(abs, terms))
    if not largest:
        return Fraction(0)
    total = sum(cut(term, unit_of(largest) / 2) for term in terms)
    return cut(total, unit_of(abs(total))) if total else total


def unit_of(value: Fraction) -> Fraction:
    """The last of 24 bits."""
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    while Fraction(2) ** exponent > value:
        exponent -= 1
    return Fraction(2) ** (exponent - 23)


@pytest.mark.parametrize("kind", [0, 1])
def test_sums_are_cut_off(probe, kind):
    rng = np.random.default_rng(kind)
    spread = 2.0 ** rng.integers(-7, 8, (16, 16))
    a, b = rng.integers(-99, 100, (16, 16)) * spread, rng.integers(-127, 128, (16, 8)) * 2.0**-9
    before = (rng.standard_normal((16, 8)) * 50).astype(np.float32)
    got = product(probe, kind, a, b, before)
    for row, column in np.ndindex(16, 8):
        total = Fraction(float(before[row, column]))
        for half in (slice(0, 8), slice(8, 16)):
            pairs = zip(a[row, half].tolist(), b[half, column].tolist(), strict=True)
            total = by_rule([total, *(Fraction(x) * Fraction(y) for x, y in pairs)])
        assert Fraction(float(got[row, column])) == total


def test_what_is_cut_off_by_hand(probe):
    """One, and eight products of 2⁻²⁴, of which one bit below the last is kept: four units more than one."""
    a, b = np.zeros((16, 16)), np.zeros((16, 8))
    a[0, :8], b[:8, 0] = 2.0**-12, 2.0**-12
    a[1, :8] = 2.0**-13  # lost, each
    a[2, 8:], b[8:, 0] = 2.0**-12, -(2.0**-12)
    got = product(probe, 0, a, b, np.ones((16, 8)))
    assert got[0, 0] == 1 + 4 * 2.0**-23
    assert got[1, 0] == 1
    assert got[2, 0] == 1 - 8 * 2.0**-24


@pytest.mark.parametrize("kind", [0, 1])
def test_nan_infinity_and_subnormals(probe, kind):
    a, b, before = np.zeros((16, 16)), np.zeros((16, 8)), np.zeros((16, 8))
    a[0, 0], b[0, 0] = np.nan, 1
    a[1, 3], b[3, 1] = np.inf, 2
    a[2, 0], b[0, 2] = 2.0**-24, 2.0**10  # the least float16
    before[3, 3] = -np.inf
    got = product(probe, kind, a, b, before)
    assert np.isnan(got[0, 0])
    assert got[1, 1] == np.inf
    assert got[2, 2] == 2.0**-14
    assert got[3, 3] == -np.inf


def test_wrong_use(probe):
    line = line_of("matrices", "ldmatrix_x4(matrices")
    with pytest.raises(
        LaunchError, match=f"shared load of 16 bytes, 8 past a multiple at matrices.cu:{line}"
    ):
        probe("load", 0, 8, 32, file="matrices", a=np.zeros(128, np.uint32), out=128)
    with pytest.raises(LaunchError, match="at byte 512 of 512 bytes of shared memory"):
        probe("load", 0, 16, 16, file="matrices", a=np.zeros(128, np.uint32), out=128, smem=512)
    with pytest.raises(LaunchError, match=r"mma\.sync: lanes of the warp have exited"):
        probe("multiply", 0, 1, 0, file="matrices", a=np.zeros(320, np.uint32), out=128)
    with pytest.raises(LaunchError, match=r"mma\.sync: lanes of the warp have exited"):
        probe("multiply", 0, 0, 0, file="matrices", a=np.zeros(320, np.uint32), out=128, block=16)
    with pytest.raises(CompileError, match=r"mma\.m16n8k16 needs sm_80"):
        probe("multiply", 0, 0, 0, file="matrices", arch="sm_75")
