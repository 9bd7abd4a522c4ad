"""Write tensorflow.json beside this file: what TensorFlow itself answers to calls of its convolutions.

Needs TensorFlow, which nothing else here does; tensorflow-cpu 2.21.0 wrote what is kept. In an environment of
its own, from the root of the checkout::

    python3 -m venv .venv-tf && .venv-tf/bin/pip install tensorflow-cpu==2.21.0
    .venv-tf/bin/python -m tests.data.make_tensorflow

All arrays hold small integers made by `numbers`, so that every result is exact, and kept as integers.
"""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

TARGET = Path(__file__).with_name("tensorflow.json")


def numbers(shape: Any, salt: int = 0) -> Any:
    """Integers from −8 to 8, in float32."""
    return ((np.arange(prod(shape)) * 37 + salt * 11) % 17 - 8).reshape(shape).astype(np.float32)


def explicit(top: int, bottom: int, left: int, right: int) -> list[list[int]]:
    """Four-sided padding, as TensorFlow writes it for NHWC."""
    return [[0, 0], [top, bottom], [left, right], [0, 0]]


def conv(x: Any, w: Any, *rest: Any, **more: Any) -> tuple[Any, ...]:
    """A call of conv2d."""
    return "conv2d", {"input": x, "filters": w}, named(("strides", "padding"), rest, more)


def depthwise(x: Any, w: Any, *rest: Any, **more: Any) -> tuple[Any, ...]:
    """A call of depthwise_conv2d."""
    return "depthwise_conv2d", {"input": x, "filter": w}, named(("strides", "padding"), rest, more)


def separable(x: Any, w: Any, mix: Any, *rest: Any, **more: Any) -> tuple[Any, ...]:
    """A call of separable_conv2d."""
    arrays = {"input": x, "depthwise_filter": w, "pointwise_filter": mix}
    return "separable_conv2d", arrays, named(("strides", "padding"), rest, more)


def transposed(x: Any, w: Any, *rest: Any, **more: Any) -> tuple[Any, ...]:
    """A call of conv2d_transpose."""
    names = ("output_shape", "strides", "padding")
    return "conv2d_transpose", {"input": x, "filters": w}, named(names, rest, more)


def patches(x: Any, *rest: Any) -> tuple[Any, ...]:
    """A call of extract_patches."""
    return "extract_patches", {"images": x}, named(("sizes", "strides", "rates", "padding"), rest, {})


def named(names: tuple[str, ...], values: tuple[Any, ...], more: dict[str, Any]) -> dict[str, Any]:
    """Arguments by their names."""
    return {**dict(zip(names, values, strict=False)), **more}


