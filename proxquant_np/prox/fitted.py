"""Regularizers with levels fitted to the weights, per tensor, per channel or per block. Layer 2.

A subclass says how levels are fitted to the rows of a matrix; here the weights are laid out as such
rows, their scale is brought into a safe range, and each weight is sent to its nearest level. All
rows are worked on at once, tile by tile, so that a pass over the weights stays in the cache.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from .levels import pick, thresholds
from .regularizer import (
    BLOCK_BYTES,
    Floats,
    L2Distance,
    Regularizer,
    check_choice,
    check_integer,
)

Fit = Callable[[Floats, Any], Floats]
Side = Callable[[Floats], Floats]


@dataclass(frozen=True, repr=False, kw_only=True)
class Fitted(Regularizer):
    """A regularizer whose projection P fits levels to `w`, then takes the nearest of them.

    axis: None for one set of levels, or an integer for one at each index along that axis, such as
    0 for the output channels of a kernel of any rank. block: an integer for one set for each run of
    so many weights, in C order; it must divide their number. At most one of the two may be given.

    `levels` returns a row for each set, or only that row if there is one set for the tensor.
    ValueError and TypeError for other parameters, for an axis that `w` has not, for a ragged block.
    """

    axis: int | None = None
    block: int | None = None

    elementwise: ClassVar[bool] = False

    def __post_init__(self):
        if self.axis is not None:
            check_integer("axis", self.axis)
        if self.block is not None:
            check_integer("block", self.block, least=1)
        if self.axis is not None and self.block is not None:
            raise ValueError(
                f"axis is {self.axis} and block is {self.block}; one of them must be None"
            )

    def __repr__(self) -> str:
        """With the parameters that are not the default ones."""
        given = [
            (f.name, getattr(self, f.name))
            for f in fields(self)
            if getattr(self, f.name) != f.default
        ]
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in given)})"

    @abstractmethod
    def _fit(self, rows):
        """For each row, its levels, ascending, in float64; squares of weights cannot overflow."""

    def _fit_new(self, rows):
        """As _fit, but the levels of a row that is quantized already are its own values."""
        return self._fit(rows)

    def map_rows(
        self, x: Floats, out: Floats, fill: Callable[..., None], fit: Fit | None = None
    ) -> None:
        """Run fill(weights, levels, out) on parts of rows of `x`, each row with its own levels.

        These are fit(rows, exponent), of rows that were divided by 2**exponent, a column; as
        `project` fits them if None.
        """
        rows, target = self._rows(x), self._rows(out)
        for group, part in _groups(rows):
            levels = self._row_levels(part, fit)
            for i, j in tiles(part):
                fill(part[i, j], levels[i], target[group][i, j])
        if not np.may_share_memory(target, out):  # the rows of an inner axis are no view
            moved = np.moveaxis(out, self.axis, 0)
            moved[...] = target.reshape(moved.shape)

    def _project(self, x, out):
        self.map_rows(x, out, lambda w, q, out: pick(w, q, thresholds(q), out))

    def _levels(self, x):
        rows = self._rows(x)
        levels = np.concatenate([self._row_levels(part) for _, part in _groups(rows)])
        return levels[0] if self.axis is None and self.block is None else levels

    def _rows(self, x):
        if self.axis is not None:
            return np.moveaxis(x, self.axis, 0).reshape(x.shape[self.axis], -1)
        if self.block is not None and x.size % self.block:
            raise ValueError(
                f"block is {self.block}; a divisor of {x.size}, as in {x.shape}, is accepted"
            )
        return x.reshape(-1, self.block or x.size)

    def _row_levels(self, rows, fit=None):
        fit = fit or (lambda rows, exponent: self._fit_new(rows))
        top = np.zeros((len(rows), 1))
        for i, j in tiles(rows):
            part = rows[i, j]
            top[i, 0] = np.max([top[i, 0], part.max(axis=1), -part.min(axis=1)], axis=0)
        exponent = np.frexp(top)[1]
        if np.abs(exponent).max() < 40:
            levels = fit(rows, np.zeros_like(exponent))
        else:  # powers of two: the scaling is exact
            levels = np.ldexp(fit(np.ldexp(rows, -exponent), exponent), exponent)
        return levels.astype(rows.dtype) + rows.dtype.type(0)  # which makes 0.0 of -0.0


@dataclass(frozen=True, repr=False, kw_only=True)
class FittedL2(Fitted, L2Distance):
    """R(w) = 1/2 ||w - P(w)||_2^2, where P fits levels to `w`, then takes the nearest of them.

    projection: how the levels are fitted, "exact" or the name of a heuristic. Where it is exact, P
    projects on Q, the set of all tensors with levels of this kind; R is half the squared distance
    to Q and prox is its exact prox, (w + s P(w)) / (1 + s). A heuristic P(w) is a point of Q as
    well, but not always the nearest: then R is an upper bound of that, and prox goes towards P(w).

    A heuristic is asked only about weights off Q. On Q, to rounding, w has levels already, and P(w)
    is w, bit for bit: so P is idempotent, and R is zero exactly on Q, whatever the projection. The
    rest as `Fitted`.
    """

    projections: ClassVar[tuple[str, ...]]

    def __post_init__(self):
        super().__post_init__()
        check_choice("projection", self.projection, self.projections)

    def _fit_new(self, rows):
        levels = self._fit(rows)
        if self.projection != "exact":
            n_levels = levels.shape[1]
            # Weights that are not quantized show it among their first few.
            first = np.sort(rows[:, : 4 * n_levels], axis=1)
            few = (first[:, 1:] != first[:, :-1]).sum(axis=1) < n_levels
            candidates = np.flatnonzero(few)
            possible = self._may_be_quantized(first[candidates], rows[candidates])
            for i in candidates[possible]:
                values = np.unique(rows[i])
                own = self._own_levels(values) if len(values) <= n_levels else None
                if own is not None:
                    levels[i] = own
        return levels

    def _may_be_quantized(self, first, rows):
        """For each row, whether its first few weights, sorted, are such as `_own_levels` may take.

        A quick condition for many short rows at once, which only has to hold for all of those.
        """
        return np.ones(len(rows), bool)

    @abstractmethod
    def _own_levels(self, values):
        """Levels that contain all of `values`, ascending, as they are; None if there are none.

        Of their kind the levels need be to rounding only: that is how `values` came about.
        """


def _groups(rows):
    """Some rows at a time, so that what fitting them adds to memory stays small: slice and rows.

    The latter are contiguous, which those of an inner axis are not: sums then round alike always.
    """
    height = max(1, 4 * BLOCK_BYTES // (rows.itemsize * rows.shape[1]))
    for i in range(0, len(rows), height):
        group = slice(i, i + height)
        yield group, np.ascontiguousarray(rows[group])


def tiles(rows: Floats) -> Iterator[tuple[slice, slice]]:
    """Cut a matrix into pieces that fit the cache, along each row before the next one."""
    size = BLOCK_BYTES // rows.itemsize
    width = min(rows.shape[1], size)
    height = size // width
    for i in range(0, rows.shape[0], height):
        for j in range(0, rows.shape[1], width):
            yield slice(i, i + height), slice(j, j + width)


def mean(rows: Floats) -> Floats:
    """The mean of |row| for each row, in float64, and exact if its entries are all equal."""
    total = np.zeros(len(rows))
    low, high = np.full(len(rows), np.inf), np.zeros(len(rows))
    for i, j in tiles(rows):
        part = np.abs(rows[i, j])
        total[i] += part.sum(axis=1)
        low[i] = np.minimum(low[i], part.min(axis=1))
        high[i] = np.maximum(high[i], part.max(axis=1))
    return np.clip(total / rows.shape[1], low, high)


def sums_from(rows: Floats, first: Floats, sides: Sequence[Side]) -> tuple[Floats, Floats]:
    """For each row and k, how many of sides[k](row) reach the threshold first[row, k]; their sum.

    A side maps each weight for itself: np.abs, np.negative, or np.asarray for the weights as such.
    """
    counts, sums = np.zeros(first.shape), np.zeros(first.shape)
    for i, j in tiles(rows):
        parts = {side: side(rows[i, j]) for side in set(sides)}
        for k, side in enumerate(sides):
            reached = (parts[side] >= first[i, k : k + 1]).astype(rows.dtype)
            counts[i, k] += np.vecdot(reached, reached)  # of zeros and ones, so this counts them
            sums[i, k] += np.vecdot(parts[side], reached)
    return counts, sums


def best_split(ordered: Floats, score: Callable[..., Floats]) -> tuple[Floats, Floats]:
    """For each row, the m >= 1 with the greatest score(rows, sums, m), and the sum of its first m.

    score sees a slice of rows, the sums of their first m entries in float64, and those m.
    """
    shape = (len(ordered), 1)
    top, best_m, best_sum = np.full(shape, -np.inf), np.ones(shape, np.intp), np.zeros(shape)
    carry = np.zeros(shape)
    for i, j in tiles(ordered):
        sums = np.cumsum(ordered[i, j], axis=1, dtype=np.float64)
        sums += carry[i]
        carry[i] = sums[:, -1:]
        m = np.arange(j.start + 1, j.start + 1 + sums.shape[1])
        scores = score(i, sums, m)
        at = scores.argmax(axis=1)[:, None]
        found = np.take_along_axis(scores, at, axis=1)
        better = found > top[i]
        top[i] = np.where(better, found, top[i])
        best_m[i] = np.where(better, m[at], best_m[i])
        best_sum[i] = np.where(better, np.take_along_axis(sums, at, axis=1), best_sum[i])
    return best_m, best_sum
