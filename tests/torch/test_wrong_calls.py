"""Wrong calls of PyTorch's door name the argument as PyTorch does."""

from __future__ import annotations

import pytest

WRONG = {
    "conv2d": [
        ("input", TypeError, {"input": [[1.0]]}),
        ("input", TypeError, {"input": None}),
        ("input", ValueError, {"input": (8, 8)}),
        ("input", ValueError, {"input": (1, 1, 4, 8, 8)}),
        ("weight", ValueError, {"weight": (6, 3, 3, 3)}),
        ("weight", ValueError, {"weight": (6, 4, 3)}),
        ("weight", ValueError, {"weight": (6, 4, 9, 3)}),
        ("weight", TypeError, {"weight": None}),
        ("bias", ValueError, {"bias": (5,)}),
        ("bias", TypeError, {"bias": 1.0}),
        ("stride", ValueError, {"stride": 0}),
        ("stride", ValueError, {"stride": (1, 1, 1)}),
        ("stride", TypeError, {"stride": 1.5}),
        ("padding", ValueError, {"padding": -1}),
        ("padding", ValueError, {"padding": "same_lower"}),
        ("padding", ValueError, {"padding": "same", "stride": 2}),
        ("padding[0]", TypeError, {"padding": ((1, 1), (1, 1))}),
        ("dilation[0]", ValueError, {"dilation": (0, 1)}),
        ("groups", ValueError, {"groups": 3}),
        ("groups", TypeError, {"groups": 2.0}),
    ],
    "conv_transpose2d": [
        ("input", ValueError, {"input": (8,)}),
        ("weight", ValueError, {"weight": (5, 4, 3, 3)}),
        ("bias", ValueError, {"bias": (4,)}),
        ("padding", TypeError, {"padding": "same"}),
        ("output_padding", ValueError, {"output_padding": 1}),
        ("groups", ValueError, {"groups": 3}),
    ],
    "unfold": [
        ("input", TypeError, {"input": None}),
        ("input", ValueError, {"input": (8, 8)}),
        ("input", ValueError, {"input": (1, 0, 8, 8)}),
        ("kernel_size", ValueError, {"kernel_size": 9}),
        ("padding", TypeError, {"padding": "same"}),
        ("stride", TypeError, {"stride": None}),
    ],
    "fold": [
        ("input", ValueError, {"input": (2, 10, 36)}),
        ("input", ValueError, {"input": (2, 36, 35)}),
        ("input", ValueError, {"input": (2, 4, 36, 1)}),
        ("output_size", ValueError, {"output_size": (8, 8, 8)}),
        ("output_size", ValueError, {"output_size": 0}),
        ("kernel_size", ValueError, {"kernel_size": (9, 1)}),
    ],
}
USUAL = {
    "conv2d": {"input": (2, 4, 8, 8), "weight": (6, 4, 3, 3)},
    "conv_transpose2d": {"input": (2, 4, 8, 8), "weight": (4, 5, 3, 3)},
    "unfold": {"input": (2, 4, 8, 8), "kernel_size": 3},
    "fold": {"input": (2, 36, 36), "output_size": 8, "kernel_size": 3},
}
ARRAYS = ("input", "weight", "bias")


@pytest.mark.parametrize(
    ("function", "argument", "error", "change"),
    [(function, *case) for function, cases in WRONG.items() for case in cases],
)
def test_the_argument_is_named(torch, door, function, argument, error, change):
    given = {**USUAL[function], **change}
    for name in ARRAYS:
        if isinstance(given.get(name), tuple):
            given[name] = torch.zeros(given[name])
    with pytest.raises(error) as caught:
        getattr(door, function)(**given)
    assert str(caught.value).startswith(f"{argument} must ")


@pytest.mark.parametrize("function", USUAL)
def test_dtypes_and_devices_are_not_mixed(torch, door, function):
    given = {name: torch.zeros(v) if name in ARRAYS else v for name, v in USUAL[function].items()}
    for dtype in (torch.int64, torch.complex64, torch.bool):
        with pytest.raises(TypeError, match=r"^input must have dtype torch\.float16, .*, got torch\."):
            getattr(door, function)(**{**given, "input": given["input"].to(dtype)})
    for wrong in (given["input"].to("meta"), given["input"].to_sparse()):
        with pytest.raises(
            TypeError, match=r"^input must be a dense tensor on the CPU or a CUDA device, it is"
        ):
            getattr(door, function)(**{**given, "input": wrong})
    if "weight" in given:
        with pytest.raises(TypeError, match=r"^weight must have dtype torch\.float32 like input"):
            getattr(door, function)(**{**given, "weight": given["weight"].double()})
        with pytest.raises(TypeError, match=r"^weight must be a dense tensor"):
            getattr(door, function)(**{**given, "weight": given["weight"].to("meta")})
