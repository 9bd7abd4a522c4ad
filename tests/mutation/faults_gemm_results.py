"""Faults in the implicit matrix product's grid, sums and results, and in its host side."""

from __future__ import annotations

from tests.mutation.fault import Fault
from tests.mutation.faults_gemm import TESTS, header


def _host(file: str, name: str, old: str, new: str, why: str) -> Fault:
    return Fault(f"gemm-{name}", f"gpuconv/kernels/cuda/{file}.py", old, new, why, TESTS)


GRID = (
    header(
        "gemm/block",
        "band-of-full-width",
        "min(static_cast<unsigned>(params.raster), params.tiles_n - band)",
        "static_cast<unsigned>(params.raster)",
        "the last band walks past the last column",
    ),
    header(
        "gemm/block",
        "band-unscaled",
        "params.band.divmod(tile, inside) * params.raster;",
        "params.band.divmod(tile, inside);",
        "bands overlap",
    ),
    header(
        "gemm/block",
        "splits-overlap",
        "last = min(first + params.stages_per_split, stages);",
        "last = min(first + params.stages_per_split + SPLIT, stages);",
        "a stage is summed twice",
    ),
    header(
        "gemm/block",
        "classes-swapped",
        "index = params.classes_w.divmod(index, at);",
        "index = params.classes_h.divmod(index, at);",
        "columns fall into rows' classes",
    ),
    header(
        "gemm/block",
        "radices-swapped",
        "Radices{columns.count, rows.count}",
        "Radices{rows.count, columns.count}",
        "pixels are counted by columns",
    ),
)

SUMS = (
    header(
        "gemm/sums",
        "total-forgotten",
        "total[i][j] += part[i][j];",
        "total[i][j] = part[i][j];",
        "only the last stage is kept",
    ),
    header(
        "gemm/sums",
        "part-goes-on",
        "for (int j = 0; j < THREAD_N; ++j) part[i][j] = 0;",
        "for (int j = 0; j < THREAD_N; ++j) part[i][j] = total[i][j], total[i][j] = 0;",
        "long sums are one running sum, with its error",
    ),
    header(
        "gemm/sums",
        "quads-overlap",
        "from + i / Together * Apart",
        "from + i / Together * Together",
        "a thread's second quad is its neighbour's first",
    ),
    header(
        "gemm/sums",
        "quad-rows-too-many",
        "count = static_cast<int>(left < kQuadM ? left : kQuadM);",
        "count = kQuadM;",
        "rows behind the last are stored",
    ),
    header(
        "gemm/sums",
        "neighbours-assumed",
        "neighbours && offset[e] == offset[0] + e;",
        "neighbours && offset[e] > 0;",
        "quads that cross rows are stored as if they did not",
    ),
    header(
        "gemm/sums",
        "last-neighbour-alone",
        "neighbours && offset[e] == offset[0] + e;",
        "(e < kQuadM - 1 ? neighbours : offset[e] == offset[0] + e);",
        "quads whose last row lies right by chance are stored as neighbours",
    ),
    header(
        "gemm/block",
        "class-step-forgotten",
        "static_cast<long long>(pixel.i) * block.rows.step",
        "static_cast<long long>(pixel.i)",
        "rows of a class are stored side by side",
    ),
    header(
        "gemm/sums",
        "columns-behind-the-last",
        "          if (n + f >= params.filters) break;\n",
        "",
        "columns behind the last are stored",
    ),
    header(
        "gemm/sums",
        "bias-of-group-zero",
        "const int channel = block.g * params.filters + n;",
        "const int channel = n;",
        "every group takes the first one's bias",
    ),
    header(
        "gemm/sums",
        "split-offset-in-32-bits",
        "block.split * params.split_elements",
        "static_cast<int>(block.split * params.split_elements)",
        "parts from 2^31 elements on overwrite others",
    ),
)

HOST = (
    _host(
        "implicit_gemm_simt",
        "pointers-swapped",
        'pointers=("a", "b",',
        'pointers=("b", "a",',
        "input and taps change places",
    ),
    _host(
        "implicit_gemm_simt",
        "grid-without-splits",
        "grid=(prod(tiles.blocks) * cfg.splits, 1, 1)",
        "grid=(prod(tiles.blocks), 1, 1)",
        "only one part",
    ),
    _host(
        "product",
        "taps-in-order",
        "(-rows.period, -columns.period) if rows.reverse",
        "(-1, -1) if rows.reverse",
        "a class takes taps of other classes",
    ),
    _host(
        "product",
        "steps-undilated",
        "in_steps=_steps(in_strides, rows.dilation, columns.dilation, itemsize)",
        "in_steps=_steps(in_strides, 1, 1, itemsize)",
        "dilated taps meet the cells between",
    ),
    _host(
        "product",
        "borders-taken",
        '    if p.padding_mode != "zeros":\n',
        '    if p.padding_mode == "none":\n',
        "other borders are computed as zeros",
    ),
    _host(
        "gemm_tiles",
        "workspace-of-table",
        "2 * cfg.block_k * (24 +",
        "2 * cfg.block_k * (16 +",
        "shared memory is too small",
    ),
    _host(
        "gemm_tiles",
        "vector-past-the-run",
        "vector > 1 and (run % vector or not",
        "vector > 1 and (not",
        "a vector crosses into the next tap",
    ),
    _host(
        "product",
        "reversed-run",
        "forward = not f.rows.reverse",
        "forward = True",
        "taps that are met backwards are loaded forwards",
    ),
    _host(
        "gemm_tiles",
        "roundings-uncounted",
        "return first + max(0, -(-self.stage_count // splits) - 1) + splits - 1",
        "return first",
        "sums of very many stages are allowed",
    ),
    _host(
        "product",
        "stages-rounded-down",
        "-(-self.stage_count // self.cfg.splits)",
        "self.stage_count // self.cfg.splits",
        "the last stages are nobody's",
    ),
    _host(
        "gemm_choice",
        "shallow-sums",
        "_SHALLOW = 48",
        "_SHALLOW = 0",
        "sums of 32 products are one running sum",
    ),
)

FAULTS = (*GRID, *SUMS, *HOST)
