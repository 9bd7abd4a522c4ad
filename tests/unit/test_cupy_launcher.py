"""CuPy's launcher on a stand-in for CuPy that writes down what is asked of it."""

from __future__ import annotations

import gc
import sys
import types
import weakref

import numpy as np
import pytest

from gpuconv.backend import cupy_launcher, jit, launch
from gpuconv.backend.cupy_launcher import CupyLauncher
from gpuconv.backend.launch import Binary, KernelSpec
from gpuconv.errors import LaunchError, LaunchRefused

FACTS = {
    "name": b"Made-up 9000",
    "major": 9,
    "minor": 0,
    "multiProcessorCount": 132,
    "sharedMemPerBlockOptin": 232448,
    "sharedMemPerMultiprocessor": 233472,
    "l2CacheSize": 62914560,
}


class CudaError(RuntimeError):
    """As CuPy's: what counts is the status; the words mislead on purpose."""

    def __init__(self, status):
        super().__init__("out of memory, illegal address, invalid value")
        self.status = status


class Array(np.ndarray):
    """Host memory that lies on a device."""

    index = 0

    @property
    def device(self):
        return FakeCupy.now.cuda.Device(self.index)


class FakeCupy(types.ModuleType):
    """Devices, modules, functions and memory; `calls` is the record, `fail` names what fails and how."""

    now: FakeCupy

    def __init__(self):
        super().__init__("cupy")
        FakeCupy.now = self
        self.calls, self.fail, self.current, self.capturing = [], {}, 0, False
        fake = self

        def did(name, *args):
            fake.calls.append((name, *args))
            if name in fake.fail:
                raise fake.fail[name]

        class Device:
            def __init__(self, index):
                self.index = index

            def __enter__(self):
                self.before, fake.current = fake.current, self.index
                did("enter", self.index)

            def __exit__(self, *error):
                fake.current = self.before

        class Function:
            def __init__(self, name):
                self.ptr = name

            def __call__(self, grid, block, args, shared_mem=0):
                did("run", self.ptr, fake.current, grid, block, args, shared_mem)

        class Module:
            def load(self, cubin):
                did("load", cubin, fake.current)

            def get_function(self, name):
                did("function", name)
                return Function(name)

        driver = types.SimpleNamespace(
            CUDADriverError=CudaError,
            CU_FUNC_ATTRIBUTE_NUM_REGS=4,
            CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES=8,
            funcGetAttribute=lambda attribute, function: did("ask", function, attribute) or 40,
            funcSetAttribute=lambda function, attribute, value: did("allow", function, attribute, value),
        )
        runtime = types.SimpleNamespace(
            CUDARuntimeError=type("CUDARuntimeError", (CudaError,), {}),
            getDevice=lambda: fake.current,
            getDeviceProperties=lambda index: did("properties", index) or FACTS,
        )
        function = types.SimpleNamespace(Module=Module)
        stream = types.SimpleNamespace(is_capturing=lambda: fake.capturing)
        self.cuda = types.SimpleNamespace(
            Device=Device,
            driver=driver,
            runtime=runtime,
            function=function,
            get_current_stream=lambda: stream,
        )
        self.ndarray = Array
        self.did = did

    def empty(self, shape, dtype):
        self.did("empty", self.current, shape, np.dtype(dtype).name)
        return np.empty(shape, dtype).view(Array)

    def asarray(self, array):
        if isinstance(array, np.ndarray):
            self.did("upload", self.current)
            return array.copy().view(Array)
        self.did("asarray")
        return np.asarray(array.memory).view(Array)

    def asnumpy(self, array):
        self.did("download", self.current)
        return np.array(array)

    def from_dlpack(self, array):
        self.did("from_dlpack")
        return np.asarray(array.memory).view(Array)

    def ascontiguousarray(self, array):
        self.did("ascontiguousarray", self.current, array.dtype.name)
        return np.ascontiguousarray(array).view(Array)


@pytest.fixture
def cupy(monkeypatch):
    """The stand-in, with a compiler that gives each binary's name as its cubin."""
    fake = FakeCupy()
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setattr(jit, "compile_all", lambda binaries: {each: str(each).encode() for each in binaries})
    return fake


@pytest.fixture
def own(cupy):
    return CupyLauncher(cupy)


def spec(smem_bytes=0, entry="scale", file="scale.cu"):
    binary = Binary(file, (), "sm_90a")
    return KernelSpec(binary, entry, (7, 6, 5), (128, 1, 1), smem_bytes, ("a", "out"), b"\x05\0\0\0")


def test_it_is_the_one_at_work(monkeypatch, cupy):
    cupy_launcher.launcher.cache_clear()
    try:
        assert launch.current() is launch.current()
        assert isinstance(launch.current(), CupyLauncher)
        cupy_launcher.launcher.cache_clear()
        monkeypatch.setitem(sys.modules, "cupy", None)
        with pytest.raises(RuntimeError, match=r"need CuPy: CuPy is not installed; pip install 'gpuconv\["):
            launch.current()
    finally:
        cupy_launcher.launcher.cache_clear()


