"""The product by tensor cores, beyond the cases: poison, long sums, traffic, large tensors, sanitizers."""

from __future__ import annotations

import re

import numpy as np
import pytest

from gpuconv.kernels.cuda.implicit_gemm_sm80 import CudaImplicitGemmSm80
from gpuconv.kernels.cuda.mma_tiles import MmaConfig
from gpuconv.kernels.cuda.params import GemmParams
from gpuconv.problem import ConvProblem
from gpuconv.validate import tolerance
from tests import bodies
from tests.cases import Case, check, run
from tests.emulator import far, sanitize
from tests.emulator.launcher import SCHEDULES, emulated_device
from tests.emulator.machine import EmulatedMachine
from tests.problems import operands

KERNEL = CudaImplicitGemmSm80()


def _taken(texts):
    """Those with zero padding, in 16 bits."""
    halves = (re.sub("f32|f64", "f16", text) for text in texts)
    return [text for text in halves if KERNEL.check(ConvProblem.parse(text), emulated_device()) is None]


POISONED, LONG = _taken(bodies.POISONED), _taken(bodies.LONG)
#: The tile that large problems are given.
LARGE = {
    "block_m": 128, "block_n": 128, "block_k": 32, "warp_m": 64, "warp_n": 64, "stages": 4, "chain": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def machine(has_compiler):
    return EmulatedMachine()


def test_nothing_but_other_borders_is_refused():
    for text in (*bodies.POISONED, *bodies.LONG):
        half = re.sub("f32|f64", "f16", text)
        reject = KERNEL.check(ConvProblem.parse(half), emulated_device())
        assert reject is None or "padding_mode" in str(reject)


@pytest.mark.parametrize("text", POISONED)
def test_poison_stays_inside_its_receptive_field(machine, text):
    bodies.check_poison(bodies.default_case(text, KERNEL, machine), machine)


@pytest.mark.parametrize("text", POISONED[::3])
def test_poison_stays_where_sums_are_split(machine, text):
    case = bodies.default_case(text, KERNEL, machine, block_k=16, chain=1, splits=2)
    if KERNEL.check_config(case.problem, case.config, machine.device) is None:
        bodies.check_poison(case, machine)


@pytest.mark.parametrize("text", LONG)
def test_long_sums_of_one_sign_stay_within_the_bound(machine, text):
    bodies.check_long_sum(bodies.default_case(text, KERNEL, machine), machine)


def stubborn(depth: int, dtype: str) -> tuple[ConvProblem, dict[str, np.ndarray]]:
    """The worst data for sums that are cut off: beside a first product of one, each of the others is lost."""
    p = ConvProblem.parse(f"fprop_n1c{depth}h1w4k3r1s1_nhwc-ohwi_{dtype}")
    least = 2.0**-12 * (1 - 2.0**-7)  # of both types; its square is just below the last bit that is kept
    a, b = np.full((1, 1, 4, depth), least), np.full((3, 1, 1, depth), least)
    a[..., 0] = b[..., 0] = 1
    kind = operands(p, 0)["a"].dtype
    return p, {"a": a.astype(kind), "b": b.astype(kind)}


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
@pytest.mark.parametrize("depth", [8, 16, 20, 32, 64, 80, 128, 1000, 5000])
def test_no_data_breaks_the_bound(machine, depth, dtype):
    p, given = stubborn(depth, dtype)
    configs = [KERNEL.default_config(p, machine.device), *KERNEL.fallback_configs(p, machine.device)]
    for config in dict.fromkeys(configs):
        result = run(Case(p, KERNEL, config), machine, {**given, "bias": None, "residual": None})
        assert tolerance.judge(p, result, **given).ok


def test_a_total_is_not_cut_off_with_its_chains(machine):
    """Every chain begins anew: were it to go on from the total, all after the first product would be lost.

    So many are, that even the rounding of the result does not hide it.
    """
    p, given = stubborn(16384, "f16")
    small = {"block_m": 32, "block_n": 32, "warp_m": 16, "warp_n": 16}
    case = bodies.default_case(str(p), KERNEL, machine, **small, block_k=64, chain=4, stages=2, splits=1)
    assert KERNEL.check_config(p, case.config, machine.device) is None
    verdict = tolerance.judge(p, run(case, machine, {**given, "bias": None, "residual": None}), **given)
    assert verdict.ok, verdict


def test_configs_that_some_data_would_break_are_refused(machine):
    """Chains too long for few products, and too many of them for very many."""
    for depth, more in ((32, {"block_k": 32, "chain": 2}), (128, {"block_k": 64, "chain": 4})):
        p, _ = stubborn(depth, "f16")
        config = bodies.default_case(str(p), KERNEL, machine, splits=1, **more).config
        assert "roundings" in str(KERNEL.check_config(p, config, machine.device))
    p = ConvProblem.parse("fprop_n1c200000h1w1k4r1s1_nchw_f16")
    config = bodies.default_case(str(p), KERNEL, machine, splits=1).config
    assert "roundings" in str(KERNEL.check_config(p, config, machine.device))
    assert KERNEL.default_config(p, machine.device).splits > 1


@pytest.mark.parametrize(
    "text",
    [
        "dgrad_n1c1h3w3k1r3s3u2147483647_nchw_f16",
        "dgrad_n1c1h5w5k1r1s1u2147483646d2147483647_nchw_f16",
        "fprop_n1c1h5w5k1r2s2u1000000000_nhwc_f16",
        "wgrad_n1c2h4w4k3r1s1u2147483647d2147483647_nchw_f16",
    ],
)
def test_steps_that_dwarf_the_image(machine, text):
    p = ConvProblem.parse(text)
    check(Case(p, KERNEL, KERNEL.default_config(p, machine.device)), [machine])


def test_sum_bias_and_residual_are_rounded_once(machine):
    half = np.float16
    case = bodies.default_case("fprop_n1c1h1w3k1r1s3_nchw_f16+bias+res", KERNEL, machine)
    given = {"a": np.array([[[[2048, 1, 0]]]], half), "b": np.ones((1, 1, 1, 3), half)}
    rest = {"bias": np.array([-2], half), "residual": np.ones((1, 1, 1, 1), half)}
    assert run(case, machine, {**given, **rest}).item() == 2048  # 2049 and 2047 are no float16


#: Problems that fill the large tile, and the most sectors of global loads against the fewest possible.
TRAFFIC = {
    "fprop_n1c64h18w18k128r3s3_nhwc_f16": 1.0,
    "fprop_n1c64h18w18k128r3s3_nhwc-ohwi_f16": 1.0,
    "fprop_n1c24h18w18k128r3s3_nhwc-ohwi_bf16": 2.0,  # taps end amid a sector
    "fprop_n1c36h18w18k128r3s3_nhwc-ohwi_bf16": 2.6,  # of each row 16 bytes at a time
    "fprop_n1c64h33w33k128r3s3u2_nhwc_f16": 1.0,
    "dgrad_n1c128h16w16k64r3s3p2_nhwc-ohwi_f16": 1.0,
    "wgrad_n1c128h18w18k128r3s3_nhwc_f16": 1.0,
    "wgrad_n1c128h18w18k128r3s3_nhwc-ohwi_f16": 1.0,
    "fprop_n1c64h18w18k128r3s3_nchw_f16": 1.26,  # rows of 18 cells
    "wgrad_n1c36h18w18k40r3s3_nhwc_f16": 2.02,  # 64 bytes of rows of 72
    "wgrad_n1c6h18w18k128r3s3_nhwc_f16": 2.0,
}


@pytest.mark.parametrize("block_k", [16, 32, 64])
@pytest.mark.parametrize("text", TRAFFIC)
def test_memory_traffic_is_near_the_least(has_compiler, text, block_k):
    counting = EmulatedMachine(count=True)
    more = LARGE | {"block_k": block_k, "stages": 3}
    case = bodies.default_case(text, KERNEL, counting, splits=1, **more)
    assert KERNEL.check_config(case.problem, case.config, counting.device) is None
    run(case, counting, operands(case.problem))
    counts = counting.emulator.counters
    squares = [one.tally for one in counts.sites if (one.file, one.kind) == ("sums.cuh", "shared load")]
    assert len(squares) in (1, 2)
    # four wavefronts for four matrices: no bank is met twice
    assert all(tally.wavefronts == 4 * tally.requests for tally in squares), counts
    copies = [one.tally for one in counts.sites if (one.file, one.kind) == ("copy.cuh", "shared store")]
    assert all(tally.wavefronts == tally.ideal_wavefronts for tally in copies), counts
    load, store = counts.total("global load"), counts.total("global store")
    assert load.sectors <= (TRAFFIC[text] + 0.005) * load.ideal_sectors, counts
    assert store.sectors == store.ideal_sectors, counts


#: Rows of the input, places of a stage and threads: more than a piece of a row is stored together.
SMALL = [(32, 32, 128), (16, 32, 128), (64, 64, 256), (32, 64, 256), (16, 64, 128)]


@pytest.mark.parametrize("channels", [36, 34])
@pytest.mark.parametrize(("block_m", "block_k", "threads"), SMALL)
def test_short_copies_of_many_threads_meet_no_bank_twice(has_compiler, channels, block_m, block_k, threads):
    counting = EmulatedMachine(count=True)
    p = ConvProblem.parse(f"fprop_n1c{channels}h8w8k64r1s1_nhwc-ohwi_f16")
    block_n = threads // 32 * 256 // block_m
    config = MmaConfig(block_m, block_n, block_k, 16, 16, stages=2, chain=1)
    assert KERNEL.check_config(p, config, counting.device) is None
    check(Case(p, KERNEL, config), [counting])
    counts = counting.emulator.counters
    copies = [one.tally for one in counts.sites if (one.file, one.kind) == ("copy.cuh", "shared store")]
    assert copies, counts
    assert all(tally.wavefronts == tally.ideal_wavefronts for tally in copies), counts


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("op", ["fprop", "wgrad"])
def test_inputs_of_more_than_two_to_the_31_elements(machine, layout, op):
    far.check_large_input(KERNEL, machine, op, layout)


@pytest.mark.parametrize("tensor", far.TENSORS)
@pytest.mark.parametrize("axis", far.AXES)
def test_offsets_have_64_bits_along_every_axis(machine, tensor, axis):
    plain = {"IN_VECTOR": "1", "TAPS_VECTOR": "1"}
    far.check_offsets(KERNEL, machine, GemmParams, tensor, axis, plain)


def test_split_offsets_have_64_bits(machine):
    far.check_split_offsets(KERNEL, machine, GemmParams, "f16", block_k=16, chain=1)


SANITIZED = """
from tests import bodies
from tests.cases import run
from tests.emulator.launcher import SCHEDULES
from tests.emulator.machine import EmulatedMachine
from tests.problems import operands
from gpuconv.kernels.cuda.implicit_gemm_sm80 import CudaImplicitGemmSm80

kernel = CudaImplicitGemmSm80()
for text, more in {cases}:
    for schedule in SCHEDULES:
        machine = EmulatedMachine(schedule)
        case = bodies.default_case(text, kernel, machine, **more)
        run(case, machine, operands(case.problem))
print("done")
"""
SANITIZED_CASES = (
    ("fprop_n1c16h9w10k40r3s3p1_nhwc_f16+bias+res+relu", {}),
    ("fprop_n1c5h7w9k8r3s3p1_nchw_f16", {"splits": 2}),
    ("dgrad_n1c6h9w9k6r3s3u2p1_nhwc-ohwi_bf16", {}),
    ("wgrad_n2c4h9w10k8r3s3_nhwc-ohwi_f16", {"splits": 2}),
)


@pytest.mark.parametrize("which", ["address", "thread"])
def test_sanitizers_find_nothing(has_compiler, need, which):
    if not sanitize.available(which):
        need("emulator", f"g++ has no library for -fsanitize={which}")
    outcome = sanitize.run(which, SANITIZED.format(cases=SANITIZED_CASES))
    assert outcome.output.endswith("done\n"), outcome.log
    assert outcome.reports == ()


@pytest.mark.parametrize("capability", [(8, 0), (8, 6), (12, 0)])
def test_devices_with_less_shared_memory(has_compiler, capability):
    small = emulated_device(capability=capability, smem_block=49152, sms=4)
    machine = EmulatedMachine(SCHEDULES[3], device=small)
    for text in ("fprop_n2c64h19w17k140r3s3p1_nhwc_f16", "wgrad_n2c40h12w12k8r5s5_nhwc_bf16"):
        case = bodies.default_case(text, KERNEL, machine)
        assert KERNEL.check(case.problem, small) is None
        bodies.check_long_sum(case, machine)
