"""What cuDNN has for a problem: a graph by its own frontend, and every plan that can be built for it.

Nothing is imported before it is asked for. Planning needs no device: a described one will do.

Sources: NVIDIA's cuDNN frontend (github.com/NVIDIA/cudnn-frontend) and the cuDNN backend's documentation.
"""

from __future__ import annotations

import ctypes
import sysconfig
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, Final

from gpuconv.layout import FROM_COMMON, TO_COMMON
from gpuconv.problem import ConvProblem

NEED: Final = "pip install 'gpuconv[cudnn13]' or 'gpuconv[cudnn12]'"
#: The oldest frontend that is known to work, and the first that is not: it brings more than it is needed for.
FRONTENDS: Final = ((1, 18), (1, 29))
#: In the order of the plans: the first is the one that cuDNN would choose.
MODES: Final = ("A", "B", "FALLBACK")
#: Weights lie as cuDNN is made for.
WEIGHTS: Final = {"nchw": "oihw", "nhwc": "ohwi"}

_TYPES: Final = {"f16": "HALF", "bf16": "BFLOAT16", "f32": "FLOAT", "f64": "DOUBLE"}
#: What a plan for float32 must not do; the last two keep exactness no better than ``"relaxed"`` does.
_ROUNDS: Final = ("TENSOR_CORE", "DOWN_CONVERT_INPUTS", "REDUCED_PRECISION_REDUCTION")
_SHORTCUTS: Final = ("WINOGRAD", "FFT")
_LONGEST: Final = 200


class NoPlan(RuntimeError):
    """cuDNN does not compute a problem; says why in one line."""


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """One way of cuDNN to compute a problem.

    Attributes
    ----------
    index : int
        Its place in cuDNN's list.
    name : str
        Engine and knobs, in cuDNN's words.
    workspace_bytes : int
        Memory it takes beside its arguments; of a described device this says little about a real one.
    """

    index: int
    name: str
    workspace_bytes: int


@dataclass(frozen=True, slots=True)
class Graph:
    """A problem in cuDNN's terms, planned.

    Attributes
    ----------
    problem : ConvProblem
        What is computed.
    graph : object
        The frontend's.
    tensors : mapping of str to object
        The frontend's, by the names of a plan's arguments; ``"zeros"`` for a bias the problem lacks.
    plans : tuple of PlanFacts
        Every plan that can be built, cuDNN's own choice first; never empty.
    refused : mapping of str to int
        Why others cannot, and how many.
    """

    problem: ConvProblem
    graph: Any
    tensors: Mapping[str, Any]
    plans: tuple[PlanFacts, ...]
    refused: Mapping[str, int]


@cache
def frontend() -> Any:
    """NVIDIA's frontend, with a cuDNN behind it.

    Raises
    ------
    RuntimeError
        If it, or what it needs, is missing, is not NVIDIA's, or of a version that is not known to work.
    """
    try:
        import cudnn
    except ModuleNotFoundError as error:
        missing = "is not installed" if error.name == "cudnn" else f"cannot be imported: {short(error)}"
        raise RuntimeError(f"cuDNN's frontend {missing}: {NEED}") from None
    except Exception as error:  # the import loads libraries and passes on whatever goes wrong in them
        raise RuntimeError(f"cuDNN's frontend cannot be imported: {short(error)}: {NEED}") from None
    asked = ("pygraph", "data_type", "numerical_note", "heur_mode", "backend_version", "__version__")
    if not all(hasattr(cudnn, name) for name in asked):
        where = getattr(cudnn, "__file__", None) or "without a file"
        raise RuntimeError(f"the module cudnn ({where}) is not NVIDIA's frontend: {NEED}")
    least, below = (".".join(map(str, each)) for each in FRONTENDS)
    if not FRONTENDS[0] <= _version(cudnn.__version__) < FRONTENDS[1]:
        raise RuntimeError(
            f"nvidia-cudnn-frontend must be from {least} to below {below}, got {cudnn.__version__}: {NEED}"
        )
    try:
        backend = int(cudnn.backend_version())
    except Exception as error:  # the frontend's own for a library that it did not find
        raise RuntimeError(f"cuDNN itself cannot be loaded: {short(error)}: {NEED}") from None
    if backend < 90000:
        raise RuntimeError(f"cuDNN must be 9 or newer, got {backend}: {NEED}")
    _load_cublas()
    return cudnn


