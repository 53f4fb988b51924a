"""Stochastic rounding: neighbours, mean and variance as stated, for sets of every kind."""

import numpy as np
import pytest
from hypothesis import given
from prox_strategies import SETS, weights

import proxquant_np as pq
from proxquant_np import prox
from proxquant_np.prox import stochastic_round

REPEATS = 4000


@pytest.mark.parametrize("q", SETS, ids=repr)
@given(w=weights())
def test_each_weight_goes_to_a_neighbour(q, w):
    if w.ndim == 0 and (q.axis is not None or q.block not in (None, 1)):
        return
    rng = np.random.default_rng(0)
    u = stochastic_round(w, q, rng)
    assert u.shape == w.shape and u.dtype == w.dtype
    levels = np.atleast_2d(q.levels(w))
    assert np.isin(u, levels).all()
    if q.elementwise:
        below = np.array([levels[0][levels[0] <= v].max(initial=levels[0][0]) for v in w.flat])
        above = np.array([levels[0][levels[0] >= v].min(initial=levels[0][-1]) for v in w.flat])
        assert ((u.ravel() == below) | (u.ravel() == above)).all()


@pytest.mark.parametrize(
    "q",
    [
        prox.Binary(),
        prox.Levels((-1.0, 0.0, 0.25, 2.0)),
        prox.FixedPoint(4, 2),
        prox.Integers(4, axis=0),
        prox.Affine(3, axis=1),
        prox.Codebook("e2m1", block=4),
        prox.Uniform(3),
    ],
    ids=repr,
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mean_and_variance(q, dtype):
    w = np.random.default_rng(1).uniform(-0.9, 0.9, (3, 4)).astype(dtype)
    rng = np.random.default_rng(2)
    u = np.array([stochastic_round(w, q, rng) for _ in range(REPEATS)], np.float64)
    levels = np.atleast_2d(q.levels(w)).astype(np.float64)
    rows = np.repeat(levels, w.size // len(levels), axis=0)
    order = np.arange(w.size).reshape(w.shape)
    order = (np.moveaxis(order, q.axis, 0) if q.axis is not None else order).ravel()
    x = w.astype(np.float64).ravel()[order]
    x = np.clip(x, rows[:, 0], rows[:, -1])  # an integer zero point may leave some beyond
    low = np.where(rows <= x[:, None], rows, -np.inf).max(axis=1)
    high = np.where(rows >= x[:, None], rows, np.inf).min(axis=1)
    drawn = u.reshape(REPEATS, -1)[:, order]
    scale = np.sqrt(np.maximum((x - low) * (high - x), 1e-30) / REPEATS)
    assert (np.abs(drawn.mean(axis=0) - x) <= 5 * scale + 1e-6).all()
    spread = np.square(drawn - x).mean(axis=0)
    close = 6 * np.max(high - low) ** 2 / REPEATS**0.5 / 2
    assert spread == pytest.approx((x - low) * (high - x), abs=close)


def test_what_is_on_a_level_stays_and_what_is_beyond_goes_to_the_end():
    rng, q = np.random.default_rng(0), prox.Levels([-1, 0, 3])
    w = np.array([-1.0, 0.0, 3.0, 7.0, -2.0])
    for _ in range(20):
        assert stochastic_round(w, q, rng).tolist() == [-1, 0, 3, 3, -1]
    assert stochastic_round([0.3], prox.Levels([1]), rng).tolist() == [1.0]


def test_one_generator_one_result_and_in_place():
    q, w = prox.Integers(3), np.random.default_rng(0).normal(size=(8, 9))
    u = stochastic_round(w, q, np.random.default_rng(3))
    assert (stochastic_round(w, q, np.random.default_rng(3)) == u).all()
    rng = np.random.default_rng(3)
    assert (stochastic_round(w, q, rng) == u).all() and (stochastic_round(w, q, rng) != u).any()
    strided = np.zeros((9, 16)).T[::2]
    assert stochastic_round(w, q, np.random.default_rng(3), out=strided) is strided
    assert (strided == u).all()
    assert stochastic_round(w, q, np.random.default_rng(3), out=w) is w and (w == u).all()


def test_the_largest_floats():
    most = np.finfo(np.float64).max / 2
    w = np.zeros(1000)
    u = stochastic_round(w, prox.Levels([-most, most]), np.random.default_rng(0))
    assert set(u.tolist()) == {-most, most} and 300 < (u > 0).sum() < 700


def test_small_steps_are_not_lost_when_weights_are_rounded_by_chance():
    """Weights that are kept in four bits: steps of a tenth of the grid never arrive otherwise."""
    q = prox.FixedPoint(4, 2)
    ends = {}
    for name in ("nearest", "stochastic"):
        rng, w = np.random.default_rng(0), np.zeros(200)
        for _ in range(40):
            moved = w + 0.025
            w = stochastic_round(moved, q, rng) if name == "stochastic" else q.project(moved)
        ends[name] = w.mean()
    assert ends["nearest"] == 0 and 0.9 < ends["stochastic"] < 1.1


def test_it_trains_straight_through():
    q, rng = prox.Levels([-1, 1]), np.random.default_rng(0)
    w = pq.nn.Parameter(np.full(64, 0.1))
    optimizer = pq.optim.SGD([w], 0.05)
    for _ in range(200):
        optimizer.zero_grad()
        drawn = pq.functional.straight_through(w, lambda w: stochastic_round(w, q, rng))
        ((drawn + 1) ** 2).sum().backward()
        optimizer.step()
    assert (q.project(w.data) == -1).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stochastic_round([0.5], "binary", np.random.default_rng(0)), "set must be"),
        (lambda: stochastic_round([0.5], prox.Binary(), 0), "rng must be a numpy.random.Generator"),
        (lambda: stochastic_round([1], prox.Binary(), np.random.default_rng(0)), "w must be of"),
    ],
)
def test_mistakes_are_told(call, message):
    with pytest.raises(TypeError, match=message):
        call()
