"""Extra memory is bounded, and what `workspace_bytes` says."""

from __future__ import annotations

import tracemalloc
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings

from gpuconv.backend import device
from gpuconv.dispatch import plan_for
from gpuconv.problem import ITEMSIZE, OPS, ConvProblem
from gpuconv.validate import tolerance

from ..problems import NAMED, NUMPY, operands, public_call, with_op
from ..strategies import problems
from .memory import SLACK, peak_of


def within_workspace(p: ConvProblem) -> None:
    given_ = operands(p)
    a, b = given_.pop("a"), given_.pop("b")
    out = np.empty(p.operand_shapes[2], NUMPY[p.dtype])
    plan = plan_for(p, device.cpu())
    assert peak_of(lambda: plan(a, b, out, **given_)) <= plan.workspace_bytes + SLACK, str(p)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(
    "text",
    [
        *NAMED.values(),
        "fprop_n4c64h56w56k64r3s3p1_nchw_f32",
        "fprop_n4c64h56w56k64r3s3u2p1_nhwc_f16",
        "fprop_n1c512h7w7k512r3s3p1_nchw-hwio_f32",
        "fprop_n1c96h112w112k96r3s3p1g96_nchw_f32",
        "fprop_n1c96h112w112k96r3s3p1g96_nhwc_bf16",
        "fprop_n2c64h64w64k256r1s1_nchw_f32",
        "fprop_n1c1h512w512k1r15s15p7_nchw_f32",
        "fprop_n1c3h512w512k6r9s9p4g3_nhwc_f32",
        "fprop_n1c1024h3w3k1024r3s3p1_nchw-hwio_f16",
        "fprop_n1c1024h3w3k1024r3s3p1_nchw_f16",
        "fprop_n1c16h512w512k16r3s3p128d128_nchw_f16",
        "fprop_n1c16h512w512k16r3s3p128d128g16_nhwc_f16",
        "fprop_n1c512h8w1024k1r1s1u2_nchw_f32+bias",
        "fprop_n4c64h56w56k64r3s3p1_nchw_f16+reflect",
        "fprop_n2c3h300w400k3r15s15p7g3_nhwc_f32+replicate",
        "fprop_n1c512h20w20k512r3s3p20_nchw_bf16+circular",
    ],
)
def test_no_more_than_said(text, op):
    within_workspace(with_op(text, op))


@settings(max_examples=150)
@given(problems())
def test_no_more_than_said_on_random_problems(p):
    within_workspace(p)


@pytest.mark.parametrize("op", OPS)
def test_large_image_with_a_large_kernel(op):
    """A 4096×4096 image with a 31×31 kernel stays under 300 MB beside its arguments and result."""
    p = ConvProblem.parse(f"{op}_n1c1h4096w4096k1r31s31p15_nchw_f32")
    plan = plan_for(p, device.cpu())
    assert plan.workspace_bytes < 300e6 - prod(p.operand_shapes[2]) * ITEMSIZE[p.dtype]


def test_large_image_with_a_large_kernel_measured():
    p = ConvProblem.parse("fprop_n1c1h4096w4096k1r31s31p15_nchw_f32")
    given_ = operands(p)
    tracemalloc.start()
    try:
        y = public_call(p, given_)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 300e6
    verdict = tolerance.judge(p, y, **given_)
    assert verdict.ok
    assert verdict.checked >= 2000


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("fprop_n1c64h2048w2048k64r3s3p512d512_nchw_f16", 100e6),
        ("fprop_n1c16h4096w4096k16r31s31p1500d100_nchw_f16", 100e6),
        ("fprop_n1c64h4096w4096k64r3s3p1024d1024g64_nhwc_f16", 100e6),
        ("fprop_n1c1h8w8k1r2s2u100000p1000000_nchw_f32", 100e6),
        ("fprop_n1c1024h64w64k1024r31s31p15g1024_nchw_f32", 100e6),
        ("fprop_n1c1h3000w3000k1r1000s1000_nchw_f32", 100e6),
    ],
)
def test_awkward_shapes_take_no_more_than_usual(text, limit):
    p = ConvProblem.parse(text)
    assert plan_for(p, device.cpu()).workspace_bytes < limit


@pytest.mark.parametrize("op", OPS)
def test_byte_swapped_arrays_are_not_copied_whole(op):
    p = ConvProblem.parse(f"{op}_n1c1h2500w2500k1r3s3p1_nchw_f64")
    given_ = {
        name: None if array is None else array.astype(array.dtype.newbyteorder())
        for name, array in operands(p).items()
    }
    out = np.empty(p.operand_shapes[2], ">f8" if np.little_endian else "<f8")
    allowed = plan_for(p, device.cpu()).workspace_bytes + SLACK
    assert peak_of(lambda: public_call(p, given_, out=out)) <= allowed < given_["a"].nbytes


def test_scratch_does_not_grow_with_threads_without_limit():
    from dataclasses import replace

    p = ConvProblem.parse("fprop_n64c256h56w56k256r3s3p1_nchw_f32")
    many = plan_for(p, replace(device.cpu(), threads=512))
    assert many.workspace_bytes < 300e6
