"""PyTorch's ways to write arguments, and what they mean here."""

from __future__ import annotations

from typing import Any, Final

import torch

from gpuconv import arguments
from gpuconv.arguments import show
from gpuconv.problem import DTYPES

SHORT: Final = {getattr(torch, name): short for short, name in DTYPES.items()}


def tensors(input: Any, weight: Any, bias: Any) -> tuple[Any, Any, Any]:
    """All arguments checked, and cast where autocast is on."""
    given = {"input": input, "weight": weight}
    if bias is not None:
        given["bias"] = bias
    for name, tensor in given.items():
        _check_kind(name, tensor)
    kind = input.device.type
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        for name, tensor in given.items():
            if tensor.is_floating_point() and tensor.dtype != torch.float64 and tensor.device.type == kind:
                given[name] = tensor.to(dtype)
    check_tensors(given)
    return given["input"], given["weight"], given.get("bias")


def _check_kind(name: str, tensor: Any) -> None:
    if torch.jit.is_tracing():
        raise RuntimeError("torch.jit.trace cannot record gpuconv's functions; torch.fx can")
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {show(tensor)}")
    if tensor.layout != torch.strided or tensor.device.type not in ("cpu", "cuda"):
        where = f"it is {tensor.layout} on {tensor.device}"
        raise TypeError(f"{name} must be a dense tensor on the CPU or a CUDA device, {where}")


def check_tensors(given: dict[str, Any]) -> None:
    """Raise unless all have one dtype that gpuconv has, on one device."""
    first = given["input"]
    for name, tensor in given.items():
        _check_kind(name, tensor)
        if tensor.device != first.device:
            raise TypeError(f"{name} must be on {first.device} like input, it is on {tensor.device}")
        if tensor.dtype not in SHORT:
            allowed = ", ".join(f"torch.{dtype}" for dtype in DTYPES.values())
            raise TypeError(f"{name} must have dtype {allowed}, got {tensor.dtype}")
        if tensor.dtype != first.dtype:
            raise TypeError(f"{name} must have dtype {first.dtype} like input, got {tensor.dtype}")


def batch(name: str, tensor: Any, dimensions: int) -> Any:
    """The tensor, as a batch of one where it has a dimension less."""
    if tensor.ndim not in (dimensions - 1, dimensions):
        raise ValueError(
            f"{name} must have {dimensions} dimensions, or {dimensions - 1} without the batch, "
            f"got shape {tuple(tensor.shape)}"
        )
    return tensor if tensor.ndim == dimensions else tensor[None]


def unbatched(given: Any, batched: Any, result: Any) -> Any:
    """Take back what `batch` did."""
    return result[0] if given.ndim < batched.ndim else result


def pair(name: str, value: Any, minimum: int = 1) -> tuple[int, int]:
    """(height, width) of one number, alone or in a tuple, or of two."""
    if isinstance(value, (tuple, list)) and len(value) == 1:
        value = value[0]
    return arguments.pair(name, value, minimum)


def channels_last(tensor: Any) -> bool:
    """Whether its memory says so; where it can be read either way, the usual order is meant."""
    return tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()
