"""cuDNN by its own frontend or through PyTorch, and CuPy's filters, as baselines of `gpuconv.report`."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from bench.check.steps import ROOT, Skip, Where
from gpuconv.errors import LaunchError
from gpuconv.layout import FROM_COMMON, TO_COMMON
from gpuconv.measure import Operands
from gpuconv.problem import ConvProblem
from gpuconv.report.baselines import SCIPY_MODES, Baseline, Bound, Role
from gpuconv.validate import cudnn_graph
from gpuconv.validate.cudnn import Cudnn

#: Where the frontend's wheel may lie; git ignores it.
WHEELS = ROOT / "wheels"
#: Seconds in which all plans of a problem are tried.
TRYING = 0.5


class CudnnBaseline(Baseline, Protocol):
    """Either of the two below."""

    def takes(self, p: ConvProblem) -> bool:
        """Whether it may compute a problem, as far as that can be told without asking cuDNN."""

    def forget(self) -> None:
        """Give back memory that is kept for later."""


class FrontendCudnn:
    """One plan of cuDNN by its own frontend, on CuPy's arrays.

    Parameters
    ----------
    by : Cudnn
        A device's.
    fastest : bool
        Whether all plans are tried for the fastest; else cuDNN chooses untried.
    """

    def __init__(self, by: Cudnn, fastest: bool) -> None:
        self._by, self._fastest = by, fastest
        self.role: Role = "cudnn" if fastest else "cudnn_heuristic"
        self.name = f"{by.name}, {'fastest' if fastest else 'chosen untried'}"

    def takes(self, p: ConvProblem) -> bool:
        """See `CudnnBaseline`."""
        return cudnn_graph.unsupported(p) is None

    def bind(self, p: ConvProblem, given: Operands) -> Bound:
        """The whole problem, its epilogue included; raises `gpuconv.validate.cudnn.NoPlan` with a reason."""
        prepared = self._by.prepare(p, given)
        plan = prepared.fastest(seconds=TRYING) if self._fastest else prepared.graph.plans[0]
        return Bound(prepared.call(plan), prepared.numpy)

    def forget(self) -> None:
        """Nothing: its memory is CuPy's."""


class TorchCudnn:
    """cuDNN's convolution, chosen explicitly, on CuPy's memory through DLPack.

    PyTorch keeps a problem's plan for the life of the process, whichever way it was chosen: use one object of
    this type in a process.

    Parameters
    ----------
    fastest : bool
        Whether all plans are tried for the fastest; else cuDNN chooses untried.
    cupy : module
        CuPy.
    """

    def __init__(self, fastest: bool, cupy: Any) -> None:
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
        self._torch, self._fastest, self._cupy = torch, fastest, cupy
        self.role: Role = "cudnn" if fastest else "cudnn_heuristic"
        chosen = "fastest" if fastest else "chosen untried"
        self.name = f"cuDNN {torch.backends.cudnn.version()}, {chosen}, torch {torch.__version__}"
        torch.backends.cudnn.enabled = True
        torch.backends.cudnn.benchmark = fastest
        torch.backends.cudnn.benchmark_limit = 0  # every plan
        torch.backends.cudnn.deterministic = False

    def takes(self, p: ConvProblem) -> bool:
        """See `CudnnBaseline`: nothing fused, and what `gpuconv.validate.cudnn_graph` says of cuDNN."""
        fused = p.bias or p.residual or p.relu
        even = all(first == last for first, last in p.padding)
        return even and not fused and cudnn_graph.unsupported(p) is None

    def bind(self, p: ConvProblem, given: Operands) -> Bound | None:
        """The convolution or a gradient, without epilogue; None where cuDNN has no such call."""
        torch = self._torch
        if not self.takes(p):
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
        w = torch.empty(shape, dtype=a.dtype, device=a.device, memory_format=form)
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
        # as integers: DLPack moves those whatever the two know of bfloat16
        bits = self._cupy.asarray(array.view(f"i{array.itemsize}"))
        tensor = torch.from_dlpack(bits).view(getattr(torch, array.dtype.name))
        last = order in ("nhwc", "hwio", "ohwi")
        form = torch.channels_last if last else torch.contiguous_format
        return tensor.permute(TO_COMMON[order]).contiguous(memory_format=form)


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


class DeviceLost(LaunchError):
    """Another library's doing, perhaps; whoever leaves a baseline out for its errors must not go on."""


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


def cudnn(where: Where, *, fastest: bool) -> CudnnBaseline:
    """Take cuDNN by its frontend, else through PyTorch; `Skip` with what is missing for both."""
    if where.dry_run:
        raise Skip("cuDNN needs a GPU")
    machine = where.machine
    use_wheel(where.state.folder)
    try:
        return FrontendCudnn(Cudnn(machine.device), fastest)
    except RuntimeError as error:
        why_not = str(error)
    try:
        return TorchCudnn(fastest, machine.cupy)
    except Skip as skip:
        raise Skip(f"{why_not}; {skip}") from None


def use_wheel(folder: Path, wheels: Path = WHEELS) -> None:
    """Make the frontend importable from its wheel for this Python, where it is not installed.

    Parameters
    ----------
    folder : Path
        What to unpack it in, once.
    wheels : Path
        Where to look for it.
    """
    if "cudnn" in sys.modules or importlib.util.find_spec("cudnn") is not None:
        return
    python = f"-cp{sys.version_info.major}{sys.version_info.minor}-"
    found = sorted(path for path in wheels.glob("nvidia_cudnn_frontend-*.whl") if python in path.name)
    if not found:
        return
    target = folder / found[-1].stem
    if not target.is_dir():
        part = tempfile.mkdtemp(dir=folder)
        with zipfile.ZipFile(found[-1]) as wheel:
            wheel.extractall(part)
        Path(part).rename(target)
    sys.path.append(str(target))


def release(where: Where, baseline: CudnnBaseline | None) -> None:
    """Both libraries give back what they hold for later."""
    if not where.dry_run:
        where.machine.cupy.get_default_memory_pool().free_all_blocks()
    if baseline is not None:
        baseline.forget()
