"""``gpuconv filter``: pictures under a kernel of image processing, or under one's own."""

from __future__ import annotations

import errno
import math
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.text import Text

from gpuconv import image_kernels
from gpuconv.arguments import LIMIT
from gpuconv.cli import formats, output, pictures
from gpuconv.cli.bands import BORDERS, Filter
from gpuconv.cli.output import Failure, one_line
from gpuconv.cli.pictures import Photo
from gpuconv.problem import ConvProblem

_WORDS: Final = ("same", "valid")
#: Pictures of more pixels get a bar.
_LARGE: Final = 4_000_000
#: Steps of the bar for one picture.
_STEPS: Final = 200
#: Pixels on a side: an option beyond this is a slip, and rows so padded take memory.
_MOST_PADDING: Final = 65_536
#: Taps of no greater sum keep every result within float32, whatever the picture.
_LARGEST_SUM: Final = 1e30


@dataclass(frozen=True, slots=True)
class Job:
    """A picture to be read, and the file to be written."""

    image: Path
    target: Path


def _kernel(ctx: click.Context, param: click.Parameter, text: str) -> NDArray[np.float64]:
    """Read the kernels to use, (K, R, S)."""
    if not text.lower().endswith(".npy"):
        try:
            taps = image_kernels.taps(text)
        except ValueError as error:
            why = one_line(error).removeprefix("name ")
            raise click.BadParameter(f"{why}; or give a FILE.npy") from None
    elif not Path(text).exists():
        raise click.BadParameter(f"file {text!r} does not exist")
    else:
        taps = _own_kernel(Path(text))
    return taps.reshape(-1, *taps.shape[-2:])


def _own_kernel(path: Path) -> NDArray[np.float64]:
    if not path.is_file():
        raise Failure(f"cannot read {path}: not a regular file")
    try:
        with path.open("rb") as file:
            found = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # of a damaged file, or of one that claims more than there is memory for
        raise Failure(f"cannot read {path}: {one_line(error)}") from None
    if found.dtype.kind not in "biuf":
        raise Failure(f"the kernel in {path} must be of real numbers, got {found.dtype.name}")
    if found.ndim != 2 or not found.size:
        raise Failure(f"the kernel in {path} must be of shape (R, S), none of them 0, got {found.shape}")
    with np.errstate(over="ignore"):
        size = np.abs(found.astype(np.float64)).sum()
    if not size <= _LARGEST_SUM:
        raise Failure(f"the kernel in {path} must be finite, its magnitudes of sum <= 1e30, got {size:g}")
    return found.astype(np.float64)


def _numbers(text: str, least: int, most: int) -> tuple[int, int] | None:
    """Read an integer, or two with an x between: vertical and horizontal."""
    if not re.fullmatch(r"[0-9]{1,10}(x[0-9]{1,10})?", text):
        return None
    first, _, second = text.partition("x")
    found = (int(first), int(second or first))
    return found if all(least <= number <= most for number in found) else None


def _stride(ctx: click.Context, param: click.Parameter, text: str) -> tuple[int, int]:
    found = _numbers(text, 1, LIMIT)
    if found is None:
        raise click.BadParameter(f"must be N or HxW, none below 1, got {text!r}")
    return found


def _padding(ctx: click.Context, param: click.Parameter, text: str) -> str | tuple[int, int]:
    if text in _WORDS:
        return text
    found = _numbers(text, 0, _MOST_PADDING)
    if found is None:
        allowed = f"{', '.join(_WORDS)}, N or HxW, none below 0 or above {_MOST_PADDING:,}"
        raise click.BadParameter(f"must be {allowed}, got {text!r}")
    return found


