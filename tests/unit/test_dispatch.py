"""One problem, one plan; variables that force another; reasons when there is none."""

from __future__ import annotations

import pickle
import tracemalloc

import numpy as np
import pytest

import gpuconv
from gpuconv import calls, dispatch, settings
from gpuconv.backend.device import Device, cpu
from gpuconv.kernels import registry
from gpuconv.kernels.cpu.im2col_gemm import CpuIm2colGemm, CpuPointwise
from gpuconv.problem import OPS, ConvProblem

from ..problems import NAMED, operands, public_call, with_op

MADE_UP = Device("cpu", "a made-up processor", threads=3)


@pytest.mark.parametrize(
    ("text", "kernel"),
    [
        ("fprop_n1c8h9w9k8r3s3p1_nchw_f32", "cpu_im2col_gemm"),
        ("wgrad_n1c8h9w9k8r3s3p1g8_nhwc_f32", "cpu_im2col_gemm"),
        ("fprop_n1c8h9w9k8r1s1_nhwc_f16", "cpu_pointwise"),
        ("dgrad_n1c8h9w9k8r1s1u2_nchw_f32", "cpu_pointwise"),
        ("fprop_n1c8h9w9k8r1s1p1_nchw_f32", "cpu_im2col_gemm"),
        ("fprop_n1c8h29w29k8r3s3p1g8_nchw_f32", "cpu_depthwise_banded"),
        ("fprop_n1c8h9w9k8r3s3p1g8_nchw_f32", "cpu_depthwise_taps"),
        ("fprop_n1c8h7w7k8r7s7p3g8_nchw_f32", "cpu_depthwise_taps"),
        ("fprop_n1c8h9w9k16r3s3p1g8_nchw_f32", "cpu_im2col_gemm"),
        ("dgrad_n1c8h9w9k16r3s3p1g8_nchw_f32", "cpu_im2col_gemm"),
        ("fprop_n1c8h9w9k8r3s3p1g8_nhwc_f32", "cpu_depthwise_taps"),
        ("fprop_n1c8h29w29k8r7s7p3g8_nhwc_f32", "cpu_depthwise_banded"),
        ("fprop_n1c8h9w9k8r7s7p3g8_nhwc_f32", "cpu_depthwise_banded"),
        ("fprop_n1c1h99w99k1r15s15_nchw_f32", "cpu_depthwise_banded"),
        ("fprop_n1c8h99w99k8r3s3d9g8_nchw_f32", "cpu_im2col_gemm"),
        ("fprop_n1c1h512w512k1r31s31u2p15_nchw_f32", "cpu_fft"),
        ("fprop_n1c64h56w56k64r31s31p15g64_nchw_f32", "cpu_fft"),
        ("dgrad_n1c64h56w56k64r31s31p15g64_nhwc_f16", "cpu_fft"),
        ("fprop_n1c8h128w128k8r15s15p7_nchw_f32", "cpu_fft"),
        ("fprop_n1c64h14w14k64r31s31p15g64_nchw_f32", "cpu_depthwise_banded"),
        ("fprop_n1c64h56w56k64r31s31p15g64_nchw_f64", "cpu_depthwise_banded"),
        ("wgrad_n1c64h56w56k64r31s31p15g64_nchw_f32", "cpu_im2col_gemm"),
        ("fprop_n1c64h56w56k64r7s7p3_nchw_f32", "cpu_im2col_gemm"),
        ("fprop_n1c1h512w512k1r31s31p15_nchw_f32", "cpu_separable"),
        ("dgrad_n1c3h512w512k3r9s9p4g3_nhwc_f32", "cpu_separable"),
        ("fprop_n1c1h512w512k1r5s5p2_nchw_f32", "cpu_depthwise_banded"),
        ("fprop_n1c1h512w512k1r31s31p15_nchw_f64", "cpu_depthwise_banded"),
    ],
)
def test_choice(text, kernel):
    assert dispatch.plan_for(ConvProblem.parse(text), MADE_UP).kernel == kernel


def test_the_plan_stays_the_same():
    p = ConvProblem.parse("fprop_n1c8h9w9k8r3s3p1_nchw_f32")
    assert dispatch.plan_for(p, MADE_UP) is dispatch.plan_for(p, MADE_UP)


def test_no_kernel_gives_every_reason(card, kernels):
    kernels(CpuPointwise(), CpuIm2colGemm())
    p = ConvProblem.parse("fprop_n1c8h9w9k8r3s3p1_nchw_f32")
    with pytest.raises(gpuconv.UnsupportedProblem) as raised:
        dispatch.plan_for(p, Device("cuda", "a made-up card"))
    assert raised.value.problem == str(p)
    assert [reject.kernel for reject in raised.value.rejects] == [
        kernel.name for kernel in registry.kernels()
    ]
    assert all(str(reject) in str(raised.value) for reject in raised.value.rejects)
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.rejects) == (str(raised.value), raised.value.rejects)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("text", NAMED.values())
def test_default_configs_are_legal_and_listed(text, op):
    p = with_op(text, op)
    for kernel in registry.kernels():
        if kernel.check(p, MADE_UP) is None:
            default = kernel.default_config(p, MADE_UP)
            configs = kernel.configs(p, MADE_UP)
            assert default in configs
            assert len(set(configs)) == len(configs)
            for cfg in configs:
                assert kernel.check_config(p, cfg, MADE_UP) is None
                assert kernel.workspace_bytes(p, cfg, MADE_UP) == kernel.bind(p, cfg, MADE_UP).workspace_bytes