def test_facts_of_a_device(cupy, own):
    found = own.device(3)
    assert own.device(3) is found
    assert cupy.calls == [("properties", 3)]
    assert (found.kind, found.name, found.index, found.capability) == ("cuda", "Made-up 9000", 3, (9, 0))
    assert (found.arch, found.sms, found.l2_bytes) == ("sm_90a", 132, 62914560)
    assert (found.smem_block, found.smem_sm) == (232448, 233472)


def test_a_launch_passes_the_struct_by_value(cupy, own):
    (run,) = own.load((spec(1000),), own.device(0))
    cupy.calls.clear()
    packed = spec().pack({"a": 0x1122334455667788, "out": 1})
    assert run(packed) is None
    ((name, function, index, grid, block, args, smem),) = cupy.calls
    assert (name, function, index, grid, block, smem) == ("run", "scale", 0, (7, 6, 5), (128, 1, 1), 1000)
    (argument,) = args
    assert type(argument) is np.void  # an ndarray would cost twelve microseconds
    assert argument.tobytes() == packed
    assert len(packed) == 20


def test_a_launch_goes_to_its_own_device(cupy, own):
    (run,) = own.load((spec(),), own.device(2))
    cupy.calls.clear()
    run(b"1234")
    assert [call[:3] for call in cupy.calls] == [("enter", 2), ("run", "scale", 2)]
    assert cupy.current == 0
    cupy.current = 2
    cupy.calls.clear()
    run(b"1234")
    assert [call[:3] for call in cupy.calls] == [("run", "scale", 2)]  # nothing else: it may be under capture


def test_what_is_loaded_stays_loaded(cupy, own):
    one, other = spec(), spec(entry="add")
    own.load((one, other, spec(file="b.cu"), one), own.device(0))
    assert [call for call in cupy.calls if call[0] in ("load", "function")] == [
        ("load", b"scale.cu sm_90a", 0),
        ("function", "scale"),
        ("function", "add"),
        ("load", b"b.cu sm_90a", 0),
        ("function", "scale"),
    ]
    cupy.calls.clear()
    own.load((one, other), own.device(0))
    assert cupy.calls == [("enter", 0)]
    own.load((one,), own.device(1))
    assert ("load", b"scale.cu sm_90a", 1) in cupy.calls


def test_code_is_on_the_device_before_the_first_launch(cupy, own):
    own.load((spec(),), own.device(0))
    assert cupy.calls[-1] == ("ask", "scale", 4)


def test_shared_memory_is_asked_for_and_never_taken_back(cupy, own):
    sizes = [48 * 1024, 100_000, 60_000, 100_000, 200_000]
    own.load(tuple(spec(size) for size in sizes), own.device(0))
    allowed = [call for call in cupy.calls if call[0] == "allow"]
    assert allowed == [("allow", "scale", 8, 100_000), ("allow", "scale", 8, 200_000)]


REFUSED = [1, 2, 9, 98, 200, 209, 218, 222, 300, 500, 701, 720, 801]
FATAL = [4, 46, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 999]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, LaunchRefused) for status in REFUSED),
        *((status, LaunchError) for status in FATAL),
        *((status, CudaError) for status in (35, 100, 900, 901, 12345)),
    ],
)
def test_errors_go_by_their_status(cupy, own, status, kind):
    (run,) = own.load((spec(100_000),), own.device(0))
    cupy.fail = {"run": CudaError(status)}
    with pytest.raises(kind) as caught:
        run(b"1234")
    assert kind is CudaError or str(caught.value).startswith(
        "cuda:0 (Made-up 9000) does not run scale of scale.cu"
    )
    for step in ("load", "function", "ask", "allow"):
        fresh = CupyLauncher(cupy)
        cupy.fail = {step: cupy.cuda.runtime.CUDARuntimeError(status)}
        with pytest.raises(kind) as caught:
            fresh.load((spec(100_000),), own.device(0))
        assert kind is CudaError or "does not load scale of scale.cu sm_90a" in str(caught.value)


def test_a_failed_load_is_tried_again(cupy, own):
    cupy.fail = {"function": CudaError(701)}
    with pytest.raises(LaunchRefused):
        own.load((spec(),), own.device(0))
    cupy.fail = {}
    (run,) = own.load((spec(),), own.device(0))
    run(b"1234")


def test_memory_errors_pass(cupy, own):
    cupy.fail = {"empty": type("OutOfMemoryError", (MemoryError,), {})("no")}
    with pytest.raises(MemoryError):
        own.empty((3,), "f32", own.device(0))


@pytest.mark.parametrize(
    ("short", "name"),
    [("f16", "float16"), ("bf16", "bfloat16"), ("f32", "float32"), ("f64", "float64"), ("u8", "uint8")],
)
def test_new_memory(cupy, own, short, name):
    if short == "bf16":
        pytest.importorskip("ml_dtypes")
    array = own.empty((2, 3), short, own.device(1))
    assert ("empty", 1, (2, 3), name) in cupy.calls
    assert own.pointer(types.SimpleNamespace(data=types.SimpleNamespace(ptr=4096))) == 4096
    assert (array.shape, array.dtype.name) == ((2, 3), name)


