"""CPU kernels untuned: as many tasks as pay, the same on any number of threads, no patch gathered twice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gpuconv.backend.device import Device
from gpuconv.kernels.base import HOPELESS
from gpuconv.kernels.cpu import patches
from gpuconv.kernels.cpu.depthwise import CpuDepthwiseBanded
from gpuconv.kernels.cpu.fft_convolution import CpuFft
from gpuconv.kernels.cpu.im2col_gemm import CpuIm2colGemm, Im2colConfig
from gpuconv.problem import ConvProblem
from gpuconv.report import shapes
from tests.problems import operands

KERNEL = CpuIm2colGemm()
LAYERS = [
    layer.problem(op, batch=1) for op in ("fprop", "dgrad", "wgrad") for layer in shapes.read_all()[::11]
]


def machine(cores, threads=2):
    return Device("cpu", "made up", threads=threads, cores=cores)


def default(text, cores):
    return KERNEL.default_config(ConvProblem.parse(text), machine(cores))


@pytest.mark.parametrize("cores", [1, 2, 4, 64])
def test_threads_decide_nothing(cores):
    for p in LAYERS:
        one, many = (KERNEL.default_config(p, machine(cores, threads)) for threads in (1, 64))
        assert one == many
        assert KERNEL.check_config(p, one, machine(cores)) is None


@pytest.mark.parametrize(
    ("text", "cores", "config"),
    [
        ("fprop_n1c64h56w56k64r3s3p1_nchw_f32", 2, Im2colConfig(4096)),  # two blocks
        ("fprop_n1c64h56w56k64r3s3p1_nchw_f32", 4, Im2colConfig(2048)),  # four
        ("fprop_n1c512h7w7k512r3s3p1_nchw_f32", 2, Im2colConfig(4096, 2)),  # few pixels: parts
        ("fprop_n1c512h7w7k512r3s3p1_nchw_f32", 4, Im2colConfig(4096, 4)),
        ("fprop_n1c832h7w7k128r5s5p2_nchw_f32", 2, Im2colConfig(4096, 2)),  # blocks would be too narrow
        ("fprop_n1c480h14w14k112r1s1_nhwc_f32", 4, Im2colConfig(4096)),  # too little work
        ("wgrad_n1c64h56w56k64r3s3p1_nchw_f32", 2, Im2colConfig(4096, 1, 2)),  # many pixels: lanes
        ("wgrad_n1c512h7w7k512r3s3p1_nchw_f32", 2, Im2colConfig(4096, 2)),  # large weights: parts
    ],
)
def test_defaults(text, cores, config):
    p = ConvProblem.parse(text)
    found = KERNEL.default_config(p, machine(cores))
    assert KERNEL.identity(p, found, machine(cores)) == KERNEL.identity(p, config, machine(cores)), found


def test_configs_that_come_to_the_same():
    p = ConvProblem.parse("wgrad_n1c8h9w9k8r3s3p1_nchw_f32")
    here = machine(2)
    one, same, other = Im2colConfig(1024), Im2colConfig(16384, 1, 8), Im2colConfig(1024, 2)
    assert KERNEL.identity(p, one, here) == KERNEL.identity(p, same, here)
    assert KERNEL.identity(p, one, here) != KERNEL.identity(p, other, here)
    p = replace(p, op="fprop")
    assert KERNEL.identity(p, one, here) == KERNEL.identity(p, Im2colConfig(4096), here)
    assert KERNEL.identity(p, one, here) != KERNEL.identity(p, other, here)


@pytest.mark.parametrize("op", ["fprop", "dgrad"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_patches_are_gathered_once_for_all_parts(op, layout, monkeypatch):
    gathered = []
    real = patches.patches

    def counted(one, block, *rest):
        gathered.append((block.images, block.rows, block.columns))
        return real(one, block, *rest)

    monkeypatch.setattr(patches, "patches", counted)
    p = ConvProblem.parse(f"{op}_n2c16h12w12k16r3s3p1_{layout}_f32")
    given = operands(p, integers=True)
    results = []
    for splits in (1, 4):
        gathered.clear()
        out = np.full(p.operand_shapes[2], np.nan, np.float32)
        plan = KERNEL.bind(p, Im2colConfig(16, splits), machine(2, threads=1))
        plan(given["a"], given["b"], out)
        assert len(gathered) == len(set(gathered)) > 2
        results.append(out)
    np.testing.assert_array_equal(*results)


def test_the_rank_tells_what_is_worth_a_try():
    fft, here = CpuFft(), machine(2)
    for text, rank in (
        ("fprop_n1c2h256w256k2r31s31p15_nchw_f32", 3),
        ("fprop_n1c64h14w14k64r3s3p1_nchw_f32", HOPELESS),
        ("fprop_n1c64h14w14k64r31s31p15_nchw_f32", HOPELESS),
    ):
        assert fft.preference(ConvProblem.parse(text), here) == rank, text
    shares = {fft.preference(p, here) for p in LAYERS if fft.check(p, here) is None}
    assert shares <= {3, -1, HOPELESS}


def test_short_rows_are_not_laid_out():
    kernel, here = CpuDepthwiseBanded(), machine(2)
    for text, rank in (
        ("fprop_n1c192h28w28k192r3s3p1g192_nchw_f32", -1),
        ("dgrad_n1c144h56w56k144r5s5u2p2g144_nchw_f32", -1),
        ("fprop_n1c192h56w56k192r3s3p1g192_nchw_f32", 1),
        ("fprop_n1c192h28w28k192r5s5p2g192_nchw_f32", 1),
        ("fprop_n1c1h28w28k1r3s3p1_nchw_f32", 1),
    ):
        assert kernel.preference(ConvProblem.parse(text), here) == rank, text
