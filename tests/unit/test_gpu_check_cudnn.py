"""The code that compares with cuDNN, with PyTorch's CPU functions in the place of cuDNN's."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from bench.check import agreement, benchmarks, cudnn, heuristics
from bench.check.state import State
from bench.check.steps import Skip, Where
from gpuconv import measure
from gpuconv.backend import device
from gpuconv.kernels.cpu.im2col_gemm import CpuIm2colGemm
from gpuconv.problem import ConvProblem
from tests.cases import Mismatch

PROBLEMS = (
    "fprop_n2c8h10w12k16r3s3p1_nhwc_f32",
    "fprop_n2c8h10w12k16r3s2u2x1p1d2g4_nchw-ohwi_f64",
    "dgrad_n2c6h13w14k8r3s3u2p1_nhwc_f32",
    "dgrad_n2c6h13w14k8r3s2u3x2p1g2_nchw_f32",
    "dgrad_n1c5h17w16k5r3s3u2p2d3x2g5_nchw_f32",
    "dgrad_n1c4h20w20k4r1s1u2_nhwc_f64",
    "wgrad_n2c6h13w14k8r3s3u2p1d2_nhwc_f32",
    "wgrad_n2c6h13w14k8r3s3p1g2_nchw-hwio_f32",
)
P = ConvProblem.parse(PROBLEMS[0])


class Fake(Where):
    """No GPU is needed, and none is lost."""

    machine = SimpleNamespace(device=device.cpu())
    gone = None

    def lost(self):
        return self.gone


@pytest.fixture
def where(tmp_path, monkeypatch):
    monkeypatch.setattr(cudnn, "release", lambda where, baseline: None)
    return Fake(State(tmp_path), "abc1234", False)


@pytest.fixture
def baseline(monkeypatch):
    """A `TorchCudnn` whose two calls of cuDNN are PyTorch's own, and whose CuPy is NumPy."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", torch.backends.cudnn.allow_tf32)

    def convolve(a, b, pads, stride, dilation, groups, *switches):
        assert len(switches) == 3
        return torch.nn.functional.conv2d(a, b, None, stride, pads, dilation, groups)

    def transposed(a, b, pads, missed, stride, dilation, groups, *switches):
        assert len(switches) == 3
        return torch.ops.aten.convolution(a, b, None, stride, pads, dilation, True, missed, groups)

    aten = SimpleNamespace(
        cudnn_convolution=convolve,
        cudnn_convolution_transpose=transposed,
        convolution_backward=torch.ops.aten.convolution_backward,
    )

    class Torch:
        ops = SimpleNamespace(aten=aten)

        def __getattr__(self, name):
            return getattr(torch, name)

    made = cudnn.TorchCudnn.__new__(cudnn.TorchCudnn)
    made._torch, made._fastest, made.name, made.role = Torch(), False, "cuDNN", "cudnn"
    made._cupy = np
    monkeypatch.setattr(made, "_chooses_cudnn", lambda *given: True)
    return made


@pytest.mark.parametrize("text", PROBLEMS)
def test_the_same_convolution_is_asked_of_cudnn(baseline, text):
    p = ConvProblem.parse(text)
    given = measure.operands(p)
    bound = baseline.bind(p, given)
    result = np.ascontiguousarray(bound.numpy(bound.call()))
    assert result.shape == p.operand_shapes[2]
    # another order of sums and other rounding, but no other numbers
    assert measure.error_over_bound(p, result, given) < 10


def test_agreement_tells_both_errors(where, baseline):
    found = agreement.compare(P, where, baseline)
    assert 0 < found["cudnn"] < 10
    assert 0 < found["ours"] <= 1
    assert found["apart"] <= found["cudnn"] + found["ours"]
    assert found["kernels"] > 1


