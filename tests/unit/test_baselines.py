"""What gpuconv is compared with: other libraries, and itself over parts of a huge batch."""

from __future__ import annotations

import importlib.util
import sys
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from gpuconv import measure
from gpuconv.backend.device import Device, cpu
from gpuconv.measure import Operands
from gpuconv.problem import OPS, ConvProblem
from gpuconv.report import baselines, huge
from gpuconv.report.baselines import agree

from ..problems import NAMED

PLAIN = ConvProblem.parse("fprop_n2c4h6w5k3r3s3p1_nchw_f32")


def test_nearly_the_same_agrees():
    a = np.arange(6.0).reshape(1, 2, 3)
    assert agree(a + 0.2, a)
    assert not agree(a + 0.3, a)
    assert not agree(a.reshape(1, 3, 2), a)
    assert not agree(a * np.nan, a)


FEW_KINDS = (
    "n2c6h7w5k4r3s2u2p1g2_nhwc_f32", "n1c4h6w6k4r3s3p1g4_nchw_f64", "n2c3h9w8k4r3s3p2d2_nchw-hwio_f32",
    "n2c8h6w6k4r3s3p1_nhwc-ohwi_bf16",
)  # fmt: skip


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("text", FEW_KINDS)
def test_torch_computes_the_same(need, op, text):
    if importlib.util.find_spec("torch") is None:
        need("torch", "PyTorch is not installed")
    p = ConvProblem.parse(f"{op}_{text}")
    (side,) = baselines.load("torch", Device("cpu", "made up"))
    given = measure.operands(p)
    bound = side.bind(p, given)
    got = bound.numpy(bound.call())
    assert agree(got, measure.reference.evaluate(p, given.a, given.b))
    assert side.bind(replace(p, padding=((0, 1), (1, 1))), given) is None
    assert side.name.startswith("torch ")


class Switches(SimpleNamespace):
    """PyTorch's backends, made up; what they are is asked whenever a convolution runs."""

    def __init__(self):
        cudnn = {"enabled": True, "benchmark": False, "benchmark_limit": 10, "deterministic": True}
        cudnn = SimpleNamespace(**cudnn, allow_tf32=True, version=lambda: 99)
        super().__init__(cudnn=cudnn, cuda=SimpleNamespace(matmul=SimpleNamespace(allow_tf32=False)))

    def state(self):
        facts = {name: value for name, value in vars(self.cudnn).items() if name != "version"}
        return {**facts, "matmul": self.cuda.matmul.allow_tf32}


class Tensor:
    """What a tensor is asked for before it reaches a device."""

    dtype = "made up"

    def permute(self, axes):
        return self

    def contiguous(self, memory_format):
        return self

    def to(self, where):
        assert where == "cuda:1"
        return self


@pytest.fixture
def torch_on_a_card(monkeypatch):
    """PyTorch, made up; its `seen` has the switches of every call, its `chosen` the library that it takes."""
    made = SimpleNamespace(__version__="9.9", backends=Switches(), seen=[], chosen="ConvBackend.Cudnn")

    def convolve(*args):
        made.seen.append(made.backends.state())
        return [args[0]] * 3

    made.nn = SimpleNamespace(functional=SimpleNamespace(conv2d=convolve))
    made.ops = SimpleNamespace(aten=SimpleNamespace(convolution_backward=convolve))
    made._C = SimpleNamespace(_select_conv_backend=lambda *args: made.chosen)
    made.from_numpy, made.empty = lambda array: Tensor(), lambda *args, **how: Tensor()
    made.channels_last = made.contiguous_format = "some order"
    made.inference_mode = nullcontext
    monkeypatch.setitem(sys.modules, "torch", made)
    return made


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(
    ("tail", "tf32"),
    [
        ("f32", False),
        ("f64", False),
        ("f32_tf32", True),
        ("f32_tf32x3", True),
        ("f32_relaxed", True),
        ("f16", True),
    ],
)
def test_exact_float32_is_compared_with_exact_float32(torch_on_a_card, op, tail, tf32):
    before = torch_on_a_card.backends.state()
    sides = baselines.load("torch", Device("cuda", "card", index=1))
    p = ConvProblem.parse(f"{op}_n1c8h5w5k8r3s3p1_nhwc_{tail}")
    bound, none = (side.bind(p, measure.operands(p)) for side in sides)
    assert none is None
    assert torch_on_a_card.backends.state() == before
    bound.call()
    fastest = {"enabled": True, "benchmark": True, "benchmark_limit": 0, "deterministic": False}
    assert torch_on_a_card.seen == [fastest | {"allow_tf32": tf32, "matmul": tf32}]
    assert torch_on_a_card.backends.state() == before


