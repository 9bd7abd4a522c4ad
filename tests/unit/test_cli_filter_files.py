"""``gpuconv filter``: where files go, what is refused in one line, and that nothing is left behind."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import struct
import sys
import textwrap
import zlib

import numpy as np
import pytest
from PIL import Image

import gpuconv
from gpuconv.cli import filter as command
from gpuconv.problem import ConvProblem

from ..command import fails, plain_machine, process, results, run, usage

SOBEL = ("--kernel", "sobel")


@pytest.fixture(autouse=True)
def _plain_machine(monkeypatch):
    plain_machine(monkeypatch)


@pytest.fixture
def image(tmp_path):
    (tmp_path / "in").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (17, 23, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in" / "a.png")
    return tmp_path / "in" / "a.png"


@pytest.fixture
def several(image):
    return [image, *(Image.open(image).save(path) or path for path in (image.with_name("b.png"),))]


@pytest.fixture
def out(tmp_path):
    """A folder with a file of someone else's, which must stay as it is, and alone."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "theirs").write_text("theirs")
    yield folder
    assert (folder / "theirs").read_text() == "theirs"


def nothing_in(folder):
    return os.listdir(folder) == ["theirs"]


def png_of(width, height, content=b""):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def test_one_file_several_and_json(several, out, tmp_path):
    a, b = several
    result = run("filter", a, *SOBEL, "-o", out / "x.tiff")
    assert (result.exit_code, result.stderr, result.stdout) == (0, "", f"{out / 'x.tiff'}\n")
    new = tmp_path / "new" / "deep"
    for folder in (f"{out}", f"{out}/", f"{new}", f"{new}/"):
        result = run("filter", a, b, *SOBEL, "-o", folder)
        wanted = "".join(f"{os.path.join(folder, name)}\n" for name in ("a.png", "b.png"))
        assert (result.exit_code, result.stderr, result.stdout) == (0, "", wanted)
    assert sorted(os.listdir(out)) == ["a.png", "b.png", "theirs", "x.tiff"]
    result = run("filter", a, *SOBEL, "-o", f"{tmp_path}/one/", "--stride", "2", "--json")
    (found,) = results(result, "filter")
    assert os.listdir(tmp_path / "one") == ["a.png"]
    assert found == {
        "image": str(a), "file": str(tmp_path / "one" / "a.png"), "size": [12, 9], "mode": "RGB",
        "problem": "fprop_n3c1h17w23k2r3s3u2p1_nchw_f32+reflect", "error": None, "notes": [],
    }  # fmt: skip
    assert str(ConvProblem.parse(found["problem"])) == found["problem"]


def test_a_file_is_replaced_whole(image, out):
    (out / "x.png").write_text("old")
    assert run("filter", image, *SOBEL, "-o", out / "x.png").exit_code == 0
    with Image.open(out / "x.png") as found:
        assert found.size == (23, 17)


def test_only_the_first_picture_of_a_file(out, tmp_path):
    frames = [Image.new("L", (5, 5), level) for level in (10, 200, 30)]
    frames[0].save(tmp_path / "three.gif", save_all=True, append_images=frames[1:])
    result = run("filter", tmp_path / "three.gif", "--kernel", "sharpen", "-o", out / "x.png")
    assert result.exit_code == 0
    assert result.stderr == f"gpuconv: {tmp_path / 'three.gif'}: read only the first of its 3 pictures\n"


def test_pictures_that_cannot_be_read(image, out, tmp_path):
    whole = image.read_bytes()
    wrong = {
        "cut.png": (whole[:-300], ""),
        "text.png": (b"hello, world\n", "not a picture"),
        "empty.png": (b"", "not a picture"),
        "huge.png": (png_of(60000, 60000), "3600000000 pixels"),
        "claims.png": (png_of(9000, 9000, zlib.compress(bytes(100))), ""),
        "bad.jpg": (b"\xff\xd8\xff\xe0" + bytes(50), ""),
    }
    for name, (content, words) in wrong.items():
        (tmp_path / name).write_bytes(content)
        fails(run("filter", tmp_path / name, *SOBEL, "-o", out), 1, f"cannot read {tmp_path / name}: ", words)
        fails(run("filter", tmp_path / name, *SOBEL, "-o", out / "x.png"), 1, "cannot read", words)
    usage(run("filter", tmp_path / "nosuch.png", *SOBEL, "-o", out), "nosuch.png", "does not exist")
    usage(run("filter", tmp_path, *SOBEL, "-o", out), "is a directory")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
        fails(run("filter", tmp_path / "pipe.png", *SOBEL, "-o", out), 1, "not a regular file")
    assert nothing_in(out)


