"""Ternary weights with fitted levels: {-a, 0, a}, or {neg, 0, pos} with neg <= 0 <= pos.

For given codes the best level is the mean of the weights that have it. If the m largest of some
numbers are assigned their mean, and the others 0, the sum of squared errors falls by

    gain(m) = (sum of the m largest)^2 / m,

so the projection is a search over m, exact after one sort. For {-a, 0, a} the numbers are |w|; for
{neg, 0, pos} the two signs do not interact, and w and -w are searched separately.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from proxquant_np.checks import check_integer
from proxquant_np.libraries import on_host
from proxquant_np.prox.arrays import Floats
from proxquant_np.prox.brute_force import ternary_codes
from proxquant_np.prox.distances import L1, L2
from proxquant_np.prox.fitted import (
    Fitted,
    best_split,
    distinct,
    itself,
    mean,
    sums_from,
    too_many_magnitudes,
)
from proxquant_np.prox.huber import huber, locations

_RUN = 1 << 10  # entries per run; of a long row, only some runs are examined entry by entry


@dataclass(frozen=True, repr=False)
class Ternary(Fitted):
    """Q = all w in {neg, 0, pos}^d for some neg <= 0 <= pos, which P fits to w.

    symmetric: neg = -pos. projection: "exact", by sorted prefix sums in O(n log n); or "threshold",
    the O(n) heuristic of Ternary Weight Networks: levels are the means of the weights beyond
    0.7 * mean|w|; then `rounds` times, weights take their nearest level and levels the mean of
    their weights. Otherwise see `Fitted`. Sources: Li, Zhang, Liu 2016, ternary weight networks,
    for the threshold; Bai, Wang, Liberty 2019, Appendix A.2, for the family and the rounds;
    Pouransari, Tu, Tuzel 2020, least squares binary quantization, for optimal symmetric levels; the
    search by prefix sums, and the one for two signs, are ours.

    Examples:
        >>> w = np.array([-2.0, -0.1, 0.1, 0.9, 1.1])
        >>> pq.prox.Ternary().project(w)
        array([-2.,  0.,  0.,  1.,  1.])
        >>> pq.prox.Ternary(symmetric=True).levels(w).round(4)
        array([-1.3333,  0.    ,  1.3333])
    """

    symmetric: bool = False
    projection: str = "exact"
    rounds: int = 2

    projections = ("exact", "threshold")
    contains_zero = True

    def __post_init__(self):
        super().__post_init__()
        check_integer("rounds", self.rounds, least=0)

    def _fit(self, rows):
        sides = self._exact(rows) if self.projection == "exact" else self._threshold(rows)
        neg, pos = sides[0], sides[-1]  # the same array if symmetric
        return np.stack([-neg, np.zeros_like(pos), pos], axis=1)

    def _own_levels(self, values, ulp):
        if self.symmetric:
            a = np.unique(np.abs(values[values != 0]))
            return np.array([-a.sum(), 0, a.sum()]) if len(a) <= 1 else None
        neg, pos = values[values < 0], values[values > 0]
        return np.array([neg.sum(), 0, pos.sum()]) if max(len(neg), len(pos)) <= 1 else None

    def _exact(self, rows):
        ordered = np.abs(rows) if self.symmetric else rows.copy()
        ordered.sort(axis=1)
        if self.symmetric:
            return [_best_mean(ordered[:, ::-1])]
        neg = pos = ordered  # each side: all of its weights, at least one
        if on_host(rows):
            below = np.count_nonzero(ordered < 0, axis=1)
            neg = ordered[:, : max(1, below.max())]
            pos = ordered[:, min(below.min(), ordered.shape[1] - 1) :]
        return [_best_mean(-neg), _best_mean(pos[:, ::-1])]

    def _threshold(self, rows):
        sides = [np.abs] if self.symmetric else [np.negative, itself]
        first = np.repeat(0.7 * mean(rows)[:, None], len(sides), axis=1)
        for _ in range(1 + self.rounds):
            counts, sums = sums_from(rows, first.astype(rows.dtype), sides)
            levels = sums / np.maximum(counts, 1)
            first = levels / 2
        return levels.T

    def _fit_huber(self, rows, s):
        w = rows.astype(np.float64)
        sides = [np.abs(w)] if self.symmetric else [np.maximum(-w, 0), np.maximum(w, 0)]
        levels = [_best_location(np.sort(side, axis=1)[:, ::-1], s) for side in sides]
        return np.stack([-levels[0], np.zeros_like(levels[0]), levels[-1]], axis=1)

    def exactly(self) -> Ternary:
        """The same Q with its exact projection."""
        return replace(self, projection="exact")

    def code_matrices(self, n: int) -> Iterable[Floats]:
        """As `Fitted` says."""
        return ternary_codes(n, self.symmetric)

    def why_not(self, values: Floats, close: float) -> str | None:
        """As `Fitted` says."""
        if self.symmetric:
            return too_many_magnitudes(values, close, 1, zero=True)
        values = distinct(values, close)
        for side, word in ((values[values > 0], "positive"), (values[values < 0], "negative")):
            if len(side) > 1:
                return f"{len(side)} different {word} levels, one is possible"
        return None


class TernaryL2(L2):
    """L2(Ternary(...)): R(w) = 1/2 ||w - P(w)||_2^2, with P(w) in {neg, 0, pos}^d.

    prox(w, s) = argmin_u 1/2 ||u - w||^2 + s R(u) = (w + s P(w)) / (1 + s), exact if P is. For the
    parameters see `Ternary`.

    Examples:
        >>> w = np.array([-2.0, -0.1, 0.1, 0.9, 1.1])
        >>> pq.prox.TernaryL2().prox(w, strength=1.0)
        array([-2.  , -0.05,  0.05,  0.95,  1.05])
    """

    of = Ternary


class TernaryL1(L1):
    """L1(Ternary(...)): R(w) = min of ||w - q||_1 over q in {neg, 0, pos}^d and neg <= 0 <= pos.

    symmetric: neg = -pos. prox(w, s) = argmin_u 1/2 ||u - w||^2 + s R(u), exact, by the search of
    `Ternary` with Huber's loss in place of the square; see `L1`. Source: ours.

    Examples:
        >>> pq.prox.TernaryL1().value([-2.0, 0.0, 3.0, 3.0])
        0.0
        >>> pq.prox.TernaryL1().prox([-2.0, 0.0, 3.0, 3.5], strength=0.25)
        array([-2.  ,  0.  ,  3.25,  3.25])
    """

    of = Ternary
    fixed = {"projection": "exact", "rounds": 2}


def _best_location(descending, s):
    """For each row, the Huber location of its m largest entries, for the best m; the rest get 0."""
    a, cost = locations(descending, s)
    left = huber(descending, s)
    rest = np.cumsum(left[:, ::-1], axis=1)[:, ::-1] - left
    m = np.argmin(cost + rest, axis=1)[:, None]
    return np.take_along_axis(a, m, axis=1)[:, 0]


def _best_mean(descending):
    """For each row, the mean of its m largest entries with the greatest gain(m); 0 if negative."""
    if descending.shape[1] > 64 * _RUN and on_host(descending):  # the size at which it is faster
        return np.array([_best_mean_of_long(row) for row in descending])
    # The root of the gain, negative where the sum is, so that a negative sum is never the best.
    m, sums = best_split(descending, lambda i, sums, m: sums / np.sqrt(m))
    # Clipped to the range of those entries, so that equal entries have exactly their mean.
    least = np.take_along_axis(descending, m - 1, axis=1)
    return np.clip(sums / m, np.maximum(least, 0), np.maximum(descending[:, :1], 0))[:, 0]


def _best_mean_of_long(row):
    """As `_best_mean`, but examining only the runs of entries that can hold the greatest gain.

    Entries descend, so within a run from entry m0 to m1 the sum of the first m0 + k is at most
    S(m0) + k * (the run's first entry), and at most S(m1) - (m1 - m0 - k) * (its last entry). Along
    either line the gain is convex in k, so its bound is greatest at an end or where the lines meet.
    """
    starts = np.arange(0, row.size, _RUN)
    ends = np.append(starts[1:], row.size)
    whole = row[: row.size // _RUN * _RUN].reshape(-1, _RUN)
    sums = np.add.reduce(whole, axis=1, dtype=np.float64)
    if len(sums) < len(starts):
        sums = np.append(sums, np.add.reduce(row[starts[-1] :], dtype=np.float64))
    after = np.cumsum(sums)
    before = after - sums
    first, last = row[starts].astype(np.float64), row[ends - 1].astype(np.float64)
    width, fall = ends - starts, first - last
    k = np.clip((sums - width * last) / np.where(fall > 0, fall, np.inf), 0, width)
    at_ends = after / np.sqrt(ends)
    bound = np.maximum(at_ends, (before + k * first) / np.sqrt(np.maximum(starts + k, 1)))
    runs = np.flatnonzero(bound >= at_ends.max() * (1 - 1e-9))  # allows far more than rounding
    low, high = starts[runs[0]], ends[runs[-1]]
    sums = before[runs[0]] + np.cumsum(row[low:high], dtype=np.float64)
    m = np.arange(low + 1, high + 1)
    i = np.argmax(sums / np.sqrt(m))
    return np.clip(sums[i] / m[i], max(row[low + i], 0), max(row[0], 0))
