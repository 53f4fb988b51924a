r"""How often BinaryConnect flips signs, and when ProxQuant stops.

**The Frank-Wolfe twin** (ours). Let L(x) = 1/2 x'Ax + b'x, z_0 = 0, lr constant. Then the running
mean m_t of BinaryConnect's s_0, ..., s_{t-1} is the iterate of Frank-Wolfe on [-1, 1]^d, which at
each step goes a part of the way, here 1/(t+1), to the corner v with the least <grad L(m_t), v>;
from m_1 = (1, ..., 1).
Proof: the gradient is affine, so z_t = -lr sum_{k<t} grad L(s_k) = -lr t grad L(m_t), and s_t =
sign_pm(-grad L(m_t)) is the corner that minimises <grad L(m_t), v>. And m_{t+1} is
m_t + (s_t - m_t)/(t+1), as for every mean.

So for positive definite A, m_t converges to x*, the minimiser over the cube (`frank_wolfe_gap`),
and coordinate i spends a fraction (1 + x*_i)/2 of the time at +1. Another z_0 only subtracts
z_0/(lr t) from the gradient, so the corner is at most 2 ||z_0||_1 / (lr t) from optimal, and the
limit is the same.

Dockhorn et al. 2021 showed that BinaryConnect, like all dual averaging, is a generalized
conditional gradient method; the identity of the iterates, and what follows for each weight, is
ours.

**The nearest corner is visited again and again** (ours). In the limit coordinate i has the sign of
x*_i in all but (1 - |x*_i|)/2 of the steps. So all coordinates have it at once, at s* =
sign_pm(x*), in at least 1 - sum_i (1 - |x*_i|)/2 of the steps (`time_at_nearest_corner`). If that
is positive, BinaryConnect leaves s* (unless it is a fixed point) and returns to it forever. If A is
diagonal, s* is the best of all corners. Jeong, Xin, Yin 2025 prove for a two-layer network with
noisy labels that straight-through "repeatedly escapes from and returns to the optimal binary
weights".

**Finite-time quantization** (ours). Consider prox-gradient with BinaryL1, constant lr, and any
vectors with |g_i| <= G in place of gradients (stochastic ones included), where lr G < 1. Once
lambda_t > G:

 1. The distance of w_i to {-1, +1}, ||w_i| - 1|, falls by at least lr (lambda_t - G) per step until
    it is 0; then it stays 0.
 2. A coordinate at -1 or +1 never leaves it. Any other can change sign only in the first such step,
    and never again.

Proof: the gradient moves w_i, and so its distance, by at most lr G; the prox then reduces the
distance by lr lambda_t, or to 0. This is 1. It leaves |w_i| >= min(1, lr lambda_t) > lr G, too far
from 0 for the next gradient step to cross it, and the prox itself never does. This is 2.

G may change with t: 1 uses only lambda_t > G_t, and 2 also lambda_t > G_{t+1}, which keeps the next
step from crossing 0. So what matters is not the largest gradient of a run, but whether lambda stays
above each gradient as it comes.

Without lr G < 1 a step from +1 may reach the side of -1, where the prox completes the flip: with
lr 0.5, G 3, lambda 3.5 and a gradient with the sign of w, the sign changes at every step. 1 still
holds. 1 also holds for LevelsL1 with any levels.

Any other base will do: what matters is how far it moves a weight. SGD moves it by lr |g|, Adam by
up to 7.27 lr, however small the gradient (base_moves.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from proxquant_np.checks import check_number
from proxquant_np.prox import sign_pm
from proxquant_np.prox.arrays import Floats
from proxquant_np.theory.dual_averaging import Gradient
from proxquant_np.theory.toys import Quadratic


def flips(iterates: Floats) -> Floats:
    """The number of sign changes of each coordinate, shape (d,), along `iterates` (T + 1, d).

    Examples:
        >>> pq.theory.flips(np.array([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0]]))
        array([2, 1])
    """
    signs = sign_pm(iterates)
    return (signs[1:] != signs[:-1]).sum(axis=0)


def time_at_plus_one(iterates: Floats) -> Floats:
    """For each coordinate, the fraction of iterates with sign_pm = +1.

    Examples:
        >>> pq.theory.time_at_plus_one(np.array([[1.0, 1.0], [-1.0, 1.0]]))
        array([0.5, 1. ])
    """
    return (sign_pm(iterates) > 0).mean(axis=0)


def predicted_time_at_plus_one(minimiser: Floats) -> Floats:
    """(1 + x*_i)/2, the limit for BinaryConnect on a quadratic; x* is its minimiser on the cube.

    Examples:
        >>> loss = pq.theory.Quadratic(np.eye(1), np.array([0.5]))
        >>> run = pq.theory.by_projection(loss.gradient, np.zeros(1), [0.5] * 999, pq.prox.sign_pm)
        >>> pq.theory.predicted_time_at_plus_one(np.array([-0.5]))
        array([0.25])
        >>> pq.theory.time_at_plus_one(run.iterates)
        array([0.25])
    """
    return (1 + minimiser) / 2


def flip_frequency_bound(minimiser: Floats) -> Floats:
    """1 - |x*_i|: in the limit, coordinate i flips in at most this fraction of the steps.

    Proof: the rarer sign takes a fraction (1 - |x*_i|)/2 of the time, and each stay at it has at
    most two flips. In one dimension the bound is attained. Say x* >= 0: then z moves down by
    lr A (1 - x*) from +1, and up by lr A (1 + x*), at least as far, from -1, where it therefore
    never stays for more than one step.

    Examples:
        >>> loss = pq.theory.Quadratic(np.eye(1), np.array([0.5]))
        >>> run = pq.theory.by_projection(loss.gradient, np.zeros(1), [0.5] * 1000, pq.prox.sign_pm)
        >>> pq.theory.flip_frequency_bound(np.array([-0.5]))
        array([0.5])
        >>> pq.theory.flips(run.iterates) / 1000
        array([0.5])
    """
    return 1 - np.abs(minimiser)


def time_at_nearest_corner(minimiser: Floats) -> float:
    """1 - sum_i (1 - |x*_i|)/2, in the limit a lower bound on the time spent at sign_pm(x*).

    Vacuous unless positive. Attained if no two coordinates are ever away at the same time.

    Examples:
        >>> loss, x = pq.theory.Quadratic(np.eye(2), np.array([-0.75, 0.5])), np.array([0.75, -0.5])
        >>> run = pq.theory.by_projection(loss.gradient, np.zeros(2), [0.5] * 999, pq.prox.sign_pm)
        >>> pq.theory.time_at_nearest_corner(x)
        0.625
        >>> float((run.iterates == pq.prox.sign_pm(x)).all(axis=1).mean())
        0.625
    """
    return float(1 - ((1 - np.abs(minimiser)) / 2).sum())


def frank_wolfe(gradient: Gradient, start: Floats, steps: int) -> Floats:
    """m_1 = start, m_{t+1} = m_t + (argmin_{v in [-1,1]^d} <grad L(m_t), v> - m_t)/(t + 1).

    Returns m_1, ..., m_steps, shape (steps, d). Coordinates with gradient 0 take v_i = +1.
    The arithmetic is that of `start`: an object array of Fractions makes it exact.

    Examples:
        >>> loss = pq.theory.Quadratic(np.eye(1), np.array([0.5]))
        >>> pq.theory.frank_wolfe(loss.gradient, np.ones(1), steps=4).ravel()
        array([ 1.        ,  0.        , -0.33333333, -0.5       ])
    """
    means = [start]
    for t in range(1, steps):
        corner = np.where(gradient(means[-1]) <= 0, 1, -1)
        means.append(means[-1] + (corner - means[-1]) / (t + 1))
    return np.array(means)


def frank_wolfe_gap(loss: Quadratic, minimiser: Floats, t: int) -> float:
    """h_t = L(m_t) - L(x*) <= (h_1 + 2 beta d ln t) / t, and ||m_t - x*||^2 <= 2/mu times that.

    Proof: smoothness and the choice of the corner give h_{t+1} <= (1 - 1/(t+1)) h_t +
    beta/2 ||s_t - m_t||^2 / (t+1)^2, and ||s_t - m_t||^2 <= 4d; so (t+1) h_{t+1} <= t h_t +
    2 beta d / (t+1). Sum, from m_1 = (1, ..., 1), with 1/2 + ... + 1/t <= ln t. The second is
    strong convexity. Each inequality is attained, but not all at once: the first needs a linear L,
    the others one with curvature beta. What ln t gives away is at most 2 beta d * 0.423 / t.

    Examples:
        >>> loss, x = pq.theory.Quadratic(np.eye(1), np.array([0.5])), np.array([-0.5])
        >>> mean = pq.theory.frank_wolfe(loss.gradient, np.ones(1), steps=10)[-1]
        >>> bool(loss.value(mean) - loss.value(x) <= pq.theory.frank_wolfe_gap(loss, x, t=10))
        True
    """
    first = loss.value(np.ones_like(minimiser)) - loss.value(minimiser)
    return float(first + 2 * loss.beta * len(minimiser) * np.log(t)) / t


def inner_distance(loss: Quadratic, minimiser: Floats, t: int) -> float:
    """sqrt(K / mu) / t >= ||m_t - x*|| if r = max |x*_i| < 1: faster if x* is inside the cube.

    K = max(C, C^2 / (4 mu (1 - r)^2)), C = beta d (1 + r)^2.
    Proof: e_t = t (m_t - x*) has e_{t+1} = e_t + s_t - x* with s_t = sign_pm(-A e_t), so E = e'Ae
    grows by at most C - 2 (1 - r) ||A e||_1 <= C - 2 (1 - r) sqrt(mu E). So E_{t+1} is at most
    y^2 - 2 (1 - r) sqrt(mu) y + C with y = sqrt(E_t). That is convex in y: on 0 <= y <= sqrt(K) it
    is largest at an end, where it is C or, as K is large enough, at most K. And E_1 <= C. So E <= K
    forever, and mu ||e||^2 <= K. In one dimension with r <= 1/3 the bound is attained, at t = 1.

    Examples:
        >>> loss, x = pq.theory.Quadratic(np.eye(1), np.array([0.5])), np.array([-0.5])
        >>> means = pq.theory.frank_wolfe(loss.gradient, np.ones(1), steps=1000)
        >>> abs(means[-1] - x).item() <= pq.theory.inner_distance(loss, x, t=1000)
        True
    """
    r = check_number("max |minimiser|", float(np.abs(minimiser).max()), below=1)
    c = loss.beta * len(loss.b) * (1 + r) ** 2
    k = max(c, c**2 / (4 * loss.mu * (1 - r) ** 2))
    return float(np.sqrt(k / loss.mu)) / t


def steps_to_quantize(
    distance: float, lr: float, lams: Sequence[float], gradient_bound: float | Sequence[float]
) -> int:
    """The least n with lr sum_{t<n} (lambda_t - G_t) >= distance: then all weights are at levels.

    Computed in exact arithmetic: with lr = 0.1, ten steps of 0.1 make 1, while their sum in
    floating point falls short of it. (A run in floating point also has to make up for rounding.)

    distance: the largest distance of a weight to its nearest level when the phase begins.
    lams: lambda_t > G_t from the beginning of the phase on, and enough of them, else ValueError.
    gradient_bound: G, or one for each lambda.

    Examples:
        >>> pq.theory.steps_to_quantize(1.0, lr=0.25, lams=[3.0] * 10, gradient_bound=1.0)
        2
    """
    steps = (Fraction(lam) - Fraction(bound) for lam, bound in _above(lams, gradient_bound))
    goal, travelled = Fraction(distance) / Fraction(lr), Fraction(0)
    for n, travelled in enumerate(itertools.accumulate(steps, initial=Fraction(0))):
        if travelled >= goal:
            return n
    raise ValueError(
        f"lams must be enough to carry weights over the distance {distance}, got {len(lams)} that "
        f"carry them by {float(travelled) * lr}"
    )


def _above(lams: Sequence[float], bound: float | Sequence[float]) -> list[tuple[float, float]]:
    """The pairs (lambda_t, G_t), if lambda_t > G_t in all of them."""
    bounds = np.broadcast_to(bound, len(lams)).tolist()
    pairs = list(zip(map(float, lams), bounds, strict=True))
    for t, (lam, g) in enumerate(pairs):
        if not lam > g:
            raise ValueError(f"lams[{t}] must be > {g}, the gradient_bound, got {lam}")
    return pairs


def solves_both_toys(lr: float, lams: Sequence[float]) -> bool:
    """Whether prox-gradient with BinaryL1 must end at the better of -1 and +1, for f+ and f-.

    It must, from any w_0 in [-1, 1], if lr <= 1/2, lambda_t does not fall,
    lr sum (1 - lambda_t)_+ > 1 - lr (it rises slowly enough) and lr sum (lambda_t - 1)_+ >= 1 (it
    lasts long enough), with x_+ = max(x, 0).

    Proof for f+; f- mirrors it. While lambda_t <= 1 and w_t >= 0, the gradient is +1. Either
    w_t < lr and then w_{t+1} < 0, or w falls by lr (1 - lambda_t): from w_0 <= 1 to less than lr by
    the time lambda exceeds 1. From w_t in [-1, 0) no step of lr < 1/2 leaves [-1, 0): below -1/2 it
    goes up, above it down. Nor does lr = 1/2, because the gradient *at* the kink -1/2 is +1 here;
    with -1 the step would end at 0, whose prox goes to +1. In [-1, 0), once lambda_t > G = 1,
    finite-time quantization ends at -1. The first condition is exact: if the sum is smaller,
    w_0 = 1 stays at lr or more until lambda reaches 1, and then goes up. The second is sufficient:
    the distance is 1, but the gradient opposes only on its last 1/2.

    BinaryConnect makes the same iterates on both, whatever z_0 and lr_t, so it fails on one.

    Examples:
        >>> pq.theory.solves_both_toys(lr=0.1, lams=0.03 * np.arange(100))
        True
        >>> pq.theory.solves_both_toys(lr=0.1, lams=[2.0] * 100)
        False
    """
    lams = np.asarray(lams, np.float64)
    if not (0 < lr <= 0.5 and (np.diff(lams) >= 0).all()):
        return False
    excess = [Fraction(lam) - 1 for lam in lams.tolist()]  # a sum in floats may just miss 1
    slow = Fraction(lr) * sum(-e for e in excess if e < 0) > 1 - Fraction(lr)
    long = Fraction(lr) * sum(e for e in excess if e > 0) >= 1
    return slow and long
