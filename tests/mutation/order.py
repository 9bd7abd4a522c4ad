"""Cases in an order in which few of them show much: every definition's every value comes early."""

from __future__ import annotations

from collections.abc import Iterator

from gpuconv.backend.device import Device
from tests.cases import Case


def features(case: Case, device: Device) -> Iterator[tuple[str, ...]]:
    """What a case has that another may lack: values, and pairs of them that faults hide in."""
    p = case.problem
    yield "op", p.op
    yield "arrays", p.op, p.layout, p.weights
    yield "dtype", p.dtype, p.op
    yield "offset", str(case.offset), p.dtype
    yield "sides", str(p.H == p.W), str(p.R == p.S), str(p.stride[0] == p.stride[1])
    yield "groups", str(min(p.groups, 3)), p.op, p.layout
    yield "epilogue", str(p.bias), str(p.residual), str(p.relu)
    for spec in case.kernel.launches(p, case.config, device):
        defines = dict(spec.binary.defines)
        for name, value in defines.items():
            yield spec.entry, name, value
        if spec.entry == "direct":
            pipeline = defines.get("STAGES", ""), defines.get("SPLITS", ""), defines.get("INTERLEAVED", "")
            yield "pipeline", *pipeline
            for unit, vector in (("IN_UNIT", "IN_VECTOR"), ("TAPS_UNIT", "TAPS_VECTOR")):
                yield "loads", unit, defines.get(unit, ""), defines.get(vector, ""), str(case.offset)
            yield "stores", defines.get("OUT_UNIT", ""), p.dtype, str(case.offset)
        if spec.entry in ("implicit_gemm_simt", "implicit_gemm_sm80"):
            yield spec.entry, "order", defines["IMAGES_FIRST"], defines["CHANNELS_FIRST"], p.op
            for name in ("IN", "TAPS"):
                form = defines[f"{name}_ALONG_DEPTH"], defines[f"{name}_VECTOR"]
                yield spec.entry, "loads", name, *form, str(case.offset)
            yield spec.entry, "stores", defines["OUT_ALONG_N"], p.dtype, str(case.offset)


def telling_first(cases: list[Case], device: Device) -> list[Case]:
    """Again and again the case that has most of what no case before it had, then from the start."""
    waiting = {case: set(features(case, device)) for case in cases}
    ordered: list[Case] = []
    new: set[tuple[str, ...]] = set().union(*waiting.values())
    everything = frozenset(new)
    while waiting:
        best = max(waiting, key=lambda case: len(waiting[case] & new))
        if not waiting[best] & new:
            if len(new) == len(everything):
                break
            new = set(everything)
            continue
        new -= waiting.pop(best)
        ordered.append(best)
    return [*ordered, *waiting]
