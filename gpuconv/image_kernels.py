"""Kernels of image processing by their names; in the form of a cross-correlation, as `conv2d` takes them."""

from __future__ import annotations

from math import isfinite
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpuconv.arguments import show

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_SOBEL_X: Final = ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1))
_SOBEL_Y: Final = ((-1, -2, -1), (0, 0, 0), (1, 2, 1))
_TAPS: Final[dict[str, Any]] = {
    "sobel-x": _SOBEL_X,
    "sobel-y": _SOBEL_Y,
    "sobel": (_SOBEL_X, _SOBEL_Y),
    "laplacian": ((0, 1, 0), (1, -4, 1), (0, 1, 0)),
    "sharpen": ((0, -1, 0), (-1, 5, -1), (0, -1, 0)),
    "emboss": ((-2, -1, 0), (-1, 1, 1), (0, 1, 2)),
}
#: What a caller may write.
NAMES: Final = (*_TAPS, "gaussian:SIGMA")
#: A Gaussian of this sigma has 897 taps along each axis: more than that takes long on a large picture.
_LARGEST_SIGMA: Final = 112


def image_kernel(name: str) -> Float32:
    """Kernel of image processing with this name.

    Parameters
    ----------
    name : str
        ``"sobel-x"``, ``"sobel-y"``: 8 times the slope per pixel, to the right and downward; ``"sobel"``:
        both. ``"laplacian"``: how much the four neighbours exceed the pixel.
        ``"sharpen"``: the pixel less that. ``"emboss"``: the pixel plus its slope to the lower right.
        ``"gaussian:SIGMA"``: weighted mean, with a standard deviation of 0 < SIGMA <= 112 pixels, as in
        ``"gaussian:1.5"``.

    Returns
    -------
    float32 array (R, S), or (2, 3, 3) for ``"sobel"``
        To be correlated with an image, so not flipped. ``"sobel"`` is sobel-x and sobel-y; the root of the
        sum of their squared results is the magnitude of the gradient.

    Raises
    ------
    TypeError, ValueError
        If there is no such kernel; the message tells which there are.

    Notes
    -----
    Taps of the Sobel kernels and of the Laplacian add up to 0, of all others to 1. Sources: I. Sobel and
    G. Feldman, *A 3×3 isotropic gradient operator for image processing*, Stanford, 1968. The Laplacian is
    the five-point one of ``scipy.ndimage.laplace``, and "sharpen" the identity minus it. "emboss" is the one
    with which V. Powell's *Image Kernels* shows embossing; it keeps brightness and colour. The Gaussian is
    ``scipy.ndimage.gaussian_filter``'s: sampled at the pixels' centres, cut off at four sigma and made to
    add up to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from gpuconv import conv2d, image_kernel
    >>> image_kernel("sharpen")
    array([[ 0., -1.,  0.],
           [-1.,  5., -1.],
           [ 0., -1.,  0.]], dtype=float32)
    >>> step = np.array([[0, 0, 1, 1]] * 3, "float32")
    >>> x, y = conv2d(step[None, None], image_kernel("sobel")[:, None])[0]
    >>> np.hypot(x, y)
    array([[4., 4.]], dtype=float32)
    """
    return taps(name).astype(np.float32)


def taps(name: str) -> Float64:
    """The kernel before it is rounded to float32."""
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, one of {', '.join(NAMES)}, got {show(name)}")
    if name in _TAPS:
        return np.array(_TAPS[name], np.float64)
    kind, _, sigma = name.partition(":")
    if kind != "gaussian":
        raise ValueError(f"name must be one of {', '.join(NAMES)}, got {show(name)}")
    try:
        return _bell(float(sigma), 4)
    except ValueError:
        raise ValueError(
            f"name must be gaussian:SIGMA with 0 < SIGMA <= {_LARGEST_SIGMA} pixels, as in gaussian:1.5, "
            f"got {show(name)}"
        ) from None


def gaussian(sigma: float, truncate: float = 4) -> Float32:
    """Square Gaussian that adds up to 1, `truncate` sigmas from its middle to its edges.

    Raises
    ------
    ValueError
        If sigma is not a number of pixels in its range.
    """
    return _bell(sigma, truncate).astype(np.float32)


def _bell(sigma: float, truncate: float) -> Float64:
    if not (isfinite(sigma) and 0 < sigma <= _LARGEST_SIGMA):
        raise ValueError(f"sigma must be 0 < sigma <= {_LARGEST_SIGMA}, got {show(sigma)}")
    reach = int(truncate * sigma + 0.5)
    along = np.exp(-((np.arange(-reach, reach + 1) / sigma) ** 2) / 2)
    along /= along.sum()
    return np.outer(along, along)
