"""The engine of convolution by FFT: overlapping boxes of the source, complex128, outputs in doubt anew.

A box is transformed, multiplied by the spectra of the taps, summed over its group's channels and transformed
back; of the cyclic correlation that this computes, the outputs that no wrap-around reaches are kept. Every
box is on its own, so neither the image nor the number of threads matters to its bits. Outputs that the
transform may get wrong (`certainty`), and boxes with NaN or infinity in them, are computed directly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any, Final

import numpy as np

from gpuconv.backend import blas, threads
from gpuconv.backend.device import Device
from gpuconv.kernels.cpu import blocks, boxes, certainty, epilogue
from gpuconv.kernels.cpu.blocks import Block, Cut, Grid, Range
from gpuconv.kernels.cpu.boxes import Pass
from gpuconv.kernels.cpu.certainty import Filters
from gpuconv.kernels.cpu.correlation import Correlation, by_group, covers, passes, taps_of
from gpuconv.problem import ConvProblem

#: Memory for the spectra of as many groups as fit; at least one must.
SPECTRA_LIMIT: Final = 32 * 2**20
#: Filters surveyed together.
_SURVEYED_BYTES: Final = 2**18
#: Share of a box's tiles from which transforming it is a waste.
_MOSTLY: Final = 0.5


@dataclass(frozen=True, slots=True)
class _Chunk:
    """One pass over some groups at a time."""

    of: Pass
    spectra: Any  # (groups of the chunk, outputs, inputs, rows, columns)
    filters: list[Filters]  # by group of the chunk
    first: int  # of the chunk's groups


class _Room:
    """One worker's memory."""

    def __init__(self, engine: SpectralSum) -> None:
        rows, columns = engine.size
        self.box = np.empty((rows, columns))
        self.values = np.empty((rows, columns))
        self.seen = np.empty((engine.inputs, rows, columns // 2 + 1), np.complex128)
        self.total = np.empty((rows, columns // 2 + 1), np.complex128)
        self.product = np.empty((rows, columns // 2 + 1), np.complex128)


class SpectralSum:
    """fprop or dgrad of one problem without dilation, by transforms of `rows` × `columns`."""

    def __init__(self, p: ConvProblem, *, rows: int, columns: int, device: Device) -> None:
        self.p = p
        self.size = rows, columns
        self.inputs, self.outputs = p.C // p.groups, p.K // p.groups
        if p.op == "dgrad":
            self.inputs, self.outputs = self.outputs, self.inputs
        self.passes = passes(p)
        self.judge = certainty.Judge(p, rows * columns, self.inputs)
        self.alone = replace(device, threads=1)
        spectrum = rows * (columns // 2 + 1) * 16
        self.chunks = blocks.cut(p.groups, SPECTRA_LIMIT // (self.outputs * self.inputs * spectrum))
        # NumPy's transforms copy what they work on in place
        each = 2 * rows * columns * 8 + (self.inputs + 2 + 1) * spectrum
        each += max(
            (
                boxes.direct_bytes(p, one, self._grid(one, 1), (self.outputs, self.inputs), self.alone)
                for one in self.passes
            ),
            default=0,
        )
        most = max((len(self._grid(one, self.chunks.longest)) for one in self.passes), default=1)
        self.workers = blocks.workers(device.threads, most, each)
        taps = max((one.rows.taps * one.columns.taps for one in self.passes), default=0)
        # of taps surveyed together there are up to eight arrays
        surveyed = 8 * max(_SURVEYED_BYTES, 8 * self.outputs * self.inputs * taps)
        kept = self.chunks.longest * (self.outputs * self.inputs * (spectrum + 24) + 1024)
        self.workspace_bytes = self.workers * (each + surveyed) + kept

    def run(self, a: Any, b: Any, out: Any, bias: Any, residual: Any) -> None:
        """Compute (x, w)→y or (dy, w)→dx."""
        p = self.p
        if out.size == 0:
            return
        bias = None if bias is None else bias.reshape(p.groups, -1, 1, 1, 1)
        source, result = by_group(a, p.layout, p.groups), by_group(out, p.layout, p.groups)
        residual = None if residual is None else by_group(residual, p.layout, p.groups)
        rooms = [_Room(self) for _ in range(self.workers)]
        shape = (self.chunks.longest, self.outputs, self.inputs, self.size[0], self.size[1] // 2 + 1)
        spectra = np.empty(shape, np.complex128)
        with blas.single_threaded():
            if not covers(p, self.passes):
                wide = None if bias is None else bias.astype(blocks.accumulator(p))
                epilogue.fill(p, result, wide, residual)
            for one in self.passes:
                of = Pass(one, source, result, taps_of(p, one, b), bias, residual)
                for i in range(self.chunks.pieces):
                    first, last = self.chunks[i]
                    filters: list[Any] = [None] * (last - first)
                    self._run_chunk(_Chunk(of, spectra, filters, first), last - first, rooms)

    def _run_chunk(self, chunk: _Chunk, groups: int, rooms: list[_Room]) -> None:
        """All boxes of one pass in some of the groups."""
        grid = self._grid(chunk.of.one, groups)
        batches = blocks.cut(groups, _SURVEYED_BYTES // (8 * prod(chunk.of.taps.shape[1:])))

        def prepare(i: int, room: _Room) -> None:
            with np.errstate(all="ignore"):
                self._prepare(chunk, batches[i], room)

        def task(i: int, room: _Room) -> None:
            with np.errstate(all="ignore"):  # NaN and overflow are results here, not accidents
                self._box(chunk, grid[i], room)

        threads.run(prepare, batches.pieces, rooms)
        threads.run(task, len(grid), rooms)

    def _prepare(self, chunk: _Chunk, groups: Range, room: _Room) -> None:
        """Spectra and survey of some groups' filters."""
        first, last = groups
        taps = chunk.of.taps[chunk.first + first : chunk.first + last].astype(np.float64)
        chunk.filters[first:last] = certainty.survey(taps, chunk.of.one)
        r, s = taps.shape[3:]
        room.box[...] = 0
        for g, k, c in np.ndindex(taps.shape[:3]):
            room.box[:r, :s] = taps[g, k, c]
            spectrum = chunk.spectra[first + g, k, c]
            self._transform(room.box, spectrum)
            np.conjugate(spectrum, out=spectrum)

    def _box(self, chunk: _Chunk, block: Block, room: _Room) -> None:
        """One image and group of outputs in one box."""
        of, one, filters = chunk.of, chunk.of.one, chunk.filters[block.groups[0]]
        spectra = chunk.spectra[block.groups[0]]
        group = chunk.first + block.groups[0]
        block = replace(block, groups=(group, group + 1))
        down, along = one.rows.stride, one.columns.stride
        outputs = ((blocks.length(block.rows) - 1) * down + 1, (blocks.length(block.columns) - 1) * along + 1)
        norms, integers = np.empty(self.inputs), filters.integers
        peaks = []
        for c in range(self.inputs):
            boxes.load(of, block, c, room.box)
            line = room.box.reshape(-1)
            norms[c] = np.sqrt(np.dot(line, line))
            if not np.isfinite(norms[c]):
                return boxes.directly(self.p, of, block, self.alone)
            if integers:
                np.rint(room.box, out=room.values)
                integers = bool(np.array_equal(room.values, room.box))
            peaks.append(certainty.cell_peaks(filters, room.box, outputs, room.values))
            if c < self.inputs - 1:  # the last waits: without doubts it is needed, with them perhaps not
                self._transform(room.box, room.seen[c])
        again: Block | None = None
        if not integers:
            doubts = self.judge.doubts(filters, norms, np.array(peaks))
            if doubts.any():
                again = _around(block, doubts, filters.tile, (down, along))
                if again.pixels > _MOSTLY * block.pixels:
                    return boxes.directly(self.p, of, block, self.alone)
        elif not self.judge.rounds(filters, norms):
            return boxes.directly(self.p, of, block, self.alone)
        self._transform(room.box, room.seen[-1])
        for k in range(self.outputs):
            self._output(of, replace(block, channels=(k, k + 1)), spectra[k], integers, room)
        if again is not None:
            boxes.directly(self.p, of, again, self.alone)
        return None

    def _output(self, of: Pass, block: Block, spectra: Any, integers: bool, room: _Room) -> None:
        """One channel of results."""
        one = of.one
        np.multiply(room.seen[0], spectra[0], out=room.total)
        for c in range(1, self.inputs):
            np.multiply(room.seen[c], spectra[c], out=room.product)
            np.add(room.total, room.product, out=room.total)
        height = (blocks.length(block.rows) - 1) * one.rows.stride + 1
        width = (blocks.length(block.columns) - 1) * one.columns.stride + 1
        np.fft.ifft(room.total, axis=0, out=room.total)
        np.fft.irfft(room.total[:height], self.size[1], axis=1, out=room.values[:height])
        values = room.values[: height : one.rows.stride, : width : one.columns.stride][None, None, None]
        if integers:
            np.rint(values, out=values)
        boxes.store(self.p, of, block, values)

    @staticmethod
    def _transform(box: Any, out: Any) -> None:
        np.fft.rfft(box, axis=1, out=out)
        np.fft.fft(out, axis=0, out=out)

    def _grid(self, one: Correlation, groups: int) -> Grid:
        rows, columns = (
            blocks.cut(axis.outputs, (size - axis.taps) // axis.stride + 1)
            for axis, size in ((one.rows, self.size[0]), (one.columns, self.size[1]))
        )
        return Grid(blocks.cut(self.p.N, 1), rows, columns, blocks.cut(groups, 1), Cut(self.outputs, 1))


def _around(block: Block, doubts: Any, tile: tuple[int, int], stride: tuple[int, int]) -> Block:
    """The outputs of all tiles in doubt, and those between."""
    ranges = []
    for axis, whole in ((0, block.rows), (1, block.columns)):
        at = np.flatnonzero(doubts.any(axis=1 - axis))
        # tiles count outputs at stride 1
        first = int(at[0]) * tile[axis] // stride[axis]
        last = -(-(int(at[-1]) + 1) * tile[axis] // stride[axis])
        ranges.append((whole[0] + first, min(whole[0] + last, whole[1])))
    return replace(block, rows=ranges[0], columns=ranges[1])
