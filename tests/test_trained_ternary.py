"""Trained ternary weights: the published gradients, true ones for the levels, and a network."""

from __future__ import annotations

import numpy as np
import pytest

import proxquant_np as pq
import proxquant_np.functional as F
from proxquant_np import nn
from proxquant_np.data import load_digits
from proxquant_np.prox import TernaryL2
from proxquant_np.training import fit, metrics

W = np.array([1.0, -2.0, 0.09, -0.1, 0.11, 0.0, -0.0])  # the threshold is 0.1


def leaf(data):
    return nn.Parameter(np.asarray(data, np.float64))


def test_the_published_forward_and_backward():
    w, pos, neg, g = leaf(W), leaf(3.0), leaf(0.5), np.arange(1.0, 8.0)
    q = nn.trained_ternary(w, pos, neg)
    assert q.data.tolist() == [3, -0.5, 0, 0, 3, 0, 0]
    q.backward(g)
    assert w.grad.tolist() == [3 * 1, 0.5 * 2, 3, 4, 3 * 5, 6, 7]
    assert pos.grad == 1 + 5 and neg.grad == -2


def test_the_levels_have_true_gradients():
    """Of a function of the levels alone, in which the codes are constants."""
    x = np.random.default_rng(0).normal(size=(4, 7))

    def loss(pos, neg):
        return F.tanh(F.linear(pq.Tensor(x), nn.trained_ternary(pq.Tensor(W[None]), pos, neg)))

    assert pq.gradcheck(loss, [np.array(0.7), np.array(-0.3)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_layer_starts_at_the_levels_that_fit_its_codes_best(dtype):
    linear = nn.Linear(5, 4, rng=0, dtype=dtype)
    layer = nn.TrainedTernaryLinear(linear, threshold=0.3)
    w, q = linear.weight.data, layer.ternary().data
    assert q.dtype == layer.pos.dtype == dtype and layer.pos.shape == ()
    for sign, level in ((1, layer.pos), (-1, layer.neg)):
        assert np.allclose(level.data, np.abs(w[sign * w > 0.3 * np.abs(w).max()]).mean())
    assert ((q == 0) == (np.abs(w) <= 0.3 * np.abs(w).max())).all()
    assert TernaryL2().value(q) == pytest.approx(0, abs=1e-12)
    assert list(layer.state_dict()) == ["weight", "bias", "pos", "neg"]
    assert not pq.quantizable_parameters(layer)
    layer.weight.data[...] = 7
    assert not (w == 7).any()


def test_weights_all_zero_or_on_one_side():
    linear = nn.Linear(3, 2, bias=False)
    for fill, q in ((0, 0), (0.5, 0.5), (-0.5, -0.5)):
        linear.weight.data[...] = fill
        layer = nn.TrainedTernaryLinear(linear)
        assert (layer.ternary().data == q).all() and layer.bias is None
    with pytest.raises(ValueError, match="threshold"):
        nn.TrainedTernaryLinear(linear, 1.0)


def test_it_trains_on_the_digits():
    """From a network in full precision: codes and levels both learn, and it classifies."""
    digits = load_digits()
    start = pq.models.MLP(rng=0)
    common = dict(batch_size=32, progress=False)
    fit(start, pq.optim.Adam(start.parameters(), 3e-3), digits.train, steps=400, **common)
    model = nn.Sequential(
        *(
            nn.TrainedTernaryLinear(layer, 0.2) if isinstance(layer, nn.Linear) else layer
            for layer in start.layers
        )
    )
    layers = [layer for layer in model if isinstance(layer, nn.TrainedTernaryLinear)]

    def codes():
        return np.concatenate([layer.ternary().data.ravel() for layer in layers])

    def levels():
        return np.array([[float(layer.pos.data), float(layer.neg.data)] for layer in layers])

    before = codes(), levels()
    untrained = metrics.evaluate(model, *digits.validation).error
    fit(model, pq.optim.Adam(model.parameters(), 3e-3), digits.train, steps=400, **common)
    trained = metrics.evaluate(model, *digits.validation).error
    assert trained < 0.06 and trained < untrained / 2
    assert 0.02 < np.mean((codes() > 0) != (before[0] > 0)) < 0.5
    moved = np.abs(levels() / before[1] - 1)  # batch norm undoes most of a scale but the last
    assert (moved > 0).all() and moved[-1].min() > 0.02
    assert all(len(np.unique(layer.ternary().data)) == 3 for layer in layers)


@pytest.mark.parametrize("base", [pq.optim.Adam, lambda p, lr: pq.optim.SGD(p, lr, momentum=0.9)])
def test_the_optimizer_takes_the_steps_of_the_layers(base):
    """`TrainedTernary` on plain layers, and straight-through layers under the same base."""
    digits = load_digits(np.float64)
    plain, twin = (pq.models.MLP((64, 16, 10), rng=0, dtype=np.float64) for _ in range(2))
    layered = nn.Sequential(
        *(
            nn.TrainedTernaryLinear(layer, 0.2) if isinstance(layer, nn.Linear) else layer
            for layer in twin.layers
        )
    )
    weights = pq.quantizable_parameters(plain)
    ttq = pq.optim.TrainedTernary(base(plain.parameters(), 1e-3), weights, threshold=0.2)
    other = base(layered.parameters(), 1e-3)
    common = dict(steps=30, batch_size=32, progress=False)
    fit(plain, ttq, digits.train, **common)
    fit(layered, other, digits.train, **common)
    layers = [layer for layer in layered if isinstance(layer, nn.TrainedTernaryLinear)]
    for w, z, levels, layer in zip(weights.values(), ttq.latent, ttq.levels, layers, strict=True):
        assert np.allclose(z, layer.weight.data, rtol=1e-9, atol=1e-12)
        assert np.allclose(levels, [layer.pos.data, layer.neg.data], rtol=1e-9)
        assert np.allclose(w.data, layer.ternary().data, rtol=1e-9)
        assert np.array_equal(w.data, TernaryL2().project(w.data))


def test_a_level_stops_at_zero():
    w = leaf([1.0, -2.0, 0.0])
    ttq = pq.optim.TrainedTernary(pq.optim.SGD([w], 1.0), [w])
    (w * np.array([5.0, -0.5, 0.0])).sum().backward()
    ttq.step()
    assert ttq.levels[0].tolist() == [0.0, 1.5]
    assert ttq.latent[0].tolist() == [-4.0, -1.0, 0.0] and w.data.tolist() == [-1.5, -1.5, 0.0]
    assert np.array_equal(w.data, TernaryL2().project(w.data))


def test_the_optimizer_resumes_to_the_bit(tmp_path):
    digits, common = load_digits(), dict(batch_size=32, progress=False)

    def run(steps, **more):
        model = pq.models.MLP((64, 16, 10), rng=0)
        base = pq.optim.SGD(model.parameters(), 0.05, momentum=0.9)
        ttq = pq.optim.TrainedTernary(base, pq.quantizable_parameters(model))
        fit(model, ttq, digits.train, steps=steps, **common, **more)
        return [p.data for p in ttq.params] + ttq.latent + ttq.levels

    path = tmp_path / "run.npz"
    run(13, checkpoint=path)
    for one, other in zip(run(20, checkpoint=path), run(20), strict=True):
        assert np.array_equal(one, other)