def version() -> str:
    """Version of cuDNN, as ``"9.19.1"``; raises as `frontend` does."""
    found = int(frontend().backend_version())
    return f"{found // 10000}.{found // 100 % 100}.{found % 100}"


def _version(text: str) -> tuple[int, ...]:
    parts = text.split(".")[:2]
    return tuple(int(part) if part.isdigit() else 0 for part in parts)


def _load_cublas() -> None:
    """Load the library that cuDNN looks for when it plans: without it, it ends the process."""
    try:
        major = ctypes.CDLL("libcudnn.so.9").cudnnGetCudartVersion() // 1000
    except (OSError, AttributeError):  # on Windows both come from one folder
        return
    name = f"libcublasLt.so.{major}"
    packages = Path(sysconfig.get_path("purelib")) / "nvidia"
    for path in (name, packages / f"cu{major}" / "lib" / name, packages / "cublas" / "lib" / name):
        try:
            ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        return
    package = "nvidia-cublas" if major >= 13 else f"nvidia-cublas-cu{major}"
    raise RuntimeError(f"cuDNN needs {name}, which cannot be loaded: pip install {package}")


def unsupported(p: ConvProblem) -> str | None:
    """Return why cuDNN has no such problem at all, None where it may have a plan."""
    if p.padding_mode != "zeros":
        return f"cuDNN pads with zeros only, not as {p.padding_mode}"
    if p.N == 0:
        return "cuDNN takes no empty batch"
    return None


def graph(p: ConvProblem, *, handle: Any = None, described: str | None = None) -> Graph:
    """Plan a problem in every way that cuDNN offers.

    float32 is multiplied as float32 unless the problem's precision is ``"tf32"``, so for ``"tf32x3"`` too, of
    which cuDNN knows nothing. The epilogue is fused: cuDNN's own form is relu(convolution + residual + bias),
    and where a problem has residual or ReLU but no bias, there is one of zeros.

    Parameters
    ----------
    p : ConvProblem
        What to compute; its weights' order is cuDNN's, see `WEIGHTS`, whatever `p.weights` says.
    handle : object
        The frontend's, for the device it belongs to.
    described : str
        A device's properties as JSON instead: plans for it, where there is none. Those that cuDNN compiles
        need a driver and are refused.

    Raises
    ------
    NoPlan
        If cuDNN has none.
    RuntimeError
        As `frontend`.
    """
    cudnn = frontend()
    reason = unsupported(p)
    if reason is not None:
        raise NoPlan(reason)
    where: dict[str, Any] = {"handle": handle}
    if described is not None:
        where = {"device_property": cudnn.create_device_properties(described), "sm_version": 90}
    try:
        made, tensors = _defined(cudnn, p, where)
        made.create_execution_plans([getattr(cudnn.heur_mode, mode) for mode in MODES])
        notes = [getattr(cudnn.numerical_note, name) for name in _excluded(p)]
        if notes:
            made.deselect_numeric_notes(notes)
        made.check_support()
        plans, refused = _plans(made)
    except MemoryError:
        raise
    except Exception as error:  # the frontend has types of its own, which change with its versions
        raise NoPlan(short(error)) from None
    if not plans:
        raise NoPlan("; ".join(refused) or "cuDNN offers no plan")
    return Graph(p, made, tensors, tuple(plans), refused)


def _excluded(p: ConvProblem) -> tuple[str, ...]:
    if p.dtype != "f32" or p.precision == "tf32":
        return ()
    return _ROUNDS if p.precision == "relaxed" else (*_ROUNDS, *_SHORTCUTS)


