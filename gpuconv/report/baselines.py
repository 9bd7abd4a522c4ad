"""What gpuconv is compared with: other libraries, where they are installed, on the same problem."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import numpy as np

from gpuconv.backend.device import Device
from gpuconv.layout import FROM_COMMON, TO_COMMON
from gpuconv.measure import Operands
from gpuconv.problem import ConvProblem

#: What a baseline is to a record: something to compare with, or one of cuDNN's two times, the fastest of
#: which is compared with as well.
Role = Literal["library", "cudnn", "cudnn_heuristic"]
#: What can be asked for by name.
NAMES: Final = ("torch", "scipy")
#: Two computed the same where they differ by no more than this share of the largest number; far looser than
#: the error bound, which others do not promise.
_AGREES: Final = 0.05


@dataclass(frozen=True, slots=True)
class Bound:
    """A baseline's call for one problem, and what turns its result into a NumPy array with our axes."""

    call: Callable[[], Any]
    numpy: Callable[[Any], Any]


class Baseline(Protocol):
    """A library to compare with."""

    @property
    def name(self) -> str:
        """Library and version, as it appears in records."""

    @property
    def role(self) -> Role:
        """Which of a record's times it gives."""

    def bind(self, p: ConvProblem, given: Operands) -> Bound | None:
        """A call that computes the problem from NumPy operands, or None where it has no such call."""


class TorchBaseline:
    """PyTorch on the same kind of device.

    NHWC becomes PyTorch's channels_last. On a GPU it tries cuDNN's plans for the fastest.

    Parameters
    ----------
    device : Device
        Where to run; on a CPU with as many threads.
    """

    role: Role = "library"

    def __init__(self, device: Device) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # another project's deprecations are no failures here
            import torch
        self._torch = torch
        self._where = "cpu" if device.kind == "cpu" else f"cuda:{device.index}"
        self.name = f"torch {torch.__version__}"
        if device.kind == "cpu":
            torch.set_num_threads(device.threads)
        else:
            torch.backends.cudnn.benchmark = True

    def bind(self, p: ConvProblem, given: Operands) -> Bound | None:
        """A call of ``conv2d`` or of its gradients; without bias, residual and ReLU."""
        torch = self._torch
        if any(first != last for first, last in p.padding) or p.bias or p.residual or p.relu:
            return None
        pads = [side[0] for side in p.padding]
        stride, dilation = list(p.stride), list(p.dilation)
        orders = (p.layout, p.layout if p.op == "wgrad" else p.weights)
        a, b = (self._tensor(array, order) for array, order in zip(given[:2], orders, strict=True))
        numpy = _to_numpy(p)

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
        like = {"dtype": a.dtype, "device": self._where, "memory_format": form}
        if p.op == "dgrad":
            x = torch.empty((p.N, p.C, p.H, p.W), **like)
            return Bound(lambda: backward(a, x, b, 0), numpy)
        if p.op == "wgrad":
            w = torch.empty((p.K, p.C // p.groups, p.R, p.S), **like)
            return Bound(lambda: backward(b, a, w, 1), numpy)
        return Bound(forward, numpy)

    def _tensor(self, array: Any, order: str) -> Any:
        """The same numbers with PyTorch's axes: in channels_last where `order` has its channels last."""
        torch = self._torch
        if array.dtype.name == "bfloat16":  # a type that PyTorch does not take from NumPy
            tensor = torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        else:
            tensor = torch.from_numpy(array)
        last = order in ("nhwc", "hwio", "ohwi")
        form = torch.channels_last if last else torch.contiguous_format
        return tensor.permute(TO_COMMON[order]).contiguous(memory_format=form).to(self._where)


class ScipyBaseline:
    """SciPy's correlation of one-channel images: forward, stride 1, no dilation.

    Parameters
    ----------
    which : {"ndimage.correlate", "signal.correlate"}
        The first is direct; the second chooses between direct and Fourier itself.
    """

    role: Role = "library"

    def __init__(self, which: str) -> None:
        import scipy

        self._which = which
        self.name = f"scipy {scipy.__version__} {which}"

    def bind(self, p: ConvProblem, given: Operands) -> Bound | None:
        """A call on planes; where SciPy's modes give what the padding says."""
        from scipy import ndimage, signal

        plain = p.op == "fprop" and p.C == p.K == 1 and p.stride == p.dilation == (1, 1)
        if not plain or p.bias or p.residual or p.relu or p.dtype not in ("f32", "f64"):
            return None
        same = all(
            taps % 2 == 1 and pads == (taps // 2, taps // 2)
            for taps, pads in zip((p.R, p.S), p.padding, strict=True)
        )
        bare = p.padding == ((0, 0), (0, 0))
        images, taps = given.a.reshape(p.N, p.H, p.W), given.b.reshape(p.R, p.S)

        def numpy(planes: Any) -> Any:
            return np.stack(planes).reshape(p.y_shape)

        if self._which == "ndimage.correlate":
            if not same:
                return None
            return Bound(lambda: [ndimage.correlate(image, taps, mode="constant") for image in images], numpy)
        # SciPy's valid swaps the two where the image is the smaller; ours has at least one output
        if not (bare or (same and p.R <= p.H and p.S <= p.W)):
            return None
        mode = "valid" if bare else "same"
        return Bound(lambda: [signal.correlate(image, taps, mode) for image in images], numpy)


def installed(name: str) -> bool:
    """Whether one of `NAMES` can be compared with."""
    return importlib.util.find_spec(name) is not None


def load(name: str, device: Device) -> list[Baseline]:
    """What one of `NAMES` offers on a device; SciPy nothing on a GPU.

    Raises
    ------
    ModuleNotFoundError
        If it is not installed.
    """
    if name == "torch":
        return [TorchBaseline(device)]
    if device.kind != "cpu":
        return []
    return [ScipyBaseline("ndimage.correlate"), ScipyBaseline("signal.correlate")]


def agree(theirs: Any, ours: Any) -> bool:
    """Whether two arrays are about the same."""
    if theirs.shape != ours.shape:
        return False
    expected = ours.astype(np.float32)
    difference = np.abs(theirs.astype(np.float32) - expected).max(initial=0)
    return bool(difference <= _AGREES * np.abs(expected).max(initial=0))


def _to_numpy(p: ConvProblem) -> Callable[[Any], Any]:
    """From a tensor with axes N, C, H, W or O, I, H, W to an array with the problem's."""
    order = p.weights if p.op == "wgrad" else p.layout
    return lambda tensor: tensor.float().cpu().numpy().transpose(FROM_COMMON[order])
