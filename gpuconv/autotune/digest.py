"""What a measured time depends on beside the device: the text of the algorithm, and its compiler."""

from __future__ import annotations

import ast
import hashlib
import io
import re
import tokenize
from functools import cache
from pathlib import Path
from typing import Any, Final

from gpuconv.autotune.heuristic import Candidate
from gpuconv.backend import detect
from gpuconv.backend import source as sources
from gpuconv.backend.device import Device
from gpuconv.kernels import cpu
from gpuconv.kernels.cuda.base import CudaKernel
from gpuconv.problem import ConvProblem

#: A string stays, a comment goes.
_COMMENT: Final = re.compile(r'("(?:\\.|[^"\\\n])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_DOCUMENTED: Final = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def digest(p: ConvProblem, candidate: Candidate, device: Device) -> str:
    """Of the sources of all that a candidate launches, or of the CPU's algorithms; comments do not count."""
    kernel, config, *_ = candidate
    if not isinstance(kernel, CudaKernel):
        return _cpu()
    files = {spec.binary.file for spec in kernel.launches(p, config, device)}
    return _joined(_cuda(file) for file in sorted(files))


def compiler(device: Device) -> str:
    """Name and version of what compiles for a device; nothing on a CPU, and where there is none."""
    if device.kind == "cpu":
        return ""
    try:
        _, (major, minor) = detect.nvrtc()
    except RuntimeError:
        return ""
    return f"nvrtc {major}.{minor}"


@cache
def _cuda(file: str) -> str:
    source = sources.read(file)
    texts = (source.text, *(source.headers[name] for name in sorted(source.headers)))
    return _joined(map(_without_comments, texts))


@cache
def _cpu() -> str:
    folder = Path(str(cpu.__file__)).parent
    return _joined(
        _without_docstrings(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.py"))
    )


def _without_comments(text: str) -> str:
    bare = _COMMENT.sub(lambda found: found[1] or " ", text)
    return "\n".join(filter(None, (" ".join(line.split()) for line in bare.splitlines())))


def _without_docstrings(text: str) -> str:
    """The text without comments, docstrings and empty lines: a tree's dump is not every Python's."""
    lines = text.split("\n")
    outside = set()  # rows that end outside of any string: blank space there says nothing
    for token in tokenize.generate_tokens(io.StringIO(text + "\n").readline):
        row, column = token.start
        if token.type == tokenize.COMMENT:
            lines[row - 1] = lines[row - 1][:column]
        elif token.type in (tokenize.NEWLINE, tokenize.NL):
            outside.add(row)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, False) is not None:
            said = node.body[0]
            first, last = said.lineno, said.end_lineno or said.lineno
            # a tree counts bytes
            before = lines[first - 1].encode()[: said.col_offset].decode()
            after = lines[last - 1].encode()[said.end_col_offset :].decode()
            lines[first - 1 : last] = [before + after] + [""] * (last - first)
            outside.update(range(first, last + 1))
    for row in outside:
        lines[row - 1] = lines[row - 1].rstrip()
    return "\n".join(line for row, line in enumerate(lines, 1) if line or row not in outside)


def _joined(texts: Any) -> str:
    found = hashlib.sha256()
    for text in texts:
        data = text.encode()
        found.update(len(data).to_bytes(8, "little") + data)
    return found.hexdigest()
