"""What tuning gains on twelve real layers, measured apart from the tuning.

``python -m bench.tuned [--out FILE]`` tunes each layer into an empty store, then times the default and the
tuned plan by turns, anew and on other data, and writes both times as a recording. That no layer has become
slower is for its reader to see, not for a test to assert: see ``bench/results/README.md``.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from bench.pages import RESULTS
from gpuconv import measure
from gpuconv.autotune import tuner
from gpuconv.autotune.asked import Wishes
from gpuconv.autotune.recording import Recorded, Recording, Tried
from gpuconv.autotune.space import live, proposals
from gpuconv.backend import detect, launch
from gpuconv.backend import device as devices
from gpuconv.backend.device import Device
from gpuconv.problem import ConvProblem
from gpuconv.report import environment
from gpuconv.report.measured import transfer
from gpuconv.report.summary import geometric_mean

FOLDER = RESULTS / "tuning"
#: Layers of eight networks, a picture, and both gradients; no rule was chosen by looking at one of them.
PROBLEMS = (
    "fprop_n8c3h224w224k64r7s7u2p3_nhwc_f32",
    "fprop_n8c64h56w56k64r3s3p1_nchw_f32",
    "fprop_n4c1152h7w7k192r1s1_nhwc_f32",
    "fprop_n1c512h7w7k512r3s3p1_nchw_f32",
    "fprop_n1c128h112w112k128r3s3p1_nchw_f32",
    "fprop_n1c144h56w56k144r3s3p1g144_nchw_f32",
    "fprop_n1c240h28w28k240r5s5p2g240_nhwc_f32",
    "fprop_n1c96h56w56k96r7s7p3g96_nhwc_f32",
    "fprop_n1c256h28w28k256r3s3p1g32_nchw_f32",
    "fprop_n1c1h4096w4096k1r7s7p3_nchw_f32",
    "dgrad_n1c256h14w14k256r3s3p1_nhwc_f32",
    "wgrad_n1c128h28w28k128r3s3p1_nchw_f32",
)
SECONDS = 6.0
TURNS = 12


def check(p: ConvProblem, device: Device, strategy: str) -> Recorded:
    """Tune a problem, then time what ran before and what runs now beside each other."""
    found = tuner.tune(p, device, Wishes(strategy=strategy))
    default = proposals(p, device)[0]
    best = live(p, device, found.best.kernel, _fields(found.best.config))
    assert best is not None
    put, _ = transfer(device)
    given = [None if array is None else put(array) for array in measure.operands(p, seed=7)]
    out = put(np.empty(p.operand_shapes[2], measure.numpy_dtype(p.dtype)))
    calls = {}
    for candidate in (default, best):
        plan = candidate.kernel.bind(p, candidate.config, device)
        calls[str(candidate)] = lambda plan=plan: plan(*given[:2], out, bias=given[2], residual=given[3])
    times = measure.interleaved(calls, device, seconds=SECONDS, turns=TURNS, cold=False)
    tried = tuple(_tried(name, timing) for name, timing in times.items())
    return Recorded(p, tried, len(tried) - 1, found.seconds)


def _fields(config: str) -> dict[str, int]:
    parts = (part.partition("=") for part in config.split(","))
    return {name: int(value) for name, _, value in parts}


def _tried(name: str, timing: measure.Timing) -> Tried:
    kernel, _, config = name.removesuffix(")").partition("(")
    step = max(1, len(timing.samples) // 24)
    return Tried(kernel, config, timing.us, timing.samples[::step][:24])


def main() -> int:
    """Print a table, and write the file where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.tuned", description=__doc__)
    parser.add_argument("--out", type=Path, help="file to write")
    parser.add_argument("--strategy", default="heuristic", choices=("heuristic", "exhaustive", "random"))
    options = parser.parse_args()
    device = launch.cuda(0) if detect.cuda().names else devices.cpu()
    began, found = environment.now(), []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GPUCONV_CACHE_DIR"] = folder
        for text in PROBLEMS:
            one = check(ConvProblem.parse(text), device, options.strategy)
            found.append(one)
            print(f"{one.gain:6.3f}  {one.seconds:5.1f} s  {text}: {one.default} -> {one.best}", flush=True)
    gains = [one.gain for one in found if one.gain is not None]
    print(f"{geometric_mean(gains):6.3f}  geometric mean of {len(gains)}; least {min(gains):.3f}")
    if options.out is not None:
        about = environment.environment(device)
        commit, strategy = environment.commit_of(), f"{options.strategy}, checked"
        Recording(device.kind, device.name, began, commit, strategy, about, tuple(found)).save(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
