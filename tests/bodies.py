"""More that every CUDA kernel must get right; each body takes a machine of `tests.cases`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from gpuconv.kernels.cuda.base import CudaKernel
from gpuconv.layout import common_view
from gpuconv.problem import ConvProblem
from gpuconv.validate import tolerance

from .cases import Case, Machine, run
from .problems import NUMPY, operands, reach

#: Long sums of every kind: over channels, taps and pixels, with one and with many results.
LONG = (
    "fprop_n1c4096h7w7k3r7s7_nhwc_f32",
    "fprop_n1c4096h7w7k3r7s7_nchw_f16",
    "fprop_n1c25088h1w1k10r1s1_nchw_f32",
    "fprop_n1c300h1w1k1r1s1_nhwc_f64",
    "fprop_n1c2h40w40k2r31s31g2_nchw_f32",
    "fprop_n1c1h1w20003k1r1s20000_nchw_f32",
    "dgrad_n1c1h3w3k20000r3s3p1_nhwc_f32",
    "wgrad_n8c4h60w60k4r3s3p1g4_nhwc_f32",
    "wgrad_n16c1h60w60k1r3s3_nchw_bf16",
)
#: Sums of every length about the limit of a plain running sum, and of several levels.
STUBBORN = (
    *(f"fprop_n1c{depth}h1w4k3r1s1_nchw_f32" for depth in (20, 28, 29, 32, 64, 128, 256, 1000)),
    "fprop_n1c14h3w5k2r3s3_nchw_f32",
    "fprop_n1c1h12w12k1r11s11_nchw_f32",
    "fprop_n1c2h8w9k2r7s7g2_nhwc_f32",
    "fprop_n1c1h3w40k1r1s32_nchw_f32",
    "fprop_n1c64h3w4k5r3s3_nhwc_f64",
    "fprop_n1c14h3w5k2r3s3p2_nchw_f32+circular",
    "dgrad_n1c3h4w5k40r3s3p3_nchw_f32+reflect",
    "wgrad_n2c2h9w10k3r3s3p20_nchw_f32+replicate",
    "fprop_n1c1h34w40k1r31s31_nchw_f32",
    "dgrad_n1c3h4w5k40r3s3p1_nchw_f32",
    "wgrad_n2c2h9w10k3r3s3_nchw_f32",
    "wgrad_n1c1h40w41k1r2s2_nhwc_f32",
)
#: Geometries whose padding, tails or classes could let a NaN escape.
POISONED = (
    "fprop_n2c5h7w9k6r3s3p1_nchw_f32",
    "fprop_n2c8h7w9k9r3s3u2p1_nhwc_f16",
    "fprop_n1c5h17w16k5r3s3u2p2d3x2g5_nhwc_f32",
    "fprop_n1c1h20w19k1r17s17p8_nchw_f32",
    "dgrad_n1c3h13w13k4r3s3u2p1_nchw_f32",
    "dgrad_n2c4h9w10k6r5s2u3x1p2x1_nhwc_f64",
    "dgrad_n1c4h19w19k4r4s4u4p3d6_nchw_bf16",
    "dgrad_n1c6h9w9k6r3s3u2p1g6_nhwc_f32",
    "wgrad_n2c3h11w14k4r3s3u2p1_nchw_f32",
    "wgrad_n3c6h9w10k6r3s3p0+1x1+0g6_nhwc_f32",
    "wgrad_n1c2h19w35k3r2s3u1x2_nhwc_f16",
    "fprop_n2c3h7w9k4r5s5p3_nchw_f32+reflect",
    "dgrad_n2c4h9w10k6r5s2u3x1p2x1_nhwc_f16+circular",
    "dgrad_n1c3h5w6k4r3s3p4_nchw_f32+replicate",
    "wgrad_n2c4h7w6k4r3s3u2p2g2_nchw_f64+reflect",
)


def default_case(text: str, kernel: CudaKernel[Any], machine: Machine, **more: Any) -> Case:
    """A problem under its default config, or one that differs from it in some fields."""
    p = ConvProblem.parse(text)
    return Case(p, kernel, replace(kernel.default_config(p, machine.device), **more))


def check_poison(case: Case, machine: Machine) -> None:
    """One NaN or infinity in an operand is felt inside its receptive field and nowhere else."""
    p = case.problem
    given = operands(p, 1)
    rng = np.random.default_rng(2)
    clean = run(case, machine, given).astype(np.float64)
    for poison, operand in ((np.nan, "a"), (np.inf, "a"), (np.nan, "b"), (-np.inf, "b")):
        array = given[operand].copy()
        at = tuple(rng.integers(0, size) for size in array.shape)
        array[at] = poison
        reached, may = reach(p, given, operand, at)
        got = run(case, machine, {**given, operand: array}).astype(np.float64)
        assert not np.isfinite(got[reached]).any(), f"{case}: {poison} in {operand}{at} is lost"
        assert (got[~may] == clean[~may]).all(), f"{case}: {poison} in {operand}{at} leaks"


def check_long_sum(case: Case, machine: Machine) -> None:
    """Rounding errors that all point one way do not cancel as those of random signs do."""
    p = case.problem
    a, b, _ = p.operand_shapes
    for first, second in ((0.1, 0.1), (1 / 3, 0.7)):
        if p.dtype == "f16":  # keeps the sum below the largest number
            second /= 2048
        given = {
            "a": np.full(a, first).astype(NUMPY[p.dtype]),
            "b": np.full(b, second).astype(NUMPY[p.dtype]),
        }
        verdict = tolerance.judge(p, run(case, machine, {**given, "bias": None, "residual": None}), **given)
        assert verdict.ok, f"{case}: {verdict}"


def check_stubborn_sum(case: Case, machine: Machine) -> None:
    """The worst data for a running sum: after a first large product, every one is just rounded away."""
    p = case.problem
    small = 0.499 * (2.0**-23 if p.dtype == "f32" else 2.0**-52)
    given = {"a": np.ones(p.operand_shapes[0], NUMPY[p.dtype])}
    b = np.full(p.operand_shapes[1], small, NUMPY[p.dtype])
    # the first product of every sum in the order of memory
    common = common_view(b, p.layout if p.op == "wgrad" else p.weights)
    if p.op == "wgrad":
        common[0, :, 0, 0] = 1
    elif p.op == "dgrad":
        common[:: p.K // p.groups, :, -1, -1] = 1
    else:
        common[:, 0, 0, 0] = 1
    given["b"] = b
    verdict = tolerance.judge(p, run(case, machine, {**given, "bias": None, "residual": None}), **given)
    assert verdict.ok, f"{case}: {verdict}"


def check_epilogue(kernel: CudaKernel[Any], machine: Machine) -> None:
    """Sum, bias and residual are rounded once, together; then ReLU, which keeps NaN."""
    case = default_case("fprop_n1c1h1w3k1r1s3_nchw_f16+bias+res", kernel, machine)
    half = np.float16
    given = {"a": np.array([[[[2048, 1, 0]]]], half), "b": np.ones((1, 1, 1, 3), half)}
    rest = {"bias": np.array([-2], half), "residual": np.ones((1, 1, 1, 1), half)}
    assert run(case, machine, {**given, **rest}).item() == 2048  # 2049 and 2047 are no float16
    for text, splits in (
        ("fprop_n1c2h4w4k2r3s3_nchw_f32+bias+res+relu", 1),
        ("fprop_n1c8h4w4k2r3s3_nchw_f32+bias+res+relu", 2),
    ):
        if kernel.check(ConvProblem.parse(text), machine.device) is not None:
            text = text.replace("f32", "f16")  # of those that take no other
        case = default_case(text, kernel, machine)
        finest = {"block_c": 1} if hasattr(case.config, "block_c") else {}
        case = replace(case, config=replace(case.config, splits=splits, **finest))
        given = operands(case.problem, 3, integers=True)
        given["a"][0, 0, 0, 0] = np.nan
        assert np.isnan(run(case, machine, given)[0, :, 0, 0]).all(), case
