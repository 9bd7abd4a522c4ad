"""A launcher whose devices are made up: their memory is the host's, their kernels are the float64 oracle.

It counts what it is asked, and refuses where a test tells it to.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from gpuconv.backend.device import Device
from gpuconv.backend.launch import Binary, KernelSpec
from gpuconv.config import Config
from gpuconv.kernels import registry
from gpuconv.kernels.cpu.im2col_gemm import CpuIm2colGemm
from gpuconv.kernels.cpu.padded import CpuPadded
from gpuconv.kernels.cuda.base import CudaKernel
from gpuconv.kernels.work import Work
from gpuconv.problem import ConvProblem
from gpuconv.validate import reference

from .problems import NUMPY, operands, public_call

#: Problems to try on it.
PLAIN = ConvProblem.parse("fprop_n2c4h6w5k3r3s3p1_nchw_f32")
FUSED = ConvProblem.parse("fprop_n2c4h6w5k3r3s3p1_nhwc_f32+bias+res+relu")
POINTERS = ("a", "b", "out", "bias", "residual", "workspace")


class Where:
    def __init__(self, index: int) -> None:
        self.id = index


class DeviceArray:
    """The launcher's own kind: what it says about itself, and no way to read it as a NumPy array."""

    def __init__(self, values: Any, index: int = 0, read_only: bool = False) -> None:
        self.hidden, self.read_only = values, read_only
        self.device = Where(index)

    shape = property(lambda self: self.hidden.shape)
    strides = property(lambda self: self.hidden.strides)
    dtype = property(lambda self: self.hidden.dtype)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "version": 3,
            "shape": self.shape,
            "strides": self.strides,
            "typestr": self.dtype.str,
            "data": (self.hidden.__array_interface__["data"][0], self.read_only),
        }

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("the memory of a device was read from the host")

    def __getitem__(self, key: Any) -> DeviceArray:
        return DeviceArray(self.hidden[key], self.device.id)


class Foreign:
    """Another library's array: the interface, and a dtype and device of its own words."""

    def __init__(self, source: DeviceArray) -> None:
        self.source = source
        self.dtype, self.device = f"elsewhere.{source.dtype.name}", f"gpu number {source.device.id}"

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return self.source.__cuda_array_interface__


class DlpackOnly:
    """An array that can do nothing but hand itself on, from a device DLPack numbers `kind`."""

    def __init__(self, source: DeviceArray, kind: int = 2) -> None:
        self.source, self.kind = source, kind

    def __dlpack__(self, **options: Any) -> DeviceArray:
        return self.source

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.kind, self.source.device.id


