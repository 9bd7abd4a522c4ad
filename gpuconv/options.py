"""The arguments that every direction of a convolution shares, and the problem they describe."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

from gpuconv import arguments
from gpuconv.arguments import LIMIT, Padding, Pair, show
from gpuconv.layout import common_shape, ordered_shape
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
    padding_mode: Any = "zeros"

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
        padding_mode = arguments.choice("padding_mode", self.padding_mode, arguments.PADDING_MODES)
        if precision.startswith("tf32") and dtype != "f32":
            raise ValueError(f"precision must be 'ieee' or 'relaxed' for {DTYPES[dtype]}, got {precision!r}")
        relu = arguments.choice("activation", activation, (None, "relu")) == "relu"
        N, C, H, W = _sizes(*x, layout)
        K, Cg, R, S = _sizes(*w, weights)
        _check_full(x, (C, H, W), " but the batch")
        _check_full(w, (K, Cg, R, S))
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
        arguments.check_border("padding", self.padding, padding_mode, padding, (H, W))
        return ConvProblem(
            op=op, N=N, C=C, H=H, W=W, K=K, R=R, S=S,
            stride=stride, padding=padding, dilation=dilation, groups=groups,
            layout=layout, weights=weights, dtype=dtype, precision=precision,
            padding_mode=padding_mode, bias=bias, residual=residual, relu=relu,
        )  # fmt: skip


class TransposedOptions(NamedTuple):
    """The same for a transposed convolution, whose input is the output of the convolution described.

    Where `output_padding` reaches the stride, as a larger dilation allows, that convolution has more outputs
    than the transposed one has inputs; those that are missing count as zeros.
    """

    stride: Any = 1
    padding: Any = 0
    output_padding: Any = 0
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
        """Check every option against the shapes of x and w; the result's shape is the problem's `x_shape`.

        Parameters
        ----------
        op : {"dgrad", "fprop", "wgrad"}
            The transposed convolution, the gradient to its input, the gradient to its filters.
        x, w : (str, shape)
            What the caller calls the transposed convolution's input and filters, and their shapes.
        dtype, bias, residual, activation
            As for `Options.problem`.

        Raises
        ------
        TypeError, ValueError
            Naming the argument, its value and what is allowed.
        """
        layout, weights = arguments.layouts(self.data_format, self.weight_format)
        stride, dilation, padding, extra = self._steps()
        groups = arguments.integer("groups", self.groups, 1)
        (N, K, H, W), (filters, Cg, R, S) = _sizes(*x, layout), _sizes(*w, weights)
        _check_full(x, (K, H, W), " but the batch")
        _check_full(w, (filters, Cg, R, S))
        if filters != K:
            raise ValueError(
                f"{w[0]} must have {K} filters in axis {weights.index('o')} ({weights.upper()}), one for "
                f"each channel of {x[0]}, got {filters} in shape {tuple(w[1])}"
            )
        if K % groups:
            raise ValueError(f"groups must divide the {K} filters of {w[0]}, got {groups}")
        sizes = []
        axes = zip(("height", "width"), (H, W), (R, S), stride, dilation, padding, extra, strict=True)
        for axis, size, taps, step, apart, (before, after), more in axes:
            out = (size - 1) * step - before - after + apart * (taps - 1) + more + 1
            if out < 1:
                raise ValueError(
                    f"padding must leave an output of at least one cell, got {show(self.padding)}: "
                    f"its {axis} would be {out}"
                )
            if out > LIMIT:
                raise ValueError(f"{x[0]} must give an output {axis} of at most {LIMIT}, got {out}")
            sizes.append(out)
        y_shape = ordered_shape((N, Cg * groups, sizes[0], sizes[1]), layout)
        if prod(y_shape) * ITEMSIZE[dtype] >= 2**63:
            raise ValueError(f"{x[0]} must give an output that fits into 64-bit addresses, got {y_shape}")
        forward = Options(
            stride, padding, dilation, groups, self.data_format, self.weight_format, self.precision
        )
        return forward.problem(
            op, ("output", y_shape), w, dtype, bias=bias, residual=residual, activation=activation
        )

    def input_shape(self, grad_out: tuple[str, Any], w: tuple[str, Any]) -> Shape:
        """Shape of the input that gives an output of grad_out's shape.

        Raises
        ------
        TypeError, ValueError
            Naming the argument, if there is none.
        """
        layout, weights = arguments.layouts(self.data_format, self.weight_format)
        stride, dilation, padding, extra = self._steps()
        groups = arguments.integer("groups", self.groups, 1)
        (N, C, *out), (K, Cg, *taps) = _sizes(*grad_out, layout), _sizes(*w, weights)
        _check_full(grad_out, (C, *out), " but the batch")
        _check_full(w, (K, Cg, *taps))
        if Cg * groups != C:
            raise ValueError(
                f"{grad_out[0]} must have {Cg}·{groups} = {Cg * groups} channels for {w[0]} of shape "
                f"{tuple(w[1])} in {groups} groups, got {C} in shape {tuple(grad_out[1])}"
            )
        found = []
        axes = zip(("height", "width"), out, taps, stride, dilation, padding, extra, strict=True)
        for axis, size, count, step, apart, pads, more in axes:
            least = apart * (count - 1) + more + 1 - sum(pads)
            if size < least or (size - least) % step:
                raise ValueError(
                    f"{grad_out[0]} must have the {axis} of the output: {least} plus a multiple of the "
                    f"stride {step}, got {size} in shape {tuple(grad_out[1])}"
                )
            found.append((size - least) // step + 1)
        return ordered_shape((N, K, found[0], found[1]), layout)

    def _steps(self) -> tuple[Pair, Pair, Padding, Pair]:
        stride = arguments.pair("stride", self.stride)
        dilation = arguments.pair("dilation", self.dilation)
        if isinstance(self.padding, str):
            raise ValueError(
                "padding must be an integer, a pair (height, width) or four sides ((top, bottom), "
                f"(left, right)): several outputs would be 'same' or 'valid', got {show(self.padding)}"
            )
        padding = arguments.padding(
            self.padding, size=(1, 1), kernel_size=(1, 1), stride=stride, dilation=dilation
        )
        extra = arguments.pair("output_padding", self.output_padding, 0)
        for axis, more, *steps in zip(("height", "width"), extra, stride, dilation, strict=True):
            if more >= max(steps):
                raise ValueError(
                    f"output_padding must be below the larger of stride and dilation, {max(steps)} along the "
                    f"{axis}, got {more}"
                )
        return stride, dilation, padding, extra


def _check_full(array: tuple[str, Any], sizes: tuple[int, ...], but: str = "") -> None:
    if min(sizes) < 1:
        raise ValueError(f"{array[0]} must have no empty dimension{but}, got shape {tuple(array[1])}")


def _sizes(name: str, shape: Any, order: str) -> Shape:
    if isinstance(shape, (tuple, list)) and len(shape) != 4:
        raise ValueError(
            f"{name} must have four dimensions ({', '.join(order.upper())}), got shape {tuple(shape)}"
        )
    return common_shape(arguments.shape4(name, shape), order)
