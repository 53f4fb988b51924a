"""Convergence of prox-gradient: its inequalities on random problems, and what they need."""

from __future__ import annotations

from itertools import cycle
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prox_strategies import strengths, weights

from proxquant_np.prox import BinaryL1, BinaryL2, LevelsL1, LevelsL2
from proxquant_np.prox.brute_force import prox_fault
from proxquant_np.theory import (
    Quadratic,
    Ridge,
    RoundedW,
    SmoothW,
    f_plus,
    measured_beta,
    prox_gradient,
    quadratic_on_cube,
    random_ridge,
    rate_constant,
    run_prox_gradient,
)

seeds = st.integers(0, 10**6)
dims = st.integers(1, 4)
lams = st.one_of(st.just(0.0), st.floats(1e-3, 20))
smooth = st.sampled_from(
    [SmoothW(), RoundedW(0.5), RoundedW(0.1), BinaryL2(), LevelsL2((-1, 0, 1))]
)
kinked = st.sampled_from([BinaryL1(), LevelsL1((-1, 0, 0.5))])


def random_loss(rng, d):
    kind = rng.integers(3)
    return quadratic_on_cube(rng, d)[0] if kind == 2 else random_ridge(rng, d, convex=kind == 1)


def holds(inequality):
    scale = 1 + np.abs(inequality.left) + np.abs(inequality.right)
    return bool((inequality.slack >= -1e-10 * scale).all())


@given(seeds, dims, lams, smooth)
def test_the_five_inequalities(seed, d, lam, r):
    rng = np.random.default_rng(seed)
    loss = random_loss(rng, d)
    run = run_prox_gradient(loss, r, rng.uniform(-2, 2, d), lam, steps=30)
    for inequality in (run.descent, run.stationarity, run.progress, run.rate, run.best):
        assert holds(inequality())


@given(seeds, dims, lams, kinked)
def test_descent_needs_no_gradient_of_the_regularizer(seed, d, lam, r):
    rng = np.random.default_rng(seed)
    run = run_prox_gradient(random_loss(rng, d), r, rng.uniform(-2, 2, d), lam, steps=30)
    assert holds(run.descent())


def with_step(loss, r, w, lam, steps, c):
    """The run with lr = 1/(c beta): the one that believes in c/2 beta."""
    return run_prox_gradient(loss, r, w, lam, steps, beta=c / 2 * loss.beta)


@given(seeds, dims, lams, smooth, st.sampled_from([1, 1.5, 3, 10]))
def test_other_steps_have_other_constants(seed, d, lam, r, c):
    rng = np.random.default_rng(seed)
    loss = random_loss(rng, d)
    run = with_step(loss, r, rng.uniform(-2, 2, d), lam, 30, c)
    least = np.minimum.accumulate(run.gradient_norms() ** 2)
    gap = run.objective()[0] - loss.lower
    bound = rate_constant(c) * loss.beta * gap / np.arange(1, 31)
    assert (least <= bound * (1 + 1e-9) + 1e-12).all()
    assert rate_constant(2) == 6  # the one of `rate`


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


def tie(lam, c=2):
    """L = -x^2/2 + b x and BinaryL2: w_0 is stationary, but its prox ties with the other valley.

    So the run has progress and nothing else: with D = w_1 - w_0, F falls by (c + 1)/2 D^2 and the
    gradient becomes -(c + 1) D. b is moved by a hair, so that the prox takes the far side.
    """
    far = 2 * lam / (lam + c)
    w = -1 + c / 2 * far / lam
    loss = Quadratic(-np.eye(1), np.array([w - lam * (w + 1) - 1e-9]))
    run = with_step(loss, BinaryL2(), np.array([w]), lam, 1, c)
    assert np.isclose(run.iterates[1], w + far)
    valley = (loss.b - lam) / (1 - lam)  # where F is least
    return run, float(loss.value(valley) + lam * BinaryL2().value(valley))


def test_the_progress_constant_is_reached():
    progress = tie(10.0)[0].progress()
    assert np.isclose(progress.left, progress.right, rtol=1e-6)
    assert np.isclose(progress.left, 25, rtol=1e-6)


@pytest.mark.parametrize("c", [1.0, 2.0, 3.0])
def test_no_smaller_constant_of_the_rate_will_do(c):
    """F* a little below F(w_1), if R is steep: the ratio is 2 (c + 1) / (1 + (c + 1)/(lam - 1))."""
    for lam in (100.0, 1e4):
        run, least = tie(lam, c)
        ratio = run.gradient_norms()[0] ** 2 / (run.objective()[0] - least)
        assert np.isclose(ratio, rate_constant(c) / (1 + (c + 1) / (lam - 1)), rtol=1e-4)
    assert ratio > 0.99 * rate_constant(c)


def test_both_bounds_of_a_run_are_what_is_reached():
    """`rate` and `best` of the run of `tie`, told where F is least: left is 0.99 of right."""
    run, least = tie(1e4)
    loss = SimpleNamespace(
        value=run.loss.value, gradient=run.loss.gradient, beta=run.beta, lower=least
    )
    told = run_prox_gradient(loss, BinaryL2(), run.iterates[0], 1e4, 5)
    for left, right in (told.rate(), told.best()):
        assert 0.99 * right[0] < left[0] <= right[0]
    assert np.allclose(told.rate().right * np.arange(1, 6), told.rate().right[0])
    assert np.allclose(told.best().right * np.arange(3, 8) / 3, told.rate().right[0])


