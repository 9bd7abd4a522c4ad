"""CUDA arrays through the public door: what is taken, where it runs, what comes back; on stand-in devices."""

from __future__ import annotations

import sys

import ml_dtypes
import numpy as np
import pytest

import gpuconv
from gpuconv import dispatch
from gpuconv.backend import launch
from gpuconv.backend.device import Device
from gpuconv.errors import LaunchError
from gpuconv.problem import OPS, ConvProblem

from ..problems import NAMED, NUMPY, operands, public_call, with_op
from ..stand_in import FUSED, PLAIN, DeviceArray, DlpackOnly, Foreign, MadeUp, expected, prepared, same


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("text", NAMED.values())
def test_right_results(card, text, op):
    p = with_op(text, op)
    given, right = prepared(p)
    for _ in range(2):  # cold and warm
        same(public_call(p, given), right)
    assert len(card.ran) == (2 if right.size else 0)
    assert card.counts["contiguous"] == card.counts["copy"] == 0


@pytest.mark.parametrize("dtype", NUMPY)
@pytest.mark.parametrize("kind", [Foreign, DlpackOnly, lambda source: DlpackOnly(source, 13)])
def test_arrays_of_other_libraries(card, kind, dtype):
    p = ConvProblem.parse(str(FUSED).replace("f32", dtype))
    given, right = prepared(p)
    wrapped = {name: kind(array) for name, array in given.items()}
    for _ in range(2):
        same(public_call(p, wrapped), right)
    out = kind(DeviceArray(np.zeros_like(right)))
    assert public_call(p, wrapped, out=out) is out
    same(out.source, right)


def test_libraries_may_be_mixed(card):
    given, right = prepared(PLAIN)
    same(gpuconv.conv2d(Foreign(given["a"]), DlpackOnly(given["b"]), padding=1), right)


def test_no_gpu_library_is_imported(card):
    given, _ = prepared(PLAIN)
    before = set(sys.modules)
    public_call(PLAIN, {name: array and DlpackOnly(array) for name, array in given.items()})
    assert not {name.split(".")[0] for name in set(sys.modules) - before} & {"cupy", "torch", "jax"}


class Typed:
    """An interface of a given typestr, beside a dtype of the library's own."""

    def __init__(self, typestr, dtype=None, data=(4096, False)):
        self.__cuda_array_interface__ = {"shape": (1, 1, 3, 3), "typestr": typestr, "data": data}
        self.dtype = dtype


class Grown(DlpackOnly):
    """DLPack whose question about the device fails."""

    def __dlpack_device__(self):
        raise RuntimeError("asked too early")


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (Typed("<V2"), r"^x must have dtype .*, got \|V2 without a name"),
        (Typed("<V2", np.dtype("V2")), r"^x must have dtype .*, got \|V2 without a name"),
        (Typed(">f4"), r"^x must have the device's byte order, got dtype >f4"),
        (Typed("<f4", data=None), r"^x has a damaged __cuda_array_interface__"),
        (DlpackOnly(DeviceArray(np.ones(1)), 1), r"^x must be .* on the CPU; numpy\.from_dlpack\(x\)"),
        (DlpackOnly(DeviceArray(np.ones(1)), 10), r"^x must be .* device that DLPack numbers 10"),
        (Grown(DeviceArray(np.ones(1))), r"^x has a damaged __dlpack_device__: asked too early"),
        (DeviceArray(np.ones((1, 1, 3, 3), np.int8)), r"^x must have dtype .*, got int8"),
        (DeviceArray(np.ones((1, 1, 3, 3), ">f4")), r"^x must have the device's byte order"),
    ],
)
def test_what_cannot_be_taken_says_why(card, x, message):
    with pytest.raises(TypeError, match=message) as raised:
        gpuconv.conv2d(x, x)
    assert "\n" not in str(raised.value)


def test_two_bytes_that_the_library_calls_bfloat16(card):
    x = DeviceArray(np.ones((1, 1, 3, 3), ml_dtypes.bfloat16))
    assert Foreign(x).__cuda_array_interface__["typestr"] == "<V2"
    assert gpuconv.conv2d(Foreign(x), Foreign(x)).hidden == ml_dtypes.bfloat16(9)


