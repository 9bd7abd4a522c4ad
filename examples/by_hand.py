"""A 5x5x3 volume under a 3x3x3 edge filter, padding 1, stride 2: every receptive field by hand."""

import numpy as np

import gpuconv

PADDING, STRIDE = 1, 2
volume = np.random.default_rng(0).integers(0, 3, (3, 5, 5)).astype("float32")  # channels, rows, columns
edges = np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]], "float32")
filters = np.stack([edges, edges, edges])  # one for each channel

by_library = gpuconv.conv2d(volume[None], filters[None], stride=STRIDE, padding=PADDING)[0, 0]

padded = np.pad(volume, ((0, 0), (PADDING, PADDING), (PADDING, PADDING)))
print(f"The volume {volume.shape} with its padding is {padded.shape}, the filter {filters.shape}.")
for row in range(3):
    for column in range(3):
        top, left = row * STRIDE, column * STRIDE
        field = padded[:, top : top + 3, left : left + 3]
        sums = (field * filters).sum(axis=(1, 2))
        total = sums.sum()
        print(f"\nOutput ({row}, {column}) sees rows {top} to {top + 2}, columns {left} to {left + 2}:")
        for line in range(3):
            print(
                "   ", "   ".join(" ".join(f"{value:2.0f}" for value in channel[line]) for channel in field)
            )
        print("    sums of the channels", *(f"{value:.0f}" for value in sums), f"together {total:.0f}")
        assert total == by_library[row, column]

print("\ngpuconv.conv2d gives the same nine numbers:")
print(by_library.astype(int))
