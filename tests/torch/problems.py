"""What the tests of PyTorch's door call it with."""

from __future__ import annotations

#: (input, weight, arguments) of conv2d.
CONVOLUTIONS = {
    "plain": ((2, 3, 7, 6), (4, 3, 3, 3), {}),
    "unbatched": ((3, 7, 6), (4, 3, 3, 2), {"stride": (2,), "padding": (1,)}),
    "pairs": ((1, 2, 9, 8), (3, 2, 2, 3), {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)}),
    "same": ((2, 2, 5, 6), (3, 2, 4, 3), {"padding": "same", "dilation": (2, 1)}),
    "valid": ((2, 2, 5, 6), (3, 2, 4, 3), {"padding": "valid"}),
    "grouped": ((2, 4, 6, 5), (6, 2, 3, 3), {"groups": 2, "padding": 1}),
    "depthwise": ((2, 3, 6, 5), (6, 1, 3, 3), {"groups": 3, "stride": 2}),
    "pointwise": ((2, 3, 4, 5), (2, 3, 1, 1), {"stride": 2}),
    "cells unseen": ((1, 2, 8, 8), (1, 2, 2, 2), {"stride": 3}),
}
#: (input, weight, arguments) of conv_transpose2d.
TRANSPOSED = {
    "plain": ((2, 3, 4, 5), (3, 2, 3, 3), {}),
    "unbatched": ((3, 4, 5), (3, 2, 3, 2), {"stride": 2}),
    "larger": ((2, 4, 4, 3), (4, 3, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    "grouped": ((1, 4, 3, 4), (4, 3, 2, 3), {"groups": 2, "stride": (2, 3), "output_padding": (0, 2)}),
    "beyond the stride": ((1, 2, 4, 4), (2, 2, 3, 2), {"dilation": 3, "output_padding": (2, 1)}),
}
#: (input, arguments) of unfold.
PATCHES = {
    "plain": ((2, 3, 5, 6), {"kernel_size": (2, 3)}),
    "unbatched": ((2, 5, 6), {"kernel_size": 2, "stride": 2}),
    "all": ((2, 2, 7, 6), {"kernel_size": (3, 2), "dilation": (2, 1), "padding": (1, 2), "stride": (2, 3)}),
}
