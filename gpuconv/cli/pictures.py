"""Pictures from and to files, through Pillow: as 8-bit RGB, or with all that a filter should keep."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from gpuconv.cli import output
from gpuconv.cli.output import Failure, one_line

Picture = NDArray[np.uint8]
_Read = TypeVar("_Read")

#: Largest side of one picture among several, in pixels; three of them make a file fit for a README.
_PANEL: Final = 450
_GAP: Final = 8

#: Formats that are written, and what each can hold, in Pillow's names of modes.
_HOLDS: Final = {
    "PNG": ("L", "LA", "RGB", "RGBA", "I;16"),
    "TIFF": ("L", "LA", "RGB", "RGBA", "CMYK", "I;16", "I", "F"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("L", "RGB", "RGBA"),
    "BMP": ("L", "RGB"),
    "PPM": ("L", "RGB", "I;16"),
    "TGA": ("L", "LA", "RGB", "RGBA"),
    "JPEG2000": ("L", "LA", "RGB", "RGBA", "I;16"),
    "AVIF": ("RGB", "RGBA"),
}
#: What a picture becomes where its own mode cannot be held, the least loss first.
_INSTEAD: Final = {
    "L": ("RGB",),
    "LA": ("RGBA", "L", "RGB"),
    "RGBA": ("RGB",),
    "CMYK": ("RGB",),
    "I;16": ("L", "RGB"),
}
_IN_WORDS: Final = {"I": "32-bit integers", "F": "floating-point numbers"}
_QUALITY: Final = {"JPEG": 95, "WEBP": 95, "AVIF": 95}
#: Decoders named so make 8 bits of 16; "BGR;16" is 16 bits for three channels.
_NARROWED: Final = re.compile(r"(?<!BGR);16")


@dataclass(frozen=True, slots=True)
class Photo:
    """A picture at its full depth.

    Attributes
    ----------
    values : array (H, W, C)
        uint8, uint16, int32 or float32; without alpha.
    colours : str
        Pillow's mode of `values`: "L", "RGB", "CMYK", "I;16", "I" or "F".
    alpha : uint8 array (H, W) or None
    profile : bytes or None
        The ICC profile of `colours`.
    unread : tuple of str
        What of the file is not in here.
    """

    values: NDArray[Any]
    colours: str
    alpha: Picture | None = None
    profile: bytes | None = None
    unread: tuple[str, ...] = ()

    @property
    def mode(self) -> str:
        """Pillow's mode of it all."""
        return self.colours if self.alpha is None else self.colours + "A"


def load(path: Path | None) -> Picture:
    """Read a picture as (height, width, RGB), by default the photograph of the package."""
    if path is not None:
        return _from_file(path, lambda picture: _rgb(ImageOps.exif_transpose(picture)))
    with resources.files("gpuconv").joinpath("data/coffee.png").open("rb") as photograph:
        return _decode(BytesIO(photograph.read()), "the package's photograph", _rgb)


def read(path: Path) -> Photo:
    """Read a picture as it is, turned the way its EXIF data says."""
    return _from_file(path, _photo)


def pixels(path: Path) -> int:
    """Size that the file claims; 0 if it cannot be read."""
    try:
        return _from_file(path, lambda picture: picture.width * picture.height)
    except Failure:
        return 0


def _from_file(path: Path, convert: Callable[[Image.Image], _Read]) -> _Read:
    if not path.is_file():  # a pipe or a device may never end
        raise Failure(f"cannot read {path}: not a regular file")
    try:
        with path.open("rb") as file:
            return _decode(file, str(path), convert)
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror or one_line(error)}") from None


def _decode(file: BinaryIO, name: str, convert: Callable[[Image.Image], _Read]) -> _Read:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Pillow only warns of a file a little too large to be meant well
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as picture:
                return convert(picture)
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


