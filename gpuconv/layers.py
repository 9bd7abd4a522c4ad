"""A convolution that owns its filters and remembers its input: what a network is built from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from math import sqrt
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np

from gpuconv import arguments, arithmetic
from gpuconv.api import conv2d, conv2d_bias_grad, conv2d_input_grad, conv2d_weight_grad
from gpuconv.arguments import Padding, show
from gpuconv.arithmetic import ReceptiveField
from gpuconv.backend import arrays
from gpuconv.layout import DEFAULT_WEIGHTS, FROM_COMMON, LAYOUTS, common_view
from gpuconv.measure import numpy_dtype
from gpuconv.problem import DTYPES, Shape

_SHORT: Final = {name: short for short, name in DTYPES.items()}


class Conv2D:
    """A 2-D convolution with trained filters, on NumPy or on CUDA arrays.

    Calling it computes ``conv2d(x, weight, bias)``; `backward` gives the gradient to x and leaves those to
    the filters and the bias in `grad_weight` and `grad_bias`.

    Parameters
    ----------
    in_channels, out_channels : int
        C and K.
    kernel_size : int or (int, int)
        Height and width of the filters, R and S.
    stride, padding, dilation, groups, padding_mode
        As for `conv2d`, words for the padding included.
    bias : bool
        Whether a trained number is added to each output channel.
    data_format : {"NCHW", "NHWC"}
        Order of the axes of x, of the result and of both gradients to them.
    dtype : {"float16", "bfloat16", "float32", "float64"} or NumPy dtype
        Of the parameters, and so of x.
    rng : None, int or numpy.random.Generator
        Draws the first parameters, uniformly from ±1/√fan_in with fan_in = C/groups·R·S; an int is a seed,
        None draws others each time. A seed gives the same filters in both data formats.
    xp : module
        ``numpy``, or ``cupy`` to keep the parameters on its current device.

    Attributes
    ----------
    weight : array (K, C/groups, R, S), or (R, S, C/groups, K) for NHWC
    bias : array (K,) or None
    grad_weight, grad_bias : array or None
        Gradients of the last `backward`, of weight's and bias's shape; None before it.

    Raises
    ------
    TypeError, ValueError
        For a wrong argument; the message names it and what is allowed.

    Notes
    -----
    Arguments, their order and the first parameters' distribution are those of ``torch.nn.Conv2d``. The layer
    keeps x until its next call, for `backward`; change x in place between the two and the gradients are those
    of what it has become.

    Examples
    --------
    An edge detector learned from data:

    >>> import numpy as np
    >>> from gpuconv import Conv2D
    >>> x = np.ones((1, 1, 6, 8), "float32")
    >>> x[..., 2:6] = 0
    >>> edges = x[..., :-1] - x[..., 1:]
    >>> layer = Conv2D(1, 1, (1, 2), bias=False, rng=0)
    >>> for _ in range(20):
    ...     grad_x = layer.backward(2 * (layer(x) - edges))
    ...     layer.weight -= 3e-2 * layer.grad_weight
    >>> layer.weight.round(1)
    array([[[[ 1., -1.]]]], dtype=float32)
    """

    weight: Any
    bias: Any

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        padding_mode: str = "zeros",
        data_format: str = "NCHW",
        dtype: Any = "float32",
        rng: Any = None,
        xp: Any = np,
    ) -> None:
        self.in_channels = arguments.integer("in_channels", in_channels, 1)
        self.out_channels = arguments.integer("out_channels", out_channels, 1)
        self.kernel_size = arguments.pair("kernel_size", kernel_size)
        self.stride = arguments.pair("stride", stride)
        self.padding = _padding(padding)
        self.dilation = arguments.pair("dilation", dilation)
        self.groups = arguments.integer("groups", groups, 1)
        self.padding_mode = arguments.choice("padding_mode", padding_mode, arguments.PADDING_MODES)
        self.data_format = arguments.choice("data_format", data_format, (name.upper() for name in LAYOUTS))
        self.dtype = _dtype(dtype)
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % self.groups:
                raise ValueError(f"groups must divide {name}, {channels}, got {self.groups}")
        has_bias = arguments.flag("bias", bias)
        if not callable(getattr(xp, "asarray", None)):
            raise TypeError(f"xp must be the module numpy or cupy, or one like them, got {show(xp)}")
        self._xp = xp
        self._x: Any = None
        self.grad_weight: Any = None
        self.grad_bias: Any = None
        generator, reach = _generator(rng), 1 / sqrt(self._shape[1] * self._shape[2] * self._shape[3])
        drawn = {"weight": generator.uniform(-reach, reach, self._shape)}
        if has_bias:
            drawn["bias"] = generator.uniform(-reach, reach, self.out_channels)
        self._take(drawn)

    def __call__(self, x: Any) -> Any:
        """Convolve a batch of images.

        Parameters
        ----------
        x : array (N, C, H, W), or (N, H, W, C) for NHWC
            Of the layer's dtype, on its parameters' device.

        Returns
        -------
        array (N, K, P, Q), or (N, P, Q, K) for NHWC

        Raises
        ------
        TypeError, ValueError, UnsupportedProblem
            As for `conv2d`.
        """
        self._check_array("x", x)
        self._check_channels("x", getattr(x, "shape", None))
        y = conv2d(x, self.weight, self.bias, **self._options)
        self._x = x
        return y

    def backward(self, grad_out: Any) -> Any:
        """Gradients of the last call, given the gradient to its result.

        Parameters
        ----------
        grad_out : array (N, K, P, Q), or (N, P, Q, K) for NHWC
            Gradient to the result.

        Returns
        -------
        array of x's shape
            Gradient to x; those to the parameters are in `grad_weight` and `grad_bias`, instead of earlier
            ones.

        Raises
        ------
        RuntimeError
            Before the first call.
        TypeError, ValueError, UnsupportedProblem
            As for `conv2d_input_grad`.
        """
        if self._x is None:
            raise RuntimeError("backward needs a call to go back through: first layer(x)")
        self._check_array("grad_out", grad_out)
        grad_x = conv2d_input_grad(tuple(self._x.shape), self.weight, grad_out, **self._options)
        grad_weight = conv2d_weight_grad(self._x, tuple(self.weight.shape), grad_out, **self._options)
        if self.bias is not None:
            self.grad_bias = conv2d_bias_grad(grad_out, data_format=self.data_format)
        self.grad_weight = grad_weight
        return grad_x

    def parameters(self) -> list[Any]:
        """Weight, and bias where there is one: the arrays themselves."""
        return [self.weight] if self.bias is None else [self.weight, self.bias]

    @property
    def parameter_count(self) -> int:
        """Trained numbers."""
        return arithmetic.parameter_count(self._shape, bias=self.bias is not None)

    @property
    def receptive_field(self) -> ReceptiveField:
        """What one output sees; the function of this name takes a stack's kernel sizes and strides."""
        return arithmetic.receptive_field([(self.kernel_size, self.stride, self.dilation)])

    def output_shape(self, input_shape: Any) -> Shape:
        """Shape of the result for an x of this shape, without computing it."""
        self._check_channels("input_shape", input_shape)
        options = {name: value for name, value in self._options.items() if name != "padding_mode"}
        return arithmetic.output_shape(input_shape, tuple(self.weight.shape), **options)

    def state_dict(self, prefix: str = "") -> dict[str, Any]:
        """The parameters as NumPy arrays, named and ordered (K, C/groups, R, S) as PyTorch has them.

        Parameters
        ----------
        prefix : str
            Before each name, such as ``"conv1."``.

        Returns
        -------
        dict of array
            Copies: ``{name: torch.from_numpy(value)}`` is what ``torch.nn.Conv2d`` loads.
        """
        state = {f"{prefix}weight": common_view(_on_host("weight", self.weight), self._order)}
        if self.bias is not None:
            state[f"{prefix}bias"] = _on_host("bias", self.bias)
        return {name: value.copy(order="C") for name, value in state.items()}

    def load_state_dict(self, state: Mapping[str, Any], prefix: str = "") -> None:
        """Take parameters from a state dict, of this layer or of ``torch.nn.Conv2d``.

        Parameters
        ----------
        state : mapping of str to array
            As `state_dict` gives it: NumPy or CuPy arrays, or what ``numpy.asarray`` takes, of any floating
            dtype; they are copied and rounded to the layer's. Names without the prefix are left alone.

        Raises
        ------
        TypeError, ValueError
            If a name is missing or unknown, or an array is of another shape or no floating one; the layer is
            then as before.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state must map names to arrays, got {show(state)}")
        found = {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}
        shapes = {"weight": self._shape} | ({} if self.bias is None else {"bias": (self.out_channels,)})
        if found.keys() != shapes.keys():
            wanted = " and ".join(f"{prefix}{name}" for name in shapes)
            raise ValueError(f"state must hold {wanted}, got {show(sorted(f'{prefix}{n}' for n in found))}")
        values = {name: _on_host(prefix + name, found[name]) for name in shapes}
        for name, value in values.items():
            if value.dtype.name not in _SHORT:
                allowed = ", ".join(_SHORT)
                raise TypeError(f"{prefix}{name} must have dtype {allowed}, got {value.dtype}")
            if value.shape != shapes[name]:
                raise ValueError(f"{prefix}{name} must have shape {shapes[name]}, got {value.shape}")
        self._take(values)

    def save(self, path: Any) -> None:
        """Write the parameters to an ``.npz`` file, whole or not at all; bfloat16 as float32, which holds it.

        The path is taken as it is, nothing is appended.
        """
        state = self.state_dict()
        if self.dtype == "bfloat16":
            state = {name: value.astype(np.float32) for name, value in state.items()}
        target = Path(path)
        part = target.with_name(f"{target.name}.{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                np.savez(file, **state)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def load(self, path: Any) -> None:
        """Take the parameters from an ``.npz`` file that `save` wrote for a layer of these shapes.

        Raises
        ------
        TypeError, ValueError
            If it is no such file, or does not fit; the layer is then as before.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                state = dict(file)
        except (AttributeError, EOFError, TypeError, ValueError, BadZipFile) as error:
            raise ValueError(f"path must be an .npz file of parameters, got {show(path)}: {error}") from None
        self.load_state_dict(state)

    def __repr__(self) -> str:
        """As it would be written, without what is the default."""
        usual: dict[str, Any] = {
            "stride": 1, "padding": 0, "dilation": 1, "groups": 1, "bias": True,
            "padding_mode": "zeros", "data_format": "NCHW", "dtype": "float32",
        }  # fmt: skip
        given = {name: _short(getattr(self, name)) for name in usual if name != "bias"}
        given["bias"] = self.bias is not None
        options = [f", {name}={given[name]!r}" for name in usual if given[name] != usual[name]]
        size = _short(self.kernel_size)
        return f"Conv2D({self.in_channels}, {self.out_channels}, {size}{''.join(options)})"

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: without x, and with the module by its name."""
        return {**vars(self), "_x": None, "_xp": self._xp.__name__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Import the module again."""
        vars(self).update(state, _xp=import_module(state["_xp"]))

    @property
    def _shape(self) -> Shape:
        """The filters' as (K, C/groups, R, S)."""
        return self.out_channels, self.in_channels // self.groups, *self.kernel_size

    @property
    def _options(self) -> dict[str, Any]:
        names = ("stride", "padding", "dilation", "groups", "padding_mode", "data_format")
        return {name: getattr(self, name) for name in names}

    @property
    def _order(self) -> str:
        """Of the filters' axes."""
        return DEFAULT_WEIGHTS[self.data_format.lower()]

    def _check_channels(self, name: str, shape: Any) -> None:
        """What conv2d would say of the filters is said of x, whose fault it is; the rest is left to it."""
        axis = self.data_format.index("C")
        if isinstance(shape, (tuple, list)) and len(shape) == 4 and shape[axis] != self.in_channels:
            raise ValueError(
                f"{name} must have {self.in_channels} channels in axis {axis} ({self.data_format}), "
                f"got shape {tuple(shape)}"
            )

    def _check_array(self, name: str, array: Any) -> None:
        arrays.check_array(name, array)
        on_host = isinstance(self.weight, np.ndarray)
        if isinstance(array, np.ndarray) != on_host:
            ours, its = ("the CPU", "a CUDA device")[:: 1 if on_host else -1]
            raise TypeError(
                f"{name} must be on {ours} like the layer, it is on {its}; nothing is copied unasked"
            )
        dtype = getattr(getattr(array, "dtype", None), "name", None)
        if dtype in _SHORT and dtype != self.dtype:
            raise TypeError(f"{name} must have dtype {self.dtype} like the layer, got {dtype}")

    def _take(self, values: dict[str, Any]) -> None:
        """Make these, on the host and ordered as PyTorch has them, the parameters."""
        dtype = numpy_dtype(_SHORT[self.dtype])
        values["weight"] = values["weight"].transpose(FROM_COMMON[self._order])
        new = {name: _placed(np.array(value, dtype, order="C"), self._xp) for name, value in values.items()}
        self.weight, self.bias = new["weight"], new.get("bias")
        self.grad_weight = self.grad_bias = self._x = None


