"""``torch.nn.functional``'s convolutions and ``torch.nn.Conv2d``, computed by gpuconv.

Tensors go in and out without copies, on their device and its current stream; gradients of any order are
convolutions again. Float32 is never rounded to TF32, whatever ``torch.backends`` says; results are the same
bits each time, and within `gpuconv`'s error bound. Needs PyTorch, which nothing else of gpuconv imports.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

try:
    import torch
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ModuleNotFoundError("gpuconv.compat.torch needs PyTorch: pip install torch", name="torch") from None

from torch.nn.utils import parametrize

from gpuconv.arguments import show
from gpuconv.compat.torch_arguments import SHORT
from gpuconv.compat.torch_calls import convolved, folded, transposed, unfolded
from gpuconv.problem import DTYPES

# one node each in what torch.fx traces: their insides ask for shapes and dtypes, which it does not know
for _name in ("convolved", "transposed", "unfolded", "folded"):
    torch.fx.wrap(_name)


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
    return convolved(input, weight, bias, stride, padding, dilation, groups)


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
    return transposed(input, weight, bias, stride, padding, output_padding, groups, dilation)


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
    return unfolded(input, kernel_size, dilation, padding, stride)


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
    return folded(input, output_size, kernel_size, dilation, padding, stride)


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

    @wraps(torch.nn.Conv2d.__init__)  # type: ignore[misc]
    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        if self.weight.dtype not in SHORT:
            allowed = ", ".join(f"torch.{dtype}" for dtype in DTYPES.values())
            raise TypeError(f"dtype must be {allowed}, got {self.weight.dtype}")

    def _conv_forward(self, input: Any, weight: Any, bias: Any) -> Any:
        options = self.stride, self.padding, self.dilation, self.groups, self.padding_mode
        return convolved(input, weight, bias, *options, self.in_channels)


def replace(model: Any) -> Any:
    """Make every ``torch.nn.Conv2d`` in a model, and the model if it is one, a `Conv2d`.

    Parameters
    ----------
    model : torch.nn.Module
        Changed in place: the modules stay the same objects, with their parameters, parametrisations, hooks
        and modes. Left alone are classes derived from ``torch.nn.Conv2d``, since they may compute something
        else, complex convolutions, and a ``LazyConv2d`` before its first call.

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
            kind = Conv2d
        elif parametrize.is_parametrized(module) and type(module).__bases__ == (torch.nn.Conv2d,):
            # PyTorch makes a class of this kind for a module, with what it parametrises as properties
            kind = type(type(module).__name__, (Conv2d,), dict(vars(type(module))))
        else:
            continue
        # not by `weight`: to read what is parametrised may change it
        if all(parameter.dtype in SHORT for parameter in module.parameters()):
            module.__class__ = kind
    return model
