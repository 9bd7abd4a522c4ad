"""Faults in what makes its results one by one: patches, their sums, borders, and filters of images."""

from __future__ import annotations

from tests.mutation.fault import Fault

PATCHES = ("emulator/test_patches.py", "cpu/test_patches.py")
BORDERS = ("emulator/test_pad.py", "emulator/test_filters.py", "cpu/test_filters.py")


def _unfold(name: str, old: str, new: str, why: str) -> Fault:
    return Fault(name, "cuda_src/kernels/unfold.cu", old, new, why, PATCHES)


def _count(name: str, old: str, new: str, why: str) -> Fault:
    return Fault(name, "cuda_src/include/gpuconv/tile/count.cuh", old, new, why, PATCHES)


def _pad(name: str, old: str, new: str, why: str) -> Fault:
    return Fault(name, "cuda_src/kernels/pad.cu", old, new, why, BORDERS)


def _host(file: str, tests: tuple[str, ...], name: str, old: str, new: str, why: str) -> Fault:
    return Fault(name, f"gpuconv/{file}.py", old, new, why, tests)


def _unfold_host(name: str, old: str, new: str, why: str) -> Fault:
    return _host("kernels/cuda/unfold", PATCHES, name, old, new, why)


def _gather_host(name: str, old: str, new: str, why: str) -> Fault:
    return _host("kernels/cuda/gather", (BORDERS[0], PATCHES[0]), name, old, new, why)


def _pad_host(name: str, old: str, new: str, why: str) -> Fault:
    return _host("kernels/cuda/pad", BORDERS, name, old, new, why)


def _on_cpu(name: str, old: str, new: str, why: str) -> Fault:
    return _host("kernels/cpu/unfold", PATCHES[::-1], name, old, new, why)


def _filters(name: str, old: str, new: str, why: str) -> Fault:
    return _host("filters", BORDERS[1:], name, old, new, why)


