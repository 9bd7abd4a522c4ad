"""``gpuconv problem``: what a convolution costs, and which kernel runs it."""

from __future__ import annotations

from math import prod
from typing import Any

import click

from gpuconv.cli import output
from gpuconv.errors import UnsupportedProblem
from gpuconv.problem import DTYPES, ConvProblem, Shape


def parse(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> tuple[ConvProblem, ...]:
    """Read problems from arguments."""
    try:
        return tuple(map(ConvProblem.parse, texts))
    except ValueError as error:
        raise click.BadParameter(output.one_line(error)) from None


@click.command()
@click.argument("problems", metavar="STRING...", nargs=-1, required=True, callback=parse)
@output.json_option
def problem(problems: tuple[ConvProblem, ...], as_json: bool) -> None:
    """Say what each problem costs, and which kernel runs it on the CPU.

    A problem is written as gpuconv prints it, for example
    fprop_n32c64h56w56k64r3s3p1_nchw_f32+bias+relu: a batch of 32 with 64 channels of 56x56, 64 filters of
    3x3, padding 1.
    """
    found = [describe(p) for p in problems]
    if as_json:
        output.emit("problem", found)
        return
    for index, (p, description) in enumerate(zip(problems, found, strict=True)):
        output.show(*([""] if index else []), str(p), output.facts(_rows(p, description)))


def describe(p: ConvProblem) -> dict[str, Any]:
    """Everything about one problem, for JSON."""
    from gpuconv import dispatch
    from gpuconv.backend import device

    here = device.cpu()
    plan, rejects = None, []
    try:
        chosen = dispatch.plan_for(p, here)
        plan = {
            "kernel": chosen.kernel,
            "config": str(chosen.config),
            "workspace_bytes": chosen.workspace_bytes,
        }
    except UnsupportedProblem as error:
        rejects = [{"kernel": reject.kernel, "reason": reject.reason} for reject in error.rejects]
    return {
        "problem": str(p),
        "op": p.op,
        "dtype": DTYPES[p.dtype],
        "layout": p.layout,
        "weights": p.weights,
        "x_shape": p.x_shape,
        "w_shape": p.w_shape,
        "y_shape": p.y_shape,
        "parameters": prod(p.w_shape) + p.out_channels * p.bias,
        "flops": p.flops,
        "min_bytes": p.min_bytes,
        "flops_per_byte": p.flops / p.min_bytes,
        "gemm_mnk": p.gemm_mnk,
        "gemms": p.groups,
        "accumulation_length": p.gemm_mnk[2],
        "device": str(here),
        "plan": plan,
        "rejects": rejects,
    }


def _rows(p: ConvProblem, found: dict[str, Any]) -> list[tuple[str, str]]:
    m, n, k = p.gemm_mnk
    each = f", {p.groups} of them" if p.groups > 1 else ""
    rows = [
        ("x", _shape(p.x_shape, p.layout)),
        ("w", _shape(p.w_shape, p.weights) + ", I of one group" * (p.groups > 1)),
        ("y", _shape(p.y_shape, p.layout)),
        (
            "computes",
            {"fprop": "y from x and w", "dgrad": "dx from dy and w", "wgrad": "dw from x and dy"}[p.op],
        ),
        ("parameters", f"{found['parameters']:,}" + " with bias" * p.bias),
        ("FLOPs", _exact(p.flops, "FLOP", 1000, ("k", "M", "G", "T", "P", "E"))),
        ("least bytes", _bytes(p.min_bytes)),
        ("intensity", f"{found['flops_per_byte']:.4g} FLOP/byte"),
        ("GEMM MxNxK", f"{m:,} x {n:,} x {k:,}{each}"),
        ("sum length", f"{k:,} products in each result"),
    ]
    if found["plan"] is None:
        reasons = "\n".join(f"{reject['kernel']}: {reject['reason']}" for reject in found["rejects"])
        return [*rows, ("plan", f"none on {found['device']}"), ("because", reasons)]
    return [
        *rows,
        ("plan", f"{found['plan']['kernel']}({found['plan']['config']})"),
        ("device", found["device"]),
        ("workspace", _bytes(found["plan"]["workspace_bytes"])),
    ]


def _shape(shape: Shape, order: str) -> str:
    return " x ".join(map(str, shape)) + f" {order.upper()}"


def _bytes(count: int) -> str:
    return _exact(count, "B", 1024, ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"))


def _exact(count: int, unit: str, step: int, prefixes: tuple[str, ...]) -> str:
    """The number itself, and a short form of it where that helps."""
    short, prefix = float(count), ""
    for larger in prefixes:
        if short < step:
            break
        short, prefix = short / step, larger
    return f"{count:,}" + (f" ({short:.2f} {prefix}{unit})" if prefix else f" {unit}")