def _placed(array: Any, xp: Any) -> Any:
    """The array where the module keeps its own; it need not know bfloat16 to move it."""
    return (
        xp.asarray(array.view(np.uint16)).view(array.dtype) if array.dtype.kind == "V" else xp.asarray(array)
    )


def _padding(value: Any) -> str | Padding:
    """A word as it is, anything else as four sides."""
    sides = arguments.padding(value, size=(1, 1), kernel_size=(1, 1), stride=(1, 1), dilation=(1, 1))
    return value if isinstance(value, str) else sides


def _short(value: Any) -> Any:
    """Equal numbers for both axes, or on both sides, as one."""
    if not isinstance(value, tuple):
        return value
    first, second = value
    if isinstance(first, tuple) and first[0] == first[1] and second[0] == second[1]:
        return _short((first[0], second[0]))
    return first if first == second and isinstance(first, int) else value


def _dtype(value: Any) -> str:
    name = np.dtype(value).name if isinstance(value, (type, np.dtype)) else value
    return str(arguments.choice("dtype", name, DTYPES.values()))


def _generator(rng: Any) -> np.random.Generator:
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        allowed = "None, a seed or a numpy.random.Generator"
        raise type(error)(f"rng must be {allowed}, got {show(rng)}") from None


def _on_host(name: str, value: Any) -> Any:
    """A NumPy array of an array from wherever."""
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "__cuda_array_interface__") and callable(getattr(value, "get", None)):
        return value.view(np.uint16).get().view(value.dtype) if value.dtype.kind == "V" else value.get()
    try:
        return np.asarray(value)
    except Exception as error:  # another library's conversion may raise anything
        raise TypeError(f"{name} must be an array that NumPy can read, got {show(value)}: {error}") from None
