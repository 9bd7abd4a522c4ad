"""The edges of a photograph, by the library and by hand; writes edges.png."""

import sys
from importlib import resources

import numpy as np

import gpuconv

try:
    from PIL import Image
except ModuleNotFoundError:
    print("This example reads a photograph with Pillow: pip install pillow")
    sys.exit()

with resources.files("gpuconv").joinpath("data/coffee.png").open("rb") as file:
    photo = np.asarray(Image.open(file).convert("RGB"), "float32")
x = photo.transpose(2, 0, 1)[None]  # N C H W
kernel = np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]], "float32")
edges = gpuconv.conv2d(x, np.stack([kernel] * 3)[None])[0, 0]
print(f"{photo.shape[:2]} pixels in, {edges.shape} out: input - (kernel - 1).")

by_hand = np.zeros_like(edges)
for row in range(3):
    for column in range(3):
        part = photo[row : row + edges.shape[0], column : column + edges.shape[1]]
        by_hand += kernel[row, column] * part.sum(axis=2)
assert (edges == by_hand).all()
print("By hand, tap by tap: the same numbers, all of them.")

Image.fromarray(np.clip(edges, 0, 255).astype("uint8")).save("edges.png")
print("edges.png is the picture.")
