"""Faults in ``implicit_gemm_sm80.cu``, in its rooms under ``mma/``, and in its host side."""

from __future__ import annotations

from tests.mutation.fault import Fault

TESTS = (
    "unit/test_mma_tiles.py",
    "emulator/test_mma_cases.py",
    "emulator/test_mma.py",
)


def _header(file: str, name: str, old: str, new: str, why: str) -> Fault:
    return Fault(f"mma-{name}", f"cuda_src/include/gpuconv/{file}.cuh", old, new, why, TESTS)


def _kernel(name: str, old: str, new: str, why: str) -> Fault:
    return Fault(f"mma-{name}", "cuda_src/kernels/implicit_gemm_sm80.cu", old, new, why, TESTS)


def _host(file: str, name: str, old: str, new: str, why: str) -> Fault:
    return Fault(f"mma-{name}", f"gpuconv/kernels/cuda/{file}.py", old, new, why, TESTS)


PIPELINE = (
    _kernel(
        "waits-too-little",
        "ptx::cp_async_wait_group<STAGES - 2>();",
        "ptx::cp_async_wait_group<STAGES - 1>();",
        "a stage is multiplied before it is there",
    ),
    _kernel(
        "no-sync-in-loop",
        "    ptx::cp_async_wait_group<STAGES - 2>();\n    __syncthreads();\n",
        "    ptx::cp_async_wait_group<STAGES - 2>();\n",
        "others' copies may not be there, and a slow warp's stage is overwritten",
    ),
    _kernel(
        "no-sync-in-prologue",
        "    __syncthreads();\n    load(left - t, t);",
        "    load(left - t, t);",
        "places that other threads write may not be there",
    ),
    _kernel(
        "loads-into-read-stage",
        "load(left - (STAGES - 1), free);",
        "load(left - (STAGES - 1), slot);",
        "the stage that is multiplied is overwritten",
    ),
    _kernel(
        "table-of-wrong-parity",
        "load(left - (STAGES - 1), free);",
        "load(left - STAGES, free);",
        "a stage is loaded from the other table",
    ),
    _kernel(
        "table-overwritten",
        "places.write(params, left - STAGES, left > STAGES);",
        "places.write(params, left - STAGES + 1, left > STAGES);",
        "the table that is being read is written over",
    ),
    _kernel(
        "sum-end-early",
        "left > STAGES);",
        "left > STAGES + 1);",
        "the sum lacks its end",
    ),
    _kernel(
        "past-the-split",
        "places.write(params, left - t - 1, t + 1 < left);",
        "places.write(params, left - t - 1, true);",
        "a short sum goes on into what is another block's",
    ),
    _kernel(
        "last-stage-lost", "for (; left > 0; --left)", "for (; left > 1; --left)", "the sum lacks its end"
    ),
    _kernel("slot-stays", "    free = slot;\n", "", "only one stage is ever loaded anew"),
    _kernel(
        "ring-of-one-more",
        "slot + 1 == STAGES ? 0",
        "slot == STAGES ? 0",
        "stages lie behind the ring",
    ),
    _kernel(
        "taps-not-aligned",
        " &&\n                         is_aligned<Pack<Element, TAPS_VECTOR>>(params.taps)",
        "",
        "a vector of taps is copied wherever the array begins",
    ),
    _kernel(
        "taps-on-the-input",
        "taps.flight.tile = ring + slot * kStageBytes + kInBytes;",
        "taps.flight.tile = ring + slot * kStageBytes;",
        "taps overwrite the input",
    ),
)

