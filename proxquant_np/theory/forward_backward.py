"""When straight-through with another backward pass is still dual averaging.

    z_{t+1} = z_t - lr_t B(z_t) grad L(F(z_t)),    entry by entry

**Theorem.** Let F = T(P(z)) and B = T'(P(z)), entry by entry, for a projection P and a function T
that is differentiable on the range of P. Then the z_t are the latents of dual averaging with P on
the loss L(T(p)), and its theory, `regret` included, applies whatever T is.
Proof: the gradient of L(T(p)) at p = P(z) is T'(p) grad L(T(p)) = B(z) grad L(F(z)).

*Clipped straight-through* (ours): F = sign_pm, and B = 1 where |z| <= 1, else 0. Take T = clip to
[-1, 1], with slope 1 up to and at the ends, and P = `outside_cube`, the projection on |p| >= 1,
sign_pm(z) max(|z|, 1). So clipped straight-through is BinaryConnect on a loss that is constant
beyond the cube.

Not every pair F, B has this form. While F stays constant and B is positive, P stays constant too
(dP = dF / B), and so must B. So F = sign_pm with a B that falls off smoothly from 0 (as in BNN+)
does not: its latent is not a sum of gradients, and their order matters.
Source: Lu et al. 2023, ProxConnect++, for such pairs and the idea that their composition decides;
the statement, its proof and the reading of the clipped case are derived here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from proxquant_np.prox import sign_pm
from proxquant_np.prox.arrays import Floats
from proxquant_np.theory.dual_averaging import Gradient, Projection, Run


def by_forward_backward(
    gradient: Gradient,
    z0: Floats,
    lrs: Sequence[float],
    forward: Projection,
    backward: Callable[[Floats], Floats],
) -> Run:
    """The run z <- z - lr backward(z) gradient(forward(z)), with forward(z) as its iterates.

    Examples:
        >>> z0, lrs = np.array([0.75]), [0.5] * 3
        >>> run = pq.theory.by_forward_backward(
        ...     lambda w: -np.ones(1), z0, lrs, pq.prox.sign_pm, lambda z: np.abs(z) <= 1
        ... )
        >>> run.latents.ravel()
        array([0.75, 1.25, 1.25, 1.25])
    """
    latents, iterates, gradients = [np.array(z0, np.float64)], [forward(z0)], []
    for lr in lrs:
        gradients.append(backward(latents[-1]) * gradient(iterates[-1]))
        latents.append(latents[-1] - lr * gradients[-1])
        iterates.append(forward(latents[-1]))
    return Run(np.array(latents), np.array(iterates), np.array(gradients).reshape(-1, len(z0)))


def outside_cube(z: Floats) -> Floats:
    """The projection on {p: all |p_i| >= 1}, sign_pm(z) max(|z|, 1).

    Examples:
        >>> pq.theory.outside_cube(np.array([-3.0, -0.25, 0.0, 2.0]))
        array([-3., -1.,  1.,  2.])
    """
    return sign_pm(z) * np.maximum(np.abs(z), 1)
