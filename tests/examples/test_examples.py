"""Each example alone, without arguments, in a folder of its own; and without what it could do without."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = {path.stem: path for path in sorted((ROOT / "examples").glob("*.py"))}
#: What some need beside NumPy: what is imported, and what is installed.
OPTIONAL = {"photograph": ("PIL", "pillow"), "digits": ("sklearn", "scikit-learn")}
WRITTEN = {"photograph": ["edges.png"]}
#: Of what each prints, the lines that say most.
SAID = {
    "by_hand": r"(?s)(Output \(\d, \d\) sees.*?){9}the same nine numbers",
    "photograph": "the same numbers, all of them",
    "flatten_extract_multiply": r"(?s)= 14\n.*= 6\n.*= 6\n.*= 12\n.*\(2, 10, 10, 10\).*-> \(1, 5, 5, 10\)",
    "fourier": r"agree everywhere, \(2, 4, 32, 40\)",
    "corr2d": r"(?s)\[\[19\.0, 25\.0\], \[37\.0, 43\.0\]\].*\[\[-6\.0, -8\.0\], \[-12.*all nine",
    "learn_a_kernel": r"step 10  loss  0\.",
    "toeplitz": "doubly blocked",
    "derivatives": r"derivative 4 has 5 elements: \[1, -4, 6, -4, 1\]",
    "every_argument": r"(?s)\(1, 1, 5\).*groups=8 +80 +18432",
    "digits": r"(9[5-9]\.\d|100\.0)% of the test images\n$",
}


def run(folder, *command):
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-W", "error", *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_example_has_a_test_and_is_told():
    assert EXAMPLES.keys() == SAID.keys()
    told = (ROOT / "docs/doors.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`examples/(\w+)\.py`", told)) == EXAMPLES.keys()


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_runs_alone(need, tmp_path, name):
    if name in OPTIONAL and importlib.util.find_spec(OPTIONAL[name][0]) is None:
        need("examples", f"{OPTIONAL[name][1]} is not installed")
    done = run(tmp_path / "here", str(EXAMPLES[name]))
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(SAID[name], done.stdout), done.stdout
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(["here", *WRITTEN.get(name, [])])


@pytest.mark.parametrize("name", OPTIONAL)
def test_a_missing_library_is_one_plain_line(tmp_path, name):
    module, package = OPTIONAL[name]
    code = f"import runpy, sys; sys.modules[{module!r}] = None; runpy.run_path({str(EXAMPLES[name])!r})"
    done = run(tmp_path / "here", "-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(rf"This example .*: pip install {package}\n", done.stdout)
    assert not list((tmp_path / "here").iterdir())
