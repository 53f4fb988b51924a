"""The penalties of sparsity: their published maps, and their proxes against a search."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prox_strategies import level_sets, strengths, weights

import proxquant_np as pq
from proxquant_np import prox
from proxquant_np.plotting import prox_map
from proxquant_np.prox.brute_force import prox_fault

ZERO = prox.Levels([0])
gammas = st.sampled_from([0.25, 0.5, 1.0, 3.0])


def soft(w, s):
    return np.sign(w) * np.maximum(np.abs(w) - s, 0)


def hard(w, s):
    return np.where(w * w > 2 * s, w, 0)


def ridge(w, s):
    return w / (1 + s)


def huber(w, s, gamma):
    return np.where(np.abs(w) <= gamma * (1 + s), w / (1 + s), w - s * gamma * np.sign(w))


def firm(w, s, gamma):
    """In Gao and Bruce's form: thresholds s < gamma."""
    middle = np.sign(w) * gamma * (np.abs(w) - s) / (gamma - s)
    return np.where(np.abs(w) <= s, 0, np.where(np.abs(w) <= gamma, middle, w))


def elastic_net(w, s, gamma):
    return soft(w, s) / (1 + s * gamma)


W = np.linspace(-4, 4, 129)


@pytest.mark.parametrize("s", [0.3, 0.7, 1.9])
def test_the_published_maps(s):
    for r, expected in (
        (prox.L1(ZERO), soft(W, s)),
        (prox.L2(ZERO), ridge(W, s)),
        (prox.L0(), hard(W, s)),
        (prox.Huber(knee=0.5), huber(W, s, 0.5)),
        (prox.MCP(knee=2.5), firm(W, s, 2.5)),
        (prox.ElasticNet(ridge=0.75), elastic_net(W, s, 0.75)),
    ):
        assert r.prox(W, s) == pytest.approx(expected, abs=1e-14), r


def test_mcp_is_the_hard_threshold_from_gamma_on_and_the_soft_one_without_end():
    assert prox.MCP(knee=0.5).prox(W, 2.0).tolist() == np.where(np.abs(W) > 1, W, 0).tolist()
    assert prox.MCP(knee=1e9).prox(W, 0.7) == pytest.approx(soft(W, 0.7), abs=1e-8)
    assert prox.Huber(knee=1e-9).prox(W, 0.7e9) == pytest.approx(soft(W, 0.7), abs=1e-8)
    assert prox.Huber(knee=1e9).prox(W, 0.7) == pytest.approx(ridge(W, 0.7))


@pytest.mark.parametrize("kind", [prox.Huber, prox.MCP, prox.ElasticNet])
@given(values=level_sets(), gamma=gammas, w=weights(), s=strengths())
def test_proxes_are_minimisers_for_every_gamma(kind, values, gamma, w, s):
    r = kind(prox.Levels(values), gamma)
    assert prox_fault(r.prox, r, w, s) is None
    assert prox.parse(repr(r)) == r


@given(w=weights(), s=strengths())
def test_a_penalty_of_levels_is_that_of_zero_moved_to_the_nearest(w, s):
    levels = prox.Levels([-2, 0.5, 3])
    q = levels.project(w)
    d = (w - q).astype(np.float64)
    for kind in (prox.L0, prox.Huber, prox.MCP, prox.ElasticNet):
        near = 1e-5 * (1 + np.abs(w))
        moved = q + kind().prox(d, s)
        jump = np.abs(kind().prox(d * (1 + 1e-5), s) - kind().prox(d * (1 - 1e-5), s)) > near
        assert (np.abs(kind(levels).prox(w, s) - moved) <= near)[~jump].all()


def test_a_penalty_trains_packs_and_plots():
    model = pq.nn.Sequential(pq.nn.Linear(8, 4, rng=0))
    weight = next(iter(model.parameters()))
    r = prox.MCP(prox.Levels([-0.25, 0, 0.25]), knee=0.5)
    optimizer = pq.optim.ProxGradient(pq.optim.SGD([weight], 0.1), [weight], r, prox.Linear(1.0))
    for _ in range(60):
        optimizer.zero_grad()
        (weight * weight).sum().backward()
        optimizer.step()
    assert pq.training.metrics.quantization_gap(weight.data, r) == 0
    assert (pq.packing.Codes.of(weight.data, r.set).array() == weight.data).all()
    prox_map(r, strengths=[0.25, 1.0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: prox.MCP(knee=0), "knee must be a number > 0 and < inf, got 0"),
        (lambda: prox.Huber(knee=np.inf), "knee must be a number > 0 and < inf"),
        (lambda: prox.ElasticNet(ridge="1"), "ridge must be a number > 0"),
        (lambda: prox.L0(prox.Ternary()), "set must have fixed levels"),
        (lambda: prox.L0(prox.FixedPoint(4, 2, "wrap")), "set must have fixed levels"),
        (lambda: prox.L0([0]), "set must be a quantized set"),
    ],
)
def test_mistakes_are_told(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


@pytest.mark.parametrize("r", [prox.Huber(knee=1e-60), prox.ElasticNet(ridge=1e-60)])
def test_an_infinite_strength_gives_the_level_where_the_number_is_zero_in_float32(r):
    w = np.array([0.5, -2.0, 1e-40], np.float32)
    for strength in (1e39, np.inf):  # the first is infinite in float32
        assert r.prox(w, strength).tolist() == [0, 0, 0]


def test_mcp_of_weights_whose_squares_overflow():
    assert prox.MCP(knee=1e300).value([1e300]) == pytest.approx(5e299)
