r"""With a convex regularizer, the *last* lazy iterate converges.

    z_{t+1} = z_t - lr g_t,    w_t = prox_{lam t lr R}(z_t),    g_t a subgradient of L at w_t

The strength of the prox accumulates over all steps, so the map hardens as training goes on.

**Theorem.** Let L and R be convex, F = L + lam R, and ||g_t + lam p_t|| <= G for some subgradient
p_t of R at w_t. Let w_0 = z_0 be in the domain of R. With D = ||x - z_0||, for every x and T,

    regret        sum_{t<T} lr (F(w_t) - F(x))  <=  1/2 D^2 + 1/2 T lr^2 G^2
    last iterate  F(w_{T-1}) - F(x)  <=  D^2 / (2 lr T) + lr G^2 (1 + H_{T-1}) / 2,

where H_n = 1 + 1/2 + ... + 1/n. With lr = D / (G sqrt(T (1 + H_{T-1}))) the last bound is
D G sqrt((1 + H_{T-1}) / T).

Proof. w_t minimises psi_t(v) = sum_{s<t} lr (<g_s, v> + lam R(v)) + 1/2 ||v - z_0||^2, which is
1-strongly convex; let m_t be its minimum. As in `regret`, with R(v) >= R(w_t) + <p_t, v - w_t>,
m_{t+1} >= m_t + lr (<g_t, w_t> + lam R(w_t)) - 1/2 lr^2 G^2. Summed from t = a to T - 1, with
m_T <= psi_T(x): sum_{t>=a} lr (F(w_t) - F(x)) <= psi_a(x) - m_a + 1/2 (T - a) lr^2 G^2. With a = 0
this is the regret. With x = w_a the first two terms cancel: no run rises far above its own past.
The last of T numbers q_t is q_{T-1} = S_T + sum_{k<T} (S_k - S_{k+1}), where S_k is the mean of the
last k, and S_k - S_{k+1} = sum_{t>=T-1-k} (q_t - q_{T-1-k}) / (k (k + 1)) <= lr G^2 / (2k). Sum.

The W is not convex: `BinaryL1` in place of R soon maps as sign_pm does, and the signs flip forever.
The bound is attained at T = 1.
Source: Jin et al. 2025, PARQ, Theorem 3.2 (with expectations and twice the constant under the
root), by the lemma of Orabona 2020 that they cite; the form and constant here are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from proxquant_np.prox import as_regularizer
from proxquant_np.prox.arrays import Floats
from proxquant_np.prox.regularizer import Prox
from proxquant_np.theory.dual_averaging import Gradient, Run


def by_aggregate_prox(
    gradient: Gradient, regularizer: Prox, z0: Floats, lrs: Sequence[float], lam: float
) -> Run:
    """AProx: w_t = prox_{lam (lr_0 + ... + lr_{t-1}) R}(z_0 - sum_{s<t} lr_s g_s).

    Examples:
        >>> R, z0, lrs = pq.prox.PiecewiseAffine([0, 1]), np.array([0.75]), [0.5] * 4
        >>> L = pq.theory.f_plus
        >>> pq.theory.by_aggregate_prox(L.gradient, R, z0, lrs, lam=1.0).iterates.ravel()
        array([ 0.75,  0.  ,  0.  ,  0.  , -0.25])
    """
    regularizer = as_regularizer(regularizer)
    total, strength = np.zeros(len(z0)), 0.0
    latents, iterates, gradients = [np.array(z0, np.float64)], [regularizer.prox(z0, 0.0)], []
    for lr in lrs:
        gradients.append(gradient(iterates[-1]))
        total += lr * gradients[-1]
        strength += lr * lam
        latents.append(z0 - total)
        iterates.append(regularizer.prox(latents[-1], strength))
    return Run(np.array(latents), np.array(iterates), np.array(gradients).reshape(-1, len(z0)))


def last_iterate_bound(
    distance: float, gradient_bound: float, steps: int, lr: float | None = None
) -> float:
    """D^2 / (2 lr T) + lr G^2 (1 + H_{T-1}) / 2 after T steps; by default lr is the best one.

    Examples:
        >>> pq.theory.last_iterate_bound(distance=2.0, gradient_bound=3.0, steps=1)
        6.0
        >>> round(pq.theory.last_iterate_bound(2.0, 3.0, steps=10_000), 4)
        0.1971
    """
    lr = last_iterate_step(distance, gradient_bound, steps) if lr is None else lr
    return distance**2 / (2 * lr * steps) + lr * gradient_bound**2 * (1 + _harmonic(steps - 1)) / 2


def last_iterate_step(distance: float, gradient_bound: float, steps: int) -> float:
    """lr = D / (G sqrt(T (1 + H_{T-1}))), which minimises the bound.

    Examples:
        >>> pq.theory.last_iterate_step(distance=2.0, gradient_bound=4.0, steps=1)
        0.5
    """
    return distance / (gradient_bound * math.sqrt(steps * (1 + _harmonic(steps - 1))))


def _harmonic(n: int) -> float:
    return math.fsum(1 / k for k in range(1, n + 1))
