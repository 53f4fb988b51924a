"""Convergence of prox-gradient: its inequalities on random problems, and what they need."""

from __future__ import annotations

from itertools import cycle
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxquant_np.prox import BinaryL1, BinaryL2, LevelsL1, LevelsL2
from proxquant_np.theory import (
    Quadratic,
    Ridge,
    SmoothW,
    f_plus,
    measured_beta,
    prox_gradient,
    quadratic_on_cube,
    random_ridge,
    run_prox_gradient,
)

seeds = st.integers(0, 10**6)
dims = st.integers(1, 4)
lams = st.one_of(st.just(0.0), st.floats(1e-3, 20))
smooth = st.sampled_from([SmoothW(), BinaryL2(), LevelsL2((-1, 0, 1))])
kinked = st.sampled_from([BinaryL1(), LevelsL1((-1, 0, 0.5))])


def random_loss(rng, d):
    kind = rng.integers(3)
    return quadratic_on_cube(rng, d)[0] if kind == 2 else random_ridge(rng, d, convex=kind == 1)


def holds(inequality):
    scale = 1 + np.abs(inequality.left) + np.abs(inequality.right)
    return bool((inequality.slack >= -1e-10 * scale).all())


@given(seeds, dims, lams, smooth)
def test_the_three_inequalities(seed, d, lam, r):
    rng = np.random.default_rng(seed)
    loss = random_loss(rng, d)
    run = run_prox_gradient(loss, r, rng.uniform(-2, 2, d), lam, steps=30)
    assert holds(run.descent())
    assert holds(run.stationarity())
    assert holds(run.rate())


@given(seeds, dims, lams, kinked)
def test_descent_needs_no_gradient_of_the_regularizer(seed, d, lam, r):
    rng = np.random.default_rng(seed)
    run = run_prox_gradient(random_loss(rng, d), r, rng.uniform(-2, 2, d), lam, steps=30)
    assert holds(run.descent())


@given(seeds, dims, lams, smooth)
def test_a_third_of_the_step_has_the_constant_16(seed, d, lam, r):
    """lr = 1/(3 beta) is the run that believes in 3/2 beta."""
    rng = np.random.default_rng(seed)
    loss = random_loss(rng, d)
    run = run_prox_gradient(loss, r, rng.uniform(-2, 2, d), lam, 30, beta=1.5 * loss.beta)
    best, bound = run.rate()
    assert (best <= bound / (18 * 1.5) * 16 * (1 + 1e-9) + 1e-12).all()


def test_the_descent_constant_is_reached():
    """L = x^2/2 - x/2 leads from -1/2 to 0, where the prox may go back or, as it does, to 1/2."""
    loss = Quadratic(np.eye(1), np.array([-0.5]))
    run = run_prox_gradient(loss, BinaryL1(), np.array([-0.5]), 1.0, 1)
    assert run.iterates[1] == 0.5
    assert run.descent().left == run.descent().right == 0.375


def test_the_stationarity_constant_is_reached():
    """L = -x^2/2 has w_1 = 3/2 w_0: grad F(w_1) is -3/2 w_0, and 3 |D| is 3/2 |w_0|."""
    loss = Quadratic(-np.eye(1), np.zeros(1))
    run = run_prox_gradient(loss, BinaryL2(), np.ones(1), 0.0, 1)
    assert run.stationarity().left == run.stationarity().right == 1.5


# Companions


def test_steps_too_large_climb():
    """beta understated tenfold: lr = 5 / beta. The last two inequalities fall with the first."""
    rng = np.random.default_rng(0)
    loss, w = quadratic_on_cube(rng, 3)[0], rng.uniform(-1, 1, 3)
    run = run_prox_gradient(loss, SmoothW(), w, 0.1, 30, beta=loss.beta / 10)
    descent = run.descent()
    assert not holds(descent) and descent.left.max() > run.objective()[0]
    assert not holds(run.stationarity()) and not holds(run.rate())


