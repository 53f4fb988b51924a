"""The maps of two relaxations, meant for lazy updates: BinaryRelax and PARQ. Layer 2.

Both soften the projection of a latent weight and harden it as training goes on. Here they are
proxes like all others, so that a homotopy drives them and DualAveraging needs no case for them:

    BinaryRelax    (x + s P(x)) / (1 + s)                                    s from > 0 to infinity
    Parq           clip(c + (x - c) / r) to the levels around x, r = 1 - s   s from 0 to 1

with c halfway between the levels around x. The strength is s = lr * lambda_t. So the published
schedules are, for a constant lr: Geometric(m_0 / lr, ratio) for BinaryRelax, whose m_t is s, and
Linear.to(1 / lr, steps) for a Parq that is hard from `steps` on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .levels import pick
from .regularizer import L2Distance, Regularizer


@dataclass(frozen=True)
class _Relaxation:
    regularizer: Regularizer

    def __post_init__(self):
        if not isinstance(self.regularizer, Regularizer):
            raise TypeError(f"regularizer is {self.regularizer!r}; a Regularizer is accepted")

    @property
    def elementwise(self):
        return self.regularizer.elementwise

    def _project(self, x, out):
        self.regularizer._project(x, out)

    def _levels(self, x):
        return self.regularizer._levels(x)


@dataclass(frozen=True)
class BinaryRelax(_Relaxation, L2Distance):
    """R(w) = 1/2 ||w - P(w)||_2^2, with P the projection of another regularizer.

    prox(w, s) = argmin_u 1/2 ||u - w||^2 + s R(u) = (w + s P(w)) / (1 + s), exact if P is. So
    BinaryRelax(BinaryL1()) is BinaryL2(); what makes the method is the lazy update and the growth
    of s. Source: Yin et al. 2018, BinaryRelax.

    Examples:
        >>> w = np.array([-0.5, 0.25])
        >>> relaxed = pq.prox.BinaryRelax(pq.prox.BinaryL1())
        >>> np.array_equal(relaxed.prox(w, 2.0), pq.prox.BinaryL2().prox(w, 2.0))
        True
    """


@dataclass(frozen=True)
class Parq(_Relaxation, Regularizer):
    """R(w) = 1/2 sum_i (w_i - l)(h - w_i), l and h the levels around w_i; infinity beyond the ends.

    The levels are those of another regularizer. prox(w, s) = argmin_u 1/2 ||u - w||^2 + s R(u) is
    clip(c + (w - c) / (1 - s), l, h) for s < 1, with c = (l + h) / 2: flat at the levels and ever
    steeper between them. From s = 1 on the objective is concave, and prox is the projection.
    Levels that are fitted are fitted to w first, then kept. Weights beyond the ends go to them.
    Source: Jin et al. 2025, PARQ, for the map with r = 1 - s; its R, ours.

    Examples:
        >>> r = pq.prox.Parq(pq.prox.BinaryL1())
        >>> r.prox([-0.75, -0.25, 0.25, 0.75], strength=0.5)
        array([-1. , -0.5,  0.5,  1. ])
        >>> r.prox([-0.75, -0.25, 0.25, 0.75], strength=1.0)
        array([-1., -1.,  1.,  1.])
    """

    def _prox(self, x, s, out, tmp):
        if s >= 1 - 4 * np.finfo(x.dtype).eps:  # lr * (1 / lr) may fall short of 1
            self._project(x, out)
        else:
            self._map_levels(x, out, lambda w, q, out: _steepen(w, q, 1 - s, out))

    def _value(self, x):
        product = np.empty(x.shape)
        self._map_levels(x, product, _hump)
        return product.sum() / 2

    def _map_levels(self, x, out, fill):
        if self.elementwise:
            fill(x.reshape(1, -1), self._levels(x)[None], out.reshape(1, -1))
        else:
            self.regularizer.map_rows(x, out, fill)


def _around(w, levels):
    """The neighbouring levels around each weight, or the last two if it is beyond the ends."""
    inner = levels[:, 1:-1]
    low, high = np.empty_like(w), np.empty_like(w)
    pick(w, levels[:, : max(1, levels.shape[1] - 1)], inner, low)
    pick(w, levels[:, -max(1, levels.shape[1] - 1) :], inner, high)
    return low, high


def _steepen(w, levels, r, out):
    low, high = _around(w, levels)
    middle = low / 2 + high / 2
    np.clip(middle + (w - middle) / r, low, high, out=out)


def _hump(w, levels, out):
    low, high = _around(w, levels)
    np.multiply(
        np.subtract(w, low, dtype=np.float64), np.subtract(high, w, dtype=np.float64), out=out
    )
    out[out < 0] = np.inf