class StandIn:
    """`gpuconv.backend.launch.Launcher` without a device."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.ran: list[str] = []  # entry and config of every launch that was made
        self.devices_used: list[int] = []
        #: By (load or launch, entry): what it raises, or what is called first and may raise.
        self.refusals: dict[tuple[str, str], BaseException | Callable[[], None]] = {}
        self.no_memory_for: tuple[str, ...] = ()

    def device(self, index: int) -> Device:
        if index > 1:
            raise RuntimeError(f"invalid device ordinal {index}")
        return Device("cuda", "stand-in", index=index, capability=(9, 0), sms=1, smem_block=232448)

    def adopt(self, array: Any) -> Any:
        self.counts["adopt"] += 1
        if isinstance(array, DeviceArray):
            return array
        source = array.__dlpack__() if hasattr(array, "__dlpack__") else array.source
        return DeviceArray(source.hidden, source.device.id)

    def empty(self, shape: tuple[int, ...], dtype: str, device: Device) -> Any:
        self.counts["empty"] += 1
        if dtype in self.no_memory_for:
            raise MemoryError(f"no room for {dtype}")
        made = np.empty(shape, np.uint8 if dtype == "u8" else NUMPY[dtype])
        made.reshape(-1).view(np.uint8)[...] = 0xFF  # NaN
        return DeviceArray(made, device.index)

    def put(self, values: Any, device: Device) -> Any:
        return DeviceArray(values.copy(), device.index)

    def get(self, array: Any) -> Any:
        return array.hidden.copy()

    def contiguous(self, array: Any) -> Any:
        if array.hidden.flags.c_contiguous:
            return array
        self.counts["contiguous"] += 1
        return DeviceArray(np.ascontiguousarray(array.hidden), array.device.id)

    def copy(self, source: Any, target: Any) -> None:
        self.counts["copy"] += 1
        target.hidden[...] = source.hidden

    def pointer(self, array: Any) -> int:
        return array.hidden.__array_interface__["data"][0]

    def load(self, specs: tuple[KernelSpec, ...], device: Device) -> tuple[Any, ...]:
        self.counts["load"] += 1
        for spec in specs:
            self._refuse("load", spec.entry)
        return tuple(self._launch(spec, device) for spec in specs)

    def _refuse(self, when: str, entry: str) -> None:
        found = self.refusals.get((when, entry))
        if isinstance(found, BaseException):
            raise found
        if found is not None:
            found()

    def _launch(self, spec: KernelSpec, device: Device) -> Any:
        defines = dict(spec.binary.defines)
        p = ConvProblem.parse(defines["PROBLEM"])

        def launch(packed: bytes) -> None:
            addresses = dict(zip(spec.pointers, struct.unpack("6Q", packed), strict=True))
            if spec.entry.startswith("scribble"):
                self.view(addresses["out"], p.operand_shapes[2], p)[...] = 99
                return
            self._refuse("launch", spec.entry)
            self.ran.append(f"{spec.entry}({defines['CONFIG']})")
            self.devices_used.append(device.index)
            self.compute(p, addresses)

        return launch

    @staticmethod
    def view(address: int, shape: tuple[int, ...], p: ConvProblem) -> Any:
        class Memory:
            def __init__(self, typestr: str) -> None:
                self.__array_interface__ = {
                    "version": 3, "shape": shape, "typestr": typestr, "data": (address, False),
                }  # fmt: skip

        size = np.dtype(NUMPY[p.dtype]).itemsize
        return np.asarray(Memory(f"|V{size}")).view(NUMPY[p.dtype])

    def compute(self, p: ConvProblem, addresses: dict[str, int]) -> None:
        shapes = dict(zip(("a", "b", "out"), p.operand_shapes, strict=True))
        shapes |= {"bias": (p.out_channels,), "residual": p.operand_shapes[2]}
        arrays = {
            name: self.view(addresses[name], shape, p) for name, shape in shapes.items() if addresses[name]
        }
        result = reference.evaluate(
            p, arrays["a"], arrays["b"], bias=arrays.get("bias"), residual=arrays.get("residual")
        )
        arrays["out"][...] = np.maximum(result, 0) if p.relu else result


@dataclass(frozen=True)
class Level(Config):
    """How much a made-up kernel asks for."""

    level: int = 2


class MadeUp(CudaKernel[Level]):
    """Describes one launch that names the problem; two more levels to fall back to if `levels` says so."""

    config_type = Level

    def __init__(
        self, name: str, rank: int = 0, *, scratch: int = 0, levels: int = 0, scribbles: bool = False
    ) -> None:
        self.name = name  # type: ignore[misc]
        self.rank, self.scratch, self.levels, self.scribbles = rank, scratch, levels, scribbles

    def check(self, p, device):
        return None if device.kind == "cuda" else self.reject("runs on CUDA devices only")

    def configs(self, p, device):
        return [Level(level) for level in range(3)]

    def check_config(self, p, cfg, device):
        return None if 0 <= cfg.level <= 2 else self.reject(f"level must be from 0 to 2, got {cfg.level}")

    def default_config(self, p, device):
        return Level()

    def fallback_configs(self, p, device):
        return [Level(2), Level(1), Level(0)][: self.levels]

    def works(self, p, cfg, device):
        return (Work(1, 32, 32, 0, 1e6 * (99 - self.rank), 0, 0, 0, 0, 0),)

    def workspace_bytes(self, p, cfg, device):
        return self.scratch * cfg.level

    def launches(self, p, cfg, device):
        def spec(entry):
            defines = (("PROBLEM", str(p)), ("CONFIG", str(cfg)))
            binary = Binary("made_up.cu", defines, device.arch)
            return KernelSpec(binary, entry, (1, 1, 1), (32, 1, 1), 0, POINTERS, b"")

        entry = self.name + str(cfg.level)
        return (spec(f"scribble_{entry}"), spec(entry)) if self.scribbles else (spec(entry),)


def on_device(given: dict[str, Any], index: int = 0) -> dict[str, Any]:
    """Operands put on a device."""
    return {
        name: None if array is None else DeviceArray(array.copy(), index) for name, array in given.items()
    }


def expected(p: ConvProblem, given: dict[str, Any]) -> Any:
    """What the CPU computes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "kernels", lambda: (CpuIm2colGemm(), CpuPadded()))
        return public_call(p, given)


def prepared(p: ConvProblem, index: int = 0) -> tuple[dict[str, Any], Any]:
    """Operands on a device and the right result; small integers, so that nothing is rounded."""
    given = operands(p, integers=True)
    return on_device(given, index), expected(p, given)


def same(result: Any, right: Any) -> None:
    """Judge a result on a device."""
    assert isinstance(result, DeviceArray)
    assert result.hidden.dtype == right.dtype
    np.testing.assert_array_equal(result.hidden, right)
