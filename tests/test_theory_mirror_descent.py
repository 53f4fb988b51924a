"""Lazy training with tanh: the same iterates as mirror descent, its argmin, its regret."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from proxquant_np.prox import TanhMirror, sign_pm
from proxquant_np.theory import (
    by_projection,
    f_plus,
    mirror_descent,
    mirror_regret,
    random_ridge,
)

seeds = st.integers(0, 10**6)
temperatures = st.sampled_from([0.25, 1.0, 4.0])


def lazy(gradient, z0, lrs, b):
    return by_projection(gradient, z0, lrs, lambda z: TanhMirror().prox(z, b))


@given(seeds, temperatures)
def test_lazy_with_tanh_is_mirror_descent(seed, b):
    """Two codes that share nothing: one adds to latents, the other multiplies odds."""
    rng = np.random.default_rng(seed)
    loss, z0, lrs = random_ridge(rng, 3, True), rng.normal(size=3), rng.uniform(0.01, 0.3, 30)
    run = lazy(loss.gradient, z0, lrs, b)
    twin = mirror_descent(loss.gradient, np.tanh(b * z0), lrs, b)
    # Odds at 1 - 4e-8, as some seeds reach, have lost eight digits.
    assert np.allclose(run.iterates, twin, rtol=0, atol=1e-5)


def bregman(u, w, b):
    def h(x):
        return ((1 + x) * np.log1p(x) + (1 - x) * np.log1p(-x)) / (2 * b)

    return h(u) - h(w) - np.arctanh(w) / b * (u - w)


@settings(max_examples=30)
@given(st.floats(-0.95, 0.95), st.floats(-3, 3), temperatures)
def test_each_step_is_the_argmin(w, g, b):
    lr, grid = 0.25, np.linspace(-1, 1, 40_001)[1:-1]
    got = mirror_descent(lambda w: np.array([g]), np.array([w]), [lr], b)[1, 0]
    cost = lr * g * grid + bregman(grid, w, b)
    assert lr * g * got + bregman(got, w, b) <= cost.min() + 1e-9


@given(seeds, temperatures, st.floats(0.01, 2))
def test_its_regret_keeps_its_bound(seed, b, lr):
    """For arbitrary vectors, against every point of the cube, corners included."""
    rng = np.random.default_rng(seed)
    vectors = iter(rng.normal(size=(40, 3)))
    run = lazy(lambda w: next(vectors), np.zeros(3), [lr] * 40, b)
    for x in (rng.uniform(-1, 1, 3), sign_pm(rng.normal(size=3))):
        assert (mirror_regret(run, [lr] * 40, x, b).slack >= -1e-9).all()


def test_each_half_of_the_bound_is_reached():
    """ln 2 / b: steps of nothing, against a corner, leave it all; b/2: one small step near 0."""
    b, small = 4.0, 1e-4
    assert np.isclose(bregman(1 - 1e-12, 0.0, b), np.log(2) / b)
    w = np.tanh(b * small)  # one step with g = -1: what it gains is lr^2 b / 2 twice over
    gained = small * w - bregman(w, 0.0, b)
    assert np.isclose(gained, b / 2 * small**2, rtol=1e-4)


def test_the_bound_is_reached_by_small_steps_towards_a_corner():
    """sum lr (1 - tanh(b z_s)) tends to the integral of 1 - tanh(b z), which is ln 2 / b."""
    b, lr = 2.0, 2.0**-10
    run = lazy(lambda w: -np.ones(1), np.zeros(1), [lr] * 4000, b)
    left, right = mirror_regret(run, [lr] * 4000, np.ones(1), b)
    assert 0.98 * right[-1] < left[-1] <= right[-1]
    assert np.allclose(np.diff(right), b / 2 * lr**2)


# Companions


def test_a_map_without_a_mirror_is_not_it():
    """sin in the place of tanh: another map, other iterates."""
    run = by_projection(f_plus.gradient, np.zeros(1), [0.25] * 5, np.sin)
    twin = mirror_descent(f_plus.gradient, np.zeros(1), [0.25] * 5, 1.0)
    assert not np.allclose(run.iterates, twin, atol=1e-3)


def test_as_the_temperature_falls_it_becomes_binary_connect_and_loses_its_regret():
    lrs, z0 = [0.0625] * 400, np.array([0.03125])
    hard = by_projection(f_plus.gradient, z0, lrs, sign_pm)
    cold = lazy(f_plus.gradient, z0, lrs, 1e4)
    assert np.allclose(cold.iterates, hard.iterates)
    warm = lazy(f_plus.gradient, np.zeros(1), lrs, 1.0)
    best = np.array([-1.0])
    averages = [
        float(((run.gradients * (run.iterates[:-1] - best)).sum()) / 400) for run in (warm, cold)
    ]
    assert averages[0] < 0.6 < 0.9 < averages[1]
