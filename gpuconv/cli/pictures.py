"""Pictures from and to files, through Pillow."""

from __future__ import annotations

import os
import secrets
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from gpuconv.cli.output import Failure, one_line

Picture = NDArray[np.uint8]

#: Largest side of one picture among several, in pixels; three of them make a file fit for a README.
_PANEL: Final = 450
_GAP: Final = 8


def load(path: Path | None) -> Picture:
    """Read a picture as (height, width, RGB), by default the photograph of the package."""
    if path is not None:
        if not path.is_file():  # a pipe or a device may never end
            raise Failure(f"cannot read {path}: not a regular file")
        try:
            with path.open("rb") as file:
                return _decode(file, str(path))
        except OSError as error:
            raise Failure(f"cannot read {path}: {error.strerror or one_line(error)}") from None
    with resources.files("gpuconv").joinpath("data/coffee.png").open("rb") as photograph:
        return _decode(BytesIO(photograph.read()), "the package's photograph")


def _decode(file: BinaryIO, name: str) -> Picture:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Pillow only warns of a file a little too large to be meant well
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as picture:
                return _rgb(ImageOps.exif_transpose(picture))
    except UnidentifiedImageError:
        raise Failure(f"cannot read {name}: not a picture of a format Pillow knows") from None
    except Exception as error:  # a decoder passes on whatever a damaged file made it stumble over
        raise Failure(f"cannot read {name}: {one_line(error)}") from None


def _rgb(picture: Image.Image) -> Picture:
    if picture.mode.startswith(("I", "F")):  # more than 8 bits, which Pillow's own conversion would clip
        gray = np.nan_to_num(np.asarray(picture, np.float64), posinf=0, neginf=0)
        gray -= gray.min()
        picture = Image.fromarray(np.rint(gray * (255 / (gray.max() or 1))).astype(np.uint8))
    return np.asarray(picture.convert("RGB"))


def side_by_side(pictures: Sequence[Picture]) -> Picture:
    """Set pictures of one size in a row with thin white gaps, large ones made smaller."""
    panels = [Image.fromarray(picture).convert("RGB") for picture in pictures]
    for panel in panels:
        panel.thumbnail((_PANEL, _PANEL), Image.Resampling.LANCZOS)
    width, height = panels[0].size
    row = Image.new("RGB", (len(panels) * (width + _GAP) - _GAP, height), "white")
    for index, panel in enumerate(panels):
        row.paste(panel, (index * (width + _GAP), 0))
    return np.asarray(row)


def save(folder: Path, pictures: dict[str, Picture]) -> list[Path]:
    """Write PNG files, each whole or not at all: none takes its place before all are written."""
    staged: list[tuple[Path, Path]] = []
    path = folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, picture in pictures.items():
            path = folder / name
            encoded: Any = BytesIO()
            Image.fromarray(picture).save(encoded, "PNG", optimize=True)
            part = folder / f".{name}.{secrets.token_hex(4)}"
            staged.append((part, path))
            with part.open("xb") as file:
                file.write(encoded.getbuffer())
        for part, path in staged:
            os.replace(part, path)
    except OSError as error:
        raise Failure(f"cannot write {path}: {error.strerror or one_line(error)}") from None
    finally:
        for part, _ in staged:
            with suppress(OSError):
                part.unlink(missing_ok=True)
    return [path for _, path in staged]