def test_gradients_of_batches_climb():
    """Half of the loss at a time: each leads away from the minimum of their sum, so F rises."""
    full = Ridge(np.array([[1.0], [1.0]]), np.array([-1.0, 1.0]))  # least at 0
    halves = cycle([Ridge(full.a[i : i + 1], full.t[i : i + 1]) for i in (0, 1)])
    loss = SimpleNamespace(
        value=full.value, gradient=lambda w: 2 * next(halves).gradient(w), beta=full.beta, lower=0.0
    )
    run = run_prox_gradient(loss, SmoothW(), np.zeros(1), 0.0, 50)
    assert not holds(run.descent())
    exact = run_prox_gradient(full, SmoothW(), np.zeros(1), 0.0, 50)
    assert holds(exact.descent()) and not exact.moves().any()


class HalfProx(SmoothW):
    """An inexact prox: halfway between the argument and the argmin."""

    def _prox(self, x, s, out, tmp):
        super()._prox(x, s, out, tmp)
        out[...] = (x + out) / 2


class GradientStep(SmoothW):
    """An inexact prox: a gradient step on R, a good one only for small strengths."""

    def _prox(self, x, s, out, tmp):
        out[...] = x - s * self.gradient(x)


@pytest.mark.parametrize("r", [HalfProx(), GradientStep()], ids=["half", "gradient step"])
def test_an_inexact_prox_climbs(r):
    """L leads to 2, lambda R to 1; the exact prox balances them."""
    loss = Quadratic(np.eye(1), np.array([-2.0]))
    w, steps = np.array([0.6]), 3
    exact = run_prox_gradient(loss, SmoothW(), w, 5.0, steps)
    inexact = run_prox_gradient(loss, r, w, 5.0, steps)
    assert holds(exact.descent()) and holds(exact.stationarity())
    assert not holds(inexact.descent())
    assert not holds(inexact.stationarity())


def test_a_regularizer_with_kinks_stops_where_no_gradient_vanishes():
    """BinaryL1 holds w at 1 against grad L = 1/2: D = 0, but both one-sided slopes of F are not."""
    loss = Quadratic(np.eye(1), np.array([-0.5]))
    run = run_prox_gradient(loss, BinaryL1(), np.ones(1), 2.0, 3)
    assert not run.moves().any()
    assert 0 not in loss.gradient(np.ones(1)) + 2.0 * np.array([-1, 1])
    with pytest.raises(TypeError, match="regularizer is BinaryL1"):
        run.stationarity()


def test_a_loss_with_kinks_has_no_beta():
    """On f+ the gradient never falls, whatever beta the step is made from."""
    f = SimpleNamespace(value=f_plus.value, gradient=f_plus.gradient, lower=-0.5)
    for beta in (0.5, 2.0, 8.0):
        run = run_prox_gradient(f, SmoothW(), np.array([0.3]), 0.0, 400, beta=beta)
        assert (run.gradient_norms() == 1).all() and not holds(run.rate())


# prox_gradient and beta


def test_prox_gradient_maps_after_moving():
    w = prox_gradient(lambda w: w, BinaryL1(), [0.5, -0.25], 0.5, [0.25, 0.0])
    assert w.tolist() == [[0.5, -0.25], [0.375, -0.25], [0.1875, -0.125]]


@given(seeds, dims)
def test_measured_beta_of_a_quadratic_is_beta(seed, d):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(d, d))
    loss = Quadratic(a + a.T, rng.normal(size=d))
    beta = measured_beta(loss.gradient, rng.normal(size=d), rng, iterations=300)
    assert beta <= loss.beta * (1 + 1e-8)
    assert beta >= loss.beta * 0.97  # slow where eigenvalues nearly tie


@given(seeds, dims, st.booleans())
def test_measured_beta_is_a_lower_bound_that_grows(seed, d, convex):
    loss = random_ridge(np.random.default_rng(seed), d, convex)
    w = np.random.default_rng(seed).normal(size=d)
    measured = [
        measured_beta(loss.gradient, w, np.random.default_rng(1), iterations=n) for n in (1, 3, 20)
    ]
    assert measured[0] <= measured[1] * (1 + 1e-6) and measured[1] <= measured[2] * (1 + 1e-6)
    assert measured[2] <= loss.beta * (1 + 1e-6)


def test_measured_beta_at_competing_and_vanishing_curvature():
    rng = np.random.default_rng(0)
    saddle = Quadratic(np.diag([2.0, -2.0, 1.0]), np.zeros(3))
    assert np.isclose(measured_beta(saddle.gradient, np.zeros(3), rng), 2, rtol=1e-6)
    assert measured_beta(lambda w: np.ones(2), np.zeros(2), rng) == 0
