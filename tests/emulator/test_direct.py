"""The direct kernel, beyond the cases: poison, long sums, huge arrays, memory traffic, sanitizers."""

from __future__ import annotations

import pytest

from gpuconv.kernels.cuda.direct import CudaDirect
from gpuconv.kernels.cuda.params import DirectParams
from gpuconv.problem import ConvProblem
from tests import bodies
from tests.cases import Case, check, run
from tests.emulator import far, sanitize
from tests.emulator.launcher import SCHEDULES, emulated_device
from tests.emulator.machine import EmulatedMachine
from tests.problems import operands

KERNEL = CudaDirect()


@pytest.fixture(scope="module")
def machine(has_compiler):
    return EmulatedMachine()


@pytest.mark.parametrize("text", bodies.POISONED)
def test_poison_stays_inside_its_receptive_field(machine, text):
    bodies.check_poison(bodies.default_case(text, KERNEL, machine), machine)


@pytest.mark.parametrize("text", bodies.POISONED[::3])
@pytest.mark.parametrize("taps", [1, 2])
def test_poison_stays_where_stages_have_few_taps(machine, text, taps):
    case = bodies.default_case(text, KERNEL, machine, taps_r=taps, taps_s=2, block_c=1)
    bodies.check_poison(case, machine)


@pytest.mark.parametrize("text", bodies.LONG)
def test_long_sums_of_one_sign_stay_within_the_bound(machine, text):
    bodies.check_long_sum(bodies.default_case(text, KERNEL, machine), machine)


@pytest.mark.parametrize("text", bodies.LONG)
def test_long_sums_in_one_block_stay_within_the_bound(machine, text):
    bodies.check_long_sum(bodies.default_case(text, KERNEL, machine, splits=1), machine)


@pytest.mark.parametrize("text", bodies.STUBBORN)
def test_no_data_breaks_the_bound(machine, text):
    bodies.check_stubborn_sum(bodies.default_case(text, KERNEL, machine), machine)
    bodies.check_stubborn_sum(bodies.default_case(text, KERNEL, machine, splits=1), machine)


@pytest.mark.parametrize(
    "text",
    [
        "dgrad_n1c1h3w3k1r3s3u2147483647_nchw_f32",
        "dgrad_n1c1h5w5k1r1s1u2147483646d2147483647_nchw_f32",
        "fprop_n1c1h5w5k1r2s2u1000000000_nhwc_f32",
        "wgrad_n1c2h4w4k3r1s1u2147483647d2147483647_nchw_f16",
    ],
)
def test_strides_that_dwarf_the_image(machine, text):
    p = ConvProblem.parse(text)
    check(Case(p, KERNEL, KERNEL.default_config(p, machine.device)), [machine])


def test_epilogue(machine):
    bodies.check_epilogue(KERNEL, machine)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("op", ["fprop", "wgrad"])
def test_inputs_of_more_than_two_to_the_31_elements(machine, layout, op):
    far.check_large_input(KERNEL, machine, op, layout)


@pytest.mark.parametrize("tensor", far.TENSORS)
@pytest.mark.parametrize("axis", far.AXES)
def test_offsets_have_64_bits_along_every_axis(machine, tensor, axis):
    plain = {"IN_VECTOR": "1", "LEAD": "0", "TAPS_VECTOR": "1", "OUT_UNIT": "kRow"}
    far.check_offsets(KERNEL, machine, DirectParams, tensor, axis, plain)


def test_split_offsets_have_64_bits(machine):
    far.check_split_offsets(KERNEL, machine, DirectParams, block_c=2)


#: Default configs of the shapes this kernel is chosen for, and the most that their memory traffic may be:
#: sectors of global loads and stores, and wavefronts of shared loads, against the fewest possible. Rows that
#: begin anywhere touch a sector more than their length needs; where a limit is high, the reason is beside it.
TRAFFIC = {
    "fprop_n1c1h128w256k1r3s3p1_nchw_f32": (1.25, 1.0, 1.0),
    "fprop_n1c1h128w256k1r15s15p7_nchw_f32": (1.05, 1.0, 1.0),
    "fprop_n1c64h34w34k64r3s3g64_nhwc_f16": (1.0, 1.0, 1.0),
    "fprop_n1c64h34w34k64r3s3g64_nhwc_f32": (1.0, 1.0, 1.0),
    "fprop_n1c64h32w32k64r3s3p1g64_nchw_f32": (1.1, 1.0, 1.0),
    "dgrad_n1c64h34w34k64r3s3u2p1g64_nhwc_f16": (1.0, 1.0, 1.0),
    "dgrad_n1c64h32w32k64r3s3p1g64_nchw_f32": (1.1, 1.0, 1.0),
    "wgrad_n1c64h34w34k64r3s3g64_nhwc_f16": (1.0, 1.0, 1.0),
    "fprop_n1c3h70w70k64r7s7u2_nchw_f32": (1.5, 1.0, 1.4),  # stride 2: quads lie two quads apart
    "fprop_n1c3h70w70k64r7s7u2_nhwc_f16": (1.1, 1.0, 1.0),
    "fprop_n1c64h16w16k64r3s3p1g8_nhwc_f16": (2.0, 1.0, 1.8),  # 8 channels of a group are half a sector
    "fprop_n1c32h34w34k32r3s3_nhwc_f32": (1.0, 1.0, 1.3),
}


@pytest.mark.parametrize("text", TRAFFIC)
def test_memory_traffic_is_near_the_least(has_compiler, text):
    counting = EmulatedMachine(count=True)
    case = bodies.default_case(text, KERNEL, counting, splits=1)
    run(case, counting, operands(case.problem))
    counts = counting.emulator.counters
    load, store, shared = (counts.total(kind) for kind in ("global load", "global store", "shared load"))
    found = (
        load.sectors / load.ideal_sectors,
        store.sectors / store.ideal_sectors,
        shared.wavefronts / shared.ideal_wavefronts,
    )
    assert all(map(lambda ratio, most: ratio <= most + 0.005, found, TRAFFIC[text])), f"{found}\n{counts}"


SANITIZED = """
import sys
from tests import bodies
from tests.cases import run
from tests.emulator.launcher import SCHEDULES
from tests.emulator.machine import EmulatedMachine
from tests.problems import operands
from gpuconv.kernels.cuda.direct import CudaDirect

kernel = CudaDirect()
for text, more in {cases}:
    for schedule in SCHEDULES:
        machine = EmulatedMachine(schedule)
        case = bodies.default_case(text, kernel, machine, **more)
        run(case, machine, operands(case.problem))
print("done")
"""
SANITIZED_CASES = (
    ("fprop_n1c3h9w10k5r3s3p1_nchw_f32+bias+res+relu", {}),
    ("fprop_n1c10h7w9k8r3s3p1_nhwc_f32", {"stages": 2, "block_c": 2}),
    ("dgrad_n1c5h9w9k5r3s3u2p1g5_nhwc_f16", {}),
    ("wgrad_n2c4h9w10k6r3s3_nchw_f64", {"splits": 2, "taps_r": 2}),
    ("fprop_n1c1h30w40k1r5s5p2_nchw_f32", {"stages": 3, "taps_r": 1}),
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
    small = emulated_device(
        capability=capability, smem_block=65536 if capability < (8, 0) else 101376, sms=40
    )
    for text in ("fprop_n1c64h9w9k70r7s7p3_nhwc_f64", "wgrad_n2c40h12w12k8r5s5_nchw_f32"):
        machine = EmulatedMachine(SCHEDULES[3], device=small)
        case = bodies.default_case(text, KERNEL, machine)
        bodies.check_long_sum(case, machine)
