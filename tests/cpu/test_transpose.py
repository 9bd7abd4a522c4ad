"""The transposed convolution: taps by hand, adjointness, PyTorch, and what its gradients are gradients of."""

from __future__ import annotations

import importlib.util
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpuconv
from gpuconv.layout import FROM_COMMON, common_view
from gpuconv.options import TransposedOptions
from gpuconv.validate import tolerance

from ..conftest import FULL
from ..problems import DISGUISES, NUMPY, disguise
from ..transposed import Transposed, by_taps, transposed

SOME = 4_000 if FULL else 300
SEEDS = st.integers(0, 2**32 - 1)

#: Output paddings from the stride on: the convolution has more outputs than there are inputs.
RAGGED = (
    Transposed(2, 3, 2, 3, 4, 2, 2, dilation=(2, 3), output_padding=(1, 2)),
    Transposed(1, 2, 4, 3, 2, 2, 3, (2, 1), ((1, 0), (0, 1)), (4, 3), (5, 4), 2, "nhwc", "ohwi", "f16"),
    Transposed(1, 1, 1, 1, 1, 1, 1, padding=((1, 0), (1, 0)), dilation=(3, 3), output_padding=(2, 2)),
)


def test_worked_example():
    """Dive into Deep Learning, "Transposed Convolution": a kernel for each input, added where they meet."""
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    for data_format, shape, taps in (
        ("NCHW", (1, 1, 2, 2), (1, 1, 2, 2)),
        ("NHWC", (1, 2, 2, 1), (2, 2, 1, 1)),
    ):
        plain = partial(gpuconv.conv_transpose2d, x.reshape(shape), x.reshape(taps), data_format=data_format)
        assert plain().squeeze().tolist() == [[0, 0, 1], [0, 4, 6], [4, 12, 9]]
        assert plain(padding=1).squeeze().tolist() == 4
        assert plain(stride=2).squeeze().tolist() == [[0, 0, 0, 1], [0, 0, 2, 3], [0, 2, 0, 3], [4, 6, 6, 9]]


def test_it_undoes_a_shape():
    """Convolved and back, Dive into Deep Learning's 10 channels of 16×16 have that size again."""
    x = np.ones((1, 10, 16, 16), np.float32)
    w = np.ones((20, 10, 5, 5), np.float32)
    y = gpuconv.conv2d(x, w, padding=2, stride=3)
    assert gpuconv.conv_transpose2d(y, w, padding=2, stride=3).shape == x.shape
    assert gpuconv.conv_transpose2d(y, w, padding=2, stride=3, output_padding=2).shape == (1, 10, 18, 18)


def test_transposition_of_a_matrix():
    """The convolution as a matrix, and the transposed one as that matrix transposed."""
    w = np.array([[1, 2], [3, 4]], np.float32)[None, None]
    cells, results = (np.eye(n, dtype=np.float32) for n in (9, 4))
    matrix = gpuconv.conv2d(cells.reshape(9, 1, 3, 3), w).reshape(9, 4).T
    back = gpuconv.conv_transpose2d(results.reshape(4, 1, 2, 2), w).reshape(4, 9).T
    np.testing.assert_array_equal(back, matrix.T)


@settings(max_examples=SOME)
@given(transposed(), SEEDS)
def test_integers_are_exact(t, seed):
    x, w, _ = t.integers(seed)
    exact = by_taps(t, x, w).astype(NUMPY[t.dtype])
    np.testing.assert_array_equal(gpuconv.conv_transpose2d(x, w, **t.options), exact, strict=True)


@settings(max_examples=SOME)
@given(transposed(dtype="f64"), SEEDS)
def test_gradients_are_adjoint(t, seed):
    """⟨grad, f(x, w)⟩ = ⟨grad_x, x⟩ = ⟨grad_w, w⟩, exactly on integers."""
    x, w, grad = t.integers(seed)
    value = (gpuconv.conv_transpose2d(x, w, **t.options) * grad).sum()
    grad_x = gpuconv.conv_transpose2d_input_grad(w, grad, **t.options)
    grad_w = gpuconv.conv_transpose2d_weight_grad(x, w.shape, grad, **t.options)
    assert grad_x.shape == x.shape
    assert grad_x.flags.c_contiguous
    assert grad_w.shape == w.shape
    assert (grad_x * x).sum() == value
    assert (grad_w * w).sum() == value


@settings(max_examples=SOME)
@given(transposed(dtype="f64", output_padding=(0, 0)), SEEDS)
def test_it_is_adjoint_to_the_convolution(t, seed):
    x, w, image = t.integers(seed)
    options = {key: value for key, value in t.options.items() if key != "output_padding"}
    there = gpuconv.conv2d(image, w, **options)
    assert there.shape == x.shape
    assert (there * x).sum() == (gpuconv.conv_transpose2d(x, w, **options) * image).sum()


