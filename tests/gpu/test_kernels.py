"""The bodies that judge kernels on the emulator, on a real GPU."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest

from gpuconv.kernels.cuda.direct import CudaDirect
from gpuconv.problem import OPS
from gpuconv.validate import tolerance
from tests import bodies, cases
from tests.emulator.launcher import emulated_device
from tests.problems import NAMED, NUMPY, operands, public_call, with_op

KERNEL = CudaDirect()
#: Chosen for a device of this kind, so that the cases have names before a device is asked.
ALL = cases.cases((KERNEL,), emulated_device())


@pytest.mark.parametrize("case", ALL, ids=str)
def test_case(machine, case):
    if case.kernel.check_config(case.problem, case.config, machine.device) is not None:
        pytest.skip("the config is not legal here")
    # twice: the same bits again
    cases.check(case, [machine, machine])


@pytest.mark.parametrize("text", bodies.POISONED)
def test_poison_stays_inside_its_receptive_field(machine, text):
    bodies.check_poison(bodies.default_case(text, KERNEL, machine), machine)


@pytest.mark.parametrize("text", bodies.LONG)
def test_long_sums_of_one_sign_stay_within_the_bound(machine, text):
    bodies.check_long_sum(bodies.default_case(text, KERNEL, machine), machine)


def test_epilogue(machine):
    bodies.check_epilogue(KERNEL, machine)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("name", NAMED)
def test_named_problems_through_the_public_functions(machine, name, op):
    p = with_op(NAMED[name], op)
    given = operands(p)
    arrays = {key: None if array is None else machine.put(array, 0) for key, array in given.items()}
    verdict = tolerance.judge(p, machine.get(public_call(p, arrays)), **given)
    assert verdict.ok, f"{p}: {verdict}"


def test_a_stream_of_the_callers(machine):
    """Work goes to the current stream: it waits for what was enqueued there before, and for nothing else."""
    p = with_op(NAMED["plain 3x3"], "fprop")
    given = operands(p, integers=True)
    cupy = machine.cupy
    with cupy.cuda.Stream(non_blocking=True) as stream:
        arrays = {key: None if array is None else machine.put(array, 0) for key, array in given.items()}
        result = public_call(p, arrays)
        stream.synchronize()
    np.testing.assert_array_equal(machine.get(result), machine.get(public_call(p, arrays)))


@pytest.mark.parametrize("op", OPS)
def test_capture_in_a_graph(machine, op):
    """A warm call with `out` can be captured, and the graph replays it on new values."""
    p = with_op("fprop_n2c8h20w20k8r3s3p1_nchw_f32", op)
    given = operands(p, integers=True)
    arrays = {key: None if array is None else machine.put(array, 0) for key, array in given.items()}
    out = machine.poisoned(p.operand_shapes[2], np.dtype(NUMPY[p.dtype]), 0)
    stream = machine.cupy.cuda.Stream(non_blocking=True)
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
    assert verdict.ok, str(verdict)


def test_an_image_of_more_than_two_to_the_31_pixels(machine):
    free, _ = machine.cupy.cuda.runtime.memGetInfo()
    if free < 12 * 2**30:
        pytest.skip("needs 12 GiB of free device memory")
    import gpuconv

    x = machine.cupy.zeros((1, 1, 50_000, 50_000), np.float16)
    x[0, 0, 49_000:, 49_000:] = 1
    w = machine.cupy.ones((1, 1, 3, 3), np.float16)
    y = gpuconv.conv2d(x, w, padding=1)
    assert y.shape == x.shape
    assert (y[0, 0, 49_001:-1, 49_001:-1] == 9).all()
    assert not y[0, 0, :48_999].any()


SMALLEST = """
from tests import bodies
from tests.cases import run
from tests.gpu.machine import CupyMachine
from tests.problems import operands
from gpuconv.kernels.cuda.direct import CudaDirect

machine, kernel = CupyMachine(), CudaDirect()
for text in bodies.POISONED:
    for more in ({}, {"splits": 1, "block_c": 1}):
        case = bodies.default_case(text, kernel, machine, **more)
        run(case, machine, operands(case.problem))
print("done")
"""


@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck", "synccheck"])
def test_compute_sanitizer_is_clean(machine, need, tool):
    command = shutil.which("compute-sanitizer")
    if command is None:
        need("compute-sanitizer", "compute-sanitizer is not on the path")
    done = subprocess.run(
        [command, "--tool", tool, "--error-exitcode", "9", sys.executable, "-c", SMALLEST],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "done" in done.stdout
