"""Parameter structs, byte for byte as ``params.cuh`` declares them; the leading pointers come at launch."""

from __future__ import annotations

import ctypes
from typing import Any, ClassVar


class Struct(ctypes.Structure):
    """A C struct by its members' names."""

    def pack(self) -> bytes:
        """The struct's bytes."""
        return bytes(self)


class FastDivmod(Struct):
    """Mirror of ``fast_divmod.cuh``, whose proof holds for what is computed here."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        ("divisor", ctypes.c_uint32),
        ("multiplier", ctypes.c_uint32),
        ("shift", ctypes.c_uint32),
    ]

    @classmethod
    def of(cls, divisor: int) -> FastDivmod:
        """Constants for a divisor from 1 to 2³¹ − 1."""
        assert 1 <= divisor < 2**31
        if divisor == 1:
            return cls(1, 0, 0)
        bits = (divisor - 1).bit_length()
        return cls(divisor, -(-(1 << (31 + bits)) // divisor), bits - 1)


class Strides(Struct):
    """Elements between neighbours along each axis; of the taps, `image` counts outputs."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        (name, ctypes.c_int64) for name in ("image", "group", "channel", "row", "column")
    ]


class Axis(Struct):
    """One spatial axis; see ``params.cuh``."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        (name, ctypes.c_int32)
        for name in (
            "in_size", "out_size", "taps", "pad", "classes", "common", "period", "inverse", "tap_step",
        )
    ]  # fmt: skip


class DirectParams(Struct):
    """Parameters of ``kernels/direct.cu`` after its five pointers."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        *((name, Strides) for name in ("in_strides", "taps_strides", "out_strides")),
        ("split_elements", ctypes.c_int64),
        *((name, Axis) for name in ("rows", "columns")),
        *(
            (name, ctypes.c_int32)
            for name in (
                "images", "groups", "channels", "filters",
                "chunks_r", "chunks_s", "stages", "stages_per_split", "flush_rows",
            )
        ),
        *(
            (name, FastDivmod)
            for name in ("tiles_q", "tiles_p", "blocks_k", "blocks_g", "classes_w", "classes_h", "blocks_n")
        ),
    ]  # fmt: skip


class DepthSteps(Struct):
    """Bytes that an operand moves on by from channel to channel and from tap to tap."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        (name, ctypes.c_int64) for name in ("channel", "row", "column")
    ]


class GemmParams(Struct):
    """Parameters of ``kernels/implicit_gemm_simt.cu`` after its five pointers."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        *((name, Strides) for name in ("in_strides", "taps_strides", "out_strides")),
        *((name, DepthSteps) for name in ("in_steps", "taps_steps")),
        ("split_elements", ctypes.c_int64),
        *((name, Axis) for name in ("rows", "columns")),
        *(
            (name, ctypes.c_int32)
            for name in (
                "stride_h", "stride_w", "dilation_h", "dilation_w",
                "images", "channels", "filters", "stages_per_split", "tiles_n", "raster",
            )
        ),
        *((name, FastDivmod) for name in ("tiles", "band", "groups", "classes_w", "classes_h")),
    ]  # fmt: skip


class SplitSumParams(Struct):
    """Parameters of ``kernels/split_sum.cu`` after its four pointers."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        ("elements", ctypes.c_int32),
        ("splits", ctypes.c_int32),
        ("channel_stride", FastDivmod),
        ("channels", FastDivmod),
    ]


class BorderSumParams(Struct):
    """Parameters of ``kernels/border_sum.cu`` after its four pointers."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        *((name, ctypes.c_int64) for name in ("split_elements", "image", "row")),
        *(
            (name, ctypes.c_int32)
            for name in ("height", "width", "top", "bottom", "left", "right", "row_elements", "splits")
        ),
        *((name, FastDivmod) for name in ("tiles", "rows", "inner", "channels")),
    ]


class Count(Struct):
    """Results counted along several axes; see ``params.cuh``."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        ("units", ctypes.c_int32),
        ("outer", ctypes.c_int32),
        ("blocks", FastDivmod),
        ("extents", FastDivmod * 6),
    ]


class UnfoldParams(Struct):
    """Parameters of ``kernels/unfold.cu`` after its two pointers."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        *(
            (name, ctypes.c_int64)
            for name in (
                "image", "channel", "row", "column",
                "cols_image", "cols_channel", "tap_row", "tap_column", "patch_row", "patch_column",
            )
        ),
        *(
            (name, ctypes.c_int32)
            for name in (
                "height", "width", "rows", "columns", "taps_h", "taps_w",
                "pad_h", "pad_w", "stride_h", "stride_w", "dilation_h", "dilation_w",
            )
        ),
        ("count", Count),
        ("step_h", FastDivmod),
        ("step_w", FastDivmod),
    ]  # fmt: skip


class BiasGradParams(Struct):
    """Parameters of ``kernels/bias_grad.cu`` after its two pointers."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        *((name, ctypes.c_int64) for name in ("image", "channel", "rows", "part_rows", "step", "next_image")),
        *((name, ctypes.c_int32) for name in ("cells", "step_cells", "channels")),
        ("tiles", FastDivmod),
    ]


class PadAxis(Struct):
    """One axis of a padded image; see ``params.cuh``."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        ("size", ctypes.c_int32),
        ("shift", ctypes.c_int32),
        ("period", FastDivmod),
    ]


class PadParams(Struct):
    """Parameters of ``kernels/pad.cu`` after its two pointers."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        *((name, ctypes.c_int64) for name in ("row", "column", "channel", "plane_row", "plane")),
        ("fill", ctypes.c_uint64),
        ("rows", PadAxis),
        ("columns", PadAxis),
        ("boundary", ctypes.c_int32),
        ("count", Count),
    ]
