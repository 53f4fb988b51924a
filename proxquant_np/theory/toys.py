"""Losses on R^d with known constants, and smooth W-shaped regularizers.

    Kink         sum_i (|x_i + shift_i| - 1/2)    f+ and f-, the pair that fools BinaryConnect
    Quadratic    1/2 x'Ax + b'x                   with a known minimiser on the cube
    Ridge        sum_j phi(<a_j, x> - t_j)        smooth, convex or not, gradient bounded
    SmoothW      1/4 sum_i (w_i^2 - 1)^2          a differentiable W-shaped regularizer
    RoundedW     the W with its corners rounded   another, arbitrarily close to BinaryL1

Constants: |grad L(x) - grad L(y)| <= beta |x - y|; L >= lower; |grad_i L| <= gradient_bound[i].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from proxquant_np.checks import check_integer, check_number
from proxquant_np.prox import Binary, Regularizer, sign_pm
from proxquant_np.prox.arrays import Floats


class SmoothLoss(Protocol):
    """What the theorems on smooth losses require of a loss."""

    @property
    def beta(self) -> float:
        """A Lipschitz constant of the gradient."""

    @property
    def lower(self) -> float:
        """A lower bound of the values."""

    def value(self, x: Floats) -> Any:
        """L(x)."""

    def gradient(self, x: Floats) -> Floats:
        """grad L(x)."""


@dataclass(frozen=True, eq=False)
class Kink:
    """L(x) = sum_i (|x_i + shift_i| - 1/2), for arrays and tensors; the gradient at a kink is +1.

    f+ (shift 1/2) and f- (shift -1/2) both have gradient -1 at -1 and +1 at +1. But on {-1, +1}
    f+ has its minimum, 0, at -1, and f- at +1. No method that evaluates gradients only on {-1, +1}
    can tell them apart, so every such method fails on one of them; see `solves_both_toys`.
    Source: Bai, Wang, Liberty 2019, Figure 1(b).

    Examples:
        >>> f_plus, f_minus = pq.theory.f_plus, pq.theory.f_minus
        >>> corners = np.array([-1.0, 1.0])
        >>> f_plus.gradient(corners), f_minus.gradient(corners)
        (array([-1.,  1.]), array([-1.,  1.]))
        >>> [f_plus.value(np.array([x])).item() for x in corners]
        [0.0, 1.0]
        >>> [f_minus.value(np.array([x])).item() for x in corners]
        [1.0, 0.0]
    """

    shift: Floats | float

    def value(self, x: Any) -> Any:
        """L(x), a scalar like x: a NumPy number or a tensor."""
        return (abs(x + self.shift) - 0.5).sum()

    def gradient(self, x: Floats) -> Floats:
        """A subgradient, of entries -1 and +1."""
        return sign_pm(x + self.shift)


f_plus, f_minus = Kink(0.5), Kink(-0.5)


@dataclass(frozen=True, eq=False)
class Quadratic:
    """L(x) = 1/2 x'Ax + b'x with A symmetric, for arrays and tensors.

    Examples:
        >>> loss = pq.theory.Quadratic(a=np.diag([1.0, 4.0]), b=np.array([1.0, 0.0]))
        >>> loss.mu, loss.beta, loss.lower
        (1.0, 4.0, -0.5)
        >>> loss.gradient(np.array([1.0, 1.0]))
        array([2., 4.])
    """

    a: Floats
    b: Floats

    @property
    def beta(self) -> float:
        """max |eigenvalue of A|, the smallest such constant."""
        return float(np.abs(np.linalg.eigvalsh(self.a)).max())

    @property
    def mu(self) -> float:
        """The smallest eigenvalue of A: L is strictly convex if it is positive."""
        return float(np.linalg.eigvalsh(self.a)[0])

    @property
    def lower(self) -> float:
        """min L if A is positive definite, else -infinity."""
        if self.mu <= 0:
            return -np.inf
        return float(self.value(np.linalg.solve(self.a, -self.b)))

    def value(self, x: Any) -> Any:
        """L(x), a scalar like x: a NumPy number or a tensor."""
        return 0.5 * (x * (self.a @ x)).sum() + (self.b * x).sum()

    def gradient(self, x: Floats) -> Floats:
        """Ax + b."""
        return self.a @ x + self.b


def quadratic_on_cube(
    rng: np.random.Generator, d: int, n_active: int = 0, condition: float = 4.0
) -> tuple[Quadratic, Floats]:
    """A random quadratic with eigenvalues in [1, condition], and its minimiser over [-1, 1]^d.

    n_active coordinates of the minimiser x are -1 or +1, the others lie in [-0.9, 0.9]. x is drawn
    first, then pushes p_i > 0 where |x_i| = 1, with p_i = 0 elsewhere. As L is convex, x is the
    minimiser if Ax + b = -p x, entry by entry, and this equation gives b.

    Examples:
        >>> loss, x = pq.theory.quadratic_on_cube(np.random.default_rng(0), d=3, n_active=1)
        >>> int(np.sum(np.abs(x) == 1)), np.allclose(x, np.clip(x - loss.gradient(x), -1, 1))
        (1, True)
    """
    check_integer("n_active", n_active, least=0, most=d)
    basis = np.linalg.qr(rng.normal(size=(d, d)))[0]
    a = basis * rng.uniform(1, condition, d) @ basis.T
    active = rng.permutation(d) < n_active
    x = rng.uniform(-0.9, 0.9, d)
    x = np.where(active, sign_pm(x), x)
    push = np.where(active, rng.uniform(0.1, 2, d), 0)
    return Quadratic((a + a.T) / 2, -a @ x - push * x), x


@dataclass(frozen=True, eq=False)
class Ridge:
    """L(x) = sum_j phi(<a_j, x> - t_j), phi(u) = log cosh u if convex, else 1 - cos u.

    In both cases phi >= 0, |phi'| <= 1 and |phi''| <= 1. The Hessian A' diag(phi'') A therefore has
    norm at most beta = ||A||_2^2, and |grad_i L| <= sum_j |a_ji|.

    Examples:
        >>> loss = pq.theory.Ridge(a=np.array([[1.0, 2.0]]), t=np.zeros(1))
        >>> loss.value(np.zeros(2)), loss.gradient(np.zeros(2))
        (0.0, array([0., 0.]))
        >>> round(loss.beta, 4), loss.gradient_bound
        (5.0, array([1., 2.]))
    """

    a: Floats
    t: Floats
    convex: bool = True

    lower = 0.0

    @property
    def beta(self) -> float:
        """||A||_2^2."""
        return float(np.linalg.norm(self.a, 2) ** 2)

    @property
    def gradient_bound(self) -> Floats:
        """sum_j |a_ji|, for each coordinate i."""
        return np.abs(self.a).sum(axis=0)

    def value(self, x: Floats) -> float:
        """L(x)."""
        u = self.a @ x - self.t
        # log cosh u, written so that it cannot overflow
        phi = np.logaddexp(u, -u) - np.log(2) if self.convex else 1 - np.cos(u)
        return float(phi.sum())

    def gradient(self, x: Floats) -> Floats:
        """A' phi'(Ax - t)."""
        u = self.a @ x - self.t
        return (np.tanh(u) if self.convex else np.sin(u)) @ self.a


def random_ridge(rng: np.random.Generator, d: int, convex: bool) -> Ridge:
    """A random Ridge with d + 2 terms.

    Examples:
        >>> loss = pq.theory.random_ridge(np.random.default_rng(0), d=3, convex=False)
        >>> loss.a.shape, loss.lower
        ((5, 3), 0.0)
    """
    return Ridge(rng.normal(size=(d + 2, d)), rng.normal(size=d + 2), convex)


@dataclass(frozen=True)
class SmoothW(Regularizer):
    """R(w) = 1/4 sum_i (w_i^2 - 1)^2, zero exactly on {-1, +1}^d; grad R(w) = w^3 - w.

    prox(w, s) = argmin_u 1/2 ||u - w||^2 + s R(u) = sign_pm(w) u, where u is the one positive root
    (0 if there is none) of p(u) = s u^3 + (1 - s) u - |w|.
    Proof: reflecting u to the side of w brings it nearer to w and leaves R unchanged. On that side
    p is the derivative of the objective: p(0) <= 0, and if s > 1, p first falls and then rises.
    Newton's method decreases from max(1, |w|), where p >= 0, to the root: p is convex for u >= 0.

    Examples:
        >>> r = pq.theory.SmoothW()
        >>> r.value([0.0, 1.0]), r.gradient(np.array([0.0, 1.0, 2.0]))
        (0.25, array([0., 0., 6.]))
        >>> r.prox([0.0, 1.0], strength=2.0).round(4)
        array([0.7071, 1.    ])
    """

    set = Binary()

    def gradient(self, w: Floats) -> Floats:
        """grad R(w)."""
        return w**3 - w

    def _value(self, x):
        return 0.25 * np.square(np.square(x, dtype=np.float64) - 1).sum()

    def _prox(self, x, s, out, tmp):
        if np.isinf(s):
            return self.set._project(x, out)
        size = np.abs(x, dtype=np.float64)
        u = np.maximum(size, 1)
        for _ in range(100):  # at the triple root, s = 1 and w = 0, each step removes a third
            slope = 3 * s * u**2 + (1 - s)
            newer = np.maximum(u - (s * u**3 + (1 - s) * u - size) / slope, 0)
            if not (newer < u).any():
                break
            u = np.minimum(newer, u)
        self.set._project(x, out)
        out *= u


@dataclass(frozen=True)
class RoundedW(Regularizer):
    """The W of BinaryL1 with a parabola of width 2 delta in place of each corner.

    R(w) = sum_i r(|w_i|): r(u) = 1 - delta - u^2 / (2 delta) for u <= delta, else with
    v = |u - 1|, v^2 / (2 delta) for v <= delta, else v - delta/2. It is zero exactly on
    {-1, +1}^d, its gradient is 1/delta-Lipschitz, and W - d delta <= R <= W, the former an equality
    at 0.

    prox(w, s) = argmin_u 1/2 ||u - w||^2 + s R(u) = sign_pm(w) u, where u is the best of four
    points: the stationary point of each piece of the objective, clipped to the piece.
    Source: Bai, Wang, Liberty 2019, Remark 5.1, which asks for such a function; this one is ours.

    delta: in (0, 1/2], else ValueError.

    Examples:
        >>> r = pq.theory.RoundedW(delta=0.25)
        >>> r.value([0.0, 0.5, 1.0]), r.gradient(np.array([0.125, 0.5, 1.0]))
        (1.125, array([-0.5, -1. ,  0. ]))
        >>> r.prox([-0.5, 0.25], strength=0.25)
        array([-0.75,  0.5 ])
    """

    delta: float
    set = Binary()

    def __post_init__(self):
        check_number("delta", self.delta, above=0, most=0.5)

    def gradient(self, w: Floats) -> Floats:
        """grad R(w)."""
        size = np.abs(w)
        slope = np.clip((size - 1) / self.delta, -1, 1)
        return sign_pm(w) * np.where(size <= self.delta, -size / self.delta, slope)

    def _each(self, size):
        v = np.abs(size - 1)
        outer = np.where(v <= self.delta, v**2 / (2 * self.delta), v - self.delta / 2)
        top = 1 - self.delta - size**2 / (2 * self.delta)
        return np.where(size <= self.delta, top, outer)

    def _value(self, x):
        return self._each(np.abs(x, dtype=np.float64)).sum()

    def _prox(self, x, s, out, tmp):
        if np.isinf(s):
            return self.set._project(x, out)
        size, d, k = np.abs(x, dtype=np.float64), self.delta, s / self.delta
        top = size / (1 - k) if k < 1 else np.where(size > 0, np.inf, 0)  # concave: at an end
        pieces = (
            (top, 0, d),
            (size + s, d, 1 - d),
            ((size + k) / (1 + k), 1 - d, 1 + d),
            (size - s, 1 + d, np.inf),
        )
        u = np.array([np.clip(point, low, high) for point, low, high in pieces])
        cost = 0.5 * np.square(u - size) + s * self._each(u)
        best = 3 - np.argmin(cost[::-1], axis=0)[None]  # of a tie, the largest u
        self.set._project(x, out)
        out *= np.take_along_axis(u, best, axis=0)[0]
