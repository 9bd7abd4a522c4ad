"""Candidates on trial: what is wrong with one shows, whatever it is."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from gpuconv.autotune.heuristic import Candidate
from gpuconv.autotune.trial import ZONE, LiveBench
from gpuconv.backend import device, launch
from gpuconv.errors import CompileError, LaunchError, LaunchRefused
from gpuconv.kernels.cpu.im2col_gemm import CpuIm2colGemm
from gpuconv.kernels.cpu.separable import CpuSeparable
from gpuconv.plan import Plan
from gpuconv.problem import ConvProblem
from tests.problems import bfloat16

from ..stand_in import Level, MadeUp, StandIn

PROBLEMS = [
    "fprop_n2c4h9w10k3r3s3p1_nchw_f32+bias+res+relu",
    "dgrad_n2c4h9w10k3r3s3p1_nhwc_f64",
    "wgrad_n2c4h9w10k3r3s3p1_nhwc-ohwi_f16",
    *(["fprop_n1c8h5w5k8r1s1_nhwc_bf16+bias"] if bfloat16 is not None else []),
]


class Spoiler(CpuIm2colGemm):
    """Right but for one thing that it does at the end."""

    def __init__(self, spoil):
        self.spoil = spoil

    def bind(self, p, cfg, device):
        plan = super().bind(p, cfg, device)

        def run(a, b, out, bias, residual):
            plan.run(a, b, out, bias, residual)
            self.spoil(a, b, out)

        return Plan(p, self.name, cfg, device, plan.workspace_bytes, run)


def beside(array, step):
    """Bytes of memory around an array, which nobody is to touch."""
    address = array.__array_interface__["data"][0] + step
    return np.frombuffer((ctypes.c_ubyte * 1).from_address(address), np.uint8)


def judged(kernel, text):
    p = ConvProblem.parse(text)
    here = device.cpu()
    bench = LiveBench(p, here, 3)
    return bench.judge(Candidate(kernel, kernel.default_config(p, here)))


@pytest.mark.parametrize("text", PROBLEMS)
def test_what_is_right_passes(text):
    wrong, seconds = judged(CpuIm2colGemm(), text)
    assert wrong is None
    assert 0 < seconds < 5


def one_element(a, b, out):
    out.flat[7] += 1


def leave_out(a, b, out):
    out.flat[-1] = np.nan


def before(a, b, out):
    beside(out, -1)[...] = 0


def behind(a, b, out):
    beside(out, out.nbytes + ZONE - 1)[...] = 0


def before_input(a, b, out):
    beside(a, -ZONE)[...] = 0


def change(a, b, out):
    b.flat[0] = 3


@pytest.mark.parametrize("text", PROBLEMS)
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (one_element, "of the error bound at ("),
        (leave_out, "inf of the error bound"),
        (before, "it writes before out"),
        (behind, "it writes behind out"),
        (before_input, "it writes before a"),
        (change, "it changes b"),
    ],
)
def test_what_is_wrong_shows(text, spoil, says):
    wrong, _ = judged(Spoiler(spoil), text)
    assert wrong is not None
    assert wrong.startswith("wrong: ")
    assert says in wrong


def test_what_is_not_written_is_no_result():
    class Lazy(CpuIm2colGemm):
        def bind(self, p, cfg, device):
            return Plan(p, self.name, cfg, device, 0, lambda a, b, out, bias, residual: None)

    assert judged(Lazy(), PROBLEMS[0])[0].startswith("wrong: inf")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (CompileError("line 3: no\nmore"), "refused: line 3: no"),
        (LaunchRefused("too large"), "refused: too large"),
        (MemoryError(), "refused: MemoryError"),
        (ZeroDivisionError("by nothing"), "failed: by nothing"),
    ],
)
def test_what_raises_is_passed_over(error, says):
    def spoil(a, b, out):
        raise error

    assert judged(Spoiler(spoil), PROBLEMS[0]) == (says, 0.0)


def test_of_what_is_too_large_to_compare_whole_all_must_be_there():
    p, here = ConvProblem.parse("wgrad_n8c48h112w112k48r3s3p1_nchw_f32"), device.cpu()
    bench = LiveBench(p, here, 3)
    right = CpuIm2colGemm()
    assert bench.judge(Candidate(right, right.default_config(p, here)))[0] is None
    points = {tuple(point) for point in bench._expected.points.T}
    assert len(points) < 1500
    there = next(index for index in np.ndindex(p.operand_shapes[2]) if index not in points)

    def spoil(a, b, out):
        out[there] = np.nan

    failure, _ = bench.judge(Candidate(Spoiler(spoil), right.default_config(p, here)))
    assert failure == "wrong: it leaves out what was not sampled"


def test_a_lost_device_ends_everything():
    def spoil(a, b, out):
        raise LaunchError("gone")

    with pytest.raises(LaunchError, match=r"cpu_im2col_gemm\(.*\): gone"):
        judged(Spoiler(spoil), PROBLEMS[0])


def test_filters_are_what_the_kernel_is_made_for():
    p = ConvProblem.parse("fprop_n1c2h80w90k2r5s7p2g2_nhwc_f32")
    here = device.cpu()
    bench = LiveBench(p, here, 3)
    candidate = Candidate(CpuSeparable(), CpuSeparable().default_config(p, here))
    assert bench.judge(candidate)[0] is None
    taps = bench._memory.arrays[1]  # H W I O
    assert all(np.linalg.matrix_rank(taps[:, :, 0, k].astype(float)) == 1 for k in range(2))
    assert len(np.unique(taps)) > 2


@pytest.mark.parametrize("text", PROBLEMS)
def test_a_device_is_judged_alike(text, monkeypatch):
    monkeypatch.setattr("gpuconv.measure.clock_for", lambda device: _Clock())
    p = ConvProblem.parse(text)
    with launch.using(card := StandIn()):
        right = LiveBench(p, card.device(0), 3)
        assert right.judge(Candidate(MadeUp("only"), Level()))[0] is None
        # the launch before the right one writes all of the result: no harm
        assert right.judge(Candidate(MadeUp("other", scribbles=True), Level()))[0] is None
        card.refusals["launch", "only2"] = LaunchRefused("no")
        assert right.judge(Candidate(MadeUp("only"), Level()))[0] == "refused: no"
        compute, card.compute = card.compute, lambda p, addresses: None
        assert right.judge(Candidate(MadeUp("idle"), Level()))[0].startswith("wrong: inf")

        def outside(p, addresses):
            compute(p, addresses)
            size = np.prod(p.operand_shapes[2]) * np.dtype(right._memory._dtype).itemsize
            card.view(addresses["out"] + int(size), (1, 1, 1, 1), p)[...] = 1

        card.compute = outside
        assert right.judge(Candidate(MadeUp("wide"), Level()))[0] == "wrong: it writes behind out"


class _Clock:
    def turn(self, call, calls):
        for _ in range(calls):
            call()
        return [0.001]

    def figure(self, seconds):
        return min(seconds)
