"""Gradient-norm clipping, for recurrent networks, between backward and step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from proxquant_np.checks import check_number
from proxquant_np.libraries import on_host
from proxquant_np.optim.optimizer import Params, as_parameters

_RUN = 4096
# If a sum of n squares is at least n times this, squares that underflow do not matter.
_LEAST = {np.dtype(t): float(np.finfo(t).tiny / np.finfo(t).eps) for t in (np.float32, np.float64)}


@np.errstate(over="ignore", under="ignore", invalid="ignore")
def clip_grad_norm(params: Params, max_norm: float) -> float:
    """g <- g * min(1, max_norm / ||g||_2) in place, g being all gradients joined; returns ||g||_2.

    The norm returned is the one before clipping. Missing gradients count as 0. Where the gradients
    are arrays of another library, so is the norm, and it is not checked: if it is NaN or infinite,
    so are the clipped gradients. Source: Pascanu et al. 2013.

    Raises:
        ValueError: max_norm is < 0 or NaN, or the norm is NaN or infinite.

    Examples:
        >>> w = pq.nn.Parameter([1.0, 1.0])
        >>> (w * np.array([3.0, 4.0])).sum().backward()
        >>> pq.optim.clip_grad_norm([w], max_norm=1.0)
        5.0
        >>> w.grad
        array([0.6, 0.8])
    """
    max_norm = check_number("max_norm", max_norm, 0, below=math.inf)
    grads = [p.grad for p in as_parameters(params) if p.grad is not None]
    if grads and not on_host(grads[0]):
        return _clip_elsewhere([g for g in grads if g.size], max_norm)
    square, power = sum(float(_square(g)) for g in grads), 0
    # If squares, or their last digits, leave the range of the dtype, everything is first scaled by
    # a power of two, which is exact.
    least = max((g.size * _LEAST[g.dtype] for g in grads), default=0.0)
    if not least <= square < math.inf:
        top = max((float(np.max(np.abs(g), initial=0)) for g in grads), default=0.0)
        if not math.isfinite(top):
            raise ValueError(f"the norm of the gradients of params must be finite, got {top}")
        power = math.frexp(top)[1]
        square = sum(float(_square(np.ldexp(g, -power))) for g in grads)
    root = math.sqrt(square)
    norm = float(np.ldexp(root, power))
    if not math.isfinite(norm):
        raise ValueError(f"the norm of the gradients of params must be finite, got {norm}")
    if norm > max_norm:
        for g in grads:
            if power:
                np.ldexp(g, -power, out=g)
            g *= max_norm / root
    return norm


def _square(g: np.ndarray) -> Any:
    """||g||_2^2, adding the sums of short runs in float64, as BLAS loses digits in long sums."""
    flat = g.reshape(-1)
    whole = flat.size // _RUN * _RUN
    runs = flat[:whole].reshape(-1, 1, _RUN)
    rest = np.vdot(flat[whole:], flat[whole:])
    return np.sum(runs @ runs.mT, dtype=np.float64) + rest.astype(np.float64)


def _clip_elsewhere(grads: list[np.ndarray], max_norm: float) -> np.ndarray:
    """The same without reading any number, which would wait for the device."""
    square = sum(map(_square, grads))
    least = max(g.size * _LEAST[g.dtype] for g in grads)
    top = np.max(np.stack([np.max(np.abs(g)) for g in grads]))
    power = np.where((least <= square) & (square < math.inf), 0, np.frexp(top)[1])
    root = np.sqrt(sum(_square(np.ldexp(g, -power)) for g in grads))
    norm = np.ldexp(root, power)
    longer = norm > max_norm
    factor = np.where(longer, max_norm / np.where(longer, root, 1), 1)
    for g in grads:
        np.ldexp(g, np.where(longer, -power, 0), out=g)
        g *= factor.astype(g.dtype)
    return norm
