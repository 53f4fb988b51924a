"""Fixed point: integers times a power of two that is given, with saturation or with wrap-around."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from proxquant_np.checks import check_choice, check_integer
from proxquant_np.prox.arrays import Floats
from proxquant_np.prox.quantized_set import QuantizedSet
from proxquant_np.prox.ties import TIES, round_to_integer


@dataclass(frozen=True)
class FixedPoint(QuantizedSet):
    """Q = {2^-fraction k}^d, k the signed integers of n_bits: -2^(n_bits-1), ..., 2^(n_bits-1) - 1.

    project(w) = quantize(w) = 2^-fraction k, k = round(2^fraction w). overflow: what comes of a k
    beyond the range, "saturate", the nearer end, which is the nearest level; or "wrap", k modulo
    2^n_bits, as bits are dropped in hardware: no projection then, and L1 refuses the set.
    n_bits: 2 to 16. fraction: an integer, the number of bits behind the point. ties: how `round`
    goes, as in ties.py.
    Source: Gupta et al. 2015, arXiv:1502.02551, Section 3, for saturation.

    Examples:
        >>> w = [-0.6, 0.125, 0.3, 2.25]
        >>> pq.prox.FixedPoint(4, fraction=2).quantize(w)
        array([-0.5 ,  0.  ,  0.25,  1.75])
        >>> pq.prox.FixedPoint(4, fraction=2, overflow="wrap").quantize(w)
        array([-0.5 ,  0.  ,  0.25, -1.75])
    """

    n_bits: int
    fraction: int
    overflow: str = "saturate"
    ties: str = "even"

    def __post_init__(self):
        super().__post_init__()
        check_integer("n_bits", self.n_bits, least=2, most=16)
        check_integer("fraction", self.fraction, least=-64, most=64)
        check_choice("overflow", self.overflow, ("saturate", "wrap"))
        check_choice("ties", self.ties, TIES)

    @property
    def exact(self) -> bool:
        """Whether each weight goes to its nearest level."""
        return self.overflow == "saturate"

    @property
    def fits_l1(self) -> bool:
        """Whether L1's prox is exact: where each weight goes to its nearest level."""
        return self.exact

    def quantize(self, w: ArrayLike, out: Floats | None = None) -> Floats:
        """The same as `project`."""
        return self.project(w, out)

    def _levels(self, x):
        k = np.arange(-(2 ** (self.n_bits - 1)), 2 ** (self.n_bits - 1), dtype=x.dtype)
        return np.ldexp(k, -self.fraction)

    def _project(self, x, out):
        half = 2 ** (self.n_bits - 1)
        low, high, period = np.ldexp(x.dtype.type([-half, half - 1, 2 * half]), -self.fraction)
        within = np.clip(x, low, high) if self.exact else np.fmod(x, period)  # neither rounds
        k = round_to_integer(np.ldexp(within, self.fraction), self.ties)
        if not self.exact:
            k = np.mod(k + half, 2 * half) - half
        np.ldexp(k, -self.fraction, out=out)
        out += 0  # which makes 0.0 of -0.0
