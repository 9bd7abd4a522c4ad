"""Kernels for derivatives, for the integral, and how small they can be."""

from math import comb

import numpy as np

import gpuconv


def along(x, kernel, **options):
    """Correlate a signal with a kernel."""
    given = (np.asarray(part, "float64")[None, None, None] for part in (x, kernel))
    return gpuconv.conv2d(*given, **options)[0, 0, 0]


t = np.arange(10.0)
second = along(t**2, [1, -2, 1])
print("[1, -2, 1], the second derivative of t^2:", second)
assert (second == 2).all()

for order in range(5):
    kernel = [(-1) ** (order - i) * comb(order, i) for i in range(order + 1)]
    assert (along(t**order, kernel) == np.prod(range(1, order + 1))).all()
    if order:
        assert not along(t ** (order - 1), kernel).any()
    print(f"The smallest kernel for derivative {order} has {order + 1} elements: {kernel}")

total = along(t, np.ones(10), padding=((0, 0), (9, 0)))
print("Ten ones, the signal padded on its left, integrate:", total)
assert (total == np.cumsum(t)).all()

image = np.add.outer(t**2, 3 * t)
laplacian = gpuconv.correlate2d(image, np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]]), "valid")
print("The Laplacian of y^2 + 3x is", np.unique(laplacian))
assert (laplacian == 2).all()
