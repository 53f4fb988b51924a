"""Bop: by hand, against a loop over single weights, resumed, and on a network."""

import kill_run
import numpy as np
import pytest

from proxquant_np import nn
from proxquant_np.optim import SGD, Adam, Bop
from proxquant_np.training import fit


def parameter(data, dtype=np.float64):
    return nn.Parameter(np.array(data, dtype))


def test_by_hand():
    """The first weight is to flip at once, the second has to be told twice, the third is right."""
    p, bias = parameter([0.3, 1.0, -2.0]), parameter([0.5])
    bop = Bop(SGD([p, bias], lr=0.5), [p], threshold=0.25, adaptivity=0.5)
    assert p.data.tolist() == [1, 1, -1]
    p.grad, bias.grad = np.array([2.0, 0.4, 9.0]), np.ones(1)
    bop.step()
    assert p.data.tolist() == [-1, 1, -1]
    bop.step()
    assert p.data.tolist() == [-1, -1, -1]
    assert bop.momentum[0].tolist() == pytest.approx([1.5, 0.3, 6.75])
    assert p.grad.tolist() == [2.0, 0.4, 9.0]
    assert bias.data.tolist() == [-0.5]  # the base stepped it


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_against_a_loop(dtype):
    rng = np.random.default_rng(0)
    p = parameter(rng.normal(size=(3, 4)), dtype)
    bop = Bop(Adam([p], 0.1), {"w": p}, threshold=0.02, adaptivity=0.1)
    w, m = [1.0 if x >= 0 else -1.0 for x in p.data.flat], [0.0] * 12
    flips = 0
    for _ in range(60):
        p.grad = rng.normal(size=(3, 4)).astype(dtype)
        bop.step()
        for i, g in enumerate(p.grad.flat):
            m[i] = 0.9 * m[i] + 0.1 * float(g)
            if abs(m[i]) > 0.02 and (m[i] > 0) == (w[i] > 0):
                w[i] = -w[i]
                flips += 1
        assert p.data.flatten().tolist() == w
        assert p.data.dtype == bop.momentum[0].dtype == dtype
    assert 50 < flips < 60 * 12


def test_frozen_and_unreached_weights_stay():
    p, q = parameter([0.5, -0.5]), parameter([0.5])
    bop = Bop(SGD([p, q], 1.0), [p, q], adaptivity=0.5)
    p.requires_grad, p.grad = False, np.array([9.0, -9.0])
    bop.step()
    assert (p.data.tolist(), q.data.tolist()) == ([1, -1], [1])
    assert not bop.momentum[0].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": -1e-3}, r"threshold must be a number >= 0 and < inf, got -0.001"),
        ({"adaptivity": 1.0}, r"adaptivity must be a number >= 0 and < 1.0, got 1.0"),
        ({"adaptivity": float("nan")}, "adaptivity"),
    ],
)
def test_refusals(options, message):
    p = parameter([1.0])
    with pytest.raises(ValueError, match=message):
        Bop(SGD([p], 0.1), [p], **options)


def test_bad_gradients_change_nothing():
    p = parameter([1.0, -1.0])
    bop = Bop(SGD([p], 0.1), [p], adaptivity=0.5)
    p.grad = np.array([np.nan, 1.0])
    with pytest.raises(ValueError, match="NaN or infinite"):
        bop.step()
    assert p.data.tolist() == [1, -1] and not bop.momentum[0].any() and bop.steps == 0


def train(steps, checkpoint=None):
    model = kill_run.network()
    weights = nn.quantizable_parameters(model)
    bop = Bop(Adam(model.parameters(), 0.01), weights, threshold=1e-3, adaptivity=0.05)
    common = dict(batch_size=5, validation=kill_run.VALIDATION, progress=False)
    return model, bop, fit(model, bop, kill_run.TRAIN, steps=steps, checkpoint=checkpoint, **common)


def test_trains_a_network_and_resumes_to_the_bit(tmp_path):
    model, bop, history = train(150)
    assert all(set(np.unique(p.data)) == {-1, 1} for p in bop.params)
    assert np.mean(history.steps["loss"][-13:]) < 0.8 * np.mean(history.steps["loss"][:13])
    train(70, tmp_path / "a")
    assert kill_run.digest(*train(150, tmp_path / "a")) == kill_run.digest(model, bop, history)


def test_weights_that_are_no_signs_are_refused():
    """Such as those of a state that was loaded since; nothing changes."""
    model = nn.Sequential(nn.Linear(4, 3, rng=0), nn.Linear(3, 2, rng=1))
    state = model.state_dict()
    weights = nn.quantizable_parameters(model)
    bop = Bop(SGD(model.parameters(), 0.1), weights, threshold=0.0)
    signs = model.state_dict()
    model.load_state_dict(state)
    for p in model.parameters():
        p.grad = np.ones_like(p.data)
    before = bop.state_dict()
    with pytest.raises(ValueError, match=r"params\[0\] \(shape \(3, 4\)\) must be -1 or \+1"):
        bop.step()
    after = {**model.state_dict(), **bop.state_dict()}
    assert all(np.array_equal(v, after[k]) for k, v in {**state, **before}.items())
    model.load_state_dict(signs)
    bop.step()
    assert np.abs(model[0].weight.data).max() == np.abs(model[0].weight.data).min() == 1


def test_weights_frozen_at_construction_are_not_trained_as_they_are():
    p, q = parameter([0.3, -0.2]), parameter([0.5])
    p.requires_grad = False
    bop = Bop(SGD([p, q], 0.1), [p, q])
    bop.step()
    p.requires_grad, p.grad = True, np.ones(2)
    with pytest.raises(ValueError, match=r"params\[0\] .*must be -1 or \+1"):
        bop.step()


def test_a_state_out_of_range_changes_nothing():
    p = parameter([0.3, -0.2])
    bop = Bop(SGD([p], 0.1), [p], 0.5, 0.25)
    for name, wrong in (("threshold", -1.0), ("adaptivity", 1.0), ("base.lr", -1.0)):
        state = bop.state_dict()
        state |= {"momentum.0": np.ones(2), "base.lr": 0.7, "homotopy_step": 9, name: wrong}
        before = bop.state_dict()
        with pytest.raises(ValueError, match="must be a number >= 0"):
            bop.load_state_dict(state)
        assert all(np.array_equal(before[k], v) for k, v in bop.state_dict().items()), name


def test_a_gradient_of_another_shape_is_not_broadcast():
    p = parameter([[0.3, -0.2]])
    bop = Bop(SGD([p], 0.1), [p])
    p.grad = np.ones(2)
    with pytest.raises(ValueError, match=r"gradient of base.params\[0\] must have its shape"):
        bop.step()
