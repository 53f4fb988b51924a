"""The multi-layer perceptron."""

import numpy as np
import pytest

import proxquant_np.functional as F
from proxquant_np import models, quantizable_parameters
from proxquant_np.models import MLP


def count(model):
    return sum(p.size for p in model.parameters())


def test_the_default_is_the_digits_network():
    model = MLP()
    assert list(dict(model.named_parameters())) == [
        "layers.0.weight",
        "layers.1.weight",
        "layers.1.bias",
        "layers.3.weight",
        "layers.4.weight",
        "layers.4.bias",
        "layers.6.weight",
        "layers.6.bias",
    ]
    assert count(model) == 64 * 64 + 2 * 64 + 64 * 64 + 2 * 64 + 64 * 10 + 10
    assert model(np.zeros((5, 64), np.float32)).shape == (5, 10)
    assert [p.shape for p in quantizable_parameters(model).values()] == [
        (64, 64),
        (64, 64),
        (10, 64),
    ]


@pytest.mark.parametrize(
    ("sizes", "batch_norm", "parameters"),
    [
        ((3, 2), True, 3 * 2 + 2),
        ((3, 2), False, 3 * 2 + 2),
        ((3, 5, 2), True, 3 * 5 + 2 * 5 + 5 * 2 + 2),
        ((3, 5, 2), False, 3 * 5 + 5 + 5 * 2 + 2),
        ([3, 5, 4, 2], False, 3 * 5 + 5 + 5 * 4 + 4 + 4 * 2 + 2),
    ],
)
def test_sizes(sizes, batch_norm, parameters):
    model = MLP(sizes, batch_norm)
    assert count(model) == parameters
    assert model(np.ones((4, 3), np.float32)).shape == (4, 2)


def test_computes_what_it_says():
    model = MLP((3, 5, 4, 2), batch_norm=False, rng=1, dtype=np.float64)
    x = np.random.default_rng(0).normal(size=(6, 3))
    a, b, c, d, e, f = (p.data for p in model.parameters())
    hidden = np.maximum(np.maximum(x @ a.T + b, 0) @ c.T + d, 0)
    np.testing.assert_allclose(model(x).data, hidden @ e.T + f, rtol=1e-12)


def test_gradients_reach_every_parameter():
    model = MLP((3, 5, 2))
    F.cross_entropy(model(np.eye(3, dtype=np.float32)), np.array([0, 1, 0])).backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in model.parameters())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_and_seed(dtype):
    model, again, other = MLP(rng=0, dtype=dtype), MLP(rng=0, dtype=dtype), MLP(rng=1, dtype=dtype)
    assert {p.dtype for p in model.parameters()} == {np.dtype(dtype)}
    for (name, value), same in zip(
        model.state_dict().items(), again.state_dict().values(), strict=True
    ):
        assert np.array_equal(value, same), name
    assert model(np.zeros((2, 64), dtype)).dtype == dtype
    assert not np.array_equal(model.layers[0].weight.data, other.layers[0].weight.data)
    assert not np.array_equal(model.layers[0].weight.data, model.layers[3].weight.data)


def test_weights_start_he_normal():
    for size in (50, 400):
        w = MLP((size, 300, 2)).layers[0].weight.data
        assert abs(w.var() * size / 2 - 1) < 4 * np.sqrt(2 / w.size)


@pytest.mark.parametrize("sizes", [(), (3,), (3, 0), (0, 3), (3, -1, 2)])
def test_bad_sizes_are_refused(sizes):
    with pytest.raises(
        ValueError, match=r"at least two widths|sizes\[\d\] must be an integer >= 1"
    ):
        MLP(sizes)


def test_inputs_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"64|63"):
        MLP()(np.zeros((2, 63), np.float32))


def test_a_deep_and_thin_network_is_built_from_its_description():
    """Its weights are far more than the largest of them, yet few."""
    model = MLP((3,) * 40)
    rebuilt = models.build(models.describe(model), largest=9)
    assert [p.shape for p in rebuilt.parameters()] == [p.shape for p in model.parameters()]
    with pytest.raises(ValueError, match="description must be"):
        models.build({"name": "MLP", "arguments": {"sizes": [260, 100, 2]}}, largest=10_000)