def test_a_kernel_that_is_wrong_fails_whatever_cudnn_says(where, monkeypatch):
    right = CpuIm2colGemm.bind

    def bind(self, p, config, device):
        plan = right(self, p, config, device)

        def run(a, b, out, bias, residual):
            plan.run(a, b, out, bias, residual)
            out[1, 2, 3, 4] += 1

        return replace(plan, run=run)

    def none(p, given):
        raise RuntimeError("no engine for this")

    monkeypatch.setattr(CpuIm2colGemm, "bind", bind)
    with pytest.raises(Mismatch, match=r"cpu_im2col_gemm.*at \(1, 2, 3, 4\), cuDNN's None") as failed:
        agreement.compare(P, where, SimpleNamespace(name="cuDNN", role="cudnn", bind=none))
    assert failed.value.details["at"] == [[1, 2, 3, 4]]


@pytest.mark.parametrize("ours", [agreement.compare, heuristics.time_it])
@pytest.mark.parametrize("error", [RuntimeError("no engine for this"), MemoryError("no engine for this")])
def test_what_cudnn_cannot_is_skipped_unless_the_device_is_lost(where, error, ours):
    def bind(p, given):
        raise error

    theirs = SimpleNamespace(name="cuDNN", role="cudnn", bind=bind)
    with pytest.raises(Skip, match=r"cuDNN: .*no engine for this"):
        ours(P, where, theirs)
    where.gone = "an illegal address was met"
    with pytest.raises(cudnn.DeviceLost, match=r"an illegal address.*no engine"):
        ours(P, where, theirs)


def test_a_kernel_that_writes_to_its_operands_fails(where, monkeypatch, baseline):
    right = CpuIm2colGemm.bind

    def bind(self, p, config, device):
        plan = right(self, p, config, device)

        def run(a, b, out, bias, residual):
            plan.run(a, b, out, bias, residual)
            a[0] = 0

        return replace(plan, run=run)

    monkeypatch.setattr(CpuIm2colGemm, "bind", bind)
    with pytest.raises(Mismatch, match=r"cpu_im2col_gemm\(.*\) writes to its operands a"):
        agreement.compare(P, where, baseline)


class Odd(Exception):
    """Neither of the errors that `gpuconv.report` expects of others."""


@pytest.mark.parametrize("late", [False, True])
def test_whatever_a_baseline_raises_costs_that_baseline(where, monkeypatch, late):
    def bind(p, given):
        if late:
            return cudnn.Bound(lambda: bind(p, None) if given is None else fail(), lambda found: found)
        return fail()

    def fail():
        raise Odd("an odd one")

    broken = SimpleNamespace(name="broken", role="library", bind=bind)
    which = [cudnn.Optional(broken, where)]
    where.dry_run = True  # few turns
    found = benchmarks.time_it(P, where, device.cpu(), which, None, "")
    assert found["remarks"] == ["broken: Odd: an odd one"]
    where.gone = "an illegal address was met"
    with pytest.raises(cudnn.DeviceLost):
        benchmarks.time_it(P, where, device.cpu(), which, None, "")


def test_that_there_is_nothing_to_compare_with_is_said(where):
    where.dry_run = True
    nothing = SimpleNamespace(name="nothing", role="library", bind=lambda p, given: None)
    found = benchmarks.time_it(P, where, device.cpu(), [cudnn.Optional(nothing, where)], None, "")
    assert found["remarks"] == ["no baseline computes this"]


@pytest.mark.parametrize(("dtype", "takes"), [("f16", True), ("f32", True), ("f64", True), ("bf16", False)])
def test_cupys_images_have_every_type_that_cupy_has(monkeypatch, dtype, takes):
    ndimage = pytest.importorskip("scipy.ndimage")
    fake = SimpleNamespace(ndimage=ndimage)
    monkeypatch.setitem(__import__("sys").modules, "cupyx", SimpleNamespace(scipy=fake))
    monkeypatch.setitem(__import__("sys").modules, "cupyx.scipy", fake)
    pytest.importorskip("ml_dtypes")
    p = ConvProblem.parse(f"fprop_n1c1h8w8k1r3s3p1_nchw_{dtype}")
    cupy = SimpleNamespace(__version__="14", asarray=np.asarray, empty_like=np.empty_like, asnumpy=np.asarray)
    bound = cudnn.CupyImages(cupy).bind(p, measure.operands(p))
    assert (bound is not None) == takes
