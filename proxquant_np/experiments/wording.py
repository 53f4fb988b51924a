"""Measures and their differences in words: units, signs and digits."""

from __future__ import annotations

import math
from typing import NamedTuple

from proxquant_np.experiments.statistics import Comparison


class Scale(NamedTuple):
    """The factor by which a measure is shown, its unit, and the unit of its differences."""

    factor: float
    unit: str
    points: str


def scaled(measure: str) -> Scale:
    """Errors and fractions of signs are shown in percent, perplexities as they are."""
    if measure.endswith("perplexity"):
        return Scale(1, "", "")
    return Scale(100, "%", "percentage points")


def in_words(found: Comparison, measure: str, unit: str = "") -> str:
    """A difference, with its unit if wanted, and its interval, to three digits of the largest."""
    values = [scaled(measure).factor * x for x in (found.mean, found.low, found.high)]
    if not found.std:  # nothing varies
        return f"{values[0]:+.3g}{unit} in each pair" if found.mean else "0 in each pair"
    if not math.isfinite(found.low):
        return f"{values[0]:+.3g}{unit}, no interval"
    digits = max(0, 2 - math.floor(math.log10(max(map(abs, values)))))
    mean, low, high = (signed(x, digits) for x in values)
    return f"{mean}{unit} [{low}, {high}]"


def signed(x: float, digits: int) -> str:
    """Rounded to so many digits, with a sign; zero is +0."""
    return f"{round(x, digits) + 0.0:+.{digits}f}"  # + 0.0: no -0
