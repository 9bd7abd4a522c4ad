"""Borders other than zeros, beyond the cases: splits, long sums of the border, large offsets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gpuconv.kernels.cuda import border
from gpuconv.kernels.cuda.direct import CudaDirect
from gpuconv.kernels.cuda.params import BorderSumParams
from gpuconv.problem import ConvProblem
from gpuconv.validate import reference, tolerance
from tests import bodies, cases
from tests.emulator.far import Lazily
from tests.emulator.launcher import SCHEDULES, emulated_device
from tests.emulator.machine import EmulatedMachine
from tests.problems import operands

KERNEL = CudaDirect()
TOGETHER = (
    # splits that end in the border's sum, with an epilogue of planes and of pixels
    ("dgrad_n2c5h6w7k6r3s3p2_nchw_f32+reflect+bias+res+relu", {"block_c": 1, "splits": 3}),
    ("dgrad_n2c5h6w7k6r3s3p4_nhwc_bf16+replicate+bias+res+relu", {"block_c": 2, "splits": 2}),
    # as far as a border reaches
    ("fprop_n1c2h5w6k3r3s3p4x5d2_nchw_f32+reflect", {}),
    ("fprop_n1c2h5w6k3r3s3p5x6d2_nhwc_f32+circular", {}),
    ("dgrad_n1c2h5w6k3r3s3p4x5d2_nchw_f16+reflect", {}),
    ("dgrad_n1c2h5w6k3r3s3p5x6d2_nchw_f64+circular", {}),
    ("wgrad_n3c2h5w6k3r3s3p4x5d2_nhwc_f32+reflect", {}),
    # one side only, one cell only
    ("dgrad_n1c2h5w6k3r2s2p0+3x2+0_nchw_f32+reflect", {}),
    ("dgrad_n1c2h1w6k3r3s2p4+5x0+1_nchw_f32+replicate", {}),
    ("fprop_n1c2h1w9k3r3s9p4+5x0+8_nchw_f32+replicate", {}),
    ("dgrad_n1c2h1w1k3r2s2p1_nhwc_f32+circular", {}),
    # vectors along a row that has both ends in a tile, and asynchronous copies
    ("fprop_n1c3h12w40k3r3s3p1_nchw_f32+reflect", {"stages": 3, "block_c": 1}),
    ("fprop_n1c3h12w40k3r1s17p0x8_nchw_f16+circular", {"taps_s": 8}),
    ("wgrad_n2c3h9w16k4r3s3p1_nchw_f32+circular", {"stages": 2, "splits": 2}),
    # rows longer than a block of the border's sum
    ("dgrad_n1c3h3w700k2r3s3p1_nchw_f32+reflect+bias", {}),
    ("dgrad_n2c130h3w5k2r3s3p1_nhwc_f32+circular+bias", {}),
)  # fmt: skip


@pytest.fixture(scope="module")
def machines(has_compiler):
    return [EmulatedMachine(schedule) for schedule in SCHEDULES]


@pytest.mark.parametrize(("text", "more"), TOGETHER)
def test_together(machines, text, more):
    case = bodies.default_case(text, KERNEL, machines[0], **more)
    assert KERNEL.check_config(case.problem, case.config, machines[0].device) is None
    cases.check(case, machines)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_a_border_of_thousands_of_cells_stays_within_the_bound(machines, dtype):
    """The corner takes the gradients of 61 · 61 cells: a running sum of them would lose the small ones."""
    p = ConvProblem.parse(f"dgrad_n1c1h3w4k1r1s1p60_nchw_{dtype}+replicate")
    given = operands(p)
    given["a"][...] = 0.499 * (2.0**-23 if dtype == "f32" else 2.0**-52)
    given["a"][0, 0, 0, 0] = given["a"][0, 0, -1, -1] = given["b"][...] = 1
    result = cases.run(
        cases.Case(p, KERNEL, KERNEL.default_config(p, machines[0].device)), machines[0], given
    )
    # the oracle, too, would lose them: here it adds the small ones first
    small = {**given, "a": np.where(given["a"] == 1, 0, given["a"]), "bias": None, "residual": None}
    large = {**small, "a": np.where(given["a"] == 1, 1.0, 0)}
    ref = reference.evaluate(p, **large) + reference.evaluate(p, **small)
    assert (np.abs(result - ref) <= tolerance.bound(p, ref, ref)).all()


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_infinity_stays_infinity(machines, mode):
    p = ConvProblem.parse(f"dgrad_n1c1h4w5k1r3s3p2_nchw_f32+{mode}")
    given = operands(p)
    given["a"] = np.abs(given["a"])
    given["b"] = np.abs(given["b"]) + 1
    given["a"][0, 0, 0, 0] = np.inf
    machine = machines[0]
    result = cases.run(cases.Case(p, KERNEL, KERNEL.default_config(p, machine.device)), machine, given)
    expected = reference.evaluate(p, **given)
    assert np.isposinf(expected).any()
    np.testing.assert_array_equal(np.isposinf(result), np.isposinf(expected))
    assert not np.isnan(result).any()


@pytest.mark.parametrize(
    ("stride", "far"), [("split_elements", 2**31 + 8), ("image", 2**31 + 8), ("row", 2**29 + 8)]
)
def test_offsets_have_64_bits(machines, stride, far):
    """One stride of the padded gradient is made so large that 31 bits lose its last cell."""
    p = ConvProblem.parse("dgrad_n2c1h3w4k1r3s3p1_nchw_f32+circular")
    machine = machines[0]
    padded = np.random.default_rng(0).integers(-9, 9, (2, 2, 5, 6)).astype(np.float32)
    spec = border.border_sum(p, 2, machine.device)
    params = BorderSumParams.from_buffer_copy(spec.params)
    strides = {"split_elements": 60, "image": 30, "row": 6, stride: far}
    setattr(params, stride, far)
    spec = replace(spec, params=params.pack())
    last = sum(step * (size - 1) for step, size in zip(strides.values(), padded.shape[:3], strict=True))
    wide = np.zeros(last + 6, np.float32)
    view = np.lib.stride_tricks.as_strided(wide, padded.shape, [4 * step for step in (*strides.values(), 1)])
    view[...] = padded
    out = machine.poisoned(p.x_shape, np.dtype(np.float32), 0)
    (launch,) = machine.emulator.load((spec,), machine.device)
    workspace = machine.emulator.adopt(Lazily(wide))
    launch(spec.pack({"workspace": workspace.pointer, "out": out.pointer, "bias": 0, "residual": 0}))
    total = padded.sum(axis=0)
    total[:, [3, 1]] += total[:, [0, 4]]
    total[:, :, [4, 1]] += total[:, :, [0, 5]]
    np.testing.assert_array_equal(out.get()[:, 0], total[:, 1:4, 1:5])


def test_what_is_too_large_is_refused():
    device = emulated_device()
    p = ConvProblem.parse("dgrad_n1c4h4w536870912k4r1s3p0x1_nhwc_f16+reflect")
    reject = KERNEL.check(p, device)
    assert "rows of fewer than 2**31 elements" in reject.reason
    p = ConvProblem.parse("dgrad_n1c300000000h10w1k1r3s1p1x0_nchw_f16+circular")
    assert "blocks" in KERNEL.check(p, device).reason
    assert KERNEL.check(replace(p, op="fprop"), device) is None
