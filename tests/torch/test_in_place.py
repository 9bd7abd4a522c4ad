"""Results and gradients are ordinary tensors: changed in place, detached, resized, in any order of memory."""

from __future__ import annotations

import pytest

ORDERS = ("contiguous", "channels last")
DTYPES = ("float32", "bfloat16")


def images(torch, order, dtype="float32", shape=(2, 3, 8, 7)):
    x = torch.randint(-2, 3, shape).to(getattr(torch, dtype))
    return x.contiguous(memory_format=torch.channels_last) if order == "channels last" else x


def calls(torch, door, dtype):
    w, up, b = (
        torch.ones(shape, dtype=getattr(torch, dtype)) for shape in ((4, 3, 3, 3), (3, 4, 3, 3), (4,))
    )
    return {
        "conv2d": lambda x: door.conv2d(x, w.requires_grad_(), b.requires_grad_()),
        "conv_transpose2d": lambda x: door.conv_transpose2d(x, up.requires_grad_(), b.requires_grad_()),
        "unfold": lambda x: door.unfold(x, 3),
        "fold": lambda x: door.fold(torch.nn.functional.unfold(x, 2), x.shape[2:], 2),
    }


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", ["conv2d", "conv_transpose2d", "unfold", "fold"])
def test_results(torch, door, function, order, dtype):
    def call(x):
        return calls(torch, door, dtype)[function](x)

    x = images(torch, order, dtype).requires_grad_()
    wanted = call(x).detach().clone()
    for change, expected in (
        (lambda y: y.relu_(), wanted.relu()),
        (lambda y: y.add_(y.detach().clone()), 2 * wanted),
        (lambda y: y.detach_(), wanted),
    ):
        y = call(x)
        assert not y._is_view()
        assert torch.equal(change(y), expected)
        if y.requires_grad:
            y.sum().backward()
    y = call(x).detach()
    y.resize_(y.numel() + 1000)  # storage of PyTorch's own, or it refuses


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_that_have_gradients(torch, door, order, dtype):
    kind = getattr(torch, dtype)
    x = images(torch, order, dtype).requires_grad_()
    w = images(torch, order, dtype, (4, 3, 3, 2)).requires_grad_()
    b = torch.ones(4, dtype=kind, requires_grad=True)
    y = door.conv2d(x, w, b)
    dy = torch.ones_like(y, requires_grad=True)
    gradients = torch.autograd.grad(y, (x, w, b), dy, create_graph=True)
    theirs = torch.autograd.grad(torch.nn.functional.conv2d(x, w, b), (x, w, b), dy.detach())
    for gradient, wanted in zip(gradients, theirs, strict=True):
        assert not gradient._is_view()
        assert torch.equal(gradient.mul_(2), 2 * wanted)
    sum(gradient.sum() for gradient in gradients).backward()
    assert dy.grad is not None
    # the gradient to what was summed over, by itself
    sums = torch.autograd.grad(door.conv2d(x, w, b), b, dy, create_graph=True)[0]
    (again,) = torch.autograd.grad(sums.sum(), dy)
    assert not again._is_view()
    assert (again.mul_(3) == 3).all()
    for gradient in torch.autograd.grad(door.conv2d(x, w, b), (x, w, b), dy.detach()):
        gradient.resize_(gradient.numel() + 1000)


def test_without_a_batch(torch, door):
    x = torch.randn(8, 7, 3).permute(2, 0, 1).requires_grad_()  # channels last, as pictures are read
    w = torch.randn(4, 3, 3, 3, requires_grad=True)
    wanted = torch.nn.functional.conv2d(x, w).detach()
    y = door.conv2d(x, w)
    y += 1
    torch.testing.assert_close(y.relu_(), (wanted + 1).relu())
    y.sum().backward()
    torch.testing.assert_close(door.conv2d(x, w).mul_(2), 2 * wanted)


@pytest.mark.parametrize("order", ORDERS)
def test_a_model_that_works_in_place(torch, door, order):
    nn = torch.nn
    theirs = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.Conv2d(8, 2, 3), nn.Hardtanh(inplace=True)
    )
    x = images(torch, order)
    wanted = theirs(x).sum()
    wanted.backward()
    gradients = [parameter.grad.clone() for parameter in theirs.parameters()]
    theirs.zero_grad()
    found = door.replace(theirs)(x).sum()
    found.backward()
    torch.testing.assert_close(found, wanted)
    for parameter, gradient in zip(theirs.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
