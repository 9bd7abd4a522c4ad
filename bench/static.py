"""What the compiler makes of every CUDA kernel's default config: a table that needs no GPU.

``python -m bench.static`` compiles, disassembles and writes ``bench/results/static/nvrtc-VERSION.json``;
``--check`` compares with that file instead and fails where a main loop has got worse, or the table is not of
what is there. Loops are counted as they run: an inner one as often as a turn of the outer. The table tells
what bounds a kernel, it cannot tell how fast one is.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

from bench import sass
from gpuconv.autotune.heuristic import occupancy
from gpuconv.backend import dump, jit, nvrtc
from gpuconv.backend.cards import CARDS, Card
from gpuconv.kernels import registry
from gpuconv.kernels.cuda.base import CudaKernel
from gpuconv.kernels.work import Work
from gpuconv.problem import ConvProblem

FOLDER = Path(__file__).parent / "results" / "static"
#: A layer of every kind that the kernels tell apart.
PROBLEMS = (
    "fprop_n32c256h56w56k256r3s3p1_nhwc_f32",
    "fprop_n32c256h56w56k256r3s3p1_nchw_f32",
    "dgrad_n32c256h56w56k256r3s3p1_nhwc_f32",
    "wgrad_n32c256h56w56k256r3s3p1_nhwc_f32",
    "fprop_n32c256h56w56k256r3s3p1_nhwc_f64",
    "fprop_n32c256h56w56k256r3s3p1_nhwc-ohwi_f16",
    "fprop_n32c256h56w56k256r3s3p1_nhwc_bf16",
    "dgrad_n32c256h56w56k256r3s3u2p1_nhwc_f16",
    "wgrad_n32c256h56w56k256r3s3p1_nhwc_f16",
    "fprop_n32c252h56w56k252r3s3p1_nhwc_f16",
    "fprop_n32c256h56w56k256r3s3p1_nchw_f16",
    "fprop_n32c96h112w112k96r3s3p1g96_nhwc_f32",
    "fprop_n1c1h4096w4096k1r3s3p1_nchw_f32",
)
#: Compiled for these: the oldest with asynchronous copies, and the one that results are from.
ON = ("A100", "H200")
#: How much worse a figure may get before that is a failure: instructions move a little with each change.
_SLACK = {"instructions": 1.03, "integer": 1.05, "registers": 1.03, "smem_bytes": 1.0}
_ISSUED = 4  # instructions that an SM begins in a cycle


def rows() -> Iterator[dict[str, Any]]:
    """One row for each kernel that takes a problem, problem and card."""
    kernels = [kernel for kernel in registry.kernels() if isinstance(kernel, CudaKernel)]
    for text in PROBLEMS:
        p = ConvProblem.parse(text)
        for name in ON:
            for kernel in kernels:
                if kernel.check(p, CARDS[name].device) is None:
                    yield row(kernel, p, CARDS[name])


def row(kernel: CudaKernel[Any], p: ConvProblem, card: Card) -> dict[str, Any]:
    """What one default config is compiled to."""
    config = kernel.default_config(p, card.device)
    spec, *_ = kernel.launches(p, config, card.device)
    work, *_ = kernel.works(p, config, card.device)
    resources = jit.resources(spec.binary)
    text = disassembled(jit.compile_all([spec.binary])[spec.binary])
    loop = sass.busiest_loop(text, work.multiplies / work.stages / _share(work))
    kinds = loop.kinds
    units = cycles(loop, work, config, card)
    blocks = occupancy(replace(work, registers=resources.registers, smem_bytes=spec.smem_bytes), card)
    return {
        "kernel": kernel.name,
        "problem": str(p),
        "card": card.device.name,
        "arch": spec.binary.arch,
        "config": str(config),
        "instructions": len(loop.instructions),
        "share": round(loop.share, 4),
        "integer": kinds["integer"],
        "shared": kinds["shared"],
        "global": kinds["global"],
        "registers": resources.registers,
        "spills": resources.spill_stores + resources.spill_loads + resources.stack,
        "smem_bytes": spec.smem_bytes,
        "blocks_per_sm": blocks,
        "warps_per_sm": blocks * ceil(work.threads / 32),
        "cycles": {unit: round(busy, 1) for unit, busy in units.items()},
        "bound": max(units, key=lambda unit: units[unit]),
    }


def cycles(loop: sass.Loop, work: Work, config: Any, card: Card) -> dict[str, float]:
    """How long a warp's turn of the loop keeps each unit of an SM busy: the mean of a block's warps."""
    lanes = card.tensor_lanes if work.tensor else card.f64_lanes if work.wide else card.f32_lanes
    # beside tensor cores a table, where there is one, is written by a thread for each place of a stage
    idle = 1 - ceil(config.block_k / 32) / ceil(work.threads / 32) if work.tensor else 0
    return {
        "multiplying": loop.kinds["multiply"] * _share(work) * 32 / lanes,
        "issue": len(loop.instructions) / _ISSUED,
        "shared memory": loop.wavefronts - idle * loop.wavefronts_of_some,
    }


def _share(work: Work) -> int:
    """Multiply-adds of a thread in one instruction: on tensor cores a warp does 16 × 8 × 16."""
    return 64 if work.tensor else 1


def disassembled(cubin: bytes) -> str:
    """SASS of a cubin.

    Raises
    ------
    RuntimeError
        If there is no disassembler.
    """
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = dump.disassemble(Path(file.name))
    if text is None:
        raise RuntimeError("neither nvdisasm nor cuobjdump is here: pip install nvidia-cuda-nvdisasm")
    return text.decode()


def place() -> Path:
    """The file of this NVRTC."""
    _, (major, minor) = nvrtc.load()
    return FOLDER / f"nvrtc-{major}.{minor}.json"


def worse(now: list[dict[str, Any]], before: list[dict[str, Any]]) -> list[str]:
    """In words, what has got worse, or is not in the file."""
    known = {_key(one): one for one in before}
    found = [f"{' '.join(key)}: no longer there" for key in known.keys() - set(map(_key, now))]
    for one in now:
        old, name = known.get(_key(one)), " ".join(_key(one))
        if old is None:
            found.append(f"{name}: not in the file")
            continue
        if one["config"] != old["config"]:
            found.append(f"{name}: another config, {one['config']}; it was {old['config']}")
        if one["bound"] != old["bound"]:
            found.append(f"{name}: bound by {one['bound']}, was by {old['bound']}")
        if one["spills"] > old["spills"]:
            found.append(f"{name}: spills {one['spills']} bytes")
        if one["share"] < old["share"] - 0.004:
            found.append(f"{name}: share of multiply-adds {one['share']}, was {old['share']}")
        if one["warps_per_sm"] < old["warps_per_sm"]:
            found.append(f"{name}: {one['warps_per_sm']} warps on an SM, were {old['warps_per_sm']}")
        found += [
            f"{name}: {figure} {one[figure]}, was {old[figure]}"
            for figure, slack in _SLACK.items()
            if one[figure] > old[figure] * slack
        ]
    return found


def _key(one: dict[str, Any]) -> tuple[str, str, str]:
    return one["kernel"], one["problem"], one["card"]


def main() -> int:
    """Write the file, or compare with it."""
    parser = argparse.ArgumentParser(prog="python -m bench.static", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the file, write nothing")
    options = parser.parse_args()
    path, found = place(), list(rows())
    if options.check:
        complaints = worse(found, json.loads(path.read_text(encoding="utf-8"))["rows"])
        print(*complaints or ["nothing has got worse"], sep="\n")
        return 1 if complaints else 0
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(f"  {json.dumps(one)}" for one in found)
    path.write_text(f'{{"nvrtc": "{path.stem[6:]}", "rows": [\n{lines}\n]}}\n', encoding="utf-8")
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
