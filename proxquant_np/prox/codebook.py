"""Codebooks of few-bit floats, scaled by the largest weight of a tensor, channel or block."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from proxquant_np.checks import check_choice
from proxquant_np.libraries import moved
from proxquant_np.prox.arrays import Floats
from proxquant_np.prox.rule import Scaled, measure

# Quantiles of a normal distribution, 0 among them, between -1 and 1: rounded to float32.
NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
FLOATS = {
    "e2m1": (2, 1, 1, 6.0),
    "e2m3": (2, 3, 1, 7.5),
    "e3m2": (3, 2, 3, 28.0),
    "e4m3": (4, 3, 7, 448.0),
    "e5m2": (5, 2, 15, 57344.0),
    "e4m3ieee": (4, 3, 7, 240.0),
    "e4m3fnuz": (4, 3, 8, 240.0),
    "e5m2fnuz": (5, 2, 16, 57344.0),
}
"""Bits of exponent and mantissa, the bias, and the largest number.

E4M3 has no infinity, and NaN above 448 (e4m3fn elsewhere); e4m3ieee has both, above 240.
"""


@lru_cache
def codebook(name: str) -> Floats:
    """The finite values of a format, "nf4" or a name in FLOATS, ascending, float64.

    A float has the value m 2^-mantissa 2^(e - bias), 2^mantissa <= m < 2^(mantissa + 1), and with
    m below that the subnormal ones of the least exponent.

    Examples:
        >>> from proxquant_np.prox.codebook import codebook
        >>> codebook("e2m1")[7:]
        array([0. , 0.5, 1. , 1.5, 2. , 3. , 4. , 6. ])
    """
    if name == "nf4":
        values = np.array(NF4)
    else:
        exponent, mantissa, bias, top = FLOATS[check_choice("name", name, FLOATS)]
        code = np.arange(1 << (exponent + mantissa))
        e, m = code >> mantissa, code % (1 << mantissa)
        m = np.where(e > 0, m + (1 << mantissa), m)
        values = np.ldexp(m, np.maximum(e, 1) - mantissa - bias)
        values = values[values <= top]
        values = np.concatenate([-values[:0:-1], values])
    values.setflags(write=False)
    return values


@dataclass(frozen=True, repr=False)
class Codebook(Scaled):
    """Q = all w in {a v}^d, v the values of a format of few-bit floats, with a scale a by a rule.

    quantize(w) = a v, with v the value nearest to w / a.

    format: "nf4", 16 quantiles of a normal distribution; "e2m1" (FP4), up to 6; "e2m3" and "e3m2"
    (FP6), up to 7.5 and 28; "e4m3" (FP8), up to 448; "e5m2", up to 57344; "e4m3fnuz" and
    "e5m2fnuz", with one exponent more below and without -0; "e4m3ieee", up to 240. scale: "max",
    a = max|w| / largest value, which keeps the largest weight; "power", 2^(floor(log2 max|w|) -
    exponent of the largest value), as in microscaling (MX), where weights beyond the largest value
    are clipped to it. ties: "even", of the last bit of the mantissa, by default. axis, block as
    `Fitted`: usual are block=64 (NF4), 32 (MX), or an axis; the rest as `Rule`.

    Sources: Dettmers et al. 2023, arXiv:2305.14314, QLoRA, for NF4; Micikevicius et al. 2022,
    arXiv:2209.05433, for FP8; Noune et al. 2022, arXiv:2206.02915, for fnuz; Rouhani et al. 2023,
    arXiv:2310.10537, for FP4, FP6 and MX.

    Examples:
        >>> w = np.array([-1.0, 0.3, 0.1, 7.0])
        >>> pq.prox.Codebook("nf4").quantize(w).round(3)
        array([-1.293,  0.557,  0.   ,  7.   ])
        >>> pq.prox.Codebook("e2m1", scale="power").quantize(w)
        array([-1. ,  0.5,  0. ,  6. ])
    """

    format: str
    scale: str = "max"
    ties: str = "even"

    scales = ("max", "power")

    def __post_init__(self):
        check_choice("format", self.format, ("nf4", *FLOATS))
        super().__post_init__()
        if self.format == "nf4" and self.scale == "power":
            raise ValueError("scale must be 'max' for the format nf4, got 'power'")

    def _grid(self):
        values = codebook(self.format)
        return values / (values[-1] if self.scale == "max" else 2.0 ** _exponent(values[-1]))

    def _fit(self, rows):
        if self.scale == "max":
            return super()._fit(rows)
        top = measure(rows, "max")
        power = np.where(top > 0, np.ldexp(1.0, _exponent(top)), 0)
        return power * moved(self._grid(), rows)

    def _fit_new(self, rows, exponent):
        return self._fit(rows)  # quantized weights have the same power of two: nothing moves twice


def _exponent(values):
    """floor(log2) of numbers > 0."""
    return np.frexp(values)[1] - 1
