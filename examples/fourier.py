"""The Fourier view: pad the filter, transform, multiply, sum over channels, transform back."""

import numpy as np

import gpuconv

rng = np.random.default_rng(0)
x = rng.standard_normal((2, 3, 32, 40))  # two images of three channels
w = rng.standard_normal((4, 3, 5, 5))  # four filters

image_waves = np.fft.rfft2(x)
filter_waves = np.fft.rfft2(w, x.shape[2:])  # padded to the image's size
# the conjugate, because a network's convolution does not flip its filters
products = (image_waves[:, None] * filter_waves.conj()[None]).sum(axis=2)
circular = np.fft.irfft2(products, x.shape[2:])

y = gpuconv.conv2d(x, w)
error = np.abs(circular[:, :, : y.shape[2], : y.shape[3]] - y).max()
print(f"Where no filter reaches around the border, {y.shape}, the two differ by at most {error:.0e}.")
assert error < 1e-12

around = gpuconv.conv2d(x, w, padding=((0, 4), (0, 4)), padding_mode="circular")
error = np.abs(circular - around).max()
print(f"With a circular border they agree everywhere, {around.shape}: {error:.0e}.")
assert error < 1e-12
