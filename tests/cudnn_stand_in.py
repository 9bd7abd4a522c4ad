"""NVIDIA's frontend and CuPy without a device: graphs are computed by the float64 oracle, from pointers."""

from __future__ import annotations

import contextlib
import ctypes
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from ml_dtypes import bfloat16

from gpuconv.problem import ConvProblem
from gpuconv.validate import reference

TYPES = {"HALF": np.float16, "BFLOAT16": bfloat16, "FLOAT": np.float32, "DOUBLE": np.float64}
NAMES = {np.float16: "f16", bfloat16: "bf16", np.float32: "f32", np.float64: "f64"}
#: Name, workspace, and what it does that may be deselected.
PLANS = (("tensor", 64, "TENSOR_CORE"), ("plain", 0, ""), ("plain", 0, ""), ("large", 1 << 20, ""))


class NotSupported(RuntimeError):
    """The frontend's own."""


class Tensor:
    """A place in memory, or what is computed."""

    def __init__(self, dim: Any = None, stride: Any = None, compute: Any = None) -> None:
        self.dim, self.stride, self.compute = dim, stride, compute
        self.dtype: Any = None

    def set_output(self, value: bool) -> Tensor:
        assert value
        return self

    def set_data_type(self, dtype: Any) -> Tensor:
        self.dtype = dtype
        return self

    def set_dim(self, dim: Any) -> Tensor:
        self.dim = dim
        return self

    def set_stride(self, stride: Any) -> Tensor:
        self.stride = stride
        return self

    def at(self, pointer: int, dtype: Any) -> Any:
        """View the memory; axes are N, C, H, W whatever the strides."""
        size = np.dtype(dtype).itemsize
        reach = 1 + sum((n - 1) * step for n, step in zip(self.dim, self.stride, strict=True))
        memory = (ctypes.c_char * (reach * size)).from_address(pointer)
        return np.ndarray(self.dim, dtype, memory, strides=[step * size for step in self.stride])


class Graph:
    """``cudnn.pygraph``."""

    def __init__(
        self, *, io_data_type: Any, intermediate_data_type: Any, compute_data_type: Any, **where: Any
    ):
        self.dtype, self.accumulator = io_data_type, (intermediate_data_type, compute_data_type)
        self.where, self.out, self.deselected = where, Tensor(), ()
        self.ran: list[tuple[int, int]] = []
        self.planned = False

    def tensor(self, *, name: str, dim: Any, stride: Any, data_type: Any) -> Tensor:
        assert data_type is self.dtype
        return Tensor(dim, stride)

    def _conv(self, op: Any, first: Tensor, second: Tensor, **geometry: Any) -> Tensor:
        self.out = Tensor()
        self.out.compute = lambda values: self._convolved(op, first, second, geometry, values)
        return self.out

    def conv_fprop(self, *, image: Tensor, weight: Tensor, **geometry: Any) -> Tensor:
        return self._conv("fprop", image, weight, **geometry)

    def conv_dgrad(self, *, loss: Tensor, filter: Tensor, **geometry: Any) -> Tensor:
        return self._conv("dgrad", loss, filter, **geometry)

    def conv_wgrad(self, *, image: Tensor, loss: Tensor, **geometry: Any) -> Tensor:
        return self._conv("wgrad", image, loss, **geometry)

    def _convolved(self, op: Any, first: Tensor, second: Tensor, geometry: Any, values: Any) -> Any:
        dims = {"fprop": (first, second), "dgrad": (self.out, second), "wgrad": (first, self.out)}[op]
        (n, c, h, w), (k, cg, r, s) = dims[0].dim, dims[1].dim
        (top, left), (bottom, right) = geometry["pre_padding"], geometry["post_padding"]
        p = ConvProblem(
            op, n, c, h, w, k, r, s, stride=tuple(geometry["stride"]), dilation=tuple(geometry["dilation"]),
            padding=((top, bottom), (left, right)), groups=c // cg, dtype=NAMES[self.dtype],
        )  # fmt: skip
        return reference.evaluate(p, values[first], values[second])

    def _after(self, source: Tensor, compute: Any) -> Tensor:
        return Tensor(source.dim, source.stride, compute)

    def add(self, *, a: Tensor, b: Tensor) -> Tensor:
        return self._after(a, lambda values: a.compute(values) + values[b].astype(float))

    def bias(self, *, input: Tensor, bias: Tensor) -> Tensor:
        assert bias.dim[1] == input.dim[1]
        return self._after(input, lambda values: input.compute(values) + values[bias].astype(float))

    def relu(self, *, input: Tensor) -> Tensor:
        return self._after(input, lambda values: np.maximum(input.compute(values), 0))

    def validate(self) -> None:
        pass

    def build_operation_graph(self) -> None:
        pass

    def create_execution_plans(self, modes: Any) -> None:
        self.planned, self.modes = True, modes

    def deselect_numeric_notes(self, notes: Any) -> None:
        self.deselected = tuple(notes)

    def check_support(self) -> None:
        assert self.planned

    def get_execution_plan_count(self) -> int:
        return len(PLANS)

    def build_plan_at_index(self, index: int) -> None:
        if PLANS[index][2] in self.deselected:
            raise NotSupported("Deselecting execution plan\nand pages of more")

    def get_plan_name_at_index(self, index: int) -> str:
        return PLANS[index][0]

    def get_workspace_size_plan_at_index(self, index: int) -> int:
        return PLANS[index][1]

    def execute_plan_at_index(self, pack: Any, workspace: int, index: int, *, handle: Any) -> None:
        assert handle == "a handle"
        assert handle == self.where["handle"]
        self.ran.append((index, workspace))
        (out,) = (tensor for tensor in pack if tensor.compute is not None)
        values = {tensor: tensor.at(pack[tensor], self.dtype) for tensor in pack if tensor is not out}
        # what has no type of its own has the intermediate one, and is too wide for its memory
        assert out.dtype is self.dtype, f"the result is {out.dtype}, its memory {self.dtype}"
        out.at(pack[out], out.dtype)[...] = out.compute(values).astype(out.dtype)


