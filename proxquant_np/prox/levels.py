"""Any finite set of levels l_1 < ... < l_n, Q = {l_1, ..., l_n}^d, and its distances.

    LevelsL1    R(w) = sum_i min_j |w_i - l_j|            prox = w - clip(w - q(w), -s, s)
    LevelsL2    R(w) = 1/2 sum_i min_j (w_i - l_j)^2      prox = (w + s q(w)) / (1 + s)

where q(x) is the level nearest to x, the upper one at a tie. Both are exact: of all points at a
given distance from x, the one towards q(x) is nearest to a level.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from proxquant_np.libraries import check_unmasked, moved, on_host
from proxquant_np.prox.arrays import Floats
from proxquant_np.prox.distances import L1, L2
from proxquant_np.prox.nearest import pick, thresholds
from proxquant_np.prox.quantized_set import QuantizedSet


@lru_cache
def _grid(values: tuple[float, ...], dtype: np.dtype) -> tuple[Floats, Floats]:
    """The levels in `dtype`, and their thresholds."""
    with np.errstate(over="ignore", under="ignore"):
        levels = np.array(values, dtype)
    if not (np.isfinite(levels).all() and (np.diff(levels) > 0).all()):
        raise ValueError(
            f"values must be finite and distinct in the dtype of the weights, {dtype}, got {values}"
        )
    return levels, thresholds(levels)


@dataclass(frozen=True)
class Levels(QuantizedSet):
    """Q = {l_1, ..., l_n}^d.

    values: one or more levels, finite and strictly increasing; otherwise ValueError. They are
    rounded to the dtype of the weights; if they then overflow or coincide, ValueError. The cost is
    proportional to the number of levels up to 32, and beyond that to its logarithm.

    Examples:
        >>> pq.prox.Levels([-1, 0, 1]).project([-0.7, 0.2, 0.5])
        array([-1.,  0.,  1.])
    """

    values: tuple[float, ...]  # any sequence of real numbers is accepted

    def __post_init__(self):
        values = np.asarray(check_unmasked("values", self.values))
        if values.ndim != 1 or (values.size and values.dtype.kind not in "iuf"):
            raise TypeError(f"values must be a sequence of real numbers, got {self.values!r}")
        values = values.astype(np.float64) + 0.0  # turns -0.0 into 0.0
        if not (values.size and np.isfinite(values).all() and (np.diff(values) > 0).all()):
            raise ValueError(
                f"values must be finite, strictly increasing levels, got {self.values!r}"
            )
        object.__setattr__(self, "values", tuple(values.tolist()))

    def _levels(self, x):
        return _grid(self.values, x.dtype)[0].copy()

    def _project(self, x, out):
        levels, first = _grid(self.values, x.dtype)
        if not on_host(x):
            levels, first = moved(levels, x), moved(first, x)
        pick(x.reshape(1, -1), levels[None], first[None], out.reshape(1, -1))


class LevelsL1(L1):
    """L1(Levels(values)): R(w) = sum_i min_j |w_i - l_j|.

    prox(w, s) = argmin_u 1/2 ||u - w||^2 + s R(u) = w - clip(w - q(w), -s, s). Repeated, it reaches
    the levels exactly. Any shape, float32 or float64; values as for `Levels`.
    Source: Bai, Wang, Liberty 2019, equation 5; exactness for arbitrary levels is ours.

    Examples:
        >>> r = pq.prox.LevelsL1([-1, 0, 1])
        >>> r.prox([-0.7, 0.2, 0.5], strength=0.25)
        array([-0.95,  0.  ,  0.75])
    """

    of = Levels


class LevelsL2(L2):
    """L2(Levels(values)): R(w) = 1/2 sum_i min_j (w_i - l_j)^2.

    prox(w, s) = argmin_u 1/2 ||u - w||^2 + s R(u) = (w + s q(w)) / (1 + s). See `LevelsL1`.

    Examples:
        >>> r = pq.prox.LevelsL2([-1, 0, 1])
        >>> r.prox([-0.5, 0.25, 2.0], strength=1.0)
        array([-0.25 ,  0.125,  1.5  ])
    """

    of = Levels
