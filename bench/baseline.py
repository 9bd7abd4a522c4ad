"""PyTorch's CPU convolution as something to compare with, where PyTorch is installed."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from gpuconv.layout import TO_COMMON
from gpuconv.problem import ConvProblem


class TorchBaseline:
    """The same problems, computed by PyTorch.

    Parameters
    ----------
    threads : int
        Threads PyTorch may use.
    """

    def __init__(self, threads: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # another project's deprecations are no failures here
            import torch
        torch.set_num_threads(threads)
        self.torch = torch
        self.name = f"torch {torch.__version__}"

    def bind(self, p: ConvProblem, a: Any, b: Any) -> Callable[[], Any] | None:
        """A call that computes a problem from these operands, or None where PyTorch has no such call.

        NHWC becomes PyTorch's channels_last; its result has the axes of PyTorch, N, C, H, W or O, I, H, W.
        """
        torch = self.torch
        if any(first != last for first, last in p.padding):
            return None
        pads = [side[0] for side in p.padding]
        stride, dilation = list(p.stride), list(p.dilation)
        orders = {"fprop": (p.layout, p.weights), "dgrad": (p.layout, p.weights)}
        a, b = map(self._tensor, (a, b), orders.get(p.op, (p.layout, p.layout)))

        def forward() -> Any:
            with torch.inference_mode():
                return torch.nn.functional.conv2d(a, b, None, stride, pads, dilation, p.groups)

        def backward(dy: Any, x: Any, w: Any, wanted: int) -> Any:
            mask = [i == wanted for i in range(3)]
            with torch.inference_mode():
                return torch.ops.aten.convolution_backward(
                    dy, x, w, None, stride, pads, dilation, False, [0, 0], p.groups, mask
                )[wanted]

        # the operand whose gradient is asked for only lends its shape and memory order
        form = torch.channels_last if p.layout == "nhwc" else torch.contiguous_format
        if p.op == "dgrad":
            x = torch.empty((p.N, p.C, p.H, p.W), dtype=a.dtype, memory_format=form)
            return lambda: backward(a, x, b, 0)
        if p.op == "wgrad":
            shape = (p.K, p.C // p.groups, p.R, p.S)
            w = torch.empty(shape, dtype=a.dtype, memory_format=form)
            return lambda: backward(b, a, w, 1)
        return forward

    def agrees(self, p: ConvProblem, theirs: Any, ours: Any) -> bool:
        """Whether both computed the same problem; far looser than the error bound."""
        order = p.weights if p.op == "wgrad" else p.layout
        expected = ours.transpose(TO_COMMON[order]).astype(np.float32)
        got = theirs.float().numpy()
        if got.shape != expected.shape:
            return False
        return bool(np.abs(got - expected).max(initial=0) <= 0.05 * np.abs(expected).max(initial=0))

    def _tensor(self, array: Any, order: str) -> Any:
        """The same numbers with PyTorch's axes: in channels_last where `order` has its channels last."""
        torch = self.torch
        if array.dtype.name == "bfloat16":  # a type that PyTorch does not take from NumPy
            tensor = torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        else:
            tensor = torch.from_numpy(array)
        last = order in ("nhwc", "hwio", "ohwi")
        form = torch.channels_last if last else torch.contiguous_format
        return tensor.permute(TO_COMMON[order]).contiguous(memory_format=form)


def load(threads: int) -> TorchBaseline | None:
    """PyTorch with so many threads, or None where it is not installed."""
    if importlib.util.find_spec("torch") is None:
        return None
    return TorchBaseline(threads)
