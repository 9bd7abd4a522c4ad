"""The CUDA sources: where they lie, and all the text that one kernel is made of."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gpuconv.errors import CompileError

_KERNEL = re.compile(r"(?:\w+/)*\w+\.cu", re.ASCII)
_HEADER = re.compile(r"gpuconv/(?:\w+/)*\w+\.cuh", re.ASCII)
_INCLUDE = re.compile(r"^[ \t]*#[ \t]*include\b[ \t]*(.*?)[ \t]*(?://.*)?$", re.MULTILINE)


@cache
def cuda_source_folder() -> Path:
    """Folder of ``include/`` and ``kernels/``: inside an installed package, or beside it in a checkout.

    Raises
    ------
    FileNotFoundError
        If neither place has it, which means a broken installation.
    """
    package = Path(__file__).resolve().parent.parent
    places = (package / "_cuda_src", package.parent / "cuda_src")
    for place in places:
        if (place / "include" / "gpuconv").is_dir():
            return place
    raise FileNotFoundError(f"the CUDA sources are missing: looked in {places[0]} and {places[1]}")


@dataclass(frozen=True, slots=True)
class Source:
    """A kernel file and every header it includes, directly or not.

    Attributes
    ----------
    file : str
        The kernel's name under ``kernels/``.
    text : str
        What is in it.
    headers : Mapping of str to str
        Each header's text by the name it is included by, in the order of first inclusion.
    """

    file: str
    text: str
    headers: Mapping[str, str]

    @property
    def digest(self) -> str:
        """Changes with any name and any text, and with nothing else."""
        found = hashlib.sha256()
        for part in (self.file, self.text, *(part for header in self.headers.items() for part in header)):
            data = part.encode()
            found.update(len(data).to_bytes(8, "little") + data)
        return found.hexdigest()


def read(file: str, folder: Path | None = None) -> Source:
    """Read a kernel and its headers.

    Parameters
    ----------
    file : str
        Name under ``kernels/``.
    folder : Path, optional
        Other sources than the package's.

    Raises
    ------
    CompileError
        If something is missing, or included otherwise than as ``<gpuconv/….cuh>``: no other file is given to
        the compiler, so none can change what is compiled unnoticed.
    """
    try:
        folder = cuda_source_folder() if folder is None else folder
        if not _KERNEL.fullmatch(file):
            raise CompileError(f"a kernel's file must be named like direct.cu, got {file!r}")
        text = (folder / "kernels" / file).read_text(encoding="utf-8")
        headers: dict[str, str] = {}
        _include(file, text, folder / "include", headers)
    except (OSError, UnicodeDecodeError) as error:
        raise CompileError(f"the source of {file} cannot be read: {error}") from None
    return Source(file, text, headers)


def _include(includer: str, text: str, folder: Path, headers: dict[str, str]) -> None:
    for target in _INCLUDE.findall(text):
        name = target[1:-1]
        if target != f"<{name}>" or not _HEADER.fullmatch(name):
            raise CompileError(f"{includer} includes {target}: only <gpuconv/....cuh> may be included")
        if name not in headers:
            headers[name] = (folder / name).read_text(encoding="utf-8")
            _include(name, headers[name], folder, headers)
