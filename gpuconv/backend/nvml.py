"""The clock of a card's multiprocessors, asked of NVML, which is part of NVIDIA's driver."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, Final

#: The libraries' names on Linux and on Windows.
_NAMES: Final = ("libnvidia-ml.so.1", "nvml.dll")
#: NVML's number of this clock.
_SM_CLOCK: Final = 1


def sm_clock(bus_id: str) -> Callable[[], float | None]:
    """A function that says how fast a card's multiprocessors are clocked now, in MHz.

    Parameters
    ----------
    bus_id : str
        The card's place on PCI, as CUDA tells it; NVML counts cards in another order than CUDA.

    Returns
    -------
    callable
        It gives None where NVML is missing or does not answer.
    """
    library = _load()
    handle = ctypes.c_void_p()
    if library is None or library.nvmlInit_v2() != 0:
        return lambda: None
    if library.nvmlDeviceGetHandleByPciBusId_v2(bus_id.encode(), ctypes.byref(handle)) != 0:
        return lambda: None

    def now() -> float | None:
        mhz = ctypes.c_uint()
        if library.nvmlDeviceGetClockInfo(handle, _SM_CLOCK, ctypes.byref(mhz)) != 0:
            return None
        return float(mhz.value)

    return now


def _load() -> Any:
    for name in _NAMES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None
