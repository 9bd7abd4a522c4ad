"""Random problems under random legal configs, schedules and offsets: what nobody thought to list."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuconv.kernels.cuda.direct import CudaDirect
from gpuconv.kernels.cuda.direct_tiles import DirectConfig
from gpuconv.problem import OPS
from tests import cases
from tests.conftest import FULL
from tests.emulator.launcher import SCHEDULES
from tests.emulator.machine import EmulatedMachine
from tests.strategies import problems

KERNEL = CudaDirect()
EXAMPLES = 2_000 if FULL else 40
#: What a field may be set to, beside the default's value; most combinations are legal.
VALUES = {
    **dict.fromkeys(("block_p", "block_q", "block_k"), (1, 2, 3, 4, 8, 16, 32)),
    **dict.fromkeys(("block_n", "block_g", "block_c"), (1, 2, 3, 4, 8)),
    **dict.fromkeys(("thread_p", "thread_q", "thread_k", "taps_r", "taps_s"), (1, 2, 3, 4, 8)),
    "k_first": (0, 1),
    "stages": (1, 2, 3, 4),
    "splits": (1, 2, 3, 5),
}


@st.composite
def configs(draw, p, device):
    """The default, with some fields drawn anew where that leaves it legal."""
    config = KERNEL.default_config(p, device)
    for name in draw(st.permutations([field.name for field in fields(DirectConfig)])):
        changed = replace(config, **{name: draw(st.sampled_from(VALUES[name]))})
        if draw(st.booleans()) and KERNEL.check_config(p, changed, device) is None:
            config = changed
    return config


@pytest.mark.parametrize("op", OPS)
def test_random_problems_under_random_configs(has_compiler, op):
    machines = [EmulatedMachine(schedule) for schedule in SCHEDULES]
    device = machines[0].device

    @settings(max_examples=EXAMPLES)
    @given(problems((op,)), st.data(), st.integers(0, 7))
    def run(p, data, offset):
        # one-dimensional images are rare otherwise, and rows are neighbours in them
        if data.draw(st.integers(0, 3)) == 0 and p.S == 1:
            p = replace(p, W=1, padding=(p.padding[0], (0, 0)))
        if KERNEL.check(p, device) is None:
            case = cases.Case(p, KERNEL, data.draw(configs(p, device)), offset)
            cases.check(case, data.draw(st.permutations(machines))[:2])

    run()
