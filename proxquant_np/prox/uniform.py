"""Evenly spaced levels, z + a c for consecutive integers c, with a and z fitted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from proxquant_np.checks import check_integer
from proxquant_np.prox.arrays import Floats
from proxquant_np.prox.brute_force import uniform_codes
from proxquant_np.prox.distances import L2
from proxquant_np.prox.fitted import Fitted, distinct, tiles, too_many_magnitudes


@dataclass(frozen=True, repr=False)
class Uniform(Fitted):
    """Q = all w in {z + a c}^d for some a >= 0 and z, which P fits to w.

    n_bits: 1 to 8, at least 2 if symmetric. symmetric: z = 0 and c from -(2^(n_bits-1) - 1) to
    2^(n_bits-1) - 1; otherwise the grid is affine, c from 0 to 2^n_bits - 1. projection: one of two
    heuristics. With "max" the grid spans the weights, so none is clipped. "least_squares" starts
    there and `rounds` times takes nearest levels, then least squares for a (and z), never raising
    the error. We know no exact fit, by least squares or by Huber's loss, so L2 takes this set and
    L1 does not. Otherwise see `Fitted`. Source: common practice.

    Examples:
        >>> Q = pq.prox.Uniform(n_bits=2)
        >>> Q.levels([-3.0, 0.25, 2.0]), Q.project([-3.0, 0.25, 2.0])
        (array([-3.,  0.,  3.]), array([-3.,  0.,  3.]))
    """

    n_bits: int
    symmetric: bool = True
    projection: str = "max"
    rounds: int = 10

    projections = ("max", "least_squares")

    @property
    def contains_zero(self) -> bool:
        """Whether 0 is a level, whatever the weights."""
        return self.symmetric

    @property
    def offset(self) -> bool:
        """Whether all levels may be shifted by a number."""
        return not self.symmetric

    def __post_init__(self):
        super().__post_init__()
        check_integer("n_bits", self.n_bits, least=2 if self.symmetric else 1, most=8)
        check_integer("rounds", self.rounds, least=0)

    def _fit(self, rows):
        low, high = (f(axis=1, keepdims=True).astype(np.float64) for f in (rows.min, rows.max))
        if self.symmetric:
            end = 2 ** (self.n_bits - 1) - 1
            c = np.arange(-end, end + 1.0, like=rows)
            z, a = np.zeros_like(low), np.maximum(-low, high) / end
        else:
            c = np.arange(2.0**self.n_bits, like=rows)
            z, a = low, (high - low) / c[-1]
        if self.projection == "least_squares":
            for _ in range(self.rounds):
                z, a = self._least_squares(rows, c, z, a)
        return z + a * c

    def _own_levels(self, values, ulp):
        v = values.astype(np.float64)
        ends, rounding = np.abs(v).max(), 4 * ulp
        last = 2 ** (self.n_bits - 1) - 1 if self.symmetric else 2**self.n_bits - 1
        z, span = (0.0, ends) if self.symmetric else (v[0], v[-1] - v[0])
        if (np.diff(v) < span / last - 2 * rounding).any():
            return None
        steps = np.arange(1.0, last + 1)[:, None]  # grid steps within the span; coarse grids first
        a = np.where(span > 0, span, 1) / steps
        codes = np.rint((v - z) / a)
        fits = (np.abs(z + a * codes - v) <= rounding).all(axis=1)
        fits &= (np.diff(codes, axis=1) > 0).all(axis=1)
        if not fits.any():
            return None
        k = int(fits.argmax())
        first = -last if self.symmetric else 0
        levels = z + a[k] * np.clip(np.arange(first, last + 1.0), -(k + 1), k + 1)
        levels[codes[k].astype(np.intp) - first] = v
        return np.sort(levels)

    def code_matrices(self, n: int) -> Iterable[Floats]:
        """As `Fitted` says."""
        return uniform_codes(n, self.n_bits, self.symmetric)

    def why_not(self, values: Floats, close: float) -> str | None:
        """As `Fitted` says."""
        if self.symmetric:
            most = 2 ** (self.n_bits - 1) - 1
            start, levels = 0.0, distinct(np.abs(values), close)
            if told := too_many_magnitudes(values, close, most, zero=True):
                return told
        else:
            most, levels = 2**self.n_bits - 1, distinct(values, close)
            start = levels[0]
            if len(levels) > most + 1:
                return f"{len(levels)} different levels, {most + 1} are possible"
        steps = [(levels[-1] - start) / c for c in range(1, most + 1)]
        codes = [(levels - start) / (a or 1) for a in steps]
        if any(
            (np.abs(c - np.rint(c)) * (a or 1) <= close).all()
            for a, c in zip(steps, codes, strict=True)
        ):
            return None
        return "the levels are not evenly spaced, or there are more of them than possible"

    def _least_squares(self, rows, c, z, a):
        """The best z and a if each weight keeps the code of its nearest level."""
        # The sums of 1, c, x, c^2 and c x over each row; if z is free, c is relative to the middle.
        middle = 0.0 if self.symmetric else (c[0] + c[-1]) / 2
        moments = np.zeros((5, len(rows)), like=rows)
        for i, j in tiles(rows):
            x = rows[i, j].astype(np.float64)
            code = np.floor((x - z[i]) / np.where(a[i] > 0, a[i], 1) + 0.5)
            code = np.clip(code, c[0], c[-1]) - middle
            parts = np.ones_like(x), code, x, code * code, code * x
            moments[:, i] += np.stack([part.sum(axis=1) for part in parts])
        n, sc, sx, scc, scx = moments[..., None]
        if not self.symmetric:
            scc, scx = scc - sc**2 / n, scx - sc * sx / n
        a = np.where(scc > 0, scx / np.where(scc > 0, scc, 1), a)
        return (z if self.symmetric else sx / n - a * (sc / n + middle)), a


class UniformL2(L2):
    """L2(Uniform(...)): R(w) = 1/2 ||w - P(w)||_2^2, with P(w) in {z + a c}^d.

    prox(w, s) = (w + s P(w)) / (1 + s). For the parameters see `Uniform`.

    Examples:
        >>> pq.prox.UniformL2(n_bits=2).prox([-3.0, 0.25, 2.0], strength=1.0)
        array([-3.   ,  0.125,  2.5  ])
    """

    of = Uniform
