"""``gpuconv filter``: the right pixels, of every kind of picture, and files that hold them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gpuconv
from gpuconv import image_kernel
from gpuconv.cli import bands, pictures

from ..command import plain_machine, run

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("sobel-x", "sobel-y", "sobel", "laplacian", "sharpen", "emboss", "gaussian:1.5")
PAD = {
    "zeros": {"mode": "constant"}, "reflect": {"mode": "reflect"},
    "replicate": {"mode": "edge"}, "circular": {"mode": "wrap"},
}  # fmt: skip
SCIPY = {"zeros": "constant", "reflect": "mirror", "replicate": "nearest", "circular": "wrap"}


@pytest.fixture(autouse=True)
def _plain_machine(monkeypatch):
    plain_machine(monkeypatch)


def drawn(*shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def saved(path, values, **options):
    bands_of = np.moveaxis(values, 2, 0) if values.ndim == 3 else [values]
    mode = {1: None, 2: "LA", 3: "RGB", 4: "RGBA"}[len(bands_of)]
    images = [Image.fromarray(np.ascontiguousarray(band)) for band in bands_of]
    (Image.merge(mode, images) if mode else images[0]).save(path, **options)
    return path


def read(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def correlated(channel, w, border="reflect", stride=(1, 1), pads=None):
    """One channel under one kernel, in float64 and by the definition."""
    if pads is None:
        pads = [((taps - 1) // 2, taps // 2) for taps in w.shape]
    padded = np.pad(channel.astype(np.float64), pads, **PAD[border])
    windows = np.lib.stride_tricks.sliding_window_view(padded, w.shape)[:: stride[0], :: stride[1]]
    return (windows * w.astype(np.float64)).sum((2, 3))


def expected(values, name, **options):
    """What is to be shown, not yet rounded."""
    channels = np.moveaxis(np.atleast_3d(values), 2, 0)
    if name == "sobel":
        found = [
            np.hypot(*(correlated(c, image_kernel(f"sobel-{a}"), **options) for a in "xy")) for c in channels
        ]
    else:
        found = [correlated(c, image_kernel(name), **options) for c in channels]
        if name.startswith(("sobel", "laplacian")):
            found = np.abs(found)
    return np.stack(found, 2).clip(0, np.iinfo(values.dtype).max).reshape(*found[0].shape, *values.shape[2:])


def same(found, wanted, slack=0.0):
    """Each pixel is what it should be, rounded; `slack` is how far off a sum of floats may be."""
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 0.5 + slack


@pytest.mark.parametrize("border", PAD)
@pytest.mark.parametrize("name", NAMES)
def test_every_kernel_and_border(tmp_path, name, border):
    photo = drawn(17, 23, 3)
    image, out = saved(tmp_path / "in.png", photo), tmp_path / "out.png"
    result = run("filter", image, "--kernel", name, "--border", border, "-o", out)
    assert (result.exit_code, result.stderr, result.stdout) == (0, "", f"{out}\n")
    same(read(out), expected(photo, name, border=border), 1e-3 * name.startswith("gaussian"))


@pytest.mark.parametrize("border", PAD)
def test_what_scipy_says(tmp_path, border):
    ndimage = pytest.importorskip("scipy.ndimage")
    photo = drawn(17, 23)
    image, out = saved(tmp_path / "in.png", photo), tmp_path / "out.png"
    for name in (name for name in NAMES if name != "sobel"):
        run("filter", image, "--kernel", name, "--border", border, "-o", out)
        wanted = ndimage.correlate(photo.astype(float), image_kernel(name).astype(float), mode=SCIPY[border])
        if name.startswith(("sobel", "laplacian")):
            wanted = np.abs(wanted)
        same(read(out), wanted.clip(0, 255), 1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("suffix", ["png", "tif", "pgm", "jp2"])
def test_16_bits_stay_16(tmp_path, name, suffix):
    if suffix == "jp2":
        from PIL import features

        if not features.check("jpg_2000"):
            pytest.skip("Pillow without JPEG 2000")
    deep = drawn(20, 31, dtype=np.uint16)
    given = deep.astype(np.int32) if suffix == "pgm" else deep  # as older Pillows want it
    image, out = saved(tmp_path / f"in.{suffix}", given), tmp_path / f"out.{suffix}"
    assert run("filter", image, "--kernel", name, "-o", out).exit_code == 0
    found = read(out)
    assert found.dtype.itemsize >= 2
    same(found, expected(deep, name), 0.05 * name.startswith("gaussian"))


def test_integer_kernels_are_exact_at_16_bits(tmp_path):
    deep = drawn(64, 64, dtype=np.uint16, seed=1)
    image, out = saved(tmp_path / "in.png", deep), tmp_path / "out.tif"
    for name in ("sobel-x", "laplacian", "sharpen", "emboss"):
        run("filter", image, "--kernel", name, "-o", out)
        assert np.array_equal(read(out), expected(deep, name))
    # a magnitude rounded to float32 first would be rounded twice
    run("filter", image, "--kernel", "sobel", "-o", out)
    assert np.array_equal(read(out), np.rint(expected(deep, "sobel")))


def test_16_bits_where_there_is_room_for_8(tmp_path):
    deep = drawn(9, 9, dtype=np.uint16)
    image, out = saved(tmp_path / "in.png", deep), tmp_path / "out.bmp"
    result = run("filter", image, "--kernel", "gaussian:0.1", "-o", out)
    assert result.stderr == f"gpuconv: {out}: written with 8 bits instead of 16, BMP has no more\n"
    same(read(out), deep / 257, 1e-3)


def test_colours_of_16_bits_that_pillow_cannot_give(tmp_path):
    """By hand, since Pillow cannot write such a file either."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = drawn(4, 5, 3, dtype=np.uint16).astype(">u2")
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 5, 4, 16, 2, 0, 0, 0))
    image, out = tmp_path / "in.png", tmp_path / "out.png"
    image.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    result = run("filter", image, "--kernel", "sharpen", "-o", out)
    assert (result.exit_code, result.stdout) == (0, f"{out}\n")
    words = "read 8 of its 16 bits, all that Pillow reads of colour or alpha"
    assert result.stderr == f"gpuconv: {image}: {words}\n"
    same(read(out), expected((rows >> 8).astype(np.uint8), "sharpen"))