CALLS = [
    # the tutorial's shapes
    conv((1, 3, 3, 5), (1, 1, 5, 1), [1, 1, 1, 1], "VALID"),
    conv((1, 3, 3, 5), (3, 3, 5, 1), [1, 1, 1, 1], "VALID"),
    conv((1, 5, 5, 5), (3, 3, 5, 1), [1, 1, 1, 1], "VALID"),
    conv((1, 5, 5, 5), (3, 3, 5, 1), [1, 1, 1, 1], "SAME"),
    conv((1, 5, 5, 5), (3, 3, 5, 7), [1, 1, 1, 1], "SAME"),
    conv((1, 5, 5, 5), (3, 3, 5, 7), [1, 2, 2, 1], "SAME"),
    conv((10, 5, 5, 5), (3, 3, 5, 7), [1, 2, 2, 1], "SAME"),
    conv((1, 10, 10, 10), (2, 10, 10, 10), [1, 2, 2, 1], "SAME"),
    # every way to write each argument
    conv((2, 7, 6, 3), (3, 2, 3, 4), 2, "SAME"),
    conv((2, 7, 6, 3), (3, 2, 3, 4), [2], "VALID"),
    conv((2, 7, 6, 3), (3, 2, 3, 4), [1, 3], "SAME"),
    conv((2, 7, 6, 3), (3, 2, 3, 4), [1, 3, 1, 1], "SAME", dilations=[1, 1, 2, 1]),
    conv((2, 7, 6, 3), (3, 2, 3, 4), 1, "VALID", dilations=3),
    conv((2, 7, 6, 3), (3, 2, 3, 4), 1, "SAME", dilations=[2, 3]),
    conv((2, 7, 6, 3), (3, 2, 3, 4), [1, 2, 1, 1], explicit(1, 2, 0, 3)),
    conv((2, 7, 6, 4), (3, 3, 2, 6), 1, "SAME"),
    conv((1, 4, 4, 3), (3, 3, 1, 6), 2, "SAME", name="depthwise"),
    depthwise((2, 6, 5, 3), (3, 2, 3, 2), [1, 1, 1, 1], "SAME"),
    depthwise((2, 6, 5, 3), (3, 3, 3, 1), [1, 2, 2, 1], "VALID"),
    depthwise((2, 6, 5, 3), (3, 3, 3, 2), [1, 1, 1, 1], "SAME", dilations=[2, 2]),
    depthwise((2, 6, 5, 3), (2, 3, 3, 2), [1, 1, 1, 1], explicit(1, 0, 2, 1)),
    separable((1, 6, 5, 2), (3, 3, 2, 2), (1, 1, 4, 3), [1, 1, 1, 1], "SAME"),
    separable((1, 6, 5, 2), (3, 2, 2, 1), (1, 1, 2, 5), [1, 2, 2, 1], "VALID"),
    transposed((1, 3, 3, 4), (3, 3, 2, 4), [1, 5, 5, 2], 2, "SAME"),
    transposed((1, 3, 3, 4), (3, 3, 2, 4), [1, 6, 6, 2], [1, 2, 2, 1]),
    transposed((1, 3, 3, 4), (3, 3, 2, 4), [1, 7, 8, 2], [2, 2], "VALID"),
    transposed((2, 3, 4, 2), (2, 3, 3, 2), [2, 3, 4, 3], 1, "SAME"),
    transposed((1, 3, 3, 4), (3, 3, 2, 4), [1, 6, 6, 2], 2, explicit(1, 0, 0, 1)),
    transposed((1, 3, 3, 4), (3, 3, 2, 4), [6, 6], 2, "SAME"),
    patches((2, 5, 6, 3), [1, 2, 3, 1], [1, 1, 1, 1], [1, 1, 1, 1], "VALID"),
    patches((2, 5, 6, 3), [1, 3, 3, 1], [1, 2, 2, 1], [1, 1, 1, 1], "SAME"),
    patches((2, 7, 6, 2), [1, 3, 2, 1], [1, 2, 1, 1], [1, 2, 3, 1], "VALID"),
    patches((1, 7, 6, 2), [1, 2, 2, 1], [1, 3, 4, 1], [1, 3, 2, 1], "SAME"),
    # what TensorFlow refuses
    conv((1, 5, 5, 4), (3, 3, 4, 2), 1, "same"),
    conv((1, 5, 5, 4), (3, 3, 4, 2), 1, "FULL"),
    conv((1, 5, 5, 4), (3, 3, 4, 2), 1, [[1, 1], [1, 1]]),
    conv((1, 5, 5, 4), (3, 3, 4, 2), 0, "SAME"),
    conv((1, 5, 5, 4), (3, 3, 4, 2), [1, 2, 3], "SAME"),
    conv((1, 5, 5, 4), (3, 3, 4, 2), [2, 1, 1, 1], "SAME"),
    conv((1, 5, 5, 4), (3, 3, 4, 2), [1, 1, 1, 2], "SAME"),
    conv((1, 5, 5, 4), (3, 3, 4, 2), 1, "SAME", dilations=[1, 1, 1, 2]),
    conv((1, 5, 5, 4), (7, 7, 4, 2), 1, "VALID"),
    conv((1, 5, 5, 4), (3, 3, 3, 2), 1, "SAME"),
    conv((1, 5, 5, 4), (3, 3, 2, 3), 1, "SAME"),
    conv((1, 5, 5, 4), (3, 3, 4, 2), 1, "SAME", data_format="NWHC"),
    depthwise((1, 5, 5, 4), (3, 3, 3, 2), [1, 1, 1, 1], "SAME"),
    separable((1, 6, 5, 2), (3, 3, 2, 2), (1, 1, 3, 3), [1, 1, 1, 1], "SAME"),
    separable((1, 6, 5, 2), (3, 3, 2, 2), (3, 3, 4, 3), [1, 1, 1, 1], "SAME"),
    transposed((1, 3, 3, 4), (3, 3, 2, 4), [1, 7, 7, 2], 2, "SAME"),
    transposed((1, 3, 3, 4), (3, 3, 2, 3), [1, 6, 6, 2], 2, "SAME"),
    transposed((1, 3, 3, 4), (3, 3, 2, 4), [1, 6, 6, 3], 2, "SAME"),
    patches((1, 5, 6, 3), [1, 7, 7, 1], [1, 1, 1, 1], [1, 1, 1, 1], "VALID"),
    patches((1, 5, 6, 3), [1, 2, 2, 3], [1, 1, 1, 1], [1, 1, 1, 1], "VALID"),
]


def main() -> None:
    """Ask TensorFlow."""
    import tensorflow as tf

    lines = []
    for function, shapes, arguments in CALLS:
        module = tf.image if function == "extract_patches" else tf.nn
        arrays = {name: numbers(shape, salt) for salt, (name, shape) in enumerate(shapes.items())}
        entry: dict[str, Any] = {"function": function, "arrays": shapes, "arguments": arguments}
        try:
            found = getattr(module, function)(**arrays, **arguments).numpy()
        except (tf.errors.OpError, TypeError, ValueError) as error:
            entry["refused"] = type(error).__name__
        else:
            assert (found == np.rint(found)).all()
            entry |= {"shape": found.shape, "result": found.astype(int).ravel().tolist()}
        lines.append(json.dumps(entry))
    head = json.dumps({"tensorflow": tf.__version__})
    TARGET.write_text("[\n" + ",\n".join([head, *lines]) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
