"""DoReFa's weights: spread over [-1, 1] by tanh, then rounded to evenly spaced levels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proxquant_np.checks import check_integer
from proxquant_np.prox.rule import CutRule
from proxquant_np.prox.ties import middles


@dataclass(frozen=True, repr=False)
class DoReFa(CutRule):
    """Q = {2 k / n - 1: k = 0, ..., n}^d, n = 2^n_bits - 1: no 0 among them.

    quantize(w) = 2/n round(n (tanh(w) / (2 max|tanh(w)|) + 1/2)) - 1; of zeros alone, that of 0.

    The largest weight goes to -1 or 1, however small it is. n_bits: 2 to 8 (one bit is another
    rule, sign(w) times the mean of |w|: MultiBit(1)). ties: how `round` goes, "even" by default,
    of k. axis, block as `Fitted`; the rest as `Rule`, Q not scaled.
    Source: Zhou et al. 2016, arXiv:1606.06160, DoReFa-Net, equation 9.

    Examples:
        >>> pq.prox.DoReFa(2).quantize([-0.02, 0.0, 0.005, 0.04]).round(3)
        array([-0.333,  0.333,  0.333,  1.   ])
    """

    n_bits: int
    ties: str = "even"

    symmetric = True

    def __post_init__(self):
        super().__post_init__()
        check_integer("n_bits", self.n_bits, least=2, most=8)

    def _row_levels(self, rows, fit=None):  # Q is not scaled with the weights: no scaling of them
        levels = self._fit(rows) if fit is None else fit(rows, 0)
        return levels.astype(rows.dtype)

    def _codes(self, levels):
        return np.arange(levels.shape[-1])

    def _fit(self, rows):
        n = 2**self.n_bits - 1
        return np.broadcast_to((2 * np.arange(n + 1, like=rows) - n) / n, (len(rows), n + 1))

    def _cuts(self, rows, levels):
        top = np.tanh(np.abs(rows).max(axis=1, keepdims=True).astype(np.float64))
        return np.arctanh(middles(levels) * np.where(top > 0, top, 1))

    def _is_quantized(self, rows):
        return np.isin(rows, self._fit(rows)[:1].astype(rows.dtype)).all(axis=1)