COPIES = (
    _header(
        "mma/copy",
        "reads-what-is-not-there",
        "there ? kBytes : 0);",
        "kBytes);",
        "cells outside the input are read",
    ),
    _header(
        "mma/copy",
        "turn-forgotten",
        "(first ^ byte ^ Rows::turn(row))",
        "(first ^ byte)",
        "rows of a second step lie unturned",
    ),
    _header(
        "mma/copy",
        "step-in-bytes",
        "(Map::kAlongDepth ? Map::depth_step(d) : p * Map::kOuterStep) * kSize;",
        "(Map::kAlongDepth ? Map::depth_step(d) : p * Map::kOuterStep);",
        "a thread's vectors overlap",
    ),
    _header(
        "mma/copy",
        "unaligned-first-only",
        "found[i] = ptx::ld_global_nc(from + i);",
        "found[i] = ptx::ld_global_nc(from);",
        "an unaligned vector is its first element throughout",
    ),
    _header(
        "mma/copy",
        "threads-overlap-down",
        "AlongDepth ? thread % kThreadsDown : thread / kThreadsAcross",
        "AlongDepth ? thread % kThreadsDown : 0",
        "threads copy each other's rows",
    ),
    _header(
        "mma/copy",
        "rows-side-by-side",
        "row / 8 * 8 + row % 2 * 4 + row / 2 % 4",
        "row",
        "two rows that are stored together meet in their banks",
    ),
    _header(
        "mma/copy",
        "rows-twice",
        "row % 2 * 4 + row / 2 % 4",
        "row % 2 * 4 + row % 4",
        "some rows are copied twice and others never",
    ),
    _header(
        "mma/copy",
        "short-rows-side-by-side",
        "(turn % kWindows * kPieces + turn / kWindows - turn) * Rows::kTogether",
        "0",
        "vectors of two rows that are stored together meet in their banks",
    ),
    _header(
        "mma/copy",
        "short-rows-twice",
        "turn % kWindows * kPieces + turn / kWindows - turn",
        "turn % kWindows * kPieces - turn",
        "some rows are copied twice and others never",
    ),
    _header(
        "mma/swizzle",
        "turned-too-slowly",
        "row / kTogether % kPieces * 16",
        "row / kTogether / 2 % kPieces * 16",
        "rows that are read together meet in their banks",
    ),
    _header(
        "mma/swizzle",
        "not-turned",
        "return row * RowBytes + (byte ^ turn(row));",
        "return row * RowBytes + byte;",
        "rows are read where they do not lie",
    ),
    _header(
        "tile/operand",
        "filters-apart-by-one",
        "return first + i * step;",
        "return first + (i > 0) * step;",
        "a thread's third filter is its second",
    ),
)

SUMS = (
    _header(
        "mma/sums",
        "halves-swapped",
        "lane / 8 % 2 * 8, high = lane / 16 * 8",
        "lane / 16 * 8, high = lane / 8 % 2 * 8",
        "matrices are exchanged",
    ),
    _header(
        "mma/sums",
        "operands-order",
        "Squares<TapsMap, false> taps;",
        "Squares<TapsMap, true> taps;",
        "taps have the input's order of matrices",
    ),
    _header(
        "mma/sums",
        "never-transposed",
        "else ptx::ldmatrix_x4_trans(matrices, from);",
        "else ptx::ldmatrix_x4(matrices, from);",
        "matrices of the other side are not transposed",
    ),
    _header(
        "mma/sums",
        "warps-swapped",
        "taps(threadIdx.x / 32 % kWarpsN * WARP_N)",
        "taps(threadIdx.x / 32 / kWarpsM * WARP_N)",
        "warps compute each other's columns",
    ),
    _header(
        "mma/sums",
        "rows-rounded-down",
        "first_row() + 15) / 16;",
        "first_row()) / 16;",
        "the last rows are not computed",
    ),
    _header(
        "mma/sums",
        "square-behind",
        "a[(i + 1) % 2][c], ring, stage, i + 1, k + c",
        "a[(i + 1) % 2][c], ring, stage, i, k + c",
        "rows of the second square are the first's",
    ),
    _header(
        "mma/sums",
        "chain-of-one-step",
        "taps.read(b[c][j], ring, stage + kInBytes, j, k + c);",
        "taps.read(b[c][j], ring, stage + kInBytes, j, k);",
        "a chain's second step has the first's taps",
    ),
    _header(
        "mma/sums",
        "total-forgotten",
        "totals[j][e] += chain[e];",
        "totals[j][e] = chain[e];",
        "only the last chain is kept",
    ),
    _header(
        "mma/sums",
        "chain-goes-on",
        "float chain[4] = {0, 0, 0, 0};",
        "float chain[4] = {totals[j][0], totals[j][1], totals[j][2], totals[j][3]};\n"
        "      for (float& total : totals[j]) total = 0;",
        "long sums are one that tensor cores cut off again and again",
    ),
    _header(
        "mma/sums",
        "f16-for-bf16",
        "ptx::mma_m16n8k16_bf16(sum, a, b0, b1);",
        "ptx::mma_m16n8k16_f16(sum, a, b0, b1);",
        "bfloat16 is taken for float16",
    ),
)

