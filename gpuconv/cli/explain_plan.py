"""``gpuconv explain-plan``: which kernel runs a problem, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from gpuconv.autotune.heuristic import Candidate
from gpuconv.backend.cards import CARDS
from gpuconv.backend.device import Device
from gpuconv.cli import output
from gpuconv.cli.problem import parse
from gpuconv.config import Config
from gpuconv.families import family, floor_us
from gpuconv.problem import ConvProblem

#: Words for a device that is here.
_HERE = ("cpu", "cuda")


def _device(ctx: click.Context, param: click.Parameter, name: str | None) -> Device:
    """The device of a name: one that is here, or facts of a card that is not."""
    from gpuconv.backend import detect, device, launch

    if name is None or name == "cpu":
        return device.cpu()
    if name == "cuda":
        found = detect.cuda()
        if not found.names:
            raise output.NoGpu(f"there is no CUDA device: {found.why_not}")
        return launch.cuda(0)
    if name not in CARDS:
        raise click.BadParameter(f"{name!r} is none of {', '.join((*_HERE, *CARDS))}")
    return CARDS[name].device


@click.command("explain-plan")
@click.argument("problems", metavar="STRING...", nargs=-1, required=True, callback=parse)
@click.option(
    "--device",
    metavar="NAME",
    callback=_device,
    help=f"cpu (the default), cuda, or a card that need not be here: {', '.join(CARDS)}.",
)
@output.json_option
def explain_plan(problems: tuple[ConvProblem, ...], device: Device, as_json: bool) -> None:
    """Say which kernel runs each problem, and why: every kernel's verdict and every candidate.

    On a CUDA device candidates are ranked by a model of the device, whose predicted times are shown; they are
    for choosing, not for believing. Numbers are the order of trial, a dash marks what is not tried. On the
    CPU the rank of kernels is fixed. Where the problem was tuned, what was measured is shown beside.
    GPUCONV_KERNEL and GPUCONV_CONFIG count.
    """
    try:
        found = [describe(p, device) for p in problems]
    except ValueError as error:  # a variable that names nothing legal
        raise output.WrongUsage(output.one_line(error)) from None
    if as_json:
        output.emit("explain-plan", found)
        return
    for index, one in enumerate(found):
        output.show(*([""] if index else []), one["problem"], *_text(one))


def describe(p: ConvProblem, device: Device) -> dict[str, Any]:
    """Everything about one choice, for JSON."""
    from gpuconv import dispatch
    from gpuconv.autotune import tuner

    tried, weighed, rejects = dispatch.explain(p, device)
    # before a change of the sources something else was measured
    times = dispatch.measured(p, device) if tried and tuner.known(p, device) is not None else {}
    return {
        "problem": str(p),
        "device": str(device) if device not in _cards() else f"{device.name}, by its data sheet",
        "family": family(p, device.sms or 132),
        "floor_us": floor_us(p, device),
        "chosen": str(tried[0]) if tried else None,
        "candidates": [_candidate(one, at < len(tried), times) for at, one in enumerate([*tried, *weighed])],
        "rejects": [{"kernel": reject.kernel, "reason": reject.reason} for reject in rejects],
    }


def _cards() -> list[Device]:
    return [card.device for card in CARDS.values()]


def _candidate(one: Candidate, tried: bool, times: Mapping[tuple[str, Config], float]) -> dict[str, Any]:
    return {
        "kernel": one.kernel.name,
        "config": str(one.config),
        "predicted_us": None if one.seconds is None else one.seconds * 1e6,
        "limit": one.limit or None,
        "measured_us": times.get((one.kernel.name, one.config)),
        "tried": tried,
    }


def _text(found: dict[str, Any]) -> list[Any]:
    rows = [("device", found["device"]), ("family", found["family"])]
    if found["floor_us"] is not None:
        rows.append(("floor", f"{found['floor_us']:.1f} us, taps on the padding counted"))
    rows.append(("chosen", found["chosen"] or "none"))
    number = 0
    for one in found["candidates"]:
        number += one["tried"]
        times = [] if one["measured_us"] is None else [f"{one['measured_us']:.1f} us measured"]
        times += [] if one["predicted_us"] is None else [f"{one['predicted_us']:.1f} us, {one['limit']}"]
        words = "".join(f"{time}: " for time in ["; ".join(times)] if time)
        # in this order where a device refuses one
        rows.append((f"{number}." if one["tried"] else "-", f"{words}{one['kernel']}({one['config']})"))
    rows += [(reject["kernel"], f"no: {reject['reason']}") for reject in found["rejects"]]
    return [output.facts(rows)]
