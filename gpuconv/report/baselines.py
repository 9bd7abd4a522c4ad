"""What gpuconv is compared with: other libraries, where they are installed, on the same problem."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Final, Literal, Protocol

import numpy as np

from gpuconv.backend import arrays
from gpuconv.backend.device import Device
from gpuconv.dispatch import plan_for
from gpuconv.families import HUGE
from gpuconv.layout import FROM_COMMON, TO_COMMON
from gpuconv.measure import Operands
from gpuconv.problem import ConvProblem

#: What a baseline is to a record: something to compare with, or one of cuDNN's two times, the fastest of
#: which is compared with as well.
Role = Literal["library", "cudnn", "cudnn_heuristic"]
#: What can be asked for by name.
NAMES: Final = ("torch", "scipy")
#: What `scipy.ndimage` calls the borders.
SCIPY_MODES: Final = {
    "zeros": "constant", "reflect": "mirror", "replicate": "nearest", "circular": "grid-wrap",
}  # fmt: skip
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

    NHWC becomes PyTorch's channels_last. On a GPU float32 is multiplied as TF32 only where the problem allows
    that, and cuDNN tries all its plans for the fastest. The plan that cuDNN would choose untried cannot be
    timed beside it: PyTorch keeps a problem's plan for the life of the process, whichever way it was found.

    Parameters
    ----------
    device : Device
        Where to run; on a CPU with as many threads.
    role : {"library", "cudnn"}
        ``"cudnn"`` takes what PyTorch leaves to cuDNN. On a GPU ``"library"`` takes the rest, for which
        PyTorch has kernels of its own, so that no time of theirs is called cuDNN's.
    """

    def __init__(self, device: Device, role: Role = "library") -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # another project's deprecations are no failures here
            import torch
        self._torch = torch
        self._on_cpu = device.kind == "cpu"
        self._where = "cpu" if self._on_cpu else f"cuda:{device.index}"
        self.role: Role = role
        self.name = f"torch {torch.__version__}"
        if role == "cudnn":
            self.name = f"cuDNN {torch.backends.cudnn.version()}, fastest, {self.name}"
        if self._on_cpu:
            torch.set_num_threads(device.threads)

    def bind(self, p: ConvProblem, given: Operands) -> Bound | None:
        """A call of ``conv2d`` or of its gradients; without other borders, bias, residual and ReLU."""
        torch = self._torch
        if any(first != last for first, last in p.padding) or p.padding_mode != "zeros":
            return None
        if p.bias or p.residual or p.relu:
            return None
        pads = [side[0] for side in p.padding]
        stride, dilation = list(p.stride), list(p.dilation)
        orders = (p.layout, p.layout if p.op == "wgrad" else p.weights)
        a, b = (self._tensor(array, order) for array, order in zip(given[:2], orders, strict=True))
        # the operand whose gradient is asked for only lends its shape and memory order
        form = torch.channels_last if p.layout == "nhwc" else torch.contiguous_format
        like = {"dtype": a.dtype, "device": self._where, "memory_format": form}
        x = torch.empty((p.N, p.C, p.H, p.W), **like) if p.op == "dgrad" else a
        w = torch.empty((p.K, p.C // p.groups, p.R, p.S), **like) if p.op == "wgrad" else b
        dy = {"fprop": None, "dgrad": a, "wgrad": b}[p.op]
        geometry = (stride, pads, dilation, False, [0, 0], p.groups)
        mask = [p.op == "dgrad", p.op == "wgrad", False]

        def forward() -> Any:
            with torch.inference_mode():
                return torch.nn.functional.conv2d(x, w, None, stride, pads, dilation, p.groups)

        def backward() -> Any:
            with torch.inference_mode():
                found = torch.ops.aten.convolution_backward(dy, x, w, None, *geometry, mask)
                return found[mask.index(True)]

        call = forward if p.op == "fprop" else backward
        if self._on_cpu:
            return Bound(call, _to_numpy(p))

        def switched_call() -> Any:
            with switched(torch.backends, p):
                return call()

        with switched(torch.backends, p):
            if self._by_cudnn(x, w, geometry) != (self.role == "cudnn"):
                return None
        return Bound(switched_call, _to_numpy(p))

    def _by_cudnn(self, x: Any, w: Any, geometry: tuple[Any, ...]) -> bool:
        """Whether PyTorch leaves it to cuDNN."""
        try:
            chosen = self._torch._C._select_conv_backend(x, w, None, *geometry, None)
        except (AttributeError, TypeError):  # no public interface: another version may have another
            return True
        return "cudnn" in str(chosen).lower()

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


@contextmanager
def switched(backends: Any, p: ConvProblem) -> Iterator[None]:
    """PyTorch's switches for one problem on a GPU; afterwards they are as they were.

    Exact float32 must be compared with exact float32: cuDNN rounds to TF32 unless it is told not to.
    """
    # 16-bit types have no other tensor cores to choose, but some versions hide theirs behind the same switch
    tf32 = p.precision != "ieee" or p.dtype in ("f16", "bf16")
    wanted = [
        (backends.cudnn, "enabled", True),
        (backends.cudnn, "benchmark", True),
        (backends.cudnn, "benchmark_limit", 0),  # every plan
        (backends.cudnn, "deterministic", False),
        (backends.cudnn, "allow_tf32", tf32),
        (backends.cuda.matmul, "allow_tf32", tf32),
    ]
    # older versions lack one
    before = [(where, name, getattr(where, name)) for where, name, _ in wanted if hasattr(where, name)]
    try:
        for where, name, value in wanted:
            if hasattr(where, name):
                setattr(where, name, value)
        yield
    finally:
        for where, name, value in before:
            setattr(where, name, value)


class BatchSplit:
    """gpuconv itself over parts of the batch, none of which has a huge tensor, into slices of one result.

    That is what is left where a kernel counts with 32 bits; it tells what 64-bit addresses cost.

    Parameters
    ----------
    device : Device
        Where to run, on arrays that are there.
    numpy : callable
        From a result to what is compared of it.
    most : int
        Elements of a part's tensors are fewer.
    """

    role: Role = "library"
    name = "gpuconv, batch split"

    def __init__(self, device: Device, numpy: Callable[[Any], Any], most: int = HUGE) -> None:
        self._device, self._numpy, self._most = device, numpy, most

    def bind(self, p: ConvProblem, given: Operands) -> Bound | None:
        """Plans for the parts; None where parts of the batch do not add up to the result side by side."""
        a, b, bias, residual = given
        if p.op == "wgrad" or p.N == 0:
            return None
        images = (self._most - 1) // max(prod(shape) // p.N for shape in (p.x_shape, p.y_shape))
        if images == 0:
            return None
        # as equal as can be, so that one plan runs nearly all of them
        images = -(-p.N // -(-p.N // images))
        parts = [slice(at, min(at + images, p.N)) for at in range(0, p.N, images)]
        plans = [plan_for(replace(p, N=part.stop - part.start), self._device) for part in parts]
        shape = p.operand_shapes[2]

        def call() -> Any:
            if self._device.kind == "cpu":
                out = np.empty(shape, a.dtype)
            else:
                out = arrays.launcher().empty(shape, p.dtype, self._device)
            for part, plan in zip(parts, plans, strict=True):
                of_residual = None if residual is None else residual[part]
                plan(a[part], b, out[part], bias=bias, residual=of_residual)
            return out

        return Bound(call, self._numpy)


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
            mode = SCIPY_MODES[p.padding_mode]
            return Bound(lambda: [ndimage.correlate(image, taps, mode=mode) for image in images], numpy)
        # SciPy's valid swaps the two where the image is the smaller; ours has at least one output
        if p.padding_mode != "zeros" or not (bare or (same and p.R <= p.H and p.S <= p.W)):
            return None
        mode = "valid" if bare else "same"
        return Bound(lambda: [signal.correlate(image, taps, mode) for image in images], numpy)


def installed(name: str) -> bool:
    """Whether one of `NAMES` can be compared with."""
    return importlib.util.find_spec(name) is not None


def load(name: str, device: Device) -> list[Baseline]:
    """What one of `NAMES` offers on a device; on a GPU SciPy nothing, PyTorch cuDNN and its own kernels.

    Raises
    ------
    ModuleNotFoundError
        If it is not installed.
    """
    if name == "torch":
        if device.kind == "cpu":
            return [TorchBaseline(device)]
        return [TorchBaseline(device, "cudnn"), TorchBaseline(device)]
    if device.kind != "cpu":
        return []
    return [ScipyBaseline("ndimage.correlate"), ScipyBaseline("signal.correlate")]


def remarks(sides: Sequence[Baseline]) -> Iterator[str]:
    """What these cannot tell."""
    roles = {side.role for side in sides}
    if "cudnn" in roles and "cudnn_heuristic" not in roles:
        yield "cuDNN's plan chosen untried is not timed: PyTorch keeps one plan of a problem in a process"


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

    def numpy(tensor: Any) -> Any:
        # float32 holds every number of 16 bits, for which PyTorch and NumPy have no common types
        wide = tensor.double() if p.dtype == "f64" else tensor.float()
        return wide.cpu().numpy().transpose(FROM_COMMON[order])

    return numpy
