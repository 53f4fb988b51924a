"""Every operation in functional.py, once: how to draw its arguments, and what it should return.

tests/test_ops.py runs one property test over this table. To add an operation, add a row; or, if
it has a test file of its own, name that in TESTED_ELSEWHERE.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import strategies as draws
from hypothesis import strategies as st

import proxquant_np.functional as F


class Op(NamedTuple):
    """One row."""

    name: str
    arguments: st.SearchStrategy  # of (shapes of the tensor arguments, options)
    reference: Callable  # (*arrays, **options) -> array: the definition, in plain NumPy
    analytic: bool = True  # differentiable as a function of complex numbers, and defined for them
    domain: Callable = lambda *arrays: arrays  # moves drawn entries to where the operation is real
    arrange: Callable = lambda op, *tensors, **options: op(*tensors, **options)

    def draw(self, data):
        """Its tensor arguments as arrays, its options, the seed of their entries, and a layout."""
        shapes, options = data.draw(self.arguments)
        seed, layout = data.draw(draws.seeds), data.draw(draws.layouts)
        entries = (draws.entries(shape, seed, i) for i, shape in enumerate(shapes))
        return self.domain(*entries), options, seed, layout

    def __call__(self, *tensors, **options):
        """Call the operation on tensors."""
        return self.arrange(getattr(F, self.name), *tensors, **options)


def positive(*arrays):
    """|x|: in [1/64, 4]."""
    return tuple(np.abs(x) for x in arrays)


def positive_base(a, b):
    """a in [1/2, 5/2], b as it is."""
    return 0.5 + np.abs(a) / 2, b


def softmax(input, dim):
    """Not stable, and not meant to be."""
    return np.exp(input) / np.exp(input).sum(axis=dim, keepdims=True)


def cross_entropy(input, target, reduction):
    """Target by target."""
    losses = np.empty(target.shape, input.dtype)
    for at in np.ndindex(target.shape):
        logits = input[(at[0], slice(None), *at[1:])]
        losses[at] = np.log(np.exp(logits).sum()) - logits[target[at]]
    return reduced(losses, reduction)


def reduced(losses, reduction):
    """The losses themselves, their sum or their mean."""
    return losses if reduction == "none" else getattr(np, reduction)(losses)


def batch_norm(x, weight, bias):
    """Channel by channel."""
    y = np.empty_like(x)
    for c in range(x.shape[1]):
        one = x[:, c]
        y[:, c] = weight[c] * (one - one.mean()) / np.sqrt(one.var() + 1e-5) + bias[c]
    return y


def pad(input, pad, value):
    """np.pad, which counts axes from the first."""
    pairs = list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    pairs = [(0, 0)] * (input.ndim - len(pairs)) + pairs
    return np.pad(input, pairs, constant_values=value) if pairs else input


def dropout(input, p, training):
    """With the generator that `as_dropout` gives to the operation."""
    if not training or p == 0:
        return input
    keep = np.random.default_rng(1).random(input.shape, np.float32) >= p
    return np.where(keep, input / (1 - p), 0)


def as_dropout(op, x, **options):
    return op(x, **options, rng=np.random.default_rng(1))


def as_sequence(op, *tensors, **options):
    return op(tensors, **options)


def as_where(op, condition, a, b):
    return op(condition.data.real > 0, a, b)


def as_batch_norm(op, x, weight, bias):
    return op(x, None, None, weight, bias, True)


unary, binary, keep = draws.elementwise(), draws.elementwise(2), {"keepdim": st.booleans()}
limit = {"min": st.sampled_from([None, -1.0]), "max": st.sampled_from([None, 1.0])}
chance = {"p": st.sampled_from([0.0, 0.25, 0.5]), "training": st.booleans()}
one_axis = draws.reductions(1, several=False)


def over(reduce):
    """A NumPy reduction, by PyTorch's names."""
    return lambda x, dim, keepdim: reduce(x, axis=dim, keepdims=keepdim)