class Array(np.ndarray):
    """CuPy's: its memory is the host's."""

    @property
    def data(self) -> Any:  # type: ignore[override]
        return SimpleNamespace(ptr=self.__array_interface__["data"][0])


def frontend(**changes: Any) -> ModuleType:
    """The module ``cudnn``."""
    module: Any = ModuleType("cudnn")
    module.__version__ = "1.28.0"
    module.backend_version = lambda: 91901
    module.pygraph = Graph
    module.data_type = SimpleNamespace(**TYPES)
    notes = ("TENSOR_CORE", "DOWN_CONVERT_INPUTS", "REDUCED_PRECISION_REDUCTION", "WINOGRAD", "FFT")
    module.numerical_note = SimpleNamespace(**{name: name for name in notes})
    module.heur_mode = SimpleNamespace(A="A", B="B", FALLBACK="FALLBACK")
    module.create_handle = lambda: "a handle"
    module.streams = []
    module.set_stream = lambda *, handle, stream: module.streams.append(stream)
    module.create_device_properties = lambda text: text
    for name, value in changes.items():
        setattr(module, name, value)
    return module


def cupy() -> ModuleType:
    """The module ``cupy``."""
    module: Any = ModuleType("cupy")

    def own(array: Any) -> Any:
        return np.asarray(array).view(Array)

    module.allocated = []

    def alloc(size: int) -> Any:
        module.allocated.append(size)
        return SimpleNamespace(ptr=4096 + len(module.allocated))

    module.asarray = own
    module.ascontiguousarray = lambda array: own(np.ascontiguousarray(array))
    module.empty = lambda shape, dtype: own(np.full(shape, 0xFF, dtype))
    module.zeros = lambda shape, dtype: own(np.zeros(shape, dtype))
    module.asnumpy = lambda array: np.array(array, copy=True).view(np.ndarray)
    module.cuda = SimpleNamespace(
        Device=lambda index: contextlib.nullcontext(),
        get_current_stream=lambda: SimpleNamespace(ptr=77),
        alloc=alloc,
    )
    return module