def test_an_array_that_the_launcher_cannot_take(card, monkeypatch):
    x = DeviceArray(np.ones((1, 1, 3, 3), np.float32))
    for error, kind, message in (
        (BufferError("too many\ndimensions"), TypeError, "^x cannot be viewed .*: too many dimensions$"),
        (KeyError("driver"), RuntimeError, r"^CUDA arrays need CuPy \(pip install 'gpuconv\[cuda13\]'\)"),
        (LaunchError("lost"), LaunchError, "^lost$"),
    ):

        def adopt(array, error=error):
            raise error

        monkeypatch.setattr(card, "adopt", adopt)
        with pytest.raises(kind, match=message):
            gpuconv.conv2d(x, x)


def test_without_cupy_the_error_says_what_to_install(monkeypatch):
    def current():
        raise ModuleNotFoundError("No module named 'cupy'")

    monkeypatch.setattr(launch, "current", current)
    x = Foreign(DeviceArray(np.ones((1, 1, 3, 3), np.float32)))
    message = r"CuPy \(pip install 'gpuconv\[cuda13\]'\).*No module named 'cupy'"
    for call in (lambda: gpuconv.conv2d(x, x), lambda: gpuconv.conv2d_bias_grad(x)):
        with pytest.raises(RuntimeError, match=message):
            call()
    with pytest.raises(gpuconv.UnsupportedProblem, match=message):
        dispatch.plan_for(PLAIN, Device("cuda", "device 0"))
    # what is wrong anyway is told first
    with pytest.raises(TypeError, match=r"^w must be on a CUDA device like x"):
        gpuconv.conv2d(x, np.ones((1, 1, 3, 3), np.float32))
    with pytest.raises(TypeError, match=r"^w must be a NumPy array or a CUDA array, got list"):
        gpuconv.conv2d(x, [1])


@pytest.mark.parametrize("how", ["every second", "transposed", "reversed", "broadcast"])
@pytest.mark.parametrize("name", ["a", "b", "bias", "residual"])
def test_inputs_that_are_not_contiguous_are_copied_once_and_logged(card, monkeypatch, capsys, how, name):
    given, _ = prepared(FUSED)
    values = given[name].hidden
    if how == "every second":
        values = np.repeat(values, 2, axis=-1)[..., ::2]
    elif how == "transposed":
        values = np.asfortranarray(values) if values.ndim > 1 else np.stack([values, values], 1)[:, 0]
    elif how == "reversed":
        values = values[..., ::-1]
    else:
        values = np.broadcast_to(values.reshape(-1)[1], values.shape)
    right = expected(FUSED, {k: values if k == name else v.hidden for k, v in given.items()})
    monkeypatch.setenv("GPUCONV_LOG", "launch")
    same(public_call(FUSED, {**given, name: DeviceArray(values)}), right)
    assert card.counts["contiguous"] == 1
    (line,) = capsys.readouterr().err.splitlines()
    public = {"a": "x", "b": "w"}.get(name, name)
    assert line.startswith(f"gpuconv launch: {public} is not contiguous and is copied")
    same(public_call(FUSED, given), expected(FUSED, {k: v.hidden for k, v in given.items()}))
    assert capsys.readouterr().err == ""


def test_elements_between_addresses_are_refused(card):
    room = np.zeros(9 * 4 + 1, np.uint8)
    between = DeviceArray(room[1:].view(np.float32).reshape(1, 1, 3, 3))
    pairs = np.zeros((1, 1, 3, 3), [("mark", "u1"), ("value", "<f4")])
    x = DeviceArray(np.ones((1, 1, 3, 3), np.float32))
    for wrong in (between, DeviceArray(pairs["value"])):
        with pytest.raises(ValueError, match=r"^w must have elements at multiples of their 4 bytes"):
            gpuconv.conv2d(x, wrong)
        with pytest.raises(ValueError, match=r"^out must have elements at multiples of their 4 bytes"):
            gpuconv.conv2d(x, DeviceArray(np.ones((1, 1, 1, 1), np.float32)), out=wrong)
    assert not card.ran


