"""Faults in what the host decides, computes and packs."""

from __future__ import annotations

from tests.mutation.fault import Fault


def _host(file: str, name: str, old: str, new: str, why: str) -> Fault:
    return Fault(name, f"gpuconv/{file}.py", old, new, why)


def _launches(name: str, old: str, new: str, why: str) -> Fault:
    return _host("kernels/cuda/direct", name, old, new, why)


def _tiles(name: str, old: str, new: str, why: str) -> Fault:
    return _host("kernels/cuda/direct_tiles", name, old, new, why)


def _form(name: str, old: str, new: str, why: str) -> Fault:
    return _host("kernels/cuda/correlation", name, old, new, why)


def _struct(name: str, old: str, new: str, why: str) -> Fault:
    return _host("kernels/cuda/params", name, old, new, why)


def _sum(name: str, old: str, new: str, why: str) -> Fault:
    return _host("kernels/cuda/split_sum", name, old, new, why)


LAUNCHES = (
    _launches(
        "pointers-swapped", 'pointers=("a", "b",', 'pointers=("b", "a",', "input and taps change places"
    ),
    _launches(
        "splits-write-result", '"workspace" if partial else "out"', '"out"', "partial sums overrun the result"
    ),
    _launches(
        "grid-without-splits", "prod(tiles.blocks) * cfg.splits,", "prod(tiles.blocks),", "only one part"
    ),
    _launches(
        "workspace-one-short",
        "return cfg.splits * prod(",
        "return (cfg.splits - 1) * prod(",
        "one part lacks room",
    ),
    _launches("workspace-of-floats", '(8 if p.dtype == "f64" else 4)', "4", "half the room for doubles"),
    _launches(
        "split-tail-lost",
        "stages_per_split=-(-tiles.stage_count // cfg.splits)",
        "stages_per_split=tiles.stage_count // cfg.splits",
        "stages that do not divide are lost",
    ),
    _launches(
        "guard-only-if-both",
        "tiles.cfg.taps_r) and form.columns.even",
        "tiles.cfg.taps_r) or form.columns.even",
        "short rows or short columns alone are not guarded",
    ),
    _launches(
        "strides-swapped",
        '"STRIDE_H": form.rows.stride',
        '"STRIDE_H": form.columns.stride',
        "columns' stride",
    ),
    _launches(
        "dilations-swapped",
        '"DILATION_W": form.columns.dilation',
        '"DILATION_W": form.rows.dilation',
        "rows' dilation",
    ),
    _launches(
        "no-long-sums", '"LONG_SUM": int(tiles.long_sum)', '"LONG_SUM": 0', "one running sum, with its error"
    ),
    _launches("classes-forgotten", 'int(p.op == "dgrad")', "0", "all outputs take the first class's taps"),
    _launches(
        "split-elements-rounded",
        "split_elements=form.out_elements",
        "split_elements=-(-form.out_elements // 128) * 128",
        "parts do not lie where the second launch looks",
    ),
    _launches(
        "taps-strides-of-input",
        "taps_strides=form.taps_strides",
        "taps_strides=form.in_strides",
        "wrong taps",
    ),
)

