"""cuDNN by its own frontend on CuPy's arrays: every plan it has for a problem, built, run and timed.

CuPy has no cuDNN any more. NVIDIA's frontend takes pointers and a stream, so it gets those of CuPy's arrays
and CuPy's current stream, and its workspaces come from CuPy's memory pool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuconv import measure
from gpuconv.backend import detect
from gpuconv.backend.device import Device
from gpuconv.layout import FROM_COMMON, TO_COMMON
from gpuconv.measure import Clock, Operands, Timing
from gpuconv.problem import ConvProblem, Shape
from gpuconv.validate.cudnn_graph import WEIGHTS, Graph, NoPlan, PlanFacts, frontend, graph, short, version

__all__ = ["Cudnn", "Graph", "NoPlan", "PlanFacts", "Prepared", "by_time"]


class Cudnn:
    """One CUDA device's cuDNN.

    Parameters
    ----------
    device : Device
        Where.

    Raises
    ------
    RuntimeError
        As `frontend`, and if CuPy or the device does not answer.
    """

    def __init__(self, device: Device) -> None:
        if device.kind != "cuda":
            raise RuntimeError(f"cuDNN runs on CUDA devices, not on {device}")
        self.device = device
        self._cudnn, self._cupy = frontend(), detect.cupy()
        self.name = f"cuDNN {version()}, frontend {self._cudnn.__version__}"
        try:
            with self._cupy.cuda.Device(device.index):
                self._handle = self._cudnn.create_handle()
        except Exception as error:  # no driver, too old a driver, no memory: each has a type of its own
            raise RuntimeError(f"cuDNN does not start on {device}: {short(error)}") from None

    def prepare(self, p: ConvProblem, given: Operands) -> Prepared:
        """Plan a problem, and bring its operands to the device.

        Parameters
        ----------
        p : ConvProblem
            What to compute.
        given : Operands
            NumPy's or CuPy's, in the problem's layouts.

        Raises
        ------
        NoPlan
            If cuDNN has none.
        MemoryError
            If there is no room.
        """
        with self._cupy.cuda.Device(self.device.index):
            planned = graph(p, handle=self._handle)
            second = p.layout if p.op == "wgrad" else p.weights
            arrays = {"a": self._put(given.a, p.layout, p), "b": self._put(given.b, second, p)}
            for name, array in (("bias", given.bias), ("residual", given.residual)):
                if name in planned.tensors:
                    arrays[name] = self._cupy.asarray(_bits(array))
            if "zeros" in planned.tensors:
                arrays["zeros"] = self._cupy.zeros(p.out_channels, arrays["a"].dtype)
            own = _own_shape(p)
            arrays["out"] = self._cupy.empty(own, arrays["a"].dtype)
        return Prepared(self, planned, arrays)

    def compute(self, p: ConvProblem, given: Operands) -> NDArray[Any]:
        """Compute a problem by the plan that cuDNN chooses; a NumPy array in the problem's layout.

        Raises
        ------
        NoPlan, MemoryError
            As `prepare`.
        """
        prepared = self.prepare(p, given)
        return prepared.computed(prepared.graph.plans[0])

    def run(self, planned: Graph, plan: PlanFacts, arrays: Mapping[str, Any]) -> None:
        """Enqueue one plan on CuPy's current stream."""
        cupy = self._cupy
        with cupy.cuda.Device(self.device.index):
            stream = cupy.cuda.get_current_stream()
            self._cudnn.set_stream(handle=self._handle, stream=stream.ptr)
            # back in the pool when this returns: whoever gets it next is later on the same stream
            workspace = cupy.cuda.alloc(max(plan.workspace_bytes, 1))
            pointers = {tensor: arrays[name].data.ptr for name, tensor in planned.tensors.items()}
            planned.graph.execute_plan_at_index(pointers, workspace.ptr, plan.index, handle=self._handle)

    def poison(self, array: Any, bits: int) -> None:
        """Fill an array of integers on CuPy's current stream."""
        with self._cupy.cuda.Device(self.device.index):
            array.fill(bits)

    def fetch(self, array: Any) -> NDArray[Any]:
        """Copy to the host; waits for the device."""
        with self._cupy.cuda.Device(self.device.index):
            found: NDArray[Any] = self._cupy.asnumpy(array)
        return found

    def _put(self, array: Any, order: str, p: ConvProblem) -> Any:
        """On the device; weights in cuDNN's order."""
        bits = self._cupy.asarray(_bits(array))
        if order in WEIGHTS:
            return bits
        own = WEIGHTS[p.layout]
        return self._cupy.ascontiguousarray(bits.transpose(TO_COMMON[order]).transpose(FROM_COMMON[own]))


