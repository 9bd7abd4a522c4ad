"""Wrong calls of convolutions, their gradients and the arithmetic: (argument, error, call)."""

from __future__ import annotations

import ml_dtypes
import numpy as np

import gpuconv

X = np.ones((2, 4, 8, 8), np.float32)
W = np.ones((6, 4, 3, 3), np.float32)
G = np.ones((2, 6, 6, 6), np.float32)
NAN = float("nan")
READ_ONLY = np.ones((2, 6, 6, 6), np.float32)
READ_ONLY.flags.writeable = False


ENDLESS: list = [1, 1]
ENDLESS[0] = ENDLESS


class Hostile:
    """Raises wherever it is looked at."""

    def __repr__(self):
        raise RuntimeError("no text")

    def __hash__(self):
        raise ValueError("no hash")


class Damaged:
    def __init__(self, interface):
        self.__cuda_array_interface__ = interface


def conv(x=X, w=W, bias=None, **options):
    return lambda: gpuconv.conv2d(x, w, bias, **options)


def igrad(shape=(2, 4, 8, 8), w=W, grad=G, **options):
    return lambda: gpuconv.conv2d_input_grad(shape, w, grad, **options)


def wgrad(x=X, shape=(6, 4, 3, 3), grad=G, **options):
    return lambda: gpuconv.conv2d_weight_grad(x, shape, grad, **options)


#: A transposed convolution takes G and W to X's shape.
def up(x=G, w=W, bias=None, **options):
    return lambda: gpuconv.conv_transpose2d(x, w, bias, **options)


def up_igrad(w=W, grad=X, **options):
    return lambda: gpuconv.conv_transpose2d_input_grad(w, grad, **options)


def up_wgrad(x=G, shape=(6, 4, 3, 3), grad=X, **options):
    return lambda: gpuconv.conv_transpose2d_weight_grad(x, shape, grad, **options)


COLS = np.ones((2, 36, 36), np.float32)


def unfold(x=X, size=3, **options):
    return lambda: gpuconv.unfold(x, size, **options)


def fold(cols=COLS, shape=(2, 4, 8, 8), size=3, **options):
    return lambda: gpuconv.fold(cols, shape, size, **options)


PICTURE, KERNEL = np.ones((7, 8), np.float32), np.ones((3, 2), np.float32)


def corr(in1=PICTURE, in2=KERNEL, *options, **more):
    return lambda: gpuconv.correlate2d(in1, in2, *options, **more)


def conv_like_scipy(in1=PICTURE, in2=KERNEL, *options, **more):
    return lambda: gpuconv.convolve2d(in1, in2, *options, **more)


def overlapping():
    room = np.ones(2 * 4 * 8 * 8 + 100, np.float32)
    x = room[: X.size].reshape(X.shape)
    return conv(x, out=room[-G.size :].reshape(G.shape))


