"""Tensors so large that 31 bits do not count them, of which only a few pages are ever touched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from gpuconv.kernels.cuda.base import CudaKernel
from gpuconv.problem import ConvProblem
from tests import bodies
from tests.cases import Case, run
from tests.emulator.machine import EmulatedMachine
from tests.problems import operands

TENSORS = ("in", "taps", "out")
AXES = ("image", "group", "channel", "row", "column")
#: Elements from one cell to the next.
_FAR = 2**31 + 8
#: Rows 0 and 45,000 of 50,000: their elements lie 2.25·10⁹ apart.
_SIDE, _STRIDE = 50_000, 45_000


class Lazily:
    """On the device without a copy: pages that nobody touches take no memory."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.__cuda_array_interface__ = {**array.__array_interface__, "version": 3}


def check_large_input(kernel: CudaKernel[Any], machine: EmulatedMachine, op: str, layout: str) -> None:
    """An input of 2.5·10⁹ elements, two rows of windows of which are read."""
    p = ConvProblem.parse(f"{op}_n1c1h{_SIDE}w{_SIDE}k1r2s2u{_STRIDE}_{layout}_f16")
    x = np.zeros((_SIDE, _SIDE), np.float16)
    rng = np.random.default_rng(0)
    b = rng.integers(-3, 4, (2, 2)).astype(np.float16)
    expected = np.zeros((2, 2))
    for i, j in np.ndindex(2, 2):
        window = x[i * _STRIDE : i * _STRIDE + 2, j * _STRIDE : j * _STRIDE + 2]
        window[...] = rng.integers(-3, 4, (2, 2))
        if op == "fprop":
            expected[i, j] = (window.astype(float) * b).sum()
        else:
            expected += b[i, j].astype(float) * window
    with machine.at_work():
        plan = kernel.bind(p, kernel.default_config(p, machine.device), machine.device)
        out = machine.poisoned(p.operand_shapes[2], np.dtype(np.float16), 0)
        large = machine.emulator.adopt(Lazily(x.reshape(p.x_shape)))
        plan(large, machine.put(b.reshape(p.operand_shapes[1]), 0), out)
    np.testing.assert_array_equal(out.get().reshape(2, 2), expected)


def check_offsets(
    kernel: CudaKernel[Any],
    machine: EmulatedMachine,
    struct: Any,
    tensor: str,
    axis: str,
    defines: dict[str, str],
) -> None:
    """One stride of one tensor is made so large that 31 bits lose its second cell; all others stay.

    `defines` are those that do not follow from the problem's own strides any more.
    """
    p = ConvProblem.parse("fprop_n2c4h3w3k4r2s2g2_nchw_f16")
    given = operands(p, 0, integers=True)
    config = replace(kernel.default_config(p, machine.device), splits=1)
    expected = run(Case(p, kernel, config), machine, given)
    shapes = {"in": (2, 2, 2, 3, 3), "taps": (2, 2, 2, 2, 2), "out": (2, 2, 2, 2, 2)}
    wide = np.zeros(_FAR * 3, np.float16)
    at, steps, step = AXES.index(axis), [0] * 5, 1
    for i in reversed(range(5)):
        if i != at:
            steps[i] = step
            step *= shapes[tensor][i]
    steps[at] = _FAR
    view = np.ndarray(shapes[tensor], np.float16, wide, strides=[2 * each for each in steps])
    values = {
        "in": given["a"].reshape(shapes["in"]),
        "taps": given["b"].reshape(shapes["taps"]).transpose(1, 0, 2, 3, 4),
        "out": np.full(shapes["out"], np.nan),
    }
    view[...] = values[tensor]
    (spec,) = kernel.launches(p, config, machine.device)
    params = struct.from_buffer_copy(spec.params)
    assert params.pack() == spec.params
    setattr(params, f"{tensor}_strides", type(params.in_strides)(*steps))
    if hasattr(params, f"{tensor}_steps"):  # the same in bytes
        setattr(params, f"{tensor}_steps", type(params.in_steps)(*(2 * each for each in steps[2:])))
    defined = tuple((dict(spec.binary.defines) | defines).items())
    spec = replace(spec, params=params.pack(), binary=replace(spec.binary, defines=defined))
    arrays = {"in": machine.put(given["a"], 0), "taps": machine.put(given["b"], 0)}
    arrays["out"] = machine.poisoned(p.y_shape, np.dtype(np.float16), 0)
    arrays[tensor] = machine.emulator.adopt(Lazily(wide))
    (launch,) = machine.emulator.load((spec,), machine.device)
    a, b, out = (arrays[name].pointer for name in TENSORS)
    launch(spec.pack({"a": a, "b": b, "out": out, "bias": 0, "residual": 0}))
    result = view if tensor == "out" else arrays["out"].get().reshape(shapes["out"])
    np.testing.assert_array_equal(result, expected.reshape(shapes["out"]))


def check_split_offsets(
    kernel: CudaKernel[Any], machine: EmulatedMachine, struct: Any, dtype: str = "f32", **more: Any
) -> None:
    """Partial sums lie so far apart that 31 bits lose the second."""
    case = bodies.default_case(f"fprop_n1c4h4w4k2r3s3_nchw_{dtype}", kernel, machine, splits=2, **more)
    given = operands(case.problem, 0, integers=True)
    expected = run(case, machine, given)
    spec, _ = kernel.launches(case.problem, case.config, machine.device)
    params = struct.from_buffer_copy(spec.params)
    params.split_elements = _FAR
    spec = replace(spec, params=params.pack())
    wide = np.zeros(_FAR + expected.size, np.float32)
    a, b = machine.put(given["a"], 0), machine.put(given["b"], 0)
    workspace = machine.emulator.adopt(Lazily(wide))
    (launch,) = machine.emulator.load((spec,), machine.device)
    addresses = {"a": a, "b": b, "workspace": workspace}
    launch(spec.pack({name: one.pointer for name, one in addresses.items()} | {"bias": 0, "residual": 0}))
    total = (wide[: expected.size] + wide[_FAR:]).reshape(expected.shape)
    np.testing.assert_array_equal(total, expected)
