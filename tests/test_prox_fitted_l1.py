"""1-norm distances to fitted levels: against all levels that may be optimal, and direct search."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations_with_replacement

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from prox_strategies import strengths, weights
from scipy.optimize import minimize

from proxquant_np.prox import LevelsL1, MultiBitL1, MultiBitL2, TernaryL1, TernaryL2, fitted
from proxquant_np.prox.brute_force import objective
from proxquant_np.prox.huber import huber, locations

LEVELS = {  # how many magnitudes, and the levels that they make
    TernaryL1(): (2, lambda a: (-a[0], 0, a[1])),
    TernaryL1(symmetric=True): (1, lambda a: (-a[0], 0, a[0])),
    MultiBitL1(1): (1, lambda a: (-a[0], a[0])),
    MultiBitL1(2): (2, lambda a: (-a[0], -a[1], a[1], a[0])),
}
SQUARED = {
    TernaryL1(): TernaryL2(),
    TernaryL1(symmetric=True): TernaryL2(symmetric=True),
    MultiBitL1(1): MultiBitL2(1),
    MultiBitL1(2): MultiBitL2(2, "exact"),
}
every = pytest.mark.parametrize("r", LEVELS, ids=repr)
tiny = weights(shapes=array_shapes(min_dims=1, max_dims=2, max_side=3))


def fixed(r, a):
    """The same regularizer with these magnitudes as its levels, for good."""
    return LevelsL1(sorted(set(LEVELS[r][1](np.abs(a)))))


def pairs(r, candidates):
    """Every choice of magnitudes among the candidates."""
    if LEVELS[r][0] == 1:
        return [(a,) for a in candidates]
    both = list(combinations_with_replacement(candidates, 2))
    return both + [pair[::-1] for pair in both]


@every
@given(w=tiny)
def test_the_value_is_the_distance_to_the_best_levels(r, w):
    """For any codes, levels that are best in the 1-norm are medians: magnitudes of some weights."""
    magnitudes = {0.0, *np.abs(w).astype(np.float64).flat}
    least = min(fixed(r, a).value(w.astype(np.float64)) for a in pairs(r, magnitudes))
    assert r.value(w) == pytest.approx(least, rel=1e-6, abs=1e-12)


@every
@settings(max_examples=10)
@given(w=tiny, s=strengths())
@example(w=np.array([1.0, 0.9, 0.3, -0.25, 0.0, 5.0]), s=0.25)
def test_the_prox_is_no_worse_than_any_levels_found_by_direct_search(r, w, s):
    """Over u by the prox for fixed levels, over the levels by a grid, then downhill."""
    x = w.astype(np.float64)

    def cost(a):
        return objective(fixed(r, a), fixed(r, a).prox(x, s), x, s)

    grid = {0.0, *np.abs(x).flat, *np.linspace(0, np.abs(x).max(), 7)}
    best = min(pairs(r, grid), key=cost)
    if s and np.abs(x).max() > 1e-6:
        best = minimize(cost, best, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 0}).x
    scale = max(1, s) * max(1, float(np.abs(w).max())) ** 2
    assert objective(r, r.prox(w, s), w, s) <= cost(best) + 64 * np.finfo(w.dtype).eps * scale


@every
@pytest.mark.parametrize("s", [0.02, 0.3])
def test_least_squares_levels_do_not_make_the_prox(r, s):
    """Soft steps towards the 2-norm projection cost up to 8% more than the prox, on a Gaussian."""
    w = np.random.default_rng(0).normal(size=400)
    u = r.prox(w, s)
    q = SQUARED[r].project(w)
    naive = w - np.clip(w - q, -s, s)
    assert objective(r, u, w, s) < 0.995 * objective(r, naive, w, s)
    assert (SQUARED[r].project(w) == r.project(w)).all()


@every
@given(w=weights(shapes=array_shapes(min_dims=1, max_dims=2, max_side=6)), s=strengths())
def test_points_of_q_have_value_zero_and_stay(r, w, s):
    q = r.project(w)
    assert r.value(q) == 0
    assert (r.prox(q, s) == q).all()


@every
@given(w=weights(shapes=array_shapes(min_dims=1, max_dims=2, max_side=6)), s=strengths())
def test_no_weight_moves_by_more_than_the_strength_nor_past_its_level(r, w, s):
    u, top = r.prox(w, s), np.abs(w).max()
    assert (np.abs(u - w) <= s + 1e-6 * (s + top)).all()
    assert (np.abs(u) <= top).all()
    assert (r.prox(w, np.inf) == r.project(w)).all()
    assert r.prox(w, 0).tobytes() == w.tobytes()


@every
def test_the_levels_go_from_medians_to_means(r):
    """With a strength above all distances h is a square; with a tiny one, an absolute value."""
    w = np.random.default_rng(1).laplace(size=301)
    rows = w[None]
    assert np.allclose(r.set._fit_huber(rows, np.float64(1e3)), SQUARED[r].levels(w))
    levels = r.set._fit_huber(rows, np.float64(1e-9))[0]  # medians may be intervals
    assert LevelsL1(sorted(set(levels))).value(w) == pytest.approx(r.value(w), abs=1e-7)


def test_one_bit_falls_to_the_median():
    w = np.array([1.0, -2.0, 10.0])
    assert MultiBitL1(1).value(w) == 1 + 8
    assert MultiBitL1(1).prox(w, 0.5).tolist() == [1.5, -2.0, 9.5]  # the Huber location is 2
    assert np.allclose(MultiBitL1(1).prox(w, 100), np.array([1, -1, 1]) * 13 / 3)


@given(
    y=st.lists(st.integers(-8, 8).map(lambda i: i / 4), min_size=1, max_size=9),
    s=st.sampled_from([0.0, 1e-3, 0.25, 1.0, 10.0]),
)
def test_locations_by_their_definition(y, s):
    """The cost at a, and no lower one nearby: it is convex, so that is enough."""
    y = np.sort(np.array(y))[::-1]
    a, cost = locations(y[None], s)
    for m in range(1, len(y) + 1):
        at = a[0, m - 1] + np.array([0, 1e-6, -1e-6])
        near = huber(np.abs(at[:, None] - y[:m]), s).sum(axis=1)
        assert near[0] == pytest.approx(cost[0, m - 1], abs=1e-12)
        assert near[0] <= near.min() + 1e-15


@every
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_channels_and_blocks_are_tensors_of_their_own(r, dtype, monkeypatch):
    w = np.random.default_rng(5).normal(size=(3, 4, 5, 2)).astype(dtype)
    w[0] *= 1e30
    w[1] *= 1e-30
    for tile in (64, 1 << 18):
        monkeypatch.setattr(fitted, "BLOCK_BYTES", tile)
        for s in (1e-31, 0.1, 1e29):
            for axis in (0, 2, -1):
                u = replace(r, axis=axis).prox(w, s)
                for i in range(w.shape[axis]):
                    part = w.take(i, axis)
                    close = {"rtol": 1e-5, "atol": 1e-5 * np.abs(part).max()}
                    assert np.allclose(u.take(i, axis), r.prox(part, s), **close)
            u = replace(r, block=8).prox(w, s)
            for part, got in zip(w.reshape(15, 8), u.reshape(15, 8), strict=True):
                assert np.allclose(got, r.prox(part, s), atol=1e-5 * np.abs(part).max())
    assert replace(r, axis=0).value(w) == pytest.approx(sum(r.value(c) for c in w))


@every
@given(
    w=weights(shapes=array_shapes(min_dims=1, max_dims=2, max_side=6)),
    s=st.sampled_from([0.01, 0.25, 1.0]),
    power=st.integers(-90, 90),
)
def test_scaling_weights_and_strength_by_a_power_of_two_scales_the_prox(r, w, s, power):
    w[np.abs(w) < 1e-6] = 0
    scale = w.dtype.type(2.0**power)
    atol = 1e-5 * float(scale) * max(1, float(np.abs(w).max()))
    got, want = r.prox(w * scale, s * float(scale)), r.prox(w, s) * scale
    assert objective(r, got / scale, w, s) == pytest.approx(
        objective(r, want / scale, w, s), rel=1e-5, abs=1e-5
    )
    assert np.isfinite(got).all()
    assert r.value(w * scale) == pytest.approx(r.value(w) * float(scale), rel=1e-5, abs=atol)


def test_three_bits_are_refused():
    with pytest.raises(ValueError, match="n_bits"):
        MultiBitL1(3)
    with pytest.raises(ValueError, match="axis=0 and block=2"):
        TernaryL1(axis=0, block=2)
