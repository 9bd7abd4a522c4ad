"""One compilation: sources in memory to a cubin in memory, without files and without a GPU."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from struct import unpack_from
from typing import Any

from gpuconv.backend import detect
from gpuconv.backend.source import Source
from gpuconv.errors import CompileError

#: Makes ptxas write what `Resources` is read from; the code stays the same.
VERBOSE = "--ptxas-options=-v"


@dataclass(frozen=True, slots=True)
class Compiled:
    """What one compilation gave."""

    cubin: bytes
    ptx: str
    log: str


@dataclass(frozen=True, slots=True)
class Resources:
    """What a kernel takes, by ptxas's own words; of several kernels in one file, the most of each.

    Attributes
    ----------
    registers : int
        For each thread.
    stack : int
        Bytes of local memory for each thread; spilled registers lie there too.
    spill_stores, spill_loads : int
        Bytes of registers that each thread writes to and reads from local memory.
    shared : int
        Bytes of static shared memory for each block.
    """

    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int

    @classmethod
    def parse(cls, log: str) -> Resources:
        """Read the log of a compilation with `VERBOSE`.

        >>> Resources.parse("8 bytes stack frame, 0 bytes spill stores : Used 40 registers, 128 bytes smem")
        Resources(registers=40, stack=8, spill_stores=0, spill_loads=0, shared=128)
        """

        def most(pattern: str) -> int:
            return max(map(int, re.findall(pattern, log)), default=0)

        if not re.search(r"Used \d+ registers", log):
            raise CompileError(f"the compiler reports no kernel's registers:\n{log}")
        return cls(
            registers=most(r"Used (\d+) registers"),
            stack=most(r"(\d+) bytes stack frame"),
            spill_stores=most(r"(\d+) bytes spill stores"),
            spill_loads=most(r"(\d+) bytes spill loads"),
            shared=most(r"(\d+) bytes smem"),
        )


def load() -> tuple[Any, tuple[int, int]]:
    """NVRTC and its version, or CompileError with the reason."""
    try:
        return detect.nvrtc()
    except RuntimeError as error:
        raise CompileError(f"CUDA kernels cannot be compiled: {error}") from None


def compile_source(source: Source, options: tuple[str, ...], name: str) -> Compiled:
    """Compile for one architecture; other threads run meanwhile.

    Parameters
    ----------
    source : Source
        All that the compiler sees.
    options : tuple of str
        NVRTC's.
    name : str
        What an error calls it.

    Raises
    ------
    CompileError
        With the compiler's log.
    """
    nvrtc, _ = load()
    headers = [text.encode() for text in source.headers.values()]
    names = [header.encode() for header in source.headers]

    def ask(question: Callable[..., Any], *args: Any) -> Any:
        try:
            return question(*args)
        except nvrtc.NVRTCError as error:
            raise CompileError(f"{name} does not compile: {error}") from None

    program = ask(nvrtc.createProgram, source.text, f"kernels/{source.file}", headers, names)
    try:
        try:
            nvrtc.compileProgram(program, options)
        except nvrtc.NVRTCError as error:
            log = ask(nvrtc.getProgramLog, program).strip("\0\n ")
            raise CompileError(f"{name} does not compile: {error}\n{log}".rstrip()) from None
        return Compiled(
            cubin=_whole(ask(nvrtc.getCUBIN, program), name),
            ptx=ask(nvrtc.getPTX, program).decode(),
            log=ask(nvrtc.getProgramLog, program),
        )
    finally:
        nvrtc.destroyProgram(program)


def _whole(elf: bytes, name: str) -> bytes:
    """The cubin with the byte that CuPy 14 cuts off as if a C string ended there.

    An ELF file's tables come last: where they end, the file ends. The byte is an alignment's highest, so 0.
    """
    if elf[:5] != b"\x7fELF\x02" or len(elf) < 64:
        raise CompileError(f"{name} does not compile: the compiler gave something else than a cubin")
    programs, sections = unpack_from("<QQ", elf, 32)
    program_size, program_count, section_size, section_count = unpack_from("<4H", elf, 54)
    end = max(programs + program_size * program_count, sections + section_size * section_count)
    if end > len(elf) + 1:
        raise CompileError(f"{name} does not compile: the compiler gave {len(elf)} of a cubin's {end} bytes")
    return elf + bytes(max(0, end - len(elf)))
