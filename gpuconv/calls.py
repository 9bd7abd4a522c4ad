"""From the arguments of one public call to a plan and its arrays.

A call seen before costs one look-up in a table of raw arguments. Any other is checked argument by argument,
becomes a `ConvProblem`, and finds its plan through `dispatch`, or through `autotune` where tuning is asked
for; only calls that passed enter the table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np

from gpuconv import arguments, dispatch, settings
from gpuconv.autotune import asked
from gpuconv.backend import arrays
from gpuconv.backend.device import Device
from gpuconv.backend.launch import Launcher
from gpuconv.kernels.cuda import unfold
from gpuconv.layout import common_shape
from gpuconv.options import Options, TransposedOptions
from gpuconv.plan import Plan
from gpuconv.problem import DTYPES, ConvProblem, Op, Shape


class _Found(NamedTuple):
    """A plan, and how a call's arrays become the plan's.

    Attributes
    ----------
    plan : Plan
    shape : Shape
        Of the call's result.
    swapped : bool
        Whether the call's first operand is the plan's second.
    ragged : bool
        Whether some array is smaller than the plan has it, see `TransposedOptions`.
    """

    plan: Plan
    shape: Shape
    swapped: bool
    ragged: bool


_plans: dict[tuple[Any, ...], _Found] = {}
_MOST_PLANS: Final = 4096
#: How often a call has asked for a tuned plan.
_tunings = 0


@dataclass(frozen=True, slots=True)
class Call:
    """One public call, as the caller wrote it; `operands` in the order of the signature."""

    op: Op
    operands: dict[str, Any]
    bias: Any = None
    residual: Any = None
    activation: Any = None
    out: Any = None
    tune: Any = None
    input_shape: Any = None
    weight_shape: Any = None


def run(call: Call, options: Options | TransposedOptions) -> Any:
    """Check, find a plan, compute; return the result."""
    launcher = None
    if not isinstance(next(iter(call.operands.values())), np.ndarray):
        launcher, call = _adopted(call)
    key = _key(call, options, launcher)
    found = None if key is None else _plans.get(key)
    if found is None:
        tunings = _tunings
        found = _find(call, options, launcher)
        # what was found while another thread tuned may be out of date
        if key is not None and (tunings == _tunings or asked.asked(call.tune)):
            if len(_plans) >= _MOST_PLANS:
                _plans.clear()
            _plans[key] = found
    if launcher is not None:
        return _run_on_device(call, found, launcher)
    plan, shape, swapped, ragged = found
    p = plan.problem
    first, second = map(arrays.plain, call.operands.values())
    a, b = (second, first) if swapped else (first, second)
    out = call.out
    if out is None:
        result = out = np.empty(shape, a.dtype.newbyteorder("="))
    else:
        inputs = {**call.operands, "bias": call.bias, "residual": call.residual}
        result = arrays.check_out(out, shape, p.dtype, plan.device, inputs, None)
    whole = result
    if ragged:
        shape_a, shape_b, shape_out = p.operand_shapes
        a, b = _extended(a, shape_a), _extended(b, shape_b)
        if shape != shape_out:
            whole = np.empty(shape_out, a.dtype.newbyteorder("="))
    plan(a, b, whole, bias=arrays.plain(call.bias), residual=arrays.plain(call.residual))
    if whole is not result:
        result[...] = _corner(whole, shape)
    return out


def _extended(array: Any, shape: Shape) -> Any:
    """A NumPy array with zeros behind its end along each axis, up to a shape."""
    if array.shape == shape:
        return array
    larger = np.zeros(shape, array.dtype)
    _corner(larger, array.shape)[...] = array
    return larger


def _extended_there(array: Any, shape: Shape, p: ConvProblem, where: Device, launcher: Launcher) -> Any:
    """The same for a contiguous device array: its patches of one cell, those on the padding included."""
    if arrays.shape_of(array) == shape:
        return array
    N, C, H, W = common_shape(arrays.shape_of(array), p.layout)
    _, _, height, width = common_shape(shape, p.layout)
    padding = (0, height - H), (0, width - W)
    cells = ConvProblem("fprop", N, C, H, W, 1, 1, 1, padding=padding, layout=p.layout, dtype=p.dtype)
    larger = launcher.empty(shape, p.dtype, where)
    unfold.enqueue(cells, array, larger, where, launcher, folds=False)
    return larger


def _corner(array: Any, shape: tuple[int, ...]) -> Any:
    """View the first cells along each axis."""
    return array[tuple(map(slice, shape))]


def _adopted(call: Call) -> tuple[Launcher, Call]:
    """The launcher at work, and the call with its CUDA arrays as the launcher's own; `out` stays as it is."""
    given = _present(call)
    lead = next(iter(given))
    for name, array in given.items():
        arrays.check_array(name, array)
        if isinstance(array, np.ndarray):
            raise TypeError(
                f"{name} must be on a CUDA device like {lead}, it is on the CPU; nothing is copied unasked"
            )
    launcher = arrays.launcher()
    views = {name: arrays.adopt(name, array, launcher) for name, array in given.items()}
    operands = {name: views[name] for name in call.operands}
    return launcher, replace(call, operands=operands, bias=views.get("bias"), residual=views.get("residual"))


