"""From a `Binary` to a cubin: remembered, found in the cache, or compiled, each once however many ask."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from gpuconv import settings
from gpuconv.backend import cache, dump, nvrtc
from gpuconv.backend import source as sources
from gpuconv.backend.launch import Binary
from gpuconv.backend.nvrtc import Resources
from gpuconv.backend.source import Source
from gpuconv.errors import CompileError

#: Changes when the same key would mean another cubin.
_SCHEMA: Final = 1
_lock = threading.Lock()
_found: dict[str, Future[bytes]] = {}


def options(binary: Binary) -> tuple[str, ...]:
    """What the compiler is told; nothing that would flush denormals or shorten a division.

    NVRTC knows no host: with ``-default-device`` it takes a plain ``constexpr`` function as nvcc does.
    """
    lines = ("-lineinfo",) if settings.flag("GPUCONV_LINEINFO") else ()
    defines = (f"-D{name}={value}" for name, value in sorted(binary.defines))
    return (f"--gpu-architecture={binary.arch}", "--std=c++17", "-default-device", *lines, *defines)


def key(source: Source, flags: tuple[str, ...]) -> str:
    """Digest of everything that a cubin depends on."""
    _, version = nvrtc.load()
    text = json.dumps([_SCHEMA, version, flags, source.digest])
    return hashlib.sha256(text.encode()).hexdigest()


def resources(binary: Binary, folder: Path | None = None) -> Resources:
    """Compile, past every cache, and tell what the kernel takes.

    Parameters
    ----------
    binary : Binary
        For any architecture that the compiler knows; no GPU is needed.
    folder : Path, optional
        Other sources than the package's.

    Raises
    ------
    CompileError
        If it does not compile, or there is no compiler.
    """
    flags = (*options(binary), nvrtc.VERBOSE)
    return Resources.parse(nvrtc.compile_source(sources.read(binary.file, folder), flags, str(binary)).log)


def compile_all(binaries: Iterable[Binary], folder: Path | None = None) -> dict[Binary, bytes]:
    """Cubin of each binary, compiled side by side where they are not at hand.

    Raises
    ------
    CompileError
        For the first that does not compile, when all are done.
    """
    wanted = list(dict.fromkeys(binaries))
    if len(wanted) <= 1:
        return {binary: _obtain(binary, folder) for binary in wanted}
    with ThreadPoolExecutor(min(len(wanted), os.cpu_count() or 1), "gpuconv-compile") as pool:
        found = [pool.submit(_obtain, binary, folder) for binary in wanted]
    return {binary: future.result() for binary, future in zip(wanted, found, strict=True)}


def _obtain(binary: Binary, folder: Path | None) -> bytes:
    """Leave the work to whichever thread came first with the same key; a failure is not remembered."""
    source, flags = sources.read(binary.file, folder), options(binary)
    name = key(source, flags)
    with _lock:
        future = _found.get(name)
        first = future is None
        if future is None:
            future = _found[name] = Future()
    if first:
        try:
            future.set_result(_build(binary, source, flags, name))
        except BaseException as error:
            with _lock:
                _found.pop(name, None)
            # Ctrl-C is for this thread, those that wait only learn that nothing came of it
            future.set_exception(error if isinstance(error, Exception) else CompileError("interrupted"))
            raise
    return future.result()


def _build(binary: Binary, source: Source, flags: tuple[str, ...], name: str) -> bytes:
    only_cached, folder = settings.flag("GPUCONV_ASSERT_CACHED"), settings.read("GPUCONV_DUMP")
    if only_cached or folder is None:
        cubin = cache.get(name)
        if cubin is not None:
            settings.log("compile", f"{binary}: from the cache")
            return cubin
    if only_cached:
        raise CompileError(f"GPUCONV_ASSERT_CACHED=1 forbids to compile {binary}, which is not in the cache")
    begin = time.perf_counter()
    compiled = nvrtc.compile_source(source, (*flags, nvrtc.VERBOSE) if folder else flags, str(binary))
    settings.log("compile", f"{binary}: {time.perf_counter() - begin:.2f} s")
    cache.put(name, compiled.cubin)
    if folder is not None:
        place = Path(folder) / f"{Path(binary.file).stem}_{binary.arch}_{name[:8]}"
        dump.write(place, source, flags, compiled)
    return compiled.cubin


def _after_fork() -> None:
    """A child has none of the threads that were compiling; what they had finished, it keeps."""
    global _lock
    _lock = threading.Lock()
    for name in [name for name, future in _found.items() if not future.done()]:
        del _found[name]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
