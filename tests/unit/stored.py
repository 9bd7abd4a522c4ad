"""Made-up devices and entries for tests of the tuning store."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

from gpuconv import store
from gpuconv.backend import folders
from gpuconv.backend.device import Device
from gpuconv.problem import ConvProblem
from gpuconv.store_file import device_facts, file_name, line_of

CPU = Device("cpu", "Made-up processor", threads=2, numpy="2.0", blas="none 1.0")
CARD = Device(
    "cuda",
    "Made-up 9000",
    capability=(9, 0),
    sms=132,
    smem_block=232448,
    smem_sm=233472,
    l2_bytes=50 * 2**20,
)


def problem(number):
    return ConvProblem("fprop", number, 8, 12, 12, 8, 3, 3, padding=((1, 1), (1, 1)))


def entry(number=1, **more):
    values = {
        "problem": problem(number),
        "kernel": "cpu_made_up",
        "config": {"block_kib": 256, "lanes": 2},
        "us": 10.5,
        "default_us": 21.0,
        "default": "cpu_other(block_kib=128)",
        "strategy": "heuristic",
        "budget": 8.0,
        "left": 0,
        "digest": "0123abcd" * 8,
        "compiler": "",
        "date": "2026-01-31T12:00:00+00:00",
    }
    return store.Entry(**(values | more))


def fresh(monkeypatch, folder):
    """An empty store there, in a process that has said and read nothing yet."""
    monkeypatch.setenv("GPUCONV_CACHE_DIR", str(folder))
    monkeypatch.setattr(folders, "_said", {})
    monkeypatch.setattr(folders, "_swept", set())
    monkeypatch.setattr(store, "SHIPPED", Path(folder) / "nothing is shipped")
    store.forget()


def path_of(device):
    return store.folder() / file_name(device_facts(device))


def sealed(lines, device=CPU, head=None):
    """A file of any lines under a digest that is right."""
    import json

    if head is None:
        head = b'"device":' + json.dumps(device_facts(device), separators=(",", ":")).encode() + b","
    rest = b"\n".join([head, b'"entries":[', *([b",\n".join(lines)] if lines else []), b"]}", b""])
    return under_digest(rest)


def under_digest(rest, schema=1):
    digest = hashlib.sha256(rest).hexdigest()
    return b'{"schema":%d,"sha256":"%s",\n' % (schema, digest.encode()) + rest


def lines(*numbers):
    return [line_of(entry(number)) for number in numbers]


def one_warning(match, work):
    """What work gives, which warns once."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = work()
    assert len(said) == 1, [str(one.message) for one in said]
    assert said[0].category is RuntimeWarning
    assert match in str(said[0].message)
    return found
