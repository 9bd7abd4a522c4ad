"""Configs and geometries that pairs alone do not bring together."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from gpuconv.backend.launch import Binary, KernelSpec
from gpuconv.backend.source import cuda_source_folder
from gpuconv.kernels.cuda.direct import CudaDirect
from tests import bodies, cases
from tests.emulator.launcher import SCHEDULES, Emulator
from tests.emulator.machine import EmulatedMachine

KERNEL = CudaDirect()
TOGETHER = (
    # strides that differ, with more than one block of rows
    # dilations that differ, with columns of taps in chunks
    ("fprop_n1c2h70w45k3r3s2u3x2p1d1x2_nchw_f32", {}),
    ("wgrad_n1c2h70w45k3r3s2u3x2p1d1x2_nchw_f32", {}),
    # classes whose multiplier is not its own inverse: from a period of 5 on
    ("dgrad_n1c2h33w33k3r8s8u5p3d2_nchw_f32", {}),
    # bias of planes after a split
    ("fprop_n2c8h4w4k3r3s3_nchw_f32+bias+res+relu", {"block_c": 1, "splits": 3}),
    # a single row, whose length need not be a multiple of the vector
    ("fprop_n1c1h1w22k2r1s5p0x2_nchw_f32", {}),
    # cp.async of neighbours that lie apart in shared memory
    ("fprop_n1c24h6w6k24r3s3p1g24_nhwc-hwio_f32",
     {"block_k": 2, "thread_k": 1, "thread_p": 2, "stages": 2, "block_g": 16, "block_p": 2, "block_q": 8}),
    # stages, alone and with splits; more stages than buffers, and fewer
    ("fprop_n1c10h7w9k8r3s3p1_nhwc_f32", {"stages": 2, "block_c": 2}),
    ("fprop_n1c10h7w9k8r3s3p1_nchw_f64", {"stages": 3, "block_c": 1, "splits": 3}),
    ("fprop_n1c1h30w40k1r5s5p2_nchw_f32", {"stages": 3, "taps_r": 1}),
    ("dgrad_n1c3h9w9k2r3s3u2p1_nhwc_f32", {"stages": 4}),
    ("wgrad_n5c4h9w10k6r3s3_nchw_f32", {"stages": 2, "taps_r": 2, "splits": 2}),
)  # fmt: skip


@pytest.fixture(scope="module")
def machines(has_compiler):
    return [EmulatedMachine(schedule) for schedule in SCHEDULES]


@pytest.mark.parametrize(("text", "more"), TOGETHER)
def test_together(machines, text, more):
    case = bodies.default_case(text, KERNEL, machines[0], **more)
    assert KERNEL.check_config(case.problem, case.config, machines[0].device) is None
    cases.check(case, machines)


def test_poison_where_threads_do_not_slide(machines):
    case = bodies.default_case(
        "fprop_n1c1h20w19k1r17s17p8_nchw_f32", KERNEL, machines[0], taps_r=16, taps_s=17, block_c=1
    )
    bodies.check_poison(case, machines[0])


ELEMENTS = """
#include <gpuconv/ptx/global.cuh>
#include <gpuconv/tile/element.cuh>
namespace gpuconv { struct Params { const float* a; bf16* out; }; }
extern "C" __global__ void narrowed(const __grid_constant__ gpuconv::Params p) {
  using namespace gpuconv;
  const int at = blockIdx.x * 256 + threadIdx.x;
  ptx::st_global(p.out + at, narrow<bf16>(ptx::ld_global_nc(p.a + at)));
}
"""


def test_bfloat_rounding_of_every_exponent_sign_and_nan(has_compiler, tmp_path):
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "elements.cu").write_text(ELEMENTS)
    (tmp_path / "include").symlink_to(cuda_source_folder() / "include")
    emulator = Emulator(sources=tmp_path)
    high = np.arange(2**16, dtype=np.uint32) << 16
    for low in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF):
        values = (high | low).view(np.float32)
        a, out = emulator.array(values), emulator.array(np.zeros(values.shape, np.uint16))
        binary, each = Binary("elements.cu", (), "sm_80"), (256, 1, 1)
        spec = KernelSpec(binary, "narrowed", each, each, 0, ("a", "out"), b"")
        (launch,) = emulator.load((spec,), emulator.device(0))
        launch(spec.pack({"a": a.pointer, "out": out.pointer}))
        got = out.get()
        nan = np.isnan(values)
        np.testing.assert_array_equal(got[~nan], values[~nan].astype(ml_dtypes.bfloat16).view(np.uint16))
        assert (got[nan] == 0x7FFF).all()