OPS = [
    Op("add", binary, np.add),
    Op("sub", binary, np.subtract),
    Op("mul", binary, np.multiply),
    Op("div", binary, np.divide),
    Op("neg", unary, np.negative),
    Op("pow", binary, np.power, domain=positive_base),
    Op("matmul", draws.matrix_products(), np.matmul),
    Op("linear", draws.linear_maps(), lambda x, w, b=0: np.einsum("...i,oi->...o", x, w) + b),
    Op("exp", unary, np.exp),
    Op("log", unary, np.log, domain=positive),
    Op("sqrt", unary, np.sqrt, domain=positive),
    Op("abs", unary, np.abs, analytic=False),
    Op("maximum", binary, np.maximum, analytic=False),
    Op("minimum", binary, np.minimum, analytic=False),
    Op(
        "clip",
        draws.with_options(unary, **limit),
        lambda x, min, max: np.clip(x, -np.inf if min is None else min, max),
        analytic=False,
    ),
    Op(
        "where",
        draws.elementwise(3),
        lambda condition, a, b: np.where(condition > 0, a, b),
        arrange=as_where,
    ),
    Op("relu", unary, lambda x: x * (x > 0), analytic=False),
    Op("tanh", unary, np.tanh),
    Op("sigmoid", unary, lambda x: 1 / (1 + np.exp(-x)), analytic=False),
    Op("softplus", unary, lambda x: np.log1p(np.exp(x)), analytic=False),
    Op("sum", draws.reductions(**keep), over(np.sum)),
    Op("mean", draws.reductions(1, **keep), over(np.mean)),
    Op("max", draws.reductions(1, **keep), over(np.max), analytic=False),
    Op("min", draws.reductions(1, **keep), over(np.min), analytic=False),
    Op(
        "var",
        draws.reductions(2, correction=st.integers(0, 1), **keep),
        lambda x, dim, correction, keepdim: np.var(x, dim, ddof=correction, keepdims=keepdim),
    ),
    Op("reshape", draws.reshapings(), lambda x, shape: np.reshape(x, shape)),
    Op("transpose", draws.axis_pairs(), lambda x, dim0, dim1: np.swapaxes(x, dim0, dim1)),
    Op("permute", draws.axis_orders(), lambda x, dims: np.transpose(x, dims)),
    Op("getitem", draws.indexings(), lambda x, index: x[index]),
    Op(
        "concatenate",
        draws.joinings(along_new_axis=False),
        lambda *xs, dim: np.concatenate(xs, axis=dim),
        arrange=as_sequence,
    ),
    Op(
        "stack",
        draws.joinings(along_new_axis=True),
        lambda *xs, dim: np.stack(xs, axis=dim),
        arrange=as_sequence,
    ),
    Op("pad", draws.paddings(), pad),
    Op("dropout", draws.with_options(unary, **chance), dropout, arrange=as_dropout),
    Op(
        "logsumexp",
        draws.with_options(one_axis, **keep),
        lambda x, dim, keepdim: np.log(np.exp(x).sum(axis=dim, keepdims=keepdim)),
    ),
    Op("softmax", one_axis, softmax),
    Op("log_softmax", one_axis, lambda x, dim: np.log(softmax(x, dim))),
    Op("cross_entropy", draws.classifications(), cross_entropy),
    Op(
        "mse_loss",
        draws.predictions(),
        lambda a, b, reduction: reduced((a - b) ** 2, reduction),
    ),
    Op("batch_norm", draws.batches_of_channels(), batch_norm, arrange=as_batch_norm),
]

TESTED_ELSEWHERE = {  # name: the test file; for what has no row, with the reason
    "straight_through": "test_ops.py",  # by design not the derivative of its value
    "conv2d": "test_conv.py",  # from here on: against loops, and the ways to call them are many
    "max_pool2d": "test_conv.py",
    "avg_pool2d": "test_conv.py",
    "embedding": "test_recurrent.py",
    "lstm": "test_recurrent.py",
}
