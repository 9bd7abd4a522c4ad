"""Faults in what kernels include."""

from __future__ import annotations

from tests.mutation.fault import Fault

_INCLUDE = "cuda_src/include/gpuconv/"


def _in(file: str, name: str, old: str, new: str, why: str) -> Fault:
    return Fault(name, _INCLUDE + file, old, new, why)


def _copy(name: str, old: str, new: str, why: str) -> Fault:
    return _in("tile/copy.cuh", name, old, new, why)


def _axis(name: str, old: str, new: str, why: str) -> Fault:
    return _in("tile/correlation.cuh", name, old, new, why)


def _finish(name: str, old: str, new: str, why: str) -> Fault:
    return _in("epilogue/finish.cuh", name, old, new, why)


COPIES = (
    _copy(
        "vector-before-start",
        "inside && first >= 0 && first",
        "inside && first",
        "loads before the first cell",
    ),
    _copy(
        "vector-past-end",
        "first <= limit - kVector &&",
        "first < limit &&",
        "a vector reads on behind the last cell",
    ),
    _copy(
        "load-misaligned", " && is_aligned<Loaded>(from)) {", ") {", "a vector load wherever the array begins"
    ),
    _copy(
        "cells-signed",
        "inside = inside && static_cast<unsigned>(cell) < static_cast<unsigned>(source.limit[a])",
        "inside = inside && cell < source.limit[a]",
        "cells before the first are read",
    ),
    _copy(
        "cells-one-too-many",
        "static_cast<unsigned>(cell) < static_cast<unsigned>(source.limit[a])",
        "static_cast<unsigned>(cell) <= static_cast<unsigned>(source.limit[a])",
        "a cell behind the last is read",
    ),
    _copy(
        "unit-one-too-many",
        "static_cast<unsigned>(cell) < static_cast<unsigned>(limit)",
        "static_cast<unsigned>(cell) <= static_cast<unsigned>(limit)",
        "a neighbour behind the last is read",
    ),
    _copy(
        "no-zeros",
        "      ptx::st_shared(to, present ? Stored(widen(ptx::ld_global_nc(from))) : Stored(0));",
        "      if (present) ptx::st_shared(to, Stored(widen(ptx::ld_global_nc(from))));",
        "shared memory keeps what was there",
    ),
    _copy(
        "no-async-zeros",
        "      ptx::cp_async_ca<sizeof(Element)>(to, present ? from : somewhere,",
        "      if (present) ptx::cp_async_ca<sizeof(Element)>(to, from,",
        "shared memory keeps what was there",
    ),
    _copy(
        "async-reads-always",
        "present ? sizeof(Element) : 0);",
        "sizeof(Element));",
        "the border holds the array's first element",
    ),
    _copy("last-load-lost", "load < kLoads;", "load < kLoads - 1;", "the tile's last cells are not filled"),
    _copy("unit-not-scaled", "rest % kUnits * kVector", "rest % kUnits", "vectors overlap"),
    _copy(
        "async-scatter-adjacent",
        "ptx::cp_async_ca<sizeof(Element)>(to + i * Shape::stride(kUnit), &from",
        "ptx::cp_async_ca<sizeof(Element)>(to + i, &from",
        "cells that are apart are copied side by side",
    ),
    _copy(
        "scatter-adjacent",
        "reinterpret_cast<Pack<Stored, kStore>*>(to + i * Shape::stride(kUnit))",
        "reinterpret_cast<Pack<Stored, kStore>*>(to + i)",
        "cells that are apart are stored side by side",
    ),
    _copy(
        "steps-swapped",
        "a == kRow ? source.row_step : a == kColumn ? source.column_step : 1",
        "a == kRow ? source.column_step : a == kColumn ? source.row_step : 1",
        "rows are stepped like columns",
    ),
    _copy(
        "in-offset-in-32-bits",
        "from += cell * source.stride[a];",
        "from += static_cast<int>(cell * source.stride[a]);",
        "cells from 2^31 elements on are taken from elsewhere",
    ),
)

AXES = (
    _axis(
        "padding-sign",
        "axis.out_size, -axis.pad,",
        "axis.out_size, axis.pad,",
        "the border on the wrong side",
    ),
    _axis(
        "class-without-tail",
        "(axis.out_size - 1 - a) / axis.classes + 1;",
        "axis.out_size / axis.classes;",
        "the last outputs of early classes are lost",
    ),
    _axis(
        "no-empty-classes",
        "  if (shifted % axis.common != 0) return {a, axis.classes, count, 0, 0, 0, 0};\n",
        "",
        "outputs that no tap meets get a sum",
    ),
    _axis(
        "inverse-forgotten",
        "% axis.period * axis.inverse % axis.period",
        "% axis.period",
        "the wrong taps in a class",
    ),
    _axis("class-tap-lost", "/ axis.period + 1 : 0;", "/ axis.period : 0;", "a class lacks a tap"),
    _axis("class-tap-behind", "r0 < axis.taps ?", "r0 <= axis.taps ?", "a class takes a tap behind the last"),
    _axis("taps-forward", "taps, last, -axis.period}", "taps, r0, axis.period}", "taps are not turned round"),
    _axis(
        "class-tap-step",
        "static_cast<long long>(last) * axis.tap_step",
        "static_cast<long long>(last)",
        "a dilated class begins elsewhere",
    ),
    _axis(
        "class-origin",
        "taps ? static_cast<int>((shifted -",
        "taps ? static_cast<int>((a -",
        "padding is ignored",
    ),
)

