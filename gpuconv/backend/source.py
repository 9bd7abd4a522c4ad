"""Where the CUDA sources lie: inside an installed package, or beside it in a checkout."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def cuda_source_folder() -> Path:
    """Folder that holds ``include/`` and the kernels.

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
