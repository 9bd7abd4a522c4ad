"""What reports are made from in tests: a recording measured here and now, and others that are made up."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np

from gpuconv import measure
from gpuconv.autotune.recording import Recorded, Recording, Tried
from gpuconv.backend.cards import CARDS
from gpuconv.backend.device import cpu
from gpuconv.families import family, floor_us
from gpuconv.kernels import registry
from gpuconv.problem import ConvProblem
from gpuconv.report import environment
from gpuconv.report.records import Record, ResultFile

#: Timed on the processor at hand.
LAYERS = (
    "fprop_n1c16h28w28k16r3s3p1_nchw_f32",
    "fprop_n1c16h28w28k16r3s3p1g16_nchw_f32",
    "wgrad_n1c8h16w16k8r3s3p1_nchw_f32",
    "fprop_n1c1h64w64k1r5s5p2_nchw_f32",
)
#: No such card was measured: its name has the word that its rates are found by, and says the rest.
CARD = "Made-up H200"
#: More than one figure of bars holds.
CARD_LAYERS = tuple(
    f"{op}_n32c{c}h{size}w{size}k{c}r{taps}s{taps}{'p1' if taps == 3 else ''}_nhwc_{dtype}"
    for op in ("fprop", "dgrad")
    for c, size in ((64, 56), (128, 28), (256, 14), (512, 7))
    for taps, dtype in ((3, "bf16"), (1, "bf16"), (3, "f32"))
)
DATE = "2026-11-20T14:56:40+00:00"
REFUSED = "needs 245,760 bytes of shared memory, a block has 232,448"


def measured(layers=LAYERS):
    """Some configs of the kernel that dispatch prefers for each layer."""
    device = cpu()
    head = (device.name, environment.now(), None, "exhaustive", environment.environment(device))
    return Recording("cpu", *head, tuple(_measured(ConvProblem.parse(layer), device) for layer in layers))


def _measured(p, device):
    kernels = [one for one in registry.kernels() if not one.rank_one_filters and one.check(p, device) is None]
    kernel = max(kernels, key=lambda one: one.preference(p, device))
    default = kernel.default_config(p, device)
    configs = [default, *(one for one in kernel.configs(p, device) if one != default)][:8]
    a, b, _, _ = measure.operands(p)
    out = np.empty(p.operand_shapes[2], a.dtype)
    calls = {str(config): partial(kernel.bind(p, config, device), a, b, out) for config in configs}
    times = measure.interleaved(calls, device, seconds=0.02, turns=1)
    tried = tuple(Tried(kernel.name, text, one.us, one.samples) for text, one in times.items())
    return Recorded(p, tried, min(range(len(tried)), key=lambda at: tried[at].us), 0.05)


def made_up(layers=CARD_LAYERS, **values):
    """Of a card, with predictions and failures; every time is a formula's."""
    about = {"gpuconv": "0.1.0", "cupy": "99.1", "capability": [9, 0], "sms": 132, "baselines": []}
    first = {"kind": "cuda", "device": CARD, "date": DATE, "commit": "0123abc", "strategy": "heuristic"}
    problems = tuple(_made_up(ConvProblem.parse(layer), at) for at, layer in enumerate(layers))
    return Recording(**{**first, "environment": about, "problems": problems, **values})


def _made_up(p, at):
    floor = floor_us(p, CARDS["H200"].device)
    tried = []
    for m, n, stages in product((128, 64, 256), (128, 64, 256), (3, 2, 4)):
        config = f"block_m={m},block_n={n},block_k=32,warp_m=64,stages={stages}"
        far = abs(m - (64, 128, 256)[at % 3]) / 64 + abs(n - (128, 64, 256)[at // 3 % 3]) / 96
        us = floor * (1.35 + 0.3 * far + 0.05 * (stages == 2) + 0.01 * at)
        if (m, n) == (256, 256) and stages == 4:
            tried.append(Tried("implicit_gemm_sm80", config, failure=REFUSED))
        elif (m, n) == (64, 256):
            tried.append(Tried("implicit_gemm_sm80", config, failure="wrong: 1.7 times the bound"))
        elif (m, n, stages) == (256, 64, 4):
            tried.append(Tried("implicit_gemm_sm80", config, predicted_us=floor))  # time was over
        else:
            tried.append(Tried("implicit_gemm_sm80", config, us, (us, 1.01 * us), 1.2 * floor))
    tried.append(Tried("cuda_direct", "block_p=8,block_q=32", 20 * floor, (), 9 * floor))
    timed = [index for index, one in enumerate(tried) if one.us is not None]
    return Recorded(p, tuple(tried), min(timed, key=lambda index: tried[index].us), 2.5)


def result_file(recording, others=0.0, factor=0.9, **values):
    """Results with a baseline for a recording's problems, made up."""
    records = []
    for one in recording.problems:
        p, us = one.problem, one.best.us
        record = Record(str(p), p.op, p.dtype, p.layout, family(p), one.best.kernel, one.best.config, us)
        record = replace(record, baseline="other 9.9", baseline_us=us * factor, ratio=factor, others=others)
        records.append(record)
    first = {"device": recording.device, "date": recording.date, "commit": recording.commit}
    first |= {"environment": recording.environment, "records": tuple(records)}
    return ResultFile(**{**first, **values})