UNFOLD = (
    _unfold("fold-one-run", "if (++terms < run) return;", "return;", "a long sum is a plain one"),
    _unfold(
        "fold-runs-too-long", "      ++run;", "      run += 16;", "runs soon err more than the bound allows"
    ),
    _unfold(
        "fold-run-summed-twice", "        part[c] = 0;\n", "", "a run goes on from the sum of the one before"
    ),
    _unfold("fold-last-run-lost", "LONG_SUM ? total[c] + part[c]", "LONG_SUM ? total[c]", "the last terms"),
    _unfold(
        "fold-between-patches", "if (between_rows != 0 || ", "if (", "with a stride, patches beside the cell"
    ),
    _unfold(
        "fold-one-row-too-many",
        "i >= static_cast<unsigned>(params.rows)",
        "i > static_cast<unsigned>(params.rows)",
        "patches behind the last",
    ),
    _unfold(
        "fold-one-column-too-many",
        "j >= static_cast<unsigned>(params.columns)",
        "j > static_cast<unsigned>(params.columns)",
        "patches of the next row",
    ),
    _unfold("fold-pads-backwards", "column + params.pad_w - s", "column - params.pad_w - s", "columns shift"),
    _unfold(
        "fold-other-dilation",
        "pad_h - r * params.dilation_h",
        "pad_h - r * params.dilation_w",
        "rows as far apart as columns",
    ),
    _unfold(
        "unfold-reads-behind-rows",
        "static_cast<unsigned>(x) < static_cast<unsigned>(params.width)",
        "static_cast<unsigned>(x) <= static_cast<unsigned>(params.width)",
        "the padding shows the next row",
    ),
    _unfold(
        "unfold-loads-anywhere",
        "    if (!is_aligned<Unit>(from)) {",
        "    if (false) {",
        "misaligned vectors",
    ),
    _unfold(
        "unfold-stores-anywhere", "    if (!is_aligned<Unit>(to)) {", "    if (false) {", "misaligned vectors"
    ),
    _unfold(
        "unfold-offset-of-31-bits",
        "row * params.patch_row + column",
        "row * static_cast<int>(params.patch_row) + column",
        "patches beyond 4 GiB",
    ),
    _unfold(
        "unfold-taps-transposed",
        "place == 1 ? kTapColumn : kTapRow",
        "place == 1 ? kTapRow : kTapColumn",
        "the host counts columns first",
    ),
    _count(
        "count-one-too-few",
        "rest >= static_cast<unsigned>(count.units)",
        "rest + 1 >= static_cast<unsigned>(count.units)",
        "the last thread has a result too",
    ),
    _count(
        "count-without-rounds", "    if (axis == count.outer) rest = round;\n", "", "only the first round"
    ),
)
PAD = (
    _pad(
        "pad-mirror-at-the-cell",
        "axis.period.divisor - 1 - cell",
        "axis.period.divisor - cell",
        "the edge is shown once, and a cell behind it is read",
    ),
    _pad(
        "pad-one-cell-too-many",
        "return cell < axis.size ? cell : -1;",
        "return cell <= axis.size ? cell : -1;",
        "a cell behind the image instead of the constant",
    ),
    _pad(
        "pad-first-row-constant", "if (row >= 0 &&", "if (row > 0 &&", "the first row is taken for the border"
    ),
    _pad(
        "pad-no-shift",
        "axis.period.divmod(at + axis.shift, cell);",
        "axis.period.divmod(at, cell);",
        "the image begins where its border should",
    ),
    _pad(
        "pad-channel-of-31-bits",
        "channel * params.channel +",
        "static_cast<int>(channel * params.channel) +",
        "channels beyond 31 bits",
    ),
    _pad(
        "pad-row-of-31-bits",
        "at[kRow] * params.plane_row",
        "at[kRow] * static_cast<unsigned>(params.plane_row)",
        "rows beyond 32 bits",
    ),
    _pad("pad-bytes-without-sign", "using i8 = signed char;", "using i8 = unsigned char;", "negative bytes"),
    _pad("pad-words-with-sign", "using u32 = unsigned;", "using u32 = int;", "large unsigned numbers"),
    _pad(
        "pad-longs-through-float",
        "return static_cast<To>(widen(value));",
        "return static_cast<To>(static_cast<float>(widen(value)));",
        "24 bits are left of doubles",
    ),
    _pad_host("pad-shift-forwards", "-before % period", "before % period", "the border begins elsewhere"),
    _pad_host("pad-mirror-without-period", "else 2 * size", "else size", "the mirror image is the image"),
    _pad_host(
        "pad-constant-in-double", "np.array(fill).astype(dtype)", "np.array(fill)", "half of a double's bits"
    ),
    _pad_host(
        "pad-axes-in-another-order",
        "[width, *(channels or [1]), height]",
        "[width, height, *(channels or [1])]",
        "channels are counted as rows",
    ),
    _pad_host(
        "pad-one-bit-more", "_BITS: Final = 29", "_BITS: Final = 30", "cells and two periods need 32 bits"
    ),
    _pad_host("pad-steps-in-bytes", "step // image.dtype.itemsize", "step", "bytes are taken for elements"),
    _gather_host(
        "gather-last-block-lost",
        "blocks = -(-units // _THREADS)",
        "blocks = max(1, units // _THREADS)",
        "results behind the last whole block",
    ),
    _gather_host(
        "gather-one-round",
        "Counting(blocks * prod(axes[outer:]), params)",
        "Counting(blocks, params)",
        "only the first round is launched",
    ),
    _gather_host(
        "gather-any-grid",
        "if counting.blocks > _MOST_BLOCKS:",
        "if counting.blocks > 2 * _MOST_BLOCKS:",
        "a grid that no device takes",
    ),
)
HOST = (
    _unfold_host(
        "unfold-vector-too-wide",
        "while p.C % vector:",
        "while p.C % (vector // 2 or 1):",
        "a vector reaches into the next pixel",
    ),
    _unfold_host(
        "unfold-other-side", "pad_w=p.padding[1][0]", "pad_w=p.padding[1][1]", "the right side's padding"
    ),
    _unfold_host(
        "fold-long-by-rows",
        "folds and _most_meeting(p) > SHORT_SUM",
        "folds and p.R > SHORT_SUM",
        "long sums of few rows are plain ones",
    ),
    _unfold_host(
        "fold-spreads-taps",
        "spread = last and not folds and",
        "spread = last and",
        "each tap writes the cell",
    ),
    _on_cpu(
        "fold-plain-on-the-cpu",
        "if prod(meeting) > SHORT_SUM:",
        "if prod(meeting) > SHORT_SUM**2:",
        "long sums are plain ones",
    ),
    _on_cpu(
        "fold-tap-between-halves",
        "((start + stop) // 2, stop)",
        "((start + stop) // 2 + 1, stop)",
        "the tap between the halves is lost",
    ),
    _on_cpu("fold-second-half-lost", "        sums += rest\n", "", "half of the taps"),
    _on_cpu(
        "fold-strides-never-meet",
        "axis.stride // gcd(axis.stride, axis.dilation)",
        "axis.stride",
        "where stride and dilation share a factor, more taps meet",
    ),
    _on_cpu(
        "fold-first-cell",
        "a, b = y - cells[0][0], x - cells[1][0]",
        "a, b = y - cells[0][0], x",
        "a block behind the first column writes elsewhere",
    ),
    _filters("filters-other-middle", "(rest, first) if flips", "(first, rest) if flips", "of even kernels"),
    _filters(
        "filters-no-common-type",
        "np.dtype(np.float32) if a != b and a.itemsize == b.itemsize else np.promote_types",
        "np.promote_types",
        "float16 and bfloat16 have none that NumPy knows",
    ),
    _filters(
        "filters-constant-is-zero",
        'if boundary == "fill" and filled == 0:',
        'if boundary == "fill":',
        "the constant is forgotten",
    ),
    _filters(
        "filters-image-not-turned",
        "_planes(_turned(in1), dtype, launcher)",
        "_planes(in1, dtype, launcher)",
        "exchanged, the result is turned",
    ),
    _filters(
        "filters-scattered-result", "launcher.contiguous(image)", "image", "channels are planes of memory"
    ),
    _filters(
        "filters-any-address",
        "        arrays.check_aligned(name, view, launcher)\n",
        "",
        "a kernel that reads there loses the device",
    ),
)

FAULTS = (*UNFOLD, *PAD, *HOST)
