"""Fixed points of BinaryConnect: the criterion against runs, the cube, and what they need."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from proxquant_np.autograd import Tensor
from proxquant_np.optim import SGD, Adam, DualAveraging
from proxquant_np.prox import BinaryL1, sign_pm
from proxquant_np.theory import (
    Quadratic,
    by_projection,
    f_minus,
    f_plus,
    fixed_points,
    flips,
    is_fixed_point,
    quadratic_on_cube,
    random_ridge,
    settle,
)
from proxquant_np.theory.dual_averaging import all_points

seeds = st.integers(0, 10**6)


@st.composite
def integer_quadratics(draw):
    """Their gradients at corners are integers, so 0 exactly or at least 1."""
    d = draw(st.integers(1, 3))
    a = draw(arrays(np.int64, (d, d), elements=st.integers(-2, 2)))
    b = draw(arrays(np.int64, d, elements=st.integers(-4, 4)))
    return Quadratic((a + a.T).astype(float), b.astype(float))


def stays(gradient, s, size, lrs):
    """Whether BinaryConnect from z_0 = size * s, for s in {-1, +1}^d, never leaves s."""
    return bool((by_projection(gradient, size * s, lrs, sign_pm).iterates == s).all())


@given(integer_quadratics(), st.floats(1e-3, 2), st.booleans())
def test_the_criterion_says_whether_a_run_stays(loss, size, constant):
    """60 steps are enough to leave: their sum exceeds 2 / 1."""
    lrs = np.full(60, 0.25) if constant else 1 / np.arange(1, 61)
    corners = all_points((-1, 1), len(loss.b))
    stay = [stays(loss.gradient, s, size, lrs) for s in corners]
    assert stay == [is_fixed_point(loss.gradient, s) for s in corners]
    assert fixed_points(loss.gradient, len(loss.b)).tolist() == corners[stay].tolist()


BASES = {
    "momentum": (lambda z: SGD([z], 0.25, 0.9), False),
    "weight decay": (lambda z: SGD([z], 0.25, weight_decay=0.5), False),
    "Adam": (lambda z: Adam([z], 0.25), False),
    "a clipped latent": (lambda z: SGD([z], 0.25), True),
}


@pytest.mark.parametrize("name", BASES)
@settings(max_examples=15)
@given(integer_quadratics())
def test_other_bases_have_the_same_fixed_points(name, loss):
    """From a fresh state; they are no dual averaging, but as long as s stays g does."""
    base, clip = BASES[name]
    for s in all_points((-1, 1), len(loss.b)):
        w = Tensor(0.75 * s, requires_grad=True)
        lazy = DualAveraging(base(w), [w], BinaryL1(), clip=clip)
        stays = True
        for _ in range(60):
            w.grad = loss.gradient(w.data)
            lazy.step()
            stays &= bool((w.data == s).all())
        assert stays == is_fixed_point(loss.gradient, s)


def test_summable_steps_freeze_any_point():
    """Companion: 1 + 1/2 + 1/4 + ... < 3, so from 3 s nothing is left, whatever the criterion."""
    loss = Quadratic(np.eye(2), np.zeros(2))
    corners = all_points((-1, 1), 2)
    assert not fixed_points(loss.gradient, 2).size
    assert all(stays(loss.gradient, s, 3, 0.5 ** np.arange(200)) for s in corners)
    assert not any(stays(loss.gradient, s, 3, 1 / np.arange(1, 60)) for s in corners)


@given(seeds, st.integers(1, 6), st.data())
def test_fixed_points_of_a_convex_loss_solve_the_relaxed_problem(seed, d, data):
    n_active = data.draw(st.one_of(st.just(d), st.integers(0, d)))
    loss, x = quadratic_on_cube(np.random.default_rng(seed), d, n_active)
    found = fixed_points(loss.gradient, d)
    assert found.tolist() == ([x.tolist()] if n_active == d else [])


@given(seeds, st.integers(1, 3))
def test_a_fixed_point_of_a_convex_loss_is_least_on_the_cube(seed, d):
    rng = np.random.default_rng(seed)
    loss = random_ridge(rng, d, convex=True)
    for s in fixed_points(loss.gradient, d):
        assert loss.value(s) <= min(loss.value(x) for x in rng.uniform(-1, 1, (50, d)))


def test_the_corollary_needs_a_convex_loss():
    """Companion: with its stationary point inside, but a maximum, each corner is fixed."""
    rng = np.random.default_rng(0)
    loss = Quadratic(-np.eye(4), rng.uniform(-0.5, 0.5, 4))
    assert len(fixed_points(loss.gradient, 4)) == 16
    inward = Quadratic(np.eye(4), rng.uniform(-0.5, 0.5, 4))
    assert len(fixed_points(inward.gradient, 4)) == 0


def test_enumeration_up_to_sixteen_dimensions():
    pull = np.where(np.arange(16) % 2, 1.0, -1.0)
    assert fixed_points(lambda s: -pull, 16).tolist() == [pull.tolist()]
    with pytest.raises(ValueError, match="d must be an integer >= 1 and <= 16, got 17"):
        fixed_points(lambda s: s, 17)


def test_only_corners_can_be_fixed():
    with pytest.raises(ValueError, match=r"s must have entries -1 and \+1 only, got \[0.5\]"):
        is_fixed_point(lambda s: s, np.array([0.5]))


# settle


@given(seeds, st.integers(1, 4), st.floats(0.05, 2))
def test_settles_at_the_corner_that_solves_the_relaxed_problem(seed, d, lr):
    """The mean of the iterates converges to it, and then their signs are those of the pushes."""
    rng = np.random.default_rng(seed)
    loss, x = quadratic_on_cube(rng, d, d, condition=2)
    end = settle(loss.gradient, rng.normal(size=d), lr)
    assert end.verdict == "fixed point" and end.iterate.tolist() == x.tolist()


@given(seeds, st.integers(1, 4))
def test_never_settles_with_the_minimiser_inside(seed, d):
    rng = np.random.default_rng(seed)
    loss, _ = quadratic_on_cube(rng, d)
    z0 = rng.normal(size=d)
    assert settle(loss.gradient, z0, 0.1, steps=50).verdict in {"cycle", "no fixed point"}
    late = by_projection(loss.gradient, z0, np.full(200, 0.1), sign_pm).iterates[100:]
    assert flips(late).any()


@pytest.mark.parametrize("f", [f_plus, f_minus])
def test_the_toy_pair_cycles(f):
    end = settle(f.gradient, np.array([0.125]), 0.25)
    assert (end.verdict, end.steps, end.period) == ("cycle", 2, 2)


@given(integer_quadratics(), seeds)
def test_a_cycle_repeats(loss, seed):
    z0 = np.random.default_rng(seed).integers(-8, 9, len(loss.b)) / 4
    end = settle(loss.gradient, z0, 0.25, steps=300)
    if end.verdict == "cycle":
        lrs = np.full(end.steps + 2 * end.period, 0.25)
        latents, iterates, _ = by_projection(loss.gradient, z0, lrs, sign_pm)
        start = end.steps - end.period
        assert (latents[start] == latents[end.steps]).all()
        assert (iterates[start : end.steps] == iterates[end.steps : -1 - end.period]).all()
        assert flips(iterates[start : end.steps + 1]).any()


def test_undecided_when_too_short_or_too_wide():
    """A fixed point is far off, or there are too many corners to see that there is none."""
    far = settle(lambda s: np.array([-1.0]), np.array([-100.0]), 0.1, steps=5)
    assert (far.verdict, far.steps, far.iterate.tolist()) == ("undecided", 5, [-1])
    wide = Quadratic(np.eye(17), np.full(17, np.sqrt(0.5)))
    assert settle(wide.gradient, np.zeros(17), 0.1, steps=5).verdict == "undecided"


@pytest.mark.parametrize("slope", [1e-17, 5e-324])
def test_a_step_that_rounding_swallows_is_no_cycle(slope):
    """The latent stands still in floating point only: -1, on the other side, is a fixed point."""
    end = settle(lambda s: np.array([slope]), np.array([0.5]), 0.1)
    assert end.verdict == "undecided"
    assert settle(lambda s: s, np.array([0.25]), 0.1).verdict == "cycle"
