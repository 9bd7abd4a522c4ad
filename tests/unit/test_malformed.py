"""Every wrong call gets one clear error that names the argument, before anything is computed."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import gpuconv
from gpuconv.kernels.cpu.im2col_gemm import CpuIm2colGemm, CpuPointwise

from ..stand_in import DeviceArray, Foreign

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
    ("tune", ValueError, conv(tune=True)),
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
    # transposed
    ("x", TypeError, up([[1.0]])),
    ("x", ValueError, up(G[0])),
    ("x", ValueError, up(G[:, :, :0])),
    ("w", ValueError, up(X)),
    ("w", ValueError, up(w=W[:, :0])),
    ("w", ValueError, up(weight_format="HWIO")),
    ("w", TypeError, up(w=W.astype(np.float64))),
    ("w", TypeError, up(w=None)),
    ("bias", ValueError, up(bias=np.zeros(6, np.float32))),
    ("residual", ValueError, up(residual=G)),
    ("residual", TypeError, up(residual=X.astype(np.float16))),
    ("stride", ValueError, up(stride=0)),
    ("dilation", TypeError, up(dilation=1.5)),
    ("groups", ValueError, up(groups=4)),
    ("groups", TypeError, up(groups=True)),
    ("padding", ValueError, up(padding="same")),
    ("padding", ValueError, up(padding="valid")),
    ("padding", ValueError, up(padding=4)),
    ("padding", ValueError, up(padding=-1)),
    ("padding", ValueError, up(padding=((0, 8), (0, 0)))),
    ("padding", TypeError, up(padding=None)),
    ("output_padding", ValueError, up(output_padding=1)),
    ("output_padding", ValueError, up(output_padding=-1)),
    ("output_padding", ValueError, up(stride=(3, 2), output_padding=2)),
    ("output_padding", ValueError, up(stride=2, dilation=3, output_padding=(3, 0))),
    ("output_padding", TypeError, up(output_padding=0.0)),
    ("output_padding", TypeError, up(output_padding=True)),
    ("output_padding", TypeError, up(output_padding="same")),
    ("output_padding", ValueError, up(output_padding=(0, 0, 0))),
    ("x", ValueError, up(stride=2**31 - 1)),
    ("x", ValueError, up(stride=2**30 // 3)),
    ("data_format", ValueError, up(data_format="nhwc")),
    ("precision", ValueError, up(precision="fp32")),
    ("activation", ValueError, up(activation="gelu")),
    ("tune", ValueError, up(tune=True)),
    ("out", ValueError, up(out=np.zeros(G.shape, np.float32))),
    ("out", ValueError, up(G, np.ones((6, 6, 1, 1), np.float32), out=G)),
    ("grad_out", ValueError, up_igrad(grad=X[:, :3])),
    ("grad_out", ValueError, up_igrad(grad=X[:, :, :2])),
    ("grad_out", ValueError, up_igrad(stride=2)),
    ("grad_out", ValueError, up_igrad(grad=X[:, :, :0])),
    ("grad_out", TypeError, up_igrad(grad=X.astype(np.float64))),
    ("w", ValueError, up_igrad(w=W[..., :0])),
    ("w", TypeError, up_igrad(w=[1.0])),
    ("padding", ValueError, up_igrad(padding="same")),
    ("output_padding", ValueError, up_igrad(output_padding=1)),
    ("weight_shape", TypeError, up_wgrad(shape=9)),
    ("weight_shape", ValueError, up_wgrad(shape=(6, 4, 3))),
    ("weight_shape", ValueError, up_wgrad(shape=(5, 4, 3, 3))),
    ("grad_out", ValueError, up_wgrad(shape=(6, 4, 3, 4))),
    ("grad_out", ValueError, up_wgrad(stride=2)),
    ("x", TypeError, up_wgrad(x=None)),
    # patches
    ("x", TypeError, unfold([[1.0]])),
    ("x", TypeError, unfold(X.astype(int))),
    ("x", TypeError, unfold(np.ma.masked_array(X))),
    ("x", ValueError, unfold(X[0])),
    ("x", ValueError, unfold(X[:, :0])),
    ("x", ValueError, unfold(X[:, :, :0])),
    ("kernel_size", ValueError, unfold(size=9)),
    ("kernel_size", ValueError, unfold(size=0)),
    ("kernel_size", ValueError, unfold(size=(3, 3, 3))),
    ("kernel_size", TypeError, unfold(size=3.0)),
    ("kernel_size", TypeError, unfold(size=None)),
    ("kernel_size", ValueError, unfold(dilation=4)),
    ("kernel_size", ValueError, unfold(X, 2**20, padding=2**29)),
    ("stride", ValueError, unfold(stride=0)),
    ("dilation", TypeError, unfold(dilation="2")),
    ("padding", ValueError, unfold(padding="full")),
    ("padding", ValueError, unfold(padding=-1)),
    ("data_format", ValueError, unfold(data_format="nchw")),
    ("out", ValueError, unfold(out=np.zeros((2, 36, 6, 6), np.float32))),
    ("out", TypeError, unfold(out=np.zeros(COLS.shape))),
    ("out", ValueError, unfold(size=1, out=X.reshape(2, 4, 64))),
    ("cols", TypeError, fold(None)),
    ("cols", ValueError, fold(COLS[0])),
    ("cols", ValueError, fold(COLS[:, :9])),
    ("cols", ValueError, fold(padding=1)),
    ("cols", ValueError, fold(data_format="NHWC")),
    ("cols", TypeError, fold(COLS.astype(bool))),
    ("input_shape", TypeError, fold(shape=8)),
    ("input_shape", ValueError, fold(shape=(8, 8))),
    ("input_shape", ValueError, fold(shape=(2, 0, 8, 8))),
    ("input_shape", TypeError, fold(shape=(2, 4, 8.0, 8))),
    ("kernel_size", ValueError, fold(size=9)),
    ("kernel_size", TypeError, fold(size="3")),
    ("stride", TypeError, fold(stride=None)),
    ("out", ValueError, fold(out=np.zeros((2, 4, 8, 9), np.float32))),
    ("out", TypeError, fold(out=[])),
    # filters
    ("in1", TypeError, corr([[1.0]])),
    ("in1", TypeError, corr(None)),
    ("in1", TypeError, corr(Hostile())),
    ("in1", TypeError, corr(np.ma.masked_array(PICTURE))),
    ("in1", TypeError, corr(PICTURE.astype(complex))),
    ("in1", TypeError, corr(PICTURE.astype(object))),
    ("in1", TypeError, corr(PICTURE.astype("timedelta64[s]"))),
    ("in1", ValueError, corr(PICTURE[0])),
    ("in1", ValueError, corr(PICTURE[None, None])),
    ("in1", ValueError, corr(PICTURE[:0])),
    ("in1", ValueError, corr(PICTURE[:, :, None][..., :0])),
    ("in2", TypeError, corr(in2=[[1.0]])),
    ("in2", TypeError, corr(in2=2.0)),
    ("in2", TypeError, corr(in2=KERNEL.astype(np.complex64))),
    ("in2", TypeError, corr(in2=KERNEL.astype(str))),
    ("in2", ValueError, corr(in2=KERNEL[0])),
    ("in2", ValueError, corr(in2=KERNEL[:, :, None])),
    ("in2", ValueError, corr(in2=KERNEL[:, :0])),
    ("in2", ValueError, corr(PICTURE[:2], mode="valid")),
    ("mode", ValueError, corr(mode="SAME")),
    ("mode", ValueError, corr(mode="")),
    ("mode", TypeError, corr(mode=None)),
    ("mode", TypeError, corr(mode=2)),
    ("boundary", ValueError, corr(boundary="reflect")),
    ("boundary", ValueError, corr(PICTURE, KERNEL, "full", "constant")),
    ("boundary", TypeError, corr(boundary=0)),
    ("fillvalue", TypeError, corr(fillvalue=1j)),
    ("fillvalue", TypeError, corr(fillvalue="0")),
    ("fillvalue", TypeError, corr(fillvalue=None)),
    ("fillvalue", TypeError, corr(fillvalue=True)),
    ("fillvalue", TypeError, corr(fillvalue=np.zeros(1))),
    ("fillvalue", ValueError, corr(fillvalue=1e39)),
    ("fillvalue", ValueError, corr(fillvalue=10**5000)),
    ("in1", TypeError, conv_like_scipy(PICTURE.astype(complex))),
    ("in2", ValueError, conv_like_scipy(PICTURE[:, :1], mode="valid")),
    ("mode", ValueError, conv_like_scipy(mode="half")),
    ("boundary", ValueError, conv_like_scipy(boundary="symmetric")),
    ("fillvalue", TypeError, conv_like_scipy(fillvalue=[0])),
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


def test_there_are_at_least_sixty():
    assert len(WRONG) >= 60


@pytest.mark.parametrize("again", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize(
    ("argument", "error", "call"), WRONG, ids=lambda value: getattr(value, "__name__", None)
)
def test_the_error_names_the_argument(argument, error, call, again):
    if again:  # right calls of the same shapes must not have opened a way around the checks
        gpuconv.conv2d(X, W)
        gpuconv.conv2d(X, W, activation="relu")
        gpuconv.conv2d(X, W, stride=(1, 1), padding=((0, 1), (0, 0)), tune=False)
        gpuconv.conv2d_input_grad((2, 4, 8, 8), W, G)
        gpuconv.conv2d_weight_grad(X, (6, 4, 3, 3), G)
        gpuconv.conv_transpose2d(G, W)
        gpuconv.conv_transpose2d(G, W, stride=2, output_padding=0)
        gpuconv.conv_transpose2d_input_grad(W, X)
        gpuconv.conv_transpose2d_weight_grad(G, (6, 4, 3, 3), X)
        gpuconv.fold(gpuconv.unfold(X, 3), X.shape, 3)
    with pytest.raises(error) as raised:
        call()
    assert type(raised.value) is error
    message = str(raised.value)
    assert message.startswith(argument), message
    assert "\n" not in message


def test_a_failed_call_leaves_out_untouched():
    out = np.full(G.shape, 7, np.float32)
    for wrong in ({"stride": 0}, {"bias": np.zeros(1, np.float32)}, {"padding": 1}, {"tune": True}):
        with pytest.raises(ValueError):
            gpuconv.conv2d(X, W, out=out, **wrong)
        assert (out == 7).all()


def test_complex_input_says_how_to_split():
    with pytest.raises(TypeError, match=r"x\.real and x\.imag"):
        conv(X.astype(complex))()


@pytest.mark.parametrize("call", [corr, conv_like_scipy])
def test_complex_pictures_and_kernels_too(call):
    with pytest.raises(TypeError, match=r"^in1 .*in1\.real and in1\.imag"):
        call(PICTURE.astype(complex))()
    with pytest.raises(TypeError, match=r"^in2 .*in2\.real and in2\.imag"):
        call(in2=KERNEL.astype(np.complex64))()


def test_too_little_memory_leaves_out_untouched(monkeypatch):
    from gpuconv.kernels.cpu import blocks

    def refuse(*args):
        raise MemoryError

    out = np.full(G.shape, 7, np.float32)
    monkeypatch.setattr(blocks.np, "empty", refuse)
    with pytest.raises(MemoryError):
        gpuconv.conv2d(X, W, out=out)
    monkeypatch.undo()
    assert (out == 7).all()


class OnDevice(Foreign):
    """A CUDA array of a library that says no more than it must."""

    def __init__(self, array, index=0):
        super().__init__(DeviceArray(array, index))


class Torch:
    """A CUDA tensor of PyTorch: a dtype that is not NumPy's, and a device with an index."""

    def __init__(self, array):
        self.source = DeviceArray(array, 1)
        self.shape, self.dtype = array.shape, "torch.float32"
        self.device = type("device", (), {"index": 1})()
        self.__cuda_array_interface__ = self.source.__cuda_array_interface__


