"""Sets whose levels are fitted to the weights, per tensor, per channel or per block.

A subclass defines how levels are fitted to the rows of a matrix. This file arranges the weights as
such rows, brings their scale into a safe range, and sends each weight to its nearest level. All
rows are processed together, tile by tile, so that a pass over the weights stays in the cache.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from proxquant_np.checks import check_choice, check_integer
from proxquant_np.libraries import as_numpy, moved, on_host
from proxquant_np.prox.arrays import BLOCK_BYTES, Floats
from proxquant_np.prox.quantized_set import QuantizedSet
from proxquant_np.prox.text import to_text

Fit = Callable[[Floats, Any], Floats]
Side = Callable[[Floats], Floats]


@dataclass(frozen=True, repr=False, kw_only=True)
class Fitted(QuantizedSet):
    """Q is all tensors whose levels are of some kind; P fits levels to `w`, then takes the nearest.

    axis: None for one set of levels, or an integer for one at each index along that axis, such as
    0 for the output channels of a kernel of any rank. block: an integer for one set per run of that
    many weights in C order; it must divide their number. At most one of the two may be given.

    projection: how the levels are fitted, "exact" or the name of a heuristic. A heuristic is used
    only for weights off Q. On Q (up to rounding) w already has levels, and P(w) is w bit for bit.
    So with any projection, P is idempotent and a distance to Q is zero exactly on Q, except where
    levels are subnormal numbers so close that their rounding hides which they are.

    ValueError or TypeError for other parameters, an axis that `w` lacks, or a ragged block.

    A subclass defines `_fit`; if it offers heuristics, also a field `projection`, its values
    `projections`, and `_own_levels`; for L1, `_fit_huber`. `symmetric`, `contains_zero`,
    `code_matrices` and `why_not` describe its levels to those who check a quantizer.

    Examples:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True, repr=False)
        ... class OneLevel(pq.prox.Fitted):
        ...     def _fit(self, rows):
        ...         return rows.mean(axis=1, keepdims=True)
        ...
        >>> pq.prox.L2(OneLevel(axis=0)).prox([[1.0, 3.0], [5.0, 5.0]], strength=1.0)
        array([[1.5, 2.5],
               [5. , 5. ]])
    """

    axis: int | None = None
    block: int | None = None

    # Not annotated, so that a subclass can turn them into fields, in its own order.
    projection = "exact"
    projections = ("exact",)
    symmetric = False  # whether levels come in pairs, -a and a
    offset = False  # whether all levels may be shifted by a number
    contains_zero = False
    elementwise = False

    def __post_init__(self):
        super().__post_init__()
        if self.axis is not None:
            check_integer("axis", self.axis)
        if self.block is not None:
            check_integer("block", self.block, least=1)
        if self.axis is not None and self.block is not None:
            raise ValueError(
                f"axis or block must be None, got axis={self.axis} and block={self.block}"
            )
        check_choice("projection", self.projection, self.projections)

    def __repr__(self) -> str:
        """Shows the parameters that differ from their defaults."""
        return to_text(self)

    @property
    def exact(self) -> bool:
        """Whether `project` gives a nearest point of Q."""
        return self.projection == "exact"

    @property
    def fits_l1(self) -> bool:
        """Whether the prox of `L1` is exact: whether the set has an exact fit by Huber's loss."""
        return self.exact and type(self)._fit_huber is not Fitted._fit_huber

    @abstractmethod
    def _fit(self, rows):
        """The levels of each row, ascending, in float64; squares of weights cannot overflow."""

    def _fit_huber(self, rows, s):
        """As _fit, by Huber's loss for a column 0 < s < inf, and by absolute values for s = 0."""
        raise NotImplementedError(f"{self!r} has no fit by Huber's loss")

    def _fit_new(self, rows, exponent):
        """As _fit; but under a heuristic, a row that is already quantized keeps its values.

        The rows were divided by 2**exponent, and with them the distance of subnormal numbers.
        """
        levels = self._fit(rows)
        if self.projection != "exact":
            n_levels = levels.shape[1]
            # The first few weights suffice to show that a row is not quantized.
            first = np.sort(rows[:, : 4 * n_levels], axis=1)
            few = (first[:, 1:] != first[:, :-1]).sum(axis=1) < n_levels
            candidates = np.flatnonzero(as_numpy(few))
            if not candidates.size:
                return levels
            # From here on, values decide.
            rows, first, exponent = (as_numpy(a)[candidates] for a in (rows, first, exponent))
            ulp = _ulps(rows, exponent)
            for i in np.flatnonzero(self._may_be_quantized(first, ulp)):
                values = np.unique(rows[i])
                own = self._own_levels(values, ulp[i]) if len(values) <= n_levels else None
                if own is not None:
                    levels[candidates[i]] = moved(own, levels)
        return levels

    def _may_be_quantized(self, first, ulp):
        """For each row, whether `_own_levels` may accept it, judging by its first few weights.

        These are sorted. A quick test for many short rows at once, which may accept too many.
        """
        return np.ones(len(first), bool)

    def _own_levels(self, values, ulp):
        """Levels, ascending, that contain all of `values` exactly; None if there are none.

        The levels need to be of their kind only to a few times `ulp`, because `values` were
        rounded: eps times the largest of the row or, if that is greater, the distance of the
        subnormal numbers.
        """
        raise NotImplementedError(f"{type(self).__name__} has a heuristic and needs _own_levels")

    # What is known about the levels, for checks of other quantizers.

    def exactly(self) -> Fitted | None:
        """The same Q with its exact projection; None if none is known."""
        return self if self.exact else None

    def code_matrices(self, n: int) -> Iterable[Floats] | None:
        """Matrices B of n rows, such that n weights in Q are B @ a with a >= 0; None if not known.

        With `offset`, they are B @ a + z for a number z.
        """
        return None

    def why_not(self, values: Floats, close: float) -> str | None:
        """Why no tensor of Q can hold these values, to within `close`; None if one can."""
        if not values.size:
            return None
        distance = np.abs(values - self.project(values)).max()
        return (
            None
            if distance <= close * np.sqrt(values.size)
            else "they are not levels of one tensor"
        )

    # Weights as rows that share their levels.

    def map_rows(
        self, x: Floats, out: Floats, function: Callable[..., None], fit: Fit | None = None
    ) -> None:
        """Run function(weights, levels, out) on parts of rows of `x`, each with its own levels.

        The levels are fit(rows, exponent), for rows divided by the column 2**exponent; if fit is
        None, they are those of `project`.
        """
        rows, target = self._rows(x), self._rows(out)
        for group, part in _groups(rows):
            levels = self._row_levels(part, fit)
            for i, j in tiles(part):
                function(part[i, j], levels[i], target[group][i, j])
        if not np.may_share_memory(target, out):  # rows of an inner axis are not a view
            axis_first = np.moveaxis(out, self.axis, 0)
            axis_first[...] = target.reshape(axis_first.shape)

    def _levels(self, x):
        rows = self._rows(x)
        levels = np.concatenate([self._row_levels(part) for _, part in _groups(rows)])
        return levels[0] if self.axis is None and self.block is None else levels

    def _rows(self, x):
        if self.axis is not None:
            if not -x.ndim <= self.axis < x.ndim:
                raise ValueError(
                    f"axis must be one of the {x.ndim} axes of weights of shape {x.shape}, "
                    f"got {self.axis}"
                )
            return np.moveaxis(x, self.axis, 0).reshape(x.shape[self.axis], -1)
        if self.block is not None and x.size % self.block:
            raise ValueError(
                f"block must divide the number of weights, {x.size} in {x.shape}, got {self.block}"
            )
        return x.reshape(-1, self.block or x.size)

    def _row_levels(self, rows, fit=None):
        fit = fit or self._fit_new
        top = np.zeros((len(rows), 1), like=rows)
        for i, j in tiles(rows):
            part = rows[i, j]
            ends = np.maximum(part.max(axis=1), -part.min(axis=1))
            top[i, 0] = np.maximum(top[i, 0], ends)
        exponent = np.frexp(top)[1]
        exponent *= np.abs(exponent) >= 40  # the others are safe without scaling
        if on_host(rows) and not exponent.any():
            levels = fit(rows, exponent)
        else:  # scaling by powers of two is exact
            levels = np.ldexp(fit(np.ldexp(rows, -exponent), exponent), exponent)
        most = float(np.finfo(rows.dtype).max)  # for the largest weights, a rule may exceed it
        levels = np.clip(levels, -most, most).astype(rows.dtype)
        return levels + rows.dtype.type(0)  # turns -0.0 into 0.0


