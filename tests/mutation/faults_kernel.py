"""Faults in the order of things inside ``direct.cu``: stages, taps, sums, places."""

from __future__ import annotations

from tests.mutation.fault import Fault


def _block(name: str, old: str, new: str, why: str) -> Fault:
    return Fault(name, "cuda_src/include/gpuconv/direct/block.cuh", old, new, why)


def _sums(name: str, old: str, new: str, why: str) -> Fault:
    return Fault(name, "cuda_src/include/gpuconv/direct/sums.cuh", old, new, why)


def _tiles(name: str, old: str, new: str, why: str) -> Fault:
    return Fault(name, "cuda_src/include/gpuconv/direct/tiles.cuh", old, new, why)


def _direct(name: str, old: str, new: str, why: str) -> Fault:
    return Fault(name, "cuda_src/kernels/direct.cu", old, new, why)


PIPELINE = (
    _direct(
        "no-sync-after-copies",
        "      __syncthreads();  // everyone's copies",
        "      // everyone's copies",
        "cells that other threads copied may not be there",
    ),
    _direct(
        "no-sync-after-load",
        "      load(t);\n      __syncthreads();",
        "      load(t);",
        "cells that other threads loaded may not be there",
    ),
    _direct(
        "no-sync-before-reuse",
        "if constexpr (!kAsync) __syncthreads();",
        "",
        "a fast thread overwrites the stage that a slow one still reads",
    ),
    _direct(
        "wait-for-one-less",
        "cp_async_wait_group<STAGES - 2>",
        "cp_async_wait_group<STAGES - 1>",
        "the stage that is read next may still be under way",
    ),
    _direct(
        "no-commit",
        "if constexpr (kAsync) ptx::cp_async_commit_group();",
        "",
        "copies belong to no group, so none is waited for",
    ),
    _direct(
        "no-commit-at-the-end",
        "      loading.next(params);\n    }\n    if constexpr (kAsync) ptx::cp_async_commit_group();",
        "      loading.next(params);\n      if constexpr (kAsync) ptx::cp_async_commit_group();\n    }",
        "without empty groups, the last stages are not waited for",
    ),
    _direct(
        "prologue-one-short",
        "for (int t = 0; t < STAGES - 1; ++t) load(first + t);",
        "for (int t = 0; t < STAGES - 2; ++t) load(first + t);",
        "the first stage lands in the wrong buffer",
    ),
    _direct(
        "prologue-one-long",
        "for (int t = 0; t < STAGES - 1; ++t) load(first + t);",
        "for (int t = 0; t < STAGES; ++t) load(first + t);",
        "stages run ahead of their buffers",
    ),
    _direct(
        "load-one-stage-too-far",
        "load(t + STAGES - 1);",
        "load(t + STAGES);",
        "a stage lands in the buffer of the one that is read",
    ),
    _direct(
        "buffer-counts-from-zero",
        "tile = buffer(t - first)",
        "tile = buffer(t)",
        "a later split reads other buffers than it fills",
    ),
    _direct(
        "buffers-overlap",
        "t % STAGES * (kInCells + kTapsCells)",
        "t % STAGES * kInCells",
        "the next stage's halo tile lies over this one's taps",
    ),
    _direct(
        "last-stage-lost",
        "const int last = min(first + params.stages_per_split, params.stages);",
        "const int last = min(first + params.stages_per_split, params.stages - 1);",
        "the sum lacks its end",
    ),
    _direct(
        "splits-overlap",
        "const int last = min(first + params.stages_per_split, params.stages);",
        "const int last = min(first + params.stages_per_split + (SPLITS > 1), params.stages);",
        "a stage is summed twice",
    ),
    _direct(
        "channel-tail-short",
        "min(BLOCK_C, params.channels - stage.c)",
        "min(BLOCK_C, params.channels - stage.c - 1)",
        "the last channel is left out",
    ),
    _direct("sum-stage-stays", "    stage.next(params);\n", "", "the stage summed is taken for the first"),
)

