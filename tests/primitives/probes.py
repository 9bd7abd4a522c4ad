"""Instructions on silicon against the emulator's recorded answers.

A probe is one launch of ``kernels/primitives.cu`` with operands that any machine makes alike. The emulator's
answers lie in ``tests/data/primitives.json``; ``python -m tests.primitives.probes`` records them anew. A new
wrapper under ``cuda_src/include/gpuconv/ptx`` gets an entry there and a probe here.
"""

from __future__ import annotations

import base64
import json
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gpuconv.backend.launch import Binary, KernelSpec
from gpuconv.backend.source import cuda_source_folder

HERE = Path(__file__).parent
RECORDED = HERE.parent / "data" / "primitives.json"
FILE = "primitives.cu"

Words = np.ndarray[Any, np.dtype[np.uint32]]


@dataclass(frozen=True)
class Probe:
    """One launch.

    Attributes
    ----------
    entry : str
        Of the source file.
    operand : callable
        Makes the words of `a`.
    out : int
        Words of the result, which begins as zeros.
    numbers : (int, int)
        The entry's `n` and `m`.
    grid, block, smem_bytes, defines
        As in `gpuconv.backend.launch.KernelSpec`.
    canonical : callable
        Makes equal what may differ, as the payload of a NaN.
    capability : (int, int)
        The least that has the instruction.
    """

    entry: str
    operand: Callable[[], Words]
    out: int
    numbers: tuple[int, int] = (0, 0)
    grid: int = 1
    block: int = 32
    smem_bytes: int = 1024
    defines: tuple[tuple[str, str], ...] = ()
    canonical: Callable[[Words], Words] = lambda words: words
    capability: tuple[int, int] = (7, 5)

    def spec(self, arch: str) -> KernelSpec:
        """The launch for an architecture."""
        binary = Binary(FILE, self.defines, arch)
        params = struct.pack("2i", *self.numbers)
        grid, block = (self.grid, 1, 1), (self.block, 1, 1)
        return KernelSpec(binary, self.entry, grid, block, self.smem_bytes, ("a", "out"), params)


class Bench(Protocol):
    """Where probes run."""

    arch: str
    capability: tuple[int, int]

    def launch(self, spec: KernelSpec, a: Words, out: int) -> Words:
        """Run on device copies of the words; the result, which began as zeros."""


def _ramp(count: int, step: int) -> Callable[[], Words]:
    return lambda: (np.arange(1, count + 1, dtype=np.uint64) * step % 2**32).astype(np.uint32)


def _halves() -> Words:
    return np.arange(1 << 16, dtype=np.uint32)


def _floats() -> Words:
    """Every half, the ties between neighbours, both floats beside each tie, and extremes; of both signs."""
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    ties = (halves + np.append(halves[1:], np.float32(65536))) / 2
    extremes = np.array([np.inf, np.nan, 1e-40, 2.0**-25, 2.0**-24, 65519.996, 65520, 3e38], np.float32)
    beside = (np.nextafter(ties, np.float32(end)) for end in (0, np.inf))
    positive = np.concatenate([halves, ties, *beside, extremes])
    cases = np.concatenate([positive, -positive])
    return np.concatenate([cases, np.zeros(-len(cases) % 1024, np.float32)]).view(np.uint32)


def _divisors() -> Words:
    near_powers = [2**power + step for power in range(1, 31) for step in (-1, 0, 1)]
    return np.array(sorted({1, 3, 5, 7, 9, 31, 100, 641, 2**31 - 1, *near_powers}), np.uint32)


def _whole_numbers(bfloat: bool) -> Callable[[], Words]:
    """What 32 lanes bring to a product of small whole numbers: sums are exact in any order."""

    def words() -> Words:
        rng = np.random.default_rng(int(bfloat))
        factors = rng.integers(-9, 10, (32, 12)).astype(np.float32)
        half = factors.view(np.uint32) >> 16 if bfloat else factors.astype(np.float16).view(np.uint16)
        sums = rng.integers(-99, 100, (32, 4)).astype(np.float32).view(np.uint32)
        factor_words = np.ascontiguousarray(half, np.uint16).view(np.uint32)
        return np.concatenate([factor_words, sums], axis=1).ravel()

    return words


def _one_nan(words: Words) -> Words:
    """Every float NaN as the same."""
    return np.where(np.isnan(words.view(np.float32)), np.uint32(0x7FFFFFFF), words)


