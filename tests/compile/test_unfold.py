"""Every form of the patches' kernel builds for every architecture."""

from __future__ import annotations

from itertools import product

import pytest

from gpuconv.backend import jit
from gpuconv.kernels.cuda import unfold
from gpuconv.problem import DTYPES, ConvProblem
from tests.compile.cards import CARDS, card
from tests.compile.test_kernels import compiler, judge, known

__all__ = ["compiler"]

#: Channels that give every width of access, spread taps and others.
FORMS = [
    (ConvProblem.parse(f"fprop_n1c{channels}h9w9k1r3s3_{layout}_{dtype}"), folds)
    for dtype, folds, (layout, channels) in product(
        DTYPES, (False, True), (("nchw", 3), ("nhwc", 3), ("nhwc", 6), ("nhwc", 64), ("nhwc", 130))
    )
]
#: Folds under which too many patches meet for a plain sum.
CROWDED = [
    (ConvProblem.parse(f"fprop_n1c{channels}h40w40k1r9s9_{layout}_{dtype}"), True)
    for dtype, (layout, channels) in product(DTYPES, (("nchw", 3), ("nhwc", 3), ("nhwc", 64)))
]


@pytest.mark.parametrize("form", [*FORMS, *CROWDED], ids=lambda form: "-".join(map(str, form)))
def test_builds_without_spills(compiler, form):
    p, folds = form
    device = card(list(CARDS)[[*FORMS, *CROWDED].index(form) % len(CARDS)])
    if not known(device.arch):
        # an older NVRTC; that it knows nearly all is a test of its own in test_kernels.py
        pytest.skip(f"this NVRTC does not know {device.arch}")
    spec = unfold.launch(p, device, folds=folds)
    assert ("LONG_SUM", str(int(form in CROWDED))) in spec.binary.defines
    judge(jit.resources(spec.binary), spec.block[0])
