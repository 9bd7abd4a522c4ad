"""2-D convolution and its gradients: a stated error bound, exact integers, the same bits on every run.

Arrays go in, an array of the same kind comes out. Importing this touches no GPU library, compiles nothing
and creates no file; each name below is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from gpuconv.api import conv2d, conv2d_bias_grad, conv2d_input_grad, conv2d_weight_grad
    from gpuconv.arithmetic import (
        ReceptiveField,
        flops,
        min_bytes,
        output_shape,
        parameter_count,
        receptive_field,
    )
    from gpuconv.autotune.asked import tuning
    from gpuconv.errors import UnsupportedProblem
    from gpuconv.filters import convolve2d, correlate2d
    from gpuconv.image_kernels import image_kernel
    from gpuconv.layers import Conv2D
    from gpuconv.patches import fold, unfold
    from gpuconv.problem import ConvProblem
    from gpuconv.transpose import conv_transpose2d, conv_transpose2d_input_grad, conv_transpose2d_weight_grad

__all__ = [
    "Conv2D",
    "ConvProblem",
    "ReceptiveField",
    "UnsupportedProblem",
    "conv2d",
    "conv2d_bias_grad",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "conv_transpose2d",
    "conv_transpose2d_input_grad",
    "conv_transpose2d_weight_grad",
    "convolve2d",
    "correlate2d",
    "flops",
    "fold",
    "image_kernel",
    "min_bytes",
    "output_shape",
    "parameter_count",
    "receptive_field",
    "tuning",
    "unfold",
]

_HOME = {
    **dict.fromkeys(("conv2d", "conv2d_bias_grad", "conv2d_input_grad", "conv2d_weight_grad"), "api"),
    **dict.fromkeys(
        ("conv_transpose2d", "conv_transpose2d_input_grad", "conv_transpose2d_weight_grad"), "transpose"
    ),
    **dict.fromkeys(
        ("ReceptiveField", "flops", "min_bytes", "output_shape", "parameter_count", "receptive_field"),
        "arithmetic",
    ),
    **dict.fromkeys(("convolve2d", "correlate2d"), "filters"),
    **dict.fromkeys(("fold", "unfold"), "patches"),
    "image_kernel": "image_kernels",
    "tuning": "autotune.asked",
    "Conv2D": "layers",
    "ConvProblem": "problem",
    "UnsupportedProblem": "errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'gpuconv' has no attribute {name!r}")
    value = getattr(import_module(f"gpuconv.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