TILES = (
    _tiles(
        "halo-one-short",
        "(results - 1) * stride + (taps - 1) * dilation + 1",
        "(results - 1) * stride + (taps - 1) * dilation",
        "shared memory lacks the halo's last row and column",
    ),
    _tiles("one-buffer", "return cfg.stages * (", "return (", "shared memory of one stage"),
    _tiles(
        "tap-cells-not-rounded",
        "_round_up(taps, quad)) * self.sum_bytes",
        "taps - 1) * self.sum_bytes",
        "shared memory lacks its last element",
    ),
    _tiles(
        "sums-of-floats", 'return 8 if self.p.dtype == "f64" else 4', "return 4", "half the room for doubles"
    ),
    _tiles(
        "padding-not-counted",
        "_spread(plane) if deep > 1 else plane",
        "plane",
        "shared memory without its padding",
    ),
    _tiles(
        "vector-beyond-tile",
        "for value in (extent, *starts, *others)",
        "for value in (*starts, *others)",
        "a row of the tile is no whole number of loads",
    ),
    _tiles(
        "vector-of-apart-columns",
        " or (cfg.taps_s == 1 and columns.stride > 1) or",
        " or",
        "columns a stride apart as one",
    ),
    _tiles(
        "vector-backwards",
        'if unit in ("kRow", "kColumn") and self.form.rows.reverse:',
        "if False:",
        "taps that are met from the last on are loaded forwards",
    ),
    _tiles(
        "channel-tail-lost",
        "-(-self.form.channels // self.cfg.block_c)",
        "max(1, self.form.channels // self.cfg.block_c)",
        "channels that do not divide are lost",
    ),
    _tiles(
        "row-taps-lost",
        "-(-self.form.rows.class_taps // self.cfg.taps_r)",
        "max(1, self.form.rows.class_taps // self.cfg.taps_r)",
        "rows of taps that do not divide are lost",
    ),
    _tiles(
        "image-tail-lost",
        "-(-f.images // cfg.block_n)",
        "max(1, f.images // cfg.block_n)",
        "images that do not divide",
    ),
    _tiles(
        "filter-tail-lost",
        "-(-f.filters // cfg.block_k)",
        "max(1, f.filters // cfg.block_k)",
        "outputs that do not divide",
    ),
    _tiles(
        "group-tail-lost",
        "-(-f.groups // cfg.block_g)",
        "max(1, f.groups // cfg.block_g)",
        "groups that do not divide",
    ),
    _tiles(
        "row-tail-lost",
        "-(-f.rows.class_outputs // cfg.block_p)",
        "max(1, f.rows.class_outputs // cfg.block_p)",
        "rows that do not divide",
    ),
    _tiles(
        "blocks-swapped",
        "f.columns.launched_classes, f.rows.launched_classes,",
        "f.rows.launched_classes, f.columns.launched_classes,",
        "classes of rows and columns change places",
    ),
    _tiles(
        "vector-over-classes",
        '"kColumn" if out.column == 1 and self.form.columns.classes == 1 else "kRow"',
        '"kColumn" if out.column == 1 else "kRow"',
        "columns of a class are stored as neighbours",
    ),
    _tiles(
        "vector-of-grouped-out",
        "if self.form.filters > 1 and out.channel == 1:",
        "if self.form.filters > 1:",
        "outputs of planes are stored as neighbours",
    ),
)

FORMS = (
    _form(
        "class-taps-floor",
        "-(-self.taps // self.period)",
        "max(1, self.taps // self.period)",
        "the longest class is cut",
    ),
    _form(
        "class-outputs-floor",
        "-(-self.out_size // self.classes)",
        "max(1, self.out_size // self.classes)",
        "the longest class is cut",
    ),
    _form(
        "inverse-is-itself",
        "pow(self.tap_step // self.common, -1, self.period)",
        "self.tap_step // self.common % self.period",
        "right up to period 4, where every number is its own inverse",
    ),
    _form(
        "empty-classes-even",
        "        if self.common > 1:\n            counts.add(0)\n",
        "",
        "classes without taps are not guarded",
    ),
    _form(
        "classes-even",
        "counts = {self.taps // self.period, self.class_taps}",
        "counts = {self.class_taps}",
        "short classes are not guarded",
    ),
    _form(
        "group-of-inputs",
        "w = Strides(wo, Kg * wo, wi, wr, ws)\n        return Correlation(p.N",
        "w = Strides(wo, Cg * wo, wi, wr, ws)\n        return Correlation(p.N",
        "taps of another group",
    ),
    _form(
        "channels-not-swapped",
        "        w = Strides(wi, Kg * wo, wo, wr, ws)\n        return Correlation(p.N",
        "        w = Strides(wo, Kg * wo, wi, wr, ws)\n        return Correlation(p.N",
        "inputs and outputs of dgrad's taps",
    ),
    _form("other-sides-padding", "p.padding[which][0]", "p.padding[which][1]", "padding of the other side"),
    _form(
        "wgrad-strides-kept",
        "Axis(size, taps, out, pad, dilation, stride)",
        "Axis(size, taps, out, pad, stride, dilation)",
        "stride and dilation of wgrad change places",
    ),
    _form(
        "dilation-not-reduced",
        "1, dilation // common, stride",
        "1, dilation, stride",
        "cells of a class are too far apart",
    ),
    _form("common-is-one", "common = gcd(stride, dilation)", "common = 1", "a common factor is ignored"),
    _form(
        "wgrad-groups-of-outputs",
        "Strides(xc, Cg * xc, xn, xh, xw)",
        "Strides(xc, Kg * xc, xn, xh, xw)",
        "input channels of another group",
    ),
)

