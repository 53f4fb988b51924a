"""Softmax and the losses: stability, reductions, refusals. Values and gradients: test_ops.py."""

import numpy as np
import pytest

import proxquant_np.functional as F
from proxquant_np import Tensor, gradcheck


def leaf(x, dtype=np.float64):
    return Tensor(np.array(x, dtype), requires_grad=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shift", [-1e5, 0, 1e5])
def test_large_logits_do_not_overflow(dtype, shift):
    x = np.array([[0.0, 1.0, -2.0]]) + shift
    expected = np.exp([0.0, 1.0, -2.0]) / np.exp([0.0, 1.0, -2.0]).sum()
    t = leaf(x, dtype)
    np.testing.assert_allclose(F.softmax(t, 1).data[0], expected, rtol=1e-6)
    np.testing.assert_allclose(F.log_softmax(t, 1).data[0], np.log(expected), rtol=1e-6)
    lse = np.log(np.exp([0.0, 1.0, -2.0]).sum()) + shift
    np.testing.assert_allclose(F.logsumexp(t, 1).data, [lse], rtol=1e-6)
    loss = F.cross_entropy(t, np.array([2]))
    assert loss.dtype == dtype
    np.testing.assert_allclose(loss.item(), -np.log(expected[2]), rtol=1e-6)
    loss.backward()
    np.testing.assert_allclose(t.grad[0], expected - [0, 0, 1], rtol=1e-6)


def test_masked_logits():
    """-inf takes a class out: probability 0, gradient 0."""
    t = leaf([[0.0, -np.inf, 1.0]])
    y = F.softmax(t, 1)
    assert y.data[0, 1] == 0
    y.backward(np.array([[1.0, 2.0, 3.0]]))
    assert t.grad[0, 1] == 0 and np.isfinite(t.grad).all()
    t.grad = None
    F.cross_entropy(t, np.array([0])).backward()
    assert t.grad[0, 1] == 0 and np.isfinite(t.grad).all()


def test_logsumexp_of_nothing_but_minus_infinity():
    t = leaf([[-np.inf, -np.inf], [0.0, 0.0]])
    y = F.logsumexp(t, 1)
    assert y.data.tolist() == [-np.inf, np.log(2)]
    F.sum(y[1:]).backward()
    assert t.grad.tolist() == [[0, 0], [0.5, 0.5]]


def test_reductions_agree():
    rng = np.random.default_rng(0)
    x, target = rng.normal(size=(4, 3, 2)), rng.integers(0, 3, (4, 2))
    each = F.cross_entropy(Tensor(x), target, reduction="none")
    assert each.shape == (4, 2)
    assert np.isclose(F.cross_entropy(Tensor(x), target, reduction="sum").item(), each.data.sum())
    assert np.isclose(F.cross_entropy(Tensor(x), Tensor(target)).item(), each.data.mean())


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.uint64])
def test_any_integer_dtype_for_classes(dtype):
    t = leaf([[1.0, 2.0], [3.0, 5.0]])
    F.cross_entropy(t, np.array([0, 1], dtype)).backward()
    np.testing.assert_allclose(t.grad.sum(axis=1), 0, atol=1e-15)


def probabilities(target, classes):
    return np.moveaxis(np.eye(classes)[target], -1, 1)


def definition(x, q, weight, n):
    """sum of -w_c q_c log p_c over everything, and over n."""
    log_p = x - np.log(np.exp(x).sum(1, keepdims=True))
    w = weight.reshape(-1, *(1,) * (x.ndim - 2))
    each = -(w * q * log_p).sum(1)
    return {"none": each, "sum": each.sum(), "mean": each.sum() / n}


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 2)])
def test_cross_entropy_is_its_definition(shape, weighted, smoothing, reduction):
    rng = np.random.default_rng(0)
    x, target = rng.normal(size=shape), rng.integers(0, 3, shape[:1] + shape[2:])
    target.flat[1] = -100
    w = rng.uniform(0.5, 2, 3) if weighted else np.ones(3)
    options = dict(reduction=reduction, label_smoothing=smoothing)
    weight = w if weighted else None
    kept = target >= 0
    q = (1 - smoothing) * probabilities(target * kept, 3) + smoothing / 3
    q *= np.expand_dims(kept, 1)
    wanted = definition(x, q, w, (w[target * kept] * kept).sum())[reduction]
    found = F.cross_entropy(x, target, weight, **options)
    np.testing.assert_allclose(found.data, wanted, rtol=1e-13)
    assert gradcheck(lambda x: F.cross_entropy(x, target, weight, **options), x)

    q = rng.dirichlet(np.ones(3), target.shape)
    q = np.moveaxis(q, -1, 1)
    smooth = (1 - smoothing) * q + smoothing / 3
    wanted = definition(x, smooth, w, target.size)[reduction]
    found = F.cross_entropy(x, q, weight, **options)
    np.testing.assert_allclose(found.data, wanted, rtol=1e-13)
    assert gradcheck(lambda x, q: F.cross_entropy(x, q, weight, **options), [x, q])