@click.command(
    epilog="Pixels keep their 8 or 16 bits: results are rounded and cut off at black and white; those of "
    "kernels that add up to 0 are shown as |y|. Alpha is kept as it is."
)
@click.argument(
    "images",
    metavar="IMAGE...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option(
    "--kernel",
    "taps",
    required=True,
    metavar="NAME",
    callback=_kernel,
    help=f"{', '.join(image_kernels.NAMES)} (as in gaussian:1.5) or FILE.npy, a 2-D array of real numbers.",
)
@click.option(
    "--stride",
    metavar="N|HxW",
    default="1",
    show_default=True,
    callback=_stride,
    help="Pixels between results.",
)
@click.option(
    "--padding",
    metavar="WORD|N|HxW",
    default="same",
    show_default=True,
    callback=_padding,
    help="same: the picture keeps its size (divided by the stride); valid: no pixel beyond the border is "
    "needed; or so many pixels on each side.",
)
@click.option(
    "--border",
    type=click.Choice(BORDERS),
    default="reflect",
    show_default=True,
    help="What lies beyond the border. zeros: black, of CMYK white; reflect: the picture mirrored at its "
    "outermost pixels; replicate: those again; circular: the picture's other side.",
)
@click.option(
    "-o",
    "--output",
    "out",
    required=True,
    metavar="OUT",
    help="File for one picture, its suffix says of which format; folder for several, or with a slash at its "
    "end, for files of the same names. The folder is made if it is not there.",
)
@output.json_option
def filter(
    images: tuple[Path, ...],
    taps: NDArray[np.float64],
    stride: tuple[int, int],
    padding: str | tuple[int, int],
    border: str,
    out: str,
    as_json: bool,
) -> None:
    """Filter pictures: find edges, sharpen, blur, emboss.

    Every channel is cross-correlated with the kernel, on the CPU. With several pictures, those that fail are
    named, the others are written, and the exit code is 1.
    """
    jobs = plan(images, out)
    done: list[dict[str, Any]] = []
    try:
        with output.one_line_errors():
            for each in _run(jobs, Filter(taps, stride, padding, border)):
                done.append(each)
    except Failure:
        _report(done, as_json=as_json and bool(done))  # what is written by now stays
        raise
    _report(done, as_json=as_json)
    failed = sum(each["file"] is None for each in done)
    if failed:
        rest = "; the others are written" * (failed < len(done))
        raise Failure(f"{failed} of {len(done)} pictures failed{rest}")


