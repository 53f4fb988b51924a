"""Affine integers: codes of n bits with a scale and an integer zero point, so that 0 is kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proxquant_np.checks import check_integer
from proxquant_np.prox.rule import Rule


@dataclass(frozen=True, repr=False)
class Affine(Rule):
    """Q = all w in {a (k - z)}^d, k = 0, ..., 2^n_bits - 1, for a scale a and an integer z of them.

    quantize(w) = a (clip(round(w / a) + z, 0, 2^n_bits - 1) - z), with low = min(w, 0), high =
    max(w, 0), a = (high - low) / (2^n_bits - 1) and z = round(-low / a), a tie to even. So 0 is a
    level, and the range reaches it even if all weights are positive. Signed codes are these less
    2^(n_bits-1), with the same values.

    n_bits: 1 to 8. ties: how round(w / a) goes. axis, block as `Fitted`; the rest as `Rule`.
    Source: Jacob et al. 2018, arXiv:1712.05877, Section 2 and equation 13; ONNX QuantizeLinear.

    Examples:
        >>> Q = pq.prox.Affine(n_bits=2)
        >>> Q.levels([-1.0, 0.1, 2.0]), Q.quantize([-1.0, 0.6, 2.0])
        (array([-1.,  0.,  1.,  2.]), array([-1.,  1.,  2.]))
    """

    n_bits: int
    ties: str = "even"

    contains_zero = True

    def __post_init__(self):
        super().__post_init__()
        check_integer("n_bits", self.n_bits, least=1, most=8)

    def _fit(self, rows):
        low, high = (f(axis=1, keepdims=True).astype(np.float64) for f in (rows.min, rows.max))
        low, high = np.minimum(low, 0), np.maximum(high, 0)
        last = 2.0**self.n_bits - 1
        a = (high - low) / last
        zero = np.rint(np.where(a > 0, -low / np.where(a > 0, a, 1), 0))
        return a * (np.arange(last + 1, like=rows) - zero)

    def _codes(self, levels):
        top = np.abs(levels).max(axis=-1, keepdims=True)
        levels = levels / np.where(top > 0, top, 1)  # so that nothing overflows
        step = levels[..., -1:] - levels[..., :1]
        return np.rint(levels * (levels.shape[-1] - 1) / np.where(step > 0, step, 1))

    def _own_levels(self, values, ulp):
        v = values.astype(np.float64)
        last = 2**self.n_bits - 1
        low, high = min(v[0], 0.0), max(v[-1], 0.0)
        for steps in range(last, 0, -1):  # between low and high: the finest grid first
            a = (high - low) / steps or 1.0
            codes, start = np.rint(v / a), np.rint(low / a)
            fits = np.abs(a * codes - v).max() <= 4 * ulp and codes[-1] <= start + last
            if fits and (np.diff(codes) > 0).all():
                levels = a * (start + np.arange(last + 1))
                levels[(codes - start).astype(np.intp)] = v
                return levels
        return None
