"""``gpuconv demo``: edges and blur of a photograph, every number checked against the oracle."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import click
import numpy as np
from numpy.typing import NDArray
from rich.text import Text

import gpuconv
from gpuconv import dispatch, image_kernels
from gpuconv.cli import devices, output, pictures
from gpuconv.cli.devices import Place
from gpuconv.cli.output import Mismatch
from gpuconv.cli.pictures import Picture
from gpuconv.options import Options
from gpuconv.plan import Plan
from gpuconv.problem import ConvProblem
from gpuconv.validate import tolerance
from gpuconv.validate.tolerance import Verdict

Float32 = NDArray[np.float32]

#: A convolution is timed this often, or until this many seconds have passed.
_RUNS: Final = 5
_SECONDS: Final = 2.0
_LUMA: Final = (0.299, 0.587, 0.114)
_SIGMA: Final = 3.0
_TRUNCATE: Final = 3
#: This share of the pixels has a weaker gradient than what is drawn white.
_WHITE_FROM: Final = 0.99
#: A gradient below one step of brightness is rounding, not an edge.
_LEAST_WHITE: Final = 1 / 255
#: Below 1, faint edges are lifted.
_GAMMA: Final = 0.8


@dataclass(frozen=True, slots=True)
class Task:
    """One convolution to do; `options` as for `gpuconv.conv2d`."""

    name: str
    meaning: str
    x: Float32
    w: Float32
    options: dict[str, Any]

    @property
    def problem(self) -> ConvProblem:
        """What conv2d will make of it."""
        return Options(**self.options).problem("fprop", ("x", self.x.shape), ("w", self.w.shape))


@dataclass(frozen=True, slots=True)
class Done:
    """A task, its result and how that was found."""

    task: Task
    plan: Plan
    device: str
    result: Float32
    milliseconds: float
    runs: int
    verdict: Verdict

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which knows no infinity: a result that is no number at all has an error of null."""
        share = self.verdict.error_over_bound
        return {
            "name": self.task.name,
            "meaning": self.task.meaning,
            "problem": str(self.plan.problem),
            "kernel": self.plan.kernel,
            "config": str(self.plan.config),
            "device": self.device,
            "milliseconds": round(self.milliseconds, 4),
            "best_of": self.runs,
            "error_over_bound": share if isfinite(share) else None,
            "values_checked": self.verdict.checked,
            "values": self.verdict.total,
            "ok": self.verdict.ok,
        }

    def rows(self) -> list[tuple[str, str]]:
        """For people."""
        share, checked, total = self.verdict.error_over_bound, self.verdict.checked, self.verdict.total
        which = f"all {total:,} values" if checked == total else f"{checked:,} of {total:,} values"
        return [
            ("problem", str(self.plan.problem)),
            ("plan", f"{self.plan.kernel}({self.plan.config})"),
            ("device", self.device),
            ("time", f"{self.milliseconds:.2f} ms, best of {self.runs}"),
            ("error / bound", f"{share:.3f}, {which} against float64"),
        ]


@click.command()
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("gpuconv-demo"),
    show_default=True,
    metavar="DIR",
    help="Folder for the pictures; made if it is not there.",
)
@click.option(
    "--image",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Any picture Pillow reads, instead of the photograph that comes with the package.",
)
@output.json_option
def demo(folder: Path, image: Path | None, as_json: bool) -> None:
    """Find the edges of a photograph and blur it.

    Writes edges.png (the magnitude of two Sobel filters), blur.png (a depthwise Gaussian) and demo.png (the
    photograph, its blur and its edges side by side). Every result is compared with a float64 oracle; exit
    code 4 if one is outside its error bound, and then no picture is written.
    """
    photo = pictures.load(image)
    tasks = [sobel(photo), gaussian(photo), coverage(photo)]
    place = devices.choose([task.problem for task in tasks])
    if place.why_cpu:
        output.note(f"computing on the CPU: {place.why_cpu}")
    done = [compute(task, place) for task in tasks]
    wrong = [one.task.name for one in done if not one.verdict.ok]
    files = []
    if not wrong:
        gradients, sums, shares = (one.result for one in done)
        edges, blur = edge_picture(gradients), blur_picture(sums, shares)
        row = pictures.side_by_side([photo, blur, edges])
        files = pictures.save(folder, {"edges.png": edges, "blur.png": blur, "demo.png": row})
    if as_json:
        height, width, _ = photo.shape
        result = {
            "image": None if image is None else str(image),
            "size": [width, height],
            "device": place.name,
            "why_cpu": place.why_cpu or None,
            "convolutions": [one.as_dict() for one in done],
            "files": [str(file) for file in files],
        }
        output.emit("demo", [result])
    else:
        for one in done:
            output.show(f"{one.task.name}: {one.task.meaning}", output.facts(one.rows()), "")
        if files:
            output.show("written", *(Text(str(file)) for file in files))
    if wrong:
        raise Mismatch(f"wrong beyond the error bound: {', '.join(wrong)}; no picture written")


