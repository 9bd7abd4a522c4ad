"""PyTorch and its door, or a plain reason to skip."""

from __future__ import annotations

import importlib.util

import pytest


@pytest.fixture(scope="session")
def torch(need):
    if importlib.util.find_spec("torch") is None:
        need("torch", "PyTorch is not installed")
    import torch

    return torch


@pytest.fixture(scope="session")
def door(torch):
    from gpuconv.compat import torch as door

    return door