def _run_on_device(call: Call, found: _Found, launcher: Launcher) -> Any:
    """Enqueue everything on the current stream, and wait for nothing."""
    plan, shape, swapped, ragged = found
    p, given = plan.problem, _present(call)
    for name, array in given.items():
        arrays.check_aligned(name, array, launcher)
    target = None
    if call.out is not None:
        target = arrays.check_out(call.out, shape, p.dtype, plan.device, given, launcher)
    for name, array in given.items():
        given[name] = launcher.contiguous(array)
        if given[name] is not array:
            settings.log("launch", f"{name} is not contiguous and is copied  # gpuconv problem '{p}'")
    first, second = (given[name] for name in call.operands)
    a, b = (second, first) if swapped else (first, second)
    shape_a, shape_b, shape_out = p.operand_shapes
    if ragged:
        a, b = (_extended_there(*each, p, plan.device, launcher) for each in ((a, shape_a), (b, shape_b)))
    if target is not None and shape == shape_out and arrays.is_contiguous(target):
        result = target
    else:
        result = launcher.empty(shape_out, p.dtype, plan.device)
    plan(a, b, result, bias=given.get("bias"), residual=given.get("residual"))
    if shape != shape_out:
        result = launcher.contiguous(_corner(result, shape))
    if target is None:
        return result
    if result is not target:
        launcher.copy(result, target)
    return call.out


def _present(call: Call) -> dict[str, Any]:
    """Every array by its name: the operands, whatever they are, and what else is not None."""
    extras = {"bias": call.bias, "residual": call.residual}
    return {**call.operands, **{name: array for name, array in extras.items() if array is not None}}


def _key(
    call: Call, options: Options | TransposedOptions, launcher: Launcher | None
) -> tuple[Any, ...] | None:
    """Everything a plan follows from, as written; None for what only the checks can judge."""
    if call.tune is not None and type(call.tune) is not bool:
        return None
    key: list[Any] = [type(options), call.op, asked.asked(call.tune)]
    key += settings.read("GPUCONV_KERNEL"), settings.read("GPUCONV_CONFIG")
    # a plan in the table keeps its launcher alive, so no other gets the number
    key.append(None if launcher is None else id(launcher))
    for array in (*call.operands.values(), call.bias, call.residual):
        if array is None:
            key.append(None)
        elif type(array) is np.ndarray:
            key += array.shape, array.dtype
        elif launcher is not None:
            key += array.shape, array.dtype, arrays.index_of(array)
        else:
            return None
    try:
        key += map(_raw, (*options, call.activation, call.input_shape, call.weight_shape))
        hash(full := tuple(key))
    except Exception:  # unhashable, endlessly nested, or of a type whose own __hash__ raises
        return None
    return full


