"""Faults in ``implicit_gemm_simt.cu`` and in how it loads its operands."""

from __future__ import annotations

from tests.mutation.fault import Fault

TESTS = (
    "unit/test_gemm_tiles.py",
    "emulator/test_gemm_cases.py",
    "emulator/test_gemm_memory.py",
    "emulator/test_gemm.py",
)


def header(file: str, name: str, old: str, new: str, why: str) -> Fault:
    return Fault(f"gemm-{name}", f"cuda_src/include/gpuconv/{file}.cuh", old, new, why, TESTS)


def _kernel(name: str, old: str, new: str, why: str) -> Fault:
    return Fault(f"gemm-{name}", "cuda_src/kernels/implicit_gemm_simt.cu", old, new, why, TESTS)


PIPELINE = (
    _kernel(
        "no-sync-after-tables",
        "  write(1);\n  __syncthreads();\n",
        "  write(1);\n",
        "places that other threads write may not be there",
    ),
    _kernel(
        "no-sync-after-first-stage",
        "  put(0);\n  __syncthreads();\n",
        "  put(0);\n",
        "cells that other threads store may not be there",
    ),
    _kernel(
        "no-sync-in-loop",
        "    write(t + 2);\n    __syncthreads();\n",
        "    write(t + 2);\n",
        "a fast thread overwrites what a slow one still reads",
    ),
    _kernel(
        "one-stage-buffer",
        "Sum* stage = stages + t % 2 * kStageCells;\n    in.flight",
        "Sum* stage = stages;\n    in.flight",
        "every stage lands in the first buffer",
    ),
    _kernel(
        "table-not-rewritten",
        "    write(t + 2);\n",
        "",
        "stages from the third on take the places of earlier ones",
    ),
    _kernel(
        "table-of-wrong-parity",
        "    write(t + 2);",
        "    write(t + 1);",
        "the table that is read next is written over",
    ),
    _kernel("last-stage-lost", "t < count; ++t", "t < count - 1; ++t", "the sum lacks its end"),
    _kernel(
        "writers-one-short",
        "if (writer < BLOCK_K)",
        "if (writer < BLOCK_K - 1)",
        "a stage's last place is what shared memory held",
    ),
    _kernel("cursor-stays", "    cursor.next();\n", "", "every stage is the first"),
    _kernel(
        "taps-not-aligned",
        " &&\n                         is_aligned<Pack<Element, TAPS_VECTOR>>(params.taps)",
        "",
        "a vector of taps is loaded wherever the array begins",
    ),
    _kernel(
        "places-swapped",
        "stage + place.m, stage + BLOCK_K * kPitchM + place.n",
        "stage + place.n, stage + BLOCK_K * kPitchM + place.m",
        "rows are read where columns lie",
    ),
)

