"""Convolution by FFT for large kernels: the work hardly grows with the taps."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import log2
from typing import Final

from gpuconv.backend.device import Device
from gpuconv.config import Config
from gpuconv.errors import Reject
from gpuconv.kernels.base import HOPELESS
from gpuconv.kernels.cpu.base import CpuKernel
from gpuconv.kernels.cpu.correlation import passes
from gpuconv.kernels.cpu.spectral_sum import SPECTRA_LIMIT, SpectralSum
from gpuconv.plan import Plan
from gpuconv.problem import ConvProblem

_LARGEST: Final = 4096
#: Points of one transform that a core's own cache holds beside its spectrum.
_CACHED: Final = 2**16
_MOST_POINTS: Final = 2**19
#: Taps from which it can pay at all.
_LEAST_TAPS: Final = 49
#: Multiply-adds of a direct kernel in a nanosecond of one core, about.
_DIRECT_RATE: Final = 10
#: Both sides are guesses; this share of the one is surely less than the other.
_WORTH: Final = 0.6


@cache
def _lengths() -> tuple[int, ...]:
    """Even lengths up to `_LARGEST` with factors of 2, 3 and 5 alone: fast and accurate."""
    found = set()
    for a in range(1, 13):
        for b in range(8):
            for c in range(6):
                found.add(2**a * 3**b * 5**c)
    return tuple(sorted(length for length in found if length <= _LARGEST))


def _at_least(length: int) -> int:
    """The next quick length."""
    return _lengths()[bisect_left(_lengths(), length)]


@dataclass(frozen=True)
class FftConfig(Config):
    """Rows and columns of one transform."""

    rows: int = 256
    columns: int = 256


class CpuFft(CpuKernel[FftConfig]):
    """Multiply spectra; compute anew what a wide range of values puts in doubt."""

    name = "cpu_fft"
    config_type = FftConfig

    def check(self, p: ConvProblem, device: Device) -> Reject | None:
        """Takes fprop and dgrad of all but float64, without dilation, in so far as memory does."""
        if (reject := super().check(p, device)) is not None:
            return reject
        if p.op == "wgrad":
            return self.reject("takes fprop and dgrad")
        if p.dtype == "f64":
            return self.reject("float64 has no wider type to transform in")
        if p.dilation != (1, 1):
            return self.reject("takes no dilation")
        if max(p.R, p.S) > _LARGEST // 2:
            return self.reject(f"takes up to {_LARGEST // 2} taps along an axis, there are {max(p.R, p.S)}")
        smallest = FftConfig(*map(_at_least, self._taps(p)))
        return self._memory(p, smallest)

    def configs(self, p: ConvProblem, device: Device) -> Sequence[FftConfig]:
        """The default, and squares around it."""
        default = self.default_config(p, device)
        sizes = (32, 64, 128, 256, 512, 1024)
        tried = [default, *(FftConfig(rows, columns) for rows in sizes for columns in (rows, 2 * rows))]
        return [cfg for cfg in dict.fromkeys(tried) if self.check_config(p, cfg, device) is None]

    def check_config(self, p: ConvProblem, cfg: FftConfig, device: Device) -> Reject | None:
        """Lengths must be quick to transform and hold the taps; spectra must fit."""
        for name, length, taps in zip(
            ("rows", "columns"), (cfg.rows, cfg.columns), self._taps(p), strict=True
        ):
            if length not in _lengths() or length < taps:
                return self.reject(
                    f"{name} must be from {taps} to {_LARGEST}, even, of factors 2, 3 and 5, got {length}"
                )
        return self._memory(p, cfg)

    def default_config(self, p: ConvProblem, device: Device) -> FftConfig:
        """The cheapest size: large ones share the overlap, small ones stay in cache."""
        return min(self._sizes(p), key=lambda cfg: _cost(p, cfg))

    def workspace_bytes(self, p: ConvProblem, cfg: FftConfig, device: Device) -> int:
        """Spectra of some groups' filters; for each thread a box and its spectra, and a direct plan's."""
        return self._engine(p, cfg, device).workspace_bytes

    def bind(self, p: ConvProblem, cfg: FftConfig, device: Device) -> Plan:
        """Cut the work once; the plan only runs it."""
        engine = self._engine(p, cfg, device)
        return Plan(p, self.name, cfg, device, engine.workspace_bytes, engine.run)

    def preference(self, p: ConvProblem, device: Device) -> int:
        """Above all others where it takes clearly fewer operations, else below, or not to be tried."""
        if p.R * p.S < _LEAST_TAPS:
            return HOPELESS
        share = _share(p, self.default_config(p, device))
        return 3 if share < _WORTH else -1 if share < 1 / _WORTH else HOPELESS

    def _memory(self, p: ConvProblem, cfg: FftConfig) -> Reject | None:
        each = (p.C // p.groups) * (p.K // p.groups) * _spectrum(cfg)
        if each > SPECTRA_LIMIT:
            return self.reject(
                f"takes filters whose spectra fit into {SPECTRA_LIMIT} bytes a group, these need {each}"
            )
        if cfg.rows * cfg.columns > _MOST_POINTS:
            return self.reject(f"takes transforms of up to {_MOST_POINTS} points")
        return None

    def _sizes(self, p: ConvProblem) -> list[FftConfig]:
        """Lengths that cut the outputs into one box, two, three, … along each axis."""
        high, wide = self._taps(p)
        found = passes(p)
        rows = self._lengths(high, max((one.rows.outputs * one.rows.stride for one in found), default=1))
        columns = self._lengths(
            wide, max((one.columns.outputs * one.columns.stride for one in found), default=1)
        )
        tried = [FftConfig(a, b) for a in rows for b in columns]
        smallest = FftConfig(_at_least(high), _at_least(wide))
        return [smallest, *(cfg for cfg in tried if self._memory(p, cfg) is None)]

    @staticmethod
    def _lengths(taps: int, outputs: int) -> list[int]:
        found = {_at_least(min(-(-outputs // boxes) + taps - 1, _LARGEST)) for boxes in range(1, 17)}
        found |= {_at_least(times * taps) for times in (2, 4, 8) if times * taps <= 512}
        return sorted(length for length in found if length >= taps)

    @staticmethod
    def _taps(p: ConvProblem) -> tuple[int, int]:
        """Most taps of any pass."""
        found = passes(p)
        if not found:
            return 1, 1
        return max(one.rows.taps for one in found), max(one.columns.taps for one in found)

    @staticmethod
    def _engine(p: ConvProblem, cfg: FftConfig, device: Device) -> SpectralSum:
        return SpectralSum(p, rows=cfg.rows, columns=cfg.columns, device=device)


def _spectrum(cfg: FftConfig) -> int:
    return cfg.rows * (cfg.columns // 2 + 1) * 16


def _cost(p: ConvProblem, cfg: FftConfig) -> float:
    """Nanoseconds of one core, about."""
    points = cfg.rows * cfg.columns
    transform = points * (0.2 * log2(points) + max(0.0, log2(points / _CACHED))) + 20_000
    inputs, outputs = p.C // p.groups, p.K // p.groups
    boxes = 0
    for one in passes(p):
        high, wide = (cfg.rows - one.rows.taps) // one.rows.stride + 1, cfg.columns - one.columns.taps
        wide = wide // one.columns.stride + 1
        boxes += -(-one.rows.outputs // high) * -(-one.columns.outputs // wide)
    each = (inputs + outputs) * 1.3 * transform + inputs * outputs * points * 0.5
    return p.groups * (p.N * boxes * each + len(passes(p)) * inputs * outputs * transform)


def _share(p: ConvProblem, cfg: FftConfig) -> float:
    """Of the time of a direct kernel, about."""
    return _cost(p, cfg) / max(p.flops / 2 / _DIRECT_RATE, 1e-9)
