"""Problems to try by name, and the arrays that go with them in every memory layout."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from gpuconv.layout import FROM_COMMON, common_view
from gpuconv.problem import ConvProblem, Op
from gpuconv.validate import reference

try:
    from ml_dtypes import bfloat16
except ImportError:  # a machine that is lent has little installed; what needs the type is skipped there
    bfloat16 = None

NUMPY: dict[str, Any] = {"f16": np.float16, "bf16": bfloat16, "f32": np.float32, "f64": np.float64}
#: Names of the dtypes that NumPy has here.
DTYPES = tuple(name for name, dtype in NUMPY.items() if dtype is not None)

#: By what is awkward about them; forward problems, other directions through `with_op`.
NAMED = {
    "plain 3x3": "fprop_n2c8h10w12k16r3s3p1_nchw_f32",
    "plain 3x3 channels last": "fprop_n2c8h10w12k16r3s3p1_nhwc_f32",
    "channels last, ohwi": "fprop_n2c8h10w12k16r3s3p1_nhwc-ohwi_f32",
    "channels first, hwio": "fprop_n2c8h10w12k16r3s3p1_nchw-hwio_f32",
    "tail everywhere": "fprop_n3c5h11w13k7r3s3p1_nchw_f32",
    "one pixel out": "fprop_n2c6h5w5k4r5s5_nchw_f32",
    "one pixel in": "fprop_n2c6h1w1k4r3s3p1_nhwc_f32",
    "kernel larger than the image": "fprop_n1c2h3w4k3r7s7p3_nchw_f32",
    "stride 2": "fprop_n2c8h14w14k8r3s3u2p1_nchw_f32",
    "stride 3x1, kernel 5x2": "fprop_n1c3h17w9k4r5s2u3x1p2x1_nhwc_f32",
    "stride beyond the kernel": "fprop_n2c3h13w13k4r2s2u5_nchw_f32",
    "dilation": "fprop_n1c4h15w15k4r3s3p2d2_nchw_f32",
    "dilation and stride share a factor": "fprop_n1c4h19w19k4r4s4u4p3d6_nchw_f32",
    "dilation far outside": "fprop_n1c2h6w6k2r3s3p50d50_nchw_f32",
    "four sides": "fprop_n2c4h9w8k6r3s4u2p0+2x3+1_nhwc_f32",
    "pointwise": "fprop_n2c16h7w9k24r1s1_nchw_f32",
    "pointwise stride 2": "fprop_n2c16h8w8k24r1s1u2_nhwc_f32",
    "pointwise with padding": "fprop_n1c4h5w5k4r1s1p1_nchw_f32",
    "groups": "fprop_n2c12h9w9k18r3s3p1g3_nchw_f32",
    "groups channels last": "fprop_n2c12h9w9k18r3s3p1g3_nhwc_f32",
    "depthwise": "fprop_n2c24h12w12k24r3s3p1g24_nchw_f32",
    "depthwise channels last": "fprop_n2c24h12w12k24r3s3p1g24_nhwc_f32",
    "depthwise stride 2": "fprop_n2c9h13w13k9r5s5u2p2g9_nchw_f32",
    "depthwise 7x7 channels last": "fprop_n1c16h14w14k16r7s7p3g16_nhwc_f32",
    "depthwise dilated": "fprop_n1c5h17w16k5r3s3u2p2d3x2g5_nchw_f32",
    "channel multiplier": "fprop_n2c6h9w9k12r3s3p1g6_nchw_f32",
    "image": "fprop_n1c1h40w50k1r5s5p2_nchw_f32",
    "image, two filters": "fprop_n1c1h33w29k2r3s3_nhwc_f32",
    "first layer": "fprop_n1c3h32w32k16r7s7u2p3_nchw_f32",
    "half": "fprop_n2c8h9w9k8r3s3p1_nchw_f16",
    "bfloat": "fprop_n2c8h9w9k8r3s3p1_nhwc_bf16",
    "double": "fprop_n2c8h9w9k8r3s3p1_nchw_f64",
    "fused": "fprop_n2c8h9w9k8r3s3p1_nchw_f32+bias+res+relu",
    "fused half": "fprop_n2c8h9w9k8r3s3p1_nhwc_f16+bias+res+relu",
    "reflect": "fprop_n2c8h10w12k16r3s3p1_nchw_f32+reflect",
    "reflect on all sides, half": "fprop_n2c4h9w8k6r5s4u2p3+2x2+3_nhwc_f16+reflect",
    "replicate far outside": "fprop_n1c4h3w5k4r3s3p9d4_nchw_f32+replicate+bias+relu",
    "circular, grouped": "fprop_n2c6h7w8k6r5s5p7x8d2g3_nhwc_f64+circular",
    "circular, depthwise": "fprop_n2c9h13w13k9r5s5u2p2g9_nchw_bf16+circular+bias+res",
    "empty batch": "fprop_n0c4h8w8k4r3s3_nchw_f32",
}


def with_op(text: str, op: Op) -> ConvProblem:
    """The gradient problem of a forward one; gradients have no epilogue at the public door."""
    forward = ConvProblem.parse(text)
    return forward if op == "fprop" else replace(forward, op=op, bias=False, residual=False, relu=False)


def operands(p: ConvProblem, seed: int = 0, *, integers: bool = False) -> dict[str, Any]:
    """Arrays a, b and, where fused, bias and residual; normal, or small integers."""
    rng = np.random.default_rng(seed)
    a, b, out = p.operand_shapes
    shapes = {"a": a, "b": b, "bias": (p.out_channels,), "residual": out}
    present = {"a": True, "b": True, "bias": p.bias, "residual": p.residual}
    found: dict[str, Any] = {}
    for name, shape in shapes.items():
        values = rng.integers(-3, 4, shape) if integers else rng.standard_normal(shape)
        found[name] = values.astype(NUMPY[p.dtype]) if present[name] else None
    return found


def reach(p: ConvProblem, given: dict[str, Any], operand: str, at: tuple[int, ...]) -> tuple[Any, Any]:
    """Where one element of an operand is felt: which results it is part of, and which more may meet it.

    The second kind lies beside the zeros of the padding: there a weight meets every pixel of its channels,
    and an output's gradient every tap.
    """
    marker = np.zeros(given[operand].shape)
    marker[at] = 1
    ones = {key: np.ones(given[key].shape) for key in ("a", "b")}
    bare = replace(p, bias=False, residual=False, relu=False)
    reached = reference.evaluate(bare, **{**ones, operand: marker}) != 0
    if operand == "a":
        return reached, reached
    order = p.layout if p.op == "wgrad" else p.weights
    plane = common_view(marker, order)
    plane[...] = plane.max(axis=(2, 3), keepdims=True)
    order = p.weights if p.op == "wgrad" else p.layout
    channels = common_view(reference.evaluate(bare, **{**ones, operand: marker}) != 0, order)
    may = np.zeros_like(channels) | channels.any(axis=(2, 3), keepdims=True)
    return reached, may.transpose(FROM_COMMON[order])


DISGUISES = (
    "plain",
    "every second",
    "reversed",
    "transposed",
    "byte-swapped",
    "read-only",
    "offset by one element",
    "unaligned",
)


def disguise(array: Any, how: str) -> Any:
    """The same values in another memory layout."""
    if array is None or how == "plain" or array.ndim == 0:
        return array
    if how == "every second":
        wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), np.nan, array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    if how == "reversed":
        return np.ascontiguousarray(array[::-1, ..., ::-1])[::-1, ..., ::-1] if array.ndim > 1 else array
    if how == "transposed":
        return np.asfortranarray(array)
    if how == "byte-swapped":
        if bfloat16 is not None and array.dtype == bfloat16:  # has no other byte order
            return array
        return array.astype(array.dtype.newbyteorder())
    if how == "read-only":
        array = array.copy()
        array.flags.writeable = False
        return array
    skip = array.itemsize if how == "offset by one element" else 1
    room = np.zeros(array.nbytes + 2 * array.itemsize, np.uint8)
    moved = np.ndarray(array.shape, array.dtype, room, skip)
    moved[...] = array
    return moved


def public_call(p: ConvProblem, given: dict[str, Any], **more: Any) -> Any:
    """Run a problem through the public door, as its user would write it."""
    import gpuconv

    options = {
        "stride": p.stride,
        "padding": p.padding,
        "padding_mode": p.padding_mode,
        "dilation": p.dilation,
        "groups": p.groups,
        "data_format": p.layout.upper(),
        "weight_format": p.weights.upper(),
        "precision": p.precision,
        **more,
    }
    a, b = given["a"], given["b"]
    if p.op == "dgrad":
        return gpuconv.conv2d_input_grad(p.x_shape, b, a, **options)
    if p.op == "wgrad":
        return gpuconv.conv2d_weight_grad(a, p.w_shape, b, **options)
    options |= {"residual": given["residual"], "activation": "relu" if p.relu else None}
    return gpuconv.conv2d(a, b, given["bias"], **options)
