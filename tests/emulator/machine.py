"""The emulator as a machine that cases run on."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from gpuconv.backend.launch import using
from tests.emulator.launcher import SCHEDULES, Emulator, Schedule


class EmulatedMachine:
    """One schedule of an emulator; see `tests.cases.Machine`."""

    def __init__(self, schedule: Schedule = SCHEDULES[0], **options: Any) -> None:
        self.emulator = Emulator(schedule=schedule, **options)
        self.device = self.emulator.device(0)

    def __str__(self) -> str:
        return str(self.emulator.schedule)

    def at_work(self) -> AbstractContextManager[None]:
        """Put the emulator in CuPy's place."""
        return using(self.emulator)

    def put(self, array: Any, offset: int) -> Any:
        """Copy, its end as near to an inaccessible page as the offset allows."""
        return self.emulator.array(array, offset=offset)

    def poisoned(self, shape: tuple[int, ...], dtype: Any, offset: int) -> Any:
        """Memory full of NaN."""
        return self.emulator.array(np.full(shape, np.nan, dtype), offset=offset)

    def get(self, array: Any) -> Any:
        """Copy back."""
        return array.get()