@pytest.mark.parametrize(
    ("kernel", "config"),
    [
        ("cpu_im2col_gemm", "block_kib=0"),
        ("cpu_im2col_gemm", "splits=9"),
        ("cpu_im2col_gemm", "lanes=2"),
        ("cpu_depthwise_banded", "block_rows=0"),
        ("cpu_depthwise_banded", "block_kib=-1"),
        ("cpu_depthwise_taps", "block_kib=0"),
    ],
)
def test_illegal_configs_are_rejected_with_a_reason(kernel, config):
    p = ConvProblem.parse("fprop_n1c8h9w9k8r3s3p1g8_nhwc_f32")
    found = registry.by_name(kernel)
    reject = found.check_config(p, found.config_type.parse(config), MADE_UP)
    assert reject is not None
    assert "must be from" in str(reject)


def test_variables_force_kernel_and_config(monkeypatch):
    p = ConvProblem.parse("fprop_n1c8h9w9k8r3s3p1g8_nhwc_f32")
    x = operands(p)
    usual = public_call(p, x)
    monkeypatch.setenv("GPUCONV_KERNEL", "cpu_im2col_gemm")
    monkeypatch.setenv("GPUCONV_CONFIG", "block_kib=1,splits=2")
    plan = dispatch.plan_for(p, cpu())
    assert (plan.kernel, str(plan.config)) == ("cpu_im2col_gemm", "block_kib=1,splits=2,lanes=1")
    forced = public_call(p, x)
    np.testing.assert_allclose(forced, usual, atol=1e-5)
    for variable, value in (
        ("GPUCONV_CONFIG", "splits=99"),
        ("GPUCONV_CONFIG", "block_m=3"),
        ("GPUCONV_KERNEL", "cudnn"),
    ):
        monkeypatch.setenv(variable, value)
        with pytest.raises(ValueError, match=f"^{variable}: "):
            public_call(p, x)
    monkeypatch.delenv("GPUCONV_KERNEL")
    with pytest.raises(ValueError, match="GPUCONV_CONFIG: needs GPUCONV_KERNEL"):
        public_call(p, x)


def test_a_forced_kernel_that_cannot_says_why(monkeypatch):
    p = ConvProblem.parse("fprop_n1c8h9w9k8r3s3p1_nchw_f32")
    monkeypatch.setenv("GPUCONV_KERNEL", "cpu_pointwise")
    with pytest.raises(gpuconv.UnsupportedProblem, match="takes 1×1 kernels"):
        public_call(p, operands(p))


def test_log_shows_each_new_plan_once(monkeypatch, capsys):
    monkeypatch.setenv("GPUCONV_LOG", "plan")
    p = ConvProblem.parse("fprop_n1c5h9w9k3r3s3p1_nchw_f32")
    for _ in range(2):
        dispatch.plan_for(p, Device("cpu", "another made-up processor"))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert str(p) in lines[0]
    assert "cpu_im2col_gemm(block_kib=" in lines[0]


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "99999"])
def test_wrong_thread_counts(monkeypatch, value):
    monkeypatch.setenv("GPUCONV_THREADS", value)
    with pytest.raises(ValueError, match="GPUCONV_THREADS must be"):
        settings.threads()


def test_thread_count(monkeypatch):
    monkeypatch.setenv("GPUCONV_THREADS", "7")
    assert settings.threads() == 7
    monkeypatch.setenv("GPUCONV_THREADS", "")
    assert settings.threads() is None


def test_the_table_of_calls_does_not_grow_for_ever(monkeypatch):
    monkeypatch.setattr(calls, "_MOST_PLANS", 5)
    x = np.ones((1, 1, 20, 20), np.float32)
    for size in range(1, 12):
        gpuconv.conv2d(x, np.ones((1, 1, size, size), np.float32))
        assert len(calls._plans) <= 5


@pytest.mark.parametrize("op", OPS)
def test_planning_takes_no_memory_for_blocks(op):
    """Blocks are computed from their numbers: a problem of 10¹² pixels is planned as one of ten is."""
    p = ConvProblem.parse(f"{op}_n1000000c64h1000w1000k64r3s3u2p1_nchw_f32")
    tracemalloc.start()
    try:
        for kernel in registry.kernels():
            if kernel.check(p, MADE_UP) is None:
                kernel.bind(p, kernel.default_config(p, MADE_UP), MADE_UP)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