@dataclass(frozen=True, slots=True)
class Prepared:
    """A planned problem with its operands on the device.

    Attributes
    ----------
    by : Cudnn
        Whose device.
    graph : Graph
        Problem and plans.
    arrays : mapping of str to array
        CuPy's, of integers: it moves those whatever it knows of bfloat16.
    """

    by: Cudnn
    graph: Graph
    arrays: Mapping[str, Any]

    def call(self, plan: PlanFacts) -> Callable[[], Any]:
        """What enqueues one plan and returns the result's array, which every plan writes to.

        What an earlier plan wrote is still there: `computed` is for results that are looked at.
        """

        def call() -> Any:
            self.by.run(self.graph, plan, self.arrays)
            return self.arrays["out"]

        return call

    def numpy(self, result: Any) -> NDArray[Any]:
        """A result as a NumPy array in the problem's layout; waits for the device."""
        p = self.graph.problem
        host = self.by.fetch(result).view(measure.numpy_dtype(p.dtype))
        if p.op != "wgrad":
            return host
        return host.transpose(TO_COMMON[WEIGHTS[p.layout]]).transpose(FROM_COMMON[p.weights])

    def computed(self, plan: PlanFacts) -> NDArray[Any]:
        """One plan's result in memory that was full of NaN; as `numpy`."""
        dtype = measure.numpy_dtype(self.graph.problem.dtype)
        nan = np.full(1, np.nan, dtype).view(f"u{dtype.itemsize}")
        self.by.poison(self.arrays["out"], int(nan[0]))
        return self.numpy(self.call(plan)())

    def results(self) -> Iterator[tuple[PlanFacts, NDArray[Any] | str]]:
        """Run every plan: its result, or why it gave none."""
        for plan in self.graph.plans:
            try:
                yield plan, self.computed(plan)
            except Exception as error:  # no memory for one says nothing of the next
                yield plan, short(error)

    def timings(
        self, *, seconds: float = 1.0, turns: int = 3, clock: Clock | None = None
    ) -> dict[PlanFacts, Timing]:
        """Time every plan beside the others, with a warm cache; see `gpuconv.measure.interleaved`."""
        calls = {str(plan.index): self.call(plan) for plan in self.graph.plans}
        found = measure.interleaved(
            calls, self.by.device, seconds=seconds, turns=turns, cold=False, clock=clock
        )
        return {plan: found[str(plan.index)] for plan in self.graph.plans}

    def fastest(self, *, seconds: float = 1.0, clock: Clock | None = None) -> PlanFacts:
        """The plan that takes least time of those that write the whole result.

        Raises
        ------
        NoPlan
            If none does.
        """
        why = "cuDNN offers none"
        for plan, timing in by_time(self.timings(seconds=seconds, clock=clock)):
            if timing.failure is not None:
                why = short(timing.failure)
                break
            if np.isfinite(self.computed(plan).astype(np.float64)).all():
                return plan
            why = f"{plan.name} leaves numbers out"
        raise NoPlan(f"no plan runs: {why}")


def by_time(times: Mapping[PlanFacts, Timing]) -> list[tuple[PlanFacts, Timing]]:
    """Plans and their times, the fastest first, those that failed last."""
    return sorted(times.items(), key=lambda item: item[1].us)


def _own_shape(p: ConvProblem) -> Shape:
    """Of the result, as cuDNN writes it."""
    if p.op != "wgrad":
        return p.operand_shapes[2]
    k, c, r, s = (p.w_shape[axis] for axis in TO_COMMON[p.weights])
    first, second, third, fourth = ((k, c, r, s)[axis] for axis in FROM_COMMON[WEIGHTS[p.layout]])
    return first, second, third, fourth


def _bits(array: Any) -> Any:
    return array.view(f"u{array.dtype.itemsize}")
