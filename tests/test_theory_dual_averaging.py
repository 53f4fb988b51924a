"""Straight-through is dual averaging: three implementations, and what they need; the regret."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import proxquant_np.functional as F
from proxquant_np.autograd import Tensor
from proxquant_np.optim import SGD, DualAveraging
from proxquant_np.prox import BinaryL1, LevelsL1, LevelsL2, MultiBitL2, TernaryL2, sign_pm
from proxquant_np.prox.brute_force import multibit_codes, ternary_codes
from proxquant_np.theory import (
    Kink,
    Quadratic,
    by_enumeration,
    by_projection,
    by_straight_through,
    f_plus,
    quadratic_on_cube,
    random_ridge,
    regret,
)
from proxquant_np.theory.dual_averaging import all_points

seeds = st.integers(0, 10**6)
SETS = {
    "binary": BinaryL1(),
    "ternary L1": LevelsL1((-1, 0, 1)),
    "ternary L2": LevelsL2((-1, 0, 1)),
    "2 bits": LevelsL1((-1.5, -0.5, 0.5, 1.5)),
    "3 bits, uneven": LevelsL2((-4, -2, -1, -0.5, 0.5, 1, 2, 4)),
}
every_set = pytest.mark.parametrize("r", SETS.values(), ids=SETS)
STEPS = {
    "constant": np.full(12, 0.25),
    "decreasing": 0.5 ** np.floor(np.log2(np.arange(1, 13))),  # powers of two, infinite sum
}
every_schedule = pytest.mark.parametrize("lrs", STEPS.values(), ids=STEPS)


@st.composite
def integer_quadratics(draw, max_d=4):
    """All arithmetic on these is exact: small integers, steps that are powers of two."""
    d = draw(st.integers(1, max_d))
    a = draw(arrays(np.int64, (d, d), elements=st.integers(-3, 3)))
    b = draw(arrays(np.int64, d, elements=st.integers(-4, 4)))
    return Quadratic((a + a.T).astype(float), b.astype(float))


def optimizer_iterates(loss, z0, lrs, regularizer, clip=False, **sgd):
    """What `optim` makes: it has the three ways' iterates without momentum and clipping."""
    w = Tensor(np.array(z0), requires_grad=True)
    optimizer = DualAveraging(SGD([w], 0.0, **sgd), [w], regularizer, clip=clip)
    iterates = [w.data.copy()]
    for lr in lrs:
        optimizer.lr = lr
        optimizer.zero_grad()
        loss(w).backward()
        optimizer.step()
        iterates.append(w.data.copy())
    return np.array(iterates)


def three_ways(loss, gradient, z0, lrs, r):
    return [
        by_enumeration(gradient, z0, lrs, r.levels(z0)),
        by_projection(gradient, z0, lrs, r.project).iterates,
        by_straight_through(loss, z0, lrs, r.project),
    ]


@every_set
@every_schedule
@given(integer_quadratics(max_d=3), st.data())
def test_three_ways_agree_bit_for_bit(r, lrs, loss, data):
    """Ties, which are frequent here, included."""
    quarters = st.integers(-8, 8).map(lambda i: i / 4)
    z0 = data.draw(arrays(np.float64, len(loss.b), elements=quarters))
    literal, closed, through = three_ways(loss.value, loss.gradient, z0, lrs, r)
    assert literal.shape == (len(lrs) + 1, len(z0))
    assert np.array_equal(literal, closed)
    assert np.array_equal(closed, through)
    assert np.array_equal(closed, optimizer_iterates(loss.value, z0, lrs, r))


@every_set
@given(seeds, st.booleans())
def test_three_ways_agree_on_a_nonquadratic_loss_and_real_steps(r, seed, constant):
    """Up to rounding of the latents, which a random problem's quantized iterates do not see."""
    rng = np.random.default_rng(seed)
    a, z0 = rng.normal(size=(6, 3)), rng.normal(size=3)
    lrs = np.full(15, 0.3) if constant else 1 / np.arange(1, 16)

    def loss(w):
        return F.softplus(a @ w).sum() - F.tanh(w).sum()

    def gradient(w):
        leaf = Tensor(w, requires_grad=True)
        loss(leaf).backward()
        return leaf.grad

    literal, closed, through = three_ways(loss, gradient, z0, lrs, r)
    assert np.array_equal(literal, closed) and np.array_equal(closed, through)


