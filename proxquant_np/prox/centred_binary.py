"""Binary weights by their sign relative to their mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proxquant_np.checks import check_choice
from proxquant_np.prox.rule import CutRule, measure


@dataclass(frozen=True, repr=False)
class CentredBinary(CutRule):
    """Q = {-a, a}^d for some a >= 0; the sign is that of w - mean(w), the scale from w by a rule.

    quantize(w) = a sign(w - mean(w)). scale: "mean", a = mean |w|, or "centred", the mean of
    |w - mean(w)|. ties: where w = mean(w) goes: "down", as Wang et al. define, or "up". axis, block
    as `Fitted`; the rest as `Rule`. The nearest point of Q has the sign of w: MultiBit(1).
    Source: Wang et al. 2023, arXiv:2310.11453, BitNet, equations 1 to 3.

    Examples:
        >>> Q = pq.prox.CentredBinary()
        >>> Q.quantize([1.0, 2.0, 6.0, 3.0]), Q.project([3.0, -3.0, 3.0])
        (array([-3., -3.,  3., -3.]), array([ 3., -3.,  3.]))
    """

    scale: str = "mean"
    ties: str = "down"

    symmetric = True

    def __post_init__(self):
        super().__post_init__()
        check_choice("scale", self.scale, ("mean", "centred"))
        check_choice("ties", self.ties, ("up", "down"))

    def _fit(self, rows):
        a = measure(rows if self.scale == "mean" else rows - _mean(rows), "mean")
        return a * np.asarray([-1.0, 1.0], like=a)

    def _fit_new(self, rows, exponent):
        own = self._is_quantized(rows)[:, None]
        plain = measure(rows, "mean") * np.asarray([-1.0, 1.0], like=rows)
        return np.where(own, plain, self._fit(rows))

    def _cuts(self, rows, levels):
        return _mean(rows)

    def _is_quantized(self, rows):
        size = np.abs(rows)
        return size.max(axis=1) == size.min(axis=1)


def _mean(rows):
    return rows.mean(axis=1, keepdims=True, dtype=np.float64)
