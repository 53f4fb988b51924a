"""What a prox holds, how far SGD and Adam move, and what that says about when flips end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxquant_np.autograd import Tensor
from proxquant_np.optim import SGD, Adam, Bop, ProxGradient
from proxquant_np.prox import BinaryL1, BinaryL2, Constant, LevelsL1, sign_pm
from proxquant_np.theory import (
    adam_move_bound,
    adam_worst_gradients,
    base_move_bound,
    flips,
    held,
    steps_to_quantize,
)

seeds = st.integers(0, 10**6)
quarters = st.integers(-24, 24).map(lambda i: i / 4)
DEFAULT = (0.9, 0.999)
betas = st.sampled_from([DEFAULT, (0.9, 0.99), (0.5, 0.9), (0.0, 0.999), (0.99, 0.999)])


def moves(base, gradients, start=0.0):
    """m_1, m_2, ... of one weight under these gradients."""
    (w,) = base.params
    w.data[...] = start
    path = [w.data.copy()]
    for g in gradients:
        w.grad = np.array([g])
        base.step()
        path.append(w.data.copy())
    return np.diff(np.ravel(path))


def leaf():
    return Tensor(np.zeros(1), requires_grad=True)


# Any base step


@given(quarters, st.integers(0, 24).map(lambda i: i / 4))
def test_a_weight_on_a_level_stays_just_if_it_is_held(m, s):
    """All numbers exact. Both conditions are needed, and both sharp."""
    for r in (BinaryL1(), LevelsL1((-2, -0.5, 0, 3))):
        q = r.levels(np.zeros(1))
        moved = q + m
        assert (held(r, q, moved, s) == (r.prox(moved, s) == q)).all()


def test_each_half_of_the_condition_is_needed():
    r, one = BinaryL1(), np.ones(1)
    for moved, s, stays in (
        (0.5, 0.5, True),
        (0.5, 0.4375, False),
        (0.0, 1, True),
        (-0.5, 9, False),
    ):
        assert held(r, one, [moved], s) == (r.prox([moved], s) == 1) == stays


@given(quarters.filter(bool), st.floats(0.01, 100))
def test_an_l2_distance_only_pulls_back(m, s):
    if m > -1:
        assert np.isclose(BinaryL2().prox([1 + m], s), 1 + m / (1 + s)).all()
        assert BinaryL2().prox([1 + m], s) != 1


# How far Adam moves


@given(betas, st.integers(1, 60), seeds)
def test_adam_never_moves_further(betas, t, seed):
    """Over gradients of every size, in every step."""
    rng = np.random.default_rng(seed)
    g = rng.normal(size=t) * 10.0 ** rng.uniform(-6, 6, t)
    found = moves(Adam([leaf()], 1.0, betas, eps=0.0), g)
    bounds = [adam_move_bound(betas, n) for n in range(1, t + 1)]
    assert (np.abs(found) <= np.array(bounds) * (1 + 1e-9)).all()
    assert (np.array(bounds) <= adam_move_bound(betas) * (1 + 1e-9)).all()


@pytest.mark.parametrize("betas", [DEFAULT, (0.9, 0.99), (0.5, 0.9)])
@pytest.mark.parametrize("t", [1, 2, 5, 40])
def test_the_bound_of_each_step_is_reached(betas, t):
    """So no constant of it can be smaller."""
    found = moves(Adam([leaf()], 1.0, betas, eps=0.0), adam_worst_gradients(betas, t))
    assert np.isclose(abs(found[-1]), adam_move_bound(betas, t), rtol=1e-9)


def test_the_bound_of_all_steps_is_reached_in_the_limit():
    """Of the worst gradients the first are too small to square: they count as 0, nearly."""
    t = 6000
    found = moves(
        Adam([leaf()], 1.0, eps=0.0), np.maximum(adam_worst_gradients(DEFAULT, t), 1e-150)
    )
    assert abs(found[-1]) > 0.998 * adam_move_bound()
    assert np.isclose(adam_move_bound(), 0.1 / np.sqrt(0.001 * (1 - 0.81 / 0.999)))
    assert round(adam_move_bound(), 2) == 7.27


def test_a_tiny_gradient_moves_adam_as_far_as_a_large_one():
    """Companion of "lambda against the gradients": 1e-6 G moves as far, so G says nothing."""
    worst = adam_worst_gradients(DEFAULT, 40)
    small, large = (moves(Adam([leaf()], 1.0, eps=0.0), g * worst)[-1] for g in (1e-6, 1.0))
    assert np.isclose(small, large)


def test_with_eps_it_moves_less():
    worst = adam_worst_gradients(DEFAULT, 40)
    assert abs(moves(Adam([leaf()], 1.0), 1e-6 * worst)[-1]) < adam_move_bound(t=40)


def test_without_beta1_squared_below_beta2_there_is_no_bound():
    """Companion: beta2 = 0.8 < 0.81; the bounds of the steps grow, and are reached."""
    betas = (0.9, 0.8)
    bounds = [adam_move_bound(betas, t) for t in (1, 100, 400)]
    assert adam_move_bound(betas) == np.inf and bounds[2] > 10 * bounds[0]
    found = moves(Adam([leaf()], 1.0, betas, eps=0.0), adam_worst_gradients(betas, 30))
    assert np.isclose(abs(found[-1]), adam_move_bound(betas, 30))
    assert adam_move_bound((0.0, 0.0)) == np.inf


# How far SGD moves


@given(st.sampled_from([0.0, 0.5, 0.9]), st.booleans(), seeds)
def test_sgd_moves_by_the_gradient_and_what_momentum_adds(momentum, nesterov, seed):
    base = SGD([leaf()], 0.5, momentum, nesterov=nesterov and momentum > 0)
    g = 2 * np.clip(np.random.default_rng(seed).uniform(-2, 2, 40), -1, 1)
    bound = 0.5 * base_move_bound(base, 2.0)
    assert (np.abs(moves(base, g)) <= bound * (1 + 1e-12)).all()


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_bound_of_sgd_is_reached_in_the_limit(nesterov):
    base = SGD([leaf()], 0.5, 0.9, nesterov=nesterov)
    assert np.isclose(abs(moves(base, np.full(400, 2.0))[-1]), 0.5 * base_move_bound(base, 2.0))
    assert abs(moves(SGD([leaf()], 0.5), [2.0])[0]) == 0.5 * base_move_bound(
        SGD([leaf()], 0.5), 2.0
    )


def test_base_move_bound_refuses_what_it_cannot_bound():
    w = leaf()
    with pytest.raises(ValueError, match=r"weight_decay of SGD must be 0 here, got 0\.1"):
        base_move_bound(SGD([w], 0.5, weight_decay=0.1), 1.0)
    with pytest.raises(TypeError, match="base must be an SGD or Adam optimizer, got"):
        base_move_bound(Bop(SGD([w], 0.5), [w]), 1.0)
    assert base_move_bound(SGD([w], 0.5)) == np.inf  # no bound on gradients, none on moves
    assert base_move_bound(Adam([w], weight_decay=0.1)) == adam_move_bound()


# Finite-time quantization, whatever the base


def trained(base_of, lr, lam, gradients, start):
    """The weights along ProxGradient with these gradients, (T + 1, d)."""
    w = Tensor(np.array(start), requires_grad=True)
    optimizer = ProxGradient(base_of(w, lr), [w], BinaryL1(), Constant(lam))
    path = [w.data.copy()]
    for g in gradients:
        w.grad = np.broadcast_to(np.asarray(g, float), w.shape).copy()
        optimizer.step()
        path.append(w.data.copy())
    return np.array(path)


@settings(max_examples=20)
@given(seeds, st.floats(0.02, 0.13), st.floats(0.5, 5))
def test_with_adam_signs_freeze_and_weights_are_quantized_in_time(seed, lr, excess):
    """lr 7.27 < 1 and lambda > 7.27, for any gradients at all."""
    rng, bound = np.random.default_rng(seed), adam_move_bound()
    start = np.concatenate([[-1.0, 1.0], rng.uniform(-2, 2, 6)])
    distance = np.abs(np.abs(start) - 1).max()
    n = steps_to_quantize(distance + 1e-9, lr, np.full(10_000, bound + excess), bound)
    g = rng.normal(size=(n, 8)) * 10.0 ** rng.uniform(-3, 3, (n, 1))
    w = trained(lambda w, lr: Adam([w], lr), lr, bound + excess, g, start)
    assert not flips(w[1:]).any() and (w[:, :2] == start[:2]).all()
    assert (np.abs(w[-1]) == 1).all()


def test_lambda_above_every_gradient_is_not_enough_for_adam():
    """Companion: gradients up to 1e-3 and lambda = 1, a thousand times that; a sign flips.

    For SGD with the same gradients nothing moves.
    """
    worst = 1e-3 * adam_worst_gradients(DEFAULT, 200)
    lr, lam, start = 0.6, 1.0, [1.0]
    w = trained(lambda w, lr: Adam([w], lr, eps=0.0), lr, lam, worst, start)
    assert flips(w) > 0
    assert (trained(lambda w, lr: SGD([w], lr), lr, lam, worst, start) == 1).all()


def test_the_level_is_left_just_when_lambda_falls_short_of_the_bound():
    """Adam's worst gradients, lambda a tenth below C_t and a tenth above."""
    t, lr = 40, 2.0**-10
    worst, bound = adam_worst_gradients(DEFAULT, t), adam_move_bound(t=t)
    for factor, stays in ((0.9, False), (1.1, True)):
        w = trained(lambda w, lr: Adam([w], lr, eps=0.0), lr, factor * bound, worst, [1.0])
        assert (w[-1, 0] == 1) == stays


def test_a_move_of_one_lets_signs_change_for_ever():
    """Companion, lr M >= 1: lr 0.5, G 3, lambda 3.5, w = 1 flips every step."""
    w = np.array([1.0])
    path = [w]
    for _ in range(10):
        path.append(BinaryL1().prox(path[-1] - 0.5 * 3 * sign_pm(path[-1]), 0.5 * 3.5))
    assert flips(np.array(path)) == 10


@pytest.mark.parametrize("past", [0.0, 0.05])
def test_held_ends_at_the_strength(past):
    """A move of the strength itself is brought back, one a tenth longer is not."""
    moved = np.array([0.5 - past])
    assert held(BinaryL1(), [1.0], moved, strength=0.5).all() == (past == 0)
    assert (BinaryL1().prox(moved, strength=0.5) == 1).all() == (past == 0)


def test_held_needs_only_the_set():
    w, moved = np.ones(3), np.array([0.75, 0.25, -0.25])
    assert held(BinaryL1().set, w, moved, 0.5).tolist() == [True, False, False]
