"""Powers of two, so that products with weights are shifts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proxquant_np.checks import check_instance, check_integer
from proxquant_np.libraries import moved
from proxquant_np.prox.rule import Scaled, measure


@dataclass(frozen=True, repr=False)
class PowersOfTwo(Scaled):
    """Q = all w in {0, +-a, +-a/2, ..., +-a/2^(n-1)}^d, a = 2^k for an integer k by a rule.

    quantize(w) sends each weight to its nearest level, with k = floor(log2(4/3 max|w|)): the power
    nearest to the largest weight. n: how many powers, 1 to 16. zero: whether 0 is a level. ties:
    "away" by default. axis, block as `Fitted`; the rest as `Rule`.

    With b bits Zhou et al. take n = 2^(b-2) powers and 0. Without 0 the weights between the two
    least levels go to the nearer one, 0 itself up.
    Source: Zhou et al. 2017, arXiv:1702.03044, Incremental Network Quantization, Section 2.

    Examples:
        >>> w = np.array([-1.5, 1.4, 0.3, 0.1])
        >>> pq.prox.PowersOfTwo(3).quantize(w)
        array([-2. ,  1. ,  0.5,  0. ])
        >>> pq.prox.PowersOfTwo(3, zero=False).quantize(w)
        array([-2. ,  1. ,  0.5,  0.5])
    """

    n: int
    zero: bool = True
    ties: str = "away"

    scale = "power"
    scales = ("power",)

    def __post_init__(self):
        super().__post_init__()
        check_integer("n", self.n, least=1, most=16)
        check_instance("zero", self.zero, bool, "True or False")

    def _grid(self):
        powers = 2.0 ** np.arange(1 - self.n, 1)
        return np.concatenate([-powers[::-1], [0.0] * self.zero, powers])

    def _codes(self, levels):
        return np.arange(levels.shape[-1])  # "even" has no meaning of its own here

    def _fit(self, rows):
        top = measure(rows, "max")
        power = np.where(top > 0, np.ldexp(1.0, np.frexp(top / 0.75)[1] - 1), 0)
        return power * moved(self._grid(), rows)

    def _fit_new(self, rows, exponent):
        return self._fit(rows)  # the largest quantized weight is that power of two
