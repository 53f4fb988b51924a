"""The published ternary prox against its formula, beside the exact one; the scaled quantizer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prox_strategies import weights

import proxquant_np.functional as F
from proxquant_np.autograd import Tensor
from proxquant_np.prox import MultiBitL2, PublishedTernary, TernaryL2
from proxquant_np.prox.brute_force import objective


def rule(w):
    """Appendix A.2, literally."""
    d = 0.7 * np.abs(w).mean()
    up, down = w[w >= d], w[w <= -d]
    q = np.zeros_like(w)
    if d > 0 and up.size:
        q[w >= d] = up.mean()
    if d > 0 and down.size:
        q[w <= -d] = down.mean()
    return q


@given(st.integers(0, 10**6), st.floats(0.01, 10), st.sampled_from([1, 2, 5]))
def test_the_published_formula(seed, lam, rounds):
    """u <- (theta + 2 lambda q(u)) / (1 + 2 lambda): the strength is 2 lambda."""
    w = np.random.default_rng(seed).normal(size=12)
    u = w
    for _ in range(rounds):
        u = (w + 2 * lam * rule(u)) / (1 + 2 * lam)
    assert np.allclose(PublishedTernary(rounds).prox(w, 2 * lam), u, rtol=1e-12, atol=1e-12)


@given(weights(), st.floats(0.01, 10))
def test_it_behaves_as_a_regularizer(w, s):
    r = PublishedTernary()
    q = r.project(w)
    assert np.allclose(r.project(q), q, rtol=1e-6) and np.isin(q, r.levels(w)).all()
    assert r.value(w) >= 0 and (r.prox(w, 0) == w).all() and (r.prox(w, np.inf) == q).all()
    out = w.copy()
    assert np.array_equal(r.prox(out, s, out=out), r.prox(w, s))


def test_at_infinite_strength_it_is_the_rule_applied_once():
    """Applied again, the rule may round the mean of equal weights to its neighbour."""
    draws = np.random.default_rng(0).normal(size=(2000, 9))
    assert all(
        (PublishedTernary().prox(w, np.inf) == PublishedTernary().project(w)).all() for w in draws
    )


def test_codes_by_threshold_are_not_the_nearest_levels():
    w = np.array([-2.0, -0.1, 0.6, 0.9, 1.1])
    q = PublishedTernary().project(w)
    assert q[2] == 0 and abs(w[2] - 1) < abs(w[2] - 0)  # nearer to 1, the level of its side
    gaps = []
    for seed in range(200):
        x = np.random.default_rng(seed).normal(size=30)
        u, best = PublishedTernary().prox(x, 1.0), TernaryL2().prox(x, 1.0)
        gaps.append(objective(TernaryL2(), u, x, 1.0) / objective(TernaryL2(), best, x, 1.0))
    assert min(gaps) >= 1 - 1e-12 and max(gaps) > 1.01


def test_rounds_must_be_one_at_least():
    with pytest.raises(ValueError, match="rounds must be an integer >= 1, got 0"):
        PublishedTernary(0)


def test_the_scaled_quantizer_of_the_footnote_is_an_expression():
    """The rival's forward pass was 0.3 q(w): straight-through takes any map."""
    w = Tensor(np.random.default_rng(0).normal(size=(3, 8)), requires_grad=True)
    q = MultiBitL2(2, axis=0)
    y = F.straight_through(w, lambda w: 0.3 * q.project(w))
    (y * y).sum().backward()
    assert np.allclose(y.data, 0.3 * q.project(w.data)) and np.allclose(w.grad, 2 * y.data)
