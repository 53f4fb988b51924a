"""A convex regularizer that gathers weights at levels: piecewise affine, with a kink at each level.

Between its kinks it is affine, so it moves each weight at constant speed until the gradient stops
it, and only a kink can stop gradients of different sizes. Convexity has a price: a convex function
that is zero on two levels is zero between them, so this regularizer, unlike all others here, is not
zero on Q but rises from level to level.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from proxquant_np.prox.levels import Levels
from proxquant_np.prox.regularizer import Regularizer


@dataclass(frozen=True)
class PiecewiseAffine(Regularizer):
    """R(w) = sum_i max_k (a_k (|w_i| - q_k) + b_k), infinite where |w_i| > q_m.

    Q = {0, +-q_1, ..., +-q_m}^d, without 0 if a_0 = 0. Here 0 = q_0 < q_1 < ... < q_m are the
    values, 0 <= a_0 < ... < a_{m-1} the slopes from each value to the next, and b_k = R at q_k.

    prox(w, s) = argmin_u 1/2 ||u - w||^2 + s R(u) has magnitude |w| - s a_k between q_k and q_{k+1}
    and is constant on the levels: unique, monotone and never steeper than the identity. R is *not*
    zero on Q (see above); `project`, like infinite strength, takes the nearest level.

    The lazy update with strength lr sum_{s<=t} lambda is Jin et al.'s AProx: for a constant lr,
    DualAveraging(SGD(...), params, PiecewiseAffine(...), Linear(lam)), up to the index of its first
    step. Source: Jin et al. 2025, PARQ, equations 6 and 7.

    values: q_0, ..., q_m, at least two. slopes: a_0, ..., a_{m-1}; by default the midpoints
    (q_k + q_{k+1}) / 2, for which the map tends to rounding w / s as s grows. ValueError unless
    they ascend as stated.

    Examples:
        >>> r = pq.prox.PiecewiseAffine([0, 1, 2], slopes=[0.5, 1.5])
        >>> r.value([0.0, 1.0, -2.0]), r.value([2.5])
        (2.5, inf)
        >>> r.prox([0.25, -1.25, 2.0, 9.0], strength=1.0)
        array([ 0.  , -0.75,  1.  ,  2.  ])
        >>> r.project([0.25, -1.75])
        array([ 0., -2.])
    """

    values: tuple[float, ...]  # any sequences of real numbers are accepted
    slopes: tuple[float, ...] | None = None

    def __post_init__(self):
        values = Levels(self.values).values  # checks them
        if len(values) < 2 or values[0] != 0:
            raise ValueError(f"values must be 0 and at least one level, got {self.values!r}")
        slopes = self.slopes
        if slopes is None:
            slopes = [(a + b) / 2 for a, b in pairwise(values)]
        a = np.asarray(slopes, np.float64)
        if a.shape != (len(values) - 1,) or not (np.isfinite(a).all() and a[0] >= 0):
            raise ValueError(
                f"slopes must be {len(values) - 1} finite numbers >= 0, got {self.slopes!r}"
            )
        if not (np.diff(a) > 0).all():
            raise ValueError(f"slopes must be strictly increasing, got {self.slopes!r}")
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "slopes", tuple(a.tolist()))
        q = values if self.slopes[0] else values[1:]
        object.__setattr__(self, "set", Levels(sorted({*q, *(-v for v in q)})))

    def _value(self, x):
        size, total = np.abs(x, dtype=np.float64), np.zeros(x.shape, like=x)
        for a, low, high in zip(self.slopes, self.values[:-1], self.values[1:], strict=True):
            total += a * np.clip(size - low, 0, high - low)
        return np.where(size > x.dtype.type(self.values[-1]), np.inf, total).sum()

    def _prox(self, x, s, out, tmp):
        if np.isinf(s):
            return self.set._project(x, out)
        np.abs(x, out=tmp)
        out[...] = 0
        for a, low, high in zip(self.slopes, self.values[:-1], self.values[1:], strict=True):
            pulled = tmp - s * x.dtype.type(a)
            np.copyto(out, np.minimum(pulled, x.dtype.type(high)), where=pulled > low)
        np.copysign(out, x, out=out)
        out += 0  # turns -0.0 into 0.0
