"""Symmetric integers: round(w / a), clipped to n bits, with one scale a."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proxquant_np.checks import check_choice, check_integer, check_number
from proxquant_np.libraries import moved
from proxquant_np.prox.rule import Scaled, measure
from proxquant_np.prox.uniform import Uniform


@dataclass(frozen=True, repr=False)
class Integers(Scaled):
    """Q = all w in {a c}^d, c a signed integer of n bits, with a scale a >= 0 by a rule.

    quantize(w) = a clip(round(w / a), first, last), with last = 2^(n_bits-1) - 1, and 0 where a is.

    n_bits: 2 to 8. range: "narrow", first = -last; "full", first = -last - 1. ties: how `round`
    goes, "even" by default. scale: "max", a = max|w| / divisor; "mean" or "median" of |w| over it;
    "least_squares": from max|w| / last, ten times nearest codes and least squares for a. divisor:
    None for last with "max", sqrt(last) with the others. axis, block as `Fitted`; the rest `Rule`.

    The usual int8, int4: "max". BitNet b1.58 is n_bits=2 with "mean", codes -1, 0, 1; its
    activations of 4 bits are n_bits=4, range="full" with "mean", whence the root. With "max" and
    the narrow range the largest weight is kept; with range="full" and a divisor beyond last, such
    as 7.5 or 8 for four bits, a largest weight that is positive is clipped.
    Sources: Jacob et al. 2018, arXiv:1712.05877, for scales of the largest weight; Ma et al. 2024,
    arXiv:2402.17764, BitNet b1.58, for the mean (their epsilon left out).

    Examples:
        >>> w = np.array([-3.5, 0.75, 1.2, 7.0])
        >>> pq.prox.Integers(n_bits=4).quantize(w)
        array([-4.,  1.,  1.,  7.])
        >>> pq.prox.Integers(n_bits=4, range="full", divisor=8).quantize(w)
        array([-3.5  ,  0.875,  0.875,  6.125])
        >>> pq.prox.Integers(n_bits=2, scale="mean").quantize(w)
        array([-3.1125,  0.    ,  0.    ,  3.1125])
    """

    n_bits: int
    range: str = "narrow"
    scale: str = "max"
    ties: str = "even"
    divisor: float | None = None

    scales = ("max", "mean", "median", "least_squares")

    def __post_init__(self):
        super().__post_init__()
        check_integer("n_bits", self.n_bits, least=2, most=8)
        check_choice("range", self.range, ("narrow", "full"))
        if self.divisor is not None:
            if self.scale == "least_squares":
                raise ValueError(f"divisor must be None with least_squares, got {self.divisor}")
            check_number("divisor", self.divisor, above=0, below=np.inf)

    def _codes(self, levels=None):
        last = 2.0 ** (self.n_bits - 1) - 1
        return np.arange(-last - (self.range == "full"), last + 1)

    def _grid(self):
        last = 2 ** (self.n_bits - 1) - 1
        usual = {"max": last, "least_squares": 1}.get(self.scale, last**0.5)
        return self._codes() / (usual if self.divisor is None else self.divisor)

    def _fit(self, rows):
        if self.scale != "least_squares":
            return super()._fit(rows)
        codes, uniform = moved(self._codes(), rows), Uniform(self.n_bits)
        a = measure(rows, "max") / codes[-1]
        for _ in range(10):
            a = uniform._least_squares(rows, codes, np.zeros_like(a), a)[1]
        return a * codes
