"""A stage of the large tile keeps shared memory busy no longer than tensor cores: every access is counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuconv.backend.cards import CARDS
from gpuconv.kernels.cuda.implicit_gemm_sm80 import CudaImplicitGemmSm80
from gpuconv.kernels.cuda.mma_tiles import MmaConfig
from gpuconv.problem import ConvProblem
from tests.cases import Case, run
from tests.emulator.machine import EmulatedMachine
from tests.problems import operands

KERNEL = CudaImplicitGemmSm80()
#: The tile of large problems; a chain does not touch shared memory, and one of 1 is legal for short sums.
LARGE = MmaConfig(chain=1)
#: Two problems of 128 × 128 results each, the stages by which they differ, and the most wavefronts of one.
STAGES = {
    "fprop, HWIO": ("fprop_n1c{}h16w8k128r3s3p1_nhwc_f16", 64, 128, 18, 384),
    "fprop, OHWI": ("fprop_n1c{}h16w8k128r3s3p1_nhwc-ohwi_f16", 64, 128, 18, 384),
    "fprop 1x1": ("fprop_n1c{}h16w8k128r1s1_nhwc-ohwi_f16", 64, 128, 2, 384),
    "dgrad, HWIO": ("dgrad_n1c128h16w8k{}r3s3p1_nhwc_f16", 64, 128, 18, 384),
    "dgrad, OHWI": ("dgrad_n1c128h16w8k{}r3s3p1_nhwc-ohwi_f16", 64, 128, 18, 384),
    "wgrad": ("wgrad_n1c128h{}w32k128r1s1_nhwc_f16", 16, 32, 16, 384),
    "wgrad, OHWI": ("wgrad_n1c128h{}w32k128r1s1_nhwc-ohwi_f16", 16, 32, 16, 384),
}


def tensor_cycles(card):
    """Of one stage."""
    return LARGE.block_m * LARGE.block_n * LARGE.block_k / CARDS[card].tensor_lanes


def wavefronts(text):
    machine = EmulatedMachine(count=True)
    p = ConvProblem.parse(text)
    assert KERNEL.check_config(p, LARGE, machine.device) is None
    run(Case(p, KERNEL, LARGE), machine, operands(p))
    counts = machine.emulator.counters
    return sum(counts.total(kind).wavefronts for kind in ("shared load", "shared store"))


@pytest.mark.parametrize("name", STAGES)
def test_a_stage(has_compiler, name):
    text, less, more, stages, most = STAGES[name]
    each = (wavefronts(text.format(more)) - wavefronts(text.format(less))) / stages
    assert each <= most <= min(tensor_cycles("A100"), tensor_cycles("H200"))


class Each(EmulatedMachine):
    """Keeps the counts of every launch."""

    def __init__(self):
        super().__init__(count=True)
        self.launches = []
        run_one = self.emulator._run

        def counted(*arguments):
            run_one(*arguments)
            self.launches.append(self.emulator.counters)

        self.emulator._run = counted


@pytest.mark.parametrize("splits", [2, 4])
def test_a_part_of_a_sum_reads_no_other(has_compiler, splits):
    """In parts shorter than the ring, what lies behind their end is zeros, not the next part's cells."""
    p = ConvProblem.parse("fprop_n1c64h16w8k128r1s1_nhwc-ohwi_f16")
    read = []
    for parts in (1, splits):
        machine = Each()
        config = replace(LARGE, block_k=16, splits=parts)
        assert KERNEL.check_config(p, config, machine.device) is None
        run(Case(p, KERNEL, config), machine, operands(p))
        read.append(machine.launches[0].total("global load").bytes)
    assert read[0] == read[1] > 0
