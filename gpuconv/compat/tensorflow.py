"""``tf.nn``'s convolutions and ``tf.image.extract_patches``, on NumPy and CUDA arrays, without TensorFlow.

Names, order and meaning of the arguments are TensorFlow's. Strides and dilations may be one number, a pair
(height, width) or a number for each axis; `name` names nothing here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gpuconv
from gpuconv import arguments
from gpuconv.compat.tensorflow_arguments import adopted, four, padding_of, steps, word
from gpuconv.layout import LAYOUTS, common_shape, ordered_shape
from gpuconv.options import Options
from gpuconv.problem import Shape


def conv2d(
    input: Any,
    filters: Any,
    strides: Any,
    padding: Any,
    data_format: str = "NHWC",
    dilations: Any = None,
    name: Any = None,
) -> Any:
    """Convolve as ``tf.nn.conv2d`` does.

    Parameters
    ----------
    input : array (N, H, W, C), or (N, C, H, W) for NCHW
        Images: NumPy array, or CUDA array as in `gpuconv.conv2d`.
    filters : array (height, width, in_channels, out_channels)
        Filters; in_channels divides C, and C/in_channels is the number of groups.
    strides : int, pair or four numbers in the order of `data_format`
        Cells between neighbouring windows; 1 along batch and channels.
    padding : {"SAME", "VALID"} or four pairs in the order of `data_format`
        ``[[0, 0], [top, bottom], [left, right], [0, 0]]`` for NHWC.
    data_format : {"NHWC", "NCHW"}
        Order of the axes of input and result.
    dilations : None, int, pair or four numbers
        Cells between neighbouring taps.
    name : object
        Ignored.

    Returns
    -------
    array (N, P, Q, K), or (N, K, P, Q) for NCHW

    Raises
    ------
    TypeError, ValueError
        For a wrong argument, by its name here; NHWC counts its axes.
    UnsupportedProblem
        As for `gpuconv.conv2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from gpuconv.compat import tensorflow as tf
    >>> x = np.array([[4, 3, 1, 0], [2, 1, 0, 1], [1, 2, 4, 1], [3, 1, 0, 2]], "float32")
    >>> w = np.array([[1, 0, 1], [2, 1, 0], [0, 0, 1]], "float32")
    >>> tf.conv2d(x.reshape(1, 4, 4, 1), w.reshape(3, 3, 1, 1), 1, "VALID").reshape(2, 2)
    array([[14.,  6.],
           [ 6., 12.]], dtype=float32)
    """
    options = _options(strides, padding, data_format, dilations)
    given = adopted({"input": input, "filters": filters})
    shape, filter_shape = four("input", given["input"]), four("filters", given["filters"])
    channels = common_shape(shape, options["data_format"].lower())[1]
    options["groups"] = _groups("input", channels, filter_shape)
    _check(("input", shape), ("filters", filter_shape), options)
    return gpuconv.conv2d(given["input"], given["filters"], **options)


def depthwise_conv2d(
    input: Any,
    filter: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = None,
    dilations: Any = None,
    name: Any = None,
) -> Any:
    """Convolve each channel with filters of its own, as ``tf.nn.depthwise_conv2d`` does.

    Parameters
    ----------
    input : array (N, H, W, C), or (N, C, H, W) for NCHW
        Images, as for `conv2d`.
    filter : array (height, width, C, multiplier)
        Output channel c·multiplier + m is channel c under filter m of it.
    strides, padding, data_format, dilations, name
        As for `conv2d`; strides and dilations may both exceed 1, and differ along height and width, which
        TensorFlow refuses or ignores.

    Returns
    -------
    array (N, P, Q, C·multiplier), or (N, C·multiplier, P, Q) for NCHW

    Raises
    ------
    TypeError, ValueError, UnsupportedProblem
        As for `conv2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from gpuconv.compat import tensorflow as tf
    >>> x = np.array([[[[1, 10]]]], "float32")
    >>> tf.depthwise_conv2d(x, np.array([[[[1, 2], [3, 4]]]], "float32"), [1, 1, 1, 1], "SAME")
    array([[[[ 1.,  2., 30., 40.]]]], dtype=float32)
    """
    options = _options(strides, padding, data_format or "NHWC", dilations)
    return _depthwise(adopted({"input": input, "filter": filter}), options)


def separable_conv2d(
    input: Any,
    depthwise_filter: Any,
    pointwise_filter: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = None,
    dilations: Any = None,
    name: Any = None,
) -> Any:
    """Convolve each channel, then mix channels, as ``tf.nn.separable_conv2d`` does.

    Parameters
    ----------
    input : array (N, H, W, C), or (N, C, H, W) for NCHW
        Images, as for `conv2d`.
    depthwise_filter : array (height, width, C, multiplier)
        For `depthwise_conv2d`, to which strides, padding and dilations belong.
    pointwise_filter : array (1, 1, C·multiplier, out_channels)
        For the convolution after it.
    strides, padding, data_format, dilations, name
        As for `depthwise_conv2d`.

    Returns
    -------
    array (N, P, Q, out_channels), or (N, out_channels, P, Q) for NCHW

    Raises
    ------
    TypeError, ValueError, UnsupportedProblem
        As for `conv2d`.

    Notes
    -----
    What lies between the two is rounded to the arrays' dtype, as in TensorFlow.

    Examples
    --------
    >>> import numpy as np
    >>> from gpuconv.compat import tensorflow as tf
    >>> x, w = np.array([[[[1, 10]]]], "float32"), np.array([[[[1, 2], [3, 4]]]], "float32")
    >>> tf.separable_conv2d(x, w, np.ones((1, 1, 4, 1), "float32"), 1, "SAME")
    array([[[[73.]]]], dtype=float32)
    """
    options = _options(strides, padding, data_format or "NHWC", dilations)
    given = adopted(
        {"input": input, "depthwise_filter": depthwise_filter, "pointwise_filter": pointwise_filter}
    )
    mix = given.pop("pointwise_filter")
    shape = four("depthwise_filter", given["depthwise_filter"])
    between = shape[2] * shape[3]
    if len(mix.shape) != 4 or tuple(mix.shape[:3]) != (1, 1, between) or mix.shape[3] < 1:
        raise ValueError(
            f"pointwise_filter must have shape (1, 1, {between}, out_channels) for depthwise_filter of "
            f"shape {shape}, got {tuple(mix.shape)}"
        )
    y = _depthwise(given, options)
    return gpuconv.conv2d(y, mix, data_format=options["data_format"], weight_format="HWIO")


def conv2d_transpose(
    input: Any,
    filters: Any,
    output_shape: Any,
    strides: Any,
    padding: Any = "SAME",
    data_format: str = "NHWC",
    dilations: Any = None,
    name: Any = None,
) -> Any:
    """Transpose of `conv2d`, as ``tf.nn.conv2d_transpose`` has it: its gradient with respect to the input.

    Parameters
    ----------
    input : array (N, H, W, C), or (N, C, H, W) for NCHW
        Images, as for `conv2d`.
    filters : array (height, width, out_channels, C)
        Those of the convolution that is transposed; out_channels may be those of one group.
    output_shape : four numbers in the order of `data_format`, or (height, width)
        One that `conv2d` with these arguments would bring to input's shape.
    strides, padding, data_format, dilations, name
        As for `conv2d`, and said of that convolution.

    Returns
    -------
    array of `output_shape`

    Raises
    ------
    TypeError, ValueError, UnsupportedProblem
        As for `conv2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from gpuconv.compat import tensorflow as tf
    >>> x = np.array([1, 2, 3, 4], "float32").reshape(1, 2, 2, 1)
    >>> tf.conv2d_transpose(x, np.ones((2, 2, 1, 1), "float32"), [1, 4, 4, 1], 2).reshape(4, 4)
    array([[1., 1., 2., 2.],
           [1., 1., 2., 2.],
           [3., 3., 4., 4.],
           [3., 3., 4., 4.]], dtype=float32)
    """
    options = _options(strides, padding, data_format, dilations)
    layout = options["data_format"].lower()
    given = adopted({"input": input, "filters": filters})
    shape, filter_shape = four("input", given["input"]), four("filters", given["filters"])
    sizes = output_shape.tolist() if isinstance(output_shape, np.ndarray) else output_shape
    if isinstance(sizes, (tuple, list)) and len(sizes) == 2:
        sizes = ordered_shape((common_shape(shape, layout)[0], filter_shape[2], *sizes), layout)
    result = arguments.shape4("output_shape", sizes)
    options["groups"] = _groups("output_shape", common_shape(result, layout)[1], filter_shape)
    expected = _check(("output_shape", result), ("filters", filter_shape), options)
    if expected != shape:
        raise ValueError(
            f"input must have shape {expected} for output_shape {result} and filters of shape "
            f"{filter_shape}, got {shape}"
        )
    return gpuconv.conv2d_input_grad(result, given["filters"], given["input"], **options)


def extract_patches(images: Any, sizes: Any, strides: Any, rates: Any, padding: Any, name: Any = None) -> Any:
    """Lay out patches of images, as ``tf.image.extract_patches`` does.

    Parameters
    ----------
    images : array (N, H, W, C)
        NumPy or CUDA array; float16, bfloat16, float32 or float64.
    sizes, strides, rates : int, pair or four numbers, 1 for batch and channels
        Cells of a patch, between patches, and between the cells of a patch.
    padding : {"SAME", "VALID"}
        As for `conv2d`.
    name : object
        Ignored.

    Returns
    -------
    array (N, P, Q, height·width·C)
        Patches by row, column and channel; zeros where they lie on the padding.

    Raises
    ------
    TypeError, ValueError, UnsupportedProblem
        As for `conv2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from gpuconv.compat import tensorflow as tf
    >>> x = np.arange(1, 10, dtype="float32").reshape(1, 3, 3, 1)
    >>> tf.extract_patches(x, [1, 2, 2, 1], [1, 1, 1, 1], [1, 1, 1, 1], "VALID").reshape(4, 4)
    array([[1., 2., 4., 5.],
           [2., 3., 5., 6.],
           [4., 5., 7., 8.],
           [5., 6., 8., 9.]], dtype=float32)
    """
    taps = steps("sizes", sizes, "NHWC")
    options: dict[str, Any] = {
        "stride": steps("strides", strides, "NHWC"),
        "dilation": steps("rates", rates, "NHWC"),
    }
    given = adopted({"images": images})
    shape = four("images", given["images"])
    options |= {"padding": word(padding, "'SAME' or 'VALID'"), "data_format": "NHWC"}
    _check(("images", shape), ("sizes", (*taps, max(shape[3], 1), 1)), options)
    return gpuconv.unfold(given["images"], taps, **options)


def _options(strides: Any, padding: Any, data_format: Any, dilations: Any) -> dict[str, Any]:
    """Turn TensorFlow's arguments into gpuconv's; the groups follow from the arrays."""
    layout = arguments.choice("data_format", data_format, [name.upper() for name in reversed(LAYOUTS)])
    return {
        "stride": steps("strides", strides, layout),
        "padding": padding_of(padding, layout),
        "dilation": (1, 1) if dilations is None else steps("dilations", dilations, layout),
        "data_format": layout,
        "weight_format": "HWIO",
    }


def _groups(name: str, channels: int, filters: Shape) -> int:
    if filters[2] < 1 or channels % filters[2]:
        raise ValueError(
            f"filters must have a number of channels in axis 2 (HWIO) that divides the {channels} of {name}, "
            f"got shape {filters}"
        )
    groups = max(channels // filters[2], 1)
    if filters[3] % groups:
        raise ValueError(
            f"filters must have a multiple of {channels}/{filters[2]} = {groups} groups in axis 3 (HWIO), "
            f"got shape {filters}"
        )
    return groups


def _check(x: tuple[str, Shape], w: tuple[str, Shape], options: dict[str, Any]) -> Shape:
    """The result's shape, or the error that calls both arrays what TensorFlow calls them."""
    return Options(**options).problem("fprop", x, w).y_shape


def _depthwise(given: dict[str, Any], options: dict[str, Any]) -> Any:
    """The images under the filter, whatever this is called."""
    (_, images), (name, array) = given.items()
    shape, filter_shape = four("input", images), four(name, array)
    channels = common_shape(shape, options["data_format"].lower())[1]
    height, width, each, multiplier = filter_shape
    if each != channels:
        raise ValueError(
            f"{name} must have the {channels} channels of input in axis 2, got shape {filter_shape}"
        )
    grouped = {**options, "groups": max(channels, 1)}
    wide = height, width, 1, channels * multiplier
    _check(("input", shape), (name, wide), grouped)
    return gpuconv.conv2d(images, array.reshape(wide), **grouped)
