"""``gpuconv demo``: right pictures, whole files or none, and the right device."""

from __future__ import annotations

import errno
import os
import signal
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gpuconv
from gpuconv import dispatch
from gpuconv.backend import device
from gpuconv.cli import pictures
from gpuconv.cli.demo import edge_picture
from gpuconv.problem import ConvProblem

from ..command import ON_CPU, WORKING, fails, fake_cupy, plain_machine, process, results, run, usage

NAMES = ["blur.png", "demo.png", "edges.png"]


@pytest.fixture(autouse=True)
def _plain_machine(monkeypatch):
    plain_machine(monkeypatch)


@pytest.fixture
def image(tmp_path):
    """A small picture with every kind of slope."""
    pixels = np.random.default_rng(0).integers(0, 256, (17, 23, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    return tmp_path / "in.png"


def read(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_demo_for_people(image, tmp_path):
    folder = tmp_path / "deep" / "down[/x]"
    result = run("demo", "-o", folder, "--image", image)
    assert result.exit_code == 0, result.output
    assert result.stderr == ON_CPU
    for text in (
        "fprop_n1c1h17w23k2r3s3p1_nchw_f32",
        "fprop_n1c3h17w23k3r19s19p9g3_nhwc_f32",
        "error / bound",
        "best of 1",
        "all 782 values",
        str(device.cpu()),
        *(f"\n{folder / name}\n" for name in NAMES),
    ):
        assert text in result.stdout
    assert not any(line.endswith(" ") for line in result.stdout.splitlines())
    assert sorted(os.listdir(folder)) == NAMES
    assert read(folder / "demo.png").shape == (17, 3 * 23 + 2 * 8, 3)


def test_demo_of_the_package(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    result = run("demo", "--json")
    (found,) = results(result, "demo")
    assert result.exit_code == 0
    assert (found["image"], found["size"]) == (None, [600, 400])
    assert found["why_cpu"] == "CuPy is not installed"
    assert [one["name"] for one in found["convolutions"]] == ["edges", "blur", "coverage"]
    for one in found["convolutions"]:
        problem = ConvProblem.parse(one["problem"])
        assert one["kernel"] == dispatch.plan_for(problem, device.cpu()).kernel
        assert one["ok"] is True
        assert 0 < one["error_over_bound"] <= 1
        assert one["milliseconds"] > 0
        assert one["values_checked"] == one["values"] == np.prod(problem.y_shape)
    assert sorted(found["files"]) == [str(Path("gpuconv-demo", name)) for name in NAMES]
    assert all(Path(name).is_file() for name in found["files"])
    # three pictures and two gaps, not three times 600 pixels
    assert read(found["files"][-1]).shape == (300, 3 * 450 + 2 * 8, 3)


def test_edges_are_right(image, tmp_path):
    run("demo", "-o", tmp_path, "--image", image)
    gray = read(image).astype(float) @ (0.299, 0.587, 0.114) / 255
    expected = np.zeros_like(gray)
    for i in range(1, 16):
        for j in range(1, 22):
            a = gray[i - 1 : i + 2, j - 1 : j + 2]
            across = a[0, 2] + 2 * a[1, 2] + a[2, 2] - a[0, 0] - 2 * a[1, 0] - a[2, 0]
            down = a[2, 0] + 2 * a[2, 1] + a[2, 2] - a[0, 0] - 2 * a[0, 1] - a[0, 2]
            expected[i, j] = (across**2 + down**2) ** 0.5
    expected = np.minimum(expected / np.quantile(expected, 0.99), 1) ** 0.8 * 255
    assert np.abs(read(tmp_path / "edges.png") - expected).max() < 0.51


def test_blur_is_right(image, tmp_path):
    run("demo", "-o", tmp_path, "--image", image)
    pixels = read(image).astype(float)
    i, j = np.mgrid[:17, :23]
    expected = np.empty_like(pixels)
    for y in range(17):
        for x in range(23):
            near = (np.abs(i - y) <= 9) & (np.abs(j - x) <= 9)
            weights = np.exp(-((i - y) ** 2 + (j - x) ** 2) / 18) * near
            expected[y, x] = np.tensordot(weights / weights.sum(), pixels, 2)
    assert np.abs(read(tmp_path / "blur.png") - expected).max() < 0.51


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 30)])
def test_one_colour_stays_that_colour(tmp_path, size):
    Image.new("RGB", size, (200, 100, 50)).save(tmp_path / "in.png")
    assert run("demo", "-o", tmp_path, "--image", tmp_path / "in.png").exit_code == 0
    assert (read(tmp_path / "edges.png") == 0).all()
    assert (read(tmp_path / "blur.png") == (200, 100, 50)).all()


def test_pictures_of_other_kinds(tmp_path):
    ramp = np.arange(0, 60000, 3000, np.uint16).reshape(4, 5)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    deep = pictures.load(tmp_path / "deep.png")
    assert deep.shape == (4, 5, 3)
    assert len(np.unique(deep)) == 20  # more than 8 bits are scaled, not clipped
    turned = Image.new("RGB", (5, 4))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert pictures.load(tmp_path / "turned.jpg").shape == (5, 4, 3)


@pytest.mark.parametrize("flag", [(), ("--json",)])
@pytest.mark.parametrize(("spoil", "shown"), [(1.001, "."), (np.nan, "inf")])
def test_a_wrong_result_is_told(monkeypatch, image, tmp_path, flag, spoil, shown):
    right = gpuconv.conv2d
    monkeypatch.setattr(gpuconv, "conv2d", lambda *args, **options: right(*args, **options) * spoil)
    result = run("demo", "-o", tmp_path / "out", "--image", image, *flag)
    assert result.exit_code == 4
    last = result.stderr.splitlines()[-1]
    assert last == "gpuconv: wrong beyond the error bound: edges, blur, coverage; no picture written"
    assert not (tmp_path / "out").exists()
    if flag:
        (found,) = results(result, "demo")
        assert found["files"] == []
        for one in found["convolutions"]:
            assert one["ok"] is False
            assert (one["error_over_bound"] is None) == (shown == "inf")
    else:
        assert shown in result.stdout


def test_folder_that_cannot_be(image, tmp_path):
    fails(run("demo", "-o", image / "below", "--image", image), 1, "cannot write", str(image / "below"))
    usage(run("demo", "-o", image, "--image", image), "is a file")


@pytest.mark.parametrize("flag", [(), ("--json",)])
def test_disk_full(monkeypatch, image, tmp_path, flag):
    def full(*paths):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *paths)

    monkeypatch.setattr(os, "replace", full)
    folder = tmp_path / "out"
    result = run("demo", "-o", folder, "--image", image, *flag)
    fails(result, 1, f"cannot write {folder / 'edges.png'}", os.strerror(errno.ENOSPC))
    assert os.listdir(folder) == []


