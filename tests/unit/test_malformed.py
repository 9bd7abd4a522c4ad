"""Every wrong call gets one clear error that names the argument, before anything is computed."""

from __future__ import annotations

import numpy as np
import pytest

import gpuconv
from gpuconv.kernels.cpu.im2col_gemm import CpuIm2colGemm, CpuPointwise

from ..stand_in import DeviceArray, Foreign
from . import wrong_calls, wrong_doors
from .wrong_calls import (
    KERNEL,
    PICTURE,
    G,
    W,
    X,
    conv,
    conv_like_scipy,
    corr,
    igrad,
    wgrad,
)

WRONG = [*wrong_calls.WRONG, *wrong_doors.WRONG]


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
    for wrong in ({"stride": 0}, {"bias": np.zeros(1, np.float32)}, {"padding": 1}, {"activation": "gelu"}):
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


conv()()  # its plan is found on the CPU before stand-ins are all the kernels that there are


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
