"""Candidates of one problem on trial: compiled side by side, judged by the oracle, timed beside each other.

Every array lies between red zones of NaN, and so does the result, which is NaN itself before a candidate is
judged: what a candidate reads or writes outside its arrays, leaves out, or does to its operands shows.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

import numpy as np

from gpuconv import measure
from gpuconv.autotune.heuristic import Candidate
from gpuconv.backend import jit, launch, threads
from gpuconv.backend.device import Device
from gpuconv.errors import CompileError, LaunchError, LaunchRefused
from gpuconv.kernels.cuda.base import CudaKernel
from gpuconv.measure import Clock, CpuClock, Operands, Timing
from gpuconv.plan import Plan
from gpuconv.problem import ConvProblem
from gpuconv.validate.tolerance import Expected

#: Bytes of a red zone: more than any tile's row, and a multiple of what arrays are aligned to.
ZONE: Final = 4096
#: Of every float that has such a size, a NaN.
_POISON: Final = 0xFF
#: Products that the oracle sums where it looks at samples: about a second's, also of the weights' long sums.
_TERMS: Final = 10**8
#: Seconds of rest between turns: our own threads do not spin for longer.
_SETTLE: Final = 0.002


class Bench(Protocol):
    """Where candidates are tried: on a device, or in a recording."""

    def prepare(self, candidates: Sequence[Candidate], told: Callable[[int, int], None]) -> None:
        """Do what can be done ahead of time; tell how many of how many programs are compiled."""

    def judge(self, candidate: Candidate) -> tuple[str | None, float]:
        """Run it once: what is wrong with it, if anything, and how many seconds it took."""

    def time(self, candidates: Sequence[Candidate], seconds: float, turns: int) -> list[Timing]:
        """Time candidates by turns, in about so many seconds."""

    def now(self) -> float:
        """Seconds since some fixed time."""


class LiveBench:
    """A device.

    Parameters
    ----------
    p : ConvProblem
    device : Device
    seed : int
        Of the operands.
    workers : int, optional
        Threads that compile; by default as many as there are processors.
    clock : Clock, optional
        By default the device's.
    """

    def __init__(
        self,
        p: ConvProblem,
        device: Device,
        seed: int,
        *,
        workers: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.p, self.device, self.seed, self.workers = p, device, seed, workers
        if clock is None:
            clock = CpuClock(_SETTLE) if device.kind == "cpu" else measure.clock_for(device)
        self.clock = clock
        self._plans: dict[Candidate, Plan] = {}
        self._memory: _Memory | None = None
        self._expected: Expected | None = None

    def prepare(self, candidates: Sequence[Candidate], told: Callable[[int, int], None]) -> None:
        """Ask the oracle, and compile side by side what candidates launch.

        What does not compile shows when it is judged. Ctrl-C waits for what is being compiled, and no more.
        """
        self._ready(candidates[0])
        binaries = list(
            {
                spec.binary
                for kernel, config, *_ in candidates
                if isinstance(kernel, CudaKernel) and 0 not in self.p.operand_shapes[2]
                for spec in kernel.launches(self.p, config, self.device)
            }
        )
        if not binaries or not _compiles(self.device):
            return
        compiled = itertools.count(1)

        def compile_one(at: int, _: None) -> None:
            with suppress(Exception):
                jit.compile_all([binaries[at]])
            told(next(compiled), len(binaries))

        told(0, len(binaries))
        workers = self.workers or os.cpu_count() or 1
        threads.run(compile_one, len(binaries), [None] * min(workers, len(binaries)))

    def judge(self, candidate: Candidate) -> tuple[str | None, float]:
        """Bind, run once on poisoned memory, compare with the oracle, look at the red zones.

        Raises
        ------
        LaunchError
            If the device's context is lost.
        """
        memory = self._ready(candidate)
        assert self._expected is not None
        try:
            call = self._call(candidate)
            memory.poison_result()
            seconds = self.clock.figure(self.clock.turn(call, 1))
            result = memory.result()
        except (CompileError, LaunchRefused, MemoryError) as error:
            return f"refused: {_first_line(error)}", 0.0
        except LaunchError as error:
            raise LaunchError(f"{candidate}: {error}") from error
        except Exception as error:  # a fault of one candidate must not end the search
            return f"failed: {_first_line(error)}", 0.0
        if (damage := memory.damage()) is not None:
            return f"wrong: {damage}", seconds
        verdict = self._expected.judge(result)
        if not verdict.ok:
            where = ", ".join(map(str, verdict.worst))
            return f"wrong: {verdict.error_over_bound:.3g} of the error bound at ({where})", seconds
        if self._expected.points is not None and not np.isfinite(result).all():
            return "wrong: it leaves out what was not sampled", seconds
        return None, seconds

    def time(self, candidates: Sequence[Candidate], seconds: float, turns: int) -> list[Timing]:
        """See `gpuconv.measure.interleaved`; the caches are as calls leave them."""
        calls = {str(at): self._call(one) for at, one in enumerate(candidates)}
        found = measure.interleaved(
            calls, self.device, seconds=seconds, turns=turns, cold=False, clock=self.clock
        )
        return list(found.values())

    def now(self) -> float:
        """The clock's own."""
        return self.clock.now()

    def _ready(self, candidate: Candidate) -> _Memory:
        """Operands on the device and what the oracle says of them; made once."""
        if self._memory is None:
            given = measure.operands(self.p, self.seed)
            if candidate.kernel.rank_one_filters:
                given = given._replace(b=_rank_one(self.p, given.b))
            self._expected = measure.expected(self.p, given, terms=_TERMS)
            self._memory = _Memory(self.p, self.device, given)
        return self._memory

    def _call(self, candidate: Candidate) -> Callable[[], None]:
        plan, memory = self._plans.get(candidate), self._ready(candidate)
        if plan is None:
            plan = candidate.kernel.bind(self.p, candidate.config, self.device)
            self._plans[candidate] = plan
        a, b, out, bias, residual = memory.arrays
        return lambda: plan(a, b, out, bias=bias, residual=residual)


