"""corr2d, a vertical edge, and what turning the kernel or the image changes."""

import numpy as np

import gpuconv


def corr2d(x, k):
    """Cross-correlate one image with one kernel."""
    x, k = np.asarray(x, "float32"), np.asarray(k, "float32")
    return gpuconv.conv2d(x[None, None], k[None, None])[0, 0]


y = corr2d([[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[0, 1], [2, 3]])
print("3x3 with 2x2 gives 2x2:", y.tolist())
assert y.tolist() == [[19, 25], [37, 43]]

y = corr2d(np.arange(1, 10).reshape(3, 3), -np.eye(2))
print("1 to 9 with minus the identity:", y.tolist())
assert y.tolist() == [[-6, -8], [-12, -14]]

x = np.ones((6, 8))
x[:, 2:6] = 0
y = corr2d(x, [[1, -1]])
print("\nA black band; [1, -1] finds where it begins and ends:")
print(y.astype(int))
assert (y[:, 1] == 1).all()
assert (y[:, 5] == -1).all()
assert np.abs(y).sum() == 12

y = corr2d(x.T, [[1, -1]])
print("\nThe band turned: nothing changes along a row, all", np.unique(y))
assert not y.any()

kernel = np.array([[0, 1], [2, 3]])
strict = gpuconv.convolve2d(np.arange(9.0).reshape(3, 3), kernel.astype(float), "valid")
print("\nStrict convolution turns the kernel first:", strict.tolist())
assert (strict == corr2d(np.arange(9).reshape(3, 3), kernel[::-1, ::-1])).all()

field = gpuconv.receptive_field([(2,), (2,)]).size
print(f"\nTwo layers of 2x2 see {field[0]}x{field[1]} inputs: all nine of a 3x3 image.")
assert field == (3, 3)
