"""Compiles the runtime and kernels with g++ into libraries kept by content, outside the sources."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from gpuconv.backend.launch import Binary
from gpuconv.errors import CompileError

HERE = Path(__file__).resolve().parent
INCLUDE = HERE / "include"
RUNTIME = HERE / "runtime"
SANITIZERS = {
    "": [],
    "address": ["-fsanitize=address,undefined", "-fsanitize-recover=address"],
    "thread": ["-fsanitize=thread"],
}


def sanitizer() -> str:
    """What kernels are built with in this process: "", "address" or "thread"."""
    return os.environ.get("GPUCONV_EMULATOR_SANITIZER", "")


def cache_folder() -> Path:
    """Where libraries are kept; GPUCONV_EMULATOR_CACHE names another place."""
    name = f"gpuconv-emulator-{os.getuid()}"
    folder = Path(os.environ.get("GPUCONV_EMULATOR_CACHE") or Path(tempfile.gettempdir()) / name)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@cache
def compiler() -> str:
    """Path of g++.

    Raises
    ------
    CompileError
        If there is none.
    """
    found = shutil.which("g++")
    if found is None:
        raise CompileError("g++ is not on the path")
    return found


@cache
def _machine() -> tuple[str, ...]:
    """Flags for this processor, and the compiler's version, on which the code depends."""
    try:
        words = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        words = set()
    return ("-march=x86-64-v3",) if {"avx2", "fma", "f16c", "bmi2"} <= words else ()


@cache
def _version() -> str:
    return subprocess.run([compiler(), "--version"], capture_output=True, text=True, check=True).stdout


def _key(files: list[Path], *words: str) -> str:
    digest = hashlib.sha256(_version().encode())
    for word in words:
        digest.update(f"{len(word)} {word}".encode())
    for file in files:
        digest.update(f"{file} {file.stat().st_size} ".encode() + file.read_bytes())
    return digest.hexdigest()[:24]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CompileError(done.stderr or f"g++ ended with {done.returncode}")


def _into_place(command: list[str], target: Path) -> None:
    """Run a command that writes a library, which others see only once it is complete."""
    handle, unfinished = tempfile.mkstemp(dir=target.parent, suffix=".tmp")
    os.close(handle)
    try:
        _run([*command, "-o", unfinished])
        os.replace(unfinished, target)
    finally:
        Path(unfinished).unlink(missing_ok=True)


@cache
def runtime_library() -> Path:
    """The runtime, compiled if it is not yet there."""
    sources = sorted(RUNTIME.glob("*.cpp"))
    headers = sorted(RUNTIME.glob("*.h")) + sorted((INCLUDE / "emulator").glob("*.h"))
    flags = ["-std=c++17", "-O2", "-g1", "-Wall", "-Wextra", "-Werror", "-fPIC", f"-I{INCLUDE}"]
    target = cache_folder() / f"runtime-{_key(sources + headers, *flags)}.so"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(dir=target.parent) as folder, ThreadPoolExecutor(2) as pool:
        objects = [f"{folder}/{source.stem}.o" for source in sources]
        jobs = [
            pool.submit(_run, [compiler(), *flags, "-c", str(source), "-o", made])
            for source, made in zip(sources, objects, strict=True)
        ]
        for job in jobs:
            job.result()
        _into_place([compiler(), "-shared", *objects, "-ldl"], target)
    return target


def flags(binary: Binary, sources: Path, count: bool) -> list[str]:
    """Everything g++ is told of a kernel but its file."""
    digits = "".join(filter(str.isdigit, binary.arch))
    return [
        "-std=c++17", "-O1", *_machine(), "-ffp-contract=fast", "-fno-strict-aliasing", "-fno-exceptions",
        "-fno-gnu-unique", "-fvisibility=hidden", "-fPIC", "-shared", "-w", "-g1",
        "-fno-tree-loop-distribute-patterns",  # a fault inside memcpy has no line of the kernel
        f"-D__CUDA_ARCH__={digits}0", *(f"-D{name}={value}" for name, value in binary.defines),
        *(["-DGPUCONV_COUNT"] if count else []),
        *SANITIZERS[sanitizer()], f"-I{INCLUDE}", f"-I{sources / 'include'}",
        "-include", "emulator/prelude.h",
    ]  # fmt: skip


def kernel_library(binary: Binary, entry: str, sources: Path, count: bool) -> Path:
    """One entry of a kernel's source as a library, compiled if it is not yet there.

    Raises
    ------
    CompileError
        With what g++ wrote.
    """
    file = sources / "kernels" / binary.file
    if not file.is_file():
        raise CompileError(f"there is no kernel source {file}")
    headers = [path for root in (INCLUDE, sources) for path in sorted(root.rglob("*.*h")) if path.is_file()]
    options = flags(binary, sources, count)
    key = _key([file, *headers], entry, *options)
    target = cache_folder() / f"{file.stem}-{key}.so"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        unit = Path(folder) / "unit.cpp"
        unit.write_text(f'#include "{file}"\n#include <emulator/entry.h>\nEMULATOR_ENTRY({entry})\n')
        _into_place([compiler(), *options, str(unit)], target)
    return target
