"""One problem's measurement as a record, and files of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from math import isfinite
from pathlib import Path
from typing import Any, Final

from gpuconv.backend import folders
from gpuconv.backend.device import Device
from gpuconv.families import FAMILIES, family
from gpuconv.problem import ConvProblem

#: What `ResultFile.save` writes. Schema 1 had no families, and device, commit and date once for a file.
SCHEMA: Final = 2
#: A result that is not a number has no error; JSON has no infinity.
NO_NUMBER: Final = 1e30
#: Processors that others kept busy, on average, from which on times are not to be trusted.
DISTURBED: Final = 0.25

_POSITIVE: Final = (
    *("us", "us_cold", "floor_us", "share_of_floor", "baseline_us", "ratio", "cudnn_us"),
    "cudnn_heuristic_us",
)
_NOT_NEGATIVE: Final = ("error_over_bound", "gflops", "others")
_TEXTS: Final = ("kernel", "config", "baseline", "device", "commit", "date")
_FROM_PROBLEM: Final = ("op", "dtype", "layout")
#: What schema 1 keeps at the top of the file.
_EXTRAS_1: Final = ("import_seconds_beyond_numpy", "call_overhead")


@dataclass(frozen=True, slots=True)
class Record:
    """One problem measured; None where something was not measured or does not apply.

    Attributes
    ----------
    problem, op, dtype, layout : str
        The problem's text form, and parts of it.
    family : str
        One of `gpuconv.families.FAMILIES`.
    kernel, config : str
        What dispatch chose.
    us, us_cold : float
        Microseconds of the public function, as `gpuconv.measure.Timing` has them.
    floor_us, share_of_floor : float
        `gpuconv.families.floor_us`, and its quotient by `us`: 1 is as fast as the device allows.
    error_over_bound : float
        Largest error as a share of what is allowed; 1 is the limit. Nothing is timed beyond it.
    baseline, baseline_us, ratio : str, float, float
        The fastest that was compared with, its time, and that divided by `us`: above 1 gpuconv is faster.
    device, commit, date : str
        Where, of what and when: UTC.
    cudnn_us, cudnn_heuristic_us : float
        cuDNN's fastest plan, and the one it chooses untried.
    gflops : float
        10⁹ operations a second.
    others : float
        Processors that others kept busy meanwhile, on average.
    """

    problem: str
    op: str
    dtype: str
    layout: str
    family: str
    kernel: str | None = None
    config: str | None = None
    us: float | None = None
    us_cold: float | None = None
    floor_us: float | None = None
    share_of_floor: float | None = None
    error_over_bound: float | None = None
    baseline: str | None = None
    baseline_us: float | None = None
    ratio: float | None = None
    device: str | None = None
    commit: str | None = None
    date: str | None = None
    cudnn_us: float | None = None
    cudnn_heuristic_us: float | None = None
    gflops: float | None = None
    others: float | None = None

    @property
    def disturbed(self) -> bool:
        """Whether others kept the processor too busy for its times to be trusted."""
        return self.others is not None and self.others > DISTURBED

    @property
    def wrong(self) -> bool:
        """Whether the result was outside the bound."""
        return self.error_over_bound is not None and self.error_over_bound > 1


#: A whole hash with "-dirty", and more.
_LONGEST_COMMIT: Final = 80
FIELDS: Final = tuple(each.name for each in fields(Record))


@dataclass(frozen=True, slots=True)
class ResultFile:
    """Records of one run.

    Attributes
    ----------
    device : str
        Name of the card or processor.
    date : str
        When the run began, UTC, as ISO 8601 has it.
    commit : str or None
        Short hash, with ``-dirty`` if the checkout differed from it; None outside a checkout.
    environment : dict
        Versions and thread count.
    records : tuple of Record
        One for each problem.
    extras : dict
        What else was measured: ``"call_overhead"``, ``"import_seconds_beyond_numpy"``.
    partial : bool
        Whether the run was cut short.
    schema : int
        Of the file that was read.
    """

    device: str
    date: str
    commit: str | None
    environment: dict[str, Any] = field(default_factory=dict)
    records: tuple[Record, ...] = ()
    extras: dict[str, Any] = field(default_factory=dict)
    partial: bool = False
    schema: int = SCHEMA

    @classmethod
    def load(cls, path: str | Path) -> ResultFile:
        """Read a file of this schema or of schema 1.

        Raises
        ------
        ValueError
            If it is damaged or something else; says where and why.
        OSError
            If it cannot be read.
        """
        path = Path(path)
        try:
            found = json.loads(path.read_bytes().decode("utf-8"))
        except ValueError as error:  # no UTF-8, no JSON
            raise ValueError(f"{path}: no JSON: {error}") from None
        except RecursionError:
            raise ValueError(f"{path}: nested too deeply for a result file") from None
        try:
            return _read(found)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def encoded(self) -> bytes:
        """What a file holds; each record is a line of its own, so that two files compare line by line."""
        head = {name: getattr(self, name) for name in ("device", "date", "commit", "partial", "environment")}
        head = {"schema": SCHEMA, **head, "extras": self.extras}
        lines = "".join(f" {_json(key)}: {_json(value)},\n" for key, value in head.items())
        rows = ",".join(f"\n  {_json(asdict(record))}" for record in self.records)
        return f'{{\n{lines} "records": [{rows}\n ]\n}}\n'.encode()

    def save(self, path: str | Path) -> None:
        """Write the file; one that is there is replaced only by a complete new one."""
        folders.write(Path(path), self.encoded(), mode=0o644)


def name_for(device: Device | str, date: str, commit: str | None) -> str:
    """Name of a result file: ``<device>-<date>-<commit>.json``.

    Examples
    --------
    >>> name_for("NVIDIA H200", "2026-11-20T14:56:40+00:00", "48eb2db")
    'nvidia-h200-2026-11-20-48eb2db.json'
    """
    if isinstance(device, Device):
        device = str(device) if device.kind == "cpu" else device.name
    # whatever was given as a commit must not lead to another folder, nor make a name too long for a file
    words = [re.sub(r"[^a-z0-9.]+", "-", device.lower()), re.sub(r"[^0-9-]+", "-", date[:10])]
    words.append(re.sub(r"[^A-Za-z0-9._]+", "-", commit or "").strip("-.")[:_LONGEST_COMMIT] or "no-commit")
    return "-".join(word.strip("-") for word in words) + ".json"


def _read(found: Any) -> ResultFile:
    if not isinstance(found, dict) or "schema" not in found:
        raise ValueError("no result file of gpuconv: it has no schema")
    schema = found["schema"]
    if schema not in (1, SCHEMA) or isinstance(schema, bool):
        raise ValueError(f"schema must be 1 or {SCHEMA}, got {_show(schema)}")
    if schema == 1:
        found = _from_schema_1(found)
    kinds: dict[str, tuple[type | tuple[type, ...], str]] = {
        "device": (str, "text"),
        "date": (str, "text"),
        "commit": ((str, type(None)), "text or null"),
        "partial": (bool, "true or false"),
        "environment": (dict, "an object"),
        "extras": (dict, "an object"),
        "records": (list, "a list"),
    }
    _check_names(found, ("schema", *kinds))
    for name, (kind, what) in kinds.items():
        if not isinstance(found[name], kind):
            raise ValueError(f"{name} must be {what}, got {_show(found[name])}")
    records: dict[tuple[str, str | None], Record] = {}
    for at, values in enumerate(found["records"], 1):
        try:
            record = _record(values)
            key = (record.problem, record.device)
            if key in records:
                raise ValueError(f"{record.problem} was there before")
        except ValueError as error:
            raise ValueError(f"record {at}: {error}") from None
        records[key] = record
    return ResultFile(**{**found, "records": tuple(records.values())})


def _from_schema_1(found: dict[str, Any]) -> dict[str, Any]:
    """The same content as this schema has it."""
    _check_names(found, ("schema", "device", "date", "commit", "versions", "threads", "records"), _EXTRAS_1)
    versions, rows = found["versions"], found["records"]
    if not isinstance(versions, dict):
        raise ValueError(f"versions must be an object, got {_show(versions)}")
    if not isinstance(rows, list):
        raise ValueError(f"records must be a list, got {_show(rows)}")
    same = {name: found[name] for name in ("device", "date", "commit")}
    return {
        "schema": 1,
        **same,
        "partial": False,
        "environment": {**versions, "threads": found["threads"]},
        "extras": {name: found[name] for name in _EXTRAS_1 if name in found},
        "records": [_row_from_schema_1(row, same) for row in rows],
    }


def _row_from_schema_1(row: Any, same: Mapping[str, Any]) -> Any:
    if not isinstance(row, dict) or not isinstance(row.get("problem"), str):
        return row  # to be refused with all others
    return {**dict.fromkeys(FIELDS), **same, "family": family(ConvProblem.parse(row["problem"])), **row}


def _record(values: Any) -> Record:
    if not isinstance(values, dict):
        raise ValueError(f"must be an object, got {_show(values)}")
    _check_names(values, FIELDS)
    if not isinstance(values["problem"], str):
        raise ValueError(f"problem must be text, got {_show(values['problem'])}")
    problem = ConvProblem.parse(values["problem"])
    for name in _FROM_PROBLEM:
        expected = getattr(problem, name)
        if values[name] != expected:
            raise ValueError(f"{name} must be the problem's, {expected}, got {_show(values[name])}")
    if values["family"] not in FAMILIES:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)}, got {_show(values['family'])}")
    for name in _TEXTS:
        if not isinstance(values[name], str | None):
            raise ValueError(f"{name} must be text or null, got {_show(values[name])}")
    for name in (*_POSITIVE, *_NOT_NEGATIVE):
        _check_number(name, values[name], may_be_zero=name in _NOT_NEGATIVE)
    record = Record(**values)
    compared = [value is None for value in (record.baseline, record.baseline_us, record.ratio)]
    if any(compared) != all(compared):
        raise ValueError("baseline, baseline_us and ratio go together, some are null")
    if record.ratio is not None and record.baseline_us is not None:
        quotient = record.baseline_us / (record.us or 1)
        # both times and their ratio are rounded
        if record.us is None or abs(record.ratio - quotient) > 0.001 + 0.02 * quotient:
            raise ValueError(f"ratio must be baseline_us / us, got {record.ratio}")
    return record


def _check_number(name: str, value: Any, may_be_zero: bool) -> None:
    if value is None:
        return
    number = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    if not number or value < 0 or (value == 0 and not may_be_zero):
        what = "no less than 0" if may_be_zero else "above 0"
        raise ValueError(f"{name} must be a number {what}, or null, got {_show(value)}")


def _check_names(found: Mapping[str, Any], required: Sequence[str], optional: Sequence[str] = ()) -> None:
    missing = [name for name in required if name not in found]
    if missing:
        raise ValueError(f"{', '.join(missing)} missing")
    unknown = [name for name in found if name not in (*required, *optional)]
    if unknown:
        raise ValueError(f"unknown: {', '.join(map(_show, unknown))}; known are {', '.join(required)}")


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
