"""The public functions on CUDA arrays, through dispatch, the launcher's seam and the real kernels."""

from __future__ import annotations

import numpy as np
import pytest

import gpuconv
from gpuconv.backend.launch import using
from gpuconv.errors import CompileError, LaunchRefused
from gpuconv.problem import OPS
from gpuconv.validate import reference
from tests.emulator.launcher import BareDLPack, BareInterface, DeviceArray, Emulator
from tests.problems import NAMED, NUMPY, operands, public_call, with_op


@pytest.fixture
def emulator(has_compiler):
    made = Emulator()
    with using(made):
        yield made


def on_device(emulator, given, **how):
    return {name: None if array is None else emulator.array(array, **how) for name, array in given.items()}


def exact(p, given):
    found = reference.evaluate(p, **given)
    return (np.maximum(found, 0) if p.relu else found).astype(NUMPY[p.dtype])


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("name", NAMED)
def test_named_problems(emulator, name, op):
    p = with_op(NAMED[name], op)
    given = operands(p, integers=True)
    result = public_call(p, on_device(emulator, given))
    assert isinstance(result, DeviceArray)
    np.testing.assert_array_equal(result.get(), exact(p, given), strict=True)
    # warm, from bare interfaces, at other addresses and into an array of the caller's
    arrays = on_device(emulator, given, offset=1)
    for bare in (BareDLPack, BareInterface):
        if bare is BareInterface and p.dtype == "bf16":
            continue  # the interface has no name for it
        out = emulator.array(np.full(p.operand_shapes[2], np.nan, NUMPY[p.dtype]), offset=3)
        given_ = {key: None if array is None else bare(array) for key, array in arrays.items()}
        assert public_call(p, given_, out=out) is out
        np.testing.assert_array_equal(out.get(), exact(p, given), strict=True)


@pytest.mark.parametrize("op", OPS)
def test_any_strides(emulator, op):
    p = with_op("fprop_n2c4h7w9k6r3s3p1_nhwc_f32", op)
    given = operands(p, integers=True)
    strided = {}
    for name in ("a", "b"):
        wide = np.full((*given[name].shape[:3], 2 * given[name].shape[3]), np.nan, np.float32)
        wide[..., ::2] = given[name]
        strided[name] = emulator.array(wide)[..., ::2]
    out = emulator.array(np.full((*p.operand_shapes[2][:3], 2 * p.operand_shapes[2][3]), 7, np.float32))
    public_call(p, {**strided, "bias": None, "residual": None}, out=out[..., 1::2])
    np.testing.assert_array_equal(out.get()[..., 1::2], exact(p, given))
    assert (out.get()[..., ::2] == 7).all()


@pytest.mark.parametrize(
    ("error", "step"),
    [(CompileError, "load"), (LaunchRefused, "load"), (LaunchRefused, "launch"), (MemoryError, "empty")],
)
def test_a_refused_plan_falls_through(emulator, error, step):
    # its sum is split, so that the first plan asks for memory of its own
    p = with_op(f"fprop_n4c3h40w{30 + len(step)}k2r3s3_nchw_f32", "wgrad")
    given = operands(p, integers=True)
    out = emulator.array(np.full(p.operand_shapes[2], np.nan, np.float32))
    arrays = on_device(emulator, given)
    emulator.fail_next(error, at=step)
    with pytest.warns(RuntimeWarning, match="cuda_direct") as caught:
        public_call(p, arrays, out=out)
    assert len(caught) == 1
    np.testing.assert_array_equal(out.get(), exact(p, given))
    np.testing.assert_array_equal(public_call(p, arrays).get(), exact(p, given))


def test_a_forced_config(emulator, monkeypatch):
    p = with_op(NAMED["plain 3x3"], "fprop")
    given = operands(p, integers=True)
    monkeypatch.setenv("GPUCONV_KERNEL", "cuda_direct")
    monkeypatch.setenv("GPUCONV_CONFIG", "block_p=4,block_q=16,block_k=8,thread_k=2,stages=3")
    np.testing.assert_array_equal(public_call(p, on_device(emulator, given)).get(), exact(p, given))
    assert dict(emulator.launched[-1].binary.defines)["STAGES"] == "3"
    monkeypatch.setenv("GPUCONV_CONFIG", "thread_k=3")
    with pytest.raises(ValueError, match=r"^GPUCONV_CONFIG: cuda_direct: thread_k must divide block_k=16"):
        public_call(p, on_device(emulator, given))


def test_host_and_device_do_not_mix(emulator):
    x, w = np.ones((1, 1, 4, 4), np.float32), np.ones((1, 1, 3, 3), np.float32)
    with pytest.raises(TypeError, match=r"^w must be on cpu"):
        gpuconv.conv2d(x, emulator.array(w))


def test_the_same_bits_again(emulator):
    p = with_op("fprop_n2c8h20w20k8r3s3p1_nchw_f32", "wgrad")
    arrays = on_device(emulator, operands(p))
    first = public_call(p, arrays).get()
    assert public_call(p, arrays).get().tobytes() == first.tobytes()
