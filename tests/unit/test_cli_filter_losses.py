"""``gpuconv filter``: whatever is lost on the way is said, and what is damaged is refused."""

from __future__ import annotations

import io
import os
import signal
import struct
import textwrap
import zlib

import numpy as np
import pytest
from PIL import Image, features

import gpuconv
from gpuconv.cli import bands, pictures

from ..command import fails, plain_machine, process, results, run, usage

SOFT = ("--kernel", "gaussian:1")
PROFILE = b"a profile"


@pytest.fixture(autouse=True)
def _plain_machine(monkeypatch):
    plain_machine(monkeypatch)


@pytest.fixture
def photo():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8))


def said(result, path, *losses):
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines() == [f"gpuconv: {path}: {loss}" for loss in losses]


def test_a_colour_of_16_bits_for_transparency(tmp_path):
    image, out = tmp_path / "in.png", tmp_path / "out.png"
    Image.fromarray(np.arange(400, dtype="u2").reshape(20, 20)).save(image, transparency=7)
    said(
        run("filter", image, *SOFT, "-o", out), image, "read no transparency, which is one colour of 16 bits"
    )
    with Image.open(out) as found:
        assert found.mode.startswith("I")


def test_a_colour_of_three_times_16_bits_for_transparency(tmp_path):
    """By hand, since Pillow writes no such file; it would compare 8 bits with these 16."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    image, out = tmp_path / "in.png", tmp_path / "out.png"
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 16, 2, 0, 0, 0))
    key, pixels = chunk(b"tRNS", bytes(6)), chunk(b"IDAT", zlib.compress(bytes(9 * 55)))
    image.write_bytes(b"\x89PNG\r\n\x1a\n" + header + key + pixels + chunk(b"IEND", b""))
    losses = (
        "read no transparency, which is one colour of 16 bits",
        "read 8 of its 16 bits, all that Pillow reads of colour or alpha",
    )
    said(run("filter", image, *SOFT, "-o", out), image, *losses)
    with Image.open(out) as found:
        assert found.mode == "RGB"


@pytest.mark.parametrize(
    ("suffix", "name"), [("jp2", "JPEG2000"), ("bmp", "BMP"), ("ppm", "PPM"), ("tga", "TGA")]
)
def test_formats_without_profiles(photo, tmp_path, suffix, name):
    if name == "JPEG2000" and not features.check("jpg_2000"):
        pytest.skip("Pillow without JPEG 2000")
    image, out = tmp_path / "in.png", tmp_path / f"out.{suffix}"
    photo.save(image, icc_profile=PROFILE)
    said(run("filter", image, *SOFT, "-o", out), out, f"written with no colour profile, {name} keeps none")


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "webp", "avif"])
def test_formats_with_profiles(photo, tmp_path, suffix):
    image, out = tmp_path / "in.png", tmp_path / f"out.{suffix}"
    if out.suffix not in Image.registered_extensions():
        pytest.skip(f"Pillow without {suffix}")
    photo.save(image, icc_profile=PROFILE)
    said(run("filter", image, *SOFT, "-o", out), out)
    with Image.open(out) as found:
        assert found.info["icc_profile"] == PROFILE


def test_inks_and_their_profile(photo, tmp_path):
    image, out = tmp_path / "in.tif", tmp_path / "out.png"
    photo.convert("CMYK").save(image, icc_profile=PROFILE)
    losses = (
        "written with RGB instead of CMYK, PNG has no inks",
        "written with no colour profile, the one there is does not fit RGB",
    )
    said(run("filter", image, *SOFT, "-o", out), out, *losses)
    with Image.open(out) as found:
        assert "icc_profile" not in found.info


def test_colours_and_alpha_in_gif(photo, tmp_path):
    image, out = tmp_path / "in.png", tmp_path / "out.gif"
    same = ("--kernel", "gaussian:0.1")
    less = "written with fewer colours or levels of alpha, GIF has 256 and 2"
    photo.save(image)
    said(run("filter", image, *same, "-o", out), out, less)
    photo.convert("L").save(image)
    said(run("filter", image, *same, "-o", out), out)
    flat = Image.new("RGBA", photo.size, (10, 20, 30, 255))
    flat.putalpha(photo.convert("L").point(lambda level: 255 * (level > 99)))
    flat.save(image)
    said(run("filter", image, *same, "-o", out), out)
    flat.putalpha(photo.convert("L"))
    flat.save(image)
    said(run("filter", image, *same, "-o", out), out, less)


def sgi_rle():
    """By hand, since Pillow writes none: 3 channels of 9 rows of 9 equal values each."""
    header = struct.pack(">hBBHHHH", 474, 1, 2, 3, 9, 9, 3).ljust(512, b"\0")
    row = struct.pack(">HHH", 9, 4711, 0)
    start = 512 + 2 * 27 * 4
    table = struct.pack(">54I", *(start + len(row) * index for index in range(27)), *[len(row)] * 27)
    return header + table + row * 27


def jpeg2000(photo, bits):
    file = io.BytesIO()
    photo.save(file, "JPEG2000")
    content = bytearray(file.getvalue())
    components = content.index(b"\xff\x4f\xff\x51") + 42
    content[components : components + 9 : 3] = bytes([bits - 1] * 3)
    return bytes(content)


def avif(photo, byte, bits):
    file = io.BytesIO()
    photo.save(file, "AVIF")
    content = bytearray(file.getvalue())
    content[content.index(b"av1C") + 6] |= byte
    depths = content.index(b"pixi") + 9
    content[depths : depths + 3] = bytes([bits] * 3)
    return bytes(content)


def test_bits_that_are_not_read(photo, tmp_path):
    photo.save(tmp_path / "raw.sgi", bpc=2)
    files = {"raw.sgi": 16, "rle.sgi": 16, "deep.ppm": 10}
    (tmp_path / "rle.sgi").write_bytes(sgi_rle())
    (tmp_path / "deep.ppm").write_bytes(b"P6\n9 9\n1023\n" + bytes(486))
    if features.check("jpg_2000"):
        (tmp_path / "deep.jp2").write_bytes(jpeg2000(photo, 12))
        (tmp_path / "usual.jp2").write_bytes(jpeg2000(photo, 8))
        files |= {"deep.jp2": 12, "usual.jp2": 8}
    out = tmp_path / "out.png"
    for name, bits in files.items():
        losses = [f"read 8 of its {bits} bits, all that Pillow reads of colour or alpha"] * (bits > 8)
        said(run("filter", tmp_path / name, *SOFT, "-o", out), tmp_path / name, *losses)


@pytest.mark.skipif(".avif" not in Image.registered_extensions(), reason="Pillow without AVIF")
@pytest.mark.parametrize(("byte", "bits"), [(0, 8), (0x40, 10), (0x60, 12)])
def test_bits_of_avif(photo, tmp_path, byte, bits):
    image = tmp_path / "in.avif"
    image.write_bytes(avif(photo, byte, bits))
    words = (f"8 of its {bits} bits, all that Pillow reads of colour or alpha",) * (bits > 8)
    assert pictures.outline(image).unread == words


def test_damage_that_a_library_only_prints(photo, tmp_path):
    file, image, out = io.BytesIO(), tmp_path / "in.tif", tmp_path / "out.png"
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg"):
        file = io.BytesIO()
        photo.resize((240, 200)).save(file, "TIFF", compression=compression)
        content = bytearray(file.getvalue())
        for index in range(300, len(content) - 300, 97):
            content[index] ^= 0x55
        image.write_bytes(content)
        done = process("filter", image, *SOFT, "-o", out, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.count("\n") == 1
        start, path, reason = done.stderr.partition(str(image))  # the path is free to hold any number
        assert (start, path) == ("gpuconv: cannot read ", str(image))
        assert reason.startswith(": ")
        assert "-2" not in reason
        assert not out.exists()


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("ImageOps.exif_transpose", "cannot read {image}: damaged: libwhatever: 3 rows are missing"),
        ("Image.Image.save", "cannot write {out}: libwhatever: 3 rows are missing"),
    ],
)
def test_what_libraries_print_while_all_seems_well(photo, tmp_path, place, words):
    """A coder that only complains has left pixels out."""
    image, out = tmp_path / "in.png", tmp_path / "out.png"
    photo.save(image)
    code = f"""
        import os
        from PIL import Image, ImageOps
        from gpuconv.__main__ import main
        right = {place}
        def complaining(*args, **options):
            os.write(2, b"libwhatever: 3 rows are missing\\n\\nmore\\n")
            return right(*args, **options)
        {place} = complaining
        main()
    """
    done = process("filter", image, *SOFT, "-o", out, code=textwrap.dedent(code), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"gpuconv: {words.format(image=image, out=out)}\n"
    assert os.listdir(tmp_path) == ["in.png"]


def test_a_closed_standard_error(photo, tmp_path):
    """Its number is another file's then, the picture's for one."""
    image, out = tmp_path / "in.tif", tmp_path / "out.tif"
    photo.save(image, compression="tiff_lzw")
    code = """
        import os, sys
        os.close(2)
        sys.stderr = sys.__stderr__ = None
        from gpuconv.__main__ import main
        main()
    """
    done = process("filter", image, *SOFT, "-o", out, code=textwrap.dedent(code), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{out}\n")


def test_a_damaged_film_with_a_whole_first_picture(tmp_path):
    rng = np.random.default_rng(0)
    first, *rest = (Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)) for _ in range(30))
    image, out = tmp_path / "in.gif", tmp_path / "out.png"
    first.save(image, save_all=True, append_images=rest)
    content = image.read_bytes()
    image.write_bytes(content[: len(content) // 2])
    said(run("filter", image, *SOFT, "-o", out), image, "read only the first of its several pictures")
    image.write_bytes(content[:900])
    fails(run("filter", image, *SOFT, "-o", out), 1, f"cannot read {image}: ")


@pytest.mark.parametrize(
    ("suffix", "most"), [("jpg", 65_500), ("gif", 65_535), ("tga", 65_535), ("webp", 16_383)]
)
def test_sides_too_long_for_a_format(monkeypatch, tmp_path, suffix, most):
    image, out = tmp_path / "in.png", tmp_path / f"out.{suffix}"
    Image.new("L", (most, 1)).save(image)
    options = (*SOFT, "--border", "zeros", "-o", out)
    assert run("filter", image, *options).exit_code == 0
    monkeypatch.setattr(pictures, "read", None)  # it must be known before
    words = f"holds at most {most:,} pixels along a side, the result has {most + 2:,} x 3"
    fails(run("filter", image, *options, "--padding", "5"), 1, f"cannot write {out}: ", words)
    Image.fromarray(np.ones((9, 9), np.float32)).save(tmp_path / "f.tif")
    result = run("filter", tmp_path / "f.tif", *options)
    fails(result, 1, "holds no floating-point numbers, TIFF does")


def test_suffixes_say_what_is_written(photo, tmp_path):
    image, gray = tmp_path / "in.png", tmp_path / "gray.png"
    photo.save(image)
    photo.convert("L").save(gray)
    for suffix in ("pfm", "pbm", "jpx", "jpf", "avifs"):
        usage(run("filter", image, *SOFT, "-o", tmp_path / f"out.{suffix}"), "unknown suffix")
    result = run("filter", image, *SOFT, "-o", tmp_path / "out.pgm")
    fails(result, 1, f"cannot write {tmp_path / 'out.pgm'}: .pgm holds no colours, TIFF does")
    first = {"pgm": b"P5", "ppm": b"P6", "pnm": b"P5"}
    if features.check("jpg_2000"):
        first |= {"jp2": b"\0\0\0\x0cjP"} | dict.fromkeys(("j2k", "j2c", "jpc"), b"\xff\x4f\xff\x51")
    for suffix, start in first.items():
        out = tmp_path / f"out.{suffix}"
        assert run("filter", gray, *SOFT, "-o", out).exit_code == 0
        assert out.read_bytes().startswith(start)


def test_flat_pictures_of_wide_integers_stay_flat(tmp_path):
    image, out = tmp_path / "in.tif", tmp_path / "out.tif"
    Image.fromarray(np.full((20, 24), 2_000_000_001, np.int32)).save(image)
    for sigma in (1.5, 4):
        assert run("filter", image, "--kernel", f"gaussian:{sigma}", "-o", out).exit_code == 0
        with Image.open(out) as found:
            assert np.unique(found).tolist() == [2_000_000_001]


def test_wide_paddings(photo, tmp_path):
    image, out = tmp_path / "in.png", tmp_path / "out.png"
    photo.save(image)
    for padding in ("65537", "2147483647", "1x65537"):
        usage(run("filter", image, *SOFT, "--padding", padding, "-o", out), "or above 65,536")
    for border in ("zeros", "replicate"):
        options = ("--padding", "65536", "--stride", "131000", "--border", border)
        assert run("filter", image, *SOFT, *options, "-o", out).exit_code == 0
    assert set(bands.BORDERS) == {"zeros", "reflect", "replicate", "circular"}


def test_links_stay(photo, tmp_path):
    image, target, link = (tmp_path / name for name in ("in.png", "there.png", "link.png"))
    photo.save(image)
    (tmp_path / "far").mkdir()
    for target in (tmp_path / "there.png", tmp_path / "far" / "new.png"):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        for _ in range(2):
            assert run("filter", image, *SOFT, "-o", link).exit_code == 0
            assert link.is_symlink()
            with Image.open(target) as found:
                assert found.size == photo.size
    assert sorted(os.listdir(tmp_path / "far")) == ["new.png"]
    link.unlink()
    link.symlink_to(link)
    usage(run("filter", image, *SOFT, "-o", link), "not a regular file")


def test_folders_are_looked_at_before_pictures(monkeypatch, photo, tmp_path):
    image, theirs = tmp_path / "in.png", tmp_path / "theirs"
    photo.save(image)
    theirs.write_text("theirs")
    monkeypatch.setattr(pictures, "outline", None)
    fails(run("filter", image, *SOFT, "-o", f"{theirs}/new/"), 1, "cannot write", "Not a directory")
    fails(run("filter", image, *SOFT, "-o", tmp_path / f"{'a' * 300}.png"), 1, "too long")
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    fails(run("filter", image, *SOFT, "-o", f"{tmp_path}/new/deep/"), 1, "cannot write", "Permission denied")
    assert sorted(os.listdir(tmp_path)) == ["in.png", "theirs"]


@pytest.mark.parametrize("flag", [(), ("--json",)])
def test_ctrl_c_after_some(monkeypatch, photo, tmp_path, flag):
    images = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    for image in images:
        photo.save(image)
    right, calls = gpuconv.conv2d, []

    def conv2d(*args, **options):
        calls.append(args)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return right(*args, **options)

    monkeypatch.setattr(gpuconv, "conv2d", conv2d)
    out = tmp_path / "out"
    result = run("filter", *images, *SOFT, "-o", f"{out}/", *flag)
    assert (result.exit_code, result.stderr) == (130, "gpuconv: interrupted\n")
    assert os.listdir(out) == ["a.png"]
    if flag:
        assert [each["file"] for each in results(result, "filter")] == [str(out / "a.png")]
    else:
        assert result.stdout == f"{out / 'a.png'}\n"