def test_cudnns_times_are_told_as_such(torch_on_a_card):
    sides = baselines.load("torch", Device("cuda", "card", index=1))
    assert [(side.role, side.name) for side in sides] == [
        ("cudnn", "cuDNN 99, fastest, torch 9.9"),
        ("library", "torch 9.9"),
    ]
    assert list(baselines.remarks(sides)) == [
        "cuDNN's plan chosen untried is not timed: PyTorch keeps one plan of a problem in a process"
    ]
    assert list(baselines.remarks(sides[1:])) == []
    # what PyTorch computes by a kernel of its own is not cuDNN's
    torch_on_a_card.chosen = "ConvBackend.CudaDepthwise2d"
    given = measure.operands(PLAIN)
    assert [side.bind(PLAIN, given) is None for side in sides] == [True, False]
    # another version may not tell, and may lack a switch
    del torch_on_a_card._C._select_conv_backend, torch_on_a_card.backends.cudnn.benchmark_limit
    assert [side.bind(PLAIN, given) is None for side in sides] == [False, True]


def test_switches_go_back_after_a_failure(torch_on_a_card):
    before = torch_on_a_card.backends.state()
    with pytest.raises(RuntimeError), baselines.switched(torch_on_a_card.backends, PLAIN):
        raise RuntimeError
    assert torch_on_a_card.backends.state() == before


@pytest.mark.parametrize("most", [2**31, 4 * 6 * 5 * 2 + 1, 4 * 6 * 5 + 1, 4 * 6 * 5])
@pytest.mark.parametrize("op", ["fprop", "dgrad"])
def test_a_batch_split_computes_the_same(op, most):
    p = replace(PLAIN, op=op, N=5)
    given = measure.operands(p)
    bound = baselines.BatchSplit(cpu(), lambda found: found, most).bind(p, given)
    if most == 4 * 6 * 5:  # no image is small enough
        assert bound is None
        return
    assert measure.error_over_bound(p, bound.call(), given) <= 1
    assert baselines.BatchSplit(cpu(), None, most).bind(replace(p, op="wgrad"), given) is None


def test_a_batch_split_adds_what_is_fused():
    p = ConvProblem.parse(NAMED["fused"])
    given = measure.operands(p)
    bound = baselines.BatchSplit(cpu(), None, 9 * 9 * 8 + 1).bind(p, given)
    assert measure.error_over_bound(p, bound.call(), given) <= 1


@pytest.fixture
def cupy(monkeypatch):
    """NumPy in CuPy's place."""
    made = SimpleNamespace(
        random=np.random, empty=np.empty, cuda=SimpleNamespace(Device=lambda index: nullcontext())
    )
    monkeypatch.setattr(huge.detect, "cupy", lambda: made)
    monkeypatch.setattr(huge, "_CHUNK", 100)


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32", "f64"])
def test_huge_operands_are_made_on_the_device(cupy, dtype):
    p = ConvProblem.parse(f"fprop_n3c8h9w9k8r3s3p1_nhwc_{dtype}+bias+res+relu")
    made = huge.operands(p, Device("cuda", "card"))
    expected = measure.operands(p)
    for array, other in zip(made, expected, strict=True):
        assert (array.shape, array.dtype) == (other.shape, other.dtype)
        assert np.count_nonzero(array) == array.size
    assert 0.9 < np.std(made.a.astype(np.float64)) < 1.1
    with pytest.raises(MemoryError, match="only on a GPU"):
        huge.operands(p, cpu())


def test_images_beside_the_end_of_32_bits():
    p = ConvProblem.parse("fprop_n100c1h8w4096k1r1s1_nhwc_f16")  # 2¹⁵ elements each
    assert huge.images(p) == [0, 99]
    p = replace(p, N=2**17)
    borders = {2**17, 2**16, 2**15}
    assert huge.images(p) == sorted({0} | {at + d for at in borders for d in (-1, 0, 1) if at + d < 2**17})


@pytest.mark.parametrize("text", ["r3s5p1x2_nchw_f32", "r3s5p1x2_nhwc_f64", "r4s3_nchw_f32"])
def test_scipy_computes_the_same(text):
    pytest.importorskip("scipy")
    p = ConvProblem.parse(f"fprop_n2c1h9w8k1{text}")
    given = measure.operands(p)
    sides = baselines.load("scipy", Device("cpu", "made up"))
    bounds = [side.bind(p, given) for side in sides]
    assert [bound is not None for bound in bounds] == ["p1x2" in text, True]
    for bound in filter(None, bounds):
        assert agree(bound.numpy(bound.call()), measure.reference.evaluate(p, given.a, given.b))


@pytest.mark.parametrize(
    "text",
    [
        "dgrad_n1c1h9w8k1r3s3p1_nchw_f32",
        "fprop_n1c2h9w8k1r3s3p1_nchw_f32",
        "fprop_n1c1h9w8k1r3s3u2p1_nchw_f32",
        "fprop_n1c1h9w8k1r3s3p2d2_nchw_f32",
        "fprop_n1c1h9w8k1r3s3p2_nchw_f32",
        "fprop_n1c1h9w8k1r4s4p2_nchw_f32",
        "fprop_n1c1h9w8k1r3s3p1_nchw_f16",
        "fprop_n1c1h9w8k1r3s3p1_nchw_f32+relu",
    ],
)
def test_scipy_is_asked_only_what_it_has(text):
    pytest.importorskip("scipy")
    p = ConvProblem.parse(text)
    sides = baselines.load("scipy", Device("cpu", "made up"))
    assert [side.bind(p, Operands(*measure.operands(p))) for side in sides] == [None, None]
    assert baselines.load("scipy", Device("cuda", "card")) == []
