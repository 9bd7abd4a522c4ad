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

from gpuconv.cli import formats, libraries, output
from gpuconv.cli.output import Failure, one_line

Picture = NDArray[np.uint8]
_Read = TypeVar("_Read")

#: Largest side of one picture among several, in pixels; three of them make a file fit for a README.
_PANEL: Final = 450
_GAP: Final = 8

#: Decoders named so make 8 bits of 16; "BGR;16" is 16 bits for three channels.
_NARROWED: Final = re.compile(r"(?<!BGR);16|SGI16")
#: Where a file itself says how many bits it has: JPEG 2000's SIZ marker, AVIF's av1C box.
_DEPTH: Final = {
    "JPEG2000": re.compile(rb"\xff\x4f\xff\x51.{38}(.)", re.DOTALL),
    "AVIF": re.compile(rb"av1C..(.)", re.DOTALL),
}
#: So much of a file is searched for that.
_HEAD: Final = 2**16
_DTYPES: Final = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
#: EXIF's orientations of a picture that lies on its side.
_LYING: Final = (5, 6, 7, 8)


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
        What of the file is not in here; an outline knows.
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


def outline(path: Path) -> Photo:
    """The picture that a file's header promises; its pixels are all 0 and take no memory."""
    return _from_file(path, _outline)


def _from_file(path: Path, convert: Callable[[Image.Image], _Read]) -> _Read:
    if not path.is_file():  # a pipe or a device may never end
        raise Failure(f"cannot read {path}: not a regular file")
    try:
        with path.open("rb") as file:
            return _decode(file, str(path), convert)
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror or one_line(error)}") from None


def _decode(file: BinaryIO, name: str, convert: Callable[[Image.Image], _Read]) -> _Read:
    lines: list[str] = []
    try:
        with libraries.heard(lines), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Pillow only warns of a file a little too large to be meant well
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as picture:
                found = convert(picture)
    except UnidentifiedImageError:
        raise Failure(f"cannot read {name}: not a picture of a format Pillow knows") from None
    except Exception as error:  # a decoder passes on whatever a damaged file made it stumble over
        raise Failure(f"cannot read {name}: {lines[0] if lines else one_line(error)}") from None
    if lines:  # a decoder that only complains has left pixels out
        raise Failure(f"cannot read {name}: damaged: {lines[0]}")
    return found


def _rgb(picture: Image.Image) -> Picture:
    if picture.mode.startswith(("I", "F")):  # more than 8 bits, which Pillow's own conversion would clip
        gray = np.nan_to_num(np.asarray(picture, np.float64), posinf=0, neginf=0)
        gray -= gray.min()
        picture = Image.fromarray(np.rint(gray * (255 / (gray.max() or 1))).astype(np.uint8))
    return np.asarray(picture.convert("RGB"))


def _photo(picture: Image.Image) -> Photo:
    colours, has_alpha = _kind(picture)
    profile = picture.info.get("icc_profile")
    ImageOps.exif_transpose(picture, in_place=True)
    if colours in _DTYPES:
        return Photo(np.asarray(picture)[..., None].astype(_DTYPES[colours]), colours, profile=profile)
    mode = colours + "A" * has_alpha
    values = np.atleast_3d(np.asarray(picture if picture.mode == mode else picture.convert(mode)))
    channels = len(colours)
    return Photo(values[..., :channels], colours, values[..., channels] if has_alpha else None, profile)


def _outline(picture: Image.Image) -> Photo:
    colours, has_alpha = _kind(picture)
    # a format's own getexif may load the pixels
    lies = Image.Image.getexif(picture).get(0x0112) in _LYING
    size = picture.size if lies else picture.size[::-1]
    channels = 1 if colours in _DTYPES else len(colours)
    values = np.broadcast_to(np.zeros((), _DTYPES.get(colours, np.uint8)), (*size, channels))
    alpha = np.broadcast_to(np.uint8(0), size) if has_alpha else None
    return Photo(values, colours, alpha, picture.info.get("icc_profile"), _unread(picture))


def _kind(picture: Image.Image) -> tuple[str, bool]:
    """Colours, and whether there is alpha; to be asked before the pixels are loaded."""
    if picture.mode.startswith("I"):
        is_16_bit = picture.format in ("PNG", "PPM") or picture.mode.startswith("I;16")
        return ("I;16" if is_16_bit else "I"), False
    if picture.mode in ("F", "CMYK"):
        return picture.mode, False
    colours = "L" if picture.mode in ("1", "L", "LA", "La") else "RGB"
    return colours, picture.has_transparency_data and not _has_wide_key(picture)


