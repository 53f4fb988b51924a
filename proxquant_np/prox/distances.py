"""Distances to a quantized set Q: the regularizers, and the prox of each.

    L1(Q)      R(w) = min_{q in Q} ||w - q||_1           prox = w - clip(w - q, -s, s)
    L2(Q)      R(w) = min_{q in Q} 1/2 ||w - q||_2^2     prox = (w + s q) / (1 + s)
    Parq(Q)    R(w) = 1/2 sum_i (w_i - l)(h - w_i)       prox = clip(c + (w - c) / (1 - s), l, h)

with l and h the levels around a weight and c halfway between them.

The distance determines q. prox(w, s) minimises 1/2 ||u - w||^2 + s d(u, q) over u and over q in Q.
Minimising over u first leaves a fit of q to w:

    L2    u is the weighted mean, which leaves s / (2 (1 + s)) ||w - q||^2: q = P(w) for every s
    L1    u = w - clip(w - q, -s, s), which leaves the sum of h(w_i - q_i), with Huber's
          h(d) = d^2 / 2 for |d| <= s, s |d| - s^2 / 2 beyond

Among fixed levels the nearest is best under either. Fitted levels are means under L2; under L1 they
are fitted by Huber's loss and depend on s: from those of the 2-norm projection at s = infinity they
move to medians, those of R itself, as s falls to 0. So L1 asks the set for its fit by Huber's loss,
and refuses a set that has none. Pulling weights by L1 towards levels fitted by least squares, as is
often done, is not the prox of a distance to a fitted set (it is the prox of L1(Levels(values)), for
levels that are then kept).

BinaryRelax and PARQ are meant for lazy updates: both soften the projection of a latent weight and
harden it in the course of training. Here they are proxes like all others, so a homotopy drives them
and DualAveraging needs no special case. For a constant lr the published schedules are
Geometric(m_0 / lr, ratio) for BinaryRelax, whose m_t is s, and Linear.to(1 / lr, steps) for a Parq
that is hard from `steps` on.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from proxquant_np.checks import check_instance
from proxquant_np.prox.arrays import Floats, as_strength, as_weights, quiet
from proxquant_np.prox.names import Named
from proxquant_np.prox.nearest import pick
from proxquant_np.prox.quantized_set import QuantizedSet, nearest
from proxquant_np.prox.regularizer import Regularizer, as_set


class Distance(Named, Regularizer):
    """L1 and L2: R(w) is the distance to Q, and prox moves w towards the best q in Q.

    Its names for one kind of set, such as BinaryL1() for L1(Binary()), are made in names.py.
    """

    def __init__(self, set: QuantizedSet) -> None:
        check_instance("set", set, QuantizedSet, "a quantized set such as Binary()")
        object.__setattr__(self, "set", set)

    @quiet
    def towards(self, w: ArrayLike, strength: float, q: Floats) -> Floats:
        """The prox of `w` if `q`, an array like `w`, were the quantized weights to move to.

        Examples:
            >>> pq.prox.BinaryL1().towards([0.5, -3.0], 0.25, np.array([-1.0, -1.0]))
            array([ 0.25, -2.75])
        """
        x, out = as_weights(w), q.copy()
        self._towards(x, as_strength(strength, x.dtype), out, np.empty_like(x))
        return out

    def _residual(self, x):
        return np.subtract(x, self.set.project(x), dtype=np.float64)

    def _prox(self, x, s, out, tmp):
        self.set._project(x, out)
        self._towards(x, s, out, tmp)

    @abstractmethod
    def _towards(self, x, s, q, tmp):
        """Overwrite q, the best point of Q, with the point that prox moves to."""


class L1(Distance):
    """R(w) = min_{q in Q} ||w - q||_1: pulls each weight to its level at constant speed.

    prox(w, s) = argmin_u 1/2 ||u - w||^2 + s R(u) = w - clip(w - q, -s, s), exact. Of fixed levels,
    q takes the nearest. Fitted levels are fitted by Huber's loss for the prox and by medians for
    the value (see above); `project` and `levels` are those of Q, by least squares. A fit takes
    O(n log n), some 50 times as long as with L2, and 60 times the memory of a row; the objective is
    within n eps max|w|^2 of its minimum, eps that of float64, before rounding to the dtype of `w`.

    set: Q. ValueError if its exact fit by Huber's loss is not known: for `Uniform`, whose fit even
    by least squares is a heuristic, and for heuristic projections in general.
    Source: Bai, Wang, Liberty 2019, Section 3.1, equations 5 and 7; for fitted levels, ours.

    Examples:
        >>> pq.prox.L1(pq.prox.Binary()).prox([-1.5, -0.5, 0.2, 1.1], strength=0.25)
        array([-1.25, -0.75,  0.45,  1.  ])
        >>> pq.prox.L1(pq.prox.Ternary()).prox([-2.0, 0.0, 3.0, 3.5], strength=0.25)
        array([-2.  ,  0.  ,  3.25,  3.25])
    """

    def __init__(self, set: QuantizedSet) -> None:
        super().__init__(set)
        if not set.fits_l1:
            raise ValueError(
                "set must have fixed levels, or levels with an exact fit by Huber's loss, for L1's "
                f"prox, got {set!r}, for which no such fit is known: use L2, or "
                "L1(Levels(values)) with levels that are kept"
            )

    def _value(self, x):
        if self.set.elementwise:
            return np.abs(self._residual(x)).sum()
        near = np.empty(x.shape, x.dtype, like=x)  # in C order, whatever the order of x
        self.set.map_rows(x, near, nearest, lambda rows, exponent: self.set._fit_huber(rows, 0.0))
        return np.abs(np.subtract(x, near, dtype=np.float64)).sum()

    def _prox(self, x, s, out, tmp):
        if self.set.elementwise or np.isinf(s):
            return super()._prox(x, s, out, tmp)

        def fit(rows, exponent):
            return self.set._fit_huber(rows, np.ldexp(np.float64(s), -exponent))

        def move(w, levels, out):
            nearest(w, levels, out)
            self._towards(w, s, out, np.empty_like(w))

        self.set.map_rows(x, out, move, fit)

    def _towards(self, x, s, q, tmp):
        # q clipped to [x - s, x + s]. This is x - clip(x - q, -s, s), except that a weight within s
        # of its level lands on it exactly; x - (x - level) would miss it by a rounding error.
        np.maximum(q, np.subtract(x, s, out=tmp), out=q)
        np.minimum(q, np.add(x, s, out=tmp), out=q)


class L2(Distance):
    """R(w) = min_{q in Q} 1/2 ||w - q||_2^2: pulls each weight in proportion to its distance.

    prox(w, s) = argmin_u 1/2 ||u - w||^2 + s R(u) = (w + s P(w)) / (1 + s), for any closed Q; it is
    exact if P is. If P is a heuristic, P(w) is still a point of Q, but not always the nearest; then
    R is 1/2 ||w - P(w)||^2, an upper bound on the distance, and prox moves towards P(w).
    Source: Bai, Wang, Liberty 2019, Section 3.1, equations 5, 9 and 10; that an exact P needs no
    alternation between u and q is ours.

    Examples:
        >>> pq.prox.L2(pq.prox.Levels([-1, 0, 1])).prox([-0.5, 0.25, 2.0], strength=1.0)
        array([-0.25 ,  0.125,  1.5  ])
    """

    def _value(self, x):
        return 0.5 * np.square(self._residual(x)).sum()

    def _towards(self, x, s, q, tmp):
        weighted_mean(x, s, q, tmp)


def weighted_mean(x: Floats, s: Any, q: Floats, tmp: Floats) -> None:
    """Overwrite q with (x + s q) / (1 + s), 0 <= s <= inf, by a step from the heavier of x and q.

    So s * q cannot overflow, x = q gives q exactly, and the error is a rounding of the heavier one.
    """
    if s < 1:  # x + (q - x) * s / (1 + s)
        q -= x
        q *= s / (1 + s)
        q += x
    else:  # q + (x - q) / (1 + s)
        np.subtract(x, q, out=tmp)
        tmp /= 1 + s
        q += tmp


@dataclass(frozen=True)
class BinaryRelax(L2):
    """L2 under a method's name: R(w) = 1/2 ||w - P(w)||_2^2 for a set, or for a regularizer's set.

    prox(w, s) = argmin_u 1/2 ||u - w||^2 + s R(u) = (w + s P(w)) / (1 + s), exact if P is. So
    BinaryRelax(Binary()) is BinaryL2(); the method consists in the lazy update and the growth of s.
    Source: Yin et al. 2018, BinaryRelax.

    Examples:
        >>> w = np.array([-0.5, 0.25])
        >>> relaxed = pq.prox.BinaryRelax(pq.prox.Binary())
        >>> np.array_equal(relaxed.prox(w, 2.0), pq.prox.BinaryL2().prox(w, 2.0))
        True
    """

    regularizer: QuantizedSet | Regularizer

    def __post_init__(self):
        object.__setattr__(self, "set", as_set(self.regularizer))


@dataclass(frozen=True)
class Parq(Regularizer):
    """R(w) = 1/2 sum_i (w_i - l)(h - w_i), l and h the levels around w_i; infinity beyond the ends.

    The levels are those of a set, or of a regularizer's set. For s < 1, prox(w, s) =
    argmin_u 1/2 ||u - w||^2 + s R(u) is clip(c + (w - c) / (1 - s), l, h) with c = (l + h) / 2:
    flat at the levels and ever steeper between them. From s = 1 on the objective is concave, and
    prox is the projection. Fitted levels are first fitted to w, then kept. Weights beyond the ends
    go to the ends. Source: Jin et al. 2025, PARQ, for the map with r = 1 - s; the R is ours.

    Examples:
        >>> r = pq.prox.Parq(pq.prox.Binary())
        >>> r.prox([-0.75, -0.25, 0.25, 0.75], strength=0.5)
        array([-1. , -0.5,  0.5,  1. ])
        >>> r.prox([-0.75, -0.25, 0.25, 0.75], strength=1.0)
        array([-1., -1.,  1.,  1.])
    """

    regularizer: QuantizedSet | Regularizer

    def __post_init__(self):
        object.__setattr__(self, "set", as_set(self.regularizer))

    def _prox(self, x, s, out, tmp):
        if s >= 1 - 4 * np.finfo(x.dtype).eps:  # lr * (1 / lr) may fall short of 1
            self.set._project(x, out)
        else:
            self.set.map_rows(x, out, lambda w, q, out: _steepen(w, q, 1 - s, out))

    def _value(self, x):
        product = np.empty(x.shape, like=x)
        self.set.map_rows(x, product, _hump)
        return product.sum() / 2


def around(w: Floats, levels: Floats) -> tuple[Floats, Floats]:
    """The neighbouring levels around each weight; beyond an end, the two levels next to it.

    Examples:
        >>> from proxquant_np.prox.distances import around
        >>> around(np.array([[0.25, 9.0]]), np.array([[0.0, 1.0, 2.0]]))
        (array([[0., 1.]]), array([[1., 2.]]))
    """
    inner = levels[:, 1:-1]
    low, high = np.empty_like(w), np.empty_like(w)
    pick(w, levels[:, : max(1, levels.shape[1] - 1)], inner, low)
    pick(w, levels[:, -max(1, levels.shape[1] - 1) :], inner, high)
    return low, high


def _steepen(w, levels, r, out):
    low, high = around(w, levels)
    middle = low / 2 + high / 2
    np.clip(middle + (w - middle) / r, low, high, out=out)


def _hump(w, levels, out):
    low, high = around(w, levels)
    np.multiply(
        np.subtract(w, low, dtype=np.float64), np.subtract(high, w, dtype=np.float64), out=out
    )
    out[out < 0] = np.inf