# --- which device ---


def test_arrays_run_on_their_own_device(card):
    for index in (1, 0, 1):
        given, right = prepared(FUSED, index)
        result = public_call(FUSED, given)
        same(result, right)
        assert result.device.id == index
    assert card.devices_used == [1, 0, 1]


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("name", ["b", "bias", "residual", "out"])
@pytest.mark.parametrize("kind", [DeviceArray, DlpackOnly, np.asarray])
def test_devices_do_not_mix(card, name, kind, warm):
    given, right = prepared(FUSED)
    given["out"] = DeviceArray(np.zeros_like(right))
    if warm:
        public_call(FUSED, given, out=given["out"])
    values = given[name].hidden.copy()
    strange = values if kind is np.asarray else DeviceArray(values, 1)
    given[name] = DlpackOnly(strange) if kind is DlpackOnly else strange
    before = len(card.ran)
    public = {"b": "w"}.get(name, name)
    with pytest.raises(TypeError, match=rf"^{public} must be on .* it is on (cuda:1|the CPU)"):
        public_call(FUSED, given, out=given["out"])
    assert len(card.ran) == before


@pytest.mark.parametrize("name", ["b", "bias", "residual", "out"])
def test_nothing_on_a_device_goes_with_numpy_arrays(card, name):
    given = operands(FUSED, integers=True)
    given["out"] = expected(FUSED, given)
    given[name] = DeviceArray(given[name])
    public = {"b": "w"}.get(name, name)
    with pytest.raises(TypeError, match=rf"^{public} must be on cpu .* it is on a CUDA device"):
        public_call(FUSED, given, out=given["out"])
    assert not card.counts


# --- results ---


def test_a_warm_call_allocates_its_result_and_no_more(card):
    given, right = prepared(FUSED)
    public_call(FUSED, given)
    card.counts.clear()
    public_call(FUSED, given)
    assert card.counts == {"adopt": 4, "empty": 1}
    out = DeviceArray(np.zeros_like(right))
    card.counts.clear()
    assert public_call(FUSED, given, out=out) is out
    assert card.counts == {"adopt": 5}
    same(out, right)


@pytest.mark.parametrize("how", ["transposed", "every second", "reversed", "padded"])
def test_out_of_any_strides(card, how):
    given, right = prepared(PLAIN)
    room = np.full((2, *right.shape), 7, np.float32)
    if how == "transposed":
        values = room[0].reshape(right.shape[::-1]).T
    elif how == "every second":
        values = np.moveaxis(room, 0, -1)[..., 1]
        values = np.full((*right.shape[:-1], 2 * right.shape[-1]), 7, np.float32)[..., 1::2]
    elif how == "reversed":
        values = room[0][:, ::-1]
    else:
        values = np.full((2, 9, 9, 9), 7, np.float32)[:, 1:4, 2:8, 3:8]
    out = DeviceArray(values)
    for kind in (lambda array: array, Foreign):
        values[...] = 7
        card.counts.clear()
        given_out = kind(out)
        assert public_call(PLAIN, given, out=given_out) is given_out
        same(out, right)
        assert (card.counts["empty"], card.counts["copy"]) == (1, 1)
    whole = values if values.base is None else values.base
    assert (whole == 7).sum() >= whole.size - right.size - (right == 7).sum()


