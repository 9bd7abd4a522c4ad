"""The clocks of the measuring engine, on a time and a device that are made up."""

from __future__ import annotations

import ctypes
import types
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpuconv import measure
from gpuconv.backend import clocks, nvml
from gpuconv.backend.device import Device
from gpuconv.measure import interleaved


class Ticking:
    """A stand-in for the module `time`."""

    def __init__(self):
        self.time = 0.0
        self.slept = []

    def perf_counter(self):
        return self.time

    def sleep(self, seconds):
        self.slept.append((seconds, self.time))


@pytest.fixture
def ticking(monkeypatch):
    monkeypatch.setattr(clocks, "time", found := Ticking())
    return found


def test_the_cpu_times_every_call_after_a_rest(ticking):
    clock = clocks.CpuClock()

    def call():
        ticking.time += 1 + len(ticking.slept)

    assert clock.turn(call, 3) == [2, 2, 2]
    assert clock.turn(call, 1) == [3]
    assert ticking.slept == [(clocks.SETTLE_SECONDS, 0), (clocks.SETTLE_SECONDS, 6)]
    assert clock.figure([3, 2, 4]) == 2
    assert (clock.cold(call), clock.mhz()) == (None, None)
    assert isinstance(measure.clock_for(Device("cpu", "made up")), clocks.CpuClock)


def test_processor_time_of_others(monkeypatch):
    #      user nice system idle iowait irq softirq steal
    stat = "cpu 9 9 9 9 9 9 9 9\ncpu0 100 10 20 5000 6000 3 4 63 0 0\ncpu1 1 1 1 1 1 1 1 1 0 0\nctxt 5\n"
    monkeypatch.setattr(clocks.os, "sched_getaffinity", lambda pid: {0}, raising=False)
    monkeypatch.setattr(clocks.os, "sysconf", lambda name: 100, raising=False)
    monkeypatch.setattr(clocks.os, "times", lambda: (0.5, 0.25, 0.125, 0.125, 99.0))
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: stat)
    assert clocks.CpuClock().seconds_elsewhere() == pytest.approx(2.0 - 1.0)
    monkeypatch.delattr(clocks.os, "sched_getaffinity")
    assert clocks.CpuClock().seconds_elsewhere() is None


class FakeCupy:
    """A device that does everything at once: a write takes 20 µs of it, a call 100 µs."""

    def __init__(self, ticking):
        self.log, self.device_time, self.ticking = [], 0.0, ticking
        self.stream = object()
        fake = self

        class Event:
            def record(self, stream):
                assert stream is fake.stream
                self.at = fake.device_time
                fake.log.append("event")

            def synchronize(self):
                fake.log.append("wait")

        @contextmanager
        def device(index):
            assert index == 1
            fake.log.append("enter")
            yield
            fake.log.append("leave")

        self.cuda = types.SimpleNamespace(
            Device=device,
            Event=Event,
            get_current_stream=lambda: self.stream,
            get_elapsed_time=lambda start, end: (end.at - start.at) * 1e3,
            runtime=types.SimpleNamespace(deviceGetPCIBusId=lambda index: f"0000:0{index}:00.0"),
        )

    def empty(self, nbytes, dtype):
        def write(value, size, stream):
            assert (size, stream) == (nbytes, self.stream)
            self.device_time += 20e-6
            self.log.append("write")

        return types.SimpleNamespace(nbytes=nbytes, data=types.SimpleNamespace(memset_async=write))

    def call(self):
        self.log.append("call")
        self.device_time += 100e-6
        self.ticking.time += 70e-6  # of the host


@pytest.fixture
def card(monkeypatch, ticking):
    fake = FakeCupy(ticking)
    asked = []
    monkeypatch.setattr(clocks.detect, "cupy", lambda: fake)
    monkeypatch.setattr(nvml, "sm_clock", lambda bus: lambda: asked.append(len(fake.log)) or 1755.0)
    fake.asked = asked
    device = Device("cuda", "made up", index=1, l2_bytes=1000)
    fake.clock = measure.clock_for(device)
    assert isinstance(fake.clock, clocks.CudaClock)
    assert fake.clock._buffer.nbytes == 2000
    fake.log.clear()
    return fake


def test_cuda_events_stand_around_calls_that_never_wait_for_the_host(card):
    (seconds,) = card.clock.turn(card.call, 4)
    assert seconds == pytest.approx(100e-6)
    # enqueuing takes the host 70 µs for each of five calls: half as much again, in writes of 20 µs
    writes = 1 + int(1.5 * 5 * 70 / 20)
    between = ["event", *4 * ["call"], "event"]
    assert card.log == ["enter", "call", *writes * ["write"], "call", *between, "wait", "leave"]
    assert card.clock.mhz() == 1755
    assert card.asked[-1] == len(card.log) - 2  # while the device was at work
    assert card.clock.figure([1, 9, 2]) == 2
    assert card.clock.seconds_elsewhere() is None


def test_cuda_cold_calls_have_their_own_events_right_after_writes(card):
    assert card.clock.cold(card.call) == pytest.approx(100e-6)
    writes = 1 + int(1.5 * 70 / 20)
    assert card.log == ["enter", "call", *writes * ["write"], "event", "call", "event", "wait", "leave"]


def test_writes_are_not_enqueued_without_limit(card):
    def slow():
        card.ticking.time += 60

    card.clock.cold(slow)
    assert card.log.count("write") == clocks._MOST_WRITES


def test_cuda_candidates_beside_each_other(card):
    device = Device("cuda", "made up", index=1, l2_bytes=1000)
    found = interleaved({"a": card.call, "b": card.call}, device, turns=3, clock=card.clock)
    assert found["a"].us == pytest.approx(100)
    assert found["a"].us_cold == pytest.approx(100)
    assert found["b"].clocks_mhz == 1755


class Library:
    """NVML, whose calls give codes; it has one card at one place."""

    def __init__(self, init=0, clock=0):
        self.codes = {"init": init, "clock": clock}

    def nvmlInit_v2(self):
        return self.codes["init"]

    def nvmlDeviceGetHandleByPciBusId_v2(self, bus_id, handle):
        handle._obj.value = 7
        return 0 if bus_id == b"0000:01:00.0" else 6

    def nvmlDeviceGetClockInfo(self, handle, kind, mhz):
        assert (handle.value, kind) == (7, 1)
        mhz._obj.value = 1980
        return self.codes["clock"]


@pytest.mark.parametrize(
    ("library", "bus_id", "expected"),
    [
        (Library(), "0000:01:00.0", 1980),
        (Library(), "0000:02:00.0", None),
        (Library(init=9), "0000:01:00.0", None),
        (Library(clock=3), "0000:01:00.0", None),
        (None, "0000:01:00.0", None),
    ],
)
def test_nvml_tells_a_clock_or_nothing(monkeypatch, library, bus_id, expected):
    def load(name):
        if library is None:
            raise OSError("no such file")
        return library

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert nvml.sm_clock(bus_id)() == expected
