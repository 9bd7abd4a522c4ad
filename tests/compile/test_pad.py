"""Every form of the padding kernel builds for every architecture."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from gpuconv.backend import jit
from gpuconv.kernels.cuda import pad
from tests.borders import WIDER
from tests.compile.cards import CARDS, card
from tests.compile.test_kernels import compiler, judge, known

__all__ = ["compiler"]

#: Every type of image with every type of planes, on two of the architectures in turn.
FORMS = list(product(WIDER, (0, 3)))


def capability(number: int) -> tuple[int, int]:
    """Of the card that a form is compiled for."""
    return list(CARDS)[(number // 2 + FORMS[number][1]) % len(CARDS)]


@pytest.mark.parametrize("number", range(len(FORMS)), ids=lambda number: "-".join(map(str, FORMS[number][0])))
def test_builds_without_spills(compiler, number):
    (source, dtype), _ = FORMS[number]
    device = card(capability(number))
    if not known(device.arch):
        # an older NVRTC; that it knows nearly all is a test of its own in test_kernels.py
        pytest.skip(f"this NVRTC does not know {device.arch}")
    spec = pad.launch(np.zeros((5, 7, 3), source), dtype, ((1, 2), (3, 4)), "symm", 0, device)
    judge(jit.resources(spec.binary), spec.block[0])
