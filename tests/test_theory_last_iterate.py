"""The last iterate of lazy training with a convex regularizer; what convexity and laziness do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxquant_np.prox import BinaryL1, Constant, PiecewiseAffine
from proxquant_np.theory import (
    Kink,
    by_aggregate_prox,
    f_plus,
    last_iterate_bound,
    last_iterate_step,
    prox_gradient,
    random_ridge,
    regret,
)
from proxquant_np.theory.last_iterate import _harmonic

seeds = st.integers(0, 10**6)
PAR = PiecewiseAffine([0, 1, 2], [0.5, 1.0])


def problem(rng, d):
    """A convex loss, lam, G of the whole on the domain of R, and the best of many points."""
    shift = rng.uniform(-2, 2, d)
    loss = Kink(-shift) if rng.integers(2) else random_ridge(rng, d, convex=True)
    lam = rng.uniform(0, 2)
    big = np.sqrt(d) if isinstance(loss, Kink) else np.linalg.norm(loss.gradient_bound)
    return loss, lam, big + lam * PAR.slopes[-1] * np.sqrt(d)


def objective(loss, lam, w):
    r = BinaryL1() if loss is f_plus else PAR
    return float(loss.value(w)) + lam * r.value(w)


@settings(max_examples=60)
@given(seeds, st.sampled_from([1, 2, 5, 30, 150]), st.sampled_from([0.3, 1.0, 3.0]))
def test_the_last_iterate_and_the_regret_keep_their_bounds(seed, steps, factor):
    """Against every comparator, so also against the minimiser."""
    rng = np.random.default_rng(seed)
    d = int(rng.integers(1, 4))
    loss, lam, big = problem(rng, d)
    z0, x = rng.uniform(-2, 2, (2, d))
    far = float(np.linalg.norm(x - z0))
    lr = factor * last_iterate_step(far, big, steps)
    run = by_aggregate_prox(loss.gradient, PAR, z0, [lr] * (steps - 1), lam)
    gaps = np.array([objective(loss, lam, w) for w in run.iterates]) - objective(loss, lam, x)
    assert gaps[-1] <= last_iterate_bound(far, big, steps, lr) + 1e-9
    for a in range(steps):  # the regret, and that of every suffix against its own start
        start = far**2 / 2 if a == 0 else 0.0
        suffix = gaps[a:] - (0 if a == 0 else gaps[a])
        assert lr * suffix.sum() <= start + (steps - a) * lr**2 * big**2 / 2 + 1e-9


def test_the_bound_is_reached_by_one_step():
    """F falls by G all the way from z_0 to x: what the first iterate, z_0, misses is D G."""
    for far, slope in ((1.0, 2.0), (0.5, 3.0)):
        assert np.isclose(last_iterate_bound(far, slope, 1), far * slope)


def test_the_inequality_of_a_step_is_reached():
    """On R with g = -1: the regret bound of `regret` is reached, which this one is with lam = 0."""
    everywhere = PiecewiseAffine([0, 9], [0])  # the interval [-9, 9], and 0 inside
    run = by_aggregate_prox(lambda w: -np.ones(1), everywhere, np.zeros(1), [1.0], 1.0)
    both = regret(run, [1.0], np.array([1.0]))
    assert (both.left, both.right) == (1, 1)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30))
def test_the_identity_of_the_last_of_t_numbers(q):
    t = len(q)
    total = np.mean(q)
    for k in range(1, t):
        total += sum(q[s] - q[t - 1 - k] for s in range(t - 1 - k, t)) / (k * (k + 1))
    assert np.isclose(total, q[-1], atol=1e-9)


@given(st.floats(0.1, 5), st.floats(0.1, 5), st.sampled_from([1, 2, 7, 100]))
def test_the_step_is_the_best_one(far, big, steps):
    lr, least = last_iterate_step(far, big, steps), last_iterate_bound(far, big, steps)
    assert np.isclose(least, far * big * np.sqrt((1 + _harmonic(steps - 1)) / steps))
    for factor in (0.9, 1.1):
        assert last_iterate_bound(far, big, steps, factor * lr) > least
    # Theirs, with 2 + ln T and a root of 2 more
    assert least <= far * big * np.sqrt(2 * (2 + np.log(steps)) / steps)


def test_it_ends_quantized_where_the_average_does_not():
    """F = |w - 0.4| + R is least at 0, a level: the last iterate is there, exactly."""
    run = by_aggregate_prox(
        Kink(-0.4).gradient, PiecewiseAffine([0, 1], [1.5]), np.array([0.9]), [0.05] * 200, 1.0
    )
    assert run.iterates[-1] == 0 != run.iterates.mean()


# Companions


def test_with_the_w_it_flips_for_ever():
    """R not convex: once the steps add up to 1 its map is the sign, and the gap returns to 1."""
    lr = last_iterate_step(1.1, 1.0 + 3.0, 2000)
    run = by_aggregate_prox(f_plus.gradient, BinaryL1(), np.array([0.1]), [lr] * 2000, 3.0)
    gaps = [objective(f_plus, 3.0, w) for w in run.iterates[-200:]]  # F is 0 at -1, its least
    assert max(gaps) == 1 > last_iterate_bound(1.1, 4.0, 2000)


def test_with_the_hard_map_the_last_iterate_flips_for_ever():
    """Q not convex: BinaryConnect on f+, whose gap is 1 in every other step, whatever the bound."""
    steps = 2000
    lr = last_iterate_step(1.1, 1.0, steps)
    run = by_aggregate_prox(f_plus.gradient, BinaryL1(), np.array([0.1]), [lr] * steps, np.inf)
    gaps = [f_plus.value(w) for w in run.iterates[-10:]]
    assert max(gaps) == 1 > last_iterate_bound(1.1, 1.0, steps)


def test_a_loss_that_is_not_convex_may_hold_it_elsewhere():
    steps = 4000
    lr = last_iterate_step(1.0, 3.1, steps)

    def slope(x):  # of (x^2 - 1/4)^2 + x/10, least near -1/2
        return 4 * x * (x**2 - 0.25) + 0.1

    run = by_aggregate_prox(slope, PiecewiseAffine([0, 1], [0]), np.array([0.5]), [lr] * steps, 1.0)
    assert run.iterates[-1] > 0.4


@pytest.mark.parametrize("lazy", [True, False])
def test_falling_steps_keep_only_the_lazy_iterates_quantized(lazy):
    """Noise of size 1 on the gradient 0.3, R of slope 1 at 0: the eager map's flat part shrinks."""
    rng, r, steps = np.random.default_rng(0), PiecewiseAffine([0, 1], [1.0]), 3000
    lrs = 0.3 / np.sqrt(np.arange(1, steps + 1))
    noise = iter(0.3 + 2 * rng.choice([-1.0, 1.0], steps))

    def gradient(w):
        return np.array([next(noise)])

    if lazy:
        w = by_aggregate_prox(gradient, r, np.zeros(1), lrs, 1.0).iterates[:, 0]
    else:
        path = [np.zeros(1)]
        for lr in lrs:
            path.append(r.prox(path[-1] - lr * gradient(path[-1]), lr))
        w = np.array(path)[:, 0]
    share = (w[-1000:] == 0).mean()
    assert share > 0.99 if lazy else share < 0.6


def test_a_constant_strength_is_another_method():
    """Lazy with a strength that does not add up: the prox of all steps, but of one step's R."""
    lrs, r = [0.05] * 400, PiecewiseAffine([0, 1], [1.5])
    run = by_aggregate_prox(Kink(-0.4).gradient, r, np.array([0.9]), lrs, 1.0)
    fixed = prox_gradient(Kink(-0.4).gradient, r, [0.9], 0.05, [Constant(1.0)(0)] * 400)
    assert run.iterates[-1] == 0 and fixed[-1] == 0  # eager, deterministic: the same minimiser


def test_a_plain_function_has_the_iterates_of_its_regularizer():
    r, z0, lrs = PiecewiseAffine([0, 1], [1.5]), np.array([0.9]), [0.05] * 20
    run = by_aggregate_prox(Kink(-0.4).gradient, lambda w, s: r.prox(w, s), z0, lrs, 1.0)
    same = by_aggregate_prox(Kink(-0.4).gradient, r, z0, lrs, 1.0)
    assert run.iterates.tobytes() == same.iterates.tobytes()