TAPS = (
    _sums(
        "no-guard-of-rows",
        "if (r < 0 || (GUARD_TAPS && r >= rows)) continue;",
        "if (r < 0) continue;",
        "a missing tap times NaN is NaN",
    ),
    _sums(
        "no-guard-of-rows-in-loop",
        "if (GUARD_TAPS && r >= rows) break;",
        "",
        "a missing tap times NaN is NaN, where a thread does not slide",
    ),
    _sums(
        "no-guard-of-columns", "if (GUARD_TAPS && s >= columns) break;", "", "a missing tap times NaN is NaN"
    ),
    _sums(
        "guard-rows-one-early",
        "(GUARD_TAPS && r >= rows)) continue;",
        "(GUARD_TAPS && r + 1 >= rows)) continue;",
        "a guarded stage loses its last row of taps",
    ),
    _sums(
        "guard-columns-one-early",
        "if (GUARD_TAPS && s >= columns) break;",
        "if (GUARD_TAPS && s + 1 >= columns) break;",
        "a guarded stage loses its last column of taps",
    ),
    _direct(
        "guard-of-whole-filter",
        "block.columns.taps - stage.s, params.flush_rows",
        "block.columns.taps, params.flush_rows",
        "in later stages, columns beyond the last count as taps",
    ),
    _sums(
        "tap-row-one-too-many",
        "distance / DILATION_H >= TAPS_R ?",
        "distance / DILATION_H > TAPS_R ?",
        "a row of taps that is not of this stage is added",
    ),
    _sums(
        "tap-row-between",
        "distance < 0 || distance % DILATION_H ||",
        "distance < 0 ||",
        "rows between dilated taps are added",
    ),
    _sums(
        "tap-rows-undilated-in-loop",
        "(p * kTileStrideH + r * DILATION_H) * InTile::stride(kRow)",
        "(p * kTileStrideH + r) * InTile::stride(kRow)",
        "a thread that does not slide ignores the dilation",
    ),
    _sums(
        "cell-of-other-column",
        "window.cell(q * kTileStrideW + s * DILATION_W)",
        "window.cell(q * kTileStrideW + s * DILATION_H)",
        "rows' dilation taken for columns'",
    ),
    _sums(
        "window-in-place-of-column",
        "ptx::ld_shared(row + column * InTile::stride(kColumn))",
        "ptx::ld_shared(row + column)",
        "wide windows ignore how far columns lie apart",
    ),
    _sums(
        "taps-quad-too-wide",
        "THREAD_K % kQuad == 0 ? kQuad : THREAD_K % 2 == 0 ? 2 : 1;",
        "THREAD_K % kQuad == 0 ? kQuad : 2;",
        "one output's taps are read as a pair",
    ),
    _sums("quads-ignore-lead", "kSkip = kQuads ? LEAD % kQuad : 0", "kSkip = 0", "quads begin at any cell"),
    _sums(
        "window-cut",
        "kQuads ? round_up(kSkip + kWindow, kQuad) : kWindow",
        "kQuads ? round_up(kWindow, kQuad) : kWindow",
        "the last columns of a window that begins late are not read",
    ),
)

SUMS = (
    _sums(
        "never-flushed",
        "if (rows_summed < flush_rows) return;",
        "return;",
        "long sums are one running sum, with its error",
    ),
    _sums(
        "flushed-at-every-row",
        "      rows_summed = 0;\n",
        "",
        "after the first time the total is the running sum",
    ),
    _sums(
        "flushed-twice",
        "total[p][k][q] += part[p][k][q];\n          part[p][k][q] = 0;",
        "total[p][k][q] += part[p][k][q];",
        "a part joins the total again and again",
    ),
    _sums(
        "never-flushed-in-filter",
        "(r + 1) % FLUSH_ROWS == 0) flush(p);",
        "r < 0) flush(p);",
        "a large filter's rows are one running sum, with its error",
    ),
    _sums(
        "flush-forgets",
        "total[p][k][q] += part[p][k][q];",
        "total[p][k][q] = part[p][k][q];",
        "only the last part is kept",
    ),
    _sums(
        "last-part-lost",
        "return total[p][k][q] + part[p][k][q];",
        "return total[p][k][q];",
        "rows since the last flush are lost",
    ),
)