RESULTS = (
    _header(
        "mma/results",
        "rows-behind-the-last",
        "    if (block.m + m < block.count_m) {\n",
        "    {\n",
        "rows behind the last are stored",
    ),
    _header(
        "mma/results",
        "split-offset-forgotten",
        "(SPLIT ? block.split * params.split_elements : 0)",
        "0ll",
        "parts of sums overwrite each other",
    ),
    _header(
        "mma/results",
        "split-offset-in-32-bits",
        "block.split * params.split_elements",
        "static_cast<int>(block.split * params.split_elements)",
        "parts from 2^31 elements on overwrite others",
    ),
    _header(
        "mma/results",
        "no-sync-after-stages",
        "  __syncthreads();\n  const Corner corner",
        "  const Corner corner",
        "results overwrite stages that a slow warp still reads",
    ),
    _header(
        "mma/results",
        "no-sync-before-reading",
        "    write_rows(rows, sums.total[i]);\n    __syncwarp();\n",
        "    write_rows(rows, sums.total[i]);\n",
        "rows are read before other lanes have written them",
    ),
    _header(
        "mma/results",
        "no-sync-before-writing",
        "    __syncwarp();\n    write_rows(",
        "    write_rows(",
        "rows are overwritten before other lanes have read them",
    ),
    _header(
        "mma/results",
        "lower-half-twice",
        "Pack<float, 2> two{{sums[j][2 * half], sums[j][2 * half + 1]}};",
        "Pack<float, 2> two{{sums[j][0], sums[j][1]}};",
        "rows 8 to 15 are rows 0 to 7",
    ),
    _header(
        "mma/results",
        "columns-behind-the-last",
        "      if (n >= params.filters) continue;\n",
        "",
        "columns behind the last are stored",
    ),
    _header(
        "mma/results",
        "bias-of-group-zero",
        "channel = corner.g * params.filters + n;",
        "channel = n;",
        "every group takes the first one's bias",
    ),
    _header(
        "mma/results",
        "neighbours-assumed",
        "together = together && offset[e] == offset[0] + e && offset[e] >= 0;",
        "together = together && offset[e] >= 0;",
        "rows that lie apart are stored as neighbours",
    ),
    _header(
        "mma/results",
        "rows-of-the-first-warp",
        " + warp / kWarpsN * WARP_M;\n",
        ";\n",
        "every warp stores in the first one's rows",
    ),
)

HOST = (
    _host(
        "implicit_gemm_sm80",
        "grid-without-splits",
        "grid=(prod(tiles.blocks) * cfg.splits, 1, 1)",
        "grid=(prod(tiles.blocks), 1, 1)",
        "only one part",
    ),
    _host(
        "implicit_gemm_sm80",
        "turing-taken",
        "device.capability < (8, 0)",
        "device.capability < (7, 5)",
        "devices without the instructions are taken",
    ),
    _host(
        "mma_tiles",
        "inside-with-padding",
        "return whole and not any(size for side in p.padding for size in side)",
        "return whole",
        "cells outside the input are read",
    ),
    _host(
        "mma_tiles",
        "inside-for-dgrad",
        'whole = p.R == p.S == 1 or p.op != "dgrad"',
        "whole = True",
        "gradients beyond the last are read",
    ),
    _host(
        "mma_tiles",
        "vector-past-the-run",
        "if run % vector == 0 and shared.even:",
        "if shared.even:",
        "a vector crosses into the next tap",
    ),
    _host(
        "mma_tiles",
        "cut-off-uncounted",
        "return chain + 2 * -(-chain // _AT_ONCE) + max(0, chains - 1) + splits - 1",
        "return max(0, chains - 1) + splits - 1",
        "chains of any length are allowed",
    ),
    _host(
        "mma_tiles",
        "cursors-nowhere",
        "tables = 80 * cfg.block_k",
        "tables = 48 * cfg.block_k",
        "shared memory is too small",
    ),
    _host(
        "product",
        "stride-of-one-cell",
        "axis: 0 for axis, size in sizes.items() if size == 1",
        "axis: 0 for axis, size in sizes.items() if size == 0",
        "addresses behind an axis of one cell are not aligned",
    ),
)

FAULTS = (*PIPELINE, *COPIES, *SUMS, *RESULTS, *HOST)
