"""The functions against PyTorch's own, forward and through gradients of two orders."""

from __future__ import annotations

import numpy as np
import pytest

import gpuconv

from .problems import CONVOLUTIONS, PATCHES, TRANSPOSED

BOTH = {
    **{f"conv2d {name}": ("conv2d", *case) for name, case in CONVOLUTIONS.items()},
    **{f"conv_transpose2d {name}": ("conv_transpose2d", *case) for name, case in TRANSPOSED.items()},
}
BATCHES = {name: case for name, case in BOTH.items() if len(case[1]) == 4}
EVERY = pytest.mark.parametrize(("function", "x", "w", "options"), BOTH.values(), ids=BOTH)


def integers(torch, shape, seed=0, dtype=None):
    made = np.random.default_rng(seed).integers(-4, 5, shape)
    return torch.from_numpy(made).to(dtype or torch.float32)


def out_channels(function, w, options):
    return w[0] if function == "conv2d" else w[1] * options.get("groups", 1)


@pytest.fixture
def numbers(torch):
    def made(function, x, w, options, dtype=None):
        bias = (out_channels(function, w, options),)
        return [
            integers(torch, shape, seed, dtype).requires_grad_() for seed, shape in enumerate((x, w, bias))
        ]

    return made


@EVERY
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_small_integers_are_exact(torch, door, numbers, function, x, w, options, dtype):
    given = numbers(function, x, w, options, getattr(torch, dtype))
    found = getattr(door, function)(*given, **options)
    wanted = getattr(torch.nn.functional, function)(*(part.double() for part in given), **options)
    assert found.dtype == given[0].dtype
    assert torch.equal(found, wanted.to(found.dtype))
    grad = integers(torch, found.shape, 7, found.dtype)
    ours = torch.autograd.grad(found, given, grad)
    theirs = torch.autograd.grad(wanted, given, grad.double())
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == found.dtype
        assert torch.equal(one, other.to(one.dtype))


@EVERY
def test_gradients_of_both_orders(torch, door, numbers, function, x, w, options):
    given = numbers(function, x, w, options, torch.float64)

    def call(*arguments):
        return getattr(door, function)(*arguments, **options)

    assert torch.autograd.gradcheck(call, given)
    assert torch.autograd.gradgradcheck(call, given)


# memory formats have four dimensions
@pytest.mark.parametrize(("function", "x", "w", "options"), BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("weights_too", [False, True])
def test_channels_last_stays_so(torch, door, numbers, monkeypatch, function, x, w, options, weights_too):
    given = numbers(function, x, w, options)
    seen = []
    real = getattr(gpuconv, function)
    monkeypatch.setitem(
        getattr(door_maps(), "_CONVOLUTION" if function == "conv2d" else "_TRANSPOSED"),
        "y",
        lambda x, w, **options: seen.append((x, options)) or real(x, w, **options),
    )
    wanted = getattr(torch.nn.functional, function)(*given, **options)
    last = [part.detach().clone().requires_grad_() for part in given]
    with torch.no_grad():
        for index in range(1 + weights_too):
            last[index] = last[index].contiguous(memory_format=torch.channels_last).requires_grad_()
    found = getattr(door, function)(*last, **options)
    assert torch.equal(found, wanted)
    ((array, how),) = seen
    assert array.flags.c_contiguous
    assert how["data_format"] == "NHWC"
    assert array.__array_interface__["data"][0] == last[0].data_ptr()
    assert how["out"].__array_interface__["data"][0] == found.data_ptr()
    assert found.permute(0, 2, 3, 1).is_contiguous()
    grad = integers(torch, found.shape, 7)
    ours, theirs = (torch.autograd.grad(y, g, grad) for y, g in ((found, last), (wanted, given)))
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)
    assert ours[0].permute(0, 2, 3, 1).is_contiguous()


def door_maps():
    from gpuconv.compat import torch_autograd

    return torch_autograd


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_nothing_is_copied(torch, door, monkeypatch, dtype):
    seen = []
    real = gpuconv.conv2d
    monkeypatch.setitem(
        door_maps()._CONVOLUTION,
        "y",
        lambda *given, **options: (
            seen.extend([*given, options["bias"], options["out"]]) or real(*given, **options)
        ),
    )
    x, w, b = (torch.ones(shape, dtype=getattr(torch, dtype)) for shape in ((2, 3, 6, 9), (4, 3, 3, 3), (4,)))
    part = x[:, :, ::2, 1::3]  # any strides
    y = door.conv2d(part, w, b)
    assert [array.__array_interface__["data"][0] for array in seen] == [
        part.data_ptr(), w.data_ptr(), b.data_ptr(), y.data_ptr(),
    ]  # fmt: skip
    assert seen[0].strides == tuple(step * part.element_size() for step in part.stride())
    assert (y == 28).all()


