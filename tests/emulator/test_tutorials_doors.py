"""The tutorials in TensorFlow's words once more, the arrays on a device."""

from __future__ import annotations

from tests.cpu.test_tutorials_doors import *  # noqa: F403 - the tests themselves
from tests.emulator.test_tutorials import _on_a_device

__all__ = ["_on_a_device"]
