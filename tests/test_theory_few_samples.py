"""Fewer samples than weights: critical points are mostly quantized, and what that needs."""

from __future__ import annotations

import numpy as np
import pytest

from proxquant_np.prox import BinaryL1, BinaryL2, LevelsL1, PiecewiseAffine
from proxquant_np.theory import Quadratic, critical_point, off_levels

SETS = [BinaryL1(), LevelsL1((-1, 0, 1)), PiecewiseAffine([0, 1, 2], [0.5, 1])]


def least_squares(a, y):
    """1/2 ||A w - y||^2."""
    return Quadratic(a.T @ a, -a.T @ y)


@pytest.mark.parametrize("r", SETS, ids=repr)
@pytest.mark.parametrize(("n", "d"), [(1, 6), (3, 12)])
@pytest.mark.parametrize("seed", range(4))
def test_at_most_as_many_weights_as_samples_are_off_the_levels(r, n, d, seed):
    rng = np.random.default_rng(seed)
    a, y = rng.normal(size=(n, d)), rng.normal(size=n)
    w = critical_point(a, y, r, 0.2, rng.uniform(-1.5, 1.5, d))
    assert off_levels(r, w, 1e-9) <= n
    loss, lr = least_squares(a, y), 0.01
    moved = r.prox(w - lr * loss.gradient(w), lr * 0.2)  # prox-gradient leaves it where it is
    assert np.allclose(moved, w, atol=1e-9)


def test_the_number_of_samples_is_reached():
    """One sample, a strong loss: one weight has to give way."""
    a = np.array([[1.0, 2.0, 0.75]])
    w = critical_point(a, np.array([2.125]), BinaryL1(), 0.01, np.array([0.9, 0.6, 0.9]))
    assert off_levels(BinaryL1(), w, 1e-7) == 1


# Companions


def test_columns_that_depend_on_each_other_may_stay_off_together():
    """Equal columns: at w_1 = w_2 = 1/2 both conditions are one, so n = 1 leaves two off."""
    a, lam = np.array([[1.0, 1.0]]), 0.125
    r = PiecewiseAffine([0, 1], [1.0])
    w = np.array([0.5, 0.5])
    loss = least_squares(a, np.array([1.0 + lam]))
    assert (loss.gradient(w) == -lam).all()  # the slope of R, so w is critical
    assert np.allclose(r.prox(w - 0.25 * loss.gradient(w), 0.25 * lam), w)
    assert off_levels(r, w) == 2


def test_a_slope_of_zero_lets_weights_be_anywhere():
    """a_0 = 0: whatever fits the samples is critical."""
    rng = np.random.default_rng(0)
    a, y = rng.normal(size=(2, 9)), rng.normal(size=2) / 4
    w = critical_point(a, y, PiecewiseAffine([0, 1], [0]), 1.0, rng.uniform(-0.3, 0.3, 9))
    assert np.allclose(a @ w, y) and off_levels(PiecewiseAffine([0, 1], [0]), w, 1e-3) == 9


def test_without_kinks_at_the_levels_nearly_all_weights_are_off():
    rng = np.random.default_rng(0)
    a, y = rng.normal(size=(2, 9)), rng.normal(size=2)
    w = critical_point(a, y, BinaryL2(), 0.05, rng.uniform(-1, 1, 9))
    assert off_levels(BinaryL2(), w, 1e-6) == 9


def test_as_many_samples_as_weights_promise_nothing():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(6, 6)) + 3 * np.eye(6)
    w = critical_point(a, a @ np.full(6, 0.4), BinaryL1(), 1e-3, np.full(6, 0.4))
    assert off_levels(BinaryL1(), w, 1e-6) == 6


def test_a_plain_function_has_the_critical_points_of_its_regularizer():
    rng = np.random.default_rng(0)
    a, y, start = rng.normal(size=(2, 9)), rng.normal(size=2), rng.uniform(-1, 1, 9)
    r = BinaryL1()
    w = critical_point(a, y, lambda w, strength: r.prox(w, strength), 0.2, start)
    assert w.tobytes() == critical_point(a, y, r, 0.2, start).tobytes()
    assert off_levels(r.set, w, 1e-9) == off_levels(r, w, 1e-9) <= 2
    with pytest.raises(TypeError, match="plain function"):  # what needs levels
        off_levels(r.prox, w)
