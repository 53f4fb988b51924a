"""Layer 4, train: gradient-norm clipping, for recurrent networks between backward and step."""

from __future__ import annotations

import math

import numpy as np

from proxquant_np.optim.optimizer import Params, as_parameters, check_number


def clip_grad_norm(params: Params, max_norm: float) -> float:
    """g <- g * min(1, max_norm / ||g||_2), g all gradients as one vector; returns the old ||g||_2.

    In place. Parameters without a gradient count as 0. Source: Pascanu et al. 2013.

    Raises:
        ValueError: max_norm < 0 or NaN, or a norm that is NaN or infinite.

    Examples:
        >>> w = pq.nn.Parameter([1.0, 1.0])
        >>> (w * np.array([3.0, 4.0])).sum().backward()
        >>> pq.optim.clip_grad_norm([w], max_norm=1.0)
        5.0
        >>> w.grad
        array([0.6, 0.8])
    """
    check_number("max_norm", max_norm)
    grads = [p.grad for p in as_parameters(params) if p.grad is not None]
    norm = math.sqrt(sum(float(np.vdot(g, g)) for g in grads))
    if not math.isfinite(norm):
        raise ValueError(f"the norm of the gradients of params must be finite, got {norm}")
    if norm > max_norm:
        for g in grads:
            g *= max_norm / norm
    return norm
