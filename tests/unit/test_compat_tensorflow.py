"""TensorFlow's door against what TensorFlow itself answered, see tests/data/make_tensorflow.py."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pytest

from gpuconv.compat import tensorflow as tf
from tests.data.make_tensorflow import CALLS, numbers

HEAD, *FROZEN = json.loads((Path(__file__).parents[1] / "data/tensorflow.json").read_text(encoding="utf-8"))
ANSWERED = [entry for entry in FROZEN if "result" in entry]
REFUSED = [entry for entry in FROZEN if "refused" in entry]


def text(entry):
    return f"{entry['function']} {list(entry['arrays'].values())} {entry['arguments']}"


def arrays_of(entry, dtype="float32"):
    return {
        name: numbers(shape, salt).astype(dtype) for salt, (name, shape) in enumerate(entry["arrays"].items())
    }


def wanted_of(entry):
    return np.array(entry["result"], np.float32).reshape(entry["shape"])


def test_the_file_holds_every_call():
    plain = json.loads(json.dumps(CALLS))
    assert [[e["function"], e["arrays"], e["arguments"]] for e in FROZEN] == plain
    assert HEAD["tensorflow"].startswith("2.")
    assert {entry["function"] for entry in ANSWERED} == {
        "conv2d", "conv2d_transpose", "depthwise_conv2d", "extract_patches", "separable_conv2d",
    }  # fmt: skip


@pytest.mark.parametrize("entry", ANSWERED, ids=text)
def test_tensorflows_answer(entry):
    call = getattr(tf, entry["function"])
    found = call(**arrays_of(entry), **entry["arguments"])
    np.testing.assert_array_equal(found, wanted_of(entry), strict=True)
    # by position, in the order of TensorFlow's signature
    given = {**arrays_of(entry, "float64"), **entry["arguments"]}
    signature = inspect.signature(call).bind(**given)
    signature.apply_defaults()
    again = call(*signature.args)
    np.testing.assert_array_equal(again, wanted_of(entry).astype(np.float64), strict=True)


def to_nchw(value):
    """Four numbers or pairs in NHWC's order, in the other."""
    return [value[axis] for axis in (0, 3, 1, 2)] if isinstance(value, list) and len(value) == 4 else value


@pytest.mark.parametrize(
    "entry", [entry for entry in ANSWERED if entry["function"] != "extract_patches"], ids=text
)
def test_channels_first(entry):
    """Calls that TensorFlow takes on GPUs alone: the same numbers in the other order."""
    arrays = arrays_of(entry)
    arrays["input"] = arrays["input"].transpose(0, 3, 1, 2)
    arguments = {name: to_nchw(value) for name, value in entry["arguments"].items()}
    found = getattr(tf, entry["function"])(**arrays, **arguments, data_format="NCHW")
    np.testing.assert_array_equal(found, wanted_of(entry).transpose(0, 3, 1, 2))


@pytest.mark.parametrize("entry", REFUSED, ids=text)
def test_what_tensorflow_refuses(entry):
    names = "|".join([*entry["arrays"], *entry["arguments"]])
    with pytest.raises((TypeError, ValueError), match=rf"^({names})(\[\d\])? must "):
        getattr(tf, entry["function"])(**arrays_of(entry), **entry["arguments"])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_dtypes(dtype):
    dtype = np.dtype(pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype)
    entry = next(entry for entry in ANSWERED if entry["function"] == "separable_conv2d")
    ones = {name: np.ones_like(array) for name, array in arrays_of(entry, dtype).items()}
    found = tf.separable_conv2d(**ones, strides=1, padding="VALID")
    assert found.dtype == dtype
    assert (found == 36).all()


def test_an_empty_batch():
    assert tf.conv2d(np.ones((0, 4, 4, 3), "f"), np.ones((3, 3, 3, 2), "f"), 1, "SAME").shape == (0, 4, 4, 2)
    assert tf.extract_patches(np.ones((0, 4, 4, 3), "f"), [1, 2, 2, 1], 1, 1, "VALID").shape == (0, 3, 3, 12)


X, W = np.ones((1, 6, 5, 4), np.float32), np.ones((3, 3, 4, 2), np.float32)
CONV = {"input": X, "filters": W, "strides": 1, "padding": "SAME"}
UP = {"input": X, "filters": np.ones((3, 3, 2, 4), np.float32), "output_shape": [1, 12, 10, 2], "strides": 2}
PATCHES = {"images": X, "sizes": [1, 2, 2, 1], "strides": 1, "rates": 1, "padding": "VALID"}
WRONG = [
    (tf.conv2d, CONV, "input", TypeError, X.tolist()),
    (tf.conv2d, CONV, "input", TypeError, X.astype(int)),
    (tf.conv2d, CONV, "input", ValueError, X[0]),
    (tf.conv2d, CONV, "filters", TypeError, W.astype(np.float64)),
    (tf.conv2d, CONV, "filters", TypeError, None),
    (tf.conv2d, CONV, "filters", ValueError, W[0]),
    (tf.conv2d, CONV, "filters", ValueError, W[:, :, :0]),
    (tf.conv2d, CONV, "strides", TypeError, 1.5),
    (tf.conv2d, CONV, "strides", TypeError, None),
    (tf.conv2d, CONV, "strides", ValueError, [1, 1, 1, 1, 1]),
    (tf.conv2d, CONV, "padding", TypeError, 1),
    (tf.conv2d, CONV, "padding", ValueError, "same"),
    (tf.conv2d, CONV, "padding", ValueError, [[0, 0], [1, 1], [1, 1], [1, 0]]),
    (tf.conv2d, CONV, "padding", ValueError, [0, 1, 1, 0]),
    (tf.conv2d, CONV, "padding[1][0]", ValueError, [[0, 0], [-1, 1], [1, 1], [0, 0]]),
    (tf.conv2d, CONV, "data_format", ValueError, "nhwc"),
    (tf.conv2d, CONV, "dilations", ValueError, 0),
    (tf.depthwise_conv2d, CONV, "filter", TypeError, W.tolist()),
    (tf.depthwise_conv2d, CONV, "filter", TypeError, W.astype(np.float16)),
    (tf.depthwise_conv2d, CONV, "filter", ValueError, W[:, :, :3]),
    (
        tf.depthwise_conv2d,
        {**CONV, "padding": "VALID"},
        "filter",
        ValueError,
        np.ones((8, 8, 4, 1), np.float32),
    ),
    (tf.conv2d_transpose, UP, "output_shape", ValueError, [1, 12, 10]),
    (tf.conv2d_transpose, UP, "output_shape", TypeError, 12),
    (tf.conv2d_transpose, UP, "input", ValueError, X[:, :5]),
    (tf.conv2d_transpose, UP, "filters", ValueError, W),
    (tf.extract_patches, PATCHES, "images", TypeError, X.astype(np.uint8)),
    (tf.extract_patches, PATCHES, "images", ValueError, X[..., :0]),
    (tf.extract_patches, PATCHES, "sizes", ValueError, [1, 9, 9, 1]),
    (tf.extract_patches, PATCHES, "rates", ValueError, [2, 1, 1, 1]),
    (tf.extract_patches, PATCHES, "padding", ValueError, [[0, 0], [1, 1], [1, 1], [0, 0]]),
]


@pytest.mark.parametrize(("call", "given", "name", "error", "value"), WRONG)
def test_the_argument_is_named(call, given, name, error, value):
    given = {**given, name.split("[")[0]: value}
    if call is tf.depthwise_conv2d:
        del given["filters"]
    with pytest.raises(error) as caught:
        call(**given)
    assert str(caught.value).startswith(f"{name} must ")
