"""Second opinions on a problem: what other libraries compute from the same operands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gpuconv.backend.device import Device
from gpuconv.layout import common_view
from gpuconv.measure import Operands
from gpuconv.problem import ConvProblem
from gpuconv.report import baselines
from gpuconv.report.baselines import TorchBaseline
from gpuconv.validate.cudnn import Cudnn
from gpuconv.validate.reference import PAD_MODES


class Opinion(Protocol):
    """Another library."""

    @property
    def name(self) -> str:
        """Library and version."""

    def results(self, p: ConvProblem, given: Operands) -> Iterator[tuple[str, NDArray[Any]]]:
        """Compute a problem from NumPy operands in every way asked for: what it calls each, and the result.

        Raises
        ------
        RuntimeError
            If it cannot; says why.
        MemoryError
            If there is no room.
        """


class CudnnOpinion:
    """What cuDNN computes, by the plan that it chooses, or by every plan.

    Parameters
    ----------
    by : Cudnn
        A device's.
    every : bool
        Whether all plans are run.
    """

    def __init__(self, by: Cudnn, every: bool = False) -> None:
        self._by, self._every, self.name = by, every, by.name

    def results(self, p: ConvProblem, given: Operands) -> Iterator[tuple[str, NDArray[Any]]]:
        """See `Opinion`; plans that fail are left out as long as one runs."""
        prepared = self._by.prepare(p, given)
        if not self._every:
            plan = prepared.graph.plans[0]
            yield plan.name, prepared.computed(plan)
            return
        failures = []
        for plan, found in prepared.results():
            if isinstance(found, str):
                failures.append(found)
            else:
                yield plan.name, found
        if len(failures) == len(prepared.graph.plans):
            raise RuntimeError(f"no plan runs: {failures[0]}")


class TorchOpinion:
    """What PyTorch computes; borders that it lacks are written into x, the epilogue is added in float64.

    Parameters
    ----------
    baseline : TorchBaseline
        Its calls on one device.
    wide : bool
        Whether 16-bit numbers go to it as float32: on a CPU it sums the gradients of float16 in float16.
    """

    def __init__(self, baseline: TorchBaseline, wide: bool) -> None:
        self._baseline, self._wide, self.name = baseline, wide, baseline.name

    def results(self, p: ConvProblem, given: Operands) -> Iterator[tuple[str, NDArray[Any]]]:
        """See `Opinion`."""
        fused = p.bias or p.residual or p.relu
        narrow = p.dtype in ("f16", "bf16")
        if fused and narrow and not self._wide:
            raise RuntimeError("rounds to 16 bits before the epilogue")
        if p.op == "dgrad" and p.padding_mode != "zeros":
            raise RuntimeError(f"has no gradient of a border that is {p.padding_mode}")
        bare = replace(p, bias=False, residual=False, relu=False)
        if narrow and self._wide:
            bare = replace(bare, dtype="f32")
            given = given._replace(a=given.a.astype(np.float32), b=given.b.astype(np.float32))
        bordered, operands, crop = with_border(bare, given)
        with own_kernels():
            bound = self._baseline.bind(bordered, operands)
            if bound is None:
                raise RuntimeError("has no such call")
            result = crop(bound.numpy(bound.call()))
        yield "", _finished(p, result, given) if fused else result


@contextmanager
def own_kernels() -> Iterator[None]:
    """Keep PyTorch from oneDNN, whose gradients to some 1×1 weights damage its memory.

    The process then ends by SIGSEGV when oneDNN's cache of primitives is emptied: at exit, or in the middle
    of the work where its capacity is reached (torch 2.13 on AVX-512). PyTorch's own kernels do as well.
    """
    from torch.backends import mkldnn

    before = mkldnn.set_flags(False)
    try:
        yield
    finally:
        mkldnn.set_flags(before[0])


def with_border(
    p: ConvProblem, given: Operands
) -> tuple[ConvProblem, Operands, Callable[[NDArray[Any]], NDArray[Any]]]:
    """The same without padding: its border is part of x. Also what makes the result the problem's.

    Of the gradient to the input only for zeros, whose own gradient nobody sees.
    """
    (top, bottom), (left, right) = p.padding
    bordered = replace(
        p,
        H=p.H + top + bottom,
        W=p.W + left + right,
        padding=((0, 0), (0, 0)),
        padding_mode="zeros",
    )
    if p.op == "dgrad":
        rows, columns = slice(top, top + p.H), slice(left, left + p.W)
        at = (slice(None), slice(None), rows, columns)
        if p.layout == "nhwc":
            at = (slice(None), rows, columns, slice(None))
        return bordered, given, lambda result: result[at]
    sides: dict[str, tuple[int, int]] = {"h": p.padding[0], "w": p.padding[1]}
    widths = [sides.get(axis, (0, 0)) for axis in p.layout]
    if p.N == 0:
        padded = np.zeros(bordered.x_shape, given.a.dtype)
    else:
        padded = np.pad(given.a, widths, PAD_MODES[p.padding_mode])  # type: ignore[call-overload]
    return bordered, given._replace(a=padded), lambda result: result


def _finished(p: ConvProblem, result: NDArray[Any], given: Operands) -> NDArray[Any]:
    """With the epilogue; what was rounded before it is within the bound of what sums it up."""
    found = result.astype(np.float64)
    if p.bias:
        common_view(found, p.layout)[...] += given.bias.astype(np.float64)[:, None, None]
    if p.residual:
        found = found + given.residual.astype(np.float64)
    return np.maximum(found, 0) if p.relu else found


def load(device: Device, *, every: bool = False) -> tuple[Opinion | None, list[str]]:
    """A second opinion for a device, and what to tell about it.

    On a GPU cuDNN by its frontend, else by PyTorch; on a CPU PyTorch.

    Parameters
    ----------
    device : Device
        Where.
    every : bool
        Whether all of cuDNN's plans are asked.
    """
    notes = []
    if device.kind == "cuda":
        try:
            return CudnnOpinion(Cudnn(device), every), []
        except RuntimeError as error:
            notes.append(str(error))
    if not baselines.installed("torch"):
        return None, [*notes, "no second opinion: PyTorch is not installed"]
    try:
        role: baselines.Role = "library" if device.kind == "cpu" else "cudnn"
        return TorchOpinion(TorchBaseline(device, role), device.kind == "cpu"), notes
    except Exception as error:  # its import loads CUDA's libraries and passes on whatever goes wrong in them
        return None, [*notes, f"no second opinion: PyTorch cannot be used: {error}"]
