"""Where BinaryConnect can come to rest.

BinaryConnect: z_{t+1} = z_t - lr_t grad L(s_t), s_t = sign_pm(z_t). s is a *fixed point* if s_0 = s
implies s_t = s for all t.

**Theorem.** Let the lr_t > 0 have an infinite sum. Then s is a fixed point if and only if for
every i, grad_i L(s) is 0 or has the sign of -s_i: in short, s_i grad_i L(s) <= 0.
Proof: while s_t = s, z_t = z_0 - (sum_{k<t} lr_k) grad L(s). If s_i grad_i L(s) <= 0, this moves
z_i away from 0 or not at all, whatever the learning rates. Otherwise z_i crosses 0 once the sum
exceeds |z_0i| / |grad_i L(s)|, whatever z_0; a smaller sum freezes s instead.

**Corollary** (ours). s_i grad_i L(s) <= 0 for all i is also the first-order condition for s to
minimise L over the cube [-1, 1]^d. So for convex L the fixed points are the corners that solve the
relaxed problem. A strictly convex L whose minimiser over the cube is not a corner has none:
BinaryConnect flips forever, since after a last flip it would rest at a fixed point.
Source: Bai, Wang, Liberty 2019, Definition 5.1 and Theorem 5.3.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np

from proxquant_np.checks import check_integer
from proxquant_np.prox import sign_pm
from proxquant_np.prox.arrays import Floats
from proxquant_np.theory.dual_averaging import Gradient, all_points

MOST_DIMENSIONS = 16  # of a cube whose corners are all tried


def is_fixed_point(gradient: Gradient, s: Floats) -> bool:
    """Whether s_i grad_i L(s) <= 0 for all i; ValueError unless s is in {-1, +1}^d.

    Examples:
        >>> inside = pq.theory.Quadratic(np.eye(1), np.array([0.5]))
        >>> outside = pq.theory.Quadratic(np.eye(1), np.array([2.0]))
        >>> [pq.theory.is_fixed_point(L.gradient, np.array([-1.0])) for L in (inside, outside)]
        [False, True]
    """
    s = np.asarray(s, np.float64)
    if not (np.abs(s) == 1).all():
        raise ValueError(f"s must have entries -1 and +1 only, got {s}")
    return bool((s * gradient(s) <= 0).all())


def fixed_points(gradient: Gradient, d: int) -> Floats:
    """All fixed points in {-1, +1}^d, shape (n, d), found by trying each corner; d <= 16.

    Examples:
        >>> outside = pq.theory.Quadratic(np.eye(2), np.array([2.0, -3.0]))
        >>> pq.theory.fixed_points(outside.gradient, d=2)
        array([[-1.,  1.]])
    """
    corners = all_points((-1, 1), check_integer("d", d, least=1, most=MOST_DIMENSIONS))
    gradients = np.array([gradient(s) for s in corners])
    return corners[(corners * gradients <= 0).all(axis=1)]


class Settled(NamedTuple):
    """How a run of BinaryConnect ends.

    verdict: "fixed point": it stays at `iterate` from step `steps` on. "cycle": the latent repeats
    with `period` in exact arithmetic, so it flips forever. "no fixed point": neither was seen in
    `steps` steps, but no corner is a fixed point, so it flips forever. Otherwise "undecided".
    """

    verdict: str
    iterate: Floats
    steps: int
    period: int | None = None


def settle(gradient: Gradient, z0: Floats, lr: float, steps: int = 10_000) -> Settled:
    """Run BinaryConnect with a constant lr > 0 to a fixed point, or to a proof that none comes.

    A latent that was met before proves a cycle, because each latent determines the next. In a cycle
    s changes: otherwise the latent would move along grad L(s) and come back, so grad L(s) = 0 and s
    is fixed. In floating point a latent may come back by rounding alone, or stop because it is too
    large for its steps. The cycle is therefore run again in rational arithmetic, with the values of
    `gradient` as they are. If it does not close with the same s throughout, it proves nothing, and
    no later step will.

    Examples:
        >>> inside = pq.theory.Quadratic(np.eye(1), np.array([0.5]))
        >>> pq.theory.settle(inside.gradient, np.zeros(1), lr=0.5)
        Settled(verdict='cycle', iterate=array([1.]), steps=4, period=4)
    """
    z, met = np.array(z0, np.float64), {}
    for t in range(steps + 1):
        s = sign_pm(z)
        if is_fixed_point(gradient, s):
            return Settled("fixed point", s, t)
        first = met.setdefault(z.tobytes(), t)
        if first < t:
            if _closes(gradient, z, lr, t - first):
                return Settled("cycle", s, t, t - first)
            steps = t
            break
        z -= lr * gradient(s)
    none = z.size <= MOST_DIMENSIONS and not len(fixed_points(gradient, z.size))
    return Settled("no fixed point" if none else "undecided", s, steps)


def _closes(gradient: Gradient, z: Floats, lr: float, period: int) -> bool:
    """Whether `period` exact steps from z lead back to z, with the s of the rounded run in each."""
    rounded, exact = z.copy(), [Fraction(v) for v in z.ravel()]
    for _ in range(period):
        s = sign_pm(rounded)
        if any((v >= 0) != (q > 0) for v, q in zip(exact, s.flat, strict=True)):
            return False
        g = np.broadcast_to(gradient(s), z.shape)
        exact = [v - Fraction(lr) * Fraction(d) for v, d in zip(exact, g.flat, strict=True)]
        rounded -= lr * g
    return exact == [Fraction(v) for v in z.flat]
