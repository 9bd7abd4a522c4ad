"""Every argument of Conv2D: what it does to the size of the output, to the parameters and to the work."""

import numpy as np

import gpuconv
from gpuconv import Conv2D

print(f"{'layer':58} {'input':>12} {'output':>12} {'parameters':>10}")
for size, layer, expected in [
    ((3, 7, 7), Conv2D(3, 2, 3, padding=1, stride=2, dilation=2), (2, 3, 3)),
    ((1, 9, 9), Conv2D(1, 1, 3), (1, 7, 7)),
    ((1, 7, 7), Conv2D(1, 4, 3), (4, 5, 5)),
    ((3, 7, 7), Conv2D(3, 4, 3), (4, 5, 5)),
    ((3, 9, 9), Conv2D(3, 2, 3, stride=(1, 3)), (2, 7, 3)),
    ((2, 7, 7), Conv2D(2, 1, 3, padding=1), (1, 7, 7)),
    ((2, 7, 7), Conv2D(2, 1, 3, padding=1, dilation=(4, 2)), (1, 1, 5)),
    ((2, 7, 7), Conv2D(2, 4, 3, padding=2, stride=2, groups=2), (4, 5, 5)),
    ((3, 7, 9), Conv2D(3, 2, (5, 2)), (2, 3, 8)),
    ((2, 7, 7), Conv2D(2, 4, 3, bias=False), (4, 5, 5)),
    ((2, 7, 7), Conv2D(2, 4, 3, padding="same", padding_mode="reflect"), (4, 7, 7)),
]:
    found = layer(np.ones((1, *size), "float32")).shape[1:]
    assert found == layer.output_shape((1, *size))[1:] == expected
    print(f"{layer!r:58} {size!s:>12} {found!s:>12} {layer.parameter_count:10}")

base = {"in_channels": 8, "out_channels": 8, "kernel_size": 3, "padding": 1}
print(f"\n{'change of ' + repr(Conv2D(**base))[6:]:30} {'parameters':>10} {'multiply-adds':>14}   (16x16)")
for change in [
    {}, {"in_channels": 16}, {"out_channels": 16}, {"kernel_size": 5, "padding": 2}, {"stride": 2},
    {"dilation": 2, "padding": 2}, {"groups": 2}, {"groups": 8}, {"bias": False},
]:  # fmt: skip
    layer = Conv2D(**{**base, **change})
    image = (1, layer.in_channels, 16, 16)
    options = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")}
    work = gpuconv.flops(image, layer.weight.shape, **options) // 2
    text = ", ".join(f"{name}={value}" for name, value in change.items()) or "none"
    print(f"{text:30} {layer.parameter_count:10} {work:14}")
