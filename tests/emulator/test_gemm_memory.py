"""Offsets of the implicit matrix product beyond what 31 bits hold."""

from __future__ import annotations

from dataclasses import replace
from struct import pack

import numpy as np
import pytest

from gpuconv.backend.launch import Binary, KernelSpec
from gpuconv.backend.source import cuda_source_folder
from gpuconv.kernels.cuda.implicit_gemm_simt import CudaImplicitGemmSimt
from gpuconv.kernels.cuda.params import GemmParams
from gpuconv.problem import ConvProblem
from tests import bodies
from tests.cases import Case, run
from tests.emulator.launcher import Emulator
from tests.emulator.machine import EmulatedMachine
from tests.emulator.test_direct import FAR, Lazily
from tests.problems import operands

KERNEL = CudaImplicitGemmSimt()


@pytest.fixture(scope="module")
def machine(has_compiler):
    return EmulatedMachine()


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("op", ["fprop", "wgrad"])
def test_inputs_of_more_than_two_to_the_31_elements(machine, layout, op):
    """Only the few pages that two rows of windows lie on are ever touched."""
    p = ConvProblem.parse(f"{op}_n1c1h50000w50000k1r2s2u{FAR}_{layout}_f16")
    x = np.zeros((50_000, 50_000), np.float16)
    rng = np.random.default_rng(0)
    b = rng.integers(-3, 4, (2, 2)).astype(np.float16)
    expected = np.zeros((2, 2))
    for i, j in np.ndindex(2, 2):
        window = x[i * FAR : i * FAR + 2, j * FAR : j * FAR + 2]
        window[...] = rng.integers(-3, 4, (2, 2))
        if op == "fprop":
            expected[i, j] = (window.astype(float) * b).sum()
        else:
            expected += b[i, j].astype(float) * window
    with machine.at_work():
        plan = KERNEL.bind(p, KERNEL.default_config(p, machine.device), machine.device)
        out = machine.poisoned(p.operand_shapes[2], np.dtype(np.float16), 0)
        large = machine.emulator.adopt(Lazily(x.reshape(p.x_shape)))
        plan(large, machine.put(b.reshape(p.operand_shapes[1]), 0), out)
    np.testing.assert_array_equal(out.get().reshape(2, 2), expected)


@pytest.mark.parametrize("tensor", ["in", "taps", "out"])
@pytest.mark.parametrize("axis", ["image", "group", "channel", "row", "column"])
def test_offsets_have_64_bits_along_every_axis(machine, tensor, axis):
    """One stride of one tensor is made so large that 31 bits lose its second cell; all others stay."""
    p = ConvProblem.parse("fprop_n2c4h3w3k4r2s2g2_nchw_f16")
    given = operands(p, 0, integers=True)
    case = Case(p, KERNEL, KERNEL.default_config(p, machine.device))
    expected = run(case, machine, given)
    far = 2**31 + 8
    shapes = {"in": (2, 2, 2, 3, 3), "taps": (2, 2, 2, 2, 2), "out": (2, 2, 2, 2, 2)}
    axes = ("image", "group", "channel", "row", "column")
    wide = np.zeros(far * 3, np.float16)
    at = axes.index(axis)
    steps = [0] * 5
    step = 1
    for i in reversed(range(5)):
        if i != at:
            steps[i] = step
            step *= shapes[tensor][i]
    steps[at] = far
    view = np.ndarray(shapes[tensor], np.float16, wide, strides=[2 * each for each in steps])
    values = {
        "in": given["a"].reshape(2, 2, 2, 3, 3),
        "taps": given["b"].reshape(2, 2, 2, 2, 2).transpose(1, 0, 2, 3, 4),
        "out": np.full(shapes["out"], np.nan),
    }
    view[...] = values[tensor]
    (spec,) = KERNEL.launches(p, case.config, machine.device)
    params = GemmParams.from_buffer_copy(spec.params)
    setattr(params, f"{tensor}_strides", type(params.in_strides)(*steps))
    if tensor != "out":
        setattr(params, f"{tensor}_steps", type(params.in_steps)(*(2 * each for each in steps[2:])))
    # what the problem's own strides allow is not true of these
    defines = dict(spec.binary.defines) | {"IN_VECTOR": "1", "TAPS_VECTOR": "1"}
    spec = replace(spec, params=params.pack(), binary=replace(spec.binary, defines=tuple(defines.items())))
    arrays = {"in": machine.put(given["a"], 0), "taps": machine.put(given["b"], 0)}
    arrays["out"] = machine.poisoned(p.y_shape, np.dtype(np.float16), 0)
    arrays[tensor] = machine.emulator.adopt(Lazily(wide))
    (launch,) = machine.emulator.load((spec,), machine.device)
    a, b, out = (arrays[name].pointer for name in ("in", "taps", "out"))
    launch(spec.pack({"a": a, "b": b, "out": out, "bias": 0, "residual": 0}))
    result = view if tensor == "out" else arrays["out"].get().reshape(shapes["out"])
    np.testing.assert_array_equal(result, expected.reshape(shapes["out"]))


