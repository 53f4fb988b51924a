"""Layer 1, differentiate: softmax and the losses."""

from __future__ import annotations

import numpy as np

from proxquant_np.autograd.summation import pairwise_sum
from proxquant_np.autograd.tensor import Array, Traced, differentiable


def _stable_exp(x: Array, dim: int) -> tuple[Array, Array, Array]:
    """top = max(x), exp(x - top) and its sum: neither can overflow."""
    largest = float(np.finfo(x.dtype).max)
    top = np.maximum.reduce(x, dim, keepdims=True)
    top = np.clip(top, -largest, largest)  # so that a row of -inf has the sum 0, not NaN
    e = x - top
    np.exp(e, out=e)
    return top, e, pairwise_sum(e, dim, keepdims=True)


@differentiable
def logsumexp(input: Array, dim: int, keepdim: bool = False) -> Traced:
    """log sum exp(x) over one axis; its gradient is the softmax (0 where all x are -inf).

    Examples:
        >>> F.logsumexp(pq.Tensor([1000.0, -1000.0]), dim=0)
        Tensor(1000., dtype=float64)
    """
    top, e, total = _stable_exp(input, dim)
    with np.errstate(divide="ignore"):
        y = top + np.log(total)
    share = lambda g: g.reshape(y.shape) * (e / np.where(total == 0, 1, total))  # noqa: E731
    return y if keepdim else np.squeeze(y, dim), share


@differentiable
def softmax(input: Array, dim: int) -> Traced:
    """exp(x) / sum exp(x) along one axis.

    Examples:
        >>> F.softmax(pq.Tensor([1000.0, 1000.0]), dim=0)
        Tensor([0.5, 0.5], dtype=float64)
    """
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
    top, e, total = _stable_exp(input, dim)
    y = input - top - np.log(total)
    return y, lambda g: g - (e / total) * pairwise_sum(g, dim, keepdims=True)


def _reduction(name: str, reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{name}: reduction must be 'mean', 'sum' or 'none', got {reduction!r}")


@differentiable
def cross_entropy(input: Array, target: Array, reduction: str = "mean") -> Traced:
    """-log softmax(input)[target]: logits (n, c) or (n, c, ...), integer classes (n,) or (n, ...).

    Reduced by 'mean' or 'sum', or by 'none' to one loss per target.

    Raises:
        TypeError: classes that are not integers.
        ValueError: shapes that do not fit, an empty batch, or a class outside 0..c-1.

    Examples:
        >>> logits = pq.Tensor([[0.0, 0.0], [0.0, 1000.0]])
        >>> F.cross_entropy(logits, np.array([0, 1]), reduction="none").numpy().round(4)
        array([0.6931, 0.    ])
    """
    _reduction("cross_entropy", reduction)
    target = np.asarray(target)
    if target.dtype.kind not in "iu":
        raise TypeError(f"cross_entropy: target must hold integer classes, got {target.dtype}")
    if input.ndim < 2 or target.shape != input.shape[:1] + input.shape[2:]:
        raise ValueError(
            "cross_entropy: input must have shape (n, c, ...) and target (n, ...), "
            f"got {input.shape} and {target.shape}"
        )
    if target.size == 0:
        raise ValueError(f"cross_entropy: the batch is empty, input has shape {input.shape}")
    classes = input.shape[1]
    flat = input if input.ndim == 2 else np.moveaxis(input, 1, -1).reshape(-1, classes)
    wanted = target.astype(np.intp).ravel()
    if wanted.view(np.uintp).max() >= classes:  # unsigned, so that -1 is large
        raise ValueError(
            f"cross_entropy: target must hold classes 0..{classes - 1}, "
            f"got {target.min()}..{target.max()}"
        )
    rows = np.arange(len(wanted))
    top, e, total = _stable_exp(flat, 1)
    losses = np.log(total[:, 0]) - (flat[rows, wanted] - top[:, 0])
    n = len(losses)

    def vjp(g: Array) -> tuple[Array, None]:
        p = e / total
        p[rows, wanted] -= 1
        p *= g / n if reduction == "mean" else g.reshape(-1, 1) if reduction == "none" else g
        if input.ndim > 2:
            p = np.moveaxis(p.reshape(*target.shape, classes), -1, 1)
        return p, None

    if reduction == "none":
        return losses.reshape(target.shape), vjp
    total_loss = pairwise_sum(losses)
    return (total_loss / n if reduction == "mean" else total_loss), vjp


@differentiable
def mse_loss(input: Array, target: Array, reduction: str = "mean") -> Traced:
    """(input - target)^2, reduced by 'mean' or 'sum', or 'none'. Shapes must be equal.

    Examples:
        >>> F.mse_loss(pq.Tensor([1.0, 2.0]), pq.Tensor([1.0, 4.0]))
        Tensor(2., dtype=float64)
    """
    _reduction("mse_loss", reduction)
    if np.shape(input) != np.shape(target):
        raise ValueError(
            f"mse_loss: input and target must have one shape, "
            f"got {np.shape(input)} and {np.shape(target)}"
        )
    gap = input - target
    if reduction == "mean" and gap.size == 0:
        raise ValueError(f"mse_loss: the batch is empty, input has shape {gap.shape}")
    n = gap.size if reduction == "mean" else 1
    y = gap * gap if reduction == "none" else pairwise_sum(gap * gap) / n
    return y, (lambda g: g * (2 / n * gap), lambda g: g * (-2 / n * gap))
