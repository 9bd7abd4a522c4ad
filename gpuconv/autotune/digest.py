"""What a measured time depends on beside the device: the text of the algorithm, and its compiler."""

from __future__ import annotations

import ast
import hashlib
import re
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
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, False):
            node.body = node.body[1:]
    return ast.dump(tree)


def _joined(texts: Any) -> str:
    found = hashlib.sha256()
    for text in texts:
        data = text.encode()
        found.update(len(data).to_bytes(8, "little") + data)
    return found.hexdigest()