@settings(max_examples=SOME)
@given(transposed(), SEEDS, st.booleans(), st.booleans(), st.sampled_from([None, "relu"]), st.data())
def test_the_epilogue_on_floats_stays_within_the_bound(t, seed, bias, residual, activation, data):
    rng = np.random.default_rng(seed)
    x_shape, w_shape, shape = t.shapes
    kind = NUMPY[t.dtype]
    x, w = (rng.standard_normal(shape).astype(kind) for shape in (x_shape, w_shape))
    extra = {
        "bias": rng.standard_normal(t.C).astype(kind) if bias else None,
        "residual": rng.standard_normal(shape).astype(kind) if residual else None,
    }
    how = data.draw(st.sampled_from([how for how in DISGUISES if how != "read-only"]))
    out = disguise(np.full(shape, np.nan, kind), how)
    given_ = {"x": disguise(x, how), "w": disguise(w, how)}
    assert gpuconv.conv_transpose2d(**given_, **extra, activation=activation, out=out, **t.options) is out
    options = TransposedOptions(**t.options)
    p = options.problem(
        "dgrad", ("x", x_shape), ("w", w_shape), t.dtype, bias=bias, residual=residual, activation=activation
    )
    # what the input lacks of the problem's is zeros
    high, wide = (more - size for more, size in zip((p.P, p.Q), (t.H, t.W), strict=True))
    x = np.pad(common_view(x.astype(np.float64), t.layout), ((0, 0), (0, 0), (0, high), (0, wide)))
    a = x.transpose(FROM_COMMON[t.layout]).astype(kind)
    verdict = tolerance.judge(p, np.ascontiguousarray(out).astype(kind), a, w, **extra)
    assert verdict.ok, f"{t}: {verdict}"


@pytest.mark.parametrize("t", RAGGED, ids=str)
def test_cells_that_no_input_reaches(t):
    x, w, grad = t.integers(0)
    kind, shape = NUMPY[t.dtype], t.shapes[2]
    bias = np.arange(1, t.C + 1).astype(kind)
    expected = by_taps(t, x, w)
    along = [1, 1, 1, 1]
    along[t.layout.index("c")] = t.C
    residual = np.full(shape, 2, kind)
    y = gpuconv.conv_transpose2d(x, w, bias, residual=residual, **t.options)
    np.testing.assert_array_equal(y, expected + bias.reshape(along) + 2)
    # their gradients meet no input, a NaN included on its way to the input
    height, width = t.size
    rows = common_view(grad, t.layout)
    clean = gpuconv.conv_transpose2d_input_grad(w, grad, **t.options)
    rows[:, :, height - 1] = rows[..., width - 1] = np.nan
    np.testing.assert_array_equal(gpuconv.conv_transpose2d_input_grad(w, grad, **t.options), clean)
    out = np.full_like(x, np.nan)
    assert gpuconv.conv_transpose2d_input_grad(w, grad, out=out, **t.options) is out
    np.testing.assert_array_equal(out, clean)


def test_a_warm_call_is_no_other_call():
    """Input gradient and transposed convolution of the same shapes are different problems."""
    x, w = np.ones((1, 2, 5, 5), np.float32), np.ones((2, 2, 3, 3), np.float32)
    w[0, 1] = 5
    for _ in range(2):
        back = gpuconv.conv_transpose2d(x, w, padding=1)
        grad = gpuconv.conv2d_input_grad((1, 2, 5, 5), w, x, padding=1)
        forth = gpuconv.conv_transpose2d_input_grad(w, x, padding=1)
        np.testing.assert_array_equal(back, grad)
        np.testing.assert_array_equal(forth, gpuconv.conv2d(x, w, padding=1))
        assert (back != forth).any()
        assert gpuconv.conv_transpose2d(x, w, padding=1, stride=2, output_padding=1).shape == (1, 2, 10, 10)
        assert gpuconv.conv_transpose2d(x, w, padding=1, stride=2).shape == (1, 2, 9, 9)


def test_a_gradient_of_no_output_is_told_which_there_are():
    w, grad = np.ones((6, 4, 3, 3), np.float32), np.ones((2, 4, 8, 8), np.float32)
    with pytest.raises(
        ValueError, match=r"^grad_out must have the height of .* 3 plus a multiple of the stride 2"
    ):
        gpuconv.conv_transpose2d_input_grad(w, grad, stride=2)
    with pytest.raises(ValueError, match=r"^grad_out must have shape \(2, 4, 7, 7\)"):
        gpuconv.conv_transpose2d_weight_grad(np.ones((2, 6, 3, 3), np.float32), w.shape, grad, stride=2)


@pytest.fixture(scope="module")
def torch(need):
    if importlib.util.find_spec("torch") is None:
        need("torch", "PyTorch is not installed")
    import torch

    return torch


def test_torch_agrees(torch):
    @settings(max_examples=SOME)
    @given(transposed(layout="nchw", weights="oihw", dtype="f64"), SEEDS)
    def run(t, seed):
        t = Transposed(
            **{**vars(t), "N": max(t.N, 1), "padding": tuple((min(sides),) * 2 for sides in t.padding)}
        )
        x, w, grad = t.integers(seed)
        theirs_x, theirs_w = (torch.from_numpy(array).requires_grad_() for array in (x, w))
        options = {name: value for name, value in t.options.items() if "format" not in name}
        options["padding"] = tuple(side for side, _ in t.padding)
        theirs = torch.nn.functional.conv_transpose2d(theirs_x, theirs_w, **options)
        theirs.backward(torch.from_numpy(grad))
        for ours, other in (
            (gpuconv.conv_transpose2d(x, w, **options), theirs.detach()),
            (gpuconv.conv_transpose2d_input_grad(w, grad, **options), theirs_x.grad),
            (gpuconv.conv_transpose2d_weight_grad(x, w.shape, grad, **options), theirs_w.grad),
        ):
            np.testing.assert_array_equal(ours, other.numpy(), strict=True)

    run()