WRONG = [
    # arrays that are none
    ("x", TypeError, conv([[1.0]])),
    ("x", TypeError, conv(None)),
    ("x", TypeError, conv("photo.png")),
    ("x", TypeError, conv(np.float32(1))),
    ("w", TypeError, conv(w=[[[[1.0]]]])),
    ("w", TypeError, conv(w=None)),
    ("bias", TypeError, conv(bias=[0.0] * 6)),
    ("bias", TypeError, conv(bias=0.5)),
    ("residual", TypeError, conv(residual=[1])),
    ("x", TypeError, conv(np.ma.masked_array(X))),
    # dtypes
    ("x", TypeError, conv(X.astype(complex))),
    ("x", TypeError, conv(X.astype(np.complex64), W.astype(np.complex64))),
    ("x", TypeError, conv(X.astype(object))),
    ("x", TypeError, conv(X.astype(str))),
    ("x", TypeError, conv(X.astype(np.uint8))),
    ("x", TypeError, conv(X.astype(bool))),
    ("x", TypeError, conv(X.astype(np.longdouble)) if np.longdouble is not np.float64 else conv(None)),
    ("x", TypeError, conv(X.astype("datetime64[s]"))),
    ("x", TypeError, conv(np.zeros(X.shape, [("re", "f4"), ("im", "f4")]))),
    ("w", TypeError, conv(w=W.astype(np.float64))),
    ("w", TypeError, conv(X.astype(np.float16), W.astype(ml_dtypes.bfloat16))),
    ("bias", TypeError, conv(bias=np.zeros(6))),
    ("residual", TypeError, conv(residual=G.astype(np.float16))),
    # dimensions and shapes
    ("x", ValueError, conv(X[0])),
    ("x", ValueError, conv(X[None])),
    ("x", ValueError, conv(np.ones((), np.float32))),
    ("w", ValueError, conv(w=W[0])),
    ("w", ValueError, conv(w=W[:, :3])),
    ("w", ValueError, conv(w=W[:0])),
    ("w", ValueError, conv(w=W[:, :, :0])),
    ("w", ValueError, conv(w=W[:, :0])),
    ("x", ValueError, conv(X[:, :0], W[:, :0])),
    ("x", ValueError, conv(X[:, :, :0], padding=5)),
    ("w", ValueError, conv(w=np.ones((6, 4, 9, 3), np.float32))),
    ("w", ValueError, conv(dilation=4)),
    ("w", ValueError, conv(X[:, :, :2, :2], padding="valid")),
    ("w", ValueError, conv(data_format="NHWC")),
    ("w", ValueError, conv(weight_format="HWIO")),
    ("bias", ValueError, conv(bias=np.zeros(1, np.float32))),
    ("bias", ValueError, conv(bias=np.zeros((6, 1), np.float32))),
    ("bias", ValueError, conv(bias=np.zeros((), np.float32))),
    ("residual", ValueError, conv(residual=G[:1])),
    ("residual", ValueError, conv(residual=X)),
    # stride, dilation, groups
    ("stride", ValueError, conv(stride=0)),
    ("stride", ValueError, conv(stride=-1)),
    ("stride", ValueError, conv(stride=(1, 0))),
    ("stride", ValueError, conv(stride=(1, 1, 1))),
    ("stride", ValueError, conv(stride=())),
    ("stride", ValueError, conv(stride=2**62)),
    ("stride", TypeError, conv(stride=NAN)),
    ("stride", TypeError, conv(stride=1.0)),
    ("stride", TypeError, conv(stride=True)),
    ("stride", TypeError, conv(stride=np.True_)),
    ("stride", TypeError, conv(stride=(True, 1))),
    ("stride", TypeError, conv(stride="2")),
    ("stride", TypeError, conv(stride=None)),
    ("stride", TypeError, conv(stride=(NAN, 1))),
    ("stride", TypeError, conv(stride=np.array([1, 1]))),
    ("dilation", ValueError, conv(dilation=0)),
    ("dilation", ValueError, conv(dilation=-2)),
    ("dilation", ValueError, conv(dilation=10**30)),
    ("dilation", TypeError, conv(dilation=(1.5, 1))),
    ("dilation", TypeError, conv(dilation={})),
    ("groups", ValueError, conv(groups=3)),
    ("groups", ValueError, conv(groups=0)),
    ("groups", ValueError, conv(w=np.ones((6, 1, 3, 3), np.float32), groups=4)),
    ("groups", TypeError, conv(groups=2.0)),
    ("groups", TypeError, conv(groups=(2, 2))),
    ("groups", TypeError, conv(groups=None)),
    ("w", ValueError, conv(groups=2)),
    # values that cannot be printed, hashed or ended
    ("stride", ValueError, conv(stride=10**5000)),
    ("padding", ValueError, conv(padding=10**5000)),
    ("groups", ValueError, conv(groups=10**5000)),
    ("padding", ValueError, conv(padding=ENDLESS)),
    ("stride", TypeError, conv(stride=Hostile())),
    ("activation", TypeError, conv(activation=Hostile())),
    ("x", TypeError, conv(Hostile())),
    ("x", TypeError, conv(Damaged({}), W)),
    ("x", TypeError, conv(Damaged(None), W)),
    ("w", TypeError, conv(X, Damaged({"shape": (1,), "typestr": "zz"}))),
    ("x", TypeError, conv(Damaged({"shape": tuple("abcd"), "typestr": "<f4"}), W)),
    ("x", TypeError, conv(Damaged({"shape": None, "typestr": "<f4"}), W)),
    (
        "grad_out",
        TypeError,
        lambda: gpuconv.conv2d_bias_grad(Damaged({"shape": (1, -1, 1, 1), "typestr": "<f4"})),
    ),
    ("activation", ValueError, conv(activation=np.str_("relu"))),
    # padding
    ("padding", ValueError, conv(padding=-1)),
    ("padding", ValueError, conv(padding=((0, -1), (0, 0)))),
    ("padding", ValueError, conv(padding=2**62)),
    ("padding", ValueError, conv(padding=2**31 - 1)),
    ("padding", ValueError, conv(padding=(1, 1, 1, 1))),
    ("padding", ValueError, conv(padding=((1, 1, 1), (1, 1)))),
    ("padding", ValueError, conv(padding=(1, (1, 1)))),
    ("padding", ValueError, conv(padding="SAME")),
    ("padding", ValueError, conv(padding="full")),
    ("padding", ValueError, conv(padding="")),
    ("padding", TypeError, conv(padding=0.5)),
    ("padding", TypeError, conv(padding=None)),
    ("padding", TypeError, conv(padding=False)),
    ("padding", TypeError, conv(padding=((0, 1.0), (0, 0)))),
    # padding_mode
    ("padding_mode", ValueError, conv(padding=1, padding_mode="mirror")),
    ("padding_mode", ValueError, conv(padding_mode="Reflect")),
    ("padding_mode", ValueError, conv(padding_mode="")),
    ("padding_mode", TypeError, conv(padding_mode=None)),
    ("padding_mode", TypeError, conv(padding_mode=0)),
    ("padding_mode", TypeError, igrad(padding_mode=("reflect", "zeros"))),
    ("padding_mode", ValueError, wgrad(padding_mode="wrap")),
    ("padding", ValueError, conv(padding=8, padding_mode="reflect")),
    ("padding", ValueError, conv(padding=((0, 0), (0, 8)), padding_mode="reflect")),
    ("padding", ValueError, conv(padding=9, padding_mode="circular")),
    ("padding", ValueError, conv(X[:, :, :1], padding="same", padding_mode="reflect")),
    ("padding", ValueError, conv(dilation=9, padding="same", padding_mode="circular")),
    ("padding", ValueError, igrad(padding=((8, 0), (1, 1)), padding_mode="reflect")),
    ("padding", ValueError, wgrad(padding=(1, 9), padding_mode="circular")),
    # words
    ("data_format", ValueError, conv(data_format="nchw")),
    ("data_format", ValueError, conv(data_format="CHWN")),
    ("data_format", TypeError, conv(data_format=None)),
    ("weight_format", ValueError, conv(weight_format="KCRS")),
    ("weight_format", TypeError, conv(weight_format=0)),
    ("activation", ValueError, conv(activation="gelu")),
    ("activation", ValueError, conv(activation="ReLU")),
    ("activation", TypeError, conv(activation=np.tanh)),
    ("activation", TypeError, conv(activation=False)),
    ("precision", ValueError, conv(precision="fp32")),
    ("precision", TypeError, conv(precision=None)),
    ("precision", ValueError, conv(X.astype(np.float64), W.astype(np.float64), precision="tf32")),
    ("precision", ValueError, conv(X.astype(np.float16), W.astype(np.float16), precision="tf32x3")),
    ("tune", TypeError, conv(tune=1)),
    ("tune", TypeError, conv(tune="yes")),
    # out
    ("out", TypeError, conv(out=[])),
    ("out", TypeError, conv(out=np.zeros(G.shape))),
    ("out", ValueError, conv(out=np.zeros(G.shape[1:], np.float32))),
    ("out", ValueError, conv(out=np.zeros((2, 6, 8, 8), np.float32))),
    ("out", ValueError, conv(out=READ_ONLY)),
    ("out", ValueError, conv(out=np.broadcast_to(np.zeros(1, np.float32), G.shape))),
    ("out", ValueError, overlapping()),
    ("out", ValueError, conv(X, np.ones((4, 4, 1, 1), np.float32), out=X)),
    # gradients
    ("input_shape", TypeError, igrad(8)),
    ("input_shape", TypeError, igrad(X)),
    ("input_shape", ValueError, igrad((2, 4, 8))),
    ("input_shape", TypeError, igrad((2, 4, 8, 8.0))),
    ("input_shape", ValueError, igrad((2, 4, 8, -8))),
    ("input_shape", ValueError, igrad((2, 0, 8, 8))),
    ("input_shape", ValueError, igrad((2, 4, 8, 2**40))),
    ("grad_out", ValueError, igrad((3, 4, 8, 8))),
    ("grad_out", ValueError, igrad(grad=G[:, :5])),
    ("grad_out", ValueError, igrad(stride=2)),
    ("grad_out", ValueError, igrad(grad=G[0])),
    ("grad_out", TypeError, igrad(grad=G.astype(np.float64))),
    ("grad_out", TypeError, igrad(grad=None)),
    ("w", ValueError, igrad((2, 5, 8, 8))),
    ("w", ValueError, igrad((2, 4, 2, 2))),
    ("weight_shape", TypeError, wgrad(shape=None)),
    ("weight_shape", ValueError, wgrad(shape=(6, 4, 3))),
    ("weight_shape", ValueError, wgrad(shape=(6, 3, 3, 3))),
    ("weight_shape", ValueError, wgrad(shape=(6, 4, 0, 3))),
    ("weight_shape", ValueError, wgrad(shape=(6, 4, 9, 9))),
    ("grad_out", ValueError, wgrad(padding=1)),
    ("out", ValueError, wgrad(out=np.zeros(G.shape, np.float32))),
    ("grad_out", TypeError, lambda: gpuconv.conv2d_bias_grad([1.0])),
    ("grad_out", TypeError, lambda: gpuconv.conv2d_bias_grad(G.astype(int))),
    ("grad_out", ValueError, lambda: gpuconv.conv2d_bias_grad(G[0])),
    ("data_format", ValueError, lambda: gpuconv.conv2d_bias_grad(G, data_format="HWC")),
    ("grad_out", ValueError, lambda: gpuconv.conv2d_bias_grad(G[:, :0])),
    ("grad_out", ValueError, lambda: gpuconv.conv2d_bias_grad(G[:, :, :0])),
    ("input_shape", ValueError, igrad((2**31 - 1,) * 4)),
    ("weight_shape", ValueError, wgrad(shape=(2**31 - 1,) * 4)),
    (
        "out",
        ValueError,
        conv(out=np.lib.stride_tricks.as_strided(np.zeros(99, np.float32), G.shape, (4,) * 4)),
    ),
    # arithmetic
    ("input_shape", ValueError, lambda: gpuconv.output_shape((1, 3, 7), (2, 3, 3, 3))),
    ("weight_shape", ValueError, lambda: gpuconv.output_shape((1, 3, 7, 7), (2, 2, 3, 3))),
    ("padding", TypeError, lambda: gpuconv.flops((1, 3, 7, 7), (2, 3, 3, 3), padding=[1.5, 1])),
    ("dtype", ValueError, lambda: gpuconv.min_bytes((1, 3, 7, 7), (2, 3, 3, 3), dtype="int8")),
    ("bias", TypeError, lambda: gpuconv.parameter_count((2, 3, 3, 3), bias=1)),
    ("weight_shape", ValueError, lambda: gpuconv.parameter_count((5, 1, 0, 2))),
    ("layers", TypeError, lambda: gpuconv.receptive_field(5)),
    ("layers", TypeError, lambda: gpuconv.receptive_field("33")),
    ("layers[1]", TypeError, lambda: gpuconv.receptive_field([(3,), 3])),
    ("layers[0] stride", ValueError, lambda: gpuconv.receptive_field([(3, 0)])),
]
