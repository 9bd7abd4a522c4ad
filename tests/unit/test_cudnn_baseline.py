"""cuDNN's frontend as the GPU check's baseline: installed, in a wheel, or not there at all."""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from types import SimpleNamespace

import pytest

from bench.check import cudnn
from bench.check.state import State
from bench.check.steps import Skip, Where
from gpuconv import measure
from gpuconv.backend.clocks import CpuClock
from gpuconv.backend.device import Device
from gpuconv.problem import ConvProblem
from gpuconv.validate import cudnn_graph
from gpuconv.validate.cudnn import NoPlan, Prepared

from .. import cudnn_stand_in

CARD = Device("cuda", "stand-in", capability=(9, 0), sms=1)
P = ConvProblem.parse("fprop_n2c4h6w5k3r3s4p0+2x3+1_nhwc_f16+bias+res+relu")
PYTHON = f"cp{sys.version_info.major}{sys.version_info.minor}"


class Card(Where):
    """A machine that has a card."""

    machine = SimpleNamespace(device=CARD, cupy=None)


@pytest.fixture(autouse=True)
def _no_cublas(monkeypatch):
    monkeypatch.setattr(cudnn_graph, "_load_cublas", lambda: None)
    cudnn_graph.frontend.cache_clear()
    yield
    cudnn_graph.frontend.cache_clear()


@pytest.fixture
def where(tmp_path):
    return Card(State(tmp_path), "abc1234", False)


@pytest.fixture
def modules(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", cudnn_stand_in.cupy())
    monkeypatch.setattr(cudnn, "use_wheel", lambda folder: None)
    monkeypatch.setitem(sys.modules, "cudnn", cudnn_stand_in.frontend())


@pytest.mark.parametrize(("fastest", "role"), [(True, "cudnn"), (False, "cudnn_heuristic")])
def test_the_frontend_comes_first_and_computes_the_epilogue_too(where, modules, monkeypatch, fastest, role):
    tried = []

    def choose(self, *, seconds, clock=None):
        tried.append(seconds)
        return right(self, seconds=0.01, clock=CpuClock(settle=0))

    right = Prepared.fastest
    monkeypatch.setattr(Prepared, "fastest", choose)
    found = cudnn.cudnn(where, fastest=fastest)
    assert found.role == role
    assert found.name == f"cuDNN 9.19.1, frontend 1.28.0, {'fastest' if fastest else 'chosen untried'}"
    given = measure.operands(P)
    bound = found.bind(P, given)
    assert measure.error_over_bound(P, bound.numpy(bound.call()), given) <= 1
    assert bool(tried) == fastest
    found.forget()
    with pytest.raises(NoPlan, match="pads with zeros only"):
        found.bind(ConvProblem.parse("fprop_n2c4h6w5k3r3s3p1_nhwc_f16+circular"), given)


def test_torch_stands_in_and_both_reasons_are_told(where, monkeypatch):
    monkeypatch.setitem(sys.modules, "cudnn", None)
    monkeypatch.setattr(cudnn, "use_wheel", lambda folder: None)
    made = []
    monkeypatch.setattr(cudnn, "TorchCudnn", lambda fastest, cupy: made.append(fastest) or "torch's")
    assert cudnn.cudnn(where, fastest=True) == "torch's"
    assert made == [True]

    def missing(fastest, cupy):
        raise Skip("this PyTorch finds no GPU")

    monkeypatch.setattr(cudnn, "TorchCudnn", missing)
    with pytest.raises(Skip, match=r"frontend is not installed: pip install .*; this PyTorch finds no GPU"):
        cudnn.cudnn(where, fastest=True)


def test_a_wheel_for_this_python_is_unpacked_once(monkeypatch, tmp_path):
    wheels, folder = tmp_path / "wheels", tmp_path / "state"
    wheels.mkdir()
    folder.mkdir()
    for python, version in (("cp39", "1.28.0"), (PYTHON, "1.18.0"), (PYTHON, "1.22.1")):
        name = f"nvidia_cudnn_frontend-{version}-{python}-{python}-manylinux_2_28_x86_64.whl"
        with zipfile.ZipFile(wheels / name, "w") as wheel:
            wheel.writestr("cudnn/__init__.py", f"__version__ = {version!r}; python = {python!r}\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    before = list(sys.path)
    cudnn.use_wheel(folder, tmp_path / "no such folder")
    assert sys.path == before
    cudnn.use_wheel(folder, wheels)
    cudnn.use_wheel(folder, wheels)
    (unpacked,) = folder.iterdir()
    assert sys.path[-1] == str(unpacked)
    content = (unpacked / "cudnn" / "__init__.py").read_text()
    assert content == f"__version__ = '1.22.1'; python = {PYTHON!r}\n"


def test_a_frontend_that_is_installed_needs_no_wheel(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "cudnn")
    before = list(sys.path)
    cudnn.use_wheel(tmp_path, tmp_path)
    assert sys.path == before
