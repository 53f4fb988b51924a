"""The ternary prox as the ProxQuant paper published it: threshold codes, in rounds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from proxquant_np.checks import check_integer
from proxquant_np.prox.distances import L2
from proxquant_np.prox.quantized_set import QuantizedSet


@dataclass(frozen=True)
class _Rule(QuantizedSet):
    """The values of q in `PublishedTernary`: the means beyond D and -D, and 0."""

    elementwise = False
    exact = False
    contains_zero = True

    def _project(self, x, out):
        wide = x.astype(np.float64)
        threshold = 0.7 * np.abs(wide).mean()
        out[...] = 0
        if threshold:
            for side in (wide >= threshold, wide <= -threshold):
                if side.any():
                    out[side] = wide[side].mean()

    def _levels(self, x):
        q = np.empty_like(x)
        self._project(x, q)
        return np.unique(np.append(q.reshape(-1), x.dtype.type(0)))


@dataclass(frozen=True)
class PublishedTernary(L2):
    """R(w) = 1/2 ||w - q(w)||_2^2, where q is a rule, not a projection; its prox is a heuristic.

    With D = 0.7 mean|w|, q(w) gives the weights w_i >= D their mean, the weights w_i <= -D their
    mean, and the rest 0. prox(w, s) starts from u = w and repeats u <- (w + s q(u))/(1 + s)
    `rounds` times. The paper's R has no 1/2, so its lambda is s / 2: hence 2 lambda in its formula.

    q does *not* choose the nearest level (`TernaryL2` does; there the threshold only starts the
    fit): a weight just below D may be nearer to the mean than to 0. q is idempotent, because the
    levels it keeps are at least D, and D falls. Levels are fitted to the whole array.
    Source: Bai, Wang, Liberty 2019, Appendix A.2, equation 15, two rounds; their code uses one.

    Examples:
        >>> w = np.array([-2.0, -0.1, 0.6, 0.9, 1.1])
        >>> pq.prox.PublishedTernary().project(w), pq.prox.TernaryL2().project(w).round(4)
        (array([-2.,  0.,  0.,  1.,  1.]), array([-2.    ,  0.    ,  0.8667,  0.8667,  0.8667]))
        >>> pq.prox.PublishedTernary().prox(w, strength=1.0)
        array([-2.  , -0.05,  0.3 ,  0.95,  1.05])
    """

    rounds: int = 2

    set = _Rule()

    def __post_init__(self):
        check_integer("rounds", self.rounds, least=1)

    def _prox(self, x, s, out, tmp):
        np.copyto(out, x)
        for _ in range(self.rounds if math.isfinite(s) else 1):  # q(q) may round to another mean
            q = np.empty_like(x)
            self.set._project(out, q)
            self._towards(x, s, q, tmp)
            np.copyto(out, q)
