"""Quantizers as they are published: a rule that gives the levels, and one for ties.

Most of what is used does not look for the nearest point of a set. It takes a scale from the weights
(their largest, their mean, ...), spreads fixed codes by it, and sends each weight to its nearest
level. `quantize` is that map, as published. Asked twice many such maps move their own result: the
mean magnitude of ternary weights is below their scale, so absmean shrinks them again. A projection
must not. So `project(w)` is w where w is on Q already, and quantize(w) elsewhere.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import ArrayLike

from proxquant_np.checks import check_choice
from proxquant_np.libraries import moved
from proxquant_np.prox.arrays import Floats, as_output, as_weights, fill, quiet
from proxquant_np.prox.fitted import Fitted, mean
from proxquant_np.prox.nearest import pick, thresholds
from proxquant_np.prox.ties import TIES, first_passing, goes_up, middles


class Rule(Fitted):
    """Q is all tensors with levels of some kind; a published rule says which are taken for `w`.

    quantize(w) is the rule; project(w) is w on Q, quantize(w) elsewhere: a heuristic, so that L2
    takes the set and L1 does not. ties: "up", "down", "even", "away" or "zero", as in ties.py.
    axis, block and errors as for `Fitted`.

    A subclass has a field `ties`, and defines `_fit` and `_own_levels`, and for "even" `_codes`.

    Examples:
        >>> Q = pq.prox.Integers(n_bits=2, scale="mean")
        >>> w = Q.quantize([-3.0, 0.25, 2.0, 0.75])
        >>> w, Q.quantize(w)
        (array([-1.5,  0. ,  1.5,  0. ]), array([-0.75,  0.  ,  0.75,  0.  ]))
        >>> Q.project(w)
        array([-1.5,  0. ,  1.5,  0. ])
    """

    ties: str
    projection = "rule"
    projections = ("rule",)

    def __post_init__(self):
        super().__post_init__()
        check_choice("ties", self.ties, TIES)

    @quiet
    def quantize(self, w: ArrayLike, out: Floats | None = None) -> Floats:
        """The rule's result, in a fresh array, or in `out`, which may overlap `w` and may be `w`.

        Examples:
            >>> pq.prox.Integers(n_bits=3, ties="even").quantize([3.0, -0.5, 1.5])
            array([3., 0., 2.])
        """
        x = as_weights(w)
        return fill(
            lambda x, out, tmp: self._map(x, out, lambda rows, exponent: self._fit(rows)),
            x,
            as_output(out, x),
            elementwise=False,
        )

    def _project(self, x, out):
        self._map(x, out, None)

    def _map(self, x, out, fit):
        def send(rows, levels, out):
            pick(rows, levels, thresholds(levels, self._up(levels)), out)

        self.map_rows(x, out, send, fit)

    def _up(self, levels):
        """For each level but the first, whether it gets the ties with the one below."""
        return goes_up(middles(levels), self.ties, self._codes(levels))

    def _codes(self, levels):
        """The codes of the levels, of which "even" takes the even one; indices of floats from 0."""
        zero = np.argmin(np.abs(levels), axis=-1)[..., None]
        return np.arange(levels.shape[-1], like=levels) - zero


class CutRule(Rule):
    """A rule with thresholds of its own, that are not halfway between its levels.

    A subclass defines `_fit`, `_cuts(rows, levels)`, both in float64, and `_is_quantized(rows)`,
    whether each row is on Q; `_fit_new`, if such a row has other levels than `_fit` gives it.
    """

    def _fit_new(self, rows, exponent):
        return self._fit(rows)

    def _map(self, x, out, fit):
        def both(rows, exponent):
            levels = self._fit(rows) if fit else self._fit_new(rows, exponent)
            cuts = self._cuts(rows, levels)
            if not fit:
                cuts = np.where(self._is_quantized(rows)[:, None], middles(levels), cuts)
            up = goes_up(cuts, self.ties, self._codes(levels))
            return np.concatenate([levels, first_passing(cuts, up, x.dtype)], axis=1)

        def send(rows, found, out):
            n = (found.shape[1] + 1) // 2
            pick(rows, found[:, :n], found[:, n:], out)

        self.map_rows(x, out, send, both)


class Scaled(Rule):
    """Q is all w in {a c}^d for fixed codes c and some a >= 0; a rule takes a from w.

    scale: "max", a = max|w| / divisor, "mean", the mean of |w| over it, or "median".
    A subclass has the fields `scale` and defines `_grid`: the codes over the divisor, ascending.
    """

    scale: str
    scales = ("max", "mean", "median")

    def __post_init__(self):
        super().__post_init__()
        check_choice("scale", self.scale, self.scales)

    @abstractmethod
    def _grid(self):
        """The levels for weights whose scale is 1: codes over the divisor, ascending, float64."""

    @property
    def symmetric(self) -> bool:
        """Whether levels come in pairs, -a and a."""
        grid = self._grid()
        return bool((grid == -grid[::-1]).all())

    @property
    def contains_zero(self) -> bool:
        """Whether 0 is a level, for all weights."""
        return bool((self._grid() == 0).any())

    def _fit(self, rows):
        return measure(rows, self.scale) * moved(self._grid(), rows)

    def _fit_new(self, rows, exponent):
        # The largest weight stays where it is, and with it the scale: nothing moves twice.
        keeps = self.scale == "max" and {-1.0, 1.0} <= set(self._grid())
        return self._fit(rows) if keeps else super()._fit_new(rows, exponent)

    def _own_levels(self, values, ulp):
        v, grid = values.astype(np.float64), self._grid()
        top = v[np.abs(v).argmax()]
        if top == 0:
            return 0 * grid
        for end in sorted(grid[grid * top > 0], key=abs, reverse=True):  # the finest grid first
            levels = top / end * grid
            index = np.abs(np.subtract.outer(v, levels)).argmin(axis=1)
            if np.abs(levels[index] - v).max() <= 4 * ulp:
                if (np.diff(index) > 0).all():
                    levels[index] = v
                    return levels
        return None


def measure(rows: Floats, scale: str) -> Floats:
    """The maximum, mean or median of |row| for each row, a column in float64."""
    if scale == "max":
        top = np.maximum(rows.max(axis=1), -rows.min(axis=1))
        return top.astype(np.float64)[:, None]
    if scale == "mean":
        return mean(rows)[:, None]
    return np.median(np.abs(rows).astype(np.float64), axis=1, keepdims=True)
