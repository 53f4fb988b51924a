"""Softmax and the losses: stability, reductions, refusals. Values and gradients: test_ops.py."""

import numpy as np
import pytest

import proxquant_np.functional as F
from proxquant_np import Tensor


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
