"""Borders other than zeros: a few images at a time are padded and given to the kernel that is best then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Final

import numpy as np

from gpuconv.arguments import LIMIT
from gpuconv.backend.device import Device
from gpuconv.config import Config
from gpuconv.errors import Reject
from gpuconv.kernels.base import Kernel
from gpuconv.kernels.cpu import blocks, border, epilogue
from gpuconv.kernels.cpu.fft_convolution import CpuFft
from gpuconv.kernels.cpu.products import LongSum
from gpuconv.kernels.cpu.separable import CpuSeparable
from gpuconv.kernels.cpu.usual import DIRECT, best_plan
from gpuconv.layout import common_view
from gpuconv.plan import Plan
from gpuconv.problem import ITEMSIZE, ConvProblem

_INNER: Final[tuple[Kernel[Any], ...]] = (*DIRECT[:-1], CpuFft(), CpuSeparable(), DIRECT[-1])
_CHUNK: Final = 8 * 2**20


@dataclass(frozen=True)
class PaddedConfig(Config):
    """How the work is cut.

    Attributes
    ----------
    images : int
        Padded at a time.
    """

    images: int = 1


class CpuPadded(Kernel[PaddedConfig]):
    """Reflecting, replicating and circular borders."""

    name = "cpu_padded"
    config_type = PaddedConfig

    def check(self, p: ConvProblem, device: Device) -> Reject | None:
        """Takes every border but zeros, which the other kernels read without a copy."""
        if device.kind != "cpu":
            return self.reject("runs on the CPU only")
        if p.padding_mode == "zeros":
            return self.reject("takes borders other than zeros")
        for name, size, pads in (("height", p.H, p.padding[0]), ("width", p.W, p.padding[1])):
            if size + sum(pads) > LIMIT:
                return self.reject(f"takes a padded {name} of up to {LIMIT}, got {size + sum(pads)}")
        if _image_bytes(p) * max(1, p.N) >= 2**63:
            return self.reject("takes padded images that fit into 64-bit addresses")
        return None

    def configs(self, p: ConvProblem, device: Device) -> Sequence[PaddedConfig]:
        """The default, half and twice as many images, and one."""
        most = self.default_config(p, device).images
        tried = (most, most // 2, most * 2, 1)
        return [PaddedConfig(images) for images in dict.fromkeys(tried) if 1 <= images <= max(1, p.N)]

    def check_config(self, p: ConvProblem, cfg: PaddedConfig, device: Device) -> Reject | None:
        """No more images than there are."""
        if 1 <= cfg.images <= max(1, p.N):
            return None
        return self.reject(f"images must be from 1 to {max(1, p.N)}, got {cfg.images}")

    def default_config(self, p: ConvProblem, device: Device) -> PaddedConfig:
        """As many as stay in a cache, one at least."""
        return PaddedConfig(max(1, min(p.N, _CHUNK // _image_bytes(p))))

    def workspace_bytes(self, p: ConvProblem, cfg: PaddedConfig, device: Device) -> int:
        """Padded images, what the inner plan takes, and for gradients sums and converted operands."""
        return self.bind(p, cfg, device).workspace_bytes

    def bind(self, p: ConvProblem, cfg: PaddedConfig, device: Device) -> Plan:
        """One inner plan for each number of images met."""
        counts = {min(cfg.images, p.N), p.N % cfg.images} - {0}
        plans = {n: best_plan(_INNER, _inner(p, n), device) for n in counts}
        inner = max((plan.workspace_bytes for plan in plans.values()), default=0)
        scratch = inner + min(cfg.images, p.N) * _image_bytes(p) + _beside(p, min(cfg.images, p.N))
        return Plan(p, self.name, cfg, device, scratch, _Run(p, cfg.images, plans).run)


class _Run:
    """One problem, `images` at a time."""

    def __init__(self, p: ConvProblem, images: int, plans: dict[int, Plan]) -> None:
        self.p, self.images, self.plans = p, images, plans

    def run(self, a: Any, b: Any, out: Any, bias: Any, residual: Any) -> None:
        """Compute (x, w)→y, (dy, w)→dx or (x, dy)→dw."""
        with np.errstate(all="ignore"):  # NaN and overflow are results here, not accidents
            if self.p.op == "fprop":
                self._fprop(a, b, out, bias, residual)
            elif self.p.op == "dgrad":
                self._dgrad(a, b, out, bias, residual)
            else:
                self._wgrad(a, b, out)

    def _chunks(self) -> list[slice]:
        starts = range(0, self.p.N, self.images)
        return [slice(start, min(start + self.images, self.p.N)) for start in starts]

    def _plan(self, some: slice) -> Plan:
        return self.plans[some.stop - some.start]

    def _padded(self, x: Any, some: slice) -> Any:
        """A chunk of images with their borders, in the inner problem's type."""
        inner = self._plan(some).problem
        dtype = x.dtype.newbyteorder("=") if inner.dtype == self.p.dtype else blocks.accumulator(inner)
        padded = np.empty(inner.x_shape, dtype)
        layout = self.p.layout
        border.pad(self.p, common_view(x[some], layout), common_view(padded, layout))
        return padded

    def _fprop(self, x: Any, w: Any, y: Any, bias: Any, residual: Any) -> None:
        for some in self._chunks():
            beside = None if residual is None else residual[some]
            self._plan(some)(self._padded(x, some), w, y[some], bias=bias, residual=beside)

    def _dgrad(self, dy: Any, w: Any, dx: Any, bias: Any, residual: Any) -> None:
        p = self.p
        dtype = blocks.accumulator(p)
        w = w.astype(dtype, copy=False)
        bias = None if bias is None else bias.astype(dtype)[:, None, None]
        for some in self._chunks():
            plan = self._plan(some)
            padded = np.empty(plan.problem.x_shape, dtype)
            plan(dy[some].astype(dtype, copy=False), w, padded)
            sums = border.fold(p, common_view(padded, p.layout))
            beside = None if residual is None else common_view(residual[some], p.layout)
            epilogue.finish(p, sums, bias, beside)
            common_view(dx[some], p.layout)[...] = sums

    def _wgrad(self, x: Any, dy: Any, dw: Any) -> None:
        dtype, chunks = blocks.accumulator(self.p), self._chunks()
        total = np.zeros(dw.shape, dtype)
        sum_ = LongSum(total, lambda: np.empty_like(total), len(chunks))
        for some in chunks:
            part = np.empty(dw.shape, dtype)
            self._plan(some)(self._padded(x, some), dy[some].astype(dtype, copy=False), part)
            sum_.add(part)
        sum_.close()
        dw[...] = total