def _groups(rows):
    """A slice and its rows, a few at a time, to limit the memory that fitting takes.

    The rows are made contiguous, which those of an inner axis are not, so that sums always round
    alike.
    """
    height = max(1, 4 * _tile_bytes(rows) // (rows.itemsize * rows.shape[1]))
    for i in range(0, len(rows), height):
        group = slice(i, i + height)
        part = rows[group]
        yield group, part if part.flags.c_contiguous else part.copy()


def _ulps(rows, exponent):
    """For each row, divided by 2**exponent, how far apart numbers as its largest may be."""
    info = np.finfo(rows.dtype)
    largest = np.abs(rows).max(axis=1).astype(np.float64)
    least = np.ldexp(float(info.tiny), -exponent[:, 0])  # below it all are equally far apart
    return float(info.eps) * np.maximum(largest, least)


def _tile_bytes(rows):
    """The bytes that fit into the cache; on a device more, for fewer calls."""
    return BLOCK_BYTES if on_host(rows) else 1 << 26


def tiles(rows: Floats) -> Iterator[tuple[slice, slice]]:
    """Cut a matrix into pieces that fit into the cache, along each row before the next one."""
    size = _tile_bytes(rows) // rows.itemsize
    width = min(rows.shape[1], size)
    height = size // width
    for i in range(0, rows.shape[0], height):
        for j in range(0, rows.shape[1], width):
            yield slice(i, i + height), slice(j, j + width)


def mean(rows: Floats) -> Floats:
    """The mean of |row| for each row, in float64, and exact if its entries are all equal."""
    total, high = np.zeros((2, len(rows)), like=rows)
    low = total + np.inf
    for i, j in tiles(rows):
        part = np.abs(rows[i, j])
        total[i] += part.sum(axis=1)
        low[i] = np.minimum(low[i], part.min(axis=1))
        high[i] = np.maximum(high[i], part.max(axis=1))
    return np.clip(total / rows.shape[1], low, high)


def sums_from(rows: Floats, first: Floats, sides: Sequence[Side]) -> tuple[Floats, Floats]:
    """For each row and k, count and sum of the sides[k](row) that reach first[row, k].

    A side maps each weight by itself: np.abs, np.negative, or `itself` for the weights unchanged.
    """
    counts, sums = np.zeros((2, *first.shape), like=first)
    for i, j in tiles(rows):
        parts = {side: side(rows[i, j]) for side in set(sides)}
        for k, side in enumerate(sides):
            reached = (parts[side] >= first[i, k : k + 1]).astype(rows.dtype)
            counts[i, k] += _dots(reached, reached)  # counts the ones among zeros and ones
            sums[i, k] += _dots(parts[side], reached)
    return counts, sums


def itself(x: Floats) -> Floats:
    """x, as a side."""
    return x


def _dots(a, b):
    """The dot product of each row of a and of b: np.vecdot, which not all libraries have."""
    return np.vecdot(a, b) if on_host(a) else (a[:, None] @ b[..., None])[:, 0, 0]


def best_split(ordered: Floats, score: Callable[..., Floats]) -> tuple[Floats, Floats]:
    """For each row, the m >= 1 with the greatest score(rows, sums, m), and the sum of its first m.

    `score` receives a slice of rows, the sums of their first m entries in float64, and those m.
    """
    shape = (len(ordered), 1)
    top, best_sum, carry = np.zeros((3, *shape), like=ordered)
    top -= np.inf
    best_m = np.zeros(shape, np.intp, like=ordered) + 1
    for i, j in tiles(ordered):
        sums = np.cumsum(ordered[i, j], axis=1, dtype=np.float64)
        sums += carry[i]
        carry[i] = sums[:, -1:]
        m = np.arange(j.start + 1, j.start + 1 + sums.shape[1], like=sums)
        scores = score(i, sums, m)
        at = scores.argmax(axis=1)[:, None]
        found = np.take_along_axis(scores, at, axis=1)
        better = found > top[i]
        top[i] = np.where(better, found, top[i])
        best_m[i] = np.where(better, m[at], best_m[i])
        best_sum[i] = np.where(better, np.take_along_axis(sums, at, axis=1), best_sum[i])
    return best_m, best_sum


def distinct(values: Floats, close: float) -> Floats:
    """The distinct values, ascending; those within `close` of the one before count as equal."""
    ordered = np.sort(values)
    return ordered[np.append(True, np.diff(ordered) > close)] if len(ordered) else ordered


def too_many_magnitudes(values: Floats, close: float, most: int, *, zero: bool) -> str | None:
    """Why symmetric levels cannot have these values: more magnitudes than most, 0 not counted."""
    found = distinct(np.abs(distinct(values, close)), close)
    count = np.count_nonzero(found > 0) if zero else len(found)
    return f"{count} different magnitudes, {most} are possible" if count > most else None
