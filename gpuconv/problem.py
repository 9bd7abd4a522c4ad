"""One convolution, described completely: the key of every table, and a line of text that says it all."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from math import prod
from typing import Final, Literal, cast

from gpuconv.arguments import LIMIT, PADDING_MODES, PRECISIONS, Padding, Pair, check_border, show
from gpuconv.layout import DEFAULT_WEIGHTS, LAYOUTS, WEIGHTS, ordered_shape

Op = Literal["fprop", "dgrad", "wgrad"]
Shape = tuple[int, int, int, int]

OPS: Final = ("fprop", "dgrad", "wgrad")
DTYPES: Final = {"f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64"}
ITEMSIZE: Final = {"f16": 2, "bf16": 2, "f32": 4, "f64": 8}

FORM: Final = (
    "op_nNcChHwWkKrRsS[uSH[xSW]][pPAD][dDH[xDW]][gG]_layout[-weights]_dtype[_precision]"
    "[+reflect|+replicate|+circular][+bias][+res][+relu]"
)
_PATTERN: Final = re.compile(
    r"(?P<op>[a-z]+)"
    r"_n(?P<N>\d+)c(?P<C>\d+)h(?P<H>\d+)w(?P<W>\d+)k(?P<K>\d+)r(?P<R>\d+)s(?P<S>\d+)"
    r"(?:u(?P<stride>\d+(?:x\d+)?))?"
    r"(?:p(?P<padding>\d+(?:\+\d+)?(?:x\d+(?:\+\d+)?)?))?"
    r"(?:d(?P<dilation>\d+(?:x\d+)?))?"
    r"(?:g(?P<groups>\d+))?"
    r"_(?P<layout>[a-z]+)(?:-(?P<weights>[a-z]+))?"
    r"_(?P<dtype>[a-z]+\d+)(?:_(?P<precision>[a-z0-9]+))?"
    r"(?:\+(?P<padding_mode>reflect|replicate|circular))?"
    r"(?P<bias>\+bias)?(?P<residual>\+res)?(?P<relu>\+relu)?",
    re.ASCII,
)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(_is_integer, value))


def _is_padding(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(_is_pair, value))


_FIELD_TYPES: Final = (
    (("N", "C", "H", "W", "K", "R", "S", "groups"), _is_integer, "an integer"),
    (("stride", "dilation"), _is_pair, "a pair of integers"),
    (("padding",), _is_padding, "two pairs of integers"),
    (("bias", "residual", "relu"), lambda value: isinstance(value, bool), "True or False"),
)


@dataclass(frozen=True, slots=True)
class ConvProblem:
    """A convolution or one of its gradients.

    N, C, H, W, K, R, S always describe the forward convolution, whatever `op` is: x is N×C×H×W, w holds K
    filters of C/groups×R×S, y is N×K×P×Q.

    Parameters
    ----------
    op : {"fprop", "dgrad", "wgrad"}
        Forward, gradient to the input, gradient to the weights.
    N, C, H, W, K, R, S : int
        Sizes; N may be 0.
    stride, dilation : (int, int)
        Vertical, horizontal; in cells.
    padding : ((int, int), (int, int))
        Cells around the input at (top, bottom), (left, right).
    padding_mode : {"zeros", "reflect", "replicate", "circular"}
        What these cells hold, see `gpuconv.conv2d`. Where there are none, "zeros".
    groups : int
        Divides C and K.
    layout, weights, dtype, precision : str
        See `gpuconv.layout.LAYOUTS`, `gpuconv.layout.WEIGHTS`, `DTYPES`, `gpuconv.arguments.PRECISIONS`.
        `weights` left empty means the layout's usual partner.
    bias, residual, relu : bool
        Fused into the output of fprop or dgrad.

    Raises
    ------
    TypeError, ValueError
        If the fields describe no convolution.

    Examples
    --------
    >>> p = ConvProblem.parse("fprop_n32c64h56w56k64r3s3p1_nhwc-ohwi_f16+bias+relu")
    >>> p.P, p.Q, p.flops
    (56, 56, 7398752256)
    >>> str(p)
    'fprop_n32c64h56w56k64r3s3p1_nhwc-ohwi_f16+bias+relu'
    """

    op: Op
    N: int
    C: int
    H: int
    W: int
    K: int
    R: int
    S: int
    stride: Pair = (1, 1)
    padding: Padding = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)
    groups: int = 1
    layout: str = "nchw"
    weights: str = ""
    dtype: str = "f32"
    precision: str = "ieee"
    padding_mode: str = "zeros"
    bias: bool = False
    residual: bool = False
    relu: bool = False

    def __post_init__(self) -> None:
        for names, right, what in _FIELD_TYPES:
            for name in names:
                if not right(getattr(self, name)):
                    raise TypeError(f"{name} must be {what}, got {show(getattr(self, name))}")
        words = {"op": OPS, "layout": LAYOUTS, "weights": ("", *WEIGHTS), "dtype": tuple(DTYPES)}
        words |= {"precision": PRECISIONS, "padding_mode": PADDING_MODES}
        for name, allowed in words.items():
            if getattr(self, name) not in allowed:
                options = ", ".join(filter(None, allowed))
                raise ValueError(f"{name} must be one of {options}, got {show(getattr(self, name))}")
        if not self.weights:
            object.__setattr__(self, "weights", DEFAULT_WEIGHTS[self.layout])
        sizes: dict[str, tuple[int, ...]]
        sizes = {name: (getattr(self, name),) for name in ("C", "H", "W", "K", "R", "S", "groups")}
        sizes |= {"stride": self.stride, "dilation": self.dilation}
        sizes |= {"N": (self.N,), "padding": self.padding[0] + self.padding[1]}
        for name, values in sizes.items():
            least = 0 if name in ("N", "padding") else 1
            if not least <= min(values) <= max(values) <= LIMIT:
                raise ValueError(f"{name} must be from {least} to {LIMIT}, got {show(getattr(self, name))}")
        for name, channels in (("C", self.C), ("K", self.K)):
            if channels % self.groups:
                raise ValueError(f"groups must divide {name}={channels}, got {self.groups}")
        for axis, size, out, taps in (("height", self.H, self.P, self.R), ("width", self.W, self.Q, self.S)):
            if out < 1:
                vertical = axis == "height"
                pads, step = self.padding[not vertical], self.dilation[not vertical]
                raise ValueError(
                    f"the kernel does not fit: its {axis} of {taps} taps at dilation {step} spans "
                    f"{step * (taps - 1) + 1}, the padded input has {size}+{pads[0]}+{pads[1]}"
                )
        if self.padding == ((0, 0), (0, 0)):
            object.__setattr__(self, "padding_mode", "zeros")
        check_border("padding", self.padding, self.padding_mode, self.padding, (self.H, self.W))
        for cause, shape in (
            ("input of shape", self.x_shape),
            ("weight of shape", self.w_shape),
            (f"padding {self.padding} makes an output of shape", self.y_shape),
        ):
            if prod(shape) * ITEMSIZE[self.dtype] >= 2**63:
                raise ValueError(f"{cause} {shape}, too large for 64-bit addresses")
        if self.precision.startswith("tf32") and self.dtype != "f32":
            raise ValueError(f"precision {self.precision!r} goes with float32 only, got dtype {self.dtype!r}")
        if self.op == "wgrad" and (self.bias or self.residual or self.relu):
            raise ValueError("bias, residual and relu do not go with op 'wgrad'")

    @property
    def P(self) -> int:
        """Output height."""
        return _outputs(self.H, self.R, self.stride[0], self.padding[0], self.dilation[0])

    @property
    def Q(self) -> int:
        """Output width."""
        return _outputs(self.W, self.S, self.stride[1], self.padding[1], self.dilation[1])

    @property
    def x_shape(self) -> Shape:
        """Shape of the input, in the problem's layout."""
        return ordered_shape((self.N, self.C, self.H, self.W), self.layout)

    @property
    def w_shape(self) -> Shape:
        """Shape of the weights, in the problem's weight order."""
        return ordered_shape((self.K, self.C // self.groups, self.R, self.S), self.weights)

    @property
    def y_shape(self) -> Shape:
        """Shape of the output, in the problem's layout."""
        return ordered_shape((self.N, self.K, self.P, self.Q), self.layout)

    @property
    def operand_shapes(self) -> tuple[Shape, Shape, Shape]:
        """Shapes of the two operands and the result: (x, w)→y, (dy, w)→dx or (x, dy)→dw."""
        x, w, y = self.x_shape, self.w_shape, self.y_shape
        return {"fprop": (x, w, y), "dgrad": (y, w, x), "wgrad": (x, y, w)}[self.op]

    @property
    def out_channels(self) -> int:
        """Channels of the result that bias and residual are added to."""
        return self.C if self.op == "dgrad" else self.K

    @property
    def gemm_mnk(self) -> tuple[int, int, int]:
        """Rows, columns and depth of one group's implicit matrix product; the depth is what is summed."""
        pixels, k, c = self.N * self.P * self.Q, self.K // self.groups, self.C // self.groups
        taps = self.R * self.S
        return {
            "fprop": (pixels, k, c * taps),
            "dgrad": (self.N * self.H * self.W, c, k * taps),
            "wgrad": (k, c * taps, pixels),
        }[self.op]

    @property
    def flops(self) -> int:
        """Two for every multiply-add, taps on the padding counted, the epilogue not."""
        return 2 * self.N * self.K * self.P * self.Q * (self.C // self.groups) * self.R * self.S

    @property
    def min_bytes(self) -> int:
        """Bytes that must move at least: every tensor touched once."""
        elements = sum(map(prod, self.operand_shapes))
        elements += self.out_channels * self.bias + prod(self.operand_shapes[2]) * self.residual
        return elements * ITEMSIZE[self.dtype]

    def __str__(self) -> str:
        text = f"{self.op}_n{self.N}c{self.C}h{self.H}w{self.W}k{self.K}r{self.R}s{self.S}"
        if self.stride != (1, 1):
            text += f"u{_both(*map(str, self.stride))}"
        if self.padding != ((0, 0), (0, 0)):
            sides = (str(a) if a == b else f"{a}+{b}" for a, b in self.padding)
            text += f"p{_both(*sides)}"
        if self.dilation != (1, 1):
            text += f"d{_both(*map(str, self.dilation))}"
        if self.groups != 1:
            text += f"g{self.groups}"
        text += f"_{self.layout}"
        if self.weights != DEFAULT_WEIGHTS[self.layout]:
            text += f"-{self.weights}"
        text += f"_{self.dtype}"
        if self.precision != "ieee":
            text += f"_{self.precision}"
        if self.padding_mode != "zeros":
            text += f"+{self.padding_mode}"
        return text + "+bias" * self.bias + "+res" * self.residual + "+relu" * self.relu

    @classmethod
    def parse(cls, text: str) -> ConvProblem:
        """Read the text form; ``parse(str(p)) == p``.

        Raises
        ------
        ValueError
            If `text` is not of the form, or describes no convolution.
        """
        if not isinstance(text, str):
            raise TypeError(f"problem must be text like {FORM}, got {show(text)}")
        match = _PATTERN.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"problem must look like {FORM}, got {show(text)}")
        found = match.groupdict()
        if any(len(digits) > 19 for digits in re.findall(r"\d+", text)):
            raise ValueError(f"problem has a number of more than 19 digits: {show(text)}")
        values: dict[str, object] = {}
        for field in fields(cls):
            value = found[field.name]
            if field.name in ("bias", "residual", "relu"):
                values[field.name] = value is not None
            elif value is None:
                continue
            elif field.name in ("stride", "dilation"):
                values[field.name] = _pair(value)
            elif field.name == "padding":
                values[field.name] = tuple(_sides(side) for side in _split(value, "x"))
            elif value.isdigit():
                values[field.name] = int(value)
            else:
                values[field.name] = value
        return cls(**values)  # type: ignore[arg-type]


def _outputs(size: int, taps: int, stride: int, pads: Pair, dilation: int) -> int:
    return (size + pads[0] + pads[1] - dilation * (taps - 1) - 1) // stride + 1


def _both(a: str, b: str) -> str:
    return a if a == b else f"{a}x{b}"


def _split(text: str, by: str) -> tuple[str, str]:
    first, _, second = text.partition(by)
    return first, second or first


def _pair(text: str) -> Pair:
    return cast(Pair, tuple(int(part) for part in _split(text, "x")))


def _sides(text: str) -> Pair:
    return cast(Pair, tuple(int(part) for part in _split(text, "+")))
