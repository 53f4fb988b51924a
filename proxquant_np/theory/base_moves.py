r"""How far a base step can move a weight, and so which weights a prox holds.

**Any base step** (ours). Let the base move a weight from a level q to q + m, whatever the base is.
Then the prox of an L1 distance, with strength s = lr lambda_t, returns q if and only if

    |m| <= s   and   q is still the level nearest to q + m.

The prox of an L2 distance returns q + m / (1 + s), not q, unless m = 0.
Proof: the first prox is the point of [q + m - s, q + m + s] nearest to the level nearest to q + m.
If that is q, it returns q just if |m| <= s. If it is another level p, the result lies between q + m
and p, and q does not, being further from q + m than p is. The second is (q + m + s q)/(1 + s).

So finite-time quantization (stability.py) needs no gradient: with moves |m| <= lr M in the place of
|m| <= lr G, all of it holds, for lr M < 1 and once lambda_t > M.

**How far bases move.** With |g| <= G, SGD moves a weight by at most lr G / (1 - momentum), Nesterov
or not. Adam moves it, *whatever the gradients*, in its step t by at most lr C_t,

    C_t = (1 - b1) / sqrt(1 - b2) * sqrt((1 + r + ... + r^{t-1}) (1 - b2^t)) / (1 - b1^t),

with r = b1^2 / b2. C_1 = 1, and if r < 1, all C_t <= C = (1 - b1) / sqrt((1 - b2) (1 - r)), their
limit: 7.27 for betas (0.9, 0.999). Each C_t is reached, by gradients g_k = (b1/b2)^{t-k} (with
eps = 0).
Proof: m_t = (1 - b1) sum_k b1^{t-k} g_k, v_t = (1 - b2) sum_k b2^{t-k} g_k^2. By Cauchy-Schwarz
(sum_k b1^{t-k} g_k)^2 <= (sum_k r^{t-k}) (sum_k b2^{t-k} g_k^2), with equality for those g. Divide,
and correct the biases. Last, (1 - r^t)(1 - b2^t) <= (1 - b1^t)^2, since b1^t is the root of
r^t b2^t, and r^t + b2^t is at least twice that.

So it is lambda_t against C, not against the gradients, that holds the weights of a network that is
trained with Adam: a gradient of 1e-6 may move a weight by 7 lr. What is in the gradient (L2 weight
decay, clipping) changes nothing about C.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from proxquant_np.optim import SGD, Adam, Optimizer
from proxquant_np.prox import Regularizer
from proxquant_np.prox.regularizer import Floats


def held(regularizer: Regularizer, w: ArrayLike, moved: ArrayLike, strength: float) -> Floats:
    """Which weights on a level an L1 prox returns to it: |moved - w| <= strength and P(moved) = w.

    Examples:
        >>> pq.theory.held(pq.prox.BinaryL1(), [1.0, 1.0, 1.0], [0.75, 0.25, -0.25], strength=0.5)
        array([ True, False, False])
    """
    w, moved = np.asarray(w), np.asarray(moved)
    return (np.abs(moved - w) <= strength) & (regularizer.project(moved) == w)


def adam_move_bound(betas: tuple[float, float] = (0.9, 0.999), t: int | None = None) -> float:
    """C_t, the largest move of Adam in its step t over lr; None: C, of any step.

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
    """g_1, ..., g_t that reach C_t: (beta1/beta2)^{t-k}, ever larger, the last being 1.

    Examples:
        >>> pq.theory.adam_worst_gradients((0.5, 1 - 2**-10), 3).round(3)
        array([0.25, 0.5 , 1.  ])
    """
    return (betas[0] / betas[1]) ** np.arange(t - 1.0, -1.0, -1.0)


def base_move_bound(base: Optimizer, gradient_bound: float = math.inf) -> float:
    """M: the base moves no weight by more than lr M in a step, if all |g_i| <= gradient_bound.

    Adam needs no bound; SGD without weight decay has G / (1 - momentum). TypeError for other bases,
    ValueError for SGD with weight decay, which moves a weight in proportion to it.

    Examples:
        >>> w = pq.nn.Parameter([1.0])
        >>> round(pq.theory.base_move_bound(pq.optim.Adam([w])), 2)
        7.27
        >>> pq.theory.base_move_bound(pq.optim.SGD([w], lr=0.1, momentum=0.5), gradient_bound=3.0)
        6.0
    """
    if isinstance(base, Adam):
        return adam_move_bound((base.beta1, base.beta2))
    if not isinstance(base, SGD):
        raise TypeError(f"base is {type(base).__name__}; SGD or Adam is accepted")
    if base.weight_decay:
        raise ValueError(f"base.weight_decay is {base.weight_decay}; 0 is accepted for SGD")
    return gradient_bound / (1 - base.momentum)
