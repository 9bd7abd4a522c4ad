"""The bodies that judge kernels on the emulator, on a real GPU."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gpuconv.backend.device import Device
from gpuconv.kernels.cuda.direct import CudaDirect
from gpuconv.kernels.cuda.implicit_gemm_simt import CudaImplicitGemmSimt
from gpuconv.problem import OPS, ConvProblem
from tests import bodies, cases
from tests.gpu import bodies as device_bodies
from tests.problems import DTYPES, NAMED

KERNELS = (CudaDirect(), CudaImplicitGemmSimt())
_CARD = Device("cuda", "a card", capability=(9, 0), sms=132, smem_block=232448)
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("case", cases.listed(), ids=str)
def test_case(machine, case):
    if case.problem.dtype not in DTYPES:
        pytest.skip("ml_dtypes is not installed")
    # the list was made for a device like the emulator's
    if case.kernel.check_config(case.problem, case.config, machine.device) is not None:
        pytest.skip("the config is not legal here")
    # twice: the same bits again
    cases.check(case, [machine, machine])


def _taken(texts):
    """Every kernel with every problem that it takes."""
    pairs = [(kernel, text) for kernel in KERNELS for text in texts]
    return [(kernel, text) for kernel, text in pairs if kernel.check(ConvProblem.parse(text), _CARD) is None]


@pytest.mark.parametrize(("kernel", "text"), _taken(bodies.POISONED))
def test_poison_stays_inside_its_receptive_field(machine, kernel, text):
    bodies.check_poison(bodies.default_case(text, kernel, machine), machine)


@pytest.mark.parametrize(("kernel", "text"), _taken(bodies.LONG))
def test_long_sums_of_one_sign_stay_within_the_bound(machine, kernel, text):
    bodies.check_long_sum(bodies.default_case(text, kernel, machine), machine)


@pytest.mark.parametrize("kernel", KERNELS)
def test_epilogue(machine, kernel):
    bodies.check_epilogue(kernel, machine)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("name", NAMED)
def test_named_problems_through_the_public_functions(machine, name, op):
    device_bodies.check_public(machine, name, op)


def test_a_stream_of_the_callers(machine):
    device_bodies.check_stream(machine)


@pytest.mark.parametrize("op", OPS)
def test_capture_in_a_graph(machine, op):
    device_bodies.check_capture(machine, op)


def test_an_image_of_more_than_two_to_the_31_pixels(machine):
    try:
        device_bodies.check_huge_image(machine)
    except device_bodies.Lacking as lacking:
        pytest.skip(str(lacking))


@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck", "synccheck"])
def test_compute_sanitizer_is_clean(machine, need, tool):
    command = shutil.which("compute-sanitizer")
    if command is None:
        need("compute-sanitizer", "compute-sanitizer is not on the path")
    script = [sys.executable, "-m", "tests.gpu.bodies"]
    done = subprocess.run(
        [command, "--tool", tool, "--error-exitcode", "9", *script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "done" in done.stdout