def _compiles(device: Device) -> bool:
    """Whether cubins are what the launcher at work wants: others compile for themselves."""
    from gpuconv.backend.cupy_launcher import CupyLauncher

    return device.kind == "cuda" and isinstance(launch.current(), CupyLauncher)


class _Memory:
    """A problem's arrays between red zones."""

    def __init__(self, p: ConvProblem, device: Device, given: Operands) -> None:
        self._p, self._device = p, device
        self._launcher = None if device.kind == "cpu" else launch.current()
        self._shape, self._dtype = p.operand_shapes[2], given.a.dtype
        empty = np.empty(self._shape, self._dtype)
        empty.reshape(-1).view(np.uint8)[...] = _POISON
        self._names = ("a", "b", "out", "bias", "residual")
        hosts = (given.a, given.b, empty, given.bias, given.residual)
        # what memory must still hold in the end; the result's own part is poison before each judgement
        self._hosts = tuple(None if host is None else _zoned(host) for host in hosts)
        self._buffers = [None if host is None else self._put(host) for host in self._hosts]
        self.arrays = tuple(
            None if host is None else self._inner(buffer, host)
            for buffer, host in zip(self._buffers, hosts, strict=True)
        )

    def poison_result(self) -> None:
        """Fill the result with NaN."""
        host, buffer = self._hosts[2], self._buffers[2]
        assert host is not None
        assert buffer is not None
        if self._launcher is None:
            buffer[...] = host
        else:
            self._launcher.copy(self._put(host), buffer)

    def result(self) -> Any:
        """Return what the result holds now, on the host."""
        found = self._get(self._buffers[2])[ZONE:-ZONE]
        return found.view(self._dtype).reshape(self._shape)

    def damage(self) -> str | None:
        """In words, what is no longer as it was outside the result."""
        for name, host, buffer in zip(self._names, self._hosts, self._buffers, strict=True):
            if host is None:
                continue
            now = self._get(buffer)
            for where, part in (("before", slice(None, ZONE)), ("behind", slice(-ZONE, None))):
                if now[part].tobytes() != host[part].tobytes():
                    return f"it writes {where} {name}"
            if name != "out" and not np.array_equal(now, host):
                return f"it changes {name}"
        return None

    def _put(self, host: Any) -> Any:
        return host.copy() if self._launcher is None else self._launcher.put(host, self._device)

    def _get(self, buffer: Any) -> Any:
        return buffer if self._launcher is None else self._launcher.get(buffer)

    def _inner(self, buffer: Any, host: Any) -> Any:
        """The array itself; a device's plans ask for no more than its address."""
        inner = buffer[ZONE : ZONE + host.nbytes]
        return inner.view(host.dtype).reshape(host.shape) if self._launcher is None else inner


def _zoned(host: Any) -> Any:
    """The bytes of an array between two red zones."""
    whole = np.full(host.nbytes + 2 * ZONE, _POISON, np.uint8)
    whole[ZONE : ZONE + host.nbytes] = np.ascontiguousarray(host).reshape(-1).view(np.uint8)
    return whole


def _rank_one(p: ConvProblem, w: Any) -> Any:
    """Filters that are each the product of a column and a row, in the order and type of given ones."""
    rows, columns = w.shape[p.weights.index("h")], w.shape[p.weights.index("w")]
    rng = np.random.default_rng(w.size)
    order = [1] * w.ndim
    order[p.weights.index("h")] = rows
    # powers of two: the product is exact in every type, and so is its rank
    column = np.exp2(rng.integers(-3, 4, rows)).reshape(order)
    order = [1] * w.ndim
    order[p.weights.index("w")] = columns
    row = np.exp2(rng.integers(-3, 4, columns)).reshape(order)
    return np.broadcast_to(column * row, w.shape).astype(w.dtype)


def _first_line(error: BaseException) -> str:
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)[:200]
