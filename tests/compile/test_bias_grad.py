"""Every form of the bias gradient's kernel builds for every architecture."""

from __future__ import annotations

from itertools import product

import pytest

from gpuconv.backend import jit
from gpuconv.kernels.cuda import bias_grad
from gpuconv.problem import DTYPES
from tests.compile.cards import CARDS, card
from tests.compile.test_kernels import compiler, judge, known

__all__ = ["compiler"]

#: Channels that give every number of lanes, one part and several.
FORMS = list(product(DTYPES, (("nchw", 3), *(("nhwc", 2**i) for i in range(6))), (3, 300)))


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_builds_without_spills(compiler, form):
    dtype, (layout, channels), size = form
    device = card(list(CARDS)[FORMS.index(form) % len(CARDS)])
    if not known(device.arch):
        # an older NVRTC; that it knows nearly all is a test of its own in test_kernels.py
        pytest.skip(f"this NVRTC does not know {device.arch}")
    shape = (1, channels, size, size) if layout == "nchw" else (1, size, size, channels)
    specs, scratch = bias_grad.launches(shape, layout, dtype, device)
    assert len(specs) == 1 + (size == 300) == 1 + bool(scratch)
    for spec in specs:
        judge(jit.resources(spec.binary), spec.block[0])
