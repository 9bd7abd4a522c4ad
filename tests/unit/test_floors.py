"""Imports point downward only, and importing the package brings nothing heavy with it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gpuconv

PACKAGE = Path(gpuconv.__file__).parent

#: Top to bottom; the longest prefix counts.
FLOORS = (
    ("__main__", "cli", "report"),
    ("layers", "layer_arguments", "layer_state", "filters", "image_kernels", "compat", "tiled", "dask"),
    ("api", "transpose", "patches", "calls"),
    ("validate.cudnn", "autotune"),
    ("measure", "dispatch"),
    (
        "store", "store_file", "store_care", "plan", "kernels", "autotune.heuristic", "autotune.space",
        "autotune.memory",
    ),
    ("backend",),
    (
        "problem", "families", "config", "arithmetic", "errors", "settings", "arguments", "options", "layout",
        "validate.reference", "validate.tolerance", "validate", "autotune.asked",
    ),
)  # fmt: skip


def floor(module: str) -> int:
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        for height, names in enumerate(reversed(FLOORS), 1):
            if ".".join(parts[:length]) in names:
                return height
    raise AssertionError(f"gpuconv.{module} has no floor")


def imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


FILES = [
    path
    for path in PACKAGE.rglob("*.py")
    if path != PACKAGE / "__init__.py" and "_cuda_src" not in path.parts
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downward(path):
    here = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
    for name in imports(path):
        module = name.removeprefix("gpuconv.")
        is_module = (PACKAGE / Path(*module.split("."))).with_suffix(".py").exists()
        is_module |= (PACKAGE / Path(*module.split("."))).is_dir()
        if name.startswith("gpuconv.") and is_module:
            assert floor(module) <= floor(here), f"{here} imports upward: {name}"


ROOMS = [*FILES, *(path for path in Path(__file__).parents[1].rglob("*.py"))]


@pytest.mark.parametrize("path", ROOMS, ids=lambda path: str(path.relative_to(path.parents[2])))
def test_files_stay_rooms(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def fresh(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


HEAVY = "{'cupy', 'click', 'PIL', 'rich', 'torch', 'ml_dtypes', 'scipy', 'matplotlib', 'threadpoolctl'}"


def test_import_alone_does_not_even_load_numpy():
    assert fresh(f"import sys, gpuconv; print(({HEAVY} | {{'numpy'}}) & set(sys.modules))") == "set()"


def test_a_call_loads_nothing_heavy():
    code = "import sys, numpy as np, gpuconv; a = np.ones((1, 1, 3, 3), 'f'); gpuconv.conv2d(a, a);"
    assert fresh(f"{code} print({HEAVY} - {{'threadpoolctl'}} & set(sys.modules))") == "set()"


def test_every_public_name_is_there():
    for name in gpuconv.__all__:
        assert getattr(gpuconv, name).__doc__
        assert name in dir(gpuconv)
    with pytest.raises(AttributeError, match="no attribute 'conv3d'"):
        gpuconv.conv3d  # noqa: B018 - reading it is the test


def test_public_functions_have_full_docstrings():
    for name in gpuconv.__all__:
        value = getattr(gpuconv, name)
        if callable(value) and not isinstance(value, type):
            for section in ("Parameters", "Returns", "Raises", "Notes", "Examples"):
                assert f"\n    {section}\n    -" in value.__doc__, f"{name} lacks {section}"
