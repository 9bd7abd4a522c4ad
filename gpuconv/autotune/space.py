"""What is worth trying on a problem, most promising first; the first is what runs untuned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from itertools import chain, zip_longest
from typing import Any

from gpuconv.autotune.heuristic import Candidate, predicted, ranked
from gpuconv.backend.device import Device
from gpuconv.errors import Reject
from gpuconv.kernels import registry
from gpuconv.kernels.base import HOPELESS, Kernel
from gpuconv.problem import ConvProblem


def takers(
    p: ConvProblem, device: Device, kernels: Sequence[Kernel[Any]] | None = None
) -> tuple[list[Kernel[Any]], list[Reject]]:
    """The kernels that take a problem, and why the others do not."""
    checked = [
        (kernel, kernel.check(p, device)) for kernel in (registry.kernels() if kernels is None else kernels)
    ]
    found = [kernel for kernel, reject in checked if reject is None]
    return found, [reject for _, reject in checked if reject is not None]


def by_preference(p: ConvProblem, kernels: Iterable[Kernel[Any]], device: Device) -> list[Candidate]:
    """Default configs of a CPU's kernels in the order of a fixed rank."""
    order = sorted(kernels, key=lambda kernel: kernel.preference(p, device), reverse=True)
    return [Candidate(kernel, kernel.default_config(p, device)) for kernel in order]


def configs(p: ConvProblem, kernel: Kernel[Any], device: Device) -> list[Any]:
    """All that a kernel has to offer: nothing else is ever tried, or taken from a file."""
    return list(dict.fromkeys([*kernel.candidates(p, device), *kernel.configs(p, device)]))


def live(p: ConvProblem, device: Device, name: str, config: Mapping[str, int]) -> Candidate | None:
    """A kernel and a config by name and fields, if they are among those that would be tried today."""
    try:
        kernel = registry.by_name(name)
    except ValueError:
        return None
    if kernel not in worth_a_try(p, device):
        return None
    if set(config) != {one.name for one in fields(kernel.config_type)}:
        return None
    found = kernel.config_type(**config)
    if found not in configs(p, kernel, device) or kernel.check_config(p, found, device) is not None:
        return None
    return Candidate(kernel, found)


def proposals(p: ConvProblem, device: Device) -> list[Candidate]:
    """Every candidate of every kernel that takes a problem.

    On a CUDA device after the untuned choice comes each kernel's best, then the others, by predicted time.
    On a CPU kernels take turns by rank, each with its configs in its own order; but where filters decide what
    a kernel does, it is the only one: what is faster on random ones says nothing of them.
    """
    kernels = worth_a_try(p, device)
    if device.kind == "cuda":
        return _by_model(p, kernels, device)
    return list(_in_turn([_default_first(p, kernel, device) for kernel in kernels]))


def worth_a_try(p: ConvProblem, device: Device) -> list[Kernel[Any]]:
    """The kernels whose configs are proposed; on a CPU by rank."""
    kernels, _ = takers(p, device)
    if device.kind == "cuda":
        return kernels
    order = [one.kernel for one in by_preference(p, kernels, device)]
    if order and order[0].rank_one_filters:
        order = order[:1]
    order = order[:1] + [one for one in order[1:] if one.preference(p, device) > HOPELESS]
    # a special case computes what the general one would
    order = [one for one in order if not any(type(one) in type(other).__mro__[1:] for other in order)]
    return [kernel for kernel in order if kernel.rank_one_filters == order[0].rank_one_filters]


def _by_model(p: ConvProblem, kernels: Sequence[Kernel[Any]], device: Device) -> list[Candidate]:
    first = ranked(p, kernels, device)[:1]
    everything = sorted(
        (predicted(p, kernel, config, device) for kernel in kernels for config in configs(p, kernel, device)),
        key=lambda one: one.seconds or 0.0,
    )
    best: dict[str, Candidate] = {}
    for one in everything:
        best.setdefault(one.kernel.name, one)
    return list(dict.fromkeys([*first, *best.values(), *everything]))


def _default_first(p: ConvProblem, kernel: Kernel[Any], device: Device) -> list[Candidate]:
    found: dict[Any, Candidate] = {}
    for config in [kernel.default_config(p, device), *configs(p, kernel, device)]:
        found.setdefault(kernel.identity(p, config, device), Candidate(kernel, config))
    return list(found.values())


def _in_turn(lists: Sequence[Sequence[Candidate]]) -> Iterable[Candidate]:
    """The first of each, the second of each, and so on."""
    return (one for one in chain.from_iterable(zip_longest(*lists)) if one is not None)
