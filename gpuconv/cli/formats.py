"""Formats that pictures are written in: what each holds, and what becomes of a picture there."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from PIL import Image

from gpuconv.cli.output import Failure

#: Formats that are written, and what each can hold, in Pillow's names of modes; suffixes that promise less.
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
    ".pgm": ("L", "I;16"),
    ".ppm": ("RGB",),
}
#: Suffixes that Pillow would write something else under: floats, bits, films.
_NOT_WRITTEN: Final = (".pfm", ".pbm", ".avifs", ".jpf", ".jpx")
#: Suffixes of a JPEG 2000 codestream without the boxes around it.
_BARE: Final = (".j2k", ".j2c", ".jpc")
#: Most pixels along a side; for AVIF, of what its library reads again.
_LONGEST: Final = {"JPEG": 65_500, "WEBP": 16_383, "GIF": 65_535, "TGA": 65_535, "AVIF": 32_768}
_QUALITY: Final = {"JPEG": 95, "WEBP": 95, "AVIF": 95}
#: Formats in which Pillow writes colour profiles.
_WITH_PROFILE: Final = ("PNG", "TIFF", "JPEG", "WEBP", "AVIF")
#: What a picture becomes where its own mode cannot be held, the least loss first.
_INSTEAD: Final = {
    "L": ("RGB",),
    "LA": ("RGBA", "L", "RGB"),
    "RGBA": ("RGB",),
    "CMYK": ("RGB",),
    "I;16": ("L", "RGB"),
}
_IN_WORDS: Final = {"I": "32-bit integers", "F": "floating-point numbers"}
#: The mode whose colour profiles also fit this one.
_PROFILE_OF: Final = {"LA": "L", "I;16": "L", "I": "L", "F": "L", "RGBA": "RGB"}


def format_of(path: Path) -> str | None:
    """The format that a file's suffix stands for, if it can be written."""
    suffix = path.suffix.lower()
    found = None if suffix in _NOT_WRITTEN else Image.registered_extensions().get(suffix)
    return found if found in _HOLDS and found in Image.SAVE else None


def formats() -> str:
    """All formats that can be written, for people."""
    return ", ".join(name for name in _HOLDS if not name.startswith("."))


def mode_in(path: Path, mode: str) -> str:
    """The mode in which a file with this suffix will hold a picture of `mode`."""
    suffix = path.suffix.lower()
    name = suffix if suffix in _HOLDS else _format(path)
    for each in (mode, *_INSTEAD.get(mode, ())):
        if each in _HOLDS[name]:
            return each
    raise Failure(f"cannot write {path}: {name} holds no {_IN_WORDS.get(mode, 'colours')}, TIFF does")


def check_size(path: Path, width: int, height: int) -> None:
    """Refuse a picture that is too long for its format."""
    found = _format(path)
    most = _LONGEST.get(found)
    if most and max(width, height) > most:
        raise Failure(
            f"cannot write {path}: {found} holds at most {most:,} pixels along a side, "
            f"the result has {width:,} x {height:,}"
        )


def losses(path: Path, mode: str, profile: bytes | None) -> tuple[str, ...]:
    """What of a picture a file with this suffix cannot hold, as in "written with ..."."""
    found, becomes = _format(path), mode_in(path, mode)
    lost = []
    if mode.endswith("A") and not becomes.endswith("A"):
        lost.append(f"no alpha, {found} has none")
    if mode == "I;16" and becomes != "I;16":
        lost.append(f"8 bits instead of 16, {found} has no more")
    if mode == "CMYK" and becomes != "CMYK":
        lost.append(f"RGB instead of CMYK, {found} has no inks")
    if profile and found not in _WITH_PROFILE:
        lost.append(f"no colour profile, {found} keeps none")
    elif profile and not _same_profile(mode, becomes):
        lost.append(f"no colour profile, the one there is does not fit {becomes}")
    return tuple(lost)


def options(path: Path, mode: str, profile: bytes | None) -> dict[str, Any]:
    """What Pillow is told beside the picture."""
    found = _format(path)
    told: dict[str, Any] = {"quality": _QUALITY[found]} if found in _QUALITY else {}
    if path.suffix.lower() in _BARE:
        told["no_jp2"] = True
    if profile and found in _WITH_PROFILE and _same_profile(mode, mode_in(path, mode)):
        told["icc_profile"] = profile
    return told


def _same_profile(mode: str, other: str) -> bool:
    return _PROFILE_OF.get(mode, mode) == _PROFILE_OF.get(other, other)


def _format(path: Path) -> str:
    found = format_of(path)
    assert found is not None
    return found
