"""Every listed case and every body that judges kernels, on the device."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from functools import partial
from typing import Any

from bench.check import bordering, patching
from bench.check.steps import Item, Skip, Where, need_dtype
from gpuconv.kernels import registry
from gpuconv.kernels.cuda.base import CudaKernel
from gpuconv.problem import OPS, ConvProblem
from tests import bodies, cases, problems
from tests.gpu import bodies as device_bodies
from tests.problems import NAMED, with_op

#: Cases whose binaries are compiled side by side before they run.
LOT = 64
#: What a dry run tries: enough to see every kind of item at work.
FEW = {
    "cases": ("fprop_n2c8h10w12k16r3s3p1_nchw_f16 ", "dgrad_n2c6h1w1k4", "wgrad_n2c3h8w9k33"),
    "poisoned": bodies.POISONED[:1],
    "long": ("fprop_n1c300h1w1k1r1s1_nhwc_f64",),
    "stubborn": bodies.STUBBORN[:1],
    "named": ("plain 3x3",),
    "bordered": ("f32",),
    "patches": ("n2c3h7w9k1r3s3p1_nchw_f32", "n2c3h7w9k1r3s3p1_nhwc_f32"),
}


def items(where: Where) -> Iterable[Item]:
    """Cases, smallest first; then bodies; then what only a device has."""
    machine = where.machine
    listed = sorted(cases.listed(), key=lambda case: case.problem.flops)
    poisoned, long, stubborn, named = bodies.POISONED, bodies.LONG, bodies.STUBBORN, tuple(NAMED)
    patches, bordered = patching.PROBLEMS, bordering.PROBLEMS
    if where.dry_run:
        few = [next((case for case in listed if case.line.startswith(each)), None) for each in FEW["cases"]]
        listed = [case for case in few if case is not None] or listed[:3]
        poisoned, long, stubborn, named = FEW["poisoned"], FEW["long"], FEW["stubborn"], FEW["named"]
        patches, bordered = FEW["patches"], FEW["bordered"]
    for at in range(0, len(listed), LOT):
        lot = listed[at : at + LOT]
        if not where.dry_run:
            yield Item(f"compile cases {at + 1} to {at + len(lot)}", partial(compile_lot, lot, where))
        for case in lot:
            p = case.problem
            yield Item(case.line, partial(run_case, case, machine), f"{case.kernel.name} {p.op} {p.dtype}")
    for text in patches:
        for name in patching.KINDS:
            yield Item(f"{name} {text}", partial(patching.check, name, text, machine), f"{name} {text[-4:]}")
    for dtype in bordered:
        for name in bordering.KINDS:
            yield Item(
                f"border {name} {dtype}", partial(bordering.check, name, dtype, machine), f"border {name}"
            )
    for kernel in registry.kernels():
        if not isinstance(kernel, CudaKernel):
            continue
        for what, texts, body in (
            ("poison", poisoned, bodies.check_poison),
            ("long sum", long, bodies.check_long_sum),
            ("stubborn sum", stubborn, bodies.check_stubborn_sum),
        ):
            for text in texts:
                run = partial(run_body, body, text, kernel, machine)
                yield Item(f"{what} {kernel.name} {text}", run)
        yield Item(f"epilogue {kernel.name}", partial(bodies.check_epilogue, kernel, machine))
    for name in named:
        for op in OPS:
            yield Item(f"public {op} {name}", partial(run_public, machine, name, op))
    if where.dry_run:
        lacking = "needs a GPU: the emulator has no streams and no graphs"
        yield Item("another stream, graphs, huge images", partial(_skip, lacking))
        return
    yield Item("another stream", partial(device_bodies.check_stream, machine))
    for op in OPS:
        yield Item(f"captured in a graph: {op}", partial(device_bodies.check_capture, machine, op))
    yield Item("an image of more than 2**31 pixels", partial(run_huge, machine))


def _skip(reason: str) -> None:
    raise Skip(reason)


def compile_lot(lot: list[cases.Case], where: Where) -> dict[str, Any]:
    """On all cores, before cases ask for one binary after the other; failures show again with their case.

    Only what will run in this process or the next: not what has ended, and not what is skipped.
    """
    from gpuconv.backend import jit
    from gpuconv.errors import CompileError

    ended, device = where.state.step("correctness").ended, where.machine.device
    binaries = []
    for case in lot:
        if case.line in ended or case.problem.dtype not in problems.DTYPES or rejected(case, device):
            continue
        binaries += [spec.binary for spec in case.kernel.launches(case.problem, case.config, device)]
    wanted = list(dict.fromkeys(binaries))
    failed = []
    try:
        if wanted:
            jit.compile_all(wanted)
    except CompileError as error:
        failed.append(" ".join(str(error).split())[:300])
    return {"binaries": len(wanted), "failed": failed}


def rejected(case: cases.Case, device: Any) -> Any:
    """Why a case is not legal on a device, or None."""
    return case.kernel.check(case.problem, device) or case.kernel.check_config(
        case.problem, case.config, device
    )


def run_case(case: cases.Case, machine: Any) -> dict[str, Any]:
    """Exact integers, floats within the bound, the same bits twice."""
    p = case.problem
    need_dtype(p.dtype)
    reject = rejected(case, machine.device)
    if reject is not None:
        raise Skip(f"not legal on {machine.device.name}: {reject.reason}")
    kind = [case.kernel.name, p.op, p.dtype]
    try:
        cases.check(case, [machine, machine])
    except Exception as error:
        error.details = {**(getattr(error, "details", None) or {"case": case.line}), "kind": kind}  # type: ignore[attr-defined]
        raise
    return {"kind": kind}


def run_body(body: Any, text: str, kernel: Any, machine: Any) -> None:
    """A body on a problem under its default config, where the kernel takes it."""
    p = ConvProblem.parse(text)
    need_dtype(p.dtype)
    reject = kernel.check(p, machine.device)
    if reject is not None:
        raise Skip(f"not for {kernel.name}: {reject.reason}")
    body(bodies.default_case(text, kernel, machine), machine)


def run_public(machine: Any, name: str, op: Any) -> None:
    """A named problem; a plan that a device refuses, and another one done instead, is a failure here."""
    need_dtype(with_op(NAMED[name], op).dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.filterwarnings("ignore", message="compiled kernels are kept in memory only")
        warnings.filterwarnings("ignore", message="threadpoolctl is not installed")
        device_bodies.check_public(machine, name, op)


def run_huge(machine: Any) -> None:
    """Skipped where the device has too little memory."""
    try:
        device_bodies.check_huge_image(machine)
    except device_bodies.Lacking as lacking:
        raise Skip(str(lacking)) from None
