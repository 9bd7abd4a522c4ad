"""Which plan runs a problem; the answer stays the same for the life of the process."""

from __future__ import annotations

import threading

from gpuconv import settings
from gpuconv.backend.device import Device
from gpuconv.errors import UnsupportedProblem
from gpuconv.kernels import registry
from gpuconv.plan import Plan
from gpuconv.problem import ConvProblem

_lock = threading.Lock()
_plans: dict[tuple[ConvProblem, Device, str | None, str | None], Plan] = {}


def plan_for(problem: ConvProblem, device: Device) -> Plan:
    """Find a plan, the same one for the same problem and device.

    GPUCONV_KERNEL and GPUCONV_CONFIG, where set, leave one choice.

    Raises
    ------
    UnsupportedProblem
        If no kernel takes the problem on the device; it carries every kernel's reason.
    ValueError
        If GPUCONV_KERNEL or GPUCONV_CONFIG names nothing legal.
    """
    name, config = settings.read("GPUCONV_KERNEL"), settings.read("GPUCONV_CONFIG")
    key = (problem, device, name, config)
    plan = _plans.get(key)
    if plan is None:
        plan = _choose(problem, device, name, config)
        with _lock:
            known = _plans.setdefault(key, plan)
        if known is plan:
            settings.log("plan", f"{plan}  # gpuconv problem '{problem}'")
        plan = known
    return plan


def _choose(problem: ConvProblem, device: Device, name: str | None, config: str | None) -> Plan:
    if config is not None and name is None:
        raise ValueError("GPUCONV_CONFIG: needs GPUCONV_KERNEL, whose parameters it gives")
    candidates = registry.kernels()
    if name is not None:
        try:
            candidates = (registry.by_name(name),)
        except ValueError as error:
            raise ValueError(f"GPUCONV_KERNEL: {error}") from None
    checked = [(kernel, kernel.check(problem, device)) for kernel in candidates]
    takers = [kernel for kernel, reject in checked if reject is None]
    if not takers:
        raise UnsupportedProblem(str(problem), str(device), [reject for _, reject in checked if reject])
    kernel = max(takers, key=lambda kernel: kernel.preference(problem, device))
    if config is None:
        return kernel.bind(problem, kernel.default_config(problem, device), device)
    try:
        cfg = kernel.config_type.parse(config)
    except ValueError as error:
        raise ValueError(f"GPUCONV_CONFIG: {error}") from None
    reject = kernel.check_config(problem, cfg, device)
    if reject is not None:
        raise ValueError(f"GPUCONV_CONFIG: {reject}")
    return kernel.bind(problem, cfg, device)
