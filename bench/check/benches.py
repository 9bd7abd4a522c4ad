"""Places for probes: the GPU past the product's launcher, or the emulator."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.check.steps import Where
from tests.primitives import probes


def bench(where: Where) -> probes.Bench:
    """Where a step's probes run."""
    folder = where.state.folder / "cache" / "probes"
    if where.dry_run:
        where.machine  # noqa: B018  (raises Skip without a compiler)
        return probes.emulated(folder)
    return _OnGpu(where.machine, probes.assemble(folder))


class _OnGpu:
    """Compiles with NVRTC, loads and launches with CuPy alone."""

    def __init__(self, machine: Any, folder: Any) -> None:
        self._cupy, self._folder = machine.cupy, folder
        self.arch = machine.device.arch
        self.capability = machine.device.capability

    def launch(self, spec: Any, a: Any, out: int) -> Any:
        """See `tests.primitives.probes.Bench`."""
        from gpuconv.backend import jit

        cubin = jit.compile_all([spec.binary], self._folder)[spec.binary]
        module = self._cupy.cuda.function.Module()
        module.load(cubin)
        function = module.get_function(spec.entry)
        driver = self._cupy.cuda.driver
        if spec.smem_bytes > 48 * 1024:
            attribute = driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            driver.funcSetAttribute(function.ptr, attribute, spec.smem_bytes)
        source, target = self._cupy.asarray(a), self._cupy.zeros(out, np.uint32)
        packed = spec.pack({"a": source.data.ptr, "out": target.data.ptr})
        function(spec.grid, spec.block, (np.void(packed),), spec.smem_bytes)
        return self._cupy.asnumpy(target)
