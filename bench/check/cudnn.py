"""cuDNN through PyTorch, and CuPy's own filters, as baselines of `gpuconv.report`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from bench.check.steps import Skip, Where
from gpuconv.errors import LaunchError
from gpuconv.layout import FROM_COMMON, TO_COMMON
from gpuconv.measure import Operands
from gpuconv.problem import ConvProblem
from gpuconv.report.baselines import SCIPY_MODES, Baseline, Bound, Role


class TorchCudnn:
    """cuDNN's convolution, chosen explicitly.

    PyTorch keeps a problem's plan for the life of the process, whichever way it was chosen: use one object of
    this type in a process.

    Parameters
    ----------
    fastest : bool
        Whether all plans are tried for the fastest; else cuDNN chooses untried.
    """

    def __init__(self, fastest: bool) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # another project's deprecations are no failures here
                import torch
        except Exception as error:  # it loads CUDA's libraries and passes on whatever goes wrong in them
            raise Skip(f"PyTorch cannot be imported: {error}") from None
        if not torch.cuda.is_available():
            raise Skip("this PyTorch finds no GPU")
        if not torch.backends.cudnn.is_available():
            raise Skip("this PyTorch has no cuDNN")
        self._torch, self._fastest = torch, fastest
        self.role: Role = "cudnn" if fastest else "cudnn_heuristic"
        self.name = f"cuDNN {torch.backends.cudnn.version()}, {'fastest' if fastest else 'chosen untried'}"
        torch.backends.cudnn.enabled = True
        torch.backends.cudnn.benchmark = fastest
        torch.backends.cudnn.benchmark_limit = 0  # every plan
        torch.backends.cudnn.deterministic = False

    def bind(self, p: ConvProblem, given: Operands) -> Bound | None:
        """The convolution or a gradient, without epilogue; None where cuDNN has no such call."""
        torch = self._torch
        if any(first != last for first, last in p.padding) or p.padding_mode != "zeros":
            return None
        if p.bias or p.residual or p.relu:
            return None
        pads, stride, dilation = [side[0] for side in p.padding], list(p.stride), list(p.dilation)
        # 16-bit types need their tensor cores, which some versions hide behind the same switch
        tf32 = p.precision != "ieee" or p.dtype in ("f16", "bf16")
        torch.backends.cudnn.allow_tf32 = tf32
        a = self._tensor(given.a, p.layout)
        b = self._tensor(given.b, p.layout if p.op == "wgrad" else p.weights)
        result_order = p.weights if p.op == "wgrad" else p.layout

        def numpy(tensor: Any) -> Any:
            wide = tensor.double() if p.dtype == "f64" else tensor.float()
            return wide.cpu().numpy().transpose(FROM_COMMON[result_order])

        def forward() -> Any:
            with torch.inference_mode():
                return torch.ops.aten.cudnn_convolution(
                    a, b, pads, stride, dilation, p.groups, self._fastest, False, tf32
                )

        def input_grad() -> Any:
            with torch.inference_mode():
                return torch.ops.aten.cudnn_convolution_transpose(
                    a, b, pads, _missed(p), stride, dilation, p.groups, self._fastest, False, tf32
                )

        if p.op == "fprop":
            return Bound(forward, numpy)
        if p.op == "dgrad":
            return Bound(input_grad, numpy)
        # the weights only lend their shape and memory order
        form = torch.channels_last if p.layout == "nhwc" else torch.contiguous_format
        shape = (p.K, p.C // p.groups, p.R, p.S)
        w = torch.empty(shape, dtype=a.dtype, device="cuda", memory_format=form)
        geometry = (stride, pads, dilation, False, [0, 0], p.groups)
        if not self._chooses_cudnn(a, w, geometry):
            return None

        def weight_grad() -> Any:
            with torch.inference_mode():
                mask = [False, True, False]
                return torch.ops.aten.convolution_backward(b, a, w, None, *geometry, mask)[1]

        return Bound(weight_grad, numpy)

    def _chooses_cudnn(self, x: Any, w: Any, geometry: tuple[Any, ...]) -> bool:
        """Whether PyTorch takes cuDNN for it; there is no call that takes cuDNN for weights explicitly."""
        try:
            chosen = self._torch._C._select_conv_backend(x, w, None, *geometry, None)
        except (AttributeError, TypeError):  # no public interface: another version may have another
            return True
        return "cudnn" in str(chosen).lower()

    def forget(self) -> None:
        """Give PyTorch's memory back: CuPy takes from the same card."""
        self._torch.cuda.empty_cache()

    def _tensor(self, array: Any, order: str) -> Any:
        torch = self._torch
        if array.dtype.name == "bfloat16":  # a type that PyTorch does not take from NumPy
            tensor = torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        else:
            tensor = torch.from_numpy(array)
        last = order in ("nhwc", "hwio", "ohwi")
        form = torch.channels_last if last else torch.contiguous_format
        return tensor.permute(TO_COMMON[order]).contiguous(memory_format=form).to("cuda")


