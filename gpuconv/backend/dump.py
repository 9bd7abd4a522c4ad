"""GPUCONV_DUMP: for each compiled kernel a folder of all that one may want to look at."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import subprocess
import warnings
from pathlib import Path

from gpuconv.backend.nvrtc import Compiled
from gpuconv.backend.source import Source

_said: set[str] = set()
_DISASSEMBLERS = (("nvdisasm", "--print-code"), ("cuobjdump", "-sass"))


def write(place: Path, source: Source, flags: tuple[str, ...], compiled: Compiled) -> None:
    """Write the folder `place`; that it cannot be written is said once and hinders nothing.

    The sources lie there as the compiler saw them, so ``nvcc -cubin -I include kernels/….cu`` with the flags
    of ``options.txt`` compiles them by hand.
    """
    stem = Path(source.file).stem
    files = {
        f"kernels/{source.file}": source.text.encode(),
        **{f"include/{header}": text.encode() for header, text in source.headers.items()},
        "options.txt": "".join(f"{flag}\n" for flag in flags).encode(),
        f"{stem}.ptx": compiled.ptx.encode(),
        f"{stem}.cubin": compiled.cubin,
        "ptxas.txt": compiled.log.rstrip("\0\n ").encode() + b"\n",
    }
    try:
        for file, data in files.items():
            (place / file).parent.mkdir(parents=True, exist_ok=True)
            (place / file).write_bytes(data)
        sass = disassemble(place / f"{stem}.cubin")
        if sass is not None:
            (place / f"{stem}.sass").write_bytes(sass)
    except (OSError, ValueError) as error:
        if not _said:
            _said.add(str(error))
            warnings.warn(f"GPUCONV_DUMP: {place} cannot be written: {error}", RuntimeWarning, stacklevel=2)


def disassemble(cubin: Path) -> bytes | None:
    """What the first disassembler says that is there and takes the file, or None."""
    for name, option in _DISASSEMBLERS:
        path = tool(name)
        if path is not None:
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                done = subprocess.run([path, option, cubin], capture_output=True, check=True, timeout=60)
                return done.stdout
    return None


def tool(name: str) -> str | None:
    """A program of CUDA's toolkit: on the path, or from NVIDIA's Python packages."""
    found = shutil.which(name)
    if found is not None:
        return found
    packages = importlib.util.find_spec("nvidia")
    for folder in packages.submodule_search_locations or () if packages else ():
        for path in sorted(Path(folder).glob(f"*/bin/{name}*")):
            return str(path)
    return None
