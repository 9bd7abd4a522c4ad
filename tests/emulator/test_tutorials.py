"""Every assertion of the tutorials once more, the arrays on a device: the same tests, the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpuconv
from gpuconv import layers
from gpuconv.backend.launch import using
from tests.cpu.test_tutorials import *  # noqa: F403 - the tests themselves
from tests.emulator.launcher import Emulator

COMPUTING = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad", "conv2d_bias_grad", "unfold")


@pytest.fixture(autouse=True)
def _on_a_device(has_compiler, monkeypatch):
    emulator = Emulator()

    def there(function: Any) -> Any:
        def call(*given: Any, **options: Any) -> Any:
            moved = [emulator.array(value) if isinstance(value, np.ndarray) else value for value in given]
            return function(*moved, **options).get()

        return call

    for module in (gpuconv, layers):
        for name in COMPUTING:
            if hasattr(module, name):
                monkeypatch.setattr(module, name, there(getattr(module, name)))
    with using(emulator):
        yield
