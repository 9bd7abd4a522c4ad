"""Calls of PyTorch's door: arguments judged by PyTorch's names, then differentiable functions."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from gpuconv import arguments
from gpuconv.compat.torch_arguments import (
    SHORT,
    batch,
    channels_last,
    check_tensors,
    pair,
    tensors,
    unbatched,
)
from gpuconv.compat.torch_autograd import Maps, patches, product
from gpuconv.options import Options, TransposedOptions
from gpuconv.problem import Shape


# torch.compile runs what follows as it is: what is called in the end is no code that it can trace
@torch.compiler.disable  # type: ignore[untyped-decorator]
def convolved(
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    padding_mode: str = "zeros",
    channels: int | None = None,
) -> Any:
    """`conv2d`; a module says how many channels it has, so that a wrong number is the input's fault."""
    input, weight, bias = tensors(input, weight, bias)
    x = batch("input", input, 4)
    if channels not in (None, x.shape[1]):
        raise ValueError(f"input must have {channels} channels, got shape {tuple(input.shape)}")
    steps = pair("stride", stride)
    if isinstance(padding, str):
        sides = arguments.choice("padding", padding, ("valid", "same"))
        if sides == "same" and steps != (1, 1):
            raise ValueError(f"padding must be numbers or 'valid' for stride {steps}, got 'same'")
    else:
        sides = pair("padding", padding, 0)
    options = {
        "stride": steps,
        "padding": sides,
        "dilation": pair("dilation", dilation),
        "groups": arguments.integer("groups", groups, 1),
        "padding_mode": padding_mode,
    }
    y_shape = _y_shape(Options(**options), tuple(x.shape), tuple(weight.shape), SHORT[x.dtype])
    return _result(False, input, x, weight, bias, y_shape, options)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def transposed(
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
) -> Any:
    """`conv_transpose2d`."""
    input, weight, bias = tensors(input, weight, bias)
    x = batch("input", input, 4)
    options = {
        "stride": pair("stride", stride),
        "padding": pair("padding", padding, 0),
        "output_padding": pair("output_padding", output_padding, 0),
        "dilation": pair("dilation", dilation),
        "groups": arguments.integer("groups", groups, 1),
    }
    y_shape = _y_shape(TransposedOptions(**options), tuple(x.shape), tuple(weight.shape), SHORT[x.dtype])
    return _result(True, input, x, weight, bias, y_shape, options)


@lru_cache(maxsize=4096, typed=True)
def _y_shape(options: Options | TransposedOptions, x: Any, w: Any, dtype: str) -> Shape:
    """The output's, after every check; options and shapes seen before passed it."""
    given = ("input", x), ("weight", w), dtype
    if isinstance(options, TransposedOptions):
        return options.problem("dgrad", *given).x_shape
    return options.problem("fprop", *given).y_shape


def _result(
    transposed: bool, input: Any, x: Any, weight: Any, bias: Any, y_shape: Any, options: dict[str, Any]
) -> Any:
    if bias is not None and tuple(bias.shape) != y_shape[1:2]:
        raise ValueError(f"bias must have shape {y_shape[1:2]}, got {tuple(bias.shape)}")
    last = channels_last(x)
    maps = Maps(
        transposed,
        {"x": tuple(x.shape), "w": tuple(weight.shape), "y": y_shape},
        {"x": last, "w": channels_last(weight), "y": last},
        options,
    )
    return unbatched(input, x, product(maps, "y", {"x": x, "w": weight}, bias))


@torch.compiler.disable  # type: ignore[untyped-decorator]
def unfolded(input: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Any:
    """`unfold`."""
    check_tensors({"input": input})
    x = batch("input", input, 4)
    shapes, options = _patch_shapes("input", tuple(x.shape), kernel_size, dilation, padding, stride)
    return unbatched(input, x, patches(False, shapes, options, x))


@torch.compiler.disable  # type: ignore[untyped-decorator]
def folded(input: Any, output_size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Any:
    """`fold`."""
    check_tensors({"input": input})
    cols = batch("input", input, 3)
    size, (height, width) = pair("output_size", output_size), pair("kernel_size", kernel_size)
    images, rows, _ = cols.shape
    if rows < 1 or rows % (height * width):
        raise ValueError(
            f"input must have a multiple of the {height}·{width} cells of kernel_size as its "
            f"{'second' if input.ndim == 3 else 'first'} dimension, got shape {tuple(input.shape)}"
        )
    shape = images, rows // (height * width), *size
    shapes, options = _patch_shapes("output_size", shape, kernel_size, dilation, padding, stride)
    if shapes[1] != tuple(cols.shape):
        raise ValueError(
            f"input must have {shapes[1][2]} patches as its last dimension, got shape {tuple(input.shape)}"
        )
    return unbatched(input, cols, patches(True, shapes, options, cols))


def _patch_shapes(
    name: str, shape: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> tuple[tuple[Any, Any], dict[str, Any]]:
    """Shapes of the images and of the columns, and `gpuconv.unfold`'s options."""
    taps = pair("kernel_size", kernel_size)
    options = {
        "stride": pair("stride", stride),
        "padding": pair("padding", padding, 0),
        "dilation": pair("dilation", dilation),
    }
    channels = max(shape[1], 1)
    problem = Options(**options).problem("fprop", (name, shape), ("kernel_size", (1, channels, *taps)))
    cols = shape[0], shape[1] * taps[0] * taps[1], problem.P * problem.Q
    return (shape, cols), {"kernel_size": taps, **options}