DEPTH = (
    header(
        "tile/depth",
        "sum-end-ignored",
        "there ? static_cast<int>(r()) * params.dilation_h : kNowhere",
        "static_cast<int>(r()) * params.dilation_h",
        "places beyond the end meet cells",
    ),
    header(
        "tile/depth",
        "taps-end-ignored",
        "return {there ? bits : static_cast<unsigned>(bits) | 1ull << 63};",
        "return {bits};",
        "places beyond the end meet taps",
    ),
    header(
        "tile/depth",
        "row-undilated",
        "static_cast<int>(r()) * params.dilation_h",
        "static_cast<int>(r())",
        "the padding is tested at other rows",
    ),
    header(
        "tile/depth",
        "column-dilated-as-row",
        "static_cast<int>(s()) * params.dilation_w",
        "static_cast<int>(s()) * params.dilation_h",
        "the padding is tested at other columns",
    ),
    header(
        "tile/depth",
        "offset-in-32-bits",
        "const auto bits = static_cast<unsigned long long>(offset);",
        "const auto bits = static_cast<unsigned long long>(static_cast<int>(offset));",
        "places from 2^31 bytes on lie elsewhere",
    ),
    header(
        "tile/depth",
        "start-of-first-split",
        "static_cast<long long>(stage) * BlockK + place",
        "place",
        "every part of a sum is the first",
    ),
    header(
        "tile/depth",
        "start-unscaled",
        "static_cast<long long>(stage) * BlockK + place",
        "stage + place",
        "later parts begin too early",
    ),
    header(
        "tile/depth",
        "columns-for-rows",
        "Radices{columns_.taps, rows_.taps}",
        "Radices{rows_.taps, columns_.taps}",
        "columns and rows of taps are exchanged",
    ),
    header(
        "tile/digits", "carry-lost", "      ++a.mid;\n", "", "steps past the last column stay in their row"
    ),
    header(
        "tile/digits",
        "high-carry-lost",
        "      ++a.high;\n",
        "",
        "steps past the last row stay in their image",
    ),
    header(
        "tile/digits",
        "high-digit-forgotten",
        "    a.high += by.high;\n",
        "",
        "stages of more places than a channel has taps fall behind",
    ),
    header(
        "tile/digits",
        "number-in-32-bits",
        "    const long long rest = number / low;",
        "    const long long rest = static_cast<int>(number) / low;",
        "numbers from 2^31 on wrap",
    ),
    header(
        "tile/digits",
        "advance-without-mid-carry",
        "from.high + carry_mid)",
        "from.high)",
        "a block stays in its first image",
    ),
)

OPERANDS = (
    header(
        "tile/operand",
        "rows-unchecked",
        "y < rows && x < columns",
        "x < columns",
        "rows outside the input are read",
    ),
    header(
        "tile/operand",
        "columns-unchecked",
        "y < rows && x < columns",
        "y < rows",
        "columns outside the input are read",
    ),
    header(
        "tile/operand",
        "filters-unchecked",
        "there[p] && offset.there()",
        "offset.there()",
        "taps behind the last filter are read",
    ),
    header(
        "tile/operand",
        "zeros-forgotten",
        "    Vector found{};\n",
        "    Vector found = values[p][d];\n",
        "what is not there is what was there before",
    ),
    header(
        "tile/operand",
        "unaligned-first-only",
        "found[i] = ptx::ld_global_nc(from + i);",
        "found[i] = ptx::ld_global_nc(from);",
        "an unaligned vector is its first element throughout",
    ),
    header(
        "tile/operand",
        "warps-overlap-across",
        "((p * kWarpsAcross + warp) * kLanesAcross + lane) * kOuterVector",
        "(p * kWarpsAcross * kLanesAcross + lane) * kOuterVector",
        "warps load each other's pixels",
    ),
    header(
        "tile/operand",
        "store-depth-step",
        "to + i * kStep), part",
        "to + i), part",
        "neighbours along the depth are stored along the row",
    ),
    header(
        "gemm/block", "row-unstrided", "pixel.i * params.stride_h", "pixel.i", "rows of pixels lie too near"
    ),
    header(
        "gemm/block",
        "column-origin-of-rows",
        "block.columns.origin + pixel.j",
        "block.rows.origin + pixel.j",
        "columns begin where rows do",
    ),
    header(
        "gemm/block",
        "rows-behind-the-last",
        "  if (block.m + m >= block.count_m) return false;\n",
        "",
        "pixels behind the last are read",
    ),
    header(
        "gemm/block",
        "taps-of-first-group",
        "block.g * params.taps_strides.group + block.rows.tap0",
        "block.rows.tap0",
        "every group takes the first one's taps",
    ),
    header(
        "gemm/block",
        "tap0-of-column-forgotten",
        " +\n                          block.columns.tap0 * params.taps_strides.column;",
        ";",
        "columns of taps are not turned round",
    ),
    header(
        "gemm/block",
        "in-strides-in-32-bits",
        "pixel.image * params.in_strides.image +",
        "static_cast<int>(pixel.image * params.in_strides.image) +",
        "images from 2^31 elements on are taken from elsewhere",
    ),
)

FAULTS = (*PIPELINE, *DEPTH, *OPERANDS)
