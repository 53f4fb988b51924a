"""Experiments: what a set of paired runs says about a claim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Comparison(NamedTuple):
    """A paired difference first - second over seeds, and what it says of "first is smaller".

    `mean` and `std` are of the differences (std with n - 1), `low` and `high` the ends of their
    95% confidence interval (Student's t), `n` the number of pairs. `verdict` is 'supported' if the
    interval lies below zero, 'contradicted' if above, else 'inconclusive at this scale'.

    Examples:
        >>> from proxquant_np.experiments.statistics import compare
        >>> compare([1.0, 2.0, 3.0], [3.0, 4.0, 6.0]).verdict
        'supported'
    """

    mean: float
    std: float
    low: float
    high: float
    n: int
    verdict: str


def compare(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """Compare paired measurements where smaller is better; one pair never decides.

    Raises:
        ValueError: lengths that differ, nothing to compare, or values that are not finite.

    Examples:
        >>> from proxquant_np.experiments.statistics import compare
        >>> found = compare([1.0, 2.0, 4.0], [2.0, 4.0, 5.0])
        >>> found.verdict, round(found.mean, 4), round(found.low, 4), round(found.high, 4)
        ('inconclusive at this scale', -1.3333, -2.7676, 0.1009)
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    if a.shape != b.shape or a.ndim != 1 or not a.size:
        raise ValueError(f"need equally many paired values, at least one, got {a.shape}, {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("measurements must be finite")
    d = a - b
    n, mean = len(d), float(d.mean())
    if n == 1:
        std, low, high = np.nan, -np.inf, np.inf
    elif np.ptp(d) <= 1e-12 * np.abs([a, b]).max():  # equal but for rounding: nothing varies
        std, low, high = 0.0, mean, mean
    else:
        from scipy.special import stdtrit  # here, so that the command line starts quickly

        std = float(d.std(ddof=1))
        half = stdtrit(n - 1, 0.975) * std / np.sqrt(n)  # stdtrit: Student's t quantile
        low, high = mean - half, mean + half
    verdict = (
        "supported" if high < 0 else "contradicted" if low > 0 else "inconclusive at this scale"
    )
    return Comparison(mean, float(std), float(low), float(high), n, verdict)


def detectable(found: Comparison) -> float:
    """The smallest true difference that so many pairs, so scattered, show with probability 0.8.

    (t_{0.975} + t_{0.8}) std / sqrt(n), Student's t with n - 1 degrees of freedom; infinite for one
    pair. What is smaller than this cannot be expected to be found, whether it is there or not. An
    approximation: the exact formula, of the noncentral t, gives 0.77 for three pairs.

    Examples:
        >>> from proxquant_np.experiments.statistics import compare, detectable
        >>> few, more = compare([1.0, 2.0], [2.0, 5.0]), compare([1.0, 2.0] * 5, [2.0, 5.0] * 5)
        >>> detectable(few) > detectable(more)
        True
    """
    if found.n == 1:
        return np.inf
    from scipy.special import stdtrit

    quantiles = stdtrit(found.n - 1, [0.975, 0.8]).sum()
    return float(quantiles * found.std / np.sqrt(found.n))