def test_one_example_without_a_batch():
    x = np.array([1.0, 2.0, 0.5])
    alone, batch = F.cross_entropy(x, np.array(2)), F.cross_entropy(x[None], np.array([2]))
    assert alone.shape == () and alone.data == batch.data
    assert F.cross_entropy(x, np.eye(3)[2]).item() == pytest.approx(batch.item(), rel=1e-15)
    assert gradcheck(lambda x: F.cross_entropy(x, np.array(2)), x)


def test_ignored_and_impossible_classes_leave_no_trace():
    """Neither NaN logits that are ignored nor 0 * inf reach the loss or the gradient."""
    t = leaf([[np.nan, 0.0], [1.0, -np.inf]])
    loss = F.cross_entropy(t, np.array([7, 0]), ignore_index=7)
    loss.backward()
    assert loss.item() == 0 and t.grad.tolist() == [[0, 0], [0, 0]]
    t = leaf([[1.0, -np.inf]])
    F.cross_entropy(t, np.array([[1.0, 0.0]])).backward()
    assert t.grad.tolist() == [[0, 0]]
    weight = np.array([1.0, 0.0])
    assert F.cross_entropy(leaf([[0.0, -np.inf]]), np.array([1]), weight, reduction="sum").data == 0


LOGITS = np.zeros((2, 3))


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (TypeError, "integer classes, got float64", lambda: F.cross_entropy(LOGITS, np.zeros(2))),
        (
            ValueError,
            r"\(2, 3\) and \(3,\)",
            lambda: F.cross_entropy(LOGITS, np.zeros(3, int)),
        ),
        (ValueError, r"\(\) and \(\)", lambda: F.cross_entropy(LOGITS[0, 0], np.array(0))),
        (
            ValueError,
            r"classes 0\.\.2, got 0\.\.3",
            lambda: F.cross_entropy(LOGITS, np.array([0, 3])),
        ),
        (
            ValueError,
            r"classes 0\.\.2, got -1\.\.0",
            lambda: F.cross_entropy(LOGITS, np.array([0, -1])),
        ),
        (
            TypeError,
            r"weight must be an array .*\(3,\).* by name: reduction='sum'",
            lambda: F.cross_entropy(LOGITS, np.zeros(2, int), "sum"),
        ),
        (
            ValueError,
            r"weight must have shape \(3,\), got \(2,\)",
            lambda: F.cross_entropy(LOGITS, np.zeros(2, int), np.ones(2)),
        ),
        (
            ValueError,
            r"label_smoothing must be a number >= 0 and <= 1, got 2",
            lambda: F.cross_entropy(LOGITS, np.zeros(2, int), label_smoothing=2),
        ),
        (
            ValueError,
            "nothing to average: every target is ignored",
            lambda: F.cross_entropy(LOGITS, np.full(2, -100)),
        ),
        (
            TypeError,
            "floats, got int64",
            lambda: F.cross_entropy(LOGITS.astype(int), np.eye(3)[:2]),
        ),
        (TypeError, "positional", lambda: F.mse_loss(LOGITS, LOGITS, "sum")),
        (ValueError, r"empty.*\(0, 3\)", lambda: F.cross_entropy(LOGITS[:0], np.zeros(0, int))),
        (ValueError, "'avg'", lambda: F.cross_entropy(LOGITS, np.zeros(2, int), reduction="avg")),
        (ValueError, "'avg'", lambda: F.mse_loss(LOGITS, LOGITS, reduction="avg")),
        (ValueError, r"\(2, 3\) and \(3,\)", lambda: F.mse_loss(LOGITS, LOGITS[0])),
        (ValueError, r"empty.*\(0, 3\)", lambda: F.mse_loss(LOGITS[:0], LOGITS[:0])),
    ],
)
def test_mistakes_are_explained(error, message, call):
    with pytest.raises(error, match=message):
        call()
