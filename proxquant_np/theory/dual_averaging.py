"""Straight-through training is dual averaging: three ways to the same iterates.

For learning rates lr_0, lr_1, ... and g_t = grad L(w_t), the gradient at the *quantized* point,

    by_enumeration         w_{t+1} = argmin_{w in Q} <sum_{s<=t} lr_s g_s, w> + 1/2 ||w - z_0||^2
    by_projection          w_{t+1} = P_Q(z_0 - sum_{s<=t} lr_s g_s)
    by_straight_through    forward through P_Q(z), gradient passed to z unchanged, z <- z - lr_t g

all give the same w_0 = P_Q(z_0), w_1, ...
Proof: with S = sum lr_s g_s, <S, w> + 1/2 ||w - z_0||^2 = 1/2 ||w - (z_0 - S)||^2 + const, so the
first is the second. The third keeps z_t = z_0 - S by induction: its gradient with respect to z is,
by definition of straight-through, the gradient at P_Q(z_t) = w_t.

Q may be any closed set, fitted levels included, but P_Q must be exact: with a heuristic in its
place only the last two agree. The steps must be those of plain SGD: with momentum, weight decay,
clipped gradients, a clipped latent or Adam the third leaves the first two. (Straight-through and
`optim.DualAveraging` make the same iterates with any base.) The three agree bit for bit where the
arithmetic is exact (learning rates that are powers of two, small integer gradients), otherwise up
to rounding, which matters only at a tie.
Source: Bai, Wang, Liberty 2019, Section 2.2 (straight-through as lazy projection) and equation 14
(BinaryConnect); Nesterov 2009 and Xiao 2010 (dual averaging).

`regret` shows the price of a discrete Q.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

import proxquant_np.functional as F
from proxquant_np.autograd import Tensor
from proxquant_np.checks import check_integer
from proxquant_np.optim import SGD
from proxquant_np.prox.arrays import Floats

Gradient = Callable[[Floats], Floats]
Projection = Callable[[Floats], Floats]

MOST_POINTS = 2**20


def all_points(levels: Sequence[float], d: int) -> Floats:
    """Q = {levels}^d as an (n^d, d) array, lexicographically descending; at most 2^20 points."""
    n = check_integer("len(levels)^d, the number of points,", len(levels) ** d, most=MOST_POINTS)
    axes = [np.sort(np.asarray(levels, np.float64))[::-1]] * d
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(n, d)


def by_enumeration(
    gradient: Gradient, z0: Floats, lrs: Sequence[float], levels: Sequence[float]
) -> Floats:
    """The iterates w_0, ..., w_T, shape (T + 1, d), by trying every w in {levels}^d.

    A tie goes to the upper level, as in every projection here: in the order of `all_points` that is
    the first minimiser. ValueError for more than 2^20 points.

    Examples:
        >>> z0, lrs = np.array([0.25]), [0.5] * 3
        >>> pq.theory.by_enumeration(pq.theory.f_plus.gradient, z0, lrs, levels=[-1, 1]).ravel()
        array([ 1., -1.,  1., -1.])
    """
    points = all_points(levels, len(z0))
    proximity = 0.5 * np.square(points - z0).sum(axis=1)
    total = np.zeros(len(z0))
    iterates = [points[np.argmin(proximity)]]
    for lr in lrs:
        total += lr * gradient(iterates[-1])
        iterates.append(points[np.argmin(points @ total + proximity)])
    return np.array(iterates)


class Run(NamedTuple):
    """z_t = latents[t], w_t = iterates[t], both (T + 1, d), and g_t = gradients[t], (T, d)."""

    latents: Floats
    iterates: Floats
    gradients: Floats


def by_projection(gradient: Gradient, z0: Floats, lrs: Sequence[float], project: Projection) -> Run:
    """The run w_{t+1} = project(z_0 - sum_{s<=t} lr_s g_s). With sign_pm this is BinaryConnect.

    `project` may be any map of the latent: with z -> prox(z, s) this is lazy prox-gradient.

    Examples:
        >>> z0, lrs = np.array([0.25]), [0.5] * 3
        >>> run = pq.theory.by_projection(pq.theory.f_plus.gradient, z0, lrs, pq.prox.sign_pm)
        >>> run.latents.ravel(), run.iterates.ravel()
        (array([ 0.25, -0.25,  0.25, -0.25]), array([ 1., -1.,  1., -1.]))
    """
    total = np.zeros(len(z0))
    latents, iterates, gradients = [np.array(z0, np.float64)], [project(z0)], []
    for lr in lrs:
        gradients.append(gradient(iterates[-1]))
        total += lr * gradients[-1]
        latents.append(z0 - total)
        iterates.append(project(latents[-1]))
    return Run(np.array(latents), np.array(iterates), np.array(gradients).reshape(-1, len(z0)))


def by_straight_through(
    loss: Callable[[Tensor], Tensor], z0: Floats, lrs: Sequence[float], project: Projection
) -> Floats:
    """The iterates w_0, ..., w_T: SGD on z, its gradients through `F.straight_through`.

    Examples:
        >>> z0, lrs = np.array([0.25]), [0.5] * 3
        >>> pq.theory.by_straight_through(pq.theory.f_plus.value, z0, lrs, pq.prox.sign_pm).ravel()
        array([ 1., -1.,  1., -1.])
    """
    z = Tensor(np.array(z0, np.float64), requires_grad=True)
    sgd = SGD([z], lr=0.0)
    iterates = [project(z.data)]
    for lr in lrs:
        sgd.lr = lr
        sgd.zero_grad()
        loss(F.straight_through(z, project)).backward()
        sgd.step()
        iterates.append(project(z.data))
    return np.array(iterates)


class Inequality(NamedTuple):
    """left <= right, entry by entry."""

    left: Floats
    right: Floats

    @property
    def slack(self) -> Floats:
        """right - left, negative where the inequality fails."""
        return self.right - self.left


def regret(run: Run, lrs: Sequence[float], comparator: Floats) -> Inequality:
    """Weighted regret against a point x of Q after 1, ..., T steps, and its bound for *convex* Q:

        sum_{s<=t} lr_s <g_s, w_s - x>  <=  1/2 ||x - z_0||^2 + 1/2 sum_{s<=t} lr_s^2 ||g_s||^2.

    Proof: psi_t(w) = <sum_{s<t} lr_s g_s, w> + 1/2 ||w - z_0||^2 is 1-strongly convex, and its
    minimum over Q, m_t, is at w_t. So psi_t(v) >= m_t + 1/2 ||v - w_t||^2, and m_{t+1} >=
    m_t + min_v lr_t <g_t, v> + 1/2 ||v - w_t||^2 = m_t + lr_t <g_t, w_t> - 1/2 lr_t^2 ||g_t||^2.
    Sum, with m_0 >= 0 and m_{t+1} <= psi_{t+1}(x).

    So for convex L the average of the iterates, weighted by lr, is within right / sum lr of L(x).
    With ||g|| <= G, D = ||x - z_0|| and lr = D / (G sqrt(T)) this is D G / sqrt(T), the known rate.
    On {-1, +1}^d strong convexity does not help, because the segment from w_t to v leaves Q: the
    regret of BinaryConnect on f+ grows in proportion to t. Source: Nesterov 2009; Xiao 2010.

    Examples:
        >>> loss, z0, lrs = pq.theory.f_plus, np.array([0.25]), [0.5] * 100
        >>> for project in (lambda z: np.clip(z, -1, 1), pq.prox.sign_pm):
        ...     run = pq.theory.by_projection(loss.gradient, z0, lrs, project)
        ...     print((pq.theory.regret(run, lrs, np.array([-1.0])).slack >= 0).all())
        ...
        True
        False
    """
    lr = np.asarray(lrs, np.float64)
    gains = (run.gradients * (run.iterates[:-1] - comparator)).sum(axis=1)
    squares = np.square(run.gradients).sum(axis=1)
    start = 0.5 * np.square(comparator - run.latents[0]).sum()
    return Inequality(np.cumsum(lr * gains), start + 0.5 * np.cumsum(lr**2 * squares))