@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_stays_as_it_was(tmp_path, channels):
    photo = drawn(12, 13, channels)
    image, out = saved(tmp_path / "in.png", photo), tmp_path / "out.png"
    for name in ("sobel", "gaussian:1.5"):
        run("filter", image, "--kernel", name, "-o", out)
        found = read(out)
        same(found[..., :-1], expected(photo[..., :-1], name), 1e-3)
        assert np.array_equal(found[..., -1], photo[..., -1])
    out = tmp_path / "out.jpg"
    result = run("filter", image, "--kernel", "gaussian:1", "-o", out)
    assert result.stderr == f"gpuconv: {out}: written with no alpha, JPEG has none\n"
    assert read(out).shape[2:] == (() if channels == 2 else (3,))


@pytest.mark.parametrize(
    ("options", "rows", "columns"),
    [
        (("--padding", "valid"), range(1, 11), range(1, 12)),
        (("--padding", "valid", "--stride", "2x3"), range(1, 11, 2), range(1, 12, 3)),
        (("--padding", "1", "--stride", "3"), range(0, 12, 3), range(0, 13, 3)),
        (("--padding", "0x2"), range(1, 11), [0, *range(13), 12]),
    ],
)
def test_alpha_follows_the_size(tmp_path, options, rows, columns):
    photo = drawn(12, 13, 4)
    image, out = saved(tmp_path / "in.png", photo), tmp_path / "out.png"
    assert run("filter", image, "--kernel", "emboss", *options, "-o", out).exit_code == 0
    assert np.array_equal(read(out)[..., 3], photo[..., 3][np.ix_(list(rows), list(columns))])