def test_enumeration_in_twelve_dimensions():
    rng = np.random.default_rng(0)
    a = rng.integers(-2, 3, (12, 12)).astype(float)
    loss = Quadratic(a + a.T, rng.integers(-3, 4, 12).astype(float))
    ways = three_ways(
        loss.value, loss.gradient, rng.normal(size=12), np.full(15, 0.125), BinaryL1()
    )
    assert np.array_equal(ways[0], ways[1]) and np.array_equal(ways[0], ways[2])
    assert len(np.unique(ways[0], axis=0)) > 3  # it did move
    with pytest.raises(
        ValueError, match="number of points, must be an integer <= 1048576, got 16777216"
    ):
        by_enumeration(loss.gradient, np.zeros(12), [1.0], (-1, 0, 1, 2))


FITTED = {
    "ternary": (TernaryL2(symmetric=True), list(ternary_codes(4, symmetric=True))),
    "1 bit": (MultiBitL2(1), list(multibit_codes(4, 1))),
    "2 bits": (MultiBitL2(2, projection="exact"), list(multibit_codes(4, 2))),
}


def least_literally(z0, total, codes):
    """min <total, w> + 1/2 ||w - z0||^2 over w = B a, every B in codes, a from normal equations."""
    b = np.array(codes)
    points = b @ np.linalg.pinv(b.mT @ b) @ b.mT @ (z0 - total)
    return (points @ total + 0.5 * np.square(points - z0).sum(axis=1)).min()


@pytest.mark.parametrize(("r", "codes"), FITTED.values(), ids=FITTED)
@every_schedule
@given(seeds)
def test_with_fitted_levels_too(r, codes, lrs, seed):
    """Q = {B a}, infinite: the closed form attains the literal minimum, and straight-through it."""
    rng = np.random.default_rng(seed)
    loss, _ = quadratic_on_cube(rng, 4)
    z0, lrs = rng.normal(size=4), lrs[:5]
    _, iterates, gradients = by_projection(loss.gradient, z0, lrs, r.project)
    for t, w in enumerate(iterates):
        total = lrs[:t] @ gradients[:t]
        reached = total @ w + 0.5 * np.square(w - z0).sum()
        assert np.isclose(reached, least_literally(z0, total, codes), rtol=1e-9, atol=1e-9)
    through = by_straight_through(loss.value, z0, lrs, r.project)
    assert np.allclose(through, iterates, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "r"),
    [("ternary", TernaryL2(symmetric=True, projection="threshold")), ("2 bits", MultiBitL2(2))],
)
def test_a_heuristic_projection_is_not_dual_averaging(name, r):
    """Companion: the closed form is the argmin only if P_Q is exact."""
    exact, codes = FITTED[name]
    for z0 in np.random.default_rng(0).normal(size=(50, 4)):
        least = least_literally(z0, np.zeros(4), codes)
        assert np.isclose(0.5 * np.square(exact.project(z0) - z0).sum(), least)
        if 0.5 * np.square(r.project(z0) - z0).sum() > 1.01 * least:
            return
    raise AssertionError(f"{r} was exact throughout")


# Companions: what the equality needs


def first_difference(a, b):
    return int(np.argmax((a != b).any(axis=1))) if (a != b).any() else None


HALF = Quadratic(np.eye(1), np.array([-0.5]))  # its minimiser, 1/2, is inside: it flips forever


@pytest.mark.parametrize("change", [{"momentum": 0.5}, {"clip": True}], ids=str)
def test_momentum_and_clipped_latents_are_not_dual_averaging(change):
    z0, lrs = np.array([-3.0]), np.full(30, 0.25)
    closed = by_projection(HALF.gradient, z0, lrs, sign_pm).iterates
    assert first_difference(closed, optimizer_iterates(HALF.value, z0, lrs, BinaryL1())) is None
    other = optimizer_iterates(HALF.value, z0, lrs, BinaryL1(), **change)
    assert first_difference(closed, other) is not None


def test_the_gradient_must_be_that_at_the_quantized_point():
    """Steps on the latent's own gradient are gradient descent on L, then rounded."""
    z0, lrs = np.array([-3.0]), np.full(30, 0.25)
    closed = by_projection(HALF.gradient, z0, lrs, sign_pm).iterates
    z, rounded = z0, [sign_pm(z0)]
    for lr in lrs:
        z = z - lr * HALF.gradient(z)
        rounded.append(sign_pm(z))
    assert first_difference(closed, np.array(rounded)) is not None
    assert (np.array(rounded)[-10:] == 1).all()  # it settles, as z has: at 1/2
    assert len(np.unique(closed[-10:])) == 2


