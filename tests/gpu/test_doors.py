"""The layer, the gradient to the bias and PyTorch's door on a real GPU."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

import gpuconv
from tests.problems import DTYPES, NUMPY


def integers(shape, dtype, seed=0):
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(NUMPY[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("shape", [(2, 33, 40, 31), (3, 5, 1, 1), (64, 3, 56, 56), (0, 3, 4, 4)])
def test_bias_gradients(machine, shape, layout, dtype):
    grad = integers(shape, dtype)
    expected = (
        grad.astype(np.float64).sum(axis=tuple({0, 1, 2, 3} - {layout.index("C")})).astype(NUMPY[dtype])
    )
    for offset in (0, 1):
        found = gpuconv.conv2d_bias_grad(machine.put(grad, offset), data_format=layout)
        np.testing.assert_array_equal(machine.get(found), expected, strict=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("data_format", ["NCHW", "NHWC"])
def test_a_layer(machine, data_format, dtype):
    name = np.dtype(NUMPY[dtype]).name
    here = gpuconv.Conv2D(4, 6, 3, padding=1, groups=2, data_format=data_format, dtype=name, rng=0)
    for parameter in here.parameters():
        parameter[...] = np.rint(parameter * 8)
    there = gpuconv.Conv2D(4, 6, 3, padding=1, groups=2, data_format=data_format, dtype=name, xp=machine.cupy)
    there.load_state_dict(here.state_dict())
    x = integers((2, 4, 9, 8) if data_format == "NCHW" else (2, 9, 8, 4), dtype)
    y, y_there = here(x), there(machine.put(x, 0))
    pairs = [(y, y_there), (here.backward(y), there.backward(machine.put(y, 0)))]
    pairs += [(here.grad_weight, there.grad_weight), (here.grad_bias, there.grad_bias)]
    for one, other in pairs:
        np.testing.assert_array_equal(one, machine.get(other))
    there.weight.view("uint8").fill(0)  # the gradients are still those of the call
    np.testing.assert_array_equal(pairs[1][0], machine.get(there.backward(machine.put(y, 0))))


@pytest.fixture(scope="module")
def torch(machine, need):
    if importlib.util.find_spec("torch") is None:
        need("torch", "PyTorch is not installed")
    import torch

    if not torch.cuda.is_available():
        need("torch", "this PyTorch has no CUDA")
    return torch


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_tensors(torch, dtype, channels_last):
    """On a stream of their own, which nothing waits for; integers, so that every result is exact."""
    from gpuconv.compat import torch as door

    with torch.cuda.stream(torch.cuda.Stream()):
        x, w, b = (
            torch.randint(-2, 3, shape, device="cuda").to(getattr(torch, dtype))
            for shape in ((2, 4, 12, 11), (6, 2, 3, 3), (6,))
        )
        if channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        options = {"stride": 2, "padding": 1, "groups": 2}
        results = []
        for call, kind in ((door.conv2d, x.dtype), (torch.nn.functional.conv2d, torch.float64)):
            given = [part.to(kind).requires_grad_() for part in (x, w, b)]
            y = call(*given, **options)
            results.append([y, *torch.autograd.grad(y, given, torch.ones_like(y))])
        for ours, theirs in zip(*results, strict=True):
            assert ours.device == x.device
            assert not ours._is_view()
            assert torch.equal(ours, theirs.to(ours.dtype))
        assert results[0][0].is_contiguous(memory_format=torch.channels_last) is channels_last
        patches = door.unfold(x, 3, padding=1)
        assert torch.equal(patches, torch.nn.functional.unfold(x.double(), 3, padding=1).to(x.dtype))


def test_devices_do_not_mix(torch):
    from gpuconv.compat import torch as door

    with pytest.raises(TypeError, match=r"^weight must be on cuda:0 like input, it is on cpu"):
        door.conv2d(torch.ones(1, 1, 4, 4, device="cuda"), torch.ones(1, 1, 2, 2))
