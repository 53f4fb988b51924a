"""Penalties of the field as distances to a quantized set; to {0}, which is the default, as usual.

With d = w - q, q the level nearest to w, sums over all weights of

    L1(Levels([0]))   |d|                                    soft threshold
    L2(Levels([0]))   1/2 d^2                                ridge: shrinkage
    L0                1 where d is not 0                     hard threshold
    Huber             1/2 d^2, from the knee k on k |d| - k^2 / 2
    MCP               |d| - d^2 / (2 k), from the knee k on k / 2        firm threshold
    ElasticNet        |d| + ridge/2 d^2

Each grows with |d|, and so does the least of 1/2 (u - w)^2 + s R(u) over u. So of fixed levels the
nearest is best, and the prox to {0} moves d; fitted levels would depend on s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np

from proxquant_np.checks import check_number
from proxquant_np.prox.distances import Distance
from proxquant_np.prox.huber import huber
from proxquant_np.prox.levels import Levels
from proxquant_np.prox.quantized_set import QuantizedSet
from proxquant_np.prox.text import to_text

ZERO = Levels([0])


@dataclass(frozen=True, repr=False)
class Penalty(Distance):
    """R(w) = min_{q in Q} sum_i rho(|w_i - q_i|), rho increasing, for a Q with fixed levels.

    ValueError for a set whose levels are fitted, or whose weights do not go to the nearest level.
    A subclass defines `_rho(d)`, in float64, and `_towards`.
    """

    set: QuantizedSet = ZERO

    def __post_init__(self):
        super().__init__(self.set)
        for field in fields(self)[1:]:
            number = check_number(field.name, getattr(self, field.name), above=0, below=math.inf)
            object.__setattr__(self, field.name, number)
        if not (self.set.elementwise and self.set.exact):
            raise ValueError(
                f"set must have fixed levels, each for the weights nearest to it, got {self.set!r}"
            )

    def __repr__(self) -> str:
        return to_text(self)

    def _value(self, x):
        return self._rho(np.abs(self._residual(x))).sum()


@dataclass(frozen=True, repr=False)
class L0(Penalty):
    """R(w) = the number of weights that are not in Q: a weight is moved to its level or left alone.

    prox(w, s) = argmin_u 1/2 ||u - w||^2 + s R(u) = w where |w - q| > sqrt(2 s), q elsewhere; on
    that threshold both are minimisers. The hard threshold of wavelets, with {0} and s = t^2 / 2.
    Source: Donoho, Johnstone 1994, Ideal spatial adaptation by wavelet shrinkage; Blumensath,
    Davies 2008, Iterative thresholding for sparse approximations, for the prox.

    Examples:
        >>> pq.prox.L0().prox([-1.0, 0.75, 1.5], strength=0.5)
        array([0. , 0. , 1.5])
        >>> pq.prox.L0(pq.prox.Binary()).prox([-1.25, 0.75, 1.75], strength=0.125)
        array([-1.  ,  1.  ,  1.75])
    """

    def _rho(self, d):
        return d != 0

    def _towards(self, x, s, q, tmp):
        np.subtract(x, q, out=tmp)
        np.copyto(q, x, where=np.abs(tmp) > math.sqrt(2 * float(s)))


@dataclass(frozen=True, repr=False)
class Huber(Penalty):
    """R(w) = min_{q in Q} sum_i h(w_i - q_i), h(d) = d^2/2 up to |d| = k, then k (|d| - k/2).

    prox(w, s) = argmin_u 1/2 ||u - w||^2 + s R(u) = q + d / (1 + s) for d = w - q with |d| <=
    k (1 + s), and w - s k sign(d) beyond. R / k is the Moreau envelope of the 1-norm, which some
    call Huber's function; for k = 1 they are one. knee: k, a finite number > 0.
    Source: Huber 1964, Robust estimation of a location parameter, for h.

    Examples:
        >>> r = pq.prox.Huber(knee=0.5)
        >>> r.value([-0.5, 2.0]), r.prox([-0.5, 2.0], strength=1.0)
        (1.0, array([-0.25,  1.5 ]))
    """

    knee: float = 1.0

    def _rho(self, d):
        return huber(d, self.knee)

    def _towards(self, x, s, q, tmp):
        np.subtract(x, q, out=tmp)
        part = s / (1 + s) if s < np.inf else 1  # what d loses of itself, up to s k
        most = s * self.knee if s < np.inf else s  # inf * knee, also if knee is 0 in float32
        tmp -= np.clip(tmp * x.dtype.type(part), -most, most)
        q += tmp


@dataclass(frozen=True, repr=False)
class MCP(Penalty):
    """R(w) = min_{q in Q} sum_i p(|w_i - q_i|), p(d) = d - d^2 / (2 k) up to d = k, then k/2.

    prox(w, s) = argmin_u 1/2 ||u - w||^2 + s R(u), with d = w - q: for s < k the firm threshold,
    q where |d| <= s, q + sign(d) (|d| - s) / (1 - s/k) up to |d| = k, w beyond; for s >= k a hard
    one, q where |d| <= sqrt(s k), else w. So weights that are far from Q stay. knee: k, a finite
    number > 0. In Zhang's terms s is lambda, and k is gamma lambda.
    Source: Zhang 2010, Nearly unbiased variable selection under minimax concave penalty; Gao, Bruce
    1997, WaveShrink with firm shrinkage, for s < k.

    Examples:
        >>> r = pq.prox.MCP(knee=2.0)
        >>> r.prox([0.5, -1.5, 3.0], strength=1.0), r.prox([0.5, -1.5, 3.0], strength=2.0)
        (array([ 0., -1.,  3.]), array([0., 0., 3.]))
    """

    knee: float = 3.0

    def _rho(self, d):
        d = np.minimum(d, self.knee)
        return d - d * (d / self.knee) / 2  # d * d may overflow

    def _towards(self, x, s, q, tmp):
        np.subtract(x, q, out=tmp)
        k = x.dtype.type(self.knee)
        far = np.abs(tmp) > (k if s < k else math.sqrt(float(s) * self.knee))
        if s < k:
            q += np.clip((tmp - np.clip(tmp, -s, s)) / (1 - s / k), -k, k)
        np.copyto(q, x, where=far)


@dataclass(frozen=True, repr=False)
class ElasticNet(Penalty):
    """R(w) = min_{q in Q} ||w - q||_1 + ridge/2 ||w - q||_2^2.

    prox(w, s) = argmin_u 1/2 ||u - w||^2 + s R(u) = q + sign(d) max(|d| - s, 0) / (1 + s ridge),
    with d = w - q. ridge: a finite number > 0.
    Source: Zou, Hastie 2005, Regularization and variable selection via the elastic net, the naive
    one.

    Examples:
        >>> pq.prox.ElasticNet(ridge=0.5).prox([-0.5, 2.5], strength=1.0)
        array([0., 1.])
    """

    ridge: float = 1.0

    def _rho(self, d):
        return d + self.ridge / 2 * d * d

    def _towards(self, x, s, q, tmp):
        np.subtract(x, q, out=tmp)
        tmp -= np.clip(tmp, -s, s)
        if s < np.inf:  # else all are 0 by now
            tmp /= 1 + s * x.dtype.type(self.ridge)
        q += tmp
