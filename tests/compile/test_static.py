"""No main loop has got worse than the static table has it."""

from __future__ import annotations

import json

import pytest

from bench import static
from gpuconv.backend import dump
from tests.compile.test_kernels import compiler

__all__ = ["compiler"]


def test_nothing_has_got_worse(compiler, need):
    if dump.tool("nvdisasm") is None and dump.tool("cuobjdump") is None:
        need("compile", "there is neither nvdisasm nor cuobjdump")
    file = static.place()
    if not file.is_file():
        # other versions make other code: each has its own table, or none
        pytest.skip(f"there is no table of this NVRTC, {file.stem}")
    assert static.worse(list(static.rows()), json.loads(file.read_text(encoding="utf-8"))["rows"]) == []
