"""Everything here needs a CUDA device; without one it is skipped with the reason."""

from __future__ import annotations

import pytest

from gpuconv.backend import detect


@pytest.fixture(scope="session")
def machine(need):
    found = detect.cuda()
    if not found.names:
        need("gpu", found.why_not)
    from tests.gpu.machine import CupyMachine

    return CupyMachine()
