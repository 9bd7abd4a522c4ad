"""The few environment variables, read when they are needed; ``gpuconv env`` shows them all."""

from __future__ import annotations

import os
import sys
from typing import Final

VARIABLES: Final = {
    "GPUCONV_LOG": "comma-separated topics to print on standard error: plan, compile, launch",
    "GPUCONV_KERNEL": "name of the one kernel to use",
    "GPUCONV_CONFIG": "its parameters, as name=value,…",
    "GPUCONV_TUNE": "1: tune every problem that has not been",
    "GPUCONV_THREADS": "CPU threads (default: what BLAS would use, at most the processors allowed)",
    "GPUCONV_CACHE_DIR": "folder for compiled kernels and tuning results (default: the user's cache folder)",
    "GPUCONV_ASSERT_CACHED": "1: having to compile a kernel is an error",
    "GPUCONV_DUMP": "folder for sources, PTX, cubins, SASS and resource use; kernels are compiled anew",
    "GPUCONV_LINEINFO": "1: compile kernels with line numbers, for profilers and sanitizers",
}


def read(name: str) -> str | None:
    """The variable's value, or None where it is unset or empty."""
    assert name in VARIABLES
    return os.environ.get(name) or None


def threads() -> int | None:
    """GPUCONV_THREADS as a number of at least 1, or None."""
    value = read("GPUCONV_THREADS")
    if value is None:
        return None
    if not value.isdecimal() or not 1 <= int(value) <= 4096:
        raise ValueError(f"GPUCONV_THREADS must be an integer from 1 to 4096, got {value!r}")
    return int(value)


def flag(name: str) -> bool:
    """Whether a variable is 1 rather than 0 or unset."""
    value = read(name)
    if value not in (None, "0", "1"):
        raise ValueError(f"{name} must be 0 or 1, got {value!r}")
    return value == "1"


def logs(topic: str) -> bool:
    """Whether GPUCONV_LOG names the topic."""
    wanted = read("GPUCONV_LOG")
    return wanted is not None and topic in wanted.split(",")


def log(topic: str, message: str) -> None:
    """Print one line when GPUCONV_LOG names the topic."""
    if logs(topic):
        print(f"gpuconv {topic}: {message}", file=sys.stderr)
