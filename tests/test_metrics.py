"""What is measured, against values by hand."""

import hashlib

import numpy as np
import pytest

from proxquant_np import Tensor, nn, optim, prox, quantizable_parameters
from proxquant_np.training import fit
from proxquant_np.training.metrics import (
    evaluate,
    quantization_gap,
    quantized_copy,
    sign_change,
    transitions,
)

A = np.array([1.0, -1.0, 0.0, -0.0])
B = np.array([[-2.0, 3.0]])


def test_sign_change_by_hand():
    assert sign_change(A, A) == 0
    assert sign_change(A, -A) == 0.5  # zeros of either sign are +1
    assert sign_change(A, np.array([1.0, 1.0, -1e-300, 5.0])) == 0.5
    assert sign_change(np.zeros(3), np.array([1e-300, 2.0, -1e-300])) == 1 / 3
    assert sign_change(B, -B) == 1
    assert sign_change(np.float32([1e-45]), np.float32([-1e-45])) == 1
    assert sign_change(np.array([np.inf]), np.array([-np.inf])) == 1


def test_collections_are_pooled_over_coordinates():
    assert sign_change([A, B], [A, -B]) == 2 / 6  # not the mean of 0 and 1
    assert sign_change({"a": A, "b": B}, [Tensor(A), Tensor(-B)]) == 2 / 6
    assert sign_change((x for x in (A, B)), (A, -B)) == 2 / 6
    assert sign_change(nn.Parameter(B), -B) == 1


def test_mappings_are_paired_by_name():
    assert sign_change({"a": B, "b": -B}, {"b": -B, "a": B}) == 0
    with pytest.raises(ValueError, match=r"names, got \['a'\] and \['b'\]"):
        sign_change({"a": B}, {"b": B})


def test_transitions_by_hand():
    a = np.array([0.5, 0.5, 0.5, -0.5, -0.5, -0.5, 0.0, 0.0, 0.0, -0.0])
    b = np.array([0.3, -0.3, 0.0, 0.3, -0.3, -0.0, 0.3, -0.3, 0.0, 0.0])
    assert transitions(a, b) == (0.2, 0.2, 0.2)
    assert transitions(a, b)._fields == ("flips", "to_zero", "from_zero")
    assert transitions([a, A], [b, A]) == (2 / 14, 2 / 14, 2 / 14)
    tiny = np.float32([1e-30])
    assert transitions(tiny, -tiny).flips == 1  # their product is 0


def test_quantization_gap_by_hand():
    w = np.array([1.0, -1.0, 0.0, 0.25, -3.0], np.float32)
    assert quantization_gap(w, prox.BinaryL1()) == (0 + 0 + 1 + 0.75 + 2) / 5
    assert quantization_gap([w, np.ones(5)], prox.BinaryL2()) == 3.75 / 10
    assert quantization_gap(w, prox.LevelsL2([-1, 0, 1])) == (0.25 + 2) / 5
    assert quantization_gap({"w": prox.sign_pm(w)}, prox.BinaryL1()) == 0
    many = np.full(1 << 20, 0.9, np.float32)
    assert quantization_gap(many, prox.BinaryL1()) == float(1 - np.float32(0.9))


@pytest.mark.parametrize("measure", [sign_change, transitions])
def test_pairs_that_make_no_sense(measure):
    with pytest.raises(ValueError, match=r"same shapes, got \[\(4,\)\] and \[\(1, 2\)\]"):
        measure(A, B)
    with pytest.raises(ValueError, match="same shapes"):
        measure([A, B], [A])
    with pytest.raises(TypeError, match="b must hold floats, got dtype int"):
        measure(A, np.ones(4, int))
    with pytest.raises(ValueError, match=r"a \(shape \(2,\)\) must hold numbers, got NaN"):
        measure([np.nan, 1.0] * np.ones(2), np.ones(2))
    for nothing in ([], np.zeros((0, 3)), {}):
        with pytest.raises(ValueError, match="a must hold at least one weight"):
            measure(nothing, nothing)


def test_gap_refuses_what_makes_no_sense():
    for bad in ([], np.zeros(0), np.array([np.nan]), np.array([np.inf])):
        with pytest.raises(ValueError, match=r"^w "):
            quantization_gap(bad, prox.BinaryL1())
    with pytest.raises(TypeError, match=r"^w "):
        quantization_gap(np.ones(3, int), prox.BinaryL1())


def network():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))


def fingerprint(model):
    state = b"".join(v.tobytes() for v in model.state_dict().values())
    return hashlib.sha256(state + str(model[2].rng.bit_generator.state).encode()).hexdigest()


X = np.random.default_rng(0).normal(size=(11, 3)).astype(np.float32)
Y = np.arange(11) % 2


