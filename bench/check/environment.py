"""What there is: versions, the device, and whether a kernel compiles, loads and runs at all."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from bench.check.benches import bench
from bench.check.steps import Item, Skip, Where
from tests import bodies, cases
from tests.primitives import probes
from tests.problems import DTYPES, operands

PACKAGES = (
    *("numpy", "cupy-cuda13x", "cupy-cuda12x", "torch", "triton", "pytest", "ml_dtypes"),
    *("nvidia-cudnn-cu13", "nvidia-cudnn-frontend", "cuda-bindings", "platformdirs", "threadpoolctl"),
)
TOOLS = ("g++", "nvcc", "ncu", "compute-sanitizer", "nvidia-smi")


def items(where: Where) -> Iterable[Item]:
    """The smallest things first: what fails here tells why everything else does."""
    yield Item("versions", versions)
    yield Item("tools", tools)
    yield Item("device", lambda: device(where))
    yield Item("compiler", lambda: compiler(where))
    yield Item("first launch", lambda: first_launch(where))
    yield Item("all of a block's shared memory", lambda: large_shared(where))


def versions() -> dict[str, Any]:
    """Of Python and what is installed."""
    found = {"python": platform.python_version(), "system": platform.platform(), "cpus": os.cpu_count()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return {**found, "dtypes": list(DTYPES)}


def tools() -> dict[str, Any]:
    """Where each is, and the last line of what it says of itself."""
    return {name: _tool(name) for name in TOOLS}


def _tool(name: str) -> str | None:
    path = shutil.which(name)
    if path is None:
        return None
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{path}: {error}"
    return f"{path}: {(done.stdout.strip().splitlines() or ['says nothing'])[-1]}"


def device(where: Where) -> dict[str, Any]:
    """The device's facts; without one nothing can be checked, so that is a failure."""
    try:
        machine = where.machine
    except Skip as skip:
        raise RuntimeError(str(skip)) from None
    found = machine.device if not where.dry_run else where.timed_device
    if where.dry_run:
        return {"name": f"{found} with the emulator", "emulated": asdict(machine.device)}
    runtime = machine.cupy.cuda.runtime
    free, total = runtime.memGetInfo()
    facts = {
        "capability": list(found.capability),
        "sms": found.sms,
        "l2_bytes": found.l2_bytes,
        "driver": runtime.driverGetVersion(),
        "runtime": runtime.runtimeGetVersion(),
        "free_bytes": free,
        "total_bytes": total,
    }
    return {"name": found.name, "facts": facts, "device": asdict(found), "nvidia-smi": _smi()}


def _smi() -> str | None:
    """Clocks, power and temperature, in NVIDIA's words."""
    path = shutil.which("nvidia-smi")
    if path is None:
        return None
    names = ("driver_version", "clocks.sm", "clocks.mem", "clocks.max.sm", "power.draw", "temperature.gpu")
    command = [path, f"--query-gpu={','.join(names)}", "--format=csv"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip() or done.stderr.strip()


def compiler(where: Where) -> dict[str, Any]:
    """NVRTC's version, and what a kernel takes when it compiled."""
    if where.dry_run:
        from tests.emulator import build

        return {"emulator": build.compiler()}
    from dataclasses import replace

    from gpuconv.backend import detect, jit
    from gpuconv.kernels.cuda.direct import CudaDirect

    _, version = detect.nvrtc()
    case = bodies.default_case(bodies.POISONED[0], CudaDirect(), where.machine)
    (spec, *_) = case.kernel.launches(case.problem, replace(case.config), where.machine.device)
    return {"nvrtc": list(version), "resources": asdict(jit.resources(spec.binary))}


def first_launch(where: Where) -> dict[str, Any]:
    """One small problem through the product's own launcher, with exact integers."""
    from gpuconv.kernels.cuda.direct import CudaDirect

    case = bodies.default_case("fprop_n1c1h4w4k1r3s3_nchw_f32", CudaDirect(), where.machine)
    given = operands(case.problem, 1, integers=True)
    result = cases.run(case, where.machine, given)
    from gpuconv.validate import reference

    expected = reference.evaluate(case.problem, **given)
    assert (result == expected).all(), f"got {result.tolist()}, expected {expected.tolist()}"
    return {"config": str(case.config)}


def large_shared(where: Where) -> dict[str, Any]:
    """More than 48 KiB must be asked for; all that the device offers."""
    size = where.machine.device.smem_block
    got = probes.answer(probes.large_shared(size), bench(where))
    assert got.tolist() == [3 * (31 - i) + 1 for i in range(32)], got.tolist()
    return {"bytes": size}
