r"""Lazy training with tanh is mirror descent.

    lazy     z_{t+1} = z_t - lr_t g_t,  w_t = tanh(b z_t)
    mirror   w_{t+1} = argmin_u lr_t <g_t, u> + D(u, w_t),
             D(u, w) = h(u) - h(w) - <grad h(w), u - w>
             h(u) = 1/(2b) sum_i [(1 + u_i) ln(1 + u_i) + (1 - u_i) ln(1 - u_i)]

**Theorem.** From w_0 = tanh(b z_0) both make the same iterates, for any g_t and lr_t > 0.
Proof: h is steep at -1 and +1, so the argmin is inside, where grad h(w_{t+1}) = grad h(w_t) -
lr_t g_t. And grad h(u) = atanh(u) / b, so z_t = grad h(w_t) is the latent.

h is (1/b)-strongly convex on the cube: its second derivative is 1 / (b (1 - u^2)). So from z_0 =
0, for any g_t and any x in the cube,

    sum_{s<t} lr_s <g_s, w_s - x>  <=  d ln 2 / b + b/2 sum_{s<t} lr_s^2 ||g_s||^2,

by the proof of `regret`: the Bregman distance D(x, 0) is at most d ln 2 / b, attained at a corner.
As b grows the map tends to sign_pm, the iterates to BinaryConnect's, and the bound to infinity.
Source: Ajanthan et al. 2021 (the map, and that it is mirror descent); the bound is standard.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from proxquant_np.prox.arrays import Floats
from proxquant_np.theory.dual_averaging import Gradient, Inequality, Run


def mirror_descent(
    gradient: Gradient, w0: Floats, lrs: Sequence[float], inverse_temperature: float
) -> Floats:
    """w_0, ..., w_T in (-1, 1)^d, without a latent: (1 + w)/(1 - w) is multiplied by exp(-2b lr g).

    Examples:
        >>> w = pq.theory.mirror_descent(lambda w: np.ones(1), np.zeros(1), [0.5] * 2, 1.0)
        >>> w.ravel().round(4), np.tanh([0, -0.5, -1.0]).round(4)
        (array([ 0.    , -0.4621, -0.7616]), array([ 0.    , -0.4621, -0.7616]))
    """
    iterates = [np.array(w0, np.float64)]
    for lr in lrs:
        w = iterates[-1]
        factor = np.exp(-2 * inverse_temperature * lr * gradient(w))
        up, down = (1 + w) * factor, 1 - w
        iterates.append((up - down) / (up + down))
    return np.array(iterates)


def mirror_regret(
    run: Run, lrs: Sequence[float], comparator: Floats, inverse_temperature: float
) -> Inequality:
    """The regret and its bound above after 1, ..., T steps from z_0 = 0 with the map tanh(b z).

    Examples:
        >>> L, lrs, tanh = pq.theory.f_plus, [0.25] * 50, pq.prox.TanhMirror()
        >>> run = pq.theory.by_projection(
        ...     L.gradient, np.zeros(1), lrs, lambda z: tanh.prox(z, 2.0)
        ... )
        >>> bool((pq.theory.mirror_regret(run, lrs, np.array([-1.0]), 2.0).slack >= 0).all())
        True
    """
    lr, b = np.asarray(lrs, np.float64), inverse_temperature
    gains = (run.gradients * (run.iterates[:-1] - comparator)).sum(axis=1)
    squares = np.square(run.gradients).sum(axis=1)
    start = len(comparator) * np.log(2) / b
    return Inequality(np.cumsum(lr * gains), start + b / 2 * np.cumsum(lr**2 * squares))