def test_disk_full_midway(image, tmp_path):
    """The third file is too large: the first two do not take their places either."""
    pytest.importorskip("resource")
    folder = tmp_path / "out"
    assert run("demo", "-o", folder, "--image", image).exit_code == 0
    before = {name: (folder / name).read_bytes() for name in NAMES}
    limit = max(len(before["edges.png"]), len(before["blur.png"])) + 1
    assert limit < len(before["demo.png"])
    Image.new("RGB", (3, 3)).save(folder / "edges.png")
    before["edges.png"] = (folder / "edges.png").read_bytes()
    code = f"""
        import resource
        from gpuconv.__main__ import main
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
        main()
    """
    done = process("demo", "-o", folder, "--image", image, code=textwrap.dedent(code), cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.endswith(f"gpuconv: cannot write {folder / 'demo.png'}: {os.strerror(errno.EFBIG)}\n")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_pictures_that_cannot_be_read(monkeypatch, image, tmp_path):
    usage(run("demo", "--image", tmp_path / "nosuch.png"), "does not exist")
    usage(run("demo", "--image", tmp_path), "is a directory")
    whole = image.read_bytes()
    Image.new("RGB", (200, 200), "red").save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:-300])
    wrong = {
        "none.png": b"hello",
        "empty.png": b"",
        "cut.png": whole[:-200],
        "bad.png": whole[:20] + whole[60:],
    }
    for name, content in wrong.items():
        (tmp_path / name).write_bytes(content)
    for name in (*wrong, "cut.jpg"):
        result = run("demo", "-o", tmp_path / "out", "--image", tmp_path / name)
        fails(result, 1, "cannot read", name)
    for limit in (17 * 23 - 1, 10):  # Pillow warns up to twice its limit, then refuses
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        fails(run("demo", "-o", tmp_path / "out", "--image", image), 1, "cannot read", "exceeds limit")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError("Unable to allocate 9 TiB"), 1, "not enough memory: Unable to allocate 9 TiB"),
        (OSError(errno.EIO, "Input/output error"), 1, "Input/output error"),
        (ModuleNotFoundError("No module named 'x'", name="x"), 1, "needs x: pip install 'gpuconv[cli]'"),
    ],
)
def test_accidents_while_computing(monkeypatch, image, tmp_path, error, code, words):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(gpuconv, "conv2d", fail)
    fails(run("demo", "-o", tmp_path / "out", "--image", image), code, words)
    assert not (tmp_path / "out").exists()