@pytest.mark.parametrize(
    ("padding", "stride", "pads"),
    [
        ("valid", "1", [(0, 0), (0, 0)]),
        ("valid", "3x2", [(0, 0), (0, 0)]),
        ("2", "2", [(2, 2), (2, 2)]),
        ("7x0", "1x4", [(7, 7), (0, 0)]),
        ("same", "2", [(1, 2), (2, 2)]),  # TensorFlow's, the odd cell behind
    ],
)
@pytest.mark.parametrize("border", PAD)
def test_strides_and_paddings_in_bands_of_any_height(monkeypatch, tmp_path, padding, stride, pads, border):
    photo = drawn(14, 17, 3)
    w = drawn(5, 5, seed=3).astype(np.float64) / (255 * 25)
    np.save(tmp_path / "w.npy", w)
    image, out = saved(tmp_path / "in.png", photo), tmp_path / "out.png"
    options = ("--kernel", tmp_path / "w.npy", "--padding", padding, "--stride", stride, "--border", border)
    steps = tuple(map(int, stride.split("x"))) * (1 if "x" in stride else 2)
    wanted = [correlated(photo[..., c], w, border, steps, pads) for c in range(3)]
    for at_once in (1, 1000, 2**21):
        monkeypatch.setattr(bands, "_AT_ONCE", at_once)
        assert run("filter", image, *options, "-o", out).exit_code == 0
        same(read(out), np.stack(wanted, 2), 1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_bands_are_not_seen(monkeypatch, name, dtype):
    photo = pictures.Photo(drawn(97, 41, 1, dtype=dtype), "L" if dtype == np.uint8 else "I;16")
    taps = image_kernel(name)
    task = bands.Filter(taps.reshape(-1, *taps.shape[-2:]), (1, 1), "same", "reflect")
    shares = []
    whole = task(photo, shares.append).values
    assert shares == [1]
    monkeypatch.setattr(bands, "_AT_ONCE", 1)
    parts = task(photo, shares.append).values
    assert len(shares) > 4
    assert shares[1:] == sorted(shares[1:])
    if not name.startswith("gaussian"):
        assert np.array_equal(whole, parts)
    else:  # sums of floats may differ in their last bit, which only a tie can show
        exact = expected(photo.values[..., 0], name)[..., None]
        differ = whole != parts
        assert np.abs(exact % 1 - 0.5)[differ].max(initial=0) < 0.05
        assert np.abs(whole.astype(int) - parts).max() <= 1
        assert differ.mean() < 0.01


def test_memory_of_a_tall_picture_is_bounded(monkeypatch, tmp_path):
    seen = []
    right = gpuconv.conv2d

    def conv2d(x, w, **options):
        seen.append(x.size)
        return right(x, w, **options)

    monkeypatch.setattr(gpuconv, "conv2d", conv2d)
    monkeypatch.setattr(bands, "_AT_ONCE", 3000)
    image = saved(tmp_path / "in.png", drawn(1000, 10, 3))
    assert run("filter", image, "--kernel", "sobel", "-o", tmp_path / "out.png").exit_code == 0
    assert len(seen) == 10
    assert max(seen) == 3000 + 2 * 30


def test_one_bit_and_palettes(tmp_path):
    out = tmp_path / "out.png"
    bits = drawn(9, 11) > 127
    Image.fromarray(bits).save(tmp_path / "bits.png")
    run("filter", tmp_path / "bits.png", "--kernel", "sobel-x", "-o", out)
    same(read(out), expected((bits * 255).astype(np.uint8), "sobel-x"))
    photo = drawn(9, 11, 3)
    palette = Image.fromarray(photo).quantize(16)
    palette.save(tmp_path / "palette.gif")
    run("filter", tmp_path / "palette.gif", "--kernel", "sharpen", "-o", out)
    same(read(out), expected(np.asarray(palette.convert("RGB")), "sharpen"))
    palette.save(tmp_path / "holes.png", transparency=3)
    run("filter", tmp_path / "holes.png", "--kernel", "sharpen", "-o", out)
    assert np.array_equal(read(out)[..., 3], np.where(np.asarray(palette) == 3, 0, 255))
    Image.fromarray(photo[..., 0]).save(tmp_path / "key.png", transparency=int(photo[4, 4, 0]))
    run("filter", tmp_path / "key.png", "--kernel", "sharpen", "-o", out)
    assert np.array_equal(read(out)[..., 1] == 0, photo[..., 0] == photo[4, 4, 0])


def test_inks(tmp_path):
    inks = drawn(9, 11, 4)
    picture = Image.merge("CMYK", [Image.fromarray(np.ascontiguousarray(inks[..., c])) for c in range(4)])
    picture.save(tmp_path / "in.tif")
    out = tmp_path / "out.tif"
    run("filter", tmp_path / "in.tif", "--kernel", "gaussian:1.5", "-o", out)
    with Image.open(out) as found:
        assert found.mode == "CMYK"
        same(np.asarray(found), expected(inks, "gaussian:1.5"), 1e-3)
    assert run("filter", tmp_path / "in.tif", "--kernel", "emboss", "-o", tmp_path / "out.png").exit_code == 0
    assert read(tmp_path / "out.png").shape == (9, 11, 3)


def test_floats_and_wide_integers(tmp_path):
    out = tmp_path / "out.tif"
    values = np.random.default_rng(0).normal(0, 1e6, (9, 11)).astype(np.float32)
    run("filter", saved(tmp_path / "float.tif", values), "--kernel", "laplacian", "-o", out)
    wanted = np.abs(correlated(values, image_kernel("laplacian")))
    assert read(out).dtype == np.float32
    assert np.abs(read(out) - wanted).max() < 1e6 * 2**-18
    wide = np.random.default_rng(0).integers(-(2**31), 2**31 - 1, (9, 11)).astype(np.int32)
    run("filter", saved(tmp_path / "wide.tif", wide), "--kernel", "sharpen", "-o", out)
    wanted = correlated(wide, image_kernel("sharpen")).clip(-(2**31), 2**31 - 1)
    assert read(out).dtype == np.int32
    assert np.array_equal(read(out), wanted)


def test_own_kernels_show_what_their_sum_says(tmp_path):
    photo = drawn(9, 11)
    image, out, own = saved(tmp_path / "in.png", photo), tmp_path / "out.png", tmp_path / "own.NPY"
    for w in ([[-1, 1]], [[0.1, -0.3], [0.1, 0.1]], [[-0.5, 1]], [[-1]], [[True]], [[2]]):
        with own.open("wb") as file:
            np.save(file, np.array(w))
        assert run("filter", image, "--kernel", own, "--border", "circular", "-o", out).exit_code == 0
        wanted = correlated(photo, np.array(w, float), "circular")
        if abs(np.sum(w)) < 1e-9:
            wanted = np.abs(wanted)
        same(read(out), wanted.clip(0, 255), 1e-3)


def test_turned_pictures_and_profiles(tmp_path):
    photo = drawn(6, 9, 3)
    turned = Image.fromarray(photo)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "in.png", exif=exif, icc_profile=b"a profile")
    out = tmp_path / "out.png"
    run("filter", tmp_path / "in.png", "--kernel", "sharpen", "-o", out)
    same(read(out), expected(np.rot90(photo, -1), "sharpen"))
    with Image.open(out) as found:
        assert found.getexif().get(0x0112, 1) == 1
        assert found.info["icc_profile"] == b"a profile"


def test_pictures_of_the_docs_are_what_the_command_writes(tmp_path):
    folder = ROOT / "docs" / "pictures"
    told = (
        (ROOT / "docs" / "filters.md").read_text(encoding="utf-8").split("for k in ")[1].split(";")[0].split()
    )
    assert sorted(f"{name.partition(':')[0]}.jpg" for name in told) == sorted(os.listdir(folder))
    assert {name.partition(":")[0] for name in told} == {name.partition(":")[0] for name in NAMES}
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1.5e6
    for name in told:
        run("filter", ROOT / "gpuconv/data/coffee.png", "--kernel", name, "-o", tmp_path / "new.jpg")
        new, old = read(tmp_path / "new.jpg"), read(folder / f"{name.partition(':')[0]}.jpg")
        assert np.abs(new.astype(float) - old).mean() < 1  # another libjpeg rounds otherwise