def _report(done: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    errors = [each["error"] for each in done if each["error"]]
    for note in [*(note for each in done for note in each["notes"]), *errors]:
        output.note(note)
    written = [Text(each["file"]) for each in done if each["file"]]
    if as_json:
        output.emit("filter", done)
    elif written:
        output.show(*written)


def plan(images: Sequence[Path], out: str) -> list[Job]:
    """Where each picture goes; whatever cannot be is refused here, before any is read."""
    folder = _folder(images, out)
    jobs = [Job(image, folder / image.name if folder else Path(out)) for image in images]
    taken: dict[str, Path] = {}
    inputs = {os.path.realpath(image) for image in images}
    for image, target in ((job.image, job.target) for job in jobs):
        _check_target(target, made=folder is not None)
        place = os.path.realpath(target)
        _check_place(target, Path(place))
        if place in inputs:
            raise _wrong_out(f"{target} is a picture to be read, and is not written over")
        if place in taken:
            raise _wrong_out(f"{taken[place]} and {image} would both be written to {target}")
        taken[place] = image
    return jobs


def _folder(images: Sequence[Path], out: str) -> Path | None:
    """The folder that OUT names, if it is one."""
    if not out:
        raise _wrong_out("must name a file or a folder")
    path = Path(out)
    meant = path.is_dir() or out.endswith(("/", os.sep))
    if not meant and len(images) == 1:
        return None
    if path.exists() and not path.is_dir():
        raise _wrong_out(f"must be a folder here, {out} is a file")
    if not meant and formats.format_of(path):
        raise _wrong_out(f"must be a folder for several pictures, got {out}; {out}/ would be one")
    return path


def _check_target(target: Path, *, made: bool) -> None:
    """Refuse what cannot be written; folders are `made` or must be there."""
    if formats.format_of(target) is None:
        if target.suffix:
            wrong = f"{target} has the unknown suffix {target.suffix!r}"
        else:
            wrong = f"{target} has no suffix, and a folder that is to be made ends in a slash"
        raise _wrong_out(f"{wrong}; what can be written is {formats.formats()}")
    if not made and not target.parent.is_dir():
        raise _wrong_out(f"there is no folder {target.parent} to write {target.name} to")


def _check_place(target: Path, place: Path) -> None:
    """Refuse a `place`, what `target` is or leads to, that cannot be written."""
    try:
        mode = os.lstat(place).st_mode
    except (FileNotFoundError, NotADirectoryError):
        mode = stat.S_IFREG
    except OSError as error:
        raise Failure(f"cannot write {target}: {error.strerror}") from None
    if not stat.S_ISREG(mode):  # a link only where links lead round in a circle
        raise _wrong_out(f"{target} is there and is not a regular file")
    there = next(folder for folder in place.parents if folder.exists())
    if not there.is_dir():
        raise Failure(f"cannot write {target}: {os.strerror(errno.ENOTDIR)}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise Failure(f"cannot write {target}: {os.strerror(errno.EACCES)}")


def _wrong_out(message: str) -> click.BadParameter:
    return click.BadParameter(message, param_hint="'-o'")


def _run(jobs: Sequence[Job], task: Filter) -> Iterator[dict[str, Any]]:
    """Do one after the other; of several, a failure stops none but its own."""
    shown = len(jobs) > 1 or _pixels(jobs[0].image) > _LARGE
    with output.progress_bar(_STEPS * len(jobs), shown=shown) as advance:
        for job in jobs:
            steps = _Steps(advance)
            try:
                with output.one_line_errors():
                    yield run(job, task, steps)
            except Failure as error:
                if type(error) is not Failure or len(jobs) == 1:
                    raise
                yield {"image": str(job.image), "file": None, "error": error.message, "notes": []}
            steps(1)


def _pixels(image: Path) -> int:
    try:
        return math.prod(pictures.outline(image).values.shape[:2])
    except Failure:
        return 0


class _Steps:
    """Moves the bar on as a picture proceeds."""

    def __init__(self, advance: Callable[[int], Any]) -> None:
        self.advance, self.taken = advance, 0

    def __call__(self, share: float) -> None:
        steps = int(share * _STEPS) - self.taken
        self.taken += steps
        self.advance(steps)


def run(job: Job, task: Filter, advance: Callable[[float], Any]) -> dict[str, Any]:
    """Filter one picture; says what was done, for JSON."""
    outline = pictures.outline(job.image)
    problem = _problem(job, task, outline)
    photo = pictures.read(job.image)
    if photo.values.shape != outline.values.shape or photo.mode != outline.mode:
        problem = _problem(job, task, photo)  # a header need not tell all
    result = task(photo, advance)
    lost = pictures.write(job.target, result)
    return {
        "image": str(job.image),
        "file": str(job.target),
        "size": [problem.Q, problem.P],
        "mode": formats.mode_in(job.target, result.mode),
        "problem": str(problem),
        "error": None,
        "notes": [
            *(f"{job.image}: read {what}" for what in outline.unread),
            *(f"{job.target}: written with {what}" for what in lost),
        ],
    }


def _problem(job: Job, task: Filter, photo: Photo) -> ConvProblem:
    """What is to be computed of a picture, or of its outline, if the result can be written."""
    formats.mode_in(job.target, photo.mode)
    try:
        problem = task.problem(photo)
    except ValueError as error:
        message = f"cannot filter {job.image}: {one_line(error)}"
        with suppress(ValueError):
            replace(task, border="replicate").problem(photo)
            message += "; --border replicate has no such limit"
        raise Failure(message) from None
    most = Image.MAX_IMAGE_PIXELS
    if most and problem.P * problem.Q > most:
        raise Failure(f"cannot filter {job.image}: the result would exceed {most:,} pixels")
    formats.check_size(job.target, problem.Q, problem.P)
    return problem