def _missed(p: ConvProblem) -> list[int]:
    """Rows and columns of the input beyond what the last window reaches."""
    sizes = zip((p.H, p.W), (p.P, p.Q), (p.R, p.S), p.stride, p.padding, p.dilation, strict=True)
    return [
        size + sum(pads) - ((outputs - 1) * step + (taps - 1) * dilation + 1)
        for size, outputs, taps, step, pads, dilation in sizes
    ]


class CupyImages:
    """CuPy's correlation of one-channel images of one filter."""

    role: Role = "library"

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self.name = f"cupyx.scipy.ndimage {cupy.__version__}"

    def bind(self, p: ConvProblem, given: Operands) -> Bound | None:
        """Where its mode gives what the padding says."""
        from cupyx.scipy import ndimage

        same = all(
            taps % 2 == 1 and pads == (taps // 2, taps // 2)
            for taps, pads in zip((p.R, p.S), p.padding, strict=True)
        )
        plain = p.op == "fprop" and p.C == p.K == 1 and p.stride == p.dilation == (1, 1)
        if not (plain and same) or p.bias or p.residual or p.relu or p.dtype not in ("f16", "f32", "f64"):
            return None
        images = self._cupy.asarray(given.a.reshape(p.N, p.H, p.W))
        taps = self._cupy.asarray(given.b.reshape(p.R, p.S))
        out = self._cupy.empty_like(images)

        def call() -> Any:
            for image, result in zip(images, out, strict=True):
                ndimage.correlate(image, taps, output=result, mode=SCIPY_MODES[p.padding_mode])
            return out

        return Bound(call, lambda found: self._cupy.asnumpy(found).reshape(p.y_shape))


class DeviceLost(Exception):
    """No `RuntimeError`: whoever leaves a baseline out for those must not go on."""


class Optional:
    """A baseline that is left out with a remark whatever goes wrong in it, unless the device is lost.

    `gpuconv.report.measured` leaves one out for a `RuntimeError`; CuPy's and PyTorch's own types need not be.
    """

    def __init__(self, baseline: Baseline, where: Where) -> None:
        self._baseline, self._where = baseline, where
        self.name, self.role = baseline.name, baseline.role

    def bind(self, p: ConvProblem, given: Operands) -> Bound | None:
        """The same, tried once."""
        bound = self._safe(lambda: self._baseline.bind(p, given))
        if bound is None:
            return None
        self._safe(bound.call)  # once: what is timed has nothing around it
        # this waits for the device, where launches fail late
        return Bound(bound.call, lambda found: self._safe(lambda: bound.numpy(found)))

    def _safe(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except LaunchError:
            raise
        except Exception as error:
            _unless_lost(self._where, error)
            raise RuntimeError(f"{type(error).__name__}: {error}") from error


@contextmanager
def refusals_skip(where: Where) -> Iterator[None]:
    """What cuDNN cannot, or has no memory for, is no failure of ours; a lost device is one."""
    try:
        yield
    except LaunchError:
        raise
    except (RuntimeError, MemoryError) as error:
        _unless_lost(where, error)
        raise Skip(f"cuDNN: {' '.join(str(error).split())[:300] or type(error).__name__}") from None


def _unless_lost(where: Where, error: Exception) -> None:
    lost = where.lost()
    if lost is not None:
        raise DeviceLost(f"{lost}; before that {type(error).__name__}: {error}") from error


def cudnn(where: Where, *, fastest: bool) -> TorchCudnn:
    """cuDNN, or `Skip` with what is missing."""
    if where.dry_run:
        raise Skip("cuDNN needs a GPU")
    where.machine  # noqa: B018  (raises Skip without a device)
    return TorchCudnn(fastest)


def release(where: Where, baseline: TorchCudnn | None) -> None:
    """Both libraries give back what they hold for later."""
    if not where.dry_run:
        where.machine.cupy.get_default_memory_pool().free_all_blocks()
    if baseline is not None:
        baseline.forget()
