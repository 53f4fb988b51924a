"""Sums against float64's, over shapes, axes and orders in memory."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import seeds

from proxquant_np.autograd import pairwise_sum

UNIT = 2.0**-24


@st.composite
def arrays(draw):
    """A float32 array in some order in memory, with gaps, reversed or stretched; and axes."""
    lengths = st.sampled_from([1, 2, 3, 8, 40, 129, 700])
    shape = draw(st.lists(lengths, min_size=1, max_size=5).filter(lambda s: math.prod(s) < 2e5))
    rng = np.random.default_rng(draw(seeds))
    kind = draw(st.sampled_from(["equal", "positive", "normal", "spread"]))
    wide = [2 * n for n in shape[:1]] + shape[1:]
    x = {
        "equal": lambda: np.full(wide, rng.random()),
        "positive": lambda: rng.random(wide),
        "normal": lambda: rng.normal(size=wide),
        "spread": lambda: rng.lognormal(0, 3, wide),
    }[kind]().astype(np.float32)
    x = x[draw(st.sampled_from([slice(None), slice(None, None, 2), slice(None, None, -2)]))]
    x = x.transpose(draw(st.permutations(range(x.ndim))))
    if draw(st.booleans()):
        i = draw(st.integers(0, x.ndim - 1))
        x = np.broadcast_to(x.take([0], i), x.shape)
    axes = st.lists(st.integers(0, x.ndim - 1), unique=True).map(tuple)
    axis = draw(st.none() | st.integers(-x.ndim, x.ndim - 1) | axes)
    return x, axis


@given(arrays(), st.booleans())
def test_the_error_is_within_the_bound(drawn, keepdims):
    x, axis = drawn
    total = pairwise_sum(x, axis, keepdims)
    exact = np.sum(x.astype(np.float64), axis, keepdims=keepdims)
    terms = max(1, x.size // max(1, exact.size))
    assert total.dtype == np.float32
    assert np.shape(total) == exact.shape
    within = np.sum(np.abs(x.astype(np.float64)), axis, keepdims=keepdims)
    bound = 19 * math.log2(terms) if terms > 1 else 0
    assert (np.abs(total - exact) <= min(bound, 40) * UNIT * within * (1 + 1e-9)).all()


@pytest.mark.parametrize("n", [1, 2, 64, 127, 128, 129, 130, 191, 255, 257, 8191, 8193, 100_003])
@pytest.mark.parametrize("width", [1, 2, 7, 5000])
def test_every_row_is_added_once(n, width):
    """Powers of two tell rows apart, and integers of any order are exact in float64."""
    n = min(n, 500) if width == 5000 else n
    weights = 2.0 ** (np.arange(n) % 30)
    x = np.repeat(weights[:, None], width, axis=1)
    assert (pairwise_sum(x, 0) == weights.sum()).all()
    for one in (0, n // 2, n - 1):
        x[:] = 0
        x[one] = np.arange(width)
        assert (pairwise_sum(x, 0) == np.arange(width)).all()


def test_ones_beyond_what_float32_can_count():
    x = np.ones((17_000_000, 2), np.float32)
    assert np.add.reduce(x, 0)[0] == 2**24
    assert (pairwise_sum(x, 0) == 17_000_000).all()
    assert pairwise_sum(x) == 34_000_000
    assert (pairwise_sum(np.broadcast_to(np.float32(1), x.shape), 0) == 17_000_000).all()


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((128, 5), 0),
        ((700, 900), 1),
        ((700, 900), None),
        ((16, 3, 20, 20), (0, 2, 3)),
        ((9000,), 0),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_where_numpy_is_right_its_bits_are_kept(shape, axis, dtype):
    x = np.random.default_rng(0).normal(size=shape).astype(dtype)
    assert (pairwise_sum(x, axis) == np.add.reduce(x, axis)).all()


def test_other_dtypes():
    counts = np.full((1000, 2), 2**31, np.int64)
    assert (pairwise_sum(counts, 0) == 1000 * 2**31).all()
    assert pairwise_sum(counts > 0, 0).tolist() == [1000, 1000]
    assert (pairwise_sum(np.full((1000, 2), 1 - 2j, np.complex64), 0) == 1000 - 2000j).all()
    assert pairwise_sum(np.ones((1000, 2), np.float16), 0).tolist() == [1000, 1000]
    assert pairwise_sum(np.ones((0, 3))).item() == 0
    assert pairwise_sum(np.ones((0, 3), np.float32), 0).tolist() == [0, 0, 0]
    assert pairwise_sum(np.ones((300, 0), np.float32), 0).shape == (0,)


def test_what_is_not_finite_stays_so():
    x = np.ones((1000, 3), np.float32)
    x[500] = np.inf, -np.inf, np.nan
    assert pairwise_sum(x, 0)[0] == np.inf
    assert pairwise_sum(x, 0)[1] == -np.inf
    assert np.isnan(pairwise_sum(x, 0)[2])


@pytest.mark.parametrize("axis", [2, -3, (0, 0), (0, -2)])
def test_axes_that_are_not_there(axis):
    for shape in ((2, 3), (1000, 1000)):
        with pytest.raises(ValueError, match="axis"):
            pairwise_sum(np.ones(shape, np.float32), axis)


@pytest.mark.parametrize("axis", [0, 1, 2, (0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)])
def test_every_choice_of_axes_of_an_array_in_c_order(axis):
    x = np.random.default_rng(0).random((150, 3, 151, 2))
    assert np.allclose(pairwise_sum(x, axis), np.sum(x, axis), rtol=1e-12)