def _image_bytes(p: ConvProblem) -> int:
    """Of one padded image."""
    cells = (p.H + sum(p.padding[0])) * (p.W + sum(p.padding[1])) * p.C
    return cells * (ITEMSIZE[p.dtype] if p.op == "fprop" else blocks.accumulator(p).itemsize)


def _beside(p: ConvProblem, images: int) -> int:
    """Bytes that gradients take beside padded images and the inner plan."""
    if p.op == "fprop":
        return 0
    dy, w = images * p.K * p.P * p.Q, prod(p.w_shape)
    elements = dy if ITEMSIZE[p.dtype] == 2 else 0
    if p.op == "wgrad":
        elements += 3 * w
    else:
        elements += w if ITEMSIZE[p.dtype] == 2 else 0
        # one edge and some of its border, summed with their errors
        elements += 8 * (images * p.C * max(p.H + sum(p.padding[0]), p.W) + border.AT_ONCE)
    return elements * blocks.accumulator(p).itemsize


def _inner(p: ConvProblem, images: int) -> ConvProblem:
    """The problem of so many images padded already; sums that are not yet complete are not rounded."""
    padded = replace(
        p,
        N=images,
        H=p.H + sum(p.padding[0]),
        W=p.W + sum(p.padding[1]),
        padding=((0, 0), (0, 0)),
        padding_mode="zeros",
    )
    if p.op == "fprop":
        return padded
    dtype = "f64" if p.dtype == "f64" else "f32"
    return replace(padded, dtype=dtype, bias=False, residual=False, relu=False)
