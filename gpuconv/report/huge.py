"""Problems with a tensor of 2³¹ elements or more: made on the device, and checked on some of their images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any, Final

import numpy as np

from gpuconv import measure
from gpuconv.backend import detect
from gpuconv.backend.device import Device
from gpuconv.measure import Operands
from gpuconv.problem import ITEMSIZE, ConvProblem

#: Numbers drawn at a time: they are wider than what is kept of them.
_CHUNK: Final = 2**26
_BORDERS: Final = (2**31, 2**32)


def operands(p: ConvProblem, device: Device, seed: int = 0) -> Operands:
    """Normally distributed operands on a CUDA device; nothing of their size is made on the host.

    Raises
    ------
    MemoryError
        On a CPU: an oracle's copies beside these would take several times their memory.
    """
    if device.kind == "cpu":
        size = sum(map(prod, p.operand_shapes)) * ITEMSIZE[p.dtype] / 1e9
        raise MemoryError(f"its arrays take {size:.1f} GB, and checking more memory yet: only on a GPU")
    cupy = detect.cupy()
    dtype = np.dtype(measure.numpy_dtype(p.dtype))
    drawn = np.float64 if p.dtype == "f64" else np.float32
    with cupy.cuda.Device(device.index):
        rng = cupy.random.default_rng(seed)

        def draw(shape: tuple[int, ...]) -> Any:
            made = cupy.empty(prod(shape), f"u{dtype.itemsize}" if p.dtype == "bf16" else dtype)
            for at in range(0, made.size, _CHUNK):
                part = made[at : at + _CHUNK]
                numbers = rng.standard_normal(part.size, dtype=drawn)
                part[...] = _bfloat16_bits(numbers) if p.dtype == "bf16" else numbers
            return made.view(dtype).reshape(shape)

        first, second, result = p.operand_shapes
        a, b = draw(first), draw(second)
        bias = draw((p.out_channels,)) if p.bias else None
        return Operands(a, b, bias, draw(result) if p.residual else None)


def images(p: ConvProblem) -> list[int]:
    """The first, the last, and those beside each place where 32 bits end, counting elements or bytes."""
    found = {0, p.N - 1}
    for shape in (p.x_shape, p.y_shape):
        for border in (*_BORDERS, *(border // ITEMSIZE[p.dtype] for border in _BORDERS)):
            at = border * p.N // prod(shape)
            found |= {at - 1, at, at + 1}
    return sorted(at for at in found if 0 <= at < p.N)


def looked_at(p: ConvProblem, get: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """What brings to the host what is checked of a result: `images`, or a whole gradient to the weights."""
    if p.op == "wgrad":
        return get
    return lambda array: np.concatenate([get(array[at : at + 1]) for at in images(p)])


def error_over_bound(p: ConvProblem, seen: Any, given: Operands, get: Callable[[Any], Any]) -> float:
    """Like `measure.error_over_bound`, of what `looked_at` has brought; images do not know of each other."""
    a, b, bias, residual = given
    if p.op == "wgrad":
        return measure.error_over_bound(p, seen, Operands(get(a), get(b)))
    bring = looked_at(p, get)
    there = Operands(
        bring(a), get(b), None if bias is None else get(bias), None if residual is None else bring(residual)
    )
    return measure.error_over_bound(replace(p, N=len(images(p))), seen, there)


def _bfloat16_bits(numbers: Any) -> Any:
    """Rounded to nearest even; CuPy itself may know nothing of the type."""
    bits = numbers.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
