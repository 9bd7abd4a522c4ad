"""A layer's parameters: in files, in state dicts of other libraries, and replaced by the caller."""

from __future__ import annotations

import importlib.util
import os
import struct
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from gpuconv import Conv2D

from ..problems import NUMPY


@pytest.fixture
def layer():
    return Conv2D(2, 3, 3, rng=0)


@pytest.fixture
def saved(layer, tmp_path):
    path = tmp_path / "weights.npz"
    layer.save(path)
    return path


@pytest.fixture(scope="module")
def torch(need):
    if importlib.util.find_spec("torch") is None:
        need("torch", "PyTorch is not installed")
    import torch

    return torch


def compressed(path):
    """The same arrays deflated, and where the first one's data lies."""
    arrays = dict(np.load(path))
    np.savez_compressed(path, **arrays)
    data = bytearray(path.read_bytes())
    name, extra = struct.unpack_from("<HH", data, 26)
    return data, 30 + name + extra


def cut(path):
    path.write_bytes(path.read_bytes()[:-30])


def no_deflate_stream(path):  # zlib.error
    data, at = compressed(path)
    data[at : at + 8] = b"\xff" * 8
    path.write_bytes(data)


def unknown_method(path):  # NotImplementedError
    data = bytearray(path.read_bytes())
    directory = data.index(b"PK\1\2")
    struct.pack_into("<H", data, directory + 10, 77)
    path.write_bytes(data)


def encrypted(path):  # RuntimeError
    data = bytearray(path.read_bytes())
    directory = data.index(b"PK\1\2")
    for at in (6, directory + 8):
        data[at] |= 1
    path.write_bytes(data)


def backwards(path):  # OSError: a place before the file's beginning
    data = bytearray(path.read_bytes())
    end = data.index(b"PK\5\6")
    struct.pack_into("<I", data, end + 16, 2**32 - 2)
    path.write_bytes(data)


def huge(path):  # MemoryError, before anything is read
    with zipfile.ZipFile(path, "w") as archive, archive.open("weight.npy", "w") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (2**58,)}
        np.lib.format.write_array_header_1_0(file, header)


def objects(path):
    np.savez(path, weight=np.array([{}], object), bias=np.zeros(3))


def alone(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def empty(path):
    path.write_bytes(b"")


def text(path):
    path.write_text("weights")


DAMAGES = (
    cut, no_deflate_stream, unknown_method, encrypted, backwards, huge, objects, alone, empty, text,
)  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_file_changes_nothing(layer, saved, damage):
    damage(saved)
    other = Conv2D(2, 3, 3, rng=1)
    before = other.state_dict()
    with pytest.raises(ValueError, match=r"^path must be an \.npz file of parameters, got .*: ."):
        other.load(saved)
    for name, value in before.items():
        np.testing.assert_array_equal(other.state_dict()[name], value)


@pytest.mark.parametrize("path", [None, 3, b"weights", 1.5])
def test_what_is_no_path_is_named(layer, path):
    for call in (layer.save, layer.load):
        with pytest.raises(TypeError, match=r"^path must be a string or a path, got"):
            call(path)
    for call in (layer.save, layer.load):
        with pytest.raises(ValueError, match=r"^path must have no zero byte"):
            call("a\0b")


def test_saved_whole_or_not_at_all(layer, saved, monkeypatch):
    before = saved.read_bytes()

    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        layer.save(saved)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_saved_through_a_link(layer, saved):
    link, dangling = saved.with_name("link"), saved.with_name("dangling")
    link.symlink_to(saved.name)
    dangling.symlink_to("new.npz")
    other = Conv2D(2, 3, 3, rng=1)
    for path in (link, dangling):
        other.save(path)
        assert path.is_symlink()
        layer.load(path.resolve())
        np.testing.assert_array_equal(layer.weight, other.weight)
        layer = Conv2D(2, 3, 3, rng=0)


def test_saved_by_many_threads_at_once(layer, tmp_path, monkeypatch):
    path, failed, together = tmp_path / "weights.npz", [], threading.Barrier(4)
    real = np.savez

    def savez(file, **arrays):
        together.wait(10)  # every thread has its file open, none has closed it
        real(file, **arrays)

    monkeypatch.setattr(np, "savez", savez)

    def save():
        try:
            layer.save(path)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=save) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert os.listdir(tmp_path) == [path.name]
    layer.load(path)