PLACES = (
    _block(
        "stage-columns-stay", "    s = 0;\n    r += TAPS_R;", "    r += TAPS_R;", "columns of taps run on"
    ),
    _block(
        "stage-one-more-column",
        "if (s < params.chunks_s * TAPS_S) return;",
        "if (s <= params.chunks_s * TAPS_S) return;",
        "an empty stage takes the place of the last",
    ),
    _block(
        "stage-chunks-swapped",
        "    r = index % params.chunks_r * TAPS_R;",
        "    r = index % params.chunks_s * TAPS_R;",
        "a later split begins in the wrong row",
    ),
    _block(
        "stage-row-undilated",
        "row0 + stage.r * DILATION_H",
        "row0 + stage.r",
        "later rows of taps are too near",
    ),
    _block(
        "stage-column-of-rows",
        "column0 + stage.s * DILATION_W",
        "column0 + stage.s * DILATION_H",
        "rows' dilation taken for columns'",
    ),
    _block(
        "column-unstrided",
        "block.q * STRIDE_W - LEAD",
        "block.q - LEAD",
        "later blocks load the wrong columns",
    ),
    _block(
        "row-of-other-stride", "block.p * STRIDE_H)", "block.p * STRIDE_W)", "columns' stride taken for rows'"
    ),
    _block(
        "lead-forgotten", "block.q * STRIDE_W - LEAD)", "block.q * STRIDE_W)", "the halo tile begins late"
    ),
    _direct(
        "lead-skipped",
        "(LEAD + place.q * kTileStrideW)",
        "(place.q * kTileStrideW)",
        "threads read too early columns",
    ),
    _block("group-not-scaled", "g = at * BLOCK_G;", "g = at;", "blocks of groups overlap"),
    _block(
        "classes-swapped",
        "index = params.classes_w.divmod(index, at);",
        "index = params.classes_h.divmod(index, at);",
        "columns fall into rows' classes",
    ),
    _block("thread-rows-overlap", "    p *= THREAD_P;\n", "", "threads compute each other's rows"),
    _block(
        "k-first-groups-inside",
        "k = take(kThreadsK);\n      g = take(BLOCK_G);\n      q = take(kThreadsQ);",
        "k = take(kThreadsK);\n      g = take(BLOCK_N);\n      q = take(kThreadsQ);",
        "groups counted as images",
    ),
    _direct(
        "taps-of-first-group",
        "kInCells + place.g * TapsTile::stride(kGroup) + place.k",
        "kInCells + place.k",
        "every group takes the first one's taps",
    ),
    _direct(
        "tile-rows-unstrided", "place.p * kTileStrideH * InTile", "place.p * InTile", "rows are too near"
    ),
    _tiles(
        "tile-one-row-short",
        "kRows = (BLOCK_P - 1) * kTileStrideH + (TAPS_R - 1) * DILATION_H + 1;",
        "kRows = (BLOCK_P - 1) * kTileStrideH + (TAPS_R - 1) * DILATION_H;",
        "the halo lacks its last row",
    ),
    _tiles(
        "columns-not-rounded",
        "round_up(round_up(kColumnsNeeded, kQuad), IN_VECTOR)",
        "round_up(kColumnsNeeded, IN_VECTOR)",
        "quads of later rows are misaligned",
    ),
    _tiles(
        "taps-misaligned",
        "kInCells = round_up(InTile::kStored, kQuad)",
        "kInCells = InTile::kStored",
        "taps begin at any cell",
    ),
    _tiles(
        "planes-overlap",
        "{kColumns, 1, kPlane, BLOCK_G * BLOCK_C * kPlane, BLOCK_C * kPlane}",
        "{kColumns, 1, kPlane, BLOCK_C * kPlane, BLOCK_C * kPlane}",
        "images lie over groups in shared memory",
    ),
)

FAULTS = (*PIPELINE, *TAPS, *SUMS, *PLACES)