def _photo(picture: Image.Image) -> Photo:
    unread = _unread(picture)
    is_16_bit = picture.format in ("PNG", "PPM") or picture.mode.startswith("I;16")
    profile = picture.info.get("icc_profile")
    ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode.startswith("I"):
        values = np.asarray(picture)[..., None]
        if is_16_bit:
            return Photo(values.astype(np.uint16), "I;16", profile=profile, unread=unread)
        return Photo(values.astype(np.int32), "I", profile=profile, unread=unread)
    if picture.mode in ("F", "CMYK"):
        values = np.atleast_3d(np.asarray(picture))
        return Photo(values, picture.mode, profile=profile, unread=unread)
    colours = "L" if picture.mode in ("1", "L", "LA", "La") else "RGB"
    mode = colours + "A" * picture.has_transparency_data
    values = np.atleast_3d(np.asarray(picture if picture.mode == mode else picture.convert(mode)))
    channels = len(colours)
    alpha = values[..., channels] if mode != colours else None
    return Photo(values[..., :channels], colours, alpha, profile, unread)


def _unread(picture: Image.Image) -> tuple[str, ...]:
    """What Pillow, or a filter of one picture, leaves behind; to be asked before the pixels are loaded."""
    found = []
    frames = getattr(picture, "n_frames", 1)
    if frames > 1:
        found.append(f"only the first of its {frames} pictures")
    coders = " ".join(str(tile[3]) for tile in getattr(picture, "tile", ()))
    if _NARROWED.search(coders) and not picture.mode.startswith("I"):
        found.append("8 of its 16 bits, all that Pillow reads of colour or alpha")
    return tuple(found)


def format_of(path: Path) -> str | None:
    """The format that a file's suffix stands for, if it can be written."""
    found = Image.registered_extensions().get(path.suffix.lower())
    return found if found in _HOLDS and found in Image.SAVE else None


def formats() -> str:
    """All formats that can be written, for people."""
    return ", ".join(_HOLDS)


def mode_in(path: Path, photo: Photo) -> str:
    """The mode in which a file with this suffix will hold a picture."""
    found = format_of(path)
    assert found is not None
    for mode in (photo.mode, *_INSTEAD.get(photo.mode, ())):
        if mode in _HOLDS[found]:
            return mode
    raise Failure(f"cannot write {path}: {found} holds no {_IN_WORDS[photo.mode]}, TIFF does")


def write(path: Path, photo: Photo) -> tuple[str, ...]:
    """Write a picture whole or not at all; says what of it the file cannot hold."""
    mode, found = mode_in(path, photo), format_of(path)
    assert found is not None
    lost = []
    if photo.alpha is not None and not mode.endswith("A"):
        lost.append(f"no alpha, {found} has none")
    if photo.colours == "I;16" and mode != "I;16":
        lost.append(f"8 bits instead of 16, {found} has no more")
    options: dict[str, Any] = {"quality": _QUALITY[found]} if found in _QUALITY else {}
    if photo.profile and _base(mode) == _base(photo.mode):
        options["icc_profile"] = photo.profile
    output.put({path: lambda: _encoded(_image(photo, mode), found, **options)})
    return tuple(lost)


def _base(mode: str) -> str:
    """The mode whose colour profiles also fit this one."""
    return {"LA": "L", "I;16": "L", "I": "L", "F": "L", "RGBA": "RGB"}.get(mode, mode)


def _image(photo: Photo, mode: str) -> Image.Image:
    values = photo.values
    if photo.colours == "I;16" and mode != "I;16":
        values = np.rint(values / np.float32(257)).astype(np.uint8)
    bands = [Image.fromarray(np.ascontiguousarray(values[..., c])) for c in range(values.shape[2])]
    if photo.alpha is not None:
        bands.append(Image.fromarray(photo.alpha))
    image = bands[0] if len(bands) == 1 else Image.merge(photo.mode, bands)
    return image if image.mode == mode else image.convert(mode)


def _encoded(image: Image.Image, name: str, **options: Any) -> memoryview:
    encoded: Any = BytesIO()
    if name == "PPM" and image.mode == "I;16":  # older Pillows write 16 bits there by this mode only
        image = image.convert("I")
    try:
        image.save(encoded, name, **options)
    except OSError:
        raise
    except Exception as error:  # a picture too large for its format, for one, fails in as many ways
        raise OSError(one_line(error)) from None
    view: memoryview = encoded.getbuffer()
    return view


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
    files = {folder / name: Image.fromarray(picture) for name, picture in pictures.items()}
    output.put({path: partial(_encoded, image, "PNG", optimize=True) for path, image in files.items()})
    return list(files)
