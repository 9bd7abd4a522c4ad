"""Named kernels: what SciPy's filters do, and one clear error for a name that is none."""

from __future__ import annotations

import numpy as np
import pytest

from gpuconv import conv2d, image_kernel
from gpuconv.image_kernels import NAMES

IMAGE = np.random.default_rng(0).integers(0, 256, (19, 23)).astype(np.float32)


def filtered(name):
    w = image_kernel(name)
    w = w.reshape(-1, 1, *w.shape[-2:])
    return conv2d(IMAGE[None, None], w, padding="same", padding_mode="reflect")[0]


def test_sobel_and_laplacian_are_those_of_scipy():
    ndimage = pytest.importorskip("scipy.ndimage")
    x, y = (ndimage.sobel(IMAGE, axis, mode="mirror") for axis in (1, 0))
    assert np.array_equal(filtered("sobel-x")[0], x)
    assert np.array_equal(filtered("sobel-y")[0], y)
    assert np.array_equal(filtered("sobel"), [x, y])
    laplacian = ndimage.laplace(IMAGE, mode="mirror")
    assert np.array_equal(filtered("laplacian")[0], laplacian)
    assert np.array_equal(filtered("sharpen")[0], IMAGE - laplacian)


@pytest.mark.parametrize("sigma", [0.1, 0.7, 1.5, 2])
def test_gaussian_is_that_of_scipy(sigma):
    ndimage = pytest.importorskip("scipy.ndimage")
    expected = ndimage.gaussian_filter(IMAGE.astype(float), sigma, mode="mirror")
    assert np.abs(filtered(f"gaussian:{sigma}")[0] - expected).max() < 255 * 20 * 2**-24
    dot = np.zeros((41, 41))
    dot[20, 20] = 1
    taps = image_kernel(f"gaussian:{sigma}")
    reach = len(taps) // 2
    near = slice(20 - reach, 21 + reach)
    spread = ndimage.gaussian_filter(dot, sigma)
    assert np.array_equal(taps, spread[near, near].astype(np.float32))
    assert spread[near, near].sum() == pytest.approx(1, abs=1e-14)  # nothing lies farther out


@pytest.mark.parametrize("name", [name for name in NAMES if ":" not in name] + ["gaussian:3", "gaussian:112"])
def test_sums(name):
    taps = image_kernel(name)
    assert taps.dtype == np.float32
    zero = name.startswith(("sobel", "laplacian"))
    assert taps.astype(np.float64).sum() == pytest.approx(0 if zero else 1, abs=1e-6)


def test_emboss_lights_what_rises_to_the_lower_right():
    flat = np.full((1, 1, 3, 3), 7, np.float32)
    w = image_kernel("emboss")[None, None]
    assert conv2d(flat, w).item() == 7
    assert conv2d(flat + np.add.outer([0, 1, 2], [0, 1, 2]).astype(np.float32), w).item() > 9


def test_each_call_gives_an_array_of_its_own():
    image_kernel("emboss")[:] = 0
    assert image_kernel("emboss").any()


@pytest.mark.parametrize("name", ["", "Sobel", "nosuch", "gaussian-1", "sobel:2", ":"])
def test_unknown_names(name):
    with pytest.raises(ValueError) as caught:
        image_kernel(name)
    assert str(caught.value) == f"name must be one of {', '.join(NAMES)}, got {name!r}"


@pytest.mark.parametrize("sigma", ["", "0", "-1", "abc", "nan", "inf", "1e9", "112.1", "1,5"])
def test_sigmas_that_are_none(sigma):
    with pytest.raises(
        ValueError, match=r"^name must be gaussian:SIGMA with 0 < SIGMA <= 112 pixels, as in "
    ):
        image_kernel(f"gaussian:{sigma}")


def test_a_sigma_as_small_as_can_be_changes_nothing():
    assert image_kernel("gaussian:1e-300").tolist() == [[1]]


@pytest.mark.parametrize("name", [None, 3, b"sobel", np.eye(3)])
def test_names_of_other_types(name):
    with pytest.raises(TypeError, match=r"^name must be a string, one of sobel-x, .*gaussian:SIGMA, got "):
        image_kernel(name)


@pytest.mark.parametrize(("sigma", "taps"), [(0.1, 1), (0.7, 7), (1.5, 13), (3, 25)])
def test_gaussian_by_its_definition(sigma, taps):
    w = image_kernel(f"gaussian:{sigma}").astype(np.float64)
    assert w.shape == (taps, taps)
    i, j = np.mgrid[:taps, :taps] - taps // 2
    assert w == pytest.approx(w[taps // 2, taps // 2] * np.exp(-(i**2 + j**2) / (2 * sigma**2)), rel=1e-6)
