"""A convolution that owns its filters and remembers its input: what a network is built from."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from math import prod, sqrt
from typing import Any, NamedTuple

import numpy as np

from gpuconv import arguments, arithmetic, layer_arguments, layer_state
from gpuconv.api import conv2d, conv2d_bias_grad, conv2d_input_grad, conv2d_weight_grad
from gpuconv.arguments import show
from gpuconv.arithmetic import ReceptiveField
from gpuconv.backend import arrays
from gpuconv.layer_state import SHORT
from gpuconv.layout import DEFAULT_WEIGHTS, FROM_COMMON, LAYOUTS, common_view, ordered_shape
from gpuconv.measure import numpy_dtype
from gpuconv.options import Options
from gpuconv.problem import Shape


class _Called(NamedTuple):
    """What `backward` needs of a call; the filters are a copy, since an optimiser changes them in place."""

    x: Any
    weight: Any
    biased: bool
    options: dict[str, Any]


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
    Arguments, their order and the first parameters' distribution are those of ``torch.nn.Conv2d``. For
    `backward` the layer keeps x itself and a copy of its filters until the next call: change the parameters
    before it, and the gradients are still the call's; change x in place, and they are those of what it has
    become.

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
        self.padding = layer_arguments.padding(padding)
        self.dilation = arguments.pair("dilation", dilation)
        self.groups = arguments.integer("groups", groups, 1)
        self.padding_mode = arguments.choice("padding_mode", padding_mode, arguments.PADDING_MODES)
        self.data_format = arguments.choice("data_format", data_format, (name.upper() for name in LAYOUTS))
        self.dtype = layer_arguments.dtype(dtype)
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % self.groups:
                raise ValueError(f"groups must divide {name}, {channels}, got {self.groups}")
        if prod(self._shape) * np.dtype(np.float64).itemsize >= 2**63:
            raise ValueError(
                "in_channels, out_channels and kernel_size must give filters that fit into 64-bit addresses, "
                f"got {self._shape} (K, C/groups, R, S)"
            )
        has_bias = arguments.flag("bias", bias)
        if not callable(getattr(xp, "asarray", None)):
            raise TypeError(f"xp must be the module numpy or cupy, or one like them, got {show(xp)}")
        self._xp = xp
        self._last: _Called | None = None
        self.grad_weight: Any = None
        self.grad_bias: Any = None
        generator, reach = layer_arguments.generator(rng), 1 / sqrt(prod(self._shape[1:]))
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
        options = self._options
        try:
            y = conv2d(x, self.weight, self.bias, **options)
        except (TypeError, ValueError) as error:
            raise self._in_own_words(error, getattr(x, "shape", None)) from None
        self._last = _Called(x, layer_state.kept(self.weight), self.bias is not None, options)
        return y

    def backward(self, grad_out: Any) -> Any:
        """Gradients of the last call that returned, given the gradient to its result.

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
        if self._last is None:
            raise RuntimeError("backward needs a call to go back through: first layer(x)")
        x, weight, biased, options = self._last
        self._check_array("grad_out", grad_out)
        grad_x = conv2d_input_grad(tuple(x.shape), weight, grad_out, **options)
        grad_weight = conv2d_weight_grad(x, tuple(weight.shape), grad_out, **options)
        layout = options["data_format"]
        grad_bias = conv2d_bias_grad(grad_out, data_format=layout) if biased else None
        self.grad_weight, self.grad_bias = grad_weight, grad_bias
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
        """Shape of the result for an x of this shape, without computing it; refused as the call is."""
        self._check_channels("input_shape", input_shape)
        return self._output_shape("input_shape", input_shape)

    def state_dict(self, prefix: str = "") -> dict[str, Any]:
        """The parameters as NumPy arrays, named and ordered (K, C/groups, R, S) as PyTorch has them.

        Parameters
        ----------
        prefix : str
            Before each name, such as ``"conv1."``.

        Returns
        -------
        dict of array
            Copies, of the layer's dtype. ``{name: torch.from_numpy(value)}`` is what ``torch.nn.Conv2d``
            loads; PyTorch does not know NumPy's bfloat16, for which it is ``value.astype("float32")``.

        Raises
        ------
        TypeError, ValueError
            If prefix is no string, or what stands in weight or bias no parameter of this layer.
        """
        self._check_parameters()
        state = {"weight": common_view(layer_state.on_host("weight", self.weight), self._order)}
        if self.bias is not None:
            state["bias"] = layer_state.on_host("bias", self.bias)
        names = layer_state.prefixed(prefix, state)
        return {names[name]: value.copy(order="C") for name, value in state.items()}

    def load_state_dict(self, state: Mapping[str, Any], prefix: str = "") -> None:
        """Take parameters from a state dict, of this layer or of ``torch.nn.Conv2d``.

        Parameters
        ----------
        state : mapping of str to array
            As `state_dict` gives it: NumPy or CuPy arrays, torch tensors, or what ``numpy.asarray`` takes, of
            any floating dtype; they are copied and rounded to the layer's.
        prefix : str
            Before each name; names without it are left alone.

        Raises
        ------
        TypeError, ValueError
            If a name is missing or unknown, or an array is of another shape or no floating one; the layer is
            then as before.
        """
        shapes = {"weight": self._shape} | ({} if self.bias is None else {"bias": (self.out_channels,)})
        self._take(layer_state.chosen(state, prefix, shapes))

    def save(self, path: Any) -> None:
        """Write the parameters to an ``.npz`` file, whole or not at all; bfloat16 as float32, which holds it.

        The path is taken as it is, nothing is appended; what a link leads to is written.

        Raises
        ------
        TypeError, ValueError
            If path is none, or what stands in weight or bias no parameter of this layer.
        OSError
            If the file cannot be written; one that was there is then as before.
        """
        state = self.state_dict()
        if self.dtype == "bfloat16":
            state = {name: value.astype(np.float32) for name, value in state.items()}
        layer_state.write(path, state)

    def load(self, path: Any) -> None:
        """Take the parameters from an ``.npz`` file that `save` wrote for a layer of these shapes.

        Raises
        ------
        TypeError, ValueError
            If it is no such file, is damaged, or does not fit; the layer is then as before.
        OSError
            If it cannot be opened.
        """
        self.load_state_dict(layer_state.read(path))

    def __repr__(self) -> str:
        """As it would be written, without what is the default."""
        usual: dict[str, Any] = {
            "stride": 1, "padding": 0, "dilation": 1, "groups": 1, "bias": True,
            "padding_mode": "zeros", "data_format": "NCHW", "dtype": "float32",
        }  # fmt: skip
        given = {name: layer_arguments.short(getattr(self, name)) for name in usual if name != "bias"}
        given["bias"] = self.bias is not None
        options = [f", {name}={given[name]!r}" for name in usual if given[name] != usual[name]]
        size = layer_arguments.short(self.kernel_size)
        return f"Conv2D({self.in_channels}, {self.out_channels}, {size}{''.join(options)})"

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: without the last call, and with the module by its name."""
        return {**vars(self), "_last": None, "_xp": self._xp.__name__}

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

    def _output_shape(self, name: str, shape: Any) -> Shape:
        weight = "weight", ordered_shape(self._shape, self._order)
        return Options(**self._options).problem("fprop", (name, shape), weight, SHORT[self.dtype]).y_shape

    def _in_own_words(self, error: Exception, shape: Any) -> Exception:
        """What conv2d says of w is said of weight; the rest as it says it."""
        try:
            if isinstance(shape, tuple):
                self._output_shape("x", shape)
        except (TypeError, ValueError) as own:
            return own
        return error

    def _check_parameters(self) -> None:
        layer_state.check("weight", self.weight, ordered_shape(self._shape, self._order), self.dtype)
        if self.bias is not None:
            layer_state.check("bias", self.bias, (self.out_channels,), self.dtype)

    def _check_array(self, name: str, array: Any) -> None:
        self._check_parameters()
        arrays.check_array(name, array)
        on_host = isinstance(self.weight, np.ndarray)
        if isinstance(array, np.ndarray) != on_host:
            ours, its = ("the CPU", "a CUDA device")[:: 1 if on_host else -1]
            raise TypeError(
                f"{name} must be on {ours} like the layer, it is on {its}; nothing is copied unasked"
            )
        if not on_host and hasattr(array, "device") and hasattr(self.weight, "device"):
            home, here = arrays.index_of(self.weight), arrays.index_of(array)
            if here != home:
                raise TypeError(f"{name} must be on cuda:{home} like the layer, it is on cuda:{here}")
        dtype = getattr(getattr(array, "dtype", None), "name", None)
        if dtype in SHORT and dtype != self.dtype:
            raise TypeError(f"{name} must have dtype {self.dtype} like the layer, got {dtype}")

    def _take(self, values: dict[str, Any]) -> None:
        """Make these, on the host and ordered as PyTorch has them, the parameters."""
        dtype = numpy_dtype(SHORT[self.dtype])
        values["weight"] = values["weight"].transpose(FROM_COMMON[self._order])
        new = {
            name: layer_state.placed(np.array(value, dtype, order="C"), self._xp)
            for name, value in values.items()
        }
        self.weight, self.bias = new["weight"], new.get("bias")
        self.grad_weight = self.grad_bias = self._last = None
