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
    monkeypatch.setattr(norm, "_WIDTH", 12)  # 12 rows of 4 pixels, and one of 2
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


def in_order(x, order):
    """The same array, lying in memory in this order of its axes."""
    return x.transpose(order).copy().transpose(np.argsort(order))


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1), (2, 3, 1, 0), (3, 0, 2, 1)])
@pytest.mark.parametrize("residual", [None, (0, 2, 3, 1)])
def test_any_memory_order(rng, order, residual, monkeypatch):
    """Blocks follow the memory; a gradient and a residual may lie in another order."""
    x, g, r = rng.normal(size=(3, 7, 5, 6, 4))
    w, b = rng.normal(size=(2, 5))
    results = []
    for small in (1 << 14, 0):
        monkeypatch.setattr(norm, "_SMALL", small)
        monkeypatch.setattr(norm, "_WIDTH", 60)
        monkeypatch.setattr(norm, "_BLOCK", 200)
        tensors = [Tensor(a, True) for a in (in_order(x, order), w, b)]
        other = Tensor(in_order(r, residual), True) if residual else None
        y = F.batch_norm(tensors[0], None, None, *tensors[1:], True, residual=other, relu=True)
        y.backward(g)
        results.append([y.data, *(t.grad for t in tensors), *([other.grad] if residual else [])])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("shape", [(40, 3, 5, 5), (999, 7), (1 << 17, 2), (16, 8, 32, 32)])
@pytest.mark.parametrize("value", [1e7, 1.1e7, 9_999_999, 0.1])
def test_constants_have_no_variance(shape, value):
    """Small and in blocks: of a constant, the variance is 0 and the running one decays by 0.9."""
    mean, var = np.zeros(shape[1], np.float32), np.ones(shape[1], np.float32)
    x = np.full(shape, value, np.float32)
    y = F.batch_norm(x, mean, var, training=True, momentum=0.1).data
    assert np.all(var == np.float32(0.9)) and np.all(np.abs(y) <= 1e-3 * value**0.5)
    np.testing.assert_allclose(mean, np.float32(0.1) * x.flat[0], rtol=1e-6)


def far_from_zero(case, rng):
    """Images whose mean is 1e5 deviations away, everywhere or except where a sample would look."""
    x = rng.normal(1e4, 0.1, (128, 8, 32, 32))
    if case == "a black row":
        x[:, :, 0] = 0
    if case == "a black image":
        x[0] = 0
    return x.astype(np.float32)


@pytest.mark.parametrize("case", ["even", "a black row", "a black image"])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1), (2, 3, 1, 0)])
def test_small_deviations_from_a_large_mean(rng, case, order):
    """Statistics to 1e-5, values as exact as x * slope + shift can be in float32."""
    x = far_from_zero(case, rng)
    channels = x.astype(np.float64).transpose(1, 0, 2, 3).reshape(8, -1)
    exact = (channels - channels.mean(1)[:, None]) / np.sqrt(channels.var(1) + 1e-5)[:, None]
    mean, var = np.zeros(8, np.float32), np.zeros(8, np.float32)
    y = F.batch_norm(in_order(x, order), mean, var, training=True, momentum=1.0).data
    np.testing.assert_allclose(mean, channels.mean(1), rtol=1e-7)
    np.testing.assert_allclose(var, channels.var(1, ddof=1), rtol=1e-5)
    error = np.abs(y.transpose(1, 0, 2, 3).reshape(8, -1) - exact).max()
    assert error <= 2 * np.finfo(np.float32).eps * 1e4 / np.sqrt(channels.var(1).min())


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
                "momentum must be a number >= 0 and <= 1",
                lambda m=m: F.batch_norm(X, None, None, training=True, momentum=m),
            )
            for m in (-0.1, 1.5, np.nan)
        ),
        *(
            (
                "eps must be a number >= 0",
                lambda e=e: F.batch_norm(X, None, None, training=True, eps=e),
            )
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