def test_files_have_the_usual_mode(saved):
    plain = saved.with_name("plain")
    plain.touch()
    assert Path(saved).stat().st_mode == plain.stat().st_mode


def test_a_state_is_named(layer):
    state = layer.state_dict()
    for prefix in (None, 1, b"a."):
        with pytest.raises(TypeError, match=r"^prefix must be a string, got"):
            layer.load_state_dict(state, prefix=prefix)
        with pytest.raises(TypeError, match=r"^prefix must be a string, got"):
            layer.state_dict(prefix)
    with pytest.raises(TypeError, match=r"^state must map names to arrays, got the name 1$"):
        layer.load_state_dict({1: 2})


def test_a_loaded_state_has_no_gradients(layer):
    x = np.ones((1, 2, 5, 5), np.float32)
    layer.backward(layer(x))
    layer.load_state_dict(layer.state_dict())
    assert layer.grad_weight is None
    assert layer.grad_bias is None
    with pytest.raises(RuntimeError, match=r"^backward needs a call"):
        layer.backward(np.ones((1, 3, 3, 3), np.float32))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("trained", [False, True])
def test_tensors(torch, layer, dtype, trained):
    theirs = torch.nn.Conv2d(2, 3, 3, dtype=getattr(torch, dtype))
    state = dict(theirs.named_parameters()) if trained else theirs.state_dict()
    assert state["weight"].requires_grad is trained
    layer.load_state_dict(state)
    for name, value in state.items():
        np.testing.assert_array_equal(getattr(layer, name), value.detach().float().numpy())


def test_state_dicts_are_torchs(torch):
    """What `state_dict` says of bfloat16 and of the other dtypes."""
    for kind in NUMPY.values():
        name = np.dtype(kind).name
        layer = Conv2D(2, 3, 3, dtype=name, rng=0)
        state = layer.state_dict()
        assert {value.dtype.name for value in state.values()} == {name}
        if name == "bfloat16":
            with pytest.raises(TypeError):
                torch.from_numpy(state["weight"])
            state = {key: value.astype("float32") for key, value in state.items()}
        theirs = torch.nn.Conv2d(2, 3, 3, dtype=getattr(torch, name))
        theirs.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
        for key, value in state.items():
            assert (theirs.state_dict()[key].double().numpy() == value).all()


@pytest.mark.parametrize(
    ("name", "value", "error", "says"),
    [
        ("weight", [[1.0]], TypeError, "be a NumPy array or a CUDA array, got list"),
        ("weight", None, TypeError, "be a NumPy array or a CUDA array, got NoneType"),
        ("weight", np.zeros((3, 2, 3, 3)), TypeError, "have dtype float32 like the layer, got float64"),
        ("weight", np.zeros((3, 2, 3, 3), int), TypeError, "have dtype float32 like the layer, got int"),
        ("weight", np.zeros((3, 2, 2, 2), "f"), ValueError, r"have shape \(3, 2, 3, 3\), got"),
        ("bias", 1.0, TypeError, "be a NumPy array or a CUDA array, got float"),
        ("bias", np.zeros(3), TypeError, "have dtype float32 like the layer, got float64"),
        ("bias", np.zeros((3, 1), "f"), ValueError, r"have shape \(3,\), got"),
    ],
)
def test_a_wrong_parameter_is_named(layer, tmp_path, name, value, error, says):
    x = np.ones((1, 2, 5, 5), np.float32)
    y = layer(x)
    setattr(layer, name, value)
    for call in (
        lambda: layer(x),
        lambda: layer.backward(y),
        layer.state_dict,
        lambda: layer.save(tmp_path / "weights"),
    ):
        with pytest.raises(error, match=rf"^{name} must {says}"):
            call()
    assert os.listdir(tmp_path) == []


def test_another_library_is_refused(torch):
    for dtype in ("float32", "bfloat16"):
        with pytest.raises(TypeError, match=r"^xp must be the module numpy or cupy, or one like them, got"):
            Conv2D(1, 1, 1, xp=torch, dtype=dtype)
