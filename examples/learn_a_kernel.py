"""Learning the edge detector [1, -1] from data, in 10 steps."""

import numpy as np

from gpuconv import Conv2D, conv2d

x = np.ones((1, 1, 6, 8), "float32")
x[..., 2:6] = 0
target = conv2d(x, np.array([[[[1, -1]]]], "float32"))

layer = Conv2D(1, 1, (1, 2), bias=False, rng=0)
print("It begins as", layer.weight.ravel())
for step in range(1, 11):
    error = layer(x) - target
    layer.backward(2 * error)
    layer.weight -= 3e-2 * layer.grad_weight
    loss = float((error**2).sum())
    if step % 2 == 0:
        print(f"step {step:2}  loss {loss:7.4f}")
print("It ends as  ", layer.weight.ravel())
assert loss < 1
assert np.abs(layer.weight.ravel() - [1, -1]).max() < 0.15