def test_bfloat16_without_ml_dtypes(monkeypatch, own):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    cupy_launcher._bfloat16.cache_clear()
    with pytest.raises(RuntimeError, match=r"bfloat16 needs ml_dtypes: pip install 'gpuconv\[bf16\]'"):
        own.empty((2, 3), "bf16", own.device(0))


def foreign(dtype="f4", **names):
    memory = np.zeros(3, dtype)
    return types.SimpleNamespace(memory=memory, **names)


def test_arrays_of_others_are_viewed(cupy, own):
    array = np.zeros(3).view(Array)
    assert own.adopt(array) is array
    assert cupy.calls == []
    both = foreign(__dlpack__=None, __cuda_array_interface__={})
    assert own.adopt(both).base is both.memory
    assert own.adopt(foreign(__cuda_array_interface__={})).dtype == np.float32
    assert cupy.calls == [("from_dlpack",), ("asarray",)]


def test_arrays_that_cannot_be_viewed(cupy, own):
    with pytest.raises(TypeError, match="CUDA arrays must be in this machine's byte order, got >f4"):
        own.adopt(foreign(">f4", __dlpack__=None))
    for error in (BufferError("requires grad"), NotImplementedError("no bfloat16"), RuntimeError("sparse")):
        cupy.fail = {"from_dlpack": error}
        with pytest.raises(TypeError, match="CuPy cannot take a SimpleNamespace: ") as caught:
            own.adopt(foreign(__dlpack__=None))
        assert str(error) in str(caught.value)
    cupy.fail = {"from_dlpack": CudaError(700)}
    with pytest.raises(LaunchError, match=r"CuPy cannot view a SimpleNamespace: .* is lost to this process"):
        own.adopt(foreign(__dlpack__=None))
    cupy.fail = {"from_dlpack": CudaError(35)}  # the driver is too old: no fault of the argument's
    with pytest.raises(CudaError):
        own.adopt(foreign(__dlpack__=None))


def test_bytes_to_the_device_and_back(cupy, own):
    values = np.arange(9, dtype=np.uint8)
    there = own.put(values, own.device(1))
    assert there is not values
    there.index = 1
    assert own.get(there).tobytes() == values.tobytes()
    assert [call for call in cupy.calls if call[0] != "properties"] == [
        ("enter", 1), ("upload", 1), ("enter", 1), ("download", 1),
    ]  # fmt: skip
    # what an earlier launch did is told by the copy that waits for it
    cupy.fail["download"] = cupy.cuda.runtime.CUDARuntimeError(700)
    with pytest.raises(LaunchError, match="nothing can be read"):
        own.get(there)


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_copies(cupy, own, name):
    dtype = np.dtype(name if name != "bfloat16" else pytest.importorskip("ml_dtypes").bfloat16)
    values = np.arange(12).reshape(3, 4).astype(dtype)
    straight, turned = values.view(Array), values.T.view(Array)
    turned.index = 1
    straight.flags.c_contiguous  # noqa: B018 - NumPy's flags stand in for CuPy's
    assert own.contiguous(straight) is straight
    assert cupy.calls == []
    made = own.contiguous(turned)
    assert made.dtype == dtype
    assert made.flags.c_contiguous
    assert made.tobytes() == values.T.tobytes()
    moved = "uint16" if name == "bfloat16" else name  # CuPy's kernels for bfloat16 need headers
    assert cupy.calls == [("enter", 1), ("ascontiguousarray", 1, moved)]
    target = np.zeros((4, 3), dtype).T.view(Array)
    own.copy(straight, target)
    assert target.tobytes() == values.tobytes()


def test_memory_of_a_captured_graph_is_never_given_back(cupy, own):
    gone = weakref.ref(own.empty((3,), "f32", own.device(0)))
    assert gone() is None
    cupy.capturing = True
    kept = weakref.ref(own.empty((3,), "f32", own.device(0)))
    copied = weakref.ref(own.contiguous(np.zeros((3, 4)).T.view(Array)).base)
    cupy.capturing = False
    gc.collect()
    assert kept() is not None
    assert copied() is not None


def test_launches_are_logged_when_asked(monkeypatch, capsys, own):
    (silent,) = own.load((spec(),), own.device(0))
    silent(b"1234")
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("GPUCONV_LOG", "launch")
    (run,) = own.load((spec(50_000, entry="add"),), own.device(0))
    run(b"1234")
    assert capsys.readouterr().err.splitlines() == [
        "gpuconv launch: add of scale.cu sm_90a loaded: 40 registers",
        "gpuconv launch: add grid 7x6x5 block 128x1x1 shared 50000 on cuda:0 (Made-up 9000)",
    ]
