"""Batch normalization: statistics and refusals. Values and gradients in training: test_ops.py."""

from contextvars import ContextVar
from functools import partial

import numpy as np
import pytest

import proxquant_np.functional as F
from proxquant_np import Tensor, gradcheck
from proxquant_np.autograd import norm, threads


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5), (4, 3, 2, 2)])
def test_training_normalizes_and_moves_the_statistics(rng, shape):
    x = rng.normal(2, 3, shape)
    mean, var = np.full(3, 10.0), np.full(3, 20.0)
    y = F.batch_norm(Tensor(x), mean, var, training=True, momentum=0.25, eps=0).data
    channels = np.moveaxis(y, 1, 0).reshape(3, -1)
    np.testing.assert_allclose(channels.mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(channels.var(axis=1), 1)  # normalized by the biased variance ...
    batch = np.moveaxis(x, 1, 0).reshape(3, -1)
    np.testing.assert_allclose(mean, 7.5 + 0.25 * batch.mean(axis=1))
    np.testing.assert_allclose(var, 15 + 0.25 * batch.var(axis=1, ddof=1))  # ... kept unbiased


@pytest.mark.parametrize("affine", [True, False])
def test_evaluation_uses_the_statistics_and_leaves_them_alone(rng, affine):
    x, mean, var = rng.normal(size=(4, 3, 2)), rng.normal(size=3), rng.uniform(1, 2, 3)
    weight, bias = (rng.normal(size=3), rng.normal(size=3)) if affine else (None, None)
    before = mean.copy(), var.copy()
    y = F.batch_norm(Tensor(x), mean, var, weight, bias).data
    across = np.s_[:, None]
    desired = (x - mean[across]) / np.sqrt(var[across] + 1e-5)
    if affine:
        desired = desired * weight[across] + bias[across]
    np.testing.assert_allclose(y, desired)
    assert np.array_equal(mean, before[0]) and np.array_equal(var, before[1])
    fn = partial(lambda x, w, b: F.batch_norm(x, mean, var, w, b))
    assert gradcheck(fn, [x, weight, bias])
    assert gradcheck(fn, [x, weight, bias], method="complex")


@pytest.mark.parametrize("training", [True, False])
def test_blocks_and_threads_change_rounding_only(rng, training, monkeypatch):
    """Blocks smaller and larger than the data; the last one is shorter."""
    x, g, w, b = (rng.normal(size=s) for s in ((50, 3), (50, 3), 3, 3))
    monkeypatch.setattr(norm, "_SMALL", 0)
    monkeypatch.setattr(norm, "_WIDTH", 6)
    monkeypatch.setattr(threads, "_SMALL", 0)
    results = []
    for block, n in ((1 << 20, 1), (30, 1), (30, 2), (30, 2)):
        monkeypatch.setattr(norm, "_BLOCK", block)
        monkeypatch.setattr(threads, "_count", ContextVar("count", default=n))
        tensors = [Tensor(a, True) for a in (x, w, b)]
        mean, var = np.zeros(3), np.ones(3)
        y = F.batch_norm(tensors[0], mean, var, *tensors[1:], training)
        y.backward(g)
        results.append([y.data, mean, var, *(t.grad for t in tensors)])
    for one, *others, again in zip(*results, strict=True):
        for other in others:
            np.testing.assert_allclose(other, one, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(other, again)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("training", [True, False])
def test_dtype_is_kept(rng, dtype, training):
    x, w, b = (Tensor(rng.normal(size=s).astype(dtype), True) for s in ((5, 3), 3, 3))
    mean, var = np.zeros(3, dtype), np.ones(3, dtype)
    y = F.batch_norm(x, mean, var, w, b, training)
    y.backward(rng.normal(size=(5, 3)))
    assert {a.dtype for a in (y, mean, var, x.grad, w.grad, b.grad)} == {np.dtype(dtype)}


def test_training_gradient_without_weight_or_bias(rng):
    fn = partial(F.batch_norm, running_mean=None, running_var=None, training=True)
    assert gradcheck(fn, rng.normal(size=(5, 2)), method="complex")


def test_gradient_sums_to_zero_in_each_channel(rng):
    """A shift of a whole channel changes nothing."""
    x = Tensor(rng.normal(size=(5, 3, 2)), True)
    F.batch_norm(x, None, None, training=True).backward(rng.normal(size=(5, 3, 2)))
    np.testing.assert_allclose(x.grad.sum(axis=(0, 2)), 0, atol=1e-12)


X = np.arange(12.0).reshape(4, 3)


@pytest.mark.parametrize(
    ("message", "call"),
    [
        (r"\(n, c, \.\.\.\), got \(3,\)", lambda: F.batch_norm(X[0], None, None, training=True)),
        ("running_mean and running_var", lambda: F.batch_norm(X, None, None)),
        *(
            (
                "momentum must lie in",
                lambda m=m: F.batch_norm(X, None, None, training=True, momentum=m),
            )
            for m in (-0.1, 1.5, np.nan)
        ),
        *(
            ("eps be >= 0", lambda e=e: F.batch_norm(X, None, None, training=True, eps=e))
            for e in (-1e-5, np.nan)
        ),
        (r"more than one value.*\(1, 3\)", lambda: F.batch_norm(X[:1], None, None, training=True)),
        (
            r"weight must have shape \(3,\), got \(4,\)",
            lambda: F.batch_norm(X, None, None, np.ones(4), training=True),
        ),
        (
            r"running_var must have shape \(3,\), got \(2,\)",
            lambda: F.batch_norm(X, np.ones(3), np.ones(2)),
        ),
    ],
)
def test_mistakes_are_explained(message, call):
    with pytest.raises(ValueError, match=message):
        call()
