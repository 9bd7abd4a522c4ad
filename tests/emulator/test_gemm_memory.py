"""Offsets of the implicit matrix product beyond what 31 bits hold."""

from __future__ import annotations

from struct import pack

import numpy as np
import pytest

from gpuconv.backend.launch import Binary, KernelSpec
from gpuconv.backend.source import cuda_source_folder
from gpuconv.kernels.cuda.implicit_gemm_simt import CudaImplicitGemmSimt
from gpuconv.kernels.cuda.params import GemmParams
from tests.emulator import far
from tests.emulator.launcher import Emulator
from tests.emulator.machine import EmulatedMachine

KERNEL = CudaImplicitGemmSimt()


@pytest.fixture(scope="module")
def machine(has_compiler):
    return EmulatedMachine()


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
    far.check_split_offsets(KERNEL, machine, GemmParams)


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
