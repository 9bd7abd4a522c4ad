"""A stand-in for CUDA devices, and kernels made up for it."""

from __future__ import annotations

import pytest

from gpuconv.backend import launch
from gpuconv.kernels import registry

from ..stand_in import MadeUp, StandIn


@pytest.fixture
def kernels(monkeypatch):
    """Make these all the kernels there are; one made-up kernel to begin with."""

    def put(*found):
        monkeypatch.setattr(registry, "kernels", lambda: found)

    put(MadeUp("only"))
    return put


@pytest.fixture
def card(kernels):
    """Two devices that stand in for CUDA's."""
    with launch.using(found := StandIn()):
        yield found