@pytest.mark.parametrize("flag", [(), ("--json",)])
def test_several_of_which_some_fail(several, out, tmp_path, flag):
    a, b = several
    text = tmp_path / "c.png"
    text.write_text("hello")
    result = run("filter", a, text, b, *SOBEL, "-o", out, *flag)
    assert result.exit_code == 1
    reason = f"cannot read {text}: not a picture of a format Pillow knows"
    assert result.stderr == (f"gpuconv: {reason}\ngpuconv: 1 of 3 pictures failed; the others are written\n")
    assert sorted(os.listdir(out)) == ["a.png", "b.png", "theirs"]
    if flag:
        found = json.loads(result.stdout)["results"]
        assert [(each["image"], each["file"], each["error"]) for each in found] == [
            (str(a), str(out / "a.png"), None),
            (str(text), None, reason),
            (str(b), str(out / "b.png"), None),
        ]
    else:
        assert result.stdout == f"{out / 'a.png'}\n{out / 'b.png'}\n"
    other = tmp_path / "d.png"
    other.write_text("hello")
    result = run("filter", text, other, *SOBEL, "-o", out)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1] == "gpuconv: 2 of 2 pictures failed"


def test_outputs_that_cannot_be(several, out, tmp_path):
    a, b = several
    before = a.read_bytes()
    usage(run("filter", a, *SOBEL), "Missing option", "'-o'")
    usage(run("filter", a, *SOBEL, "-o", ""), "'-o'")
    for name in ("x.xyz", "x.pdf", "x.ico", "x.h5", "x.png.gz"):
        usage(run("filter", a, *SOBEL, "-o", out / name), "unknown suffix", "PNG, TIFF, JPEG", name)
    usage(run("filter", a, *SOBEL, "-o", out / "nosuch"), "no suffix", "PNG, TIFF, JPEG")
    usage(run("filter", a, *SOBEL, "-o", out / "no" / "x.png"), f"no folder {out / 'no'}")
    usage(run("filter", a, *SOBEL, "-o", a), "not written over")
    usage(run("filter", a, b, *SOBEL, "-o", a.parent), "not written over")
    usage(run("filter", a, *SOBEL, "-o", f"{a.parent}/../in/"), "not written over")
    (tmp_path / "link.png").symlink_to(a)
    usage(run("filter", a, *SOBEL, "-o", tmp_path / "link.png"), "not written over")
    (out.parent / "in2").mkdir()
    (out.parent / "in2" / "a.png").write_bytes(before)
    twice = f"{a} and {out.parent / 'in2' / 'a.png'} would both be written to {out / 'a.png'}"
    usage(run("filter", a, out.parent / "in2" / "a.png", *SOBEL, "-o", out), twice)
    usage(run("filter", a, a, *SOBEL, "-o", out), "would both be written")
    usage(run("filter", a, b, *SOBEL, "-o", out / "x.png"), "must be a folder for several pictures")
    usage(run("filter", a, b, *SOBEL, "-o", out / "theirs"), "is a file")
    usage(run("filter", a, *SOBEL, "-o", f"{out / 'theirs'}/"), "is a file")
    (out.parent / "x.png").mkdir()
    (out.parent / "x.png" / "a.png").mkdir()
    usage(run("filter", a, *SOBEL, "-o", out.parent / "x.png"), "not a regular file")
    assert a.read_bytes() == before
    assert nothing_in(out)


def test_folders_that_cannot_be_written(monkeypatch, image, out):
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    for target in (out, out / "x.png"):
        fails(run("filter", image, *SOBEL, "-o", target), 1, "cannot write", os.strerror(errno.EACCES))
    monkeypatch.undo()
    plain_machine(monkeypatch)
    result = run("filter", image, *SOBEL, "-o", f"{out / 'theirs'}/below/")
    fails(result, 1, f"cannot write {out / 'theirs' / 'below' / 'a.png'}: {os.strerror(errno.ENOTDIR)}")
    assert nothing_in(out)


def test_disk_full(monkeypatch, several, out):
    def full(*paths):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *paths)

    words = f"cannot write {out / 'a.png'}: {os.strerror(errno.ENOSPC)}"
    (out / "a.png").write_text("old")
    for name, owner in (("replace", os), ("save", Image.Image)):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, full)
            fails(run("filter", several[0], *SOBEL, "-o", out), 1, words)
            result = run("filter", *several, *SOBEL, "-o", out)
        assert result.exit_code == 1
        assert result.stderr.splitlines()[-1] == "gpuconv: 2 of 2 pictures failed"
        assert sorted(os.listdir(out)) == ["a.png", "theirs"]
    assert (out / "a.png").read_text() == "old"