AMPERE = (8, 0)
PROBES: dict[str, Probe] = {
    "cvt.f32.f16 of every half": Probe("widen", _halves, 1 << 16, grid=64, block=1024, canonical=_one_nan),
    "cvt.rn.f16.f32 at every tie": Probe(
        "narrow", _floats, len(_floats()), grid=len(_floats()) // 1024, block=1024
    ),
    **{
        f"cp.async of {piece} bytes, the rest zeros": Probe(
            "zero_fill", _ramp(68, 0x01020304), 4 * (piece + 1), block=piece + 1,
            defines=(("PIECE", str(piece)),), capability=AMPERE,
        )
        for piece in (4, 8, 16)
    },
    "cp.async.wait_group with two under way": Probe(
        "groups", _ramp(64 * 9, 0x9E3779B1), 64, numbers=(9, 0), block=64, capability=AMPERE
    ),
    **{
        f"ld.global.nc, ld.global, st.global, ld.shared, st.shared of {size} bytes": Probe(
            "vectors", _ramp(32 * size // 4, 0x9E3779B1), 2 * 32 * size // 4, numbers=(size, 0)
        )
        for size in (2, 4, 8, 16)
    },
    **{
        f"ldmatrix.x4{way}": Probe("matrices", _ramp(128, 0x9E3779B1), 128, numbers=(number, 0))
        for number, way in enumerate(("", ".trans"))
    },
    **{
        f"mma.m16n8k16 of {kind}": Probe(
            "multiply", _whole_numbers(kind == "bf16"), 128, numbers=(number, 0), capability=AMPERE
        )
        for number, kind in enumerate(("f16", "bf16"))
    },
    "FastDivmod": Probe("divmod", _divisors, 2 * 64 * len(_divisors()), grid=len(_divisors()), block=64),
}  # fmt: skip


def large_shared(smem_bytes: int) -> Probe:
    """A launch with that much shared memory, the end of which it uses; threads answer 3·(31 - i) + 1."""
    return Probe("large_shared", _ramp(1, 1), 32, numbers=(smem_bytes, 0), smem_bytes=smem_bytes)


def assemble(folder: Path) -> Path:
    """Lay out the product's headers and the probes as a folder of CUDA sources."""
    shutil.copytree(cuda_source_folder() / "include", folder / "include", dirs_exist_ok=True)
    shutil.copytree(HERE / "kernels", folder / "kernels", dirs_exist_ok=True)
    return folder


def encode(words: Words) -> str:
    """Words as text: differences, packed."""
    steps = np.diff(words, prepend=np.uint32(0)).astype("<u4")
    planes = steps.view(np.uint8).reshape(-1, 4).T.tobytes()  # bytes of one weight side by side pack better
    return base64.b64encode(zlib.compress(planes, 9)).decode()


def decode(text: str) -> Words:
    """What `encode` was given."""
    planes = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    steps = np.ascontiguousarray(planes.reshape(4, -1).T).view("<u4").ravel()
    return np.cumsum(steps, dtype=np.uint32)


def recorded() -> dict[str, str]:
    """The emulator's answers by the probe's name."""
    found: dict[str, str] = json.loads(RECORDED.read_text(encoding="utf-8"))
    return found


def answer(probe: Probe, bench: Bench) -> Words:
    """What a machine gives."""
    return probe.canonical(bench.launch(probe.spec(bench.arch), probe.operand(), probe.out))


def emulated(folder: Path, schedule: Any = None) -> Bench:
    """The emulator as a place for probes; sources are laid out in the folder."""
    from tests.emulator.launcher import SCHEDULES, Emulator

    emulator = Emulator(schedule=schedule or SCHEDULES[0], sources=assemble(folder))

    class OnEmulator:
        arch = "sm_90a"
        capability = (9, 0)

        def launch(self, spec: KernelSpec, a: Words, out: int) -> Words:
            source, target = emulator.array(a), emulator.array(np.zeros(out, np.uint32))
            (run,) = emulator.load((spec,), emulator.device(0))
            run(spec.pack({"a": source.pointer, "out": target.pointer}))
            return target.get()

    return OnEmulator()


def record(path: Path = RECORDED) -> None:
    """Write the emulator's answers."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        bench = emulated(Path(folder))
        answers = {name: encode(answer(probe, bench)) for name, probe in PROBES.items()}
    path.write_text(json.dumps(answers, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    record()
