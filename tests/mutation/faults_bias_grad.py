"""Faults in the gradient to the bias."""

from __future__ import annotations

from tests.mutation.fault import Fault

TESTS = ("emulator/test_bias_grad.py", "unit/test_cuda_params.py")


def _kernel(name: str, old: str, new: str, why: str) -> Fault:
    return Fault(name, "cuda_src/kernels/bias_grad.cu", old, new, why, TESTS)


def _host(name: str, old: str, new: str, why: str) -> Fault:
    return Fault(name, "gpuconv/kernels/cuda/bias_grad.py", old, new, why, TESTS)


FAULTS = (
    _kernel(
        "bias-image-end-missed",
        "if (cell >= params.cells) {",
        "if (cell > params.cells) {",
        "one cell too far",
    ),
    _kernel("bias-next-image-lost", "      at += params.next_image;\n", "", "other channels' pixels follow"),
    _kernel("bias-no-barrier", "    __syncthreads();\n", "", "halves are added before they are there"),
    _kernel(
        "bias-halves-of-lanes",
        "sums + threadIdx.x + half * CHANNEL_LANES",
        "sums + threadIdx.x + half",
        "other channels' sums",
    ),
    _kernel(
        "bias-part-reads-on",
        "behind < params.rows ? behind : params.rows",
        "behind",
        "the last part goes on behind the array",
    ),
    _kernel(
        "bias-channel-of-31-bits",
        "channel * params.channel +",
        "channel * static_cast<int>(params.channel) +",
        "channels beyond 31 bits",
    ),
    _kernel(
        "bias-partial-sums-rounded", "part * params.channels + channel", "channel", "parts on one another"
    ),
    _host(
        "bias-parts-too-long",
        "max(_ROWS, isqrt(rows) // 4)",
        "max(_ROWS, rows)",
        "long sums of one thread err more than the bound allows",
    ),
    _host("bias-part-lost", "max(1, -(-rows // part_rows))", "max(1, rows // part_rows)", "the last rows"),
    _host("bias-step-within-images", "step=whole * image + step_cells", "step=step_cells", "images left out"),
    _host("bias-lanes-of-any-number", "1 << (K - 1).bit_length()", "K", "lanes that are no power of two"),
    _host("bias-shared-memory-of-floats", "_THREADS * wide", "_THREADS * 4", "half of the doubles' room"),
)