def test_split_offsets_have_64_bits(machine):
    case = bodies.default_case("fprop_n1c4h4w4k2r3s3_nchw_f32", KERNEL, machine, splits=2)
    given = operands(case.problem, 0, integers=True)
    expected = run(case, machine, given)
    far = 2**31 + 8
    spec, _ = KERNEL.launches(case.problem, case.config, machine.device)
    params = GemmParams.from_buffer_copy(spec.params)
    params.split_elements = far
    spec = replace(spec, params=params.pack())
    wide = np.zeros(far + expected.size, np.float32)
    a, b = machine.put(given["a"], 0), machine.put(given["b"], 0)
    workspace = machine.emulator.adopt(Lazily(wide))
    (launch,) = machine.emulator.load((spec,), machine.device)
    addresses = {"a": a, "b": b, "workspace": workspace}
    launch(spec.pack({name: one.pointer for name, one in addresses.items()} | {"bias": 0, "residual": 0}))
    total = (wide[: expected.size] + wide[far:]).reshape(expected.shape)
    np.testing.assert_array_equal(total, expected)


DIGITS = """
#include <gpuconv/ptx/global.cuh>
#include <gpuconv/tile/digits.cuh>
namespace gpuconv { struct Params { const long long* a; int* out; int low, mid; }; }
extern "C" __global__ void digits(const __grid_constant__ gpuconv::Params p) {
  using namespace gpuconv;
  const Radices radices{p.low, p.mid};
  const Digits first = radices.of(ptx::ld_global_nc(p.a + threadIdx.x));
  const Digits later = radices.advanced(first, 255);
  const Digits next = radices.sum(later, radices.of(200));
  int* to = p.out + 9 * threadIdx.x;
  const Digits all[] = {first, later, next};
  for (const Digits& each : all) {
    *to++ = each.low;
    *to++ = each.mid;
    *to++ = each.high;
  }
}
"""


@pytest.mark.parametrize(("low", "mid"), [(1, 1), (1, 7), (3, 1), (7, 5), (300, 200), (2**30 - 1, 2**30 - 1)])
def test_numbers_of_any_size_in_digits(has_compiler, tmp_path, low, mid):
    """Rows of the product and places of a sum are counted in 64 bits, and by steps from there."""
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "digits.cu").write_text(DIGITS)
    (tmp_path / "include").symlink_to(cuda_source_folder() / "include")
    emulator = Emulator(sources=tmp_path)
    largest = min(2**62, low * mid * (2**31 - 1000))
    numbers = [0, 1, low, low * mid - 1, low * mid, 12345, 2**31, 2**33 + 17, largest]
    numbers = np.array([min(each, largest) for each in numbers], np.int64)
    a, out = emulator.array(numbers), emulator.array(np.zeros((len(numbers), 3, 3), np.int32))
    spec = KernelSpec(
        Binary("digits.cu", (), "sm_80"),
        "digits",
        (1, 1, 1),
        (len(numbers), 1, 1),
        0,
        ("a", "out"),
        pack("ii", low, mid),
    )
    (launch,) = emulator.load((spec,), emulator.device(0))
    launch(spec.pack({"a": a.pointer, "out": out.pointer}))
    for number, got in zip(numbers.tolist(), out.get().tolist(), strict=True):
        for by, digits in zip((0, 255, 455), got, strict=True):
            rest, lowest = divmod(number + by, low)
            assert digits == [lowest, rest % mid, rest // mid]
