"""A second opinion: PyTorch's own convolution on the same numbers, where it is installed."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuconv.layout import FROM_COMMON, common_view
from gpuconv.problem import OPS
from gpuconv.validate import tolerance

from ..problems import operands, public_call
from ..strategies import problems


@pytest.fixture(scope="module")
def torch(need):
    if importlib.util.find_spec("torch") is None:
        need("torch", "PyTorch is not installed")
    import torch

    return torch


@pytest.mark.parametrize("op", OPS)
def test_random_problems_agree(torch, op):
    @settings(max_examples=200)
    @given(problems((op,)), st.integers(0, 99))
    def run(p, seed):
        # torch's functions pad both sides alike with zeros, have no bfloat16 in NumPy and fuse nothing
        (top, bottom), (left, right) = p.padding
        p = replace(
            p,
            N=max(p.N, 1),
            padding=((max(top, bottom),) * 2, (max(left, right),) * 2),
            padding_mode="zeros",
            dtype="f64" if p.dtype == "f64" else "f32",
            bias=False,
            residual=False,
            relu=False,
        )
        given_ = operands(p, seed)
        first, second, out = {
            "fprop": (p.layout, p.weights, p.layout),
            "dgrad": (p.layout, p.weights, p.layout),
            "wgrad": (p.layout, p.layout, p.weights),
        }[op]
        a = torch.from_numpy(np.array(common_view(given_["a"], first)))
        b = torch.from_numpy(np.array(common_view(given_["b"], second)))
        options = {
            "stride": p.stride,
            "padding": tuple(side for side, _ in p.padding),
            "dilation": p.dilation,
            "groups": p.groups,
        }
        if op == "fprop":
            theirs = torch.nn.functional.conv2d(a, b, **options)
        elif op == "dgrad":
            theirs = torch.nn.grad.conv2d_input((p.N, p.C, p.H, p.W), b, a, **options)
        else:
            theirs = torch.nn.grad.conv2d_weight(a, (p.K, p.C // p.groups, p.R, p.S), b, **options)
        theirs = theirs.numpy().transpose(FROM_COMMON[out])
        for result in (public_call(p, given_), theirs):
            assert tolerance.judge(p, result, **given_).ok

    run()


@settings(max_examples=300)
@given(problems(), st.integers(0, 99))
def test_layers_with_any_border_agree(torch, p, seed):
    p = replace(p, N=max(p.N, 1), dtype="f64", bias=False, residual=False, relu=False)
    forward, dy = operands(replace(p, op="fprop"), seed, integers=True), operands(replace(p, op="dgrad"))["a"]
    dy = np.rint(2 * dy)
    x, w = (
        torch.from_numpy(np.array(common_view(forward[name], order))).requires_grad_()
        for name, order in (("a", p.layout), ("b", p.weights))
    )
    mode = "constant" if p.padding_mode == "zeros" else p.padding_mode
    padded = torch.nn.functional.pad(x, (*p.padding[1], *p.padding[0]), mode)
    y = torch.nn.functional.conv2d(padded, w, stride=p.stride, dilation=p.dilation, groups=p.groups)
    y.backward(torch.from_numpy(np.array(common_view(dy, p.layout))))
    theirs, order = {"fprop": (y, p.layout), "dgrad": (x.grad, p.layout), "wgrad": (w.grad, p.weights)}[p.op]
    pairs = {
        "fprop": (forward["a"], forward["b"]),
        "dgrad": (dy, forward["b"]),
        "wgrad": (forward["a"], dy),
    }
    ours = public_call(p, dict(zip(("a", "b"), pairs[p.op], strict=True), bias=None, residual=None))
    np.testing.assert_array_equal(ours, theirs.detach().numpy().transpose(FROM_COMMON[order]))