def test_disk_full_midway(several, out):
    """The second file is too large: the first is whole, of the second nothing is left."""
    pytest.importorskip("resource")
    a, b = several
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (99, 99, 3), np.uint8)).save(b)
    code = """
        import resource
        from gpuconv.__main__ import main
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
        main()
    """
    done = process("filter", a, b, *SOBEL, "-o", out, code=textwrap.dedent(code), cwd=out)
    assert (done.returncode, done.stdout) == (1, f"{out / 'a.png'}\n")
    assert done.stderr.splitlines() == [
        f"gpuconv: cannot write {out / 'b.png'}: {os.strerror(errno.EFBIG)}",
        "gpuconv: 1 of 2 pictures failed; the others are written",
    ]
    assert sorted(os.listdir(out)) == ["a.png", "theirs"]


def test_pictures_no_file_holds(out, tmp_path):
    for name, dtype, words in (
        ("f.tif", np.float32, "floating-point"),
        ("i.tif", np.int32, "32-bit integers"),
    ):
        Image.fromarray(np.ones((9, 9), dtype)).save(tmp_path / name)
        result = run("filter", tmp_path / name, *SOBEL, "-o", out / "x.png")
        fails(result, 1, f"cannot write {out / 'x.png'}: PNG holds no {words}", "TIFF does")
    Image.new("L", (66000, 1)).save(tmp_path / "wide.png")
    result = run("filter", tmp_path / "wide.png", *SOBEL, "--border", "zeros", "-o", out / "x.jpg")
    fails(result, 1, f"cannot write {out / 'x.jpg'}: ")
    (tmp_path / "wide.png").rename(tmp_path / "wide.webp")
    result = run("filter", tmp_path / "wide.webp", *SOBEL, "--border", "zeros", "-o", f"{out}/new/")
    fails(result, 1, f"cannot write {out / 'new' / 'wide.webp'}: ")
    assert nothing_in(out)


@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        ("nosuch", "must be one of sobel-x, sobel-y, sobel, laplacian, sharpen, emboss, gaussian:SIGMA"),
        ("", "must be one of"),
        ("gaussian", "gaussian:SIGMA with 0 < SIGMA <= 112"),
        ("gaussian:0", "gaussian:SIGMA with 0 < SIGMA <= 112"),
        ("gaussian:abc", "got 'gaussian:abc'; or give a FILE.npy"),
        ("gaussian:1e9", "got 'gaussian:1e9'"),
        ("nosuch.npy", "file 'nosuch.npy' does not exist"),
    ],
)
def test_kernels_that_are_none(image, out, kernel, words):
    usage(run("filter", image, "--kernel", kernel, "-o", out), "'--kernel'", words)
    usage(run("filter", image, "-o", out), "Missing option '--kernel'")
    assert nothing_in(out)


@pytest.mark.parametrize(
    ("taps", "words"),
    [
        (np.ones(3), "must be of shape (R, S), none of them 0, got (3,)"),
        (np.ones((1, 3, 3)), "got (1, 3, 3)"),
        (np.float64(3), "got ()"),
        (np.ones((0, 3)), "got (0, 3)"),
        (np.ones((3, 3), complex), "must be of real numbers, got complex128"),
        (np.array([["a"]]), "must be of real numbers"),
        (np.array([[None]]), "cannot read"),
        (np.array([[1, np.nan]]), "must be finite"),
        (np.array([[1, -np.inf]]), "must be finite"),
        (np.array([[1e31]]), "sum <= 1e30, got 1e+31"),
        (np.full((2, 2), 1e308), "sum <= 1e30, got inf"),
    ],
)
def test_own_kernels_that_cannot_be(image, out, tmp_path, taps, words):
    np.save(tmp_path / "own.npy", taps, allow_pickle=True)
    fails(run("filter", image, "--kernel", tmp_path / "own.npy", "-o", out), 1, "own.npy", words)
    assert nothing_in(out)


