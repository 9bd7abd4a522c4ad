"""The arguments that every direction of a convolution shares, and the problem they describe."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

from gpuconv import arguments
from gpuconv.layout import common_shape
from gpuconv.problem import DTYPES, ITEMSIZE, ConvProblem, Op, Shape


class Options(NamedTuple):
    """As the caller wrote them; `problem` judges them."""

    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: Any = 1
    data_format: Any = "NCHW"
    weight_format: Any = None
    precision: Any = "ieee"

    def problem(
        self,
        op: Op,
        x: tuple[str, Any],
        w: tuple[str, Any],
        dtype: str = "f32",
        *,
        bias: bool = False,
        residual: bool = False,
        activation: Any = None,
    ) -> ConvProblem:
        """Check every option against the shapes of x and w.

        Parameters
        ----------
        op : {"fprop", "dgrad", "wgrad"}
        x, w : (str, shape)
            What the caller calls the forward input and filters, and their shapes.
        dtype : str
            Short name.
        bias, residual, activation
            What is fused.

        Raises
        ------
        TypeError, ValueError
            Naming the argument, its value and what is allowed.
        """
        layout, weights = arguments.layouts(self.data_format, self.weight_format)
        stride = arguments.pair("stride", self.stride)
        dilation = arguments.pair("dilation", self.dilation)
        groups = arguments.integer("groups", self.groups, 1)
        precision = arguments.choice("precision", self.precision, arguments.PRECISIONS)
        if precision.startswith("tf32") and dtype != "f32":
            raise ValueError(f"precision must be 'ieee' or 'relaxed' for {DTYPES[dtype]}, got {precision!r}")
        relu = arguments.choice("activation", activation, (None, "relu")) == "relu"
        N, C, H, W = _sizes(*x, layout)
        K, Cg, R, S = _sizes(*w, weights)
        if min(C, H, W) < 1:
            raise ValueError(f"{x[0]} must have no empty dimension but the batch, got shape {tuple(x[1])}")
        if min(K, Cg, R, S) < 1:
            raise ValueError(f"{w[0]} must have no empty dimension, got shape {tuple(w[1])}")
        for name, shape in (x, w):
            if prod(shape) * ITEMSIZE[dtype] >= 2**63:
                raise ValueError(f"{name} must fit into 64-bit addresses, got shape {tuple(shape)}")
        for channels, what in ((C, f"channels of {x[0]}"), (K, f"filters of {w[0]}")):
            if channels % groups:
                raise ValueError(f"groups must divide the {channels} {what}, got {groups}")
        if Cg * groups != C:
            raise ValueError(
                f"{w[0]} must have {C}/{groups} = {C // groups} input channels in axis {weights.index('i')} "
                f"({weights.upper()}) for the {C} channels of {x[0]}, got {Cg} in shape {tuple(w[1])}"
            )
        padding = arguments.padding(
            self.padding, size=(H, W), kernel_size=(R, S), stride=stride, dilation=dilation
        )
        axes = zip(("height", "width"), (H, W), (R, S), dilation, padding, strict=True)
        for axis, size, taps, step, pads in axes:
            span = step * (taps - 1) + 1
            if span > size + sum(pads):
                raise ValueError(
                    f"{w[0]} must fit into the padded input: its {axis} of {taps} spans {span} at dilation "
                    f"{step}, the input has {size} and padding {pads[0]}+{pads[1]}"
                )
        return ConvProblem(
            op=op, N=N, C=C, H=H, W=W, K=K, R=R, S=S,
            stride=stride, padding=padding, dilation=dilation, groups=groups,
            layout=layout, weights=weights, dtype=dtype, precision=precision,
            bias=bias, residual=residual, relu=relu,
        )  # fmt: skip


def _sizes(name: str, shape: Any, order: str) -> Shape:
    if isinstance(shape, (tuple, list)) and len(shape) != 4:
        raise ValueError(
            f"{name} must have four dimensions ({', '.join(order.upper())}), got shape {tuple(shape)}"
        )
    return common_shape(arguments.shape4(name, shape), order)
