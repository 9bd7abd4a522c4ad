"""Runs the command line for tests, here or in a process of its own, and judges how it failed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

from click.testing import CliRunner

import gpuconv
from gpuconv.cli import demo, main

ON_CPU = "gpuconv: computing on the CPU: CuPy is not installed\n"


def plain_machine(monkeypatch):
    """No variables, no CuPy, one timed run."""
    for name in [name for name in os.environ if name.startswith("GPUCONV_")]:
        monkeypatch.delenv(name)
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(demo, "_RUNS", 1)


def run(*args, **env):
    return CliRunner().invoke(main.cli, [str(arg) for arg in args], prog_name="gpuconv", env=env)


def results(result, command):
    document = json.loads(result.stdout)
    assert document["schema"] == 1
    assert document["command"] == command
    return document["results"]


def fails(result, code, *words):
    """One line on standard error, the code, and nothing on standard output."""
    assert result.exit_code == code, result.output
    line = result.stderr.removeprefix(ON_CPU)
    assert line.count("\n") == 1, line
    assert line.startswith("gpuconv: ")
    assert all(word in line for word in words), line
    assert result.stdout == ""


def usage(result, *words):
    """One line that also names the help page, and exit code 2."""
    fails(result, 2, "--help' tells more", *words)


def process(*args, code="from gpuconv.__main__ import main; main()", cwd, **options):
    """The command in a process of its own."""
    root = str(Path(gpuconv.__file__).parent.parent)
    env = {**os.environ, "PYTHONPATH": root, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": ""}
    command = [sys.executable, "-c", code, *map(str, args)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 120, **options}
    return subprocess.run(command, cwd=cwd, env=env, text=True, check=False, **options)


def read_end(path):
    """Of a new pipe of that name, so that whoever writes a little into it waits for nobody."""
    os.mkfifo(path)
    return open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")


def fake_cupy(monkeypatch, folder, text):
    (folder / "cupy.py").write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "cupy")


#: A CuPy whose one device is this machine's memory.
WORKING = """
    import types
    import numpy
    __version__ = "99.1"
    asarray = asnumpy = numpy.asarray
    runtime = types.SimpleNamespace(
        getDeviceCount=lambda: 1, getDeviceProperties=lambda index: {"name": b"Made-up 9000"}
    )
    Device = lambda index: types.SimpleNamespace(synchronize=lambda: None)
    cuda = types.SimpleNamespace(runtime=runtime, Device=Device)
"""
