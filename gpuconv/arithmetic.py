"""What a convolution will give and cost, without computing it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gpuconv import arguments
from gpuconv.arguments import Pair
from gpuconv.layout import common_shape
from gpuconv.options import Options
from gpuconv.problem import DTYPES, Shape

_SHORT = {name: short for short, name in DTYPES.items()}


def output_shape(
    input_shape: Any,
    weight_shape: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    data_format: str = "NCHW",
    weight_format: str | None = None,
) -> Shape:
    """Shape of `conv2d`'s result.

    Parameters
    ----------
    input_shape, weight_shape : (int, int, int, int)
        Shapes of x and w, in `data_format` and `weight_format`.
    stride, padding, dilation, groups, data_format, weight_format
        As for `conv2d`.

    Returns
    -------
    (int, int, int, int)
        (N, K, P, Q) or (N, P, Q, K), P = ⌊(H + top + bottom − dilation·(R−1) − 1) / stride⌋ + 1.

    Raises
    ------
    TypeError, ValueError
        For a wrong argument.

    Notes
    -----
    The formula is that of PyTorch's ``Conv2d``; ``"same"`` is TensorFlow's.

    Examples
    --------
    >>> output_shape((1, 3, 7, 7), (2, 3, 3, 3), stride=2, padding=1, dilation=2)
    (1, 2, 3, 3)
    """
    options = Options(stride, padding, dilation, groups, data_format, weight_format)
    return options.problem("fprop", ("input_shape", input_shape), ("weight_shape", weight_shape)).y_shape


def parameter_count(weight_shape: Any, *, bias: bool = True, weight_format: str = "OIHW") -> int:
    """Trained numbers of a convolution: the elements of its filters, and one bias for each filter.

    Parameters
    ----------
    weight_shape : (int, int, int, int)
        Shape of the filters, in `weight_format`.
    bias : bool
        Whether the K biases count.
    weight_format : {"OIHW", "HWIO", "OHWI"}
        Order of the axes.

    Returns
    -------
    int

    Raises
    ------
    TypeError, ValueError
        For a wrong argument.

    Notes
    -----
    As counted for ``torch.nn.Conv2d``.

    Examples
    --------
    >>> parameter_count((5, 1, 2, 2))
    25
    """
    _, weights = arguments.layouts("NCHW", weight_format)
    K, Cg, R, S = common_shape(arguments.shape4("weight_shape", weight_shape), weights)
    if min(K, Cg, R, S) < 1:
        raise ValueError(f"weight_shape must have no empty dimension, got {tuple(weight_shape)}")
    return K * Cg * R * S + K * arguments.flag("bias", bias)


def flops(
    input_shape: Any,
    weight_shape: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    data_format: str = "NCHW",
    weight_format: str | None = None,
) -> int:
    """Floating-point operations of `conv2d`, and of each of its two large gradients.

    Parameters
    ----------
    input_shape, weight_shape, stride, padding, dilation, groups, data_format, weight_format
        As for `output_shape`.

    Returns
    -------
    int
        2·N·K·P·Q·(C/groups)·R·S: two for a multiply-add, taps on the padding counted, the epilogue not.

    Raises
    ------
    TypeError, ValueError
        For a wrong argument.

    Notes
    -----
    The convention of cuDNN's and oneDNN's benchmarks.

    Examples
    --------
    >>> flops((32, 64, 56, 56), (64, 64, 3, 3), padding=1)
    7398752256
    """
    options = Options(stride, padding, dilation, groups, data_format, weight_format)
    return options.problem("fprop", ("input_shape", input_shape), ("weight_shape", weight_shape)).flops


def min_bytes(
    input_shape: Any,
    weight_shape: Any,
    *,
    dtype: Any = "float32",
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    data_format: str = "NCHW",
    weight_format: str | None = None,
) -> int:
    """Least bytes that `conv2d` or one of its gradients moves: x, w and y touched once.

    Parameters
    ----------
    input_shape, weight_shape, stride, padding, dilation, groups, data_format, weight_format
        As for `output_shape`.
    dtype : {"float16", "bfloat16", "float32", "float64"}
        Of all three tensors.

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    TypeError, ValueError
        For a wrong argument.

    Notes
    -----
    The memory floor of the roofline model (Williams, Waterman and Patterson, 2009).

    Examples
    --------
    >>> min_bytes((32, 64, 56, 56), (64, 64, 3, 3), padding=1, dtype="float16")
    25763840
    """
    short = _SHORT[arguments.choice("dtype", dtype, DTYPES.values())]
    options = Options(stride, padding, dilation, groups, data_format, weight_format)
    return options.problem(
        "fprop", ("input_shape", input_shape), ("weight_shape", weight_shape), short
    ).min_bytes


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """What one output of a stack of layers sees of the input, vertical and horizontal.

    Attributes
    ----------
    size : (int, int)
        Cells from the first to the last one seen.
    stride : (int, int)
        Cells between what neighbouring outputs see.
    """

    size: Pair
    stride: Pair


def receptive_field(layers: Iterable[Any]) -> ReceptiveField:
    """Receptive field of a stack of convolutions.

    Parameters
    ----------
    layers : iterable of (kernel_size, stride, dilation), (kernel_size, stride) or (kernel_size,)
        From the input on; each an int or a pair (height, width). What is left out is 1.

    Returns
    -------
    ReceptiveField
        Its size in input cells and its stride.

    Raises
    ------
    TypeError, ValueError
        For a wrong layer.

    Notes
    -----
    Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill, 2019:
    each layer adds dilation·(kernel − 1) steps of the strides before it.

    Examples
    --------
    Two layers of 2×2 see all nine cells of a 3×3 image:

    >>> receptive_field([(2,), (2,)])
    ReceptiveField(size=(3, 3), stride=(1, 1))
    """
    size, step = [1, 1], [1, 1]
    if not isinstance(layers, Iterable) or isinstance(layers, str):
        raise TypeError(f"layers must be a sequence of layers, got {arguments.show(layers)}")
    for index, layer in enumerate(layers):
        if not isinstance(layer, (tuple, list)) or not 1 <= len(layer) <= 3:
            raise TypeError(
                f"layers[{index}] must be (kernel_size, stride, dilation), got {arguments.show(layer)}"
            )
        names = ("kernel_size", "stride", "dilation")
        given = [
            arguments.pair(f"layers[{index}] {name}", part) for name, part in zip(names, layer, strict=False)
        ]
        kernel, stride, dilation = given + [(1, 1)] * (3 - len(given))
        for axis in (0, 1):
            size[axis] += dilation[axis] * (kernel[axis] - 1) * step[axis]
            step[axis] *= stride[axis]
    return ReceptiveField((size[0], size[1]), (step[0], step[1]))