def test_ties_must_go_the_same_way():
    """At z_0 = 0 both signs are minimisers, and the choice is felt for ever."""
    lrs = np.full(5, 0.25)
    closed = by_projection(f_plus.gradient, np.zeros(1), lrs, sign_pm).iterates
    lower = by_projection(
        f_plus.gradient, np.zeros(1), lrs, lambda z: np.where(z > 0, 1.0, -1.0)
    ).iterates
    assert np.array_equal(by_enumeration(f_plus.gradient, np.zeros(1), lrs, (-1, 1)), closed)
    assert first_difference(closed, lower) == 0


def test_all_points_come_once_and_descend():
    points = all_points((0, -1, 1), 2)
    assert points[0].tolist() == [1, 1] and points[1].tolist() == [1, 0]
    assert len(np.unique(points, axis=0)) == 9


# Regret


def clip_to_cube(z):
    return np.clip(z, -1, 1)


@given(seeds, st.sampled_from([clip_to_cube, lambda z: z]), st.booleans(), st.floats(0.01, 3))
def test_regret_on_convex_sets(seed, project, constant, lr):
    """For the gradients of a convex loss, and for arbitrary vectors in their place."""
    rng = np.random.default_rng(seed)
    d, lrs = 3, lr * (np.ones(40) if constant else 1 / np.sqrt(np.arange(1, 41)))
    arbitrary = iter(rng.normal(size=(40, d)))
    loss = random_ridge(rng, d, convex=True)
    for gradient in (loss.gradient, lambda w: next(arbitrary)):
        run = by_projection(gradient, rng.normal(size=d), lrs, project)
        comparator = rng.uniform(-1, 1, d)
        assert (regret(run, lrs, comparator).slack >= -1e-9).all()


def test_the_regret_bound_is_reached():
    """One step on R from z_0 = 0 along g = -1 to the comparator: 1/2 + 1/2 is not too much."""
    run = by_projection(lambda w: -np.ones(1), np.zeros(1), [1.0], lambda z: z)
    both = regret(run, [1.0], np.array([1.0]))
    assert (both.left, both.right) == (1, 1)


def average_gap(loss, z0, lrs, project, minimiser):
    """L(average of the iterates, weighted by lr) - L(x*), and the run."""
    run = by_projection(loss.gradient, z0, lrs, project)
    average = lrs @ run.iterates[:-1] / lrs.sum()
    return loss.value(average) - loss.value(minimiser), run


@given(seeds, st.sampled_from([10, 100, 1000]), st.booleans())
def test_the_average_iterate_of_a_convex_loss_has_the_known_rate(seed, steps, constant):
    rng = np.random.default_rng(seed)
    minimiser = rng.uniform(-1, 1, 3)
    loss, z0 = Kink(-minimiser), rng.uniform(-1, 1, 3)
    big, far = np.sqrt(3), np.linalg.norm(minimiser - z0)
    lrs = np.full(steps, far / big / np.sqrt(steps))
    if not constant:
        lrs = far / big / np.sqrt(np.arange(1, steps + 1))
    gap, run = average_gap(loss, z0, lrs, clip_to_cube, minimiser)
    assert gap <= regret(run, lrs, minimiser).right[-1] / lrs.sum() + 1e-12
    if constant:
        assert gap <= far * big / np.sqrt(steps) + 1e-12


def test_on_a_discrete_set_regret_grows_linearly():
    """Companion, Q not convex: the same steps on f+, mapped to {-1, +1} instead of the interval."""
    steps, z0, best = 1000, np.array([0.1]), np.array([-1.0])
    lrs = np.full(steps, 1.1 / np.sqrt(steps))
    on_cube = regret(by_projection(f_plus.gradient, z0, lrs, clip_to_cube), lrs, best)
    on_q = regret(by_projection(f_plus.gradient, z0, lrs, sign_pm), lrs, best)
    assert on_cube.slack.min() >= 0 > on_q.slack[-1]
    left = on_q.left / lrs[0]
    assert np.isclose(left[-1] / left[steps // 2 - 1], 2, rtol=0.01) and left[-1] > steps / 2


def test_the_average_iterate_needs_a_convex_loss():
    """Companion: from the wrong side of a double well it stays in the wrong well."""

    class DoubleWell:
        def value(self, x):
            return float(((x**2 - 0.25) ** 2 + 0.1 * x).sum())

        def gradient(self, x):
            return 4 * x * (x**2 - 0.25) + 0.1

    loss, z0, best = DoubleWell(), np.array([0.5]), np.array([-0.5])
    steps, big = 4000, 3.1
    lrs = np.full(steps, 1 / big / np.sqrt(steps))
    gap, run = average_gap(loss, z0, lrs, clip_to_cube, best)
    assert np.abs(run.gradients).max() <= big
    assert gap > big / np.sqrt(steps)
    assert regret(run, lrs, best).slack.min() >= 0  # this half asks nothing of the loss