def test_at_the_smallest_move_one_step_is_worth_six_and_many_are_worth_eighteen():
    """18 / (t + 2) is 6 at t = 1, where `tie` comes near it; later, what its proof adds up.

    A step is worth (3 - 2k + k^2)/4 of beta D^2 in F and leaves a gradient of (2 - k) beta D, for
    some k in [-1, 1]; other steps are worth 1/2 at least. Of all k the worst is -1.
    """
    run, least = tie(1e4)
    bound = 18 * run.beta * (run.objective()[0] - least) / 3
    assert 0.99 * bound < run.gradient_norms()[0] ** 2 < bound
    assert np.isclose(run.best().right[0], run.rate().right[0])
    k = np.linspace(-1, 1, 2001)
    for t in (1, 2, 10, 1000):
        worst = (2 - k) ** 2 / ((3 - 2 * k + k**2) / 4 + (t - 1) / 2)
        assert np.isclose(worst.max(), 18 / (t + 2)) and worst.argmax() == 0


@given(seeds, dims)
def test_the_finer_descent_lemma(seed, d):
    """That of `progress`, for any loss: what makes 6 of the 18 that the other two would give."""
    rng = np.random.default_rng(seed)
    loss, (x, y) = random_loss(rng, d), rng.uniform(-2, 2, (2, d))
    e, far = loss.gradient(y) - loss.gradient(x), y - x
    finer = e @ far / 2 + loss.beta / 4 * far @ far - e @ e / (4 * loss.beta)
    rise = loss.value(y) - loss.value(x) - loss.gradient(x) @ far
    assert rise <= finer + 1e-9 <= loss.beta / 2 * far @ far + 2e-9


def test_the_finer_descent_lemma_is_reached_by_either_curvature():
    for sign in (1, -1):
        loss, x, y = Quadratic(sign * np.eye(1), np.zeros(1)), np.array([0.5]), np.array([2.0])
        e, far = loss.gradient(y) - loss.gradient(x), y - x
        rise = loss.value(y) - loss.value(x) - loss.gradient(x) @ far
        assert rise == (e @ far / 2 + far @ far / 4 - e @ e / 4)


@pytest.mark.parametrize("c", [0.99, 0, -1, float("nan")])
def test_larger_steps_have_no_constant(c):
    with pytest.raises(ValueError, match="c must be a number >= 1, got"):
        rate_constant(c)


def test_a_step_beyond_one_over_beta_may_climb():
    """Companion of c >= 1: the step ends at 0, and the prox takes the valley further up."""
    for c, rise in ((0.9, 0.05), (1.0, 0.0), (1.1, -0.05)):
        loss, w = Quadratic(np.eye(1), np.array([(1 - c) / 2])), np.array([-0.5])
        run = with_step(loss, BinaryL1(), w, c / 2, 1, c)
        assert np.isclose(run.iterates[1], 0.5)
        assert np.isclose(np.diff(run.objective()), rise, atol=1e-12)


# The rounded W, Remark 5.1


@given(st.sampled_from([0.5, 0.25, 0.01]), seeds)
def test_the_rounded_w_is_as_near_to_the_w_as_one_likes(delta, seed):
    r, w = RoundedW(delta), np.random.default_rng(seed).uniform(-3, 3, 200)
    below = np.array([BinaryL1().value([x]) - r.value([x]) for x in w])
    assert (below >= -1e-15).all() and (below <= delta).all()
    assert r.value([0.0]) == 1 - delta and r.value([1.0, -1.0]) == 0
    x, y = w[:100], w[100:]
    assert (np.abs(r.gradient(x) - r.gradient(y)) <= np.abs(x - y) / delta + 1e-12).all()


@given(st.sampled_from([0.5, 0.25, 0.01]), weights(), strengths())
def test_the_rounded_w_has_an_exact_prox(delta, w, s):
    assert prox_fault(RoundedW(delta).prox, RoundedW(delta), w, s) is None


def test_the_rounded_w_refuses_what_leaves_no_straight_part():
    with pytest.raises(ValueError, match=r"delta must be a number > 0 and <= 0\.5, got 0\.6"):
        RoundedW(0.6)


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
    with pytest.raises(
        TypeError, match="regularizer must be a smooth W or an L2 distance, got BinaryL1"
    ):
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


def test_a_plain_function_has_iterates_but_no_objective():
    loss, w, r = Quadratic(np.eye(2), np.array([0.5, -2.0])), np.zeros(2), BinaryL1()
    run = run_prox_gradient(loss, lambda w, s: r.prox(w, s), w, lam=0.25, steps=5)
    same = run_prox_gradient(loss, r, w, lam=0.25, steps=5)
    assert run.iterates.tobytes() == same.iterates.tobytes()
    with pytest.raises(TypeError, match="plain function"):
        run.descent()
