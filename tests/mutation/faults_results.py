"""Faults in where kernels read from and write to, and in the kernel that adds splits."""

from __future__ import annotations

from tests.mutation.fault import Fault


def _block(name: str, old: str, new: str, why: str) -> Fault:
    return Fault(name, "cuda_src/include/gpuconv/direct/block.cuh", old, new, why)


def _sums(name: str, old: str, new: str, why: str) -> Fault:
    return Fault(name, "cuda_src/include/gpuconv/direct/sums.cuh", old, new, why)


def _direct(name: str, old: str, new: str, why: str) -> Fault:
    return Fault(name, "cuda_src/kernels/direct.cu", old, new, why)


def _sum(name: str, old: str, new: str, why: str) -> Fault:
    return Fault(name, "cuda_src/kernels/split_sum.cu", old, new, why)


LOADS = (
    _block(
        "image-and-group-swapped",
        "params.in_strides.channel, params.in_strides.image,\n            params.in_strides.group}",
        "params.in_strides.channel, params.in_strides.group,\n            params.in_strides.image}",
        "strides of the input swapped",
    ),
    _block(
        "taps-filter-and-group-swapped",
        "{0, 0, 0, block.k, block.g}",
        "{0, 0, 0, block.g, block.k}",
        "taps of other outputs",
    ),
    _block(
        "in-sizes-swapped",
        "{params.rows.in_size, params.columns.in_size,",
        "{params.columns.in_size, params.rows.in_size,",
        "the zero border lies elsewhere",
    ),
    _block(
        "channels-unlimited",
        "params.channels, params.images, params.groups}",
        "BLOCK_C * 65536, params.images, params.groups}",
        "channels of the next group or image are loaded",
    ),
    _block(
        "filters-unlimited",
        "params.channels, params.filters, params.groups}",
        "params.channels, params.filters + 1, params.groups}",
        "one output too many is read",
    ),
    _block(
        "taps-of-all-classes",
        "{block.rows.taps, block.columns.taps,",
        "{params.rows.taps, params.columns.taps,",
        "taps before the first are read",
    ),
    _block(
        "first-taps-swapped",
        "block.rows.tap0 * params.taps_strides.row +\n"
        "                 block.columns.tap0 * params.taps_strides.column",
        "block.columns.tap0 * params.taps_strides.row +\n"
        "                 block.rows.tap0 * params.taps_strides.column",
        "columns' first tap taken for rows'",
    ),
    _block("packed-rows-not-skipped", "kPackRows ? STRIDE_H : 1", "1", "one tap meets the wrong rows"),
    _block(
        "packed-columns-of-rows",
        "kPackColumns ? STRIDE_W : 1},",
        "kPackColumns ? STRIDE_H : 1},",
        "rows' stride",
    ),
)

STORES = (
    _sums(
        "image-guard-late",
        "if (n >= params.images ||",
        "if (n > params.images ||",
        "an image too many is stored",
    ),
    _sums(
        "group-guard-late",
        "|| g >= params.groups) return;",
        "|| g > params.groups) return;",
        "a group too many",
    ),
    _sums(
        "row-guard-late",
        "if (i >= block.rows.count) break;",
        "if (i > block.rows.count) break;",
        "a row too many",
    ),
    _sums("column-guard-late", "|| left_q <= 0) continue;", "|| left_q < 0) continue;", "a column too many"),
    _sums("filter-guard-late", "if (left_k <= 0 ||", "if (left_k < 0 ||", "an output too many"),
    _sums(
        "store-ignores-filters",
        "kStepK > 1 ? left_k : kStepQ",
        "kStepK > 1 ? kTogether : kStepQ",
        "a vector of outputs runs over the last",
    ),
    _sums(
        "store-ignores-columns",
        "kStepQ > 1 ? left_q : 1",
        "kStepQ > 1 ? kTogether : 1",
        "a vector of columns runs over the last",
    ),
    _sums(
        "out-strides-swapped",
        "n * params.out_strides.image + g * params.out_strides.group",
        "n * params.out_strides.group + g * params.out_strides.image",
        "images and groups change places",
    ),
    _sums(
        "class-rows-adjacent",
        "(block.rows.first + i * block.rows.step)",
        "(block.rows.first + i)",
        "rows of a class lie side by side",
    ),
    _sums(
        "class-columns-of-rows",
        "(block.columns.first + j * block.columns.step)",
        "(block.columns.first + j * block.rows.step)",
        "rows' stride taken for columns'",
    ),
    _sums(
        "bias-of-first-group",
        "g * params.filters + filter, kStepK",
        "filter, kStepK",
        "bias of another group",
    ),
    _sums("bias-of-first-in-vector", "kStepK > 1 ? 1 : 0,", "0,", "a vector of outputs takes one bias"),
    _sums(
        "vector-of-one-sum",
        "k + (kStepK > 1 ? e : 0)",
        "k",
        "a vector of outputs is one output again and again",
    ),
    _sums(
        "split-place-forgotten",
        "SPLITS > 1 ? block.split * params.split_elements : 0",
        "0",
        "every split writes the first one's partial sums",
    ),
    _sums(
        "out-offset-in-32-bits",
        "const long long image = base",
        "const int image = base",
        "results from 2^31 elements on go elsewhere",
    ),
    _sums(
        "split-offset-in-32-bits",
        "block.split * params.split_elements",
        "block.split * int(params.split_elements)",
        "partial sums from 2^31 elements on go elsewhere",
    ),
)

SPLIT_SUM = (
    _sum(
        "last-split-lost",
        "split < params.splits;",
        "split < params.splits - 1;",
        "the last part is not added",
    ),
    _sum("first-split-twice", "Sum sum[1] = {0};", "Sum sum[1] = {*from};", "the first part is added twice"),
    _sum("sum-guard-late", "if (element >= static_cast", "if (element > static_cast", "one result too many"),
    _sum(
        "splits-padded",
        "from += params.elements;",
        "from += gridDim.x * BLOCK_THREADS;",
        "parts taken to lie whole blocks apart",
    ),
    _sum(
        "sum-bias-of-element",
        "params.channels.divmod(params.channel_stride.div(element), channel);",
        "params.channels.divmod(element, channel);",
        "bias right only where channels are neighbours",
    ),
)

FAULTS = (*LOADS, *STORES, *SPLIT_SUM)