def test_files_that_hold_no_kernel(image, out, tmp_path):
    own, whole = tmp_path / "own.npy", io.BytesIO()
    np.save(whole, np.ones((9, 9)))
    claims = whole.getvalue().replace(b"(9, 9), ", b"(9, 9999999999999), ")
    for content in (b"", b"hello", whole.getvalue()[:-5], whole.getvalue()[:40], claims):
        own.write_bytes(content)
        fails(run("filter", image, "--kernel", own, "-o", out), 1, f"cannot read {own}: ")
    (tmp_path / "folder.npy").mkdir()
    fails(run("filter", image, "--kernel", tmp_path / "folder.npy", "-o", out), 1, "not a regular file")
    assert nothing_in(out)


@pytest.mark.parametrize(
    ("option", "values"),
    [
        (
            "--stride",
            ("0", "-1", "1x0", "a", "", "1x2x3", "1.5", "2x", "x2", "2147483648", "99999999999", "²"),
        ),
        ("--padding", ("-1", "full", "SAME", "1x-1", "1,2", "", "99999999999")),
        ("--border", ("nosuch", "mirror", "")),
    ],
)
def test_options_that_cannot_be(image, out, option, values):
    for value in values:
        usage(run("filter", image, *SOBEL, option, value, "-o", out), f"'{option}'")
    assert nothing_in(out)


def test_kernels_and_paddings_that_do_not_fit(image, out, tmp_path):
    Image.new("L", (1, 1)).save(tmp_path / "dot.png")
    where = f"cannot filter {tmp_path / 'dot.png'}: "
    result = run("filter", tmp_path / "dot.png", *SOBEL, "-o", out)
    fails(result, 1, where, "padding must be at most 0", "; --border replicate has no such limit")
    result = run("filter", image, "--kernel", "gaussian:6", "--border", "circular", "-o", out)
    fails(result, 1, "padding must be at most 17 along the height", "--border replicate")
    result = run("filter", tmp_path / "dot.png", *SOBEL, "--padding", "valid", "-o", out)
    fails(result, 1, where, "must fit into the padded input")
    assert "replicate" not in result.stderr  # which would not help
    result = run("filter", image, *SOBEL, "--border", "zeros", "--padding", "9999", "-o", out)
    fails(result, 1, f"cannot filter {image}: the result would exceed 89,478,485 pixels")
    assert nothing_in(out)
    for border in ("replicate", "zeros"):
        result = run("filter", tmp_path / "dot.png", *SOBEL, "--border", border, "-o", out / "dot.png")
        assert result.exit_code == 0


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (MemoryError("Unable to allocate 9 TiB"), 1, "not enough memory: Unable to allocate 9 TiB"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_accidents_while_computing(monkeypatch, several, out, error, code, words):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(gpuconv, "conv2d", fail)
    fails(run("filter", several[0], *SOBEL, "-o", out), code, words)
    result = run("filter", *several, *SOBEL, "-o", out)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.count("\n") == (1 if code == 130 else 3)
    assert nothing_in(out)


def test_wrong_variables_end_it_all(several, out):
    result = run("filter", *several, *SOBEL, "-o", out, GPUCONV_KERNEL="nosuch")
    fails(result, 2, "GPUCONV_KERNEL")
    assert nothing_in(out)


def test_ctrl_c_while_writing(image, out):
    code = """
        import os, signal, time
        from gpuconv.__main__ import main
        signal.signal(signal.SIGINT, signal.default_int_handler)
        def replace(*paths):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
        os.replace = replace
        main()
    """
    done = process("filter", image, *SOBEL, "-o", out, code=textwrap.dedent(code), cwd=out)
    assert (done.returncode, done.stdout) == (128 + signal.SIGINT, "")
    assert done.stderr == "gpuconv: interrupted\n"
    assert nothing_in(out)


def test_without_pillow(image, out):
    code = "import sys; sys.modules['PIL'] = None; from gpuconv.__main__ import main; main()"
    done = process("filter", image, *SOBEL, "-o", out, code=code, cwd=out)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "gpuconv: this command needs PIL: pip install 'gpuconv[cli]'\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("count", "large", "drawn"), [(2, 10**9, True), (1, 100, True), (1, 10**9, False)])
def test_bar_on_a_terminal_for_large_work(monkeypatch, several, out, count, large, drawn):
    monkeypatch.setattr(command, "_LARGE", large)
    screen = Terminal()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", screen)
        patch.setattr(sys, "argv", ["gpuconv", "filter", *map(str, several[:count]), *SOBEL, "-o", str(out)])
        from gpuconv.cli.main import cli

        cli(prog_name="gpuconv", standalone_mode=False)
    assert ("100%" in screen.getvalue()) == drawn
    assert drawn or screen.getvalue() == ""