ELEMENTS = (
    _in(
        "tile/element.cuh",
        "bf16-truncated",
        "(bits + 0x7fff + (bits >> 16 & 1)) >> 16",
        "bits >> 16",
        "rounded to zero",
    ),
    _in(
        "tile/element.cuh",
        "bf16-ties-up",
        "(bits + 0x7fff + (bits >> 16 & 1)) >> 16",
        "(bits + 0x8000) >> 16",
        "ties are rounded away from zero",
    ),
    _in(
        "tile/element.cuh",
        "bf16-nan-rounded",
        "  if (value != value) return {0x7fff};\n",
        "",
        "a device's NaN, all bits set, is rounded up to -0",
    ),
)

FINISH = (
    _finish(
        "relu-before-residual",
        "      if constexpr (Residual)\n        if (i < count) value += widen(added[i]);\n"
        "      if constexpr (Relu) value = value < 0 ? Sum(0) : value;  // NaN stays\n",
        "      if constexpr (Relu) value = value < 0 ? Sum(0) : value;  // NaN stays\n"
        "      if constexpr (Residual)\n        if (i < count) value += widen(added[i]);\n",
        "a negative residual comes through",
    ),
    _finish(
        "relu-loses-nan", "value < 0 ? Sum(0) : value;", "value > 0 ? value : Sum(0);", "NaN becomes zero"
    ),
    _finish(
        "rounded-before-residual",
        "if (i < count) value += widen(added[i]);",
        "if (i < count) value = widen(narrow<Element>(value)) + widen(added[i]);",
        "rounded twice",
    ),
    _finish(
        "bias-of-one-channel",
        "bias + channel + i * channel_step",
        "bias + channel",
        "neighbours take one bias",
    ),
    _finish(
        "bias-unguarded",
        "        if (i < count) value += widen(ptx::ld_global_nc(bias",
        "        value += widen(ptx::ld_global_nc(bias",
        "bias is read behind its end",
    ),
    _finish("residual-of-start", "residual + offset;", "residual;", "every result takes the first residual"),
    _finish(
        "residual-misaligned",
        " && is_aligned<Together>(from)) {",
        ") {",
        "a vector load wherever arrays begin",
    ),
    _finish(
        "result-misaligned", " && is_aligned<Together>(to)) {", ") {", "a vector store wherever arrays begin"
    ),
    _finish("whole-too-soon", "whole = count >= N", "whole = count >= N - 1", "a vector runs over by one"),
    _finish(
        "result-unguarded",
        "        if (i < count) ptx::st_global(to + i",
        "        ptx::st_global(to + i",
        "results that are not there are stored",
    ),
    _finish(
        "residual-unguarded",
        "          if (i < count) added[i] =",
        "          added[i] =",
        "residual is read behind its end",
    ),
)

PARAMS = (
    _in(
        "fast_divmod.cuh",
        "division-by-one",
        "return multiplier == 0 ? n : high >> shift;",
        "return high >> shift;",
        "n / 1 is 0",
    ),
    _in(
        "fast_divmod.cuh",
        "division-in-32-bits",
        "(static_cast<unsigned long long>(n) * multiplier) >> 32",
        "static_cast<unsigned long long>(n * multiplier) >> 32",
        "the product's high half is lost",
    ),
    _in(
        "fast_divmod.cuh", "division-shift", "high >> shift;", "high >> (shift + 1);", "quotients are halved"
    ),
    _in(
        "params.cuh",
        "struct-axes-swapped",
        "Axis rows, columns;\n  int images, groups,",
        "Axis columns, rows;\n  int images, groups,",
        "not the host's order",
    ),
    _in(
        "params.cuh",
        "struct-strides-swapped",
        "long long image, group, channel, row, column;",
        "long long group, image, channel, row, column;",
        "not the host's order",
    ),
    _in(
        "params.cuh",
        "struct-arrays-swapped",
        "struct DirectParams {\n  const void* in;\n  const void* taps;",
        "struct DirectParams {\n  const void* taps;\n  const void* in;",
        "not the host's order",
    ),
    _in(
        "params.cuh",
        "struct-counts-swapped",
        "int elements, splits;",
        "int splits, elements;",
        "not the host's order",
    ),
)

FAULTS = (*COPIES, *AXES, *ELEMENTS, *FINISH, *PARAMS)
