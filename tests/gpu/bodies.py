"""What only a real device shows, and the public functions on it; each body takes a machine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

import gpuconv
from gpuconv.problem import ConvProblem, Op
from gpuconv.validate import tolerance
from tests import bodies
from tests.cases import Machine, Mismatch, difference, run
from tests.problems import NAMED, NUMPY, operands, public_call, with_op


class Lacking(Exception):
    """What the machine lacks for a body, in words."""


def check_public(machine: Machine, name: str, op: Op) -> None:
    """A named problem through the public function."""
    p = with_op(NAMED[name], op)
    given = operands(p)
    with machine.at_work():
        result = machine.get(public_call(p, _put(machine, given)))
    verdict = tolerance.judge(p, result, **given)
    if not verdict.ok:
        raise Mismatch(f"{p}: {verdict}", problem=str(p), operands="operands(p)", worst=list(verdict.worst))


def check_stream(machine: Any) -> None:
    """Work goes to the current stream: it waits for what was enqueued there before, and for nothing else."""
    p = with_op(NAMED["plain 3x3"], "fprop")
    given = operands(p, integers=True)
    with machine.cupy.cuda.Stream(non_blocking=True) as stream:
        arrays = _put(machine, given)
        result = public_call(p, arrays)
        stream.synchronize()
    got, expected = machine.get(result), machine.get(public_call(p, arrays))
    if got.tobytes() != expected.tobytes():
        raise Mismatch(f"{p}: other bits on another stream", problem=str(p), **difference(got, expected))


def check_capture(machine: Any, op: Op) -> None:
    """A warm call with `out` can be captured, and the graph replays it on new values."""
    p = with_op("fprop_n2c8h20w20k8r3s3p1_nchw_f32", op)
    given = operands(p, integers=True)
    arrays = _put(machine, given)
    out = machine.poisoned(p.operand_shapes[2], np.dtype(NUMPY[p.dtype]), 0)
    stream = machine.cupy.cuda.Stream(non_blocking=True)
    machine.cupy.cuda.get_current_stream().synchronize()  # what `put` and `poisoned` enqueued there
    with stream:
        public_call(p, arrays, out=out)
        stream.synchronize()
        stream.begin_capture()
        public_call(p, arrays, out=out)
        graph = stream.end_capture()
        arrays["a"] *= 2
        graph.launch()
        stream.synchronize()
    doubled = {**given, "a": given["a"] * 2}
    verdict = tolerance.judge(p, machine.get(out), **doubled)
    if not verdict.ok:
        raise Mismatch(f"{p} replayed from a graph: {verdict}", problem=str(p), worst=list(verdict.worst))


def check_huge_image(machine: Any) -> None:
    """More than 2³¹ pixels: offsets need 64 bits."""
    free, _ = machine.cupy.cuda.runtime.memGetInfo()
    if free < 12 * 2**30:
        raise Lacking("needs 12 GiB of free device memory")
    x = machine.cupy.zeros((1, 1, 50_000, 50_000), np.float16)
    x[0, 0, 49_000:, 49_000:] = 1
    w = machine.cupy.ones((1, 1, 3, 3), np.float16)
    y = gpuconv.conv2d(x, w, padding=1)
    assert y.shape == x.shape
    assert (y[0, 0, 49_001:-1, 49_001:-1] == 9).all(), "wrong near the last pixel"
    assert not y[0, 0, :48_999].any(), "something where zeros should be"


def run_smallest(machine: Machine, kernel: Any) -> None:
    """Small runs that reach every part of a kernel, for tools under which everything is slow."""
    for text in bodies.POISONED:
        if NUMPY[text.rpartition("_")[2].partition("+")[0]] is None:
            continue
        if kernel.check(ConvProblem.parse(text), machine.device) is not None:
            continue
        case = bodies.default_case(text, kernel, machine)
        finest = {"block_c": 1} if hasattr(case.config, "block_c") else {"block_k": 16}
        for config in (case.config, replace(case.config, splits=1, **finest)):
            run(replace(case, config=config), machine, operands(case.problem))


def _put(machine: Machine, given: dict[str, Any]) -> dict[str, Any]:
    return {key: None if array is None else machine.put(array, 0) for key, array in given.items()}


if __name__ == "__main__":  # what a sanitizer runs
    from gpuconv.kernels.cuda.direct import CudaDirect
    from gpuconv.kernels.cuda.implicit_gemm_simt import CudaImplicitGemmSimt
    from tests.gpu.machine import CupyMachine

    for kernel in (CudaDirect(), CudaImplicitGemmSimt()):
        run_smallest(CupyMachine(), kernel)
    print("done")
