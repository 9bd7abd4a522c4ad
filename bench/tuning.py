"""The section on tuning of ``bench/results/README.md``: what recordings say of searches and of cold picks.

``python -m bench.tuning RESULTS.json RECORDING.json`` takes the recording out of a result file of
``bench/gpu_check.py``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gpuconv.autotune import replay, space
from gpuconv.autotune.recording import Recorded, Recording, recorded
from gpuconv.autotune.search import MOST, chosen, search
from gpuconv.report.records import ResultFile
from gpuconv.report.summary import geometric_mean

#: Re-tunes of each problem in a replay.
TIMES = 10
#: What a recording of `bench.tuned` calls itself.
CHECKED = "checked"


@dataclass(frozen=True)
class Replayed:
    """What replays of one problem came to: shares of the best recorded speed.

    Attributes
    ----------
    cold : float
        Of the untuned choice.
    tuned : float
        Of what `TIMES` searches found, the geometric mean.
    answers : int
        How many different candidates these were.
    tried : int
        Candidates that the largest of the searches measured.
    """

    cold: float
    tuned: float
    answers: int
    tried: int


def replayed(one: Recorded, recording: Recording) -> Replayed:
    """Search for a problem's best `TIMES` times, each knowing what the one before found."""
    device = replay.device_of(recording)
    proposals = space.proposals(one.problem, device)
    picks: list[str] = []
    tried = 0
    for seed in range(TIMES):
        bench = replay.ReplayBench(one, recording.kind, seed)
        candidates = chosen(proposals, "heuristic", MOST, seed)
        before = picks[-1] if picks else None
        picks.append(str(search(one.problem, candidates, bench, budget=8.0, incumbent=before).best))
        tried = max(tried, len(bench.measured))
    tuned = geometric_mean([replay.efficiency(one, pick) for pick in picks])
    assert tuned is not None
    return Replayed(replay.efficiency(one, proposals[0]), tuned, len(set(picks)), tried)


def load(folder: Path) -> dict[str, Recording]:
    """Every recording of a folder by its name."""
    return {path.name: Recording.load(path) for path in sorted(folder.glob("*.json"))}


def of_check(found: ResultFile) -> Recording:
    """The recording that ``bench/gpu_check.py`` leaves in its result file.

    Raises
    ------
    ValueError
        If it has none, or a damaged one.
    """
    rows = found.extras.get("tuned")
    if not isinstance(rows, list) or not rows:
        raise ValueError("the check tuned nothing")
    problems = tuple(recorded({name: row[name] for name in row if name != "gain"}) for row in rows)
    return Recording("cuda", found.device, found.date, found.commit, "heuristic", found.environment, problems)


def section(folder: Path) -> Iterator[str]:
    """The section, where there is a recording."""
    found = load(folder)
    if not found:
        return
    yield "## Tuning"
    yield ""
    yield "Gain: time of what runs untuned divided by that of what the tuner chose. Where that is another"
    yield "plan, both were timed anew by turns after the search (`python -m bench.tuned`); where it is the"
    yield "same, the gain is 1 by itself. Above 1 tuning has paid."
    yield ""
    yield "| recording | device | layers | another plan | gain, mean | least | most | seconds a layer |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for name, recording in found.items():
        if recording.strategy.endswith(CHECKED):
            yield _gains(name, recording)
    yield ""
    yield "Replays of exhaustive recordings: the share of the best recorded speed that the untuned choice"
    yield f"has, and that {TIMES} searches among at most {MOST} candidates reach, with the noise that was"
    yield "measured. Rules and orders were chosen by looking at recordings named `fit`, one of pictures by"
    yield "looking at a picture, and none by looking at recordings named `held-out`."
    yield ""
    yield f"| recording | device | problems | untuned | worst | tuned | worst | one answer in {TIMES} |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for name, recording in found.items():
        if not recording.strategy.endswith(CHECKED):
            yield _shares(name, recording)
    yield ""
    kinds = {recording.kind for recording in found.values()}
    if "cuda" not in kinds:
        yield "No GPU has been tuned for yet, and no store for one is shipped."


def _gains(name: str, recording: Recording) -> str:
    gains = [one.gain for one in recording.problems if one.gain is not None]
    seconds = sum(one.seconds for one in recording.problems) / len(recording.problems)
    mean = geometric_mean(gains)
    cells = [name, recording.device, len(gains), sum(one.chosen > 0 for one in recording.problems)]
    cells += [f"{share:.3f}" for share in (mean, min(gains), max(gains))]
    return f"| {' | '.join(map(str, cells))} | {seconds:.1f} |"


def _shares(name: str, recording: Recording) -> str:
    rows = [replayed(one, recording) for one in recording.problems]
    cold, tuned = [row.cold for row in rows], [row.tuned for row in rows]
    cells = [name, recording.device, str(len(rows))]
    for shares in (cold, tuned):
        cells += [f"{geometric_mean(shares):.3f}", f"{min(shares):.3f}"]
    cells.append(f"{sum(row.answers == 1 for row in rows)} of {len(rows)}")
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Take a recording out of a result file."""
    parser = argparse.ArgumentParser(prog="python -m bench.tuning", description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("recording", type=Path)
    options = parser.parse_args()
    of_check(ResultFile.load(options.results)).save(options.recording)
    return 0


if __name__ == "__main__":
    sys.exit(main())
