"""PiecewiseAffine and TanhMirror: the prox against a search, the published map, bad arguments."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prox_strategies import strengths, weights

from proxquant_np.autograd import Tensor
from proxquant_np.optim import SGD, DualAveraging
from proxquant_np.prox import Constant, Linear, PiecewiseAffine, TanhMirror, sign_pm
from proxquant_np.prox.brute_force import objective
from proxquant_np.theory import by_aggregate_prox, f_plus

SOME = [
    PiecewiseAffine([0, 1]),
    PiecewiseAffine([0, 1], [0]),
    PiecewiseAffine([0, 0.5, 1.5, 2], [0.25, 0.5, 2]),
    PiecewiseAffine([0, 1, 2], [0, 3]),
]
every = pytest.mark.parametrize("r", SOME, ids=repr)


@every
@given(w=weights(st.just((1,))), s=strengths())
def test_the_prox_minimises_its_objective(r, w, s):
    """Against a fine grid of the domain with all kinks; the objective is convex."""
    if s == 0:
        assert (r.prox(w, 0) == w).all()
        return
    q = r.values[-1]
    grid = np.unique(np.concatenate([np.linspace(-q, q, 401), r.levels(w), [0.0]]))
    least = min(objective(r, np.array([u]), w, s) for u in grid)
    got = objective(r, r.prox(w, s), w, s)
    assert got <= least + 1e-5 * (1 + abs(least)) if w.dtype == np.float32 else got <= least + 1e-9


@every
@given(w=weights(), s=strengths())
def test_what_every_regularizer_does(r, w, s):
    before = w.copy()
    u = r.prox(w, s)
    assert u.dtype == w.dtype and u.shape == w.shape and (w == before).all()
    assert (np.abs(np.diff(r.prox(np.sort(w, axis=None), max(s, 1e-9)))) >= 0).all()
    assert (r.prox(w, np.inf) == r.project(w)).all() and np.isin(r.project(w), r.levels(w)).all()
    assert (r.prox(-w, s) == -r.prox(w, s)).all()
    out = w.copy()
    assert (r.prox(out, s, out=out) == u).all()


@every
@given(x=st.floats(-3, 3), y=st.floats(-3, 3), s=st.floats(0.01, 4))
def test_it_is_convex_and_so_its_prox_is_no_steeper_than_the_identity(r, x, y, s):
    u = r.prox([x, y], s)
    assert abs(u[0] - u[1]) <= abs(x - y) + 1e-12
    q = r.values[-1]
    a, b = np.clip([x, y], -q, q)
    assert 2 * r.value([(a + b) / 2]) <= r.value([a]) + r.value([b]) + 1e-12


def test_the_published_map():
    """Flat at q_k on s a_{k-1} + q_k <= |w| <= s a_k + q_k, else sgn(w) (|w| - s a_k)."""
    r, s = PiecewiseAffine([0, 1, 2], [0.5, 1.5]), 2.0
    for size, got in ((0.5, 0), (1, 0), (1.25, 0.25), (2, 1), (4, 1), (4.5, 1.5), (5, 2), (99, 2)):
        assert r.prox(np.array([size, -size], float), s).tolist() == [got, -got]
    assert r.value([1.0]) == 0.5 and r.value([2.0]) == 2.0 and r.value([2.01]) == np.inf


def test_it_hardens_to_rounding_as_the_strength_grows():
    r, w = PiecewiseAffine([0, 1, 2, 3]), np.random.default_rng(0).uniform(-3, 3, 200)
    w = w[np.abs(np.abs(w) % 1 - 0.5) > 0.01]
    assert (r.prox(1e4 * w, 1e4) == r.project(w)).all()


def test_levels_without_zero():
    assert PiecewiseAffine([0, 1], [0]).levels([0.5]).tolist() == [-1, 1]
    assert PiecewiseAffine([0, 1], [0]).project([0.0]) == 1
    assert PiecewiseAffine([0, 1]).levels([0.5]).tolist() == [-1, 0, 1]


@pytest.mark.parametrize(
    ("values", "slopes", "message"),
    [
        ([1, 2], None, "0 and at least one level"),
        ([0], None, "0 and at least one level"),
        ([0, 1], [1, 2], "1 finite numbers"),
        ([0, 1], [-1], "1 finite numbers"),
        ([0, 1], [np.inf], "1 finite numbers"),
        ([0, 1, 2], [1, 1], "strictly increasing"),
        ([0, 2, 1], None, "strictly increasing"),
    ],
)
def test_bad_levels_and_slopes(values, slopes, message):
    with pytest.raises(ValueError, match=message):
        PiecewiseAffine(values, slopes)


def train(regularizer, homotopy, lr, steps):
    w = Tensor(np.array([0.75]), requires_grad=True)
    optimizer = DualAveraging(SGD([w], lr), [w], regularizer, homotopy)
    path = [w.data.copy()]
    for _ in range(steps):
        optimizer.zero_grad()
        f_plus.value(w).backward()
        optimizer.step()
        path.append(w.data.copy())
    return np.array(path)


def test_aprox_is_dual_averaging_with_a_linear_homotopy():
    """lambda_t = lam (t + 1): the strength of step t is lr lam (t + 1), the sum of all so far."""
    r, lr, lam = PiecewiseAffine([0, 1]), 0.125, 0.5
    path = train(r, lambda t: lam * (t + 1), lr, 12)
    run = by_aggregate_prox(f_plus.gradient, r, np.array([0.75]), [lr] * 12, lam)
    assert (path[1:] == run.iterates[1:]).all()
    late = train(r, Linear(lam), lr, 12)  # one step behind
    assert late.shape == path.shape and (late != path).any()


# TanhMirror


@given(weights(), st.floats(0.01, 20))
def test_the_mirror_map_is_tanh(w, s):
    u = TanhMirror().prox(w, s)
    assert np.allclose(u, np.tanh(s * w.astype(float)), rtol=1e-5, atol=1e-6)
    assert u.dtype == w.dtype and (TanhMirror().prox(w, np.inf) == sign_pm(w)).all()


def test_it_maximises_the_entropy_of_signs():
    r, grid = TanhMirror(), np.linspace(-1, 1, 2001)
    for z, s in ((0.3, 1.0), (-2.0, 0.5), (0.1, 9.0)):
        gain = [s * z * u + r.value([u]) for u in grid]
        assert abs(grid[np.argmax(gain)] - r.prox([z], s)[0]) <= 1e-3
    assert r.value([1.0, -1.0]) == 0 and r.value([1.5]) == np.inf
    assert np.isclose(r.value([0.0, 0.0]), 2 * np.log(2)) and r.levels([0.0]).tolist() == [-1, 1]


def test_mirror_descent_trains():
    path = train(TanhMirror(), Constant(8.0), 0.125, 60)
    assert np.abs(path[1:]).max() < 1 and abs(path[-10:].mean() + 0.5) < 0.2  # f+ is least at -1/2
