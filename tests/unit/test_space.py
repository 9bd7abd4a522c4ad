"""What is proposed: the untuned choice first, everything legal, nothing twice, nothing hopeless."""

from __future__ import annotations

import pytest

from gpuconv import dispatch
from gpuconv.autotune import space
from gpuconv.backend import device
from gpuconv.backend.cards import CARDS
from gpuconv.problem import ConvProblem
from gpuconv.report import shapes
from tests.problems import NAMED

DEVICES = {"cpu": device.cpu(), "H200": CARDS["H200"].device, "T4": CARDS["T4"].device}
LAYERS = [layer.problem(op, batch=1) for op in ("fprop", "wgrad") for layer in shapes.read_all()[::29]]
PROBLEMS = list(dict.fromkeys([*map(ConvProblem.parse, NAMED.values()), *LAYERS]))


@pytest.mark.parametrize("where", DEVICES)
def test_the_untuned_choice_comes_first_and_all_are_legal(where):
    here = DEVICES[where]
    for p in PROBLEMS:
        kernels, _ = space.takers(p, here)
        if not kernels:
            continue
        found = space.proposals(p, here)
        untuned = dispatch._untuned(p, here, None)[0][0]
        assert found[0][:2] == untuned[:2], p
        assert len({one[:2] for one in found}) == len(found), p
        for kernel, config, *_ in found:
            assert kernel.check_config(p, config, here) is None, (p, kernel.name, config)
        for kernel, config, *_ in (found[0], found[-1]):
            live = space.live(p, here, kernel.name, vars(config))
            assert live is not None, (p, kernel.name, config)
            assert live[:2] == (kernel, config)


def test_a_cards_proposals_are_by_predicted_time_each_kernels_best_among_the_first():
    p, card = ConvProblem.parse("fprop_n32c64h56w56k64r3s3p1_nhwc_f16"), DEVICES["H200"]
    found = space.proposals(p, card)
    names = {kernel.name for kernel in space.takers(p, card)[0]}
    head = len(names) + 1
    assert {one.kernel.name for one in found[:head]} == names
    rest = [one.seconds for one in found[head:]]
    assert rest == sorted(rest)
    assert len(found) > 30


def kernels_for(text):
    return {one.kernel.name for one in space.proposals(ConvProblem.parse(text), DEVICES["cpu"])}


def test_a_cpus_kernels_take_turns_and_each_begins_with_its_default():
    p = ConvProblem.parse("fprop_n1c96h56w56k96r7s7p3g96_nhwc_f32")
    found = space.proposals(p, DEVICES["cpu"])
    names = [one.kernel.name for one in found]
    first = names[: len(set(names))]
    assert len(set(first)) == len(first)
    for one in found[: len(first)]:
        assert one.config == one.kernel.default_config(p, DEVICES["cpu"])


def test_only_filters_of_rank_one_are_fair_to_what_looks_at_them():
    assert kernels_for("fprop_n1c1h512w512k1r11s11p5_nchw_f32") == {"cpu_separable"}
    assert "cpu_separable" not in kernels_for("fprop_n1c96h56w56k96r7s7p3g96_nhwc_f32")


def test_what_takes_seconds_for_nothing_is_not_tried():
    """An FFT of two points for a strided filter of one tap ran for minutes."""
    assert "cpu_fft" not in kernels_for("fprop_n1c512h28w28k1024r1s1u2_nchw_f32")
    assert "cpu_fft" in kernels_for("fprop_n1c2h256w256k2r31s31p15_nchw_f32")


def test_a_special_case_stands_for_the_general_one():
    assert kernels_for("fprop_n1c64h14w14k64r1s1_nchw_f32") == {"cpu_pointwise"}


def test_what_was_once_legal_may_not_be_today():
    p, here = ConvProblem.parse("fprop_n1c64h14w14k64r3s3p1_nchw_f32"), DEVICES["cpu"]
    good = {"block_kib": 4096, "splits": 2, "lanes": 1}
    assert space.live(p, here, "cpu_im2col_gemm", good) is not None
    for name, config in (
        ("cpu_im2col", good),
        ("", good),
        ("cpu_im2col_gemm", {}),
        ("cpu_im2col_gemm", {**good, "block_kib": 4095}),  # nobody would try it
        ("cpu_im2col_gemm", {**good, "splits": 65}),  # no longer legal
        ("cpu_im2col_gemm", {**good, "more": 1}),
        ("cpu_im2col_gemm", {"block_kib": 4096, "splits": 2}),
        ("cpu_pointwise", good),  # does not take it
        ("implicit_gemm_simt", good),
        ("cpu_fft", {"rows": 32, "columns": 32}),  # legal, and hopeless
    ):
        assert space.live(p, here, name, config) is None, (name, config)