def _unread(picture: Image.Image) -> tuple[str, ...]:
    """What Pillow, or a filter of one picture, leaves behind; the picture cannot be read after this."""
    found = []
    if _has_wide_key(picture):
        found.append("no transparency, which is one colour of 16 bits")
    bits = _bits(picture)
    if bits > 8 and not picture.mode.startswith(("I", "F")):
        found.append(f"8 of its {bits} bits, all that Pillow reads of colour or alpha")
    frames: Any = 1
    try:
        frames = getattr(picture, "n_frames", 1)
    except Exception:  # the first may be whole though the others are damaged
        frames = "several"
    if frames != 1:
        found.append(f"only the first of its {frames} pictures")
    return tuple(found)


def _has_wide_key(picture: Image.Image) -> bool:
    """Whether a colour of 16 bits stands for transparency, which no pixel of 8 bits can be compared with."""
    return "transparency" in picture.info and (picture.mode.startswith("I") or _is_narrowed(picture))


def _is_narrowed(picture: Image.Image) -> bool:
    tiles = getattr(picture, "tile", ())
    return _NARROWED.search(" ".join(f"{tile[0]} {tile[3]}" for tile in tiles)) is not None


def _bits(picture: Image.Image) -> int:
    """Bits of a channel in the file, as far as one can tell."""
    tiles = getattr(picture, "tile", ())
    if picture.format == "PPM" and tiles and tiles[0][0].startswith("ppm"):
        return int(tiles[0][3][-1]).bit_length()
    if picture.format not in _DEPTH:
        return 16 if _is_narrowed(picture) else 8
    file: Any = getattr(picture, "fp")  # noqa: B009 - opened pictures have one, by Pillow's types not all
    file.seek(0)
    found = _DEPTH[picture.format].search(file.read(_HEAD))
    if found is None:
        return 8
    byte = found[1][0]
    if picture.format == "JPEG2000":
        return (byte & 0x7F) + 1
    return 8 + 2 * bool(byte & 0x40) + 2 * (byte & 0x60 == 0x60)


def write(path: Path, photo: Photo) -> tuple[str, ...]:
    """Write a picture whole or not at all; says what of it the file cannot hold."""
    found, mode = formats.format_of(path), formats.mode_in(path, photo.mode)
    assert found is not None
    lost = [*formats.losses(path, photo.mode, photo.profile)]

    def content() -> bytes:
        image = _image(photo, mode)
        encoded = _encoded(image, found, **formats.options(path, photo.mode, photo.profile))
        if found == "GIF" and not _holds(encoded, image):
            lost.append("fewer colours or levels of alpha, GIF has 256 and 2")
        return encoded

    output.put({path: content})
    return tuple(lost)


def _holds(encoded: bytes, image: Image.Image) -> bool:
    """Whether a file shows these pixels."""
    with Image.open(BytesIO(encoded)) as picture:
        found, wanted = (np.array(each.convert("RGBA")) for each in (picture, image))
    unseen = (found[..., 3] == 0) & (wanted[..., 3] == 0)
    return bool((unseen | (found == wanted).all(2)).all())


def _image(photo: Photo, mode: str) -> Image.Image:
    values = photo.values
    if photo.colours == "I;16" and mode != "I;16":
        values = np.rint(values / np.float32(257)).astype(np.uint8)
    bands = [Image.fromarray(np.ascontiguousarray(values[..., c])) for c in range(values.shape[2])]
    if photo.alpha is not None:
        bands.append(Image.fromarray(photo.alpha))
    image = bands[0] if len(bands) == 1 else Image.merge(photo.mode, bands)
    return image if image.mode == mode else image.convert(mode)


def _encoded(image: Image.Image, name: str, **options: Any) -> bytes:
    encoded = BytesIO()
    lines: list[str] = []
    if name == "PPM" and image.mode == "I;16":  # older Pillows write 16 bits there by this mode only
        image = image.convert("I")
    try:
        with libraries.heard(lines):
            image.save(encoded, name, **options)
    except Exception as error:  # a picture too large for its format, for one, fails in as many ways
        if isinstance(error, OSError) and not lines:
            raise
        raise OSError(lines[0] if lines else one_line(error)) from None
    if lines:
        raise OSError(lines[0])
    # no view of the buffer: some Pythons crash when they collect one that an exception holds (gh-111049)
    return encoded.getvalue()


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
    files = {folder / name: partial(_png, picture) for name, picture in pictures.items()}
    output.put(files)
    return list(files)


def _png(picture: Picture) -> bytes:
    return _encoded(Image.fromarray(picture), "PNG", optimize=True)
