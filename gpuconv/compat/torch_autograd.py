"""Convolutions of tensors as differentiable functions: gradients are convolutions too, to any order.

A convolution is three maps between x, filters w and output y, linear in each of two arguments: y from x and
w, x from w and y, w from x and y. The gradient of any of them is the other two, and so is theirs.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import torch

import gpuconv
from gpuconv.backend import arrays
from gpuconv.compat.torch_arguments import SHORT
from gpuconv.measure import numpy_dtype

_OPERANDS: Final = {"y": ("x", "w"), "x": ("w", "y"), "w": ("x", "y")}
#: What computes a convolution, and a transposed one.
_CONVOLUTION: Final = {
    "y": gpuconv.conv2d,
    "x": gpuconv.conv2d_input_grad,
    "w": gpuconv.conv2d_weight_grad,
}
_TRANSPOSED: Final = {
    "y": gpuconv.conv_transpose2d,
    "x": gpuconv.conv_transpose2d_input_grad,
    "w": gpuconv.conv_transpose2d_weight_grad,
}


@dataclass(frozen=True, slots=True)
class Maps:
    """The three maps of one convolution, or of a transposed one.

    Attributes
    ----------
    transposed : bool
    shapes : dict of str to tuple
        Of x, w and y, in PyTorch's order.
    channels_last : dict of str to bool
        Whether each lies in memory with its channels last; results are made so, as whole tensors: what
        an ``autograd.Function`` returns may not be a view, or nothing may change it in place.
    options : dict
        The options of `gpuconv`'s functions.
    """

    transposed: bool
    shapes: dict[str, tuple[int, ...]]
    channels_last: dict[str, bool]
    options: dict[str, Any]

    def compute(self, name: str, a: Any, b: Any, bias: Any = None) -> Any:
        """The result of this name from the two others, in their order in `_OPERANDS`."""
        given = {key: self._view(key, tensor) for key, tensor in zip(_OPERANDS[name], (a, b), strict=True)}
        options = {
            **self.options,
            "data_format": "NHWC" if self.channels_last["y"] else "NCHW",
            "weight_format": "OHWI" if self.channels_last["w"] else "OIHW",
        }
        result = self._empty(name, a)
        array = self._view(name, result)
        functions: dict[str, Any] = _TRANSPOSED if self.transposed else _CONVOLUTION
        with _current_stream(a):
            if name == "y":
                options["bias"] = None if bias is None else to_array(bias)
                functions[name](given["x"], given["w"], out=array, **options)
            elif name == "w":
                shape = self._stored("w", self.shapes["w"])
                functions[name](given["x"], shape, given["y"], out=array, **options)
            elif self.transposed:
                functions[name](given["w"], given["y"], out=array, **options)
            else:
                shape = self._stored("x", self.shapes["x"])
                functions[name](shape, given["w"], given["y"], out=array, **options)
        return result

    def sums(self, y: Any) -> Any:
        """The gradient to the bias from that to y."""
        result = torch.empty(y.shape[1:2], dtype=y.dtype, device=y.device)
        with _current_stream(y):
            layout = "NHWC" if self.channels_last["y"] else "NCHW"
            found = gpuconv.conv2d_bias_grad(self._view("y", y), data_format=layout)
            return result.copy_(_to_tensor(found, y.dtype))

    def _empty(self, name: str, like: Any) -> Any:
        order = torch.channels_last if self.channels_last[name] else torch.contiguous_format
        return torch.empty(self.shapes[name], dtype=like.dtype, device=like.device, memory_format=order)

    def _stored(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        first, channels, height, width = shape
        return (first, height, width, channels) if self.channels_last[name] else shape

    def _view(self, name: str, tensor: Any) -> Any:
        return to_array(tensor.permute(0, 2, 3, 1) if self.channels_last[name] else tensor)


class _Product(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(maps: Maps, name: str, a: Any, b: Any, bias: Any) -> Any:
        return maps.compute(name, a, b, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.maps, ctx.name, a, b, _ = inputs
        needs_a, needs_b = ctx.needs_input_grad[2:4]
        ctx.save_for_backward(a if needs_b else None, b if needs_a else None)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        first, second = _OPERANDS[ctx.name]
        known = {ctx.name: grad, **dict(zip((first, second), ctx.saved_tensors, strict=True))}
        needs_a, needs_b, needs_bias = ctx.needs_input_grad[2:]
        return (
            None,
            None,
            product(ctx.maps, first, known) if needs_a else None,
            product(ctx.maps, second, known) if needs_b else None,
            _Sums.apply(ctx.maps, grad) if needs_bias else None,
        )


class _Sums(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(maps: Maps, y: Any) -> Any:
        return maps.sums(y)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.shape = inputs[1].shape

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        # cloned, since what is expanded cannot be changed in place
        expanded = grad[None, :, None, None].expand(ctx.shape)
        return None, expanded.clone(memory_format=torch.contiguous_format)


class _Patches(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(folds: bool, shapes: Any, options: dict[str, Any], tensor: Any) -> Any:
        result = torch.empty(shapes[0 if folds else 1], dtype=tensor.dtype, device=tensor.device)
        array = to_array(result)
        with _current_stream(tensor):
            if folds:
                gpuconv.fold(to_array(tensor), shapes[0], out=array, **options)
            else:
                gpuconv.unfold(to_array(tensor), out=array, **options)
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.folds, ctx.shapes, ctx.options, _ = inputs

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return None, None, None, patches(not ctx.folds, ctx.shapes, ctx.options, grad)


def product(maps: Maps, name: str, known: dict[str, Any], bias: Any = None) -> Any:
    """The map that gives this result, differentiably."""
    first, second = _OPERANDS[name]
    return _Product.apply(maps, name, known[first], known[second], bias)


def patches(folds: bool, shapes: Any, options: dict[str, Any], tensor: Any) -> Any:
    """Unfold images of shape `shapes[0]` into columns of shape `shapes[1]`, or fold these, differentiably."""
    return _Patches.apply(folds, shapes, options, tensor)


def to_array(tensor: Any) -> Any:
    """What `gpuconv`'s functions take, on the tensor's memory: they read CUDA tensors themselves."""
    plain = tensor.detach().resolve_neg()
    if plain.device.type != "cpu":
        return plain
    # Tensor.numpy() would forbid resizing the tensor, DLPack without a version writing to the array
    size = plain.element_size()
    interface = {
        "version": 3,
        "shape": tuple(plain.shape),
        "strides": tuple(size * step for step in plain.stride()),
        "typestr": np.dtype(f"i{size}").str,
        "data": (plain.data_ptr(), False),
    }
    bits = np.asarray(SimpleNamespace(__array_interface__=interface, owner=plain))
    return bits.view(numpy_dtype(SHORT[plain.dtype]))


def _to_tensor(array: Any, dtype: Any) -> Any:
    """A result as a tensor on its memory."""
    if dtype == torch.bfloat16:
        return torch.from_dlpack(array.view(np.int16)).view(dtype)
    return torch.from_dlpack(array)


def _current_stream(tensor: Any) -> ExitStack:
    """Where a tensor's own operations would run, as CuPy's current stream."""
    stack = ExitStack()
    if tensor.device.type != "cpu":
        arrays.launcher()  # says what is missing, if something is
        from cupy import cuda

        stack.enter_context(cuda.Device(tensor.device.index))
        stack.enter_context(cuda.Stream.from_external(torch.cuda.current_stream(tensor.device)))
    return stack