class Raising:
    """A CUDA array whose own properties raise."""

    def __init__(self, array):
        self.source = DeviceArray(array)
        self.__cuda_array_interface__ = self.source.__cuda_array_interface__

    @property
    def device(self):
        raise RuntimeError("no device")

    shape = dtype = device


class Bare:
    """A CUDA array of another library: the interface and nothing else."""

    def __init__(self, array):
        self.source = DeviceArray(array)
        self.__cuda_array_interface__ = self.source.__cuda_array_interface__


@pytest.mark.parametrize("kind", [OnDevice, Bare, Torch, Raising])
def test_device_arrays_are_recognised_and_told_that_no_kernel_runs_them(card, kernels, kind):
    kernels(CpuPointwise(), CpuIm2colGemm())
    for call, text in (
        (conv(kind(X), kind(W)), "fprop_n2c4h8w8k6r3s3_nchw_f32"),
        (igrad(w=kind(W), grad=kind(G)), "dgrad_n2c4h8w8k6r3s3_nchw_f32"),
        (wgrad(kind(X), grad=kind(G)), "wgrad_n2c4h8w8k6r3s3_nchw_f32"),
        (lambda: gpuconv.conv2d_bias_grad(kind(G)), "bgrad"),
    ):
        with pytest.raises(gpuconv.UnsupportedProblem, match=text) as raised:
            call()
        assert raised.value.rejects
        assert all(reject.reason for reject in raised.value.rejects)


def test_device_arrays_are_checked_like_others(card):
    with pytest.raises(ValueError, match=r"^stride must be"):
        conv(OnDevice(X), OnDevice(W), stride=0)()
    with pytest.raises(ValueError, match=r"^w must have 4/1"):
        conv(OnDevice(X), OnDevice(W[:, :3]))()


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("w", conv(OnDevice(X), W)),
        ("w", conv(X, OnDevice(W))),
        ("w", conv(OnDevice(X, 0), OnDevice(W, 1))),
        ("w", conv(OnDevice(X, 0), Torch(W))),
        ("bias", conv(bias=OnDevice(np.zeros(6, np.float32)))),
        ("out", conv(out=OnDevice(G))),
        ("grad_out", wgrad(OnDevice(X))),
    ],
)
def test_host_and_device_do_not_mix(card, name, call):
    with pytest.raises(TypeError, match=rf"^{name} must be on"):
        call()