def compute(task: Task, place: Place) -> Done:
    """Run a task a few times, keep the best time, and judge the result."""
    output.progress(f"{task.name}: computing")
    plan = dispatch.plan_for(task.problem, place.device)
    x, w = place.put(task.x), place.put(task.w)
    times: list[float] = []
    while len(times) < _RUNS and sum(times) < _SECONDS:
        place.wait()
        start = perf_counter()
        result = gpuconv.conv2d(x, w, **task.options)
        place.wait()
        times.append(perf_counter() - start)
    y = place.get(result)
    output.progress(f"{task.name}: checking")
    verdict = tolerance.judge(task.problem, y, task.x, task.w)
    return Done(task, plan, place.name, y, min(times) * 1000, len(times), verdict)


def sobel(photo: Picture) -> Task:
    """Horizontal and vertical slope of the brightness: one channel in, two out."""
    gray = (photo @ np.array(_LUMA, np.float32) / 255).astype(np.float32)
    w = image_kernels.image_kernel("sobel")[:, None]
    return Task("edges", "two 3x3 Sobel filters on the gray picture", gray[None, None], w, {"padding": 1})


def gaussian(photo: Picture) -> Task:
    """Weighted mean around each pixel, each colour by itself."""
    x, w = (photo[None] / np.float32(255)).astype(np.float32), _bell(3)
    meaning = f"depthwise Gaussian, sigma {_SIGMA:g}, {w.shape[0]}x{w.shape[1]} taps"
    return Task("blur", meaning, x, w, {"padding": "same", "data_format": "NHWC", "groups": 3})


def coverage(photo: Picture) -> Task:
    """How much of the Gaussian lies inside the picture.

    Zeros stand outside, so the blur alone darkens the borders; divided by this, the sums are means again.
    """
    height, width, _ = photo.shape
    x = np.ones((1, height, width, 1), np.float32)
    meaning = "the same Gaussian on ones, to divide the blur by at the borders"
    return Task("coverage", meaning, x, _bell(1), {"padding": "same", "data_format": "NHWC"})


def _bell(channels: int) -> Float32:
    """The same Gaussian for each channel, as HWIO weights that sum to 1."""
    bell = image_kernels.gaussian(_SIGMA, _TRUNCATE)
    return np.repeat(bell[:, :, None, None], channels, axis=3)


def edge_picture(gradients: Float32) -> Picture:
    """Gradient magnitude, scaled to look good: the strongest hundredth is white, faint edges are lifted."""
    magnitude = np.hypot(gradients[0, 0], gradients[0, 1])
    # the outermost pixels show only the step to the zeros around the picture
    magnitude[[0, -1]] = 0
    magnitude[:, [0, -1]] = 0
    white = max(float(np.quantile(magnitude, _WHITE_FROM)), _LEAST_WHITE)
    return _to_bytes((magnitude / white).clip(0, 1) ** _GAMMA)


def blur_picture(sums: Float32, shares: Float32) -> Picture:
    """Means from sums and the share of the weights behind them."""
    return _to_bytes(sums[0] / shares[0])


def _to_bytes(values: Float32) -> Picture:
    return (values.clip(0, 1) * 255).round().astype(np.uint8)