@pytest.mark.parametrize(("x", "options"), PATCHES.values(), ids=PATCHES)
def test_patches(torch, door, x, options):
    given = integers(torch, x, dtype=torch.float64).requires_grad_()
    found = door.unfold(given, **options)
    assert torch.equal(found, torch.nn.functional.unfold(given, **options))
    back = door.fold(found, x[-2:], **options)
    assert torch.equal(back, torch.nn.functional.fold(found, x[-2:], **options))
    assert torch.autograd.gradcheck(lambda t: door.unfold(t, **options), given)
    assert torch.autograd.gradgradcheck(
        lambda t: door.fold(t, x[-2:], **options), found.detach().requires_grad_()
    )
    positional = [options.get(name, 1 - (name == "padding")) for name in ("dilation", "padding", "stride")]
    assert torch.equal(door.unfold(given, options["kernel_size"], *positional), found)


def test_empty_batch(torch, door):
    x, w = torch.zeros(0, 2, 5, 5, requires_grad=True), torch.ones(3, 2, 3, 3, requires_grad=True)
    y = door.conv2d(x, w, torch.zeros(3))
    assert y.shape == (0, 3, 3, 3)
    y.sum().backward()
    assert x.grad.shape == x.shape
    assert (w.grad == 0).all()
    assert door.unfold(x, 3).shape == (0, 18, 9)


def test_only_what_is_asked_for_is_computed_and_kept(torch, door, monkeypatch):
    called = []
    maps = door_maps()
    for name, real in list(maps._CONVOLUTION.items()):
        monkeypatch.setitem(
            maps._CONVOLUTION,
            name,
            lambda *a, name=name, real=real, **o: called.append(name) or real(*a, **o),
        )
    x, w = torch.ones(1, 1, 4, 4), torch.ones(1, 1, 2, 2, requires_grad=True)
    y = door.conv2d(x, w)
    kept = [part for part in y.grad_fn.saved_tensors if part is not None]
    assert len(kept) == 1
    assert kept[0].data_ptr() == x.data_ptr()
    y.sum().backward()
    assert called == ["y", "w"]
    with torch.no_grad():
        assert door.conv2d(x, w).grad_fn is None


def test_awkward_memory(torch, door):
    """Expanded, negated lazily, and a gradient without strides."""
    x = torch.ones(1, 1, 1, 1).expand(2, 3, 5, 5)
    w = torch.ones(2, 3, 3, 3, requires_grad=True)
    assert (door.conv2d(x, w) == 27).all()
    imaginary = torch.view_as_complex(torch.ones(1, 1, 4, 4, 2)).conj().imag
    assert imaginary.is_neg()
    assert (door.conv2d(imaginary, torch.ones(1, 1, 2, 2)) == -4).all()
    door.conv2d(x, w).sum().backward()
    assert (w.grad == 18).all()


def test_autocast(torch, door):
    x, w = torch.ones(1, 2, 4, 4), torch.ones(3, 2, 3, 3, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = door.conv2d(x, w, torch.zeros(3))
    assert y.dtype == torch.nn.functional.conv2d(x.bfloat16(), w.bfloat16()).dtype == torch.bfloat16
    y.sum().backward()
    assert w.grad.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert door.conv2d(x.double(), w.double()).dtype == torch.float64


def test_function_transforms(torch, door):
    w = torch.ones(1, 1, 2, 2)
    slope = torch.func.grad(lambda x: door.conv2d(x, w).square().sum())(torch.ones(1, 1, 3, 3))
    assert torch.equal(slope[0, 0], torch.tensor([[8.0, 16, 8], [16, 32, 16], [8, 16, 8]]))


def test_the_same_bits_again(torch, door):
    x, w = torch.randn(2, 8, 20, 20), torch.randn(8, 8, 3, 3)
    first = door.conv2d(x, w, padding=1)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        assert torch.equal(door.conv2d(x, w, padding=1), first)


def test_the_current_stream(torch, monkeypatch):
    """Without a GPU: CuPy is told of PyTorch's stream, on the tensor's device."""
    import sys
    from contextlib import nullcontext
    from types import ModuleType, SimpleNamespace

    entered, maps = [], door_maps()
    cupy = ModuleType("cupy")
    cupy.cuda = SimpleNamespace(
        Device=lambda index: entered.append(index) or nullcontext(),
        Stream=SimpleNamespace(from_external=lambda stream: entered.append(stream) or nullcontext()),
    )
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(maps.arrays, "launcher", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"the stream of {device}")
    with maps._current_stream(SimpleNamespace(device=torch.device("cuda:1"))):
        assert entered == [1, "the stream of cuda:1"]
    with maps._current_stream(torch.zeros(1)):
        assert len(entered) == 2
