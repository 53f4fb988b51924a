"""Measurements on weights and on networks, none of which changes them."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

import proxquant_np.functional as F
from proxquant_np.autograd import Tensor, no_grad
from proxquant_np.checks import check_integer
from proxquant_np.data import Split, chunks
from proxquant_np.libraries import as_array, is_array, moved, numbers
from proxquant_np.nn import Module, Parameter
from proxquant_np.nn.module import beside
from proxquant_np.optim.quantized import Targets, targets, targets_in
from proxquant_np.prox import QuantizedSet, Regularizer, as_set

Weights = Any
"""One float array or tensor, or several in a mapping by name or an iterable, which are pooled."""


def _arrays(weights: Weights, name: str) -> list[np.ndarray]:
    if isinstance(weights, Mapping):
        weights = list(weights.values())
    one = isinstance(weights, Tensor) or is_array(weights)
    several = isinstance(weights, Iterable) and not one
    arrays = [
        as_array(w.data if isinstance(w, Tensor) else w)
        for w in (weights if several else [weights])
    ]
    for w in arrays:
        if w.dtype.kind != "f":
            raise TypeError(f"{name} must hold floats, got dtype {w.dtype}")
        if np.isnan(w).any():
            raise ValueError(f"{name} (shape {w.shape}) must hold numbers, got NaN entries")
    if not sum(w.size for w in arrays):
        raise ValueError(f"{name} must hold at least one weight, got none")
    return arrays


def _pairs(a: Weights, b: Weights) -> list[tuple[np.ndarray, np.ndarray]]:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        if set(a) != set(b):
            raise ValueError(f"a and b must have the same names, got {list(a)} and {list(b)}")
        b = {name: b[name] for name in a}  # in a's order
    first, second = _arrays(a, "a"), _arrays(b, "b")
    if [x.shape for x in first] != [x.shape for x in second]:
        raise ValueError(
            f"a and b must have the same shapes, got {[x.shape for x in first]} "
            f"and {[x.shape for x in second]}"
        )
    return list(zip(first, second, strict=True))


def sign_change(a: Weights, b: Weights) -> float:
    """The fraction of coordinates with sign_pm(a) != sign_pm(b), where sign_pm(0) = +1.

    a and b: arrays of the same shape, or collections of arrays, which are pooled; mappings are
    paired by name. Source: Bai, Wang, Liberty 2019, Appendix C.

    Raises:
        ValueError: shapes or names differ, entries are NaN, or there is nothing to compare.
        TypeError: the arrays are not floats.

    Examples:
        >>> before, after = np.array([-1.0, 0.0, 2.0, 3.0]), np.array([1.0, 1.0, 2.0, 3.0])
        >>> pq.training.metrics.sign_change(before, after)
        0.25
    """
    pairs = _pairs(a, b)
    changed = sum(np.count_nonzero((x >= 0) != (y >= 0)) for x, y in pairs)
    return float(changed / sum(x.size for x, _ in pairs))


class Transitions(NamedTuple):
    """Fractions of coordinates that changed sign, became zero, and left zero.

    Examples:
        >>> before, after = np.array([-1.0, 0.0, 1.0, 1.0]), np.array([1.0, 1.0, 0.0, 1.0])
        >>> pq.training.metrics.transitions(before, after)
        Transitions(flips=0.25, to_zero=0.25, from_zero=0.25)
    """

    flips: float
    to_zero: float
    from_zero: float


def transitions(a: Weights, b: Weights) -> Transitions:
    """Sign flips, moves to zero and moves from zero between quantized ternary weights a and b.

    Shapes, pooling and errors are those of `sign_change`.

    Examples:
        >>> before, after = np.array([-1.0, 0.0, 1.0, 1.0]), np.array([1.0, 1.0, 0.0, 1.0])
        >>> pq.training.metrics.transitions(before, after).flips
        0.25
    """
    pairs = _pairs(a, b)
    masks = [
        (((x < 0) & (y > 0)) | ((x > 0) & (y < 0)), (x != 0) & (y == 0), (x == 0) & (y != 0))
        for x, y in pairs
    ]
    counts = np.sum([numbers([np.count_nonzero(m) for m in three]) for three in masks], axis=0)
    return Transitions(*(counts / sum(x.size for x, _ in pairs)).tolist())


def quantization_gap(w: Weights, regularizer: QuantizedSet | Regularizer | None = None) -> float:
    """mean |w - P_Q(w)|, where P_Q projects each array onto a set or a regularizer's set; 0 on Q.

    w: an array, or a collection of arrays, which is pooled; errors are those of the regularizer.
    Without a regularizer: a wrapper, its groups, or a mapping from parameters to regularizers, so
    that each parameter has its own Q.

    Examples:
        >>> w = np.array([-1.0, 0.5, 2.0, 1.0])
        >>> pq.training.metrics.quantization_gap(w, pq.prox.BinaryL1())
        0.375
    """
    if regularizer is None:
        params, own = zip(*targets(w), strict=True)
        sets: Iterable[QuantizedSet] = map(as_set, own)
    else:
        params, sets = w, itertools.repeat(as_set(regularizer))
    pairs = list(zip(_arrays(params, "w"), sets, strict=False))
    total = sum(float(np.abs(x - q.project(x)).sum(dtype=np.float64)) for x, q in pairs)
    return total / sum(x.size for x, _ in pairs)


State = tuple[Tensor, ...]


def predict(
    model: Module, x: np.ndarray, y: np.ndarray, state: State | None = None
) -> tuple[Tensor, np.ndarray, State | None]:
    """Logits of a batch with classes on axis 1, the targets that match them, and the new state.

    A recurrent model maps (x, state) to (logits (..., classes), state): its logits and targets are
    flattened over all positions, and its state is detached. For any other model the state is None.

    Examples:
        >>> model = pq.models.MLP((4, 8, 2)).eval()
        >>> x, y = np.ones((5, 4), np.float32), np.zeros(5, int)
        >>> logits, targets, state = pq.training.metrics.predict(model, x, y)
        >>> logits.shape, targets.shape, state
        ((5, 2), (5,), None)
    """
    result = model(Tensor(x)) if state is None else model(Tensor(x), state)
    if isinstance(result, Tensor):
        return result, y, None
    logits, state = result
    flat = F.reshape(logits, (-1, logits.shape[-1]))
    return flat, y.reshape(-1), tuple(s.detach() for s in state)


class Evaluation(NamedTuple):
    """Mean cross-entropy and the fraction of wrong predictions.

    Examples:
        >>> pq.training.metrics.Evaluation(loss=0.0, error=0.0).perplexity
        1.0
    """

    loss: float
    error: float

    @property
    def perplexity(self) -> float:
        """exp(loss): the number of equally likely classes that is as uncertain."""
        return math.exp(self.loss) if self.loss < 709 else math.inf  # beyond the largest float


def evaluate(
    model: Module, x: np.ndarray, y: np.ndarray, batch_size: int = 512, length: int | None = None
) -> Evaluation:
    """Loss and error of a classifier on inputs x and classes y, in evaluation mode.

    The model's mode is restored, and nothing else in it changes. If a model predicts several
    classes per example, logits (n, c, ...) and y (n, ...), the measures are over all of them. With
    `length`, which recurrent models need, x and y are one stream, read in `data.chunks` of that
    length and `batch_size` columns, and the state is carried from chunk to chunk.

    Raises:
        ValueError: there are no examples, the numbers of inputs and targets differ, or batch_size
            is below 1.

    Examples:
        >>> model = pq.models.MLP((64, 32, 10), rng=0)
        >>> 0.5 < pq.training.metrics.evaluate(model, *pq.data.load_digits().test).error <= 1
        True
    """
    check_examples("x and y", x, y)
    check_integer("batch_size", batch_size, 1)
    batches = (
        [Split(x[i : i + batch_size], y[i : i + batch_size]) for i in range(0, len(y), batch_size)]
        if length is None
        else chunks(Split(x, y), batch_size, length)
    )
    modes = [(m, m.training) for _, m in model.named_modules()]
    model.eval()
    loss, wrong, count, state = 0.0, 0.0, 0, None
    try:
        with no_grad():
            for inputs, targets in batches:
                inputs = beside(inputs, model.parameters())
                logits, target, state = predict(model, inputs, targets, state)
                summed = F.cross_entropy(logits, target, reduction="sum").data
                differing = logits.data.argmax(1) != moved(target, logits.data)
                more, wrong_too = numbers([summed, np.count_nonzero(differing)])
                loss, wrong, count = loss + more, wrong + wrong_too, count + target.size
    finally:
        for module, mode in modes:
            module.training = mode
    return Evaluation(loss / count, wrong / count)


def check_examples(name: str, x: np.ndarray, y: np.ndarray) -> None:
    """Check that x and y are arrays of at least one finite input and of as many targets.

    Examples:
        >>> pq.training.metrics.check_examples("train", np.zeros((3, 2)), np.zeros(3, int))
        >>> pq.training.metrics.check_examples("train", np.zeros((3, 2)), np.zeros(4, int))
        Traceback (most recent call last):
            ...
        ValueError: train must hold at least one input and as many targets, got 3 and 4
    """
    for part, value in (("inputs", x), ("targets", y)):
        if not hasattr(value, "dtype"):
            raise TypeError(
                f"{name} must hold arrays, got a {type(value).__name__} of {part}: "
                "convert it by np.asarray (with the dtype of the model)"
            )
    if not 0 < len(x) == len(y):
        raise ValueError(
            f"{name} must hold at least one input and as many targets, got {len(x)} and {len(y)}"
        )
    if x.dtype.kind == "f":
        finite = np.isfinite(x)
        if not finite.all():
            first = np.argwhere(~finite)[0].tolist()
            raise ValueError(
                f"{name} must hold finite inputs, got {(~finite).sum()} NaN or infinite ones among "
                f"{finite.size} entries, the first at {first}"
            )


def quantized_copy(
    model: Module,
    regularizer: QuantizedSet | Regularizer | Targets,
    params: Iterable[Parameter] | None = None,
) -> Module:
    """A copy of the model in which `params` (default: its quantizable ones) are projected.

    In place of a regularizer, a wrapper, its groups, or a mapping from parameters to regularizers
    may say which parameters are projected, and each onto which set; then leave out `params`. Frozen
    parameters (requires_grad False) are deployed as they are, whatever their set.

    Examples:
        >>> model = pq.nn.Linear(3, 2, rng=0)
        >>> copy = pq.training.metrics.quantized_copy(model, pq.prox.BinaryL1())
        >>> np.unique(copy.weight.data), np.unique(model.weight.data).size
        (array([-1.,  1.], dtype=float32), 6)
    """
    copies: dict[int, Any] = {}  # deepcopy's memo, from the id of an object to its copy
    copied = copy.deepcopy(model, copies)
    for p, own in targets_in(model, regularizer, params):
        if p.requires_grad:
            data = copies[id(p)].data
            as_set(own).project(data, out=data)
    return copied
