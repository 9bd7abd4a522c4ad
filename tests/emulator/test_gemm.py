"""The implicit matrix product, beyond the cases: poison, long sums, memory traffic, sanitizers."""

from __future__ import annotations

import pytest

from gpuconv.kernels.cuda.implicit_gemm_simt import CudaImplicitGemmSimt
from gpuconv.problem import ConvProblem
from tests import bodies
from tests.cases import Case, check, run
from tests.emulator import sanitize
from tests.emulator.launcher import SCHEDULES, emulated_device
from tests.emulator.machine import EmulatedMachine
from tests.problems import operands

KERNEL = CudaImplicitGemmSimt()


def _taken(texts):
    """Those that this kernel takes: it pads with zeros only."""
    return [text for text in texts if KERNEL.check(ConvProblem.parse(text), emulated_device()) is None]


POISONED, LONG, STUBBORN = map(_taken, (bodies.POISONED, bodies.LONG, bodies.STUBBORN))
#: The tile that large problems are given.
LARGE = {
    "block_m": 128, "block_n": 128, "block_k": 32, "warp_m": 32, "warp_n": 64, "thread_m": 8, "thread_n": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def machine(has_compiler):
    return EmulatedMachine()


def test_nothing_but_other_borders_is_refused():
    for text in (*bodies.POISONED, *bodies.LONG, *bodies.STUBBORN):
        reject = KERNEL.check(ConvProblem.parse(text), emulated_device())
        assert reject is None or "padding_mode" in str(reject)
    p = ConvProblem.parse("fprop_n1c1h4w4k1r3s3p1_nchw_f32+reflect")
    assert "pads with zeros only, not with padding_mode reflect" in str(KERNEL.check(p, emulated_device()))


@pytest.mark.parametrize("text", POISONED)
def test_poison_stays_inside_its_receptive_field(machine, text):
    bodies.check_poison(bodies.default_case(text, KERNEL, machine), machine)


@pytest.mark.parametrize("text", POISONED[::3])
def test_poison_stays_where_sums_are_split(machine, text):
    case = bodies.default_case(text, KERNEL, machine, block_k=8, splits=3)
    if KERNEL.check_config(case.problem, case.config, machine.device) is None:
        bodies.check_poison(case, machine)


@pytest.mark.parametrize("text", LONG)
def test_long_sums_of_one_sign_stay_within_the_bound(machine, text):
    bodies.check_long_sum(bodies.default_case(text, KERNEL, machine), machine)


@pytest.mark.parametrize("text", STUBBORN)
def test_no_data_breaks_the_bound(machine, text):
    case = bodies.default_case(text, KERNEL, machine)
    bodies.check_stubborn_sum(case, machine)
    for config in KERNEL.fallback_configs(case.problem, machine.device):
        bodies.check_stubborn_sum(Case(case.problem, KERNEL, config), machine)


def test_configs_that_some_data_would_break_are_refused(machine):
    """A stage is one running sum: of 32 products it may err by more than sums of 32 are allowed."""
    p = ConvProblem.parse("fprop_n1c32h1w4k3r1s1_nchw_f32")
    config = bodies.default_case(str(p), KERNEL, machine, block_k=32).config
    reject = KERNEL.check_config(p, config, machine.device)
    assert "roundings" in str(reject)
    # and so is one sum of very many stages, which other kernels or more splits make
    p = ConvProblem.parse("fprop_n1c200000h1w1k4r1s1_nchw_f32")
    config = bodies.default_case(str(p), KERNEL, machine, splits=1).config
    assert "roundings" in str(KERNEL.check_config(p, config, machine.device))
    assert KERNEL.default_config(p, machine.device).splits > 1


@pytest.mark.parametrize(
    "text",
    [
        "dgrad_n1c1h3w3k1r3s3u2147483647_nchw_f32",
        "dgrad_n1c1h5w5k1r1s1u2147483646d2147483647_nchw_f32",
        "fprop_n1c1h5w5k1r2s2u1000000000_nhwc_f32",
        "wgrad_n1c2h4w4k3r1s1u2147483647d2147483647_nchw_f16",
    ],
)
def test_steps_that_dwarf_the_image(machine, text):
    p = ConvProblem.parse(text)
    check(Case(p, KERNEL, KERNEL.default_config(p, machine.device)), [machine])


def test_epilogue(machine):
    bodies.check_epilogue(KERNEL, machine)


#: Problems that fill the large tile, and the most that their memory traffic may be: sectors of global loads
#: and stores, wavefronts of shared loads and stores, against the fewest possible.
TRAFFIC = {
    "fprop_n1c64h18w18k128r3s3_nhwc_f32": (1.0, 1.0, 1.0, 1.0),
    "fprop_n1c24h18w18k128r3s3_nhwc-ohwi_f32": (1.0, 1.0, 1.0, 1.0),
    "fprop_n1c8h18w18k128r3s3_nhwc_f32": (1.0, 1.0, 1.0, 1.0),
    "fprop_n1c64h33w33k128r3s3u2_nhwc_f32": (1.0, 1.0, 1.0, 1.0),
    "fprop_n1c64h18w18k128r3s3_nhwc_bf16": (
        1.0,
        1.0,
        1.0,
        1.5,
    ),  # eight rows lie a multiple of the banks apart
    "dgrad_n1c128h16w16k64r3s3p2_nhwc_f32": (1.0, 1.0, 1.0, 1.0),
    "dgrad_n1c128h16w16k64r3s3p2_nhwc-ohwi_f32": (1.0, 1.0, 1.0, 1.0),
    "dgrad_n1c128h16w16k64r3s3p1_nhwc-ohwi_f32": (1.12, 1.0, 1.0, 1.0),  # where lanes at the border stay away
    "wgrad_n1c128h18w18k128r3s3_nhwc_f32": (1.0, 1.0, 1.0, 1.0),
    "fprop_n1c32h18w34k128r3s3_nchw_f32": (1.3, 1.0, 1.0, 1.0),
    "fprop_n1c32h16w32k128r3s3p1_nchw_f32": (1.3, 1.0, 1.0, 1.0),
    "fprop_n1c32h56w56k128r3s3p1_nchw_f32": (1.3, 1.0, 1.0, 1.0),
    "dgrad_n1c128h16w32k32r3s3p1_nchw-hwio_f32": (1.3, 1.0, 1.0, 1.0),
    "dgrad_n1c128h16w32k32r3s3p1_nchw_f32": (
        2.0,
        1.0,
        1.0,
        1.0,
    ),  # nine taps of a filter lie together, 32 are read
    "wgrad_n1c128h18w34k128r3s3_nchw_f32": (1.3, 1.0, 1.0, 1.0),
}


@pytest.mark.parametrize("text", TRAFFIC)
def test_memory_traffic_is_near_the_least(has_compiler, text):
    counting = EmulatedMachine(count=True)
    case = bodies.default_case(text, KERNEL, counting, splits=1, **LARGE)
    assert KERNEL.check_config(case.problem, case.config, counting.device) is None
    run(case, counting, operands(case.problem))
    counts = counting.emulator.counters
    load, store = counts.total("global load"), counts.total("global store")
    shared = [counts.total(kind) for kind in ("shared load", "shared store")]
    found = (
        load.sectors / load.ideal_sectors,
        store.sectors / store.ideal_sectors,
        *(tally.wavefronts / tally.ideal_wavefronts for tally in shared),
    )
    assert all(map(lambda ratio, most: ratio <= most + 0.005, found, TRAFFIC[text])), f"{found}\n{counts}"


SANITIZED = """
from tests import bodies
from tests.cases import run
from tests.emulator.launcher import SCHEDULES
from tests.emulator.machine import EmulatedMachine
from tests.problems import operands
from gpuconv.kernels.cuda.implicit_gemm_simt import CudaImplicitGemmSimt

kernel = CudaImplicitGemmSimt()
for text, more in {cases}:
    for schedule in SCHEDULES:
        machine = EmulatedMachine(schedule)
        case = bodies.default_case(text, kernel, machine, **more)
        run(case, machine, operands(case.problem))
print("done")
"""
SANITIZED_CASES = (
    ("fprop_n1c8h9w10k36r3s3p1_nhwc_f32+bias+res+relu", {}),
    ("fprop_n1c5h7w9k8r3s3p1_nchw_f16", {"splits": 2}),
    ("dgrad_n1c5h9w9k5r3s3u2p1_nhwc_f32", {}),
    ("wgrad_n2c4h9w10k6r3s3_nchw_f64", {"splits": 2}),
)


@pytest.mark.parametrize("which", ["address", "thread"])
def test_sanitizers_find_nothing(has_compiler, need, which):
    if not sanitize.available(which):
        need("emulator", f"g++ has no library for -fsanitize={which}")
    outcome = sanitize.run(which, SANITIZED.format(cases=SANITIZED_CASES))
    assert outcome.output.endswith("done\n"), outcome.log
    assert outcome.reports == ()


@pytest.mark.parametrize("capability", [(7, 5), (8, 6), (12, 0)])
def test_devices_with_less_shared_memory(has_compiler, capability):
    small = emulated_device(capability=capability, smem_block=65536 if capability < (8, 0) else 101376, sms=4)
    machine = EmulatedMachine(SCHEDULES[3], device=small)
    for text in ("fprop_n2c64h19w17k140r3s3p1_nhwc_f32", "wgrad_n2c40h12w12k8r5s5_nchw_f64"):
        case = bodies.default_case(text, KERNEL, machine)
        assert KERNEL.check(case.problem, small) is None
        bodies.check_long_sum(case, machine)
