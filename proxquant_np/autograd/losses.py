"""Softmax and the losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from proxquant_np.autograd.ops import axes_of, check_floats
from proxquant_np.autograd.summation import pairwise_sum
from proxquant_np.autograd.tensor import Array, Traced, as_array, differentiable
from proxquant_np.checks import check_choice, check_number
from proxquant_np.libraries import moved


def _stable_exp(x: Array, dim: int) -> tuple[Array, Array, Array]:
    """top = max(x), exp(x - top) and its sum, neither of which can overflow."""
    largest = float(np.finfo(x.dtype).max)
    top = (np.max if x.size else np.sum)(x, axis=dim, keepdims=True)  # np.max needs an entry
    top = np.clip(top, -largest, largest)  # so that a row of -inf has the sum 0, not NaN
    e = as_array(x - top)
    np.exp(e, out=e)
    return top, e, pairwise_sum(e, dim, keepdims=True)


@differentiable
def logsumexp(input: Array, dim: int | tuple[int, ...], keepdim: bool = False) -> Traced:
    """log sum exp(x) over one or several axes; the gradient is the softmax (0 if all x are -inf).

    Examples:
        >>> F.logsumexp(pq.Tensor([1000.0, -1000.0]), dim=0)
        Tensor(1000., dtype=float64)
    """
    check_floats("logsumexp", input)
    dim = axes_of("logsumexp", input, dim)
    top, e, total = _stable_exp(input, dim)
    with np.errstate(divide="ignore"):
        y = top + np.log(total)
    shown = y if keepdim else np.squeeze(y, dim)
    return shown, lambda g: g.reshape(y.shape) * (e / np.where(total == 0, 1, total))


def _one_axis(op: str, input: Array, dim: int) -> int | tuple[()]:
    check_floats(op, input)
    if not isinstance(dim, int | np.integer):
        raise TypeError(f"{op}: dim must be one axis, got {dim!r}")
    return axes_of(op, input, dim)


@differentiable
def softmax(input: Array, dim: int) -> Traced:
    """exp(x) / sum exp(x) along one axis.

    Examples:
        >>> F.softmax(pq.Tensor([1000.0, 1000.0]), dim=0)
        Tensor([0.5, 0.5], dtype=float64)
    """
    dim = _one_axis("softmax", input, dim)
    _, e, total = _stable_exp(input, dim)
    y = e / total
    return y, lambda g: y * (g - pairwise_sum(g * y, dim, keepdims=True))


@differentiable
def log_softmax(input: Array, dim: int) -> Traced:
    """x - logsumexp(x) along one axis.

    Examples:
        >>> F.log_softmax(pq.Tensor([1000.0, -1000.0]), dim=0)
        Tensor([    0., -2000.], dtype=float64)
    """
    dim = _one_axis("log_softmax", input, dim)
    top, e, total = _stable_exp(input, dim)
    y = input - top - np.log(total)
    return y, lambda g: g - (e / total) * pairwise_sum(g, dim, keepdims=True)


_REDUCTIONS = ("mean", "sum", "none")


@differentiable
def cross_entropy(
    input: Array,
    target: Array,
    weight: Array | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Traced:
    """-sum_c q_c log softmax(input)_c: logits (n, c), (n, c, ...) or (c,) against targets q.

    Targets are either integer classes, (n,), (n, ...) or (), for which q is 1 at the class and 0
    elsewhere, or probabilities of the input's shape, which are q. With label_smoothing s in [0, 1],
    q becomes (1 - s) q + s / c. Then `weight` (c,) multiplies each q_c. A target equal to
    `ignore_index` has loss 0. Reduction 'none' returns one loss per target, 'sum' their sum, and
    'mean' the sum divided by the number of targets or, for classes, by the sum of the weights of
    the targets not ignored. Probabilities receive a gradient; `weight` does not.

    Raises:
        TypeError: the logits are not floats, the target holds neither integers nor probabilities,
            or the weight is not an array.
        ValueError: the shapes do not fit, the batch is empty, a class is outside 0..c-1,
            label_smoothing is outside [0, 1], or 'mean' is asked for and every target is ignored.

    Source: PyTorch's definition; label smoothing, Szegedy et al. 2016.

    Examples:
        >>> logits = pq.Tensor([[0.0, 0.0], [0.0, 1000.0]])
        >>> F.cross_entropy(logits, np.array([0, 1]), reduction="none").numpy().round(4)
        array([0.6931, 0.    ])
    """
    check_choice("cross_entropy: reduction", reduction, _REDUCTIONS)
    check_floats("cross_entropy", input)
    target = as_array(target)
    check_number("cross_entropy: label_smoothing", label_smoothing, least=0, most=1)
    axis = min(1, input.ndim - 1)  # of the classes
    weight = _class_weights(weight, input.shape[axis : axis + 1], input.dtype)
    hard = target.dtype.kind in "iu"
    one_each = input.shape[:axis] + input.shape[axis + 1 :]
    if input.ndim == 0 or target.shape != (one_each if hard else input.shape):
        if not hard and target.shape == one_each:
            raise TypeError(f"cross_entropy: target must hold integer classes, got {target.dtype}")
        raise ValueError(
            "cross_entropy: input must have shape (c,), (n, c) or (n, c, ...) and target (), (n,) "
            f"or (n, ...), or input's for probabilities, got {input.shape} and {target.shape}"
        )
    if target.size == 0:
        raise ValueError(f"cross_entropy: input must not be empty, got shape {input.shape}")

    flat = _by_class(input, axis)
    if hard and not label_smoothing:
        losses, divisor, to_rows = _hard(flat, target, weight, ignore_index)
    else:
        q, divisor = _soft(flat, target, weight, ignore_index, label_smoothing, axis)
        losses, to_rows = _against(flat, q, weight, label_smoothing)
    if reduction != "mean":
        divisor = 1
    elif divisor == 0:
        raise ValueError(
            "cross_entropy: nothing to average: every target is ignored or has weight 0"
        )

    def vjp(g: Array) -> tuple[Array | None, Array | None, None]:
        each = g.reshape(-1, 1) / divisor
        dx, dq = to_rows(each)
        shape = (*one_each, input.shape[axis])
        back = lambda rows: _moved(rows.reshape(shape), -1, axis)  # noqa: E731
        return back(dx), None if hard else back(dq), None

    if reduction == "none":
        return losses.reshape(one_each), vjp
    return pairwise_sum(losses) / divisor, vjp


Rows = Callable[[Array], tuple[Array, Array | None]]
"""Maps the gradient of each loss, (n, 1), to those of logits and probabilities, (n, c)."""


def _by_class(x: Array, axis: int) -> Array:
    """(n, c, ...) as (n..., c)."""
    return _moved(x, axis, -1).reshape(-1, x.shape[axis])


def _moved(x: Array, source: int, destination: int) -> Array:
    """np.moveaxis, which takes 3 microseconds even if the axis stays."""
    stays = (source - destination) % x.ndim == 0
    return x if stays else np.moveaxis(x, source, destination)


def _class_weights(weight: Any, shape: tuple[int, ...], dtype: np.dtype) -> Array | None:
    if weight is None:
        return None
    if isinstance(weight, str):  # the third argument was once the reduction
        raise TypeError(
            f"cross_entropy: weight must be an array of shape {shape}, got {weight!r}; "
            f"give the reduction by name: reduction={weight!r}"
        )
    weight = as_array(weight).astype(dtype, copy=False)
    if weight.shape != shape:
        raise ValueError(f"cross_entropy: weight must have shape {shape}, got {weight.shape}")
    return weight


def _classes(target: Array, x: Array, ignore_index: int) -> tuple[Array, Array | None]:
    """The classes in one row, 0 for ignored ones, and which are kept (None if all are).

    Integers of NumPy are checked on the host and then moved to where x is.
    """
    n = x.shape[1]
    wanted = target.astype(np.intp).ravel()
    kept, largest = None, int(wanted.view(np.uintp).max())  # unsigned, so that -1 is large
    if 0 <= ignore_index < n or largest >= n:  # otherwise a device is waited for only once
        kept = wanted != ignore_index
        wanted = wanted * kept
        largest = int(wanted.view(np.uintp).max())
        kept = None if kept.all() else kept
    if largest >= n:
        raise ValueError(
            f"cross_entropy: target must hold classes 0..{n - 1}, "
            f"got {target.min()}..{target.max()}"
        )
    return moved(wanted, x), None if kept is None else moved(kept, x)


def _hard(
    x: Array, target: Array, weight: Array | None, ignore_index: int
) -> tuple[Array, Any, Rows]:
    """Losses, the divisor of a mean, and the VJP, for classes: entries are picked, not summed."""
    wanted, kept = _classes(target, x, ignore_index)
    rows = np.arange(len(wanted), like=wanted)
    top, e, total = _stable_exp(x, 1)
    losses = np.log(total[:, 0]) - (x[rows, wanted] - top[:, 0])
    share = None if weight is None else weight[wanted]  # of each row in the loss
    if kept is not None:
        share = kept.astype(x.dtype) if share is None else share * kept
    if share is not None:
        losses[share == 0] = 0  # they may be infinite
        losses *= share

    def to_rows(each: Array) -> tuple[Array, None]:
        p = e / total
        p[rows, wanted] -= 1
        if share is not None:
            p[share == 0] = 0
            each = each * share[:, None]
        p *= each
        return p, None

    return losses, len(losses) if share is None else pairwise_sum(share), to_rows


def _soft(
    x: Array,
    target: Array,
    weight: Array | None,
    ignore_index: int,
    smoothing: float,
    axis: int,
) -> tuple[Array, Any]:
    """q with smoothing and weights, (n, c), and the divisor of a mean."""
    n, classes = x.shape
    w = np.full_like(x, 1, shape=(classes,)) if weight is None else weight
    if target.dtype.kind not in "iu":
        q = _by_class(target, axis).astype(x.dtype)
        return ((1 - smoothing) * q + smoothing / classes) * w, n
    wanted, kept = _classes(target, x, ignore_index)
    q = np.tile(smoothing / classes * w, (n, 1))
    q[np.arange(n, like=x), wanted] += (1 - smoothing) * w[wanted]
    share = w[wanted]
    if kept is not None:
        q[~kept] = 0
        share = share * kept
    return q, pairwise_sum(share)


def _against(x: Array, q: Array, weight: Array | None, smoothing: float) -> tuple[Array, Rows]:
    """-sum_c q_c log p_c for each row, with 0 log 0 = 0, and the VJP."""
    top, e, total = _stable_exp(x, 1)
    log_p = x - top - np.log(total)
    with np.errstate(invalid="ignore"):
        losses = -pairwise_sum(np.where(q != 0, q * log_p, 0), 1)

    def to_rows(each: Array) -> tuple[Array, Array]:
        dx = (e / total * pairwise_sum(q, 1, keepdims=True) - q) * each
        slope = (smoothing - 1) * log_p
        return dx, (slope if weight is None else slope * weight) * each

    return losses, to_rows


@differentiable
def mse_loss(input: Array, target: Array, *, reduction: str = "mean") -> Traced:
    """(input - target)^2, reduced by 'mean', 'sum' or 'none'; the shapes must be equal.

    Examples:
        >>> F.mse_loss(pq.Tensor([1.0, 2.0]), pq.Tensor([1.0, 4.0]))
        Tensor(2., dtype=float64)
    """
    check_choice("mse_loss: reduction", reduction, _REDUCTIONS)
    if np.shape(input) != np.shape(target):
        raise ValueError(
            "mse_loss: input and target must have the same shape, "
            f"got {np.shape(input)} and {np.shape(target)}"
        )
    gap = input - target
    if reduction == "mean" and gap.size == 0:
        raise ValueError(f"mse_loss: input must not be empty, got shape {gap.shape}")
    n = gap.size if reduction == "mean" else 1
    y = gap * gap if reduction == "none" else pairwise_sum(gap * gap) / n
    return y, lambda g: (lambda: g * (2 / n * gap), lambda: g * (-2 / n * gap))
