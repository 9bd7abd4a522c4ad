"""Random problems under random legal configs, schedules and offsets: what nobody thought to list."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuconv.kernels.cuda.direct import CudaDirect
from gpuconv.kernels.cuda.implicit_gemm_simt import CudaImplicitGemmSimt
from gpuconv.kernels.cuda.implicit_gemm_sm80 import CudaImplicitGemmSm80
from gpuconv.problem import OPS
from tests import cases
from tests.conftest import FULL
from tests.emulator.launcher import SCHEDULES
from tests.emulator.machine import EmulatedMachine
from tests.strategies import problems

EXAMPLES = 2_000 if FULL else 40
#: What a field may be set to, beside the default's value; most combinations are legal.
DIRECT = {
    **dict.fromkeys(("block_p", "block_q", "block_k"), (1, 2, 3, 4, 8, 16, 32)),
    **dict.fromkeys(("block_n", "block_g", "block_c"), (1, 2, 3, 4, 8)),
    **dict.fromkeys(("thread_p", "thread_q", "thread_k", "taps_r", "taps_s"), (1, 2, 3, 4, 8)),
    "k_first": (0, 1),
    "stages": (1, 2, 3, 4),
    "splits": (1, 2, 3, 5),
}
GEMM = {
    **dict.fromkeys(("block_m", "block_n", "warp_m", "warp_n"), (8, 16, 32, 64, 128)),
    **dict.fromkeys(("thread_m", "thread_n"), (1, 2, 4, 8)),
    "block_k": (4, 8, 16, 32, 64),
    "splits": (1, 2, 3, 5),
    "raster": (1, 2, 3, 8),
}
MMA = {
    **dict.fromkeys(("block_m", "block_n", "warp_m", "warp_n"), (16, 32, 64, 128)),
    "block_k": (16, 32, 64),
    "stages": (2, 3, 5),
    "chain": (1, 2),
    "splits": (1, 2, 3, 5),
    "raster": (1, 2, 3, 8),
}
KERNELS = ((CudaDirect(), DIRECT), (CudaImplicitGemmSimt(), GEMM), (CudaImplicitGemmSm80(), MMA))


@st.composite
def configs(draw, kernel, values, p, device):
    """One worth trying, with some fields drawn anew where that leaves it legal."""
    config = draw(st.sampled_from(kernel.configs(p, device)))
    for name in draw(st.permutations([field.name for field in fields(kernel.config_type)])):
        changed = replace(config, **{name: draw(st.sampled_from(values[name]))})
        if draw(st.booleans()) and kernel.check_config(p, changed, device) is None:
            config = changed
    return config


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(("kernel", "values"), KERNELS, ids=[kernel.name for kernel, _ in KERNELS])
def test_random_problems_under_random_configs(has_compiler, kernel, values, op):
    machines = [EmulatedMachine(schedule) for schedule in SCHEDULES]
    device = machines[0].device

    @settings(max_examples=EXAMPLES)
    @given(problems((op,)), st.data(), st.integers(0, 7))
    def run(p, data, offset):
        # one-dimensional images are rare otherwise, and rows are neighbours in them
        if data.draw(st.integers(0, 3)) == 0 and p.S == 1:
            p = replace(p, W=1, padding=(p.padding[0], (0, 0)))
        if values is MMA:
            p = replace(p, dtype={"f32": "f16", "f64": "bf16"}.get(p.dtype, p.dtype))
        if kernel.check(p, device) is None:
            case = cases.Case(p, kernel, data.draw(configs(kernel, values, p, device)), offset)
            cases.check(case, data.draw(st.permutations(machines))[:2])

    run()
