"""BinaryRelax and Parq: their published maps, their R, and their place under a homotopy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prox_strategies import strengths, weights

import proxquant_np as pq
from proxquant_np.data import load_digits
from proxquant_np.optim import Adam, DualAveraging
from proxquant_np.prox import (
    BinaryL1,
    BinaryL2,
    BinaryRelax,
    Geometric,
    LevelsL1,
    Linear,
    MultiBitL2,
    Parq,
    TernaryL2,
)
from proxquant_np.training import fit, metrics

INNER = [BinaryL1(), LevelsL1([-1, 0, 0.5]), TernaryL2(), MultiBitL2(2, axis=0), MultiBitL2(1)]
every = pytest.mark.parametrize("inner", INNER, ids=repr)


@given(weights(), strengths())
def test_binary_relax_of_a_binary_set_is_binary_l2(w, s):
    assert (BinaryRelax(BinaryL1()).prox(w, s) == BinaryL2().prox(w, s)).all()
    assert BinaryRelax(BinaryL1()).value(w) == BinaryL2().value(w)


@every
def test_the_published_maps(inner):
    w = np.random.default_rng(0).normal(size=(4, 25))
    q, levels = inner.project(w), inner.levels(w)
    for m in (0.5, 3.0):
        assert np.allclose(BinaryRelax(inner).prox(w, m), (w + m * q) / (1 + m))
    for s in (0.1, 0.5, 0.9, 1.0, 5.0):
        u = Parq(inner).prox(w, s)
        for i, row in enumerate(w):
            own = levels[i] if levels.ndim == 2 else levels
            for x, got in zip(row, u[i], strict=True):
                j = np.clip(np.searchsorted(own, x, side="right") - 1, 0, len(own) - 2)
                c, r = (own[j] + own[j + 1]) / 2, max(1 - s, 1e-12)
                assert np.isclose(got, np.clip(c + (x - c) / r, own[j], own[j + 1]))
    assert (Parq(inner).prox(w, 1.0) == q).all()
    assert (Parq(inner).project(w) == q).all()
    assert (Parq(inner).levels(w) == levels).all()


@every
@given(w=weights(), s=st.floats(0.01, 2))
def test_points_of_q_have_value_zero_and_stay(inner, w, s):
    if w.ndim == 0:
        w = w.reshape(1)
    q = BinaryRelax(inner).project(w)
    if inner == MultiBitL2(2, axis=0):  # its levels, of q, need not be those of w
        return
    for r in (BinaryRelax(inner), Parq(inner)):
        assert r.value(q) == 0
        assert (r.prox(q, s) == q).all()


def test_the_value_of_parq():
    r = Parq(LevelsL1([-1, 0, 2]))
    assert r.value(np.array([-0.5, 1.0, 0.0])) == 0.5 * (0.25 + 1)
    assert r.value(np.array([2.5])) == r.value(np.array([-1.5])) == np.inf


def test_a_strength_too_small_for_the_dtype_is_not_zero():
    """R is infinite beyond the ends, so any strength but 0 brings a weight to them."""
    w = np.array([-3.0, 0.25, 3.0], np.float32)
    for s in (1e-188, 1e-40, 1e-3):
        assert np.allclose(Parq(BinaryL1()).prox(w, s), [-1, 0.25, 1], atol=1e-3)
    assert Parq(BinaryL1()).prox(w, 0).tolist() == [-3, 0.25, 3]


def test_homotopies_make_the_published_schedules():
    """Parq's slope 1 / r grows until the map is hard; BinaryRelax's m grows ever on."""
    lr, w = 0.05, np.array([-0.3, 0.01, 0.2, 0.7])
    hard = Linear.to(1 / lr, steps=100)
    assert np.allclose(Parq(BinaryL1()).prox(w, lr * hard(50)), [-0.6, 0.02, 0.4, 1])
    assert Parq(BinaryL1()).prox(w, lr * hard(100)).tolist() == [-1, 1, 1, 1]
    grow = Geometric(1 / lr, 1.1)
    m = lr * grow(10)
    assert np.isclose(m, 1.1**10)
    relaxed = BinaryRelax(BinaryL1()).prox(w, m)
    assert np.allclose(relaxed, (w + m * np.array([-1, 1, 1, 1])) / (1 + m))


@pytest.mark.parametrize("lr", [0.1, 1e-3])
def test_parq_is_hard_once_its_steps_are_taken(lr):
    w = np.array([-0.3, -0.0, 0.0, 1e-9, 0.7])
    for steps in range(1, 200):
        hard = Linear.to(1 / lr, steps)
        assert Parq(BinaryL1()).prox(w, lr * hard(steps)).tolist() == [-1, 1, 1, 1, 1]


@pytest.mark.parametrize("inner", [BinaryL1(), TernaryL2(axis=0)])
@pytest.mark.parametrize("relax", [Parq, BinaryRelax])
def test_a_network_trains_with_their_published_schedules(relax, inner):
    """Lazily; the weights in use go from soft to the levels, and the digits are classified."""
    digits, lr, steps = load_digits(), 1e-2, 200
    homotopy = {Parq: Linear.to(1 / lr, steps - 50), BinaryRelax: Geometric(1 / lr, 1.05)}[relax]
    model = pq.models.MLP(rng=0)
    params = pq.quantizable_parameters(model)
    opt = DualAveraging(Adam(model.parameters(), lr), params, relax(inner), homotopy)
    common = dict(batch_size=32, progress=False)
    history = fit(model, opt, digits.train, steps=steps, validation=digits.validation, **common)
    gaps = history.epochs["quantization_gap"]
    assert gaps[0] > 20 * gaps[-1]
    assert (gaps[-1] == 0) == (relax is Parq)
    pq.quantize_and_freeze(params, relax(inner))
    pq.recalibrate_batch_norm(model, [digits.train.x])
    assert all(inner.value(p.data) < 1e-6 for p in params.values())
    assert metrics.evaluate(model, *digits.validation).error < 0.08


def test_only_regularizers_are_relaxed():
    for kind in (Parq, BinaryRelax):
        with pytest.raises(TypeError, match="regularizer must"):
            kind(BinaryL1)
    assert repr(Parq(TernaryL2(axis=0))) == "Parq(regularizer=TernaryL2(axis=0))"
    assert Parq(BinaryL1()) == Parq(BinaryL1()) != BinaryRelax(BinaryL1())