def test_a_fault_is_not_hidden(monkeypatch, image):
    def fail(*args, **options):
        raise ValueError("a fault in this program")

    monkeypatch.setattr(gpuconv, "conv2d", fail)
    assert isinstance(run("demo", "--image", image).exception, ValueError)


def test_ctrl_c(image, tmp_path):
    code = """
        import os, signal, time
        import gpuconv
        from gpuconv.__main__ import main
        signal.signal(signal.SIGINT, signal.default_int_handler)
        def conv2d(*args, **options):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
        gpuconv.conv2d = conv2d
        main()
    """
    done = process("demo", "-o", "out", "--image", image, code=textwrap.dedent(code), cwd=tmp_path)
    assert done.returncode == 128 + signal.SIGINT
    assert done.stderr.splitlines()[1:] == ["gpuconv: interrupted"]
    assert done.stdout == ""
    assert not (tmp_path / "out").exists()


def test_kernels_that_do_not_fit(image, tmp_path):
    result = run("demo", "-o", tmp_path / "out", "--image", image, GPUCONV_KERNEL="cpu_pointwise")
    assert result.exit_code == 1
    assert "gpuconv: no kernel runs fprop_n1c1h17w23k2r3s3p1_nchw_f32" in result.stderr
    assert "cpu_pointwise: takes 1×1 kernels" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise RuntimeError('libcuda is\\nmissing')", "CuPy cannot be imported: libcuda is missing"),
        ("import nosuchthing", "CuPy cannot be imported: No module named 'nosuchthing'"),
        ("__version__ = '99.1'", "no CUDA device answers: module 'cupy' has no attribute 'cuda'"),
        (WORKING.replace("lambda: 1,", "lambda: 0,"), "CuPy finds no CUDA device"),
        (WORKING, "no kernel runs fprop_n1c1h17w23k2r3s3p1_nchw_f32 on cuda:0"),
    ],
)
def test_cuda_that_cannot_be_used(monkeypatch, image, tmp_path, text, reason):
    fake_cupy(monkeypatch, tmp_path, text)
    result = run("demo", "-o", tmp_path / "out", "--image", image, "--json")
    assert result.exit_code == 0
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"gpuconv: computing on the CPU: {reason}")
    (found,) = results(result, "demo")
    assert found["device"] == str(device.cpu())
    assert found["why_cpu"].startswith(reason)
    assert (reason if text != WORKING else "cuda:0  Made-up 9000") in run("env").stdout


def test_cuda_with_kernels(monkeypatch, image, tmp_path):
    fake_cupy(monkeypatch, tmp_path, WORKING)
    plan_for = dispatch.plan_for
    monkeypatch.setattr(dispatch, "plan_for", lambda problem, where: plan_for(problem, device.cpu()))
    result = run("demo", "-o", tmp_path / "out", "--image", image, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    (found,) = results(result, "demo")
    assert (found["device"], found["why_cpu"]) == ("cuda (Made-up 9000)", None)
    assert all(one["ok"] for one in found["convolutions"])


def test_rounding_is_no_edge():
    """Differences in the last bit, as a flat picture may have them, are not drawn white."""
    gradients = np.random.default_rng(0).normal(0, 1e-7, (1, 2, 20, 20)).astype(np.float32)
    assert edge_picture(gradients).max() == 0
