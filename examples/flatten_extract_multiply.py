"""What tf.nn.conv2d does: flatten the filter, extract patches, multiply."""

import numpy as np

from gpuconv.compat import tensorflow as tf

image = np.array([[4, 3, 1, 0], [2, 1, 0, 1], [1, 2, 4, 1], [3, 1, 0, 2]], "float32")
kernel = np.array([[1, 0, 1], [2, 1, 0], [0, 0, 1]], "float32")
x, w = image.reshape(1, 4, 4, 1), kernel.reshape(3, 3, 1, 1)  # N H W C, and height width in out

flat = w.reshape(-1, 1)
patches = tf.extract_patches(x, [1, 3, 3, 1], [1, 1, 1, 1], [1, 1, 1, 1], "VALID")
print(f"The filter, flat: {flat.shape}; the patches: {patches.shape}.")
for patch in patches.reshape(-1, 9):
    terms = " + ".join(f"{a:.0f}*{b:.0f}" for a, b in zip(patch, flat[:, 0], strict=True))
    print(f"    {terms} = {patch @ flat[:, 0]:.0f}")
product = patches @ flat
assert (product == tf.conv2d(x, w, 1, "VALID")).all()
assert product.ravel().tolist() == [14, 6, 6, 12]

print("\nThe same for other shapes, input * filter -> output:")
rng = np.random.default_rng(0)
for x_shape, w_shape, stride, padding in [
    ((1, 3, 3, 5), (1, 1, 5, 1), 1, "VALID"),
    ((1, 3, 3, 5), (3, 3, 5, 1), 1, "VALID"),
    ((1, 5, 5, 5), (3, 3, 5, 1), 1, "VALID"),
    ((1, 5, 5, 5), (3, 3, 5, 1), 1, "SAME"),
    ((1, 5, 5, 5), (3, 3, 5, 7), 1, "SAME"),
    ((1, 5, 5, 5), (3, 3, 5, 7), 2, "SAME"),
    ((10, 5, 5, 5), (3, 3, 5, 7), 2, "SAME"),
    ((1, 10, 10, 10), (2, 10, 10, 10), 2, "SAME"),
]:
    x = rng.integers(-4, 5, x_shape).astype("float32")
    w = rng.integers(-4, 5, w_shape).astype("float32")
    strides = [1, stride, stride, 1]
    y = tf.conv2d(x, w, strides, padding)
    patches = tf.extract_patches(x, [1, *w_shape[:2], 1], strides, [1, 1, 1, 1], padding)
    assert (patches @ w.reshape(-1, w_shape[3]) == y).all()
    print(f"    {x_shape} * {w_shape} {padding:5} stride {stride} -> {y.shape}")