def _defined(cudnn: Any, p: ConvProblem, where: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The frontend's graph of a problem, and its tensors."""
    dtype = getattr(cudnn.data_type, _TYPES[p.dtype])
    accumulator = cudnn.data_type.DOUBLE if p.dtype == "f64" else cudnn.data_type.FLOAT
    made = cudnn.pygraph(
        io_data_type=dtype, intermediate_data_type=accumulator, compute_data_type=accumulator, **where
    )
    shapes = {
        "x": ([p.N, p.C, p.H, p.W], p.layout),
        "w": ([p.K, p.C // p.groups, p.R, p.S], WEIGHTS[p.layout]),
        "y": ([p.N, p.K, p.P, p.Q], p.layout),
    }

    def tensor(name: str, form: tuple[list[int], str]) -> Any:
        return made.tensor(name=name, dim=form[0], stride=_strides(*form), data_type=dtype)

    roles = {"fprop": ("x", "w", "y"), "dgrad": ("y", "w", "x"), "wgrad": ("x", "y", "w")}
    first, second, result = roles[p.op]
    tensors = {"a": tensor("a", shapes[first]), "b": tensor("b", shapes[second])}
    (top, bottom), (left, right) = p.padding
    geometry = {
        "pre_padding": [top, left],
        "post_padding": [bottom, right],
        "stride": list(p.stride),
        "dilation": list(p.dilation),
    }
    if p.op == "fprop":
        out = made.conv_fprop(image=tensors["a"], weight=tensors["b"], **geometry)
    elif p.op == "dgrad":
        out = made.conv_dgrad(loss=tensors["a"], filter=tensors["b"], **geometry)
    else:
        out = made.conv_wgrad(image=tensors["a"], loss=tensors["b"], **geometry)
    form = shapes[result]
    out.set_dim(form[0]).set_stride(_strides(*form))
    if p.residual:
        tensors["residual"] = tensor("residual", form)
        out = made.add(a=out, b=tensors["residual"])
    if p.bias or p.residual or p.relu:
        name = "bias" if p.bias else "zeros"
        tensors[name] = tensor(name, ([1, p.out_channels, 1, 1], p.layout))
        out = made.bias(input=out, bias=tensors[name])
    if p.relu:
        out = made.relu(input=out)
    out.set_output(True).set_data_type(dtype).set_dim(form[0]).set_stride(_strides(*form))
    tensors["out"] = out
    made.validate()
    made.build_operation_graph()
    return made, tensors


def _strides(shape: list[int], order: str) -> list[int]:
    """Elements from one to the next along N, C, H, W or O, I, H, W, of what lies in another order."""
    ordered = [shape[axis] for axis in FROM_COMMON[order]]
    steps = [prod(ordered[axis + 1 :]) for axis in range(4)]
    return [steps[axis] for axis in TO_COMMON[order]]


def _plans(made: Any) -> tuple[list[PlanFacts], dict[str, int]]:
    """Build every plan, each once: two modes may name the same."""
    plans: dict[str, PlanFacts] = {}
    refused: Counter[str] = Counter()
    for index in range(made.get_execution_plan_count()):
        try:
            made.build_plan_at_index(index)
            name = made.get_plan_name_at_index(index)
            size = int(made.get_workspace_size_plan_at_index(index))
        except MemoryError:
            raise
        except Exception as error:  # deselected, or not for this device
            refused[short(error)] += 1
            continue
        plans.setdefault(name, PlanFacts(index, name, size))
    return list(plans.values()), dict(refused)


def short(error: BaseException) -> str:
    """The first thing that an error says; cuDNN's go on for pages, with the reason somewhere in them."""
    lines = [" ".join(line.split()) for line in str(error).splitlines()]
    text = next(filter(None, lines), type(error).__name__)
    reasons = [line.partition("Reason:")[2].strip() for line in lines if "Reason:" in line]
    if "RUNTIME_PREREQUISITE_MISSING" in str(error):
        text = "only plans that cuDNN compiles, which needs a CUDA driver and NVRTC"
    elif reasons:
        text = f"{text[: _LONGEST // 2]}: {reasons[0]}"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