STRUCTS = (
    _struct(
        "multiplier-rounded-down",
        "-(-(1 << (31 + bits)) // divisor)",
        "(1 << (31 + bits)) // divisor",
        "multiples come out one too small",
    ),
    _struct(
        "divisor-bits",
        "bits = (divisor - 1).bit_length()",
        "bits = divisor.bit_length()",
        "powers of two overflow",
    ),
    _struct(
        "packed-axes-swapped",
        """(name, Axis) for name in ("rows", "columns")),
        *(
            (name, ctypes.c_int32)
            for name in (
                "images",""",
        """(name, Axis) for name in ("columns", "rows")),
        *(
            (name, ctypes.c_int32)
            for name in (
                "images",""",
        "not the kernel's order",
    ),
    _struct(
        "packed-stages-swapped",
        '"chunks_r", "chunks_s", "stages"',
        '"chunks_s", "chunks_r", "stages"',
        "not the kernel's order",
    ),
    _struct(
        "packed-counts-swapped",
        '        ("elements", ctypes.c_int32),\n        ("splits", ctypes.c_int32),',
        '        ("splits", ctypes.c_int32),\n        ("elements", ctypes.c_int32),',
        "not the kernel's order",
    ),
    _struct(
        "packed-strides-32-bits",
        '(name, ctypes.c_int64) for name in ("image", "group"',
        '(name, ctypes.c_int32) for name in ("image", "group"',
        "strides cut to 32 bits",
    ),
)

SPLIT_SUM = (
    _sum(
        "sum-grid-floor",
        "grid=(-(-elements // _THREADS), 1, 1)",
        "grid=(max(1, elements // _THREADS), 1, 1)",
        "the last results are not written",
    ),
    _sum(
        "sum-block-too-big", "_THREADS = 128", "_THREADS = 256", "not the kernel's block: half of the results"
    ),
    _sum(
        "sum-divisors-swapped",
        "FastDivmod.of(channel_stride), FastDivmod.of(p.out_channels)",
        "FastDivmod.of(p.out_channels), FastDivmod.of(channel_stride)",
        "bias of another channel",
    ),
    _sum(
        "epilogue-swapped",
        '"BIAS": int(p.bias), "RESIDUAL": int(p.residual)',
        '"BIAS": int(p.residual), "RESIDUAL": int(p.bias)',
        "a null pointer is read",
    ),
    _host(
        "backend/launch",
        "pointers-sorted",
        "(addresses[name] for name in self.pointers)",
        "(addresses[name] for name in sorted(self.pointers))",
        "pointers by name, not by place",
    ),
    _host(
        "backend/launch",
        "pointers-after-params",
        "for name in self.pointers)) + self.params",
        "for name in self.pointers[::-1])) + self.params",
        "pointers from the last on",
    ),
)

FAULTS = (*LAUNCHES, *TILES, *FORMS, *STRUCTS, *SPLIT_SUM)
