"""The numerics contract, on random problems and on the named ones, through the public door."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuconv.backend import device
from gpuconv.dispatch import plan_for
from gpuconv.kernels import registry
from gpuconv.kernels.cpu import products
from gpuconv.problem import OPS, ConvProblem
from gpuconv.validate import reference, tolerance

from ..conftest import FULL
from ..problems import DISGUISES, NAMED, NUMPY, disguise, operands, public_call, reach, with_op
from ..strategies import problems

MANY = 20_000 if FULL else 1_500
SOME = 4_000 if FULL else 300


def poisoned(p: ConvProblem):
    return np.full(p.operand_shapes[2], np.nan, NUMPY[p.dtype])


@pytest.mark.parametrize("op", OPS)
def test_random_problems_stay_within_the_bound(op):
    @settings(max_examples=MANY)
    @given(problems((op,)), st.integers(0, 2**32 - 1))
    def run(p, seed):
        given_ = operands(p, seed)
        result = public_call(p, given_, out=poisoned(p))
        verdict = tolerance.judge(p, result, **given_)
        assert verdict.ok, f"{p}: {verdict}"

    run()


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("name", NAMED)
def test_named_problems_stay_within_the_bound(name, op):
    p = with_op(NAMED[name], op)
    given_ = operands(p)
    verdict = tolerance.judge(p, public_call(p, given_, out=poisoned(p)), **given_)
    assert verdict.ok, f"{p}: {verdict}"


@pytest.mark.parametrize("op", OPS)
def test_integers_are_exact(op):
    @settings(max_examples=SOME)
    @given(problems((op,)), st.integers(0, 2**32 - 1))
    def run(p, seed):
        given_ = operands(p, seed, integers=True)
        exact = reference.evaluate(p, **given_)
        if p.relu:
            exact = np.maximum(exact, 0)
        # rounded once from an exact sum: the nearest number of the dtype
        np.testing.assert_array_equal(public_call(p, given_), exact.astype(NUMPY[p.dtype]), strict=True)

    run()


@settings(max_examples=SOME)
@given(problems(), st.integers(0, 2**32 - 1), st.data())
def test_every_memory_layout_gives_the_same(p, seed, data):
    plain = operands(p, seed, integers=True)
    how = st.sampled_from(DISGUISES)
    strange = {name: disguise(array, data.draw(how, label=name)) for name, array in plain.items()}
    before = {name: None if array is None else array.tobytes() for name, array in strange.items()}
    result = public_call(p, strange)
    np.testing.assert_array_equal(result, public_call(p, plain), strict=True)
    assert result.dtype.isnative
    assert result.flags.c_contiguous
    assert result.flags.writeable
    for name, array in strange.items():
        assert array is None or array.tobytes() == before[name], f"{name} was written to"


@settings(max_examples=SOME)
@given(problems(), st.integers(0, 2**32 - 1), st.sampled_from(DISGUISES))
def test_out_may_lie_anyhow(p, seed, how):
    given_ = operands(p, seed, integers=True)
    out = disguise(poisoned(p), how)
    if how == "read-only":
        with pytest.raises(ValueError, match="out must be writeable"):
            public_call(p, given_, out=out)
        return
    assert public_call(p, given_, out=out) is out
    np.testing.assert_array_equal(out.astype(np.float64), public_call(p, given_).astype(np.float64))


def test_broadcast_inputs():
    image = np.arange(36, dtype=np.float32).reshape(1, 1, 6, 6)
    x = np.broadcast_to(image, (3, 4, 6, 6))
    w = np.broadcast_to(np.float32(1), (2, 4, 3, 3))
    p = ConvProblem.parse("fprop_n3c4h6w6k2r3s3_nchw_f32")
    result = public_call(p, {"a": x, "b": w, "bias": None, "residual": None})
    np.testing.assert_array_equal(result, reference.evaluate(p, x, w))


@settings(max_examples=SOME)
@given(problems(), st.integers(0, 2**32 - 1))
def test_every_kernel_and_config_on_any_number_of_threads(p, seed):
    """Every config is right, and each gives one answer to the last bit whatever the threads."""
    given_ = operands(p, seed)
    a, b, rest = given_.pop("a"), given_.pop("b"), given_
    here = device.cpu()
    for kernel in registry.kernels():
        if kernel.check(p, here) is not None:
            continue
        configs = kernel.configs(p, here)
        assert kernel.default_config(p, here) in configs
        for cfg in configs[:: max(1, len(configs) // 4)]:
            assert kernel.check_config(p, cfg, here) is None
            assert kernel.config_type.parse(str(cfg)) == cfg
            results = []
            for threads in (1, 2, 5):
                out = poisoned(p)
                kernel.bind(p, cfg, replace(here, threads=threads))(a, b, out, **rest)
                results.append(out)
            verdict = tolerance.judge(p, results[0], a, b, **rest)
            assert verdict.ok, f"{p} {kernel.name}({cfg}): {verdict}"
            assert all(out.tobytes() == results[0].tobytes() for out in results)


#: Long sums of every kind: narrow, small and large products, each engine and direction.
LONG = (
    "fprop_n1c4096h7w7k3r7s7_nhwc_f32",
    "fprop_n1c4096h7w7k3r7s7_nchw_f64",
    "fprop_n1c4096h7w7k3r7s7_nhwc_f16",
    "fprop_n1c25088h1w1k10r1s1_nhwc_f32",
    "fprop_n1c25088h4w4k10r1s1_nchw_f32",
    "fprop_n1c2048h20w20k32r3s3_nchw_f32",
    "fprop_n1c300h1w1k1r1s1_nhwc_f32",
    "fprop_n1c256h1w1k1r1s1_nchw_f32",
    "dgrad_n1c1h3w3k20000r3s3p1_nhwc_f32",
    "dgrad_n1c40h12w12k2000r3s3p1_nchw_f32",
    "wgrad_n8c8h112w112k8r3s3p1g8_nhwc_f32",
    "wgrad_n64c4h64w64k4r3s3g4_nhwc_f32",
    "wgrad_n16c1h128w128k1r3s3_nhwc_f32",
    "wgrad_n4c20h64w64k24r3s3_nchw_f32",
    "fprop_n1c2h40w40k2r31s31g2_nhwc_f32",
    "fprop_n1c2h40w40k2r31s31g2_nchw_f32",
    "fprop_n1c2h20w20k2r8s8g2_nhwc_f32",
    "fprop_n1c1h1w100003k1r1s100000_nchw_f32",
    "dgrad_n1c1h50w50k1r31s31p15_nchw_f32",
)


@pytest.mark.parametrize("text", LONG)
@pytest.mark.parametrize("kind", ["constant", "positive", "growing"])
def test_long_sums_of_one_sign_stay_within_the_bound(text, kind):
    """Rounding errors that all point one way do not cancel as those of random signs do."""
    p = ConvProblem.parse(text)
    rng = np.random.default_rng(0)

    def values(shape, scale):
        if kind == "constant":
            return np.full(shape, scale)
        drawn = rng.random(shape)
        return scale * (np.sort(drawn, axis=None).reshape(shape) if kind == "growing" else drawn)

    a, b, _ = p.operand_shapes
    for first, second in ((0.1, 0.1), (1 / 3, 0.7)):
        if p.dtype == "f16":  # keeps the sum below the largest number
            second /= 2048
        given_ = {"a": values(a, first).astype(NUMPY[p.dtype]), "b": values(b, second).astype(NUMPY[p.dtype])}
        bare = {"bias": None, "residual": None}
        verdict = tolerance.judge(p, public_call(p, {**given_, **bare}), **given_)
        assert verdict.ok, f"{p}: {verdict}"


@pytest.mark.parametrize("config", ["block_kib=1", "block_kib=8", "block_kib=1,lanes=4"])
@pytest.mark.parametrize(
    "text", ["wgrad_n1c256h200w200k1r1s1_nchw_f32", "wgrad_n1c256h128w128k16r1s1_nhwc_f32"]
)
def test_many_small_blocks_of_one_sign_stay_within_the_bound(monkeypatch, text, config):
    p = ConvProblem.parse(text)
    monkeypatch.setenv("GPUCONV_KERNEL", "cpu_im2col_gemm")
    monkeypatch.setenv("GPUCONV_CONFIG", config)
    for value in (0.1, 0.7):
        a, b = (np.full(shape, value, np.float32) for shape in p.operand_shapes[:2])
        verdict = tolerance.judge(p, public_call(p, {"a": a, "b": b, "bias": None, "residual": None}), a, b)
        assert verdict.ok, f"{p}: {verdict}"


def test_sums_of_many_terms_are_added_in_two_levels():
    """As many terms as a test can afford: a million float32, whose plain running sum is wrong."""
    total, inner, term = (np.zeros(1, np.float32) for _ in range(3))
    term[...] = 0.1
    long = products.LongSum(total, lambda: inner, 10**6)
    for _ in range(10**6):
        long.add(term)
    long.close()
    exact = float(np.float32(0.1)) * 10**6
    assert abs(total.item() - exact) <= 2.0**-24 * 4 * 10**3 * exact / 4
    assert abs(np.add.accumulate(np.full(10**6, 0.1, np.float32))[-1] - exact) > 2.0**-24 * 4 * 10**3 * exact


@pytest.mark.parametrize("text", ["fprop_n1c1h64w64k1r31s31_nchw_f32", "fprop_n1c1h4008w2k1r4000s1_nchw_f32"])
def test_the_way_around_nan_stays_within_the_bound(text):
    """Clean pixels beside a NaN are summed another way, tap by tap."""
    p = ConvProblem.parse(text)
    x, w = np.full(p.x_shape, 0.1, np.float32), np.full(p.w_shape, 0.1, np.float32)
    ref = reference.evaluate(p, x, w)
    allowed = tolerance.bound(p, ref, ref)
    x[0, 0, 0, 0] = np.nan  # seen by one result alone
    y = public_call(p, {"a": x, "b": w, "bias": None, "residual": None})
    seen = np.isnan(y)
    assert seen.sum() == 1
    assert (np.abs(y - ref) <= allowed)[~seen].all()


LARGER = (
    "fprop_n2c32h40w40k48r3s3p1_nchw_f32",
    "fprop_n2c32h40w40k48r3s3p1_nhwc_f32",
    "fprop_n1c256h7w7k128r3s3p1_nchw_f32",
    "fprop_n1c64h56w56k64r1s1_nchw_f32",
    "fprop_n4c64h30w30k64r3s3p1g64_nchw_f32",
    "fprop_n4c64h30w30k64r3s3p1g64_nhwc_f16",
    "fprop_n1c1h300w400k1r9s9p4_nchw_f32",
    "fprop_n2c32h40w40k48r3s3u2p1_nchw_f32",
    "fprop_n3c16h33w35k32r5s5u2p2g4_nhwc_bf16",
)


@pytest.mark.parametrize("text", LARGER)
@pytest.mark.parametrize("op", OPS)
def test_many_blocks_many_threads_same_bits(text, op):
    """Large enough that several blocks and threads are at work."""
    p = with_op(text, op)
    given_ = operands(p)
    a, b = given_["a"], given_["b"]
    first = None
    for threads, _ in itertools.product((1, 2, 8), range(3)):
        out = poisoned(p)
        plan_for(p, replace(device.cpu(), threads=threads))(a, b, out)
        first = out if first is None else first
        assert out.tobytes() == first.tobytes()
    verdict = tolerance.judge(p, first, a, b)
    assert verdict.ok, f"{p}: {verdict}"


def test_eight_threads_at_once():
    """Callers share the workers and BLAS; each gets its own answer, the same as alone."""
    chosen = [with_op(text, op) for text in LARGER for op in OPS]
    arrays = [operands(p, seed) for seed, p in enumerate(chosen)]
    alone = [public_call(p, given_).tobytes() for p, given_ in zip(chosen, arrays, strict=True)]

    def run(i):
        return public_call(chosen[i % len(chosen)], arrays[i % len(chosen)]).tobytes()

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(run, range(4 * len(chosen))))
    assert together == alone * 4


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("name", [name for name in NAMED if "empty" not in name])
def test_nan_and_infinity_stay_inside_their_receptive_field(name, op):
    p = with_op(NAMED[name], op)
    given_ = operands(p, 1)
    rng = np.random.default_rng(2)
    clean = public_call(p, given_).astype(np.float64)
    for poison in (np.nan, np.inf, -np.inf):
        for operand in ("a", "b"):
            array = given_[operand].copy()
            at = tuple(rng.integers(0, size) for size in array.shape)
            array[at] = poison
            reached, may = reach(p, given_, operand, at)
            got = public_call(p, {**given_, operand: array}).astype(np.float64)
            if not p.relu:  # which makes 0 of −∞
                assert not np.isfinite(got[reached]).any()
            assert np.isfinite(got[~may]).all()
            np.testing.assert_allclose(got[~may], clean[~may], rtol=1e-2, atol=1e-2)


def test_relu_keeps_nan():
    x = np.full((1, 1, 3, 3), np.nan, np.float32)
    p = ConvProblem.parse("fprop_n1c1h3w3k1r2s2_nchw_f32+relu")
    w = np.ones((1, 1, 2, 2), np.float32)
    assert np.isnan(public_call(p, {"a": x, "b": w, "bias": None, "residual": None})).all()


def test_overflow_to_infinity_warns_nobody():
    p = ConvProblem.parse("fprop_n1c4h5w5k2r3s3_nchw_f16")
    given_ = {"a": np.full((1, 4, 5, 5), 6e4, np.float16), "b": np.ones((2, 4, 3, 3), np.float16)}
    assert np.isposinf(public_call(p, {**given_, "bias": None, "residual": None})).all()


def test_half_precision_accumulates_in_float32():
    """2048 + 1 is 2048 in float16: a sum kept in half precision would stop there."""
    p = ConvProblem.parse("fprop_n1c4096h1w1k1r1s1_nchw_f16")
    x = np.ones((1, 4096, 1, 1), np.float16)
    w = np.ones((1, 4096, 1, 1), np.float16)
    assert public_call(p, {"a": x, "b": w, "bias": None, "residual": None}).item() == 4096


def test_epilogue_is_rounded_once():
    """The sum 2049 is no float16; with bias −1 the exact 2048 is. Rounding in between would give 2047."""
    p = ConvProblem.parse("fprop_n1c1h1w3k1r1s3_nchw_f16+bias")
    x, w = np.array([[[[2048, 1, 0]]]], np.float16), np.ones((1, 1, 1, 3), np.float16)
    result = public_call(p, {"a": x, "b": w, "bias": np.array([-1], np.float16), "residual": None})
    assert result.item() == 2048
