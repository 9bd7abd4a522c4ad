"""The built wheel in an empty environment, and the checkout installed in place, both used."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

USE = """
import sys, pathlib, numpy as np, gpuconv
from gpuconv.backend.source import cuda_source_folder
x = np.arange(9, dtype="f").reshape(1, 1, 3, 3)
print(gpuconv.conv2d(x, np.ones((1, 1, 2, 2), "f")).ravel().tolist())
header = cuda_source_folder() / "include" / "gpuconv" / "fast_divmod.cuh"
print(cuda_source_folder().name, "struct FastDivmod" in header.read_text())
print(pathlib.Path(gpuconv.__file__).parent)
"""
RIGHT = "[8.0, 12.0, 20.0, 24.0]"


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    how = ("--no-deps", "--no-build-isolation", "-q", "-w", folder)
    done = run(sys.executable, "-m", "pip", "wheel", ROOT, *how, cwd=folder)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


def environment(folder: Path, need, *what: object) -> Path:
    """An empty environment with one thing installed; returns its Python."""
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    done = run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *what, cwd=folder)
    if done.returncode != 0 and "No matching distribution" in done.stderr:
        need("wheel", "no package index answers")
    assert done.returncode == 0, done.stderr
    return python


def test_wheel_holds_what_it_should(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for name in (
        "gpuconv/__init__.py",
        "gpuconv/py.typed",
        "gpuconv/data/coffee.png",
        "gpuconv/data/shapes/conv_shapes.csv",
        "gpuconv/data/shapes/deepbench_shapes.csv",
        "gpuconv/data/LICENSE.coffee.txt",
        "gpuconv/cli/main.py",
        "gpuconv/_cuda_src/include/gpuconv/fast_divmod.cuh",
    ):
        assert name in names
    sources = {
        path.relative_to(ROOT / "cuda_src").as_posix()
        for path in (ROOT / "cuda_src").rglob("*")
        if path.is_file()
    }
    assert {f"gpuconv/_cuda_src/{name}" for name in sources} <= names
    assert not any(name.startswith(("tests/", "bench/")) for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_wheel_works_in_an_empty_environment(wheel, tmp_path, need):
    python = environment(tmp_path / "env", need, wheel)
    done = run(python, "-c", USE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result, sources, package = done.stdout.splitlines()
    assert result == RIGHT
    assert sources == "_cuda_src True"
    assert Path(package).is_relative_to(tmp_path)
    # without the extra, the command says what it needs
    command = run(python, "-m", "gpuconv", "env", cwd=tmp_path)
    assert command.returncode != 0
    assert command.stderr.strip() == "gpuconv: the command line needs click: pip install 'gpuconv[cli]'"


def test_editable_install_finds_the_checkout(tmp_path, need):
    python = environment(tmp_path / "env", need, "-e", ROOT)
    done = run(python, "-c", USE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result, sources, package = done.stdout.splitlines()
    assert result == RIGHT
    assert sources == "cuda_src True"
    assert Path(package) == ROOT / "gpuconv"