def test_evaluate_by_hand():
    class Fixed(nn.Module):
        def forward(self, x):
            assert not self.training
            return Tensor(np.log(x.data))

    p = np.array([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    result = evaluate(Fixed(), p, np.array([0, 0, 0, 1]))
    assert result.error == 0.25  # a tie is the first class
    assert result.loss == pytest.approx(-np.mean(np.log([0.5, 0.9, 0.2, 0.6])))
    deep = np.stack([p, p[::-1]], axis=2)  # logits (n, c, 2)
    assert evaluate(Fixed(), deep, np.zeros((4, 2), int)).error == 0.5


@pytest.mark.parametrize("batch_size", [1, 4, 11, 12])
def test_evaluate_does_not_depend_on_its_batches(batch_size):
    model = network()
    whole = evaluate(model, X, Y)
    assert evaluate(model, X, Y, batch_size) == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_evaluate_needs_batches(batch_size):
    with pytest.raises(ValueError, match=f"batch_size must be an integer >= 1, got {batch_size}"):
        evaluate(nn.Linear(3, 2), np.ones((4, 3)), np.zeros(4, int), batch_size)


def test_evaluate_changes_nothing():
    model = network()
    model[1].eval()
    before, modes = fingerprint(model), [m.training for _, m in model.named_modules()]
    evaluate(model, X, Y)
    assert fingerprint(model) == before
    with pytest.raises(TypeError):
        evaluate(model, X, Y.astype(float))
    assert [m.training for _, m in model.named_modules()] == modes
    assert all(p.grad is None for p in model.parameters())


def test_evaluate_refuses_what_makes_no_sense():
    for x, y in ((X[:0], Y[:0]), (X, Y[:5]), (X[:5], Y)):
        with pytest.raises(ValueError, match=f"got {len(x)} and {len(y)}"):
            evaluate(network(), x, y)


def test_quantized_copy():
    model, regularizer = network(), prox.BinaryL1()
    before = fingerprint(model)
    copied = quantized_copy(model, regularizer)
    evaluate(copied.train(), X, Y)
    copied(Tensor(X))  # moves its own statistics and generator
    assert fingerprint(model) == before
    for i in (0, 3):
        np.testing.assert_array_equal(copied[i].weight.data, prox.sign_pm(model[i].weight.data))
        np.testing.assert_array_equal(copied[i].bias.data, model[i].bias.data)
    some = quantized_copy(model, regularizer, [model[3].weight])
    assert quantization_gap(some[3].weight, regularizer) == 0
    np.testing.assert_array_equal(some[0].weight.data, model[0].weight.data)


def test_quantized_copy_deploys_frozen_weights_as_they_are():
    """A layer frozen at ternary levels, say, while the others are trained towards binary ones."""
    model = network()
    optim.quantize_and_freeze([model[0].weight], prox.TernaryL2())
    copied = quantized_copy(model, prox.BinaryL1())
    np.testing.assert_array_equal(copied[0].weight.data, model[0].weight.data)
    assert np.unique(copied[0].weight.data).size == 3
    assert set(np.unique(copied[3].weight.data)) == {-1, 1}


def test_quantized_copy_keeps_shared_weights_shared():
    shared = nn.Linear(3, 3)
    copied = quantized_copy(nn.Sequential(shared, nn.ReLU(), shared), prox.BinaryL1())
    assert copied[0].weight is copied[2].weight
    assert quantization_gap(copied[0].weight, prox.BinaryL1()) == 0


def test_what_cannot_be_learned_from_is_named():
    """In `fit` and `evaluate`, before anything is done: not as a loss that diverged."""
    x, y = np.zeros((4, 2)), np.zeros(4, int)
    model = nn.Linear(2, 2, dtype=np.float64)
    sgd = optim.SGD(model.parameters(), 0.1)
    bad = x.copy()
    bad[2, 1] = np.nan
    for error, message, pair in (
        (TypeError, "must hold arrays, got a list of inputs", (x.tolist(), y)),
        (TypeError, "must hold arrays, got a list of targets", (x, y.tolist())),
        (
            ValueError,
            r"got 1 NaN or infinite ones among 8 entries, the first at \[2, 1\]",
            (bad, y),
        ),
    ):
        with pytest.raises(error, match="train .*" + message):
            fit(model, sgd, pair, steps=1, batch_size=2, progress=False)
        with pytest.raises(error, match="validation .*" + message):
            fit(model, sgd, (x, y), validation=pair, steps=1, batch_size=2, progress=False)
        with pytest.raises(error, match=message):
            evaluate(model, *pair)


def test_no_parameters_says_where_they_are_looked_for():
    class Mine(nn.Module):
        def __init__(self):
            self.weight = nn.Parameter(np.ones(2))

    model = Mine()
    sgd = optim.SGD(model.parameters(), 0.1)
    with pytest.raises(ValueError, match="modules name in `quantizable`"):
        optim.ProxGradient(sgd, quantizable_parameters(model), prox.BinaryL1(), prox.Linear(1.0))
