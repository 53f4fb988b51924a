"""Regularizers for any finite set of levels l_1 < ... < l_n, Q = {l_1, ..., l_n}^d. Layer 2.

    LevelsL1    R(w) = sum_i min_j |w_i - l_j|            prox = w - clip(w - q(w), -s, s)
    LevelsL2    R(w) = 1/2 sum_i min_j (w_i - l_j)^2      prox = (w + s q(w)) / (1 + s)

with q(x) the level nearest to x, the upper one at a tie. Both are exact: of all points at a given
distance from x, the one towards q(x) is nearest to a level. BinaryL1 is LevelsL1([-1, 1]), faster.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .regularizer import Floats, L1Distance, L2Distance


def thresholds(levels: Floats) -> Floats:
    """For each level but the first, the smallest number of its dtype that is not nearer to another.

    Levels ascend along the last axis; a number halfway between two belongs to the upper one.
    """
    halves = levels.astype(np.float64) / 2
    a, b = halves[..., :-1], halves[..., 1:]
    middle = a + b
    part = middle - a
    rest = (a - (middle - part)) + (b - part)  # what rounding took off the sum, exactly (Knuth)
    first = middle.astype(levels.dtype)
    short = (first < middle) | ((first == middle) & (rest > 0))
    return np.where(short, np.nextafter(first, levels.dtype.type(np.inf)), first)


def pick(rows: Floats, levels: Floats, first: Floats, out: Floats) -> None:
    """Fill `out` with the last of levels[i] whose first[i] each weight of rows[i] reaches.

    levels[i, 0] has no threshold; thresholds(levels) makes this the nearest level. Up to 32 levels
    are compared with in turn, which vectorises best; more are bisected, all weights in step.
    """
    n_rows, n_levels = levels.shape
    if n_levels <= 32:
        index = np.zeros(rows.shape, np.uint8)
        for j in range(n_levels - 1):
            index += rows >= first[:, j : j + 1]
        index = index.astype(np.intp)
        if n_rows > 1:
            index += np.arange(n_rows)[:, None] * n_levels
    else:
        depth = (n_levels - 1).bit_length()
        missing = (0, 0), (0, (1 << depth) - n_levels)
        levels = np.pad(levels, missing, "edge")
        first = np.pad(first, missing, constant_values=np.inf)
        index = np.broadcast_to(np.arange(n_rows)[:, None], rows.shape).copy()
        reached, cut = np.empty(rows.shape, bool), np.empty_like(rows)
        for half in (1 << i for i in reversed(range(depth))):
            # The bits found so far say which of these thresholds halves what is left.
            np.take(first[:, half - 1 :: 2 * half].copy(), index, out=cut, mode="clip")
            index += index
            index += np.greater_equal(rows, cut, out=reached)
    np.take(levels, index, out=out, mode="clip")


@lru_cache
def _grid(values: tuple[float, ...], dtype: np.dtype) -> tuple[Floats, Floats]:
    """The levels in `dtype`, and their thresholds."""
    with np.errstate(over="ignore", under="ignore"):
        levels = np.array(values, dtype)
    if not (np.isfinite(levels).all() and (np.diff(levels) > 0).all()):
        raise ValueError(
            f"values is {values}, not finite and distinct in {dtype}, the dtype of the weights; "
            "levels that stay apart in it are accepted"
        )
    return levels, thresholds(levels)


@dataclass(frozen=True)
class _Levels:
    """Q = {l_1, ..., l_n}^d."""

    values: tuple[float, ...]  # any sequence of real numbers is accepted

    def __post_init__(self):
        values = np.asarray(self.values)
        if values.ndim != 1 or (values.size and values.dtype.kind not in "iuf"):
            raise TypeError(f"values is {self.values!r}; a sequence of real numbers is accepted")
        values = values.astype(np.float64) + 0.0  # which makes 0.0 of -0.0
        if not (values.size and np.isfinite(values).all() and (np.diff(values) > 0).all()):
            raise ValueError(
                f"values is {self.values!r}; finite, strictly increasing levels are accepted"
            )
        object.__setattr__(self, "values", tuple(values.tolist()))

    def _project(self, x, out):
        levels, first = _grid(self.values, x.dtype)
        pick(x.reshape(1, -1), levels[None], first[None], out.reshape(1, -1))

    def _levels(self, x):
        return _grid(self.values, x.dtype)[0].copy()


@dataclass(frozen=True)
class LevelsL1(_Levels, L1Distance):
    """R(w) = sum_i min_j |w_i - l_j|.

    prox(w, s) = argmin_u 1/2 ||u - w||^2 + s R(u) = w - clip(w - q(w), -s, s). Repeated, it reaches
    the levels, exactly. Any shape, float32 or float64; the cost grows with the number of levels up
    to 64, and from there with its logarithm.

    values: the levels, one or more real numbers, finite and strictly increasing, else ValueError.
    They are rounded to the dtype of the weights; if they then overflow or meet: ValueError.
    Source: Bai, Wang, Liberty 2019, equation 5; that it is exact for any levels is ours.

    Examples:
        >>> r = pq.prox.LevelsL1([-1, 0, 1])
        >>> r.project([-0.7, 0.2, 0.5])
        array([-1.,  0.,  1.])
        >>> r.prox([-0.7, 0.2, 0.5], strength=0.25)
        array([-0.95,  0.  ,  0.75])
    """


@dataclass(frozen=True)
class LevelsL2(_Levels, L2Distance):
    """R(w) = 1/2 sum_i min_j (w_i - l_j)^2.

    prox(w, s) = argmin_u 1/2 ||u - w||^2 + s R(u) = (w + s q(w)) / (1 + s). The rest as `LevelsL1`.

    Examples:
        >>> r = pq.prox.LevelsL2([-1, 0, 1])
        >>> r.prox([-0.5, 0.25, 2.0], strength=1.0)
        array([-0.25 ,  0.125,  1.5  ])
    """