def _raw(value: Any) -> Any:
    """A value that equals another only if it was written alike: True is not 1, and 1.0 is not either."""
    kind = type(value)
    if kind is int or kind is str:
        return value
    if kind is tuple or kind is list:
        return tuple(map(_raw, value))
    return kind, value


def _find(call: Call, options: Options | TransposedOptions, launcher: Launcher | None) -> _Found:
    problem, shape, where = _checked(call, options, launcher)
    given = [arrays.shape_of(array) for array in call.operands.values()]
    swapped = (call.op == "dgrad") is not isinstance(options, TransposedOptions)
    if swapped:
        given.reverse()
    ragged = (*given, shape) != problem.operand_shapes
    plan = _tuned(problem, where) if asked.asked(call.tune) else dispatch.plan_for(problem, where)
    return _Found(plan, shape, swapped, ragged)


def _tuned(problem: ConvProblem, where: Device) -> Plan:
    """The plan after tuning; older calls of the problem then look for theirs anew."""
    from gpuconv.autotune import tuner

    global _tunings
    plan = tuner.plan_for(problem, where)
    _tunings += 1
    for key, found in list(_plans.items()):
        if found.plan.problem == problem and found.plan.device == where:
            _plans.pop(key, None)
    return plan


def _checked(
    call: Call, options: Options | TransposedOptions, launcher: Launcher | None
) -> tuple[ConvProblem, Shape, Device]:
    """The problem, the result's shape and the device, or the error that says what is wrong with a call."""
    dtype, where = _arrays(call, launcher)
    if call.tune is not None and not isinstance(call.tune, (bool, np.bool_)):
        raise TypeError(f"tune must be None, True or False, got {arguments.show(call.tune)}")
    w = _forward_shape(call, "w", "weight_shape")
    if isinstance(options, TransposedOptions) and call.op == "fprop":
        grad_out = _forward_shape(call, "grad_out", "")
        x = "the input", options.input_shape(grad_out, w)
    else:
        x = _forward_shape(call, "x", "input_shape")
    problem = options.problem(
        call.op,
        x,
        w,
        dtype,
        bias=call.bias is not None,
        residual=call.residual is not None,
        activation=call.activation,
    )
    shape = problem.operand_shapes[2]
    if isinstance(options, TransposedOptions):
        y_shape, channels = problem.x_shape, problem.C
        shape = x[1] if call.op == "fprop" else shape
    else:
        y_shape, channels = problem.y_shape, problem.K
    for name, array, expected in (
        ("grad_out", call.operands.get("grad_out"), y_shape),
        ("bias", call.bias, (channels,)),
        ("residual", call.residual, y_shape),
    ):
        if array is not None and arrays.shape_of(array) != expected:
            raise ValueError(f"{name} must have shape {expected}, got {arrays.shape_of(array)}")
    return problem, shape, where


def _arrays(call: Call, launcher: Launcher | None) -> tuple[str, Device]:
    """The one dtype and the one device of all arrays."""
    given = _present(call)
    if launcher is None:
        for name, array in given.items():
            arrays.check_array(name, array)
    (lead, first), *rest = given.items()
    where, dtype = arrays.device_of(first, launcher), arrays.dtype_of(lead, first, launcher)
    for name, array in rest:
        here: Device | str | None = None
        if launcher is not None and arrays.index_of(array) != where.index:
            here = arrays.device_of(array, launcher)
        elif launcher is None and not isinstance(array, np.ndarray):
            here = "a CUDA device"
        if here is not None:
            raise TypeError(
                f"{name} must be on {where} like {lead}, it is on {here}; nothing is copied unasked"
            )
        other = arrays.dtype_of(name, array, launcher)
        if other != dtype:
            raise TypeError(f"{name} must have dtype {DTYPES[dtype]} like {lead}, got {DTYPES[other]}")
    return dtype, where


def _forward_shape(call: Call, array: str, shape: str) -> tuple[str, Any]:
    """Name and shape of x or w: the array's own, or the argument that stands for it."""
    if array in call.operands:
        return array, arrays.shape_of(call.operands[array])
    return shape, getattr(call, shape)
