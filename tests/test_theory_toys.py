"""The toy losses: their gradients, their constants, and the smooth W against a search."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prox_strategies import strengths, weights

from proxquant_np.autograd import Tensor
from proxquant_np.prox.brute_force import prox_fault
from proxquant_np.theory import (
    Kink,
    Quadratic,
    Ridge,
    RoundedW,
    SmoothW,
    f_minus,
    f_plus,
    quadratic_on_cube,
    random_ridge,
)

seeds = st.integers(0, 10**6)
dims = st.integers(1, 5)


def random_losses(rng, d):
    a = rng.normal(size=(d, d))
    indefinite = Quadratic(a + a.T, rng.normal(size=d))
    return [indefinite, quadratic_on_cube(rng, d)[0], random_ridge(rng, d, True)] + [
        random_ridge(rng, d, False)
    ]


def slope(f, x, v, h=1e-5):
    return (f(x + h * v) - f(x - h * v)) / (2 * h)


@given(seeds, dims)
def test_gradients_are_those_of_the_values(seed, d):
    rng = np.random.default_rng(seed)
    for loss in [*random_losses(rng, d), SmoothW(), RoundedW(0.25)]:
        x, v = rng.normal(size=(2, d))
        assert np.isclose(slope(loss.value, x, v), loss.gradient(x) @ v, rtol=1e-6, atol=1e-6)


@given(seeds, dims)
def test_constants_are_bounds(seed, d):
    rng = np.random.default_rng(seed)
    for loss in random_losses(rng, d):
        x, y = rng.normal(size=(2, d)) * 3
        change = np.linalg.norm(loss.gradient(x) - loss.gradient(y))
        assert change <= loss.beta * np.linalg.norm(x - y) * (1 + 1e-12)
        assert loss.value(x) >= loss.lower - 1e-12
        if hasattr(loss, "gradient_bound"):
            assert (np.abs(loss.gradient(x)) <= loss.gradient_bound + 1e-12).all()


def test_constants_are_reached():
    """So a smaller beta, lower or gradient bound would be wrong."""
    loss = Quadratic(np.diag([1.0, 3.0]), np.array([1.0, -3.0]))
    assert (loss.beta, loss.mu, loss.lower) == (3, 1, -2)
    assert loss.gradient(np.array([0.0, 2.0]))[1] - loss.gradient(np.array([0.0, 1.0]))[1] == 3
    assert loss.value(np.array([-1.0, 1.0])) == loss.lower
    assert Quadratic(-np.eye(2), np.zeros(2)).lower == -np.inf
    ridge = random_ridge(np.random.default_rng(0), 1, convex=True)
    ridge = type(ridge)(np.abs(ridge.a), ridge.t)
    assert np.isclose(ridge.gradient(np.array([1e3]))[0], ridge.gradient_bound[0])
    for convex in (True, False):
        flat = Ridge(np.ones((1, 1)), np.zeros(1), convex)
        assert flat.value(np.zeros(1)) == flat.lower == 0
        assert np.isclose(flat.gradient(np.array([1e-6]))[0], 1e-6 * flat.beta, rtol=1e-9)


@given(seeds, dims, st.data())
def test_the_minimiser_on_the_cube_is_one(seed, d, data):
    n_active = data.draw(st.integers(0, d))
    rng = np.random.default_rng(seed)
    loss, x = quadratic_on_cube(rng, d, n_active)
    assert (np.abs(x) <= 1).all() and (np.abs(x) == 1).sum() == n_active
    for y in rng.uniform(-1, 1, (50, d)):
        near = x + 1e-3 * (y - x)
        assert loss.value(x) <= min(loss.value(y), loss.value(near))


def test_quadratic_on_cube_refuses_too_many_faces():
    with pytest.raises(ValueError, match="n_active must be an integer >= 0 and <= 2, got 3"):
        quadratic_on_cube(np.random.default_rng(0), 2, 3)


@given(seeds, dims)
def test_values_of_tensors_have_the_same_gradient(seed, d):
    rng = np.random.default_rng(seed)
    for loss in (quadratic_on_cube(rng, d)[0], Kink(rng.normal(size=d))):
        x = Tensor(rng.normal(size=d), requires_grad=True)
        value = loss.value(x)
        value.backward()
        assert value.item() == loss.value(x.data)
        assert np.allclose(x.grad, loss.gradient(x.data), rtol=1e-13, atol=1e-13)


def test_the_toy_pair():
    ends = [np.array([-1.0]), np.array([1.0])]
    assert [f.gradient(s)[0] for f in (f_plus, f_minus) for s in ends] == [-1, 1, -1, 1]
    assert [f.value(s) for f in (f_plus, f_minus) for s in ends] == [0, 1, 1, 0]


@given(weights(st.just((2,))), strengths())
def test_smooth_w_has_an_exact_prox(w, s):
    assert prox_fault(SmoothW().prox, SmoothW(), w, s) is None


@given(weights())
def test_smooth_w_is_zero_exactly_on_q_and_projects(w):
    r = SmoothW()
    assert (r.prox(w, np.inf) == r.project(w)).all()
    assert r.value(r.project(w)) == 0 and not r.gradient(r.project(w)).any()
    assert (r.value(w) == 0) == bool((np.abs(w) == 1).all())
    assert r.levels(w).tolist() == [-1, 1]


def test_a_seed_means_the_same_problem_for_ever():
    """Records name problems by their seeds. Whatever turns a range around changes these."""
    loss, x = quadratic_on_cube(np.random.default_rng(0), 3, 1)
    assert np.allclose(x, PINNED["x"], rtol=1e-12) and np.allclose(loss.b, PINNED["b"], rtol=1e-12)
    ridge = random_ridge(np.random.default_rng(0), 1, convex=True)
    assert np.allclose([*ridge.a[:, 0], *ridge.t], PINNED["ridge"], rtol=1e-12)


PINNED = {
    "x": [-0.8395459644501642, 0.41337980357389925, -1.0],
    "b": [0.9502150270251838, -0.6725687009348145, 4.618641149789633],
    "ridge": [
        0.1257302210933933,
        -0.1321048632913019,
        0.6404226504432821,
        0.10490011715303971,
        -0.535669373161111,
        0.36159505490948474,
    ],
}
