"""How long calls take on one kind of device, and what disturbs them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final, Protocol

from gpuconv.backend import detect, nvml
from gpuconv.backend.device import Device

Call = Callable[[], object]

#: Idle threads of whoever ran last stop spinning within this time.
SETTLE_SECONDS: Final = 0.05
#: How much longer than the host needs to enqueue calls the device is kept busy meanwhile.
_HEAD_START: Final = 1.5
#: More writes of the flush buffer than this are not enqueued for one head start.
_MOST_WRITES: Final = 2000


class Clock(Protocol):
    """Times calls.

    Attributes
    ----------
    turn_seconds : float
        How long a turn of a candidate should last.
    least_seconds : float
        A shorter turn is lost in the timer's resolution.
    rest_seconds : float
        What a turn takes beside its calls.
    most_calls : int
        Of one turn.
    """

    turn_seconds: float
    least_seconds: float
    rest_seconds: float
    most_calls: int

    def now(self) -> float:
        """Seconds since some fixed time."""

    def turn(self, call: Call, calls: int) -> list[float]:
        """Make so many calls in a row.

        Returns
        -------
        list of float
            Seconds of each, or the mean of all where single calls are too short to time.
        """

    def cold(self, call: Call) -> float | None:
        """Seconds of one call that finds nothing of its own in the cache; None where that has no meaning."""

    def figure(self, seconds: list[float]) -> float:
        """The one number that stands for these times."""

    def mhz(self) -> float | None:
        """The device's clock during the last turn, where it can be told."""

    def seconds_elsewhere(self) -> float | None:
        """Processor time that others used, since some fixed time, where it matters and can be told."""


class CpuClock:
    """Every call by itself, the fastest counts: whatever disturbs a call makes it slower.

    Parameters
    ----------
    settle : float
        Seconds of rest before a turn, so that the threads of whoever ran before have stopped spinning.
    """

    def __init__(self, settle: float = SETTLE_SECONDS) -> None:
        self.turn_seconds = 0.15
        self.least_seconds = 0.0  # the timer resolves single calls
        self.rest_seconds = settle
        self.most_calls = 1000

    def now(self) -> float:
        """The timer."""
        return time.perf_counter()

    def turn(self, call: Call, calls: int) -> list[float]:
        """Seconds of each call, after a rest."""
        time.sleep(self.rest_seconds)
        times = []
        for _ in range(calls):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        return times

    def cold(self, call: Call) -> float | None:
        """None: nothing empties a processor's caches for sure."""
        return None

    def figure(self, seconds: list[float]) -> float:
        """The fastest."""
        return min(seconds)

    def mhz(self) -> float | None:
        """None: each core has a clock of its own."""
        return None

    def seconds_elsewhere(self) -> float | None:
        """Seconds that others kept our processors busy; None if not on Linux."""
        try:
            ours = {f"cpu{index}" for index in os.sched_getaffinity(0)}
            lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
        except (AttributeError, OSError):
            return None
        busy = 0
        for name, *ticks in map(str.split, lines):
            if name in ours:
                user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, ticks[:8])
                busy += user + nice + system + irq + softirq + steal
        return busy / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])


class CudaClock:
    """CUDA events on the current stream; the median counts, because the clock of a GPU goes up and down.

    Enqueuing a call may take the host longer than the call takes the device. So the device gets something
    else to do first: it writes a buffer of twice its L2 cache, for as long as the host needs. That empties
    the cache as well; where it should be warm, calls that are not timed fill it again.

    Parameters
    ----------
    device : Device
        Where the calls run.
    """

    def __init__(self, device: Device) -> None:
        self._cupy = detect.cupy()
        self._index = device.index
        self.turn_seconds = 0.005
        self.least_seconds = 0.0002  # events resolve half a microsecond
        self.rest_seconds = 0.0
        self.most_calls = 200  # the queue of a stream holds about five times that
        self._mhz: float | None = None
        with self._here() as stream:
            self._ask_mhz = nvml.sm_clock(self._cupy.cuda.runtime.deviceGetPCIBusId(device.index))
            self._buffer = self._cupy.empty(max(2 * device.l2_bytes, 1), "uint8")
            self._write(stream)
            # the host enqueues a write faster than the device does one
            seconds = self._between_events(stream, lambda: self._write(stream), 20) / 20
            self._write_seconds = max(seconds, 1e-6)

    def now(self) -> float:
        """The host's timer."""
        return time.perf_counter()

    def turn(self, call: Call, calls: int) -> list[float]:
        """Mean seconds of calls that follow each other without a gap."""
        with self._here() as stream:
            self._write_for(stream, (calls + 1) * _host_seconds(call))
            call()  # fills the cache that the writes have emptied
            seconds = self._between_events(stream, call, calls)
        return [seconds / calls]

    def cold(self, call: Call) -> float | None:
        """Seconds of one call right after the cache was filled with something else."""
        with self._here() as stream:
            self._write_for(stream, _host_seconds(call))
            return self._between_events(stream, call, 1)

    def figure(self, seconds: list[float]) -> float:
        """The median."""
        return median(seconds)

    def mhz(self) -> float | None:
        """The multiprocessors' clock, read while the last turn was running."""
        return self._mhz

    def seconds_elsewhere(self) -> float | None:
        """None: other processes on the CPU do not slow a GPU down."""
        return None

    @contextmanager
    def _here(self) -> Iterator[Any]:
        with self._cupy.cuda.Device(self._index):
            yield self._cupy.cuda.get_current_stream()

    def _between_events(self, stream: Any, call: Call, calls: int) -> float:
        start, end = self._cupy.cuda.Event(), self._cupy.cuda.Event()
        start.record(stream)
        for _ in range(calls):
            call()
        end.record(stream)
        self._mhz = self._ask_mhz()  # nobody has waited yet: the device is at work
        end.synchronize()
        return float(self._cupy.cuda.get_elapsed_time(start, end)) / 1e3

    def _write_for(self, stream: Any, seconds: float) -> None:
        """Keep the device writing while the host is busy for so long; once at least."""
        writes = 1 + int(_HEAD_START * seconds / self._write_seconds)
        for _ in range(min(writes, _MOST_WRITES)):
            self._write(stream)

    def _write(self, stream: Any) -> None:
        self._buffer.data.memset_async(0, self._buffer.nbytes, stream)


def _host_seconds(call: Call) -> float:
    """Seconds the host needs to enqueue a call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
