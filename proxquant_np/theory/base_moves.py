r"""How far a base step can move a weight, and hence which weights the prox holds in place.

**Any base step** (ours). Let the base, whatever it is, move a weight from a level q to q + m. The
prox of an L1 distance with strength s = lr lambda_t returns q if and only if

    |m| <= s   and   q is still the level nearest to q + m.

The prox of an L2 distance returns q + m / (1 + s), not q, unless m = 0.
Proof: the L1 prox is the point of [q + m - s, q + m + s] nearest to the level nearest to q + m. If
that level is q, the prox returns q exactly when |m| <= s. If it is another level p, the result lies
between q + m and p, and q does not, being further from q + m than p is. The L2 prox is
(q + m + s q)/(1 + s).

Finite-time quantization (stability.py) therefore needs no gradient: with moves |m| <= lr M in place
of |m| <= lr G, all of it holds if lr M < 1, once lambda_t > M.

**How far bases move.** If |g| <= G, SGD moves a weight by at most lr G / (1 - momentum) per step,
with or without Nesterov momentum. Adam moves it in step t, *whatever the gradients*, by at most
lr C_t, where

    C_t = (1 - b1) / sqrt(1 - b2) * sqrt((1 + r + ... + r^{t-1}) (1 - b2^t)) / (1 - b1^t),

and r = b1^2 / b2. C_1 = 1. If r < 1, every C_t is at most their limit
C = (1 - b1) / sqrt((1 - b2) (1 - r)), which is 7.27 for betas (0.9, 0.999). Each C_t is attained,
by the gradients g_k = (b1/b2)^{t-k} (with eps = 0).
Proof: m_t = (1 - b1) sum_k b1^{t-k} g_k, v_t = (1 - b2) sum_k b2^{t-k} g_k^2. By Cauchy-Schwarz
(sum_k b1^{t-k} g_k)^2 <= (sum_k r^{t-k}) (sum_k b2^{t-k} g_k^2), with equality for those g. Divide,
and correct the biases. Finally (1 - r^t)(1 - b2^t) <= (1 - b1^t)^2, because b1^t is the square root
of r^t b2^t, and r^t + b2^t is at least twice that root.

So when a network is trained with Adam, its weights are held by lambda_t > C, not by lambda_t
exceeding the gradients: a gradient of 1e-6 may move a weight by 7 lr. Anything that acts on the
gradient (L2 weight decay, clipping) leaves C as it is.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from proxquant_np.checks import check_instance
from proxquant_np.optim import SGD, Adam, Optimizer
from proxquant_np.prox import QuantizedSet, Regularizer, as_set
from proxquant_np.prox.arrays import Floats


def held(
    regularizer: QuantizedSet | Regularizer, w: ArrayLike, moved: ArrayLike, strength: float
) -> Floats:
    """Which weights w, on a level, an L1 prox brings back: |moved - w| <= strength, P(moved) = w.

    Examples:
        >>> pq.theory.held(pq.prox.BinaryL1(), [1.0, 1.0, 1.0], [0.75, 0.25, -0.25], strength=0.5)
        array([ True, False, False])
    """
    w, moved = np.asarray(w), np.asarray(moved)
    return (np.abs(moved - w) <= strength) & (as_set(regularizer).project(moved) == w)


def adam_move_bound(betas: tuple[float, float] = (0.9, 0.999), t: int | None = None) -> float:
    """C_t, the largest move of Adam in step t divided by lr; without t, C, that of any step.

    C is infinite if beta1^2 >= beta2.

    Examples:
        >>> [round(pq.theory.adam_move_bound(t=t), 2) for t in (1, 10, 100, 1000, None)]
        [1.0, 1.04, 2.24, 5.78, 7.27]
        >>> pq.theory.adam_move_bound((0.9, 0.8))
        inf
    """
    beta1, beta2 = betas
    r = beta1**2 / beta2 if beta2 else math.inf
    if t is None:
        return (1 - beta1) / math.sqrt((1 - beta2) * (1 - r)) if r < 1 else math.inf
    powers = math.fsum(r**k for k in range(t))
    return (1 - beta1) / (1 - beta1**t) * math.sqrt(powers * (1 - beta2**t) / (1 - beta2))


def adam_worst_gradients(betas: tuple[float, float], t: int) -> Floats:
    """The g_1, ..., g_t that attain C_t: (beta1/beta2)^{t-k}, growing up to 1.

    Examples:
        >>> pq.theory.adam_worst_gradients((0.5, 1 - 2**-10), 3).round(3)
        array([0.25, 0.5 , 1.  ])
    """
    return (betas[0] / betas[1]) ** np.arange(t - 1.0, -1.0, -1.0)


def base_move_bound(base: Optimizer, gradient_bound: float = math.inf) -> float:
    """M such that the base moves no weight by more than lr M per step, if |g_i| <= gradient_bound.

    Adam needs no bound; for SGD without weight decay M = G / (1 - momentum). TypeError for other
    bases, ValueError for SGD with weight decay, which moves a weight in proportion to its size.

    Examples:
        >>> w = pq.nn.Parameter([1.0])
        >>> round(pq.theory.base_move_bound(pq.optim.Adam([w])), 2)
        7.27
        >>> pq.theory.base_move_bound(pq.optim.SGD([w], lr=0.1, momentum=0.5), gradient_bound=3.0)
        6.0
    """
    if isinstance(base, Adam):
        return adam_move_bound((base.beta1, base.beta2))
    check_instance("base", base, SGD, "an SGD or Adam optimizer")
    if base.weight_decay:
        raise ValueError(f"weight_decay of SGD must be 0 here, got {base.weight_decay}")
    return gradient_bound / (1 - base.momentum)
