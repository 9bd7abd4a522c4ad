"""``torch.nn.functional``'s convolutions and ``torch.nn.Conv2d``, computed by gpuconv.

Tensors go in and out without copies, on their device and its current stream; gradients of any order are
convolutions again. Float32 is never rounded to TF32, whatever ``torch.backends`` says; results are the same
bits each time, and within `gpuconv`'s error bound. Needs PyTorch, which nothing else of gpuconv imports.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

try:
    import torch
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ModuleNotFoundError("gpuconv.compat.torch needs PyTorch: pip install torch", name="torch") from None

from gpuconv import arguments
from gpuconv.arguments import show
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


def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """Convolve as ``torch.nn.functional.conv2d`` does.

    Parameters
    ----------
    input : Tensor (N, C, H, W) or (C, H, W)
        float16, bfloat16, float32 or float64, on the CPU or a CUDA device. One that is channels-last
        in memory is computed so, and so are the result and the gradients to both.
    weight : Tensor (K, C/groups, R, S)
        Filters, of input's dtype and device.
    bias : Tensor (K,), optional
        Added to every pixel of an output channel, before rounding.
    stride, dilation : int, (int,) or (int, int)
        Cells between windows, and between taps.
    padding : int, (int,), (int, int), "valid" or "same"
        Zeros around the input; ``"same"`` goes with stride 1 only.
    groups : int
        Divides C and K.

    Returns
    -------
    Tensor (N, K, P, Q) or (K, P, Q)

    Raises
    ------
    TypeError, ValueError
        For a wrong argument, by its name here, before anything is computed.
    UnsupportedProblem, RuntimeError, gpuconv.errors.LaunchError
        As for `gpuconv.conv2d`.

    Notes
    -----
    Under ``torch.autocast`` it casts its arguments as PyTorch's own does.

    Examples
    --------
    >>> import torch
    >>> from gpuconv.compat.torch import conv2d
    >>> x = torch.arange(9.0).reshape(1, 3, 3).requires_grad_()
    >>> y = conv2d(x, torch.arange(4.0).reshape(1, 1, 2, 2))
    >>> y.sum().backward()
    >>> x.grad
    tensor([[[0., 1., 1.],
             [2., 6., 4.],
             [2., 5., 3.]]])
    """
    return _convolved(input, weight, bias, stride, padding, dilation, groups)


def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """Transpose of `conv2d`, as ``torch.nn.functional.conv_transpose2d`` has it.

    Parameters
    ----------
    input : Tensor (N, K, H, W) or (K, H, W)
        As for `conv2d`.
    weight : Tensor (K, C/groups, R, S)
        Filters.
    bias : Tensor (C,), optional
        Added to every pixel of an output channel.
    stride, padding, output_padding, dilation : int, (int,) or (int, int)
        As for `gpuconv.conv_transpose2d`.
    groups : int
        Divides K and C.

    Returns
    -------
    Tensor (N, C, P, Q) or (C, P, Q)

    Raises
    ------
    TypeError, ValueError, UnsupportedProblem, RuntimeError, gpuconv.errors.LaunchError
        As for `conv2d`.

    Examples
    --------
    >>> import torch
    >>> from gpuconv.compat.torch import conv_transpose2d
    >>> conv_transpose2d(torch.ones(1, 1, 1, 1), torch.arange(4.0).reshape(1, 1, 2, 2))
    tensor([[[[0., 1.],
              [2., 3.]]]])
    """
    return _transposed(input, weight, bias, stride, padding, output_padding, groups, dilation)


def unfold(input: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """Lay out patches, as ``torch.nn.functional.unfold`` does.

    Parameters
    ----------
    input : Tensor (N, C, H, W) or (C, H, W)
        As for `conv2d`.
    kernel_size, dilation, padding, stride : int, (int,) or (int, int)
        In PyTorch's order.

    Returns
    -------
    Tensor (N, C·R·S, P·Q) or (C·R·S, P·Q)

    Raises
    ------
    TypeError, ValueError, UnsupportedProblem, RuntimeError, gpuconv.errors.LaunchError
        As for `conv2d`.

    Examples
    --------
    >>> import torch
    >>> from gpuconv.compat.torch import unfold
    >>> unfold(torch.arange(6.0).reshape(1, 2, 3), 2)
    tensor([[0., 1.],
            [1., 2.],
            [3., 4.],
            [4., 5.]])
    """
    return _unfolded(input, kernel_size, dilation, padding, stride)


def fold(
    input: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Any:
    """Sum patches back into images, as ``torch.nn.functional.fold`` does.

    Parameters
    ----------
    input : Tensor (N, C·R·S, P·Q) or (C·R·S, P·Q)
        As `unfold` gives it for images of this size.
    output_size : int, (int,) or (int, int)
        H and W.
    kernel_size, dilation, padding, stride
        As for `unfold`.

    Returns
    -------
    Tensor (N, C, H, W) or (C, H, W)

    Raises
    ------
    TypeError, ValueError, UnsupportedProblem, RuntimeError, gpuconv.errors.LaunchError
        As for `conv2d`.

    Examples
    --------
    >>> import torch
    >>> from gpuconv.compat.torch import fold
    >>> fold(torch.ones(4, 2), (2, 3), 2)
    tensor([[[1., 2., 1.],
             [1., 2., 1.]]])
    """
    return _folded(input, output_size, kernel_size, dilation, padding, stride)


class Conv2d(torch.nn.Conv2d):  # type: ignore[misc]
    """``torch.nn.Conv2d``, all of it, with gpuconv's convolution inside; see `replace`.

    Parameters, their names in a state dict, their initial distribution and every argument are PyTorch's.

    Examples
    --------
    >>> import torch
    >>> from gpuconv.compat.torch import Conv2d
    >>> Conv2d(3, 8, 3, padding="same", padding_mode="reflect")(torch.zeros(2, 3, 9, 9)).shape
    torch.Size([2, 8, 9, 9])
    """

    def _conv_forward(self, input: Any, weight: Any, bias: Any) -> Any:
        return _convolved(
            input, weight, bias, self.stride, self.padding, self.dilation, self.groups, self.padding_mode
        )


def replace(model: Any) -> Any:
    """Make every ``torch.nn.Conv2d`` in a model, and the model if it is one, a `Conv2d`.

    Parameters
    ----------
    model : torch.nn.Module
        Changed in place: the modules stay the same objects, with their parameters, hooks and modes. Classes
        derived from ``torch.nn.Conv2d`` are left alone, since they may compute something else.

    Returns
    -------
    torch.nn.Module
        The model.

    Raises
    ------
    TypeError
        If it is no module.

    Examples
    --------
    >>> import torch
    >>> from gpuconv.compat.torch import replace
    >>> model = replace(torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU()))
    >>> type(model[0]).__module__
    'gpuconv.compat.torch'
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {show(model)}")
    for module in model.modules():
        if type(module) is torch.nn.Conv2d:
            module.__class__ = Conv2d
    return model


# torch.compile runs what follows as it is: what is called in the end is no code that it can trace
@torch.compiler.disable  # type: ignore[untyped-decorator]
def _convolved(
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    padding_mode: str = "zeros",
) -> Any:
    input, weight, bias = tensors(input, weight, bias)
    x = batch("input", input, 4)
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
def _transposed(
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
) -> Any:
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
def _unfolded(input: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Any:
    check_tensors({"input": input})
    x = batch("input", input, 4)
    shapes, options = _patch_shapes("input", tuple(x.shape), kernel_size, dilation, padding, stride)
    return unbatched(input, x, patches(False, shapes, options, x))


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _folded(input: Any, output_size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Any:
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