@pytest.mark.parametrize("kind", [lambda array: array, Foreign])
def test_out_is_checked_and_left_alone(card, kind):
    given, right = prepared(PLAIN)
    x = given["a"].hidden

    def out(values, **options):
        return kind(DeviceArray(values, **options))

    square = np.full((4, 4, 3, 3), 7, np.float32)  # an input whose result has its shape
    one = DeviceArray(np.ones((4, 4, 1, 1), np.float32))
    doubled = np.full((2, *right.shape), 7, np.float32)
    for wrong, error, message in (
        (out(np.full_like(right, 7), read_only=True), ValueError, "^out must be writeable"),
        (out(np.full(right.shape, 7.0)), TypeError, "^out must have dtype float32"),
        (out(np.full(right.shape[1:], 7, np.float32)), ValueError, "^out must have shape"),
        (
            out(np.broadcast_to(np.full(1, 7, np.float32), right.shape)),
            ValueError,
            "^out must not overlap it",
        ),
    ):
        with pytest.raises(error, match=message):
            public_call(PLAIN, given, out=wrong)
        assert (getattr(wrong, "source", wrong).hidden == 7).all()
    for array, place in ((square, square), (square, square[::-1])):
        with pytest.raises(ValueError, match=r"^out must not overlap x"):
            gpuconv.conv2d(kind(DeviceArray(array)), one, out=out(place))
    assert (square == 7).all()
    for stride in (0, "1"):
        with pytest.raises((TypeError, ValueError), match=r"^stride"):
            gpuconv.conv2d(given["a"], given["b"], stride=stride, out=out(doubled[0]))
    assert (doubled == 7).all()
    assert not card.ran
    # neighbours in one block of memory are apart, interleaved ones too
    for first, second in ((doubled[0], doubled[1]), (doubled[..., ::2, :][0], doubled[..., 1::2, :][0])):
        first[...] = 1
        pointwise = DeviceArray(np.eye(3, dtype=np.float32)[:, :, None, None])
        gpuconv.conv2d(kind(DeviceArray(first)), pointwise, out=out(second))
        assert (second == 1).all()
    assert (x == given["a"].hidden).all()


def test_a_shared_end_is_an_overlap_and_a_shared_border_is_none(card):
    one = DeviceArray(np.full((1, 1, 1, 1), 2, np.float32))
    room = np.ones(10, np.float32)
    x = DeviceArray(room[:5][None, None, None])
    for apart, shared in ((room[5:], room[4:9]), (room[5:][::-1], room[4:9][::-1])):
        with pytest.raises(ValueError, match=r"^out must not overlap x"):
            gpuconv.conv2d(x, one, out=DeviceArray(shared[None, None, None]))
        assert (room[:5] == 1).all()
        gpuconv.conv2d(x, one, out=DeviceArray(apart[None, None, None]))
        assert (room == [1] * 5 + [2] * 5).all()


def test_an_empty_out(card):
    nothing = np.zeros((0, 1, 3, 3), np.float32)
    out = DeviceArray(nothing)
    w = DeviceArray(np.ones((1, 1, 1, 1), np.float32))
    assert gpuconv.conv2d(DeviceArray(nothing), w, out=out) is out
    assert not card.ran


def test_a_bias_that_overlaps_out(card):
    given, right = prepared(FUSED)
    room = np.zeros(right.size + 3, np.float32)
    out, bias = room[: right.size].reshape(right.shape), room[right.size - 1 :][:3]
    with pytest.raises(ValueError, match=r"^out must not overlap bias"):
        public_call(FUSED, {**given, "bias": DeviceArray(bias)}, out=DeviceArray(out))
    same(public_call(FUSED, given, out=DeviceArray(out)), right)


def test_too_little_memory_for_the_result_is_no_failure_of_a_plan(card, kernels):
    kernels(MadeUp("first", 2), MadeUp("second"))
    given, right = prepared(PLAIN)
    card.no_memory_for = ("f32",)
    strided = DeviceArray(np.full((*right.shape, 2), 7, np.float32)[..., 0])
    for out in (None, strided):
        with pytest.raises(MemoryError, match=r"^no room for f32$"):
            public_call(PLAIN, given, out=out)
    assert (strided.hidden == 7).all()
    card.no_memory_for = ()
    same(public_call(PLAIN, given), right)
    assert card.ran == ["first2(level=2)"]


def test_bias_gradients_of_wrong_shapes(card):
    with pytest.raises(ValueError, match=r"^grad_out must have four"):
        gpuconv.conv2d_bias_grad(DeviceArray(np.ones(3, np.float32)))


def test_cpu_calls_do_not_ask_for_a_launcher(monkeypatch):
    def current():
        raise AssertionError("a launcher was asked for")

    monkeypatch.setattr(launch, "current", current)
    x = np.ones((1, 1, 3, 3), np.float32)
    gpuconv.conv2d(x, x, out=np.zeros((1, 1, 1, 1), np.float32))
    gpuconv.conv2d_bias_grad(x)
