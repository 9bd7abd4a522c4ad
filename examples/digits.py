"""A small LeNet-like network, trained on scikit-learn's digits with gpuconv's gradients."""

import sys
import time

import numpy as np

from gpuconv import Conv2D

try:
    from sklearn.datasets import load_digits
except ModuleNotFoundError:
    print("This example takes its digits from scikit-learn: pip install scikit-learn")
    sys.exit()


class Relu:
    """max(x, 0)."""

    def __call__(self, x):
        self.passes = x > 0
        return x * self.passes

    def backward(self, grad):
        return grad * self.passes


class MaxPool:
    """The largest of each 2x2 cells."""

    def __call__(self, x):
        n, c, h, w = x.shape
        cells = x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5)
        cells = cells.reshape(n, c, h // 2, w // 2, 4)
        self.where, self.shape = cells.argmax(axis=-1)[..., None], x.shape
        return np.take_along_axis(cells, self.where, -1)[..., 0]

    def backward(self, grad):
        n, c, h, w = self.shape
        cells = np.zeros((n, c, h // 2, w // 2, 4), grad.dtype)
        np.put_along_axis(cells, self.where, grad[..., None], -1)
        cells = cells.reshape(n, c, h // 2, w // 2, 2, 2)
        return cells.transpose(0, 1, 2, 4, 3, 5).reshape(self.shape)


# the last one's filters cover all that is left: ten numbers for each image
rng = np.random.default_rng(0)
convolutions = [
    Conv2D(1, 12, 3, padding=1, rng=rng),
    Conv2D(12, 24, 3, padding=1, rng=rng),
    Conv2D(24, 10, 2, rng=rng),
]
network = [convolutions[0], Relu(), MaxPool(), convolutions[1], Relu(), MaxPool(), convolutions[2]]
print(*convolutions, f"{sum(layer.parameter_count for layer in convolutions)} parameters", sep="\n")


def scores(x):
    """Ten for each image."""
    for layer in network:
        x = layer(x)
    return x[:, :, 0, 0]


images, labels = load_digits(return_X_y=True)
images = (images.reshape(-1, 1, 8, 8) / 16).astype("float32")
order = rng.permutation(len(images))
train, test = order[360:], order[:360]

began = time.perf_counter()
momentum = {}
for epoch in range(1, 13):
    rng.shuffle(train)
    for batch in np.array_split(train, len(train) // 32):
        y = scores(images[batch])
        likely = np.exp(y - y.max(axis=1, keepdims=True))
        likely /= likely.sum(axis=1, keepdims=True)
        likely[np.arange(len(batch)), labels[batch]] -= 1  # the gradient of the cross-entropy
        grad = (likely / len(batch))[:, :, None, None]
        for layer in reversed(network):
            grad = layer.backward(grad)
        for layer in convolutions:
            for name in ("weight", "bias"):
                slope = getattr(layer, f"grad_{name}") + 0.9 * momentum.get((layer, name), 0)
                momentum[layer, name] = slope
                setattr(layer, name, getattr(layer, name) - 0.05 * slope)
    if epoch % 3 == 0:
        right = (scores(images[test]).argmax(axis=1) == labels[test]).mean()
        print(f"epoch {epoch:2}  {time.perf_counter() - began:5.1f} s  {right:.1%} of the test images")
assert right > 0.95
