"""A layer's parameters on their way: to and from a device, a state dict, a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import numpy as np

from gpuconv.arguments import show
from gpuconv.backend import arrays
from gpuconv.problem import DTYPES, Shape

SHORT: Final = {name: short for short, name in DTYPES.items()}


def placed(array: Any, xp: Any) -> Any:
    """The array where the module keeps its own; it need not know bfloat16 to move it."""
    bits = array.dtype.kind == "V"
    moved = xp.asarray(array.view(np.uint16) if bits else array)
    if not isinstance(getattr(moved, "dtype", None), np.dtype):
        raise TypeError(f"xp must be the module numpy or cupy, or one like them, got {show(xp)}")
    return moved.view(array.dtype) if bits else moved


def kept(array: Any) -> Any:
    """A copy where the array is."""
    if isinstance(array, np.ndarray):
        return array.copy()
    launcher = arrays.launcher()
    view = arrays.adopt("weight", array, launcher)
    whole = launcher.contiguous(view)
    if whole is view:
        dtype = arrays.dtype_of("weight", view, launcher)
        whole = launcher.empty(arrays.shape_of(view), dtype, arrays.device_of(view, launcher))
        launcher.copy(view, whole)
    return whole


def on_host(name: str, value: Any) -> Any:
    """A NumPy array of an array from wherever."""
    if isinstance(value, np.ndarray):
        return value
    try:
        for step in ("detach", "cpu"):  # a torch tensor, without its gradient
            value = getattr(value, step, lambda value=value: value)()
        if str(getattr(value, "dtype", None)) == "torch.bfloat16":
            value = value.float()
        if hasattr(value, "__cuda_array_interface__") and callable(getattr(value, "get", None)):
            bits = value.dtype.kind == "V"
            return value.view(np.uint16).get().view(value.dtype) if bits else value.get()
        return np.asarray(value)
    except Exception as error:  # another library's conversion may raise anything
        raise TypeError(f"{name} must be an array that NumPy can read, got {show(value)}: {error}") from None


def prefixed(prefix: Any, names: Any) -> dict[str, str]:
    """What each name is called in a state dict."""
    if not isinstance(prefix, str):
        raise TypeError(f"prefix must be a string, got {show(prefix)}")
    return {name: prefix + name for name in names}


def chosen(state: Any, prefix: Any, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The arrays of these names and shapes from a state dict, on the host."""
    if not isinstance(state, Mapping):
        raise TypeError(f"state must map names to arrays, got {show(state)}")
    wanted = prefixed(prefix, shapes)
    for name in state:
        if not isinstance(name, str):
            raise TypeError(f"state must map names to arrays, got the name {show(name)}")
    found = {name for name in state if name.startswith(prefix)}
    if found != set(wanted.values()):
        raise ValueError(f"state must hold {' and '.join(wanted.values())}, got {show(sorted(found))}")
    values = {name: on_host(full, state[full]) for name, full in wanted.items()}
    for name, value in values.items():
        if value.dtype.name not in SHORT:
            raise TypeError(f"{wanted[name]} must have dtype {', '.join(SHORT)}, got {value.dtype}")
        if value.shape != shapes[name]:
            raise ValueError(f"{wanted[name]} must have shape {shapes[name]}, got {value.shape}")
    return values


def check(name: str, array: Any, shape: Shape | tuple[int], dtype: str) -> None:
    """Raise unless a parameter, which is the caller's to replace, is still one."""
    arrays.check_array(name, array)
    found = getattr(getattr(array, "dtype", None), "name", dtype)
    if found != dtype:
        raise TypeError(f"{name} must have dtype {dtype} like the layer, got {found}")
    if tuple(array.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(array.shape)}")


def write(path: Any, state: dict[str, Any]) -> None:
    """An ``.npz`` file, whole or not at all, whoever writes at the same time; a link stays one."""
    target = Path(os.path.realpath(_text(path)))
    part = target.with_name(f".{uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            np.savez(file, **state)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def read(path: Any) -> dict[str, Any]:
    """All arrays of an ``.npz`` file."""
    with open(_text(path), "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                return dict(archive)
        except Exception as error:  # zlib's, zipfile's, the system's: a damaged file may raise anything
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(
                f"path must be an .npz file of parameters, got {show(path)}: {reason}"
            ) from error


def _text(path: Any) -> str:
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be a string or a path, got {show(path)}")
    text = os.fsdecode(path)
    if "\0" in text:
        raise ValueError(f"path must have no zero byte, got {show(path)}")
    return text
