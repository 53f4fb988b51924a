"""The toy pair, the Frank-Wolfe twin, finite-time quantization, and what each of them needs."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from proxquant_np.prox import BinaryL1, BinaryL2, LevelsL1, sign_pm
from proxquant_np.theory import (
    Quadratic,
    Ridge,
    SmoothW,
    by_projection,
    f_minus,
    f_plus,
    flip_frequency_bound,
    flips,
    frank_wolfe,
    frank_wolfe_gap,
    inner_distance,
    predicted_time_at_plus_one,
    prox_gradient,
    quadratic_on_cube,
    random_ridge,
    settle,
    solves_both_toys,
    steps_to_quantize,
    time_at_nearest_corner,
    time_at_plus_one,
)
from proxquant_np.theory.dual_averaging import all_points

seeds = st.integers(0, 10**6)
dims = st.integers(1, 4)


def binary_connect(gradient, z0, lr, steps):
    """s_0, ..., s_{steps-1}."""
    return by_projection(gradient, z0, np.full(steps, lr), sign_pm).iterates[:-1]


def test_measures_of_a_sequence_of_signs():
    w = np.array([[1.0, -1, 0], [1, 2, -0.0], [-1, -2, 0], [-0.5, 3, 1]])
    assert flips(w).tolist() == [1, 3, 0]
    assert time_at_plus_one(w).tolist() == [0.5, 0.5, 1]
    assert predicted_time_at_plus_one(np.array([0.5, -1])).tolist() == [0.75, 0]
    assert flip_frequency_bound(np.array([0.5, -1])).tolist() == [0.5, 0]


# Theorem 1: the toy pair


@given(st.floats(-2, 2), st.lists(st.floats(1e-3, 2), min_size=1, max_size=30))
def test_binary_connect_cannot_tell_the_toys_apart(z0, lrs):
    plus, minus = (by_projection(f.gradient, np.array([z0]), lrs, sign_pm) for f in TOYS)
    assert (plus.iterates == minus.iterates).all() and (plus.latents == minus.latents).all()
    # So where it ends, one of them is not least.
    end = plus.iterates[-1]
    assert max(f_plus.value(end), f_minus.value(end)) == 1


TOYS = {f_plus: -1, f_minus: 1}


def slow_homotopy(lr, pace):
    """lambda_t = rate t with rate = pace lr, for long enough."""
    return np.arange(0, 2.5, pace * lr)


@given(st.floats(-1, 1), st.floats(0.1, 0.5), st.floats(0.15, 0.45))
def test_prox_gradient_solves_both_toys(w0, lr, pace):
    lams = slow_homotopy(lr, pace)
    assert solves_both_toys(lr, lams)
    for f, best in TOYS.items():
        assert prox_gradient(f.gradient, BinaryL1(), [w0], lr, lams)[-1] == best


@pytest.mark.parametrize(
    ("lr", "lams"),
    [
        (0.02, slow_homotopy(0.02, 0.6)),  # somewhat too fast
        (0.1, slow_homotopy(0.1, 0.3)[:25]),  # too short
        (0.1, slow_homotopy(0.1, 0.3)[::-1]),  # falling
        (1.5, np.repeat([0.0, 2.0, 3.0], [7, 5, 5])),  # steps too large
    ],
    ids=["fast", "short", "falling", "large steps"],
)
def test_prox_gradient_needs_its_conditions(lr, lams):
    """Companion: each condition dropped, both toys are not solved from every w_0."""
    assert not solves_both_toys(lr, lams)
    ends = [
        prox_gradient(f.gradient, BinaryL1(), [w0], lr, lams)[-1, 0] == best
        for f, best in TOYS.items()
        for w0 in np.linspace(-1, 1, 21)
    ]
    assert not all(ends)


@pytest.mark.parametrize("lr", [0.125, 0.25, 0.5])
def test_how_slowly_lambda_must_rise_is_exact(lr):
    """From w_0 = 1: f+ is solved if lr sum (1 - lambda)_+ > 1 - lr, and at 1 - lr it is not."""
    n = int((1 - lr) / (lr / 2))  # steps at lambda = 1/2, which sum to 1 - lr
    for steps, solved in ((n, False), (n + 1, True)):
        lams = np.repeat([0.5, 3.0], [steps, 40])
        end = prox_gradient(f_plus.gradient, BinaryL1(), [1.0], lr, lams)[-1]
        assert solves_both_toys(lr, lams) == solved == (end == -1)


def test_how_long_lambda_must_last():
    """A sum of 1 is enough, of less than 1/2 is not: the gradient opposes on the last half only."""
    slow = np.full(80, 0.5)
    for late, promised in ((8, True), (7, False)):
        assert solves_both_toys(0.125, np.append(slow, np.full(late, 2.0))) == promised
    slow = np.full(160, 0.5)
    for late, promised in ((16, True), (15, False)):  # a finer step: 1 and 15/16
        assert solves_both_toys(0.0625, np.append(slow, np.full(late, 2.0))) == promised
    for late, there in ((3, False), (4, True)):  # sums of 3/8 and 1/2, over a distance of 7/16
        w = prox_gradient(f_plus.gradient, BinaryL1(), [-0.5625], 0.125, np.full(late, 2.0))
        assert (w[-1] == -1) == there


def test_at_a_step_of_one_half_the_gradient_at_the_kink_decides():
    """From -1/2 a step of lr 1/2 along +1 ends at -1, along -1 at 0, whose prox goes to +1."""

    def end(kink, lr):
        def gradient(w):
            return np.where(w == -0.5, kink, f_plus.gradient(w))

        return prox_gradient(gradient, BinaryL1(), [-0.5], lr, np.full(4, 1.5))[-1, 0]

    assert f_plus.gradient(np.array([-0.5])) == 1
    assert [end(kink, 0.5) for kink in (1.0, -1.0)] == [-1, 1]
    assert [end(kink, 0.4375) for kink in (1.0, -1.0)] == [-1, -1]  # any step below 1/2 is safe


def test_binary_connect_solves_pairs_that_differ_on_q():
    """Companion: with other gradients at -1 and +1 there is nothing to confuse."""
    for slope in (-1.0, 1.0):
        end = settle(lambda s, g=slope: np.array([g]), np.array([0.3]), 0.1)
        assert end.verdict == "fixed point" and end.iterate == -slope


# Theorem 3: the Frank-Wolfe twin

HALF = Quadratic(np.eye(1), np.array([-0.5]))  # its minimiser is 1/2


@given(dims, st.sampled_from([0.125, 1.0, 4.0]), st.data())
def test_the_running_mean_is_frank_wolfe_exactly(d, lr, data):
    """In rational arithmetic, for any symmetric A: ties and all, the corners are the same."""
    a = data.draw(arrays(np.int64, (d, d), elements=st.integers(-3, 3)))
    b = data.draw(arrays(np.int64, d, elements=st.integers(-4, 4)))
    loss = Quadratic(a + a.T, b)
    signs = binary_connect(loss.gradient, np.zeros(d), lr, 25)
    means = frank_wolfe(loss.gradient, np.array([Fraction(1)] * d), 25)
    assert (means * np.arange(1, 26)[:, None] == np.cumsum(signs, axis=0)).all()


@pytest.mark.parametrize(
    ("loss", "z0", "lrs"),
    [
        (HALF, 0.0, np.full(25, 0.25)),
        (HALF, -3.0, np.full(25, 0.25)),  # another start
        (HALF, 0.0, 1 / np.arange(1, 26)),  # decreasing steps
        (Ridge(np.array([[2.0]]), np.array([1.0])), 0.0, np.full(25, 0.25)),  # not quadratic
    ],
    ids=["holds", "start", "steps", "loss"],
)
def test_the_twin_needs_a_quadratic_a_start_at_zero_and_constant_steps(loss, z0, lrs):
    run = by_projection(loss.gradient, np.array([z0]), lrs, sign_pm)
    means = np.cumsum(run.iterates[:-1], axis=0) / np.arange(1, 26)[:, None]
    twin = frank_wolfe(loss.gradient, np.ones(1), 25)
    assert np.allclose(means, twin) == (loss is HALF and z0 == 0 and lrs[-1] == 0.25)


@given(seeds, dims, st.data())
def test_the_mean_converges_to_the_minimiser_on_the_cube(seed, d, data):
    loss, x = quadratic_on_cube(np.random.default_rng(seed), d, data.draw(st.integers(0, d)))
    steps = 300
    signs = binary_connect(loss.gradient, np.zeros(d), 0.1, steps)
    means = np.cumsum(signs, axis=0) / np.arange(1, steps + 1)[:, None]
    for t in (1, 2, 10, 100, steps):
        gap, bound = loss.value(means[t - 1]) - loss.value(x), frank_wolfe_gap(loss, x, t)
        assert gap <= bound + 1e-12
        distance = np.linalg.norm(means[t - 1] - x)
        assert distance**2 <= 2 / loss.mu * gap + 1e-12
        if (np.abs(x) < 1).all():
            assert distance <= inner_distance(loss, x, t)
    error = np.abs(time_at_plus_one(signs) - predicted_time_at_plus_one(x))
    assert (error <= distance / 2 + 1e-12).all()


# The constants of its two bounds. Neither is reached (but the second in one dimension), so: each
# inequality of the proofs is reached, and the function is what the inequalities add up to.


def one_frank_wolfe_step(loss, m, t):
    s = sign_pm(-loss.gradient(m))
    return s, m + (s - m) / (t + 1)


@given(seeds, dims, st.integers(1, 50))
def test_the_inequalities_of_the_gap(seed, d, t):
    rng = np.random.default_rng(seed)
    loss, x = quadratic_on_cube(rng, d, rng.integers(0, d + 1))
    m = rng.uniform(-1, 1, d)
    s, new = one_frank_wolfe_step(loss, m, t)
    gap = loss.value(m) - loss.value(x)
    smooth = loss.value(m) + loss.gradient(m) @ (new - m) + loss.beta / 2 * (new - m) @ (new - m)
    assert loss.gradient(m) @ (s - m) <= -gap + 1e-9
    assert loss.value(new) <= smooth + 1e-9
    assert (s - m) @ (s - m) <= 4 * d
    assert gap >= loss.mu / 2 * (m - x) @ (m - x) - 1e-9


def test_each_inequality_of_the_gap_is_reached():
    linear = Quadratic(np.zeros((2, 2)), np.array([1.0, -2.0]))
    m, x = np.array([0.5, 0.25]), np.array([-1.0, 1.0])
    s, _ = one_frank_wolfe_step(linear, m, 3)
    assert linear.gradient(m) @ (s - m) == linear.value(x) - linear.value(m)
    round_, m, t = Quadratic(2 * np.eye(2), np.zeros(2)), np.ones(2), 1
    s, new = one_frank_wolfe_step(round_, m, t)
    assert (s - m) @ (s - m) == 4 * 2
    smooth = round_.value(m) + round_.gradient(m) @ (new - m) + (new - m) @ (new - m)
    assert round_.value(new) == smooth
    assert round_.value(m) == round_.mu / 2 * m @ m  # strong convexity, x* = 0


@given(st.floats(0.1, 10), st.integers(1, 6), st.sampled_from([100, 10_000]))
def test_the_gap_is_what_its_inequalities_add_up_to(beta, d, steps):
    """(t+1) h_{t+1} <= t h_t + 2 beta d/(t+1): the function is above, by at most 2 beta d 0.423/t.

    A tenth off its 2 would put it below.
    """
    loss, x = Quadratic(beta * np.eye(d), np.zeros(d)), np.zeros(d)
    summed = loss.value(np.ones(d)) + 2 * beta * d * (1 / np.arange(2, steps + 1)).sum()
    slack = frank_wolfe_gap(loss, x, steps) * steps - summed
    assert 0 <= slack <= 2 * beta * d * (1 - np.euler_gamma)
    assert slack - 0.2 * beta * d * np.log(steps) < 0
    assert frank_wolfe_gap(loss, x, 1) == loss.value(np.ones(d))


@given(seeds, dims)
def test_the_inequalities_of_the_inner_distance(seed, d):
    rng = np.random.default_rng(seed)
    loss, x = quadratic_on_cube(rng, d)
    r, e = np.abs(x).max(), rng.uniform(-3, 3, d)
    s = sign_pm(-loss.a @ e)
    assert (s - x) @ (s - x) <= d * (1 + r) ** 2
    assert e @ loss.a @ (s - x) <= -(1 - r) * np.abs(loss.a @ e).sum() + 1e-9
    assert np.abs(loss.a @ e).sum() >= np.sqrt(loss.mu * e @ loss.a @ e) - 1e-9


def test_each_inequality_of_the_inner_distance_is_reached():
    one = np.ones(3)
    assert ((-one - 0.5 * one) @ (-one - 0.5 * one)) == 3 * (1 + 0.5) ** 2  # s = -1, x = 1/2
    e, x = one, -0.5 * one  # A = 1: s = -1, pulled by 1 - r only
    assert e @ (-one - x) == -(1 - 0.5) * np.abs(e).sum()
    assert np.abs(e[:1]).sum() == np.sqrt(e[:1] @ e[:1])


def most_of_a_step(k, c, r, mu):
    """The largest E_{t+1} that the inequalities allow if E_t <= k."""
    y = np.linspace(0, np.sqrt(k), 100_001)
    return (y**2 - 2 * (1 - r) * np.sqrt(mu) * y + c).max()


@pytest.mark.parametrize("r", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("d", [1, 3, 8])
@pytest.mark.parametrize("eigenvalues", [(1.0, 1.0), (0.5, 3.0)])
def test_the_inner_distance_is_the_least_that_its_inequalities_keep(r, d, eigenvalues):
    """Of all K >= C with E <= K for ever: at K a step leads to K at most, a tenth below beyond."""
    mu, beta = eigenvalues if d > 1 else (eigenvalues[1],) * 2
    loss = Quadratic(np.diag(np.linspace(mu, beta, d)), np.zeros(d))
    k = (inner_distance(loss, np.full(d, r), 7) * 7) ** 2 * mu
    c = beta * d * (1 + r) ** 2
    assert k >= c * (1 - 1e-12) and most_of_a_step(k, c, r, mu) <= k * (1 + 1e-12)
    less = 0.9 * k
    assert less < c or most_of_a_step(less, c, r, mu) > less


def test_the_inner_distance_is_reached_in_one_dimension():
    """x* = -1/4: m_1 = 1 is 5/4 away. Later, too, as often as t (m_t - x*) comes back to 0."""
    loss, x = Quadratic(np.eye(1), np.array([0.25])), np.array([-0.25])
    means = frank_wolfe(loss.gradient, np.ones(1), 40)[:, 0]
    bounds = [inner_distance(loss, x, t) for t in range(1, 41)]
    reached = np.isclose(np.abs(means - x), bounds, rtol=1e-12)
    assert (
        reached[0] and reached.sum() > 1 and (np.abs(means - x) <= np.array(bounds) + 1e-15).all()
    )


# The nearest corner


@given(seeds, dims)
def test_the_nearest_corner_is_visited_again_and_again(seed, d):
    rng = np.random.default_rng(seed)
    loss, x = quadratic_on_cube(rng, d)
    steps = 2000
    there = (binary_connect(loss.gradient, np.zeros(d), 0.1, steps) == sign_pm(x)).all(axis=1)
    least = time_at_nearest_corner(x) - d * inner_distance(loss, x, steps) / 2
    assert there.mean() >= least
    if least > 0.01:
        assert there[steps // 2 :].any() and not there[steps // 2 :].all()  # returns, and leaves


@given(st.lists(st.floats(0.7, 0.95), min_size=2, max_size=4), seeds)
def test_with_a_diagonal_it_is_the_best_corner(x, seed):
    rng = np.random.default_rng(seed)
    x = np.array(x) * sign_pm(rng.normal(size=len(x)))
    a = np.diag(rng.uniform(0.5, 2, len(x)))
    loss = Quadratic(a, -a @ x)
    corners = all_points((-1, 1), len(x))
    best = corners[np.argmin([loss.value(s) for s in corners])]
    assert (best == sign_pm(x)).all()


def test_without_a_diagonal_the_best_corner_may_be_another():
    """Companion: a narrow valley leads from x* to a corner that is not the nearest."""
    a = np.array([[1.0, 0.95], [0.95, 1.0]])
    x = np.array([0.1, 0.1])
    loss = Quadratic(a, -a @ x)
    corners = all_points((-1, 1), 2)
    assert loss.value(sign_pm(x)) > min(loss.value(s) for s in corners)


def test_where_weights_are_undecided_the_nearest_corner_is_rare():
    """Companion: x* near 0 in both weights, which flip together; the bound, near 0, is reached."""
    a = np.array([[1.0, 0.95], [0.95, 1.0]])
    for x in (np.array([0.1, -0.1]), np.array([0.02, -0.02])):
        loss = Quadratic(a, -a @ x)
        signs = binary_connect(loss.gradient, np.array([0.06, -0.03]), 0.1, 4000)
        there = (signs == sign_pm(x)).all(axis=1).mean()
        assert np.isclose(there, time_at_nearest_corner(x), atol=0.005)


def test_the_time_at_the_nearest_corner_is_reached():
    """Two weights that are never away together: 5/8 of the time, exactly the bound."""
    loss, x = Quadratic(np.eye(2), np.array([-0.75, 0.5])), np.array([0.75, -0.5])
    signs = binary_connect(loss.gradient, np.zeros(2), 0.5, 800)
    assert (signs == sign_pm(x)).all(axis=1).mean() == time_at_nearest_corner(x) == 0.625


@given(seeds, dims)
def test_flips_are_at_most_as_frequent_as_the_bound(seed, d):
    """Up to the distance of the mean from its limit, and one flip at an end."""
    loss, x = quadratic_on_cube(np.random.default_rng(seed), d)
    steps = 500
    signs = binary_connect(loss.gradient, np.zeros(d), 0.1, steps)
    slack = inner_distance(loss, x, steps) + 1 / steps
    assert (flips(signs) / steps <= flip_frequency_bound(x) + slack).all()


@given(st.floats(-0.95, 0.95), st.floats(-1, 1), st.floats(0.1, 1))
def test_in_one_dimension_the_bound_is_reached(x, z0, lr):
    """z_0 costs the time until the first flip."""
    loss = Quadratic(np.eye(1), np.array([-x]))
    signs = binary_connect(loss.gradient, np.array([z0]), lr, 800)
    late = signs[np.argmax(signs != signs[0]) :]
    assert np.allclose(flips(late) / len(late), flip_frequency_bound(np.array([x])), atol=1e-2)


@pytest.mark.parametrize("z0", [-5.0, 5.0])
def test_another_start_has_the_same_limit(z0):
    loss, x = quadratic_on_cube(np.random.default_rng(3), 3, 1)
    signs = binary_connect(loss.gradient, np.full(3, z0), 0.1, 5000)
    assert np.allclose(time_at_plus_one(signs), predicted_time_at_plus_one(x), atol=0.02)


def test_the_prediction_needs_a_quadratic():
    """Companions: log cosh(2x - 1) is least at 1/2, f+ at -1/2, but only their ends are seen."""
    loss = Ridge(np.array([[2.0]]), np.array([1.0]))
    measured = time_at_plus_one(binary_connect(loss.gradient, np.zeros(1), 0.1, 4000))
    assert abs(measured - predicted_time_at_plus_one(np.array([0.5]))) > 0.1
    balance = np.tanh(3) / (np.tanh(3) + np.tanh(1))  # where the two gradients cancel
    assert np.isclose(measured, balance, atol=1e-3)
    toy = time_at_plus_one(binary_connect(f_plus.gradient, np.zeros(1), 0.1, 4000))
    assert toy == 0.5 != predicted_time_at_plus_one(np.array([-0.5]))


def test_the_prediction_needs_a_strictly_convex_loss():
    """Companion: -x^2/2 is stationary at 0 and least at both ends; the mean goes to one of them."""
    signs = binary_connect(Quadratic(-np.eye(1), np.zeros(1)).gradient, np.zeros(1), 0.1, 100)
    assert (signs == 1).all()


def test_the_prediction_needs_steps_with_an_infinite_sum():
    """Companion: frozen at +1 by summable steps, where half the time was predicted."""
    loss = Quadratic(np.eye(1), np.zeros(1))
    run = by_projection(loss.gradient, np.array([3.0]), 0.5 ** np.arange(500), sign_pm)
    assert time_at_plus_one(run.iterates) == 1 != predicted_time_at_plus_one(np.zeros(1))


def test_the_faster_rate_needs_the_minimiser_inside():
    with pytest.raises(ValueError, match=r"max \|minimiser\| must be a number < 1, got 1"):
        inner_distance(*quadratic_on_cube(np.random.default_rng(0), 2, 1), 10)


# Theorem 5: finite-time quantization


def distance(w, levels=(-1, 1)):
    return np.abs(w[..., None] - np.asarray(levels, float)).min(axis=-1)


def bounded(rng, bound, shape):
    """Vectors |g_i| <= bound, often equal."""
    return bound * np.clip(rng.uniform(-2, 2, shape), -1, 1)


def given_gradients(vectors):
    """A gradient function that asks nothing of the weights: one vector after another."""
    iterator = iter(vectors)
    return lambda w: next(iterator)


positive = st.floats(0.1, 4)


@given(seeds, positive, positive, positive)
def test_weights_come_closer_to_levels_and_stay(seed, lr, bound, excess):
    """Part 1, for arbitrary vectors in the place of gradients, any step and any levels."""
    rng = np.random.default_rng(seed)
    lams = bound + excess * rng.uniform(0.5, 1, 30)
    for r in (BinaryL1(), LevelsL1((-2, -0.5, 0, 3))):
        levels = r.levels(np.zeros(1))
        w0 = np.concatenate([levels, rng.uniform(-4, 4, 6)])
        g = bounded(rng, bound, (30, len(w0)))
        w = prox_gradient(given_gradients(g), r, w0, lr, lams)
        away = distance(w, levels)
        allowed = np.maximum(away[:-1] - lr * (lams - bound)[:, None], 0)
        assert (away[1:] <= allowed + 1e-12).all()
        assert (away[1:][away[:-1] == 0] == 0).all()


@given(seeds, st.floats(0.01, 0.99), positive, positive)
def test_signs_are_frozen_after_one_step_and_quantized_in_time(seed, lr_times_bound, bound, excess):
    """Part 2 and the bound, with lr G < 1."""
    rng, lr = np.random.default_rng(seed), lr_times_bound / bound
    w0 = np.concatenate([[-1.0, 1.0, 0.0], rng.uniform(-2, 2, 5)])
    n = steps_to_quantize(distance(w0).max() + 1e-9, lr, np.full(100_000, bound + excess), bound)
    n = min(n, 200)
    g = bounded(rng, bound, (n, len(w0)))
    w = prox_gradient(given_gradients(g), BinaryL1(), w0, lr, np.full(n, bound + excess))
    assert not flips(w[1:]).any()
    assert (w[:, :2] == w0[:2]).all()
    if n < 200:
        assert (np.abs(w[-1]) == 1).all()


@given(seeds, st.floats(0.01, 0.99), positive)
def test_a_bound_for_each_step_is_enough(seed, lr_times_bound, bound):
    """lambda_t need only exceed the gradients of its own step and of the next."""
    rng, lr, n = np.random.default_rng(seed), lr_times_bound / bound, 60
    bounds = bound * rng.uniform(0, 1, n + 1)
    lams = np.maximum(bounds[:-1], bounds[1:]) * 1.01 + 1e-6
    w0 = np.concatenate([[-1.0, 1.0, 0.0], rng.uniform(-2, 2, 5)])
    g = [bounded(rng, b, w0.shape) for b in bounds[:-1]]
    w = prox_gradient(given_gradients(g), BinaryL1(), w0, lr, lams)
    assert not flips(w[1:]).any() and (w[:, :2] == w0[:2]).all()
    away, travelled = distance(w).max(axis=1), np.cumsum(lr * (lams - bounds[:-1]))
    if travelled[-1] > away[0] + 1e-9:
        steps = steps_to_quantize(away[0] + 1e-9, lr, lams, bounds[:-1])
        assert (away[steps:] == 0).all()


def test_lambda_must_exceed_the_gradient_of_the_next_step_too():
    """Companion: |g| = 1/2, then 8, against lambda = 1, then 9: the second step flips the sign."""
    g = [np.array([0.5]), np.array([8.0])]
    w = prox_gradient(given_gradients(g), BinaryL1(), [0.0625], 0.0625, [1.0, 9.0])
    assert w[1:, 0].tolist() == [0.09375, -0.96875] and flips(w[1:]) == 1


def test_the_time_bound_is_reached():
    """A gradient of size G that always leads away from the level; all numbers are exact."""
    lr, lam = 0.125, 1.5
    n = steps_to_quantize(0.5, lr, [lam] * 20, 1.0)
    w = prox_gradient(lambda w: sign_pm(w), BinaryL1(), [0.5], lr, [lam] * n)
    assert n == 8 and (np.abs(w[:, 0]) == 1).tolist() == [False] * 8 + [True]
    assert steps_to_quantize(0.0, lr, [lam], 1.0) == 0
    assert steps_to_quantize(0.5, lr / 16, [lam] * 200, 1.0) == 128
    w = prox_gradient(lambda w: sign_pm(w), BinaryL1(), [0.5], lr / 16, [lam] * 128)
    assert (np.abs(w[-2:, 0]) == 1).tolist() == [False, True]
    # With a rising lambda: 0.5 = lr * (0.5 + 1.5 + 2)
    assert steps_to_quantize(0.5, lr, [1.5, 2.5, 3, 9], 1.0) == 3


@pytest.mark.parametrize(
    ("lams", "message"),
    [
        ([2.0, 1.0], r"lams\[1\] must be > 1.0, the gradient_bound, got 1.0"),
        ([2.0, 2.0, 0.5, 99.0], r"lams\[2\] must be > 1.0.* got 0.5"),
        ([2.0], "lams must be enough .* got 1 that"),
    ],
)
def test_steps_to_quantize_refuses(lams, message):
    with pytest.raises(ValueError, match=message):
        steps_to_quantize(0.5, 0.1, lams, 1.0)


@given(seeds, dims, st.booleans())
def test_a_homotopy_on_a_loss(seed, d, convex):
    """Signs are free while lambda_t <= G, and change for the last time in the first step above."""
    rng = np.random.default_rng(seed)
    loss = random_ridge(rng, d, convex)
    bound = loss.gradient_bound.max()
    lr, lams = 0.2 / bound, np.linspace(0, 3 * bound, 100)
    w = prox_gradient(loss.gradient, BinaryL1(), rng.uniform(-1, 1, d), lr, lams)
    first = int(np.argmax(lams > bound))
    assert not flips(w[first + 1 :]).any()
    n = steps_to_quantize(distance(w[first]).max() + 1e-9, lr, lams[first:], bound)
    assert (np.abs(w[first + n :]) == 1).all()


def test_lambda_below_the_gradient_lets_levels_go():
    """Companion: at +1 with gradient 1, lambda = 1/2 holds nothing, lambda = 1 just."""
    left, held = (
        prox_gradient(f_plus.gradient, BinaryL1(), [1.0], 0.125, [lam] * 3)[:, 0]
        for lam in (0.5, 1.0)
    )
    assert left.tolist() == [1, 0.9375, 0.875, 0.8125] and (held == 1).all()


def test_lambda_below_the_gradient_lets_signs_change_for_ever():
    """Companion: pushed by -G and +G in turn, a weight of size between lr lambda and lr G."""
    lr, bound = 0.25, 1.0

    def towards_zero(w):
        return bound * sign_pm(w)

    for lam, count in ((0.5, 50), (1.5, 1)):
        w = prox_gradient(towards_zero, BinaryL1(), [0.1875], lr, [lam] * 50)
        assert flips(w) == count


def test_a_step_of_one_over_the_gradient_lets_levels_go():
    """Companion, lr G >= 1: lambda > G alone does not hold a coordinate at +1, nor its sign.

    Part 1 is still true: it jumps from level to level.
    """
    for lr in (1.0, 1.5):
        w = prox_gradient(sign_pm, BinaryL1(), [-1.0], lr, [2.0] * 10)
        assert (np.abs(w) == 1).all() and flips(w) >= 1
    assert flips(w) == 10
    assert flips(prox_gradient(sign_pm, BinaryL1(), [-1.0], 0.999, [2.0] * 10)) == 0


def test_rising_steps_let_signs_change():
    """Companion, lr constant: lr G < 1 in both steps, but what the first leaves the second takes.

    Falling steps would do: the size that the prox leaves, lr_t lambda_t, exceeds lr_{t+1} G too.
    """
    w = prox_gradient(sign_pm, BinaryL1(), [0.0625], 0.0625, [1.5])
    assert w[1] == 0.09375
    for lr, flip in ((0.5, True), (0.0625, False), (0.03125, False)):
        assert flips(prox_gradient(sign_pm, BinaryL1(), w[1], lr, [1.5])) == flip


@pytest.mark.parametrize("r", [BinaryL2(), SmoothW()], ids=repr)
def test_only_a_kink_quantizes_in_finite_time(r):
    """Companion: regularizers that are flat at their levels hold nothing there, at any strength."""
    w = prox_gradient(lambda w: np.ones(1), r, [1.0], 0.125, [100.0] * 50)
    assert (w[1:] < 1).all()


def test_distances_fall_at_the_rate_of_the_theorem_and_no_faster():
    """So the lr (lambda - G) of part 1 cannot be made larger."""
    w = prox_gradient(sign_pm, BinaryL1(), [0.5], 0.125, [1.5] * 3)
    assert np.diff(distance(w)[:, 0]).tolist() == [-0.125 * 0.5] * 3


def test_sums_that_floating_point_just_misses():
    assert steps_to_quantize(1.0, 0.1, [2.0] * 10, 1.0) == 10
    assert steps_to_quantize(1.0, 0.1, [2.0] * 11, 1.0) == 10


def test_steps_of_more_than_a_half_may_miss():
    """From -1/2 - 1e-4 a step of 0.53 crosses 0, just before lambda carries the weight up."""
    lr, lams = 0.53, [0.0, 0.0] + [3.0] * 10
    assert lr * 2 > 1 - lr and lr * 20 >= 1
    assert not solves_both_toys(lr, lams)
    end = prox_gradient(f_plus.gradient, BinaryL1(), np.array([-0.5001]), lr, lams)[-1]
    np.testing.assert_array_equal(end, [1])  # f+ is smaller at -1
