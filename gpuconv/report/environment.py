"""What a measurement depends on beside the code measured: its commit, versions and threads."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import gpuconv
from gpuconv.backend import detect
from gpuconv.backend.device import Device

ROOT: Final = Path(gpuconv.__file__).parents[1]


def now() -> str:
    """The time, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def commit_of(root: Path = ROOT) -> str | None:
    """Short hash of the checkout, with "-dirty" if anything but results differs from it; None outside one."""
    if not (root / ".git").exists():
        return None

    def git(*words: str) -> str:
        command = ["git", "--no-optional-locks", "-C", str(root), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        changes = git("status", "--porcelain", "--", ".", ":(exclude)bench/results")
        return git("rev-parse", "--short", "HEAD") + ("-dirty" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def environment(device: Device, baselines: Iterable[str] = ()) -> dict[str, Any]:
    """Versions and thread count, for `gpuconv.report.records.ResultFile`."""
    found: dict[str, Any] = {"gpuconv": gpuconv.__version__, "python": platform.python_version()}
    if device.kind == "cpu":
        found |= {"numpy": device.numpy, "blas": device.blas}
        found |= {"threads": device.threads, "cores": device.cores}
    else:
        cupy = detect.cuda().version
        found |= {"cupy": cupy, **(_cuda_versions() if cupy is not None else {})}
        found |= {"capability": list(device.capability), "sms": device.sms, "l2_bytes": device.l2_bytes}
    return found | {"baselines": list(baselines)}


def _cuda_versions() -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:
        found["driver"] = detect.cupy().cuda.runtime.driverGetVersion()
        found["nvrtc"] = ".".join(map(str, detect.nvrtc()[1]))
    except Exception:  # no driver, no compiler: each has a type of its own, and the rest is worth telling
        pass
    return found
