"""What a set of paired runs says about a claim."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from proxquant_np.checks import check_choice, check_number

SUPPORTED, CONTRADICTED = "supported", "contradicted"
EQUAL = "equal within m"
DEPENDS = "depends on"  # `verdicts` says on what
INCONCLUSIVE = "inconclusive at this scale"
TOO_FEW = "too few pairs for a verdict"
MIN_PAIRS = 5  # a convention: the two-sided test of the signs needs six to reach 5%
ROUNDING = 1e-12  # of the measurements: differences within so much are the same
LEVEL = 0.05  # of the two-sided test, and of each of the two one-sided ones


class Comparison(NamedTuple):
    """A paired difference first - second over seeds, and what it says of "first is smaller".

    `mean` and `std` are of the differences (std with n - 1; with an `overlap` sqrt(n) times the
    standard error of the mean), `low` and `high` the ends of their 95% confidence interval
    (Student's t), `n` the number of pairs, and `p` the two-sided p-value of the test that was asked
    for. `verdict` is one of

    - 'supported': p < 0.05 and the mean is below zero; with Student's t that is to say that the
      interval lies below zero, unless nothing varies (then p is that of n equal signs);
    - 'contradicted': p < 0.05 and the mean is above zero;
    - 'equal within m': neither, but two one-sided tests at 5% place the difference between -m and
      m, the margin that was given; with Student's t, the 90% interval lies within it;
    - 'inconclusive at this scale': none of these;
    - 'too few pairs for a verdict': there are fewer than five, whatever they say.

    `p_equal` is the larger p-value of the two one-sided tests; None if no margin was given. A
    difference can be there and not matter: `text` is the verdict, with ", within m" where it is one
    of the first two and the tests place the difference between -m and m.

    Examples:
        >>> from proxquant_np.experiments.statistics import compare
        >>> compare([1.0, 2.0, 3.0, 4.0, 5.0], [3.0, 4.0, 6.0, 6.0, 9.0]).verdict
        'supported'
    """

    mean: float
    std: float
    low: float
    high: float
    n: int
    p: float
    verdict: str
    p_equal: float | None = None

    @property
    def text(self) -> str:
        """The verdict, and whether the difference matters."""
        decided = self.verdict in (SUPPORTED, CONTRADICTED)
        return f"{self.verdict}, within m" if decided and self.is_small else self.verdict

    @property
    def is_small(self) -> bool:
        """Whether the two one-sided tests place the difference between -m and m."""
        return self.p_equal is not None and self.p_equal < LEVEL


class Equality(NamedTuple):
    """The difference m that does not matter, and why it is that large.

    Args:
        margin: m > 0, in the unit of what is compared or, if `relative`, as a fraction of what
            the rival measured.
        reason: in words, for the ledger.
    """

    margin: float
    reason: str
    relative: bool = False

    def of(self, rival: Sequence[float]) -> float | list[float] | None:
        """m where the rival measured these values; by pair, if it is a fraction of them.

        A fraction of the mean would be a margin that is itself uncertain, and the tests would find
        methods equal more often than they say. None where the fraction is one of zeros.

        Examples:
            >>> from proxquant_np.experiments.statistics import Equality
            >>> Equality(0.02, "so much is noise", relative=True).of([9.0, 11.0])
            [0.18, 0.22]
        """
        if not self.relative:
            return self.margin
        return (self.margin * np.abs(rival)).tolist() if np.any(rival) else None


def compare(
    first: Sequence[float],
    second: Sequence[float],
    *,
    margin: float | Sequence[float] | None = None,
    test: str = "t",
    overlap: float = 0.0,
) -> Comparison:
    """Compare paired measurements where smaller is better.

    Args:
        first, second: one measurement per seed, the same seeds in the same order.
        margin: m > 0, the difference that does not matter, or one for each pair, >= 0 and not all
            0; None if no claim of equality is made.
        test: 't' (Student's), 'sign-flip' (the permutation test of paired samples: it supposes
            differences symmetric about their mean, not normal ones), 'wilcoxon' (the signed ranks)
            or 'sign' (the signs alone).
        overlap: for seeds that split the same examples anew, the number of test examples over that
            of training examples, to speak of new examples. Without it the interval is one of the
            mean over all splits of these examples, of which the seeds are independent draws. New
            examples would change all splits at once: then the variance of the mean is not
            std^2 / n but about std^2 (1/n + overlap), which no number of seeds takes away
            (C. Nadeau and Y. Bengio, Machine Learning 52, 2003). Only with 't'.

    Raises:
        ValueError: lengths that differ, nothing to compare, values that are not finite, a margin
            that is not as above, an unknown test, or an overlap with another one than 't'.

    Examples:
        >>> from proxquant_np.experiments.statistics import compare
        >>> found = compare([1.0, 2.0, 4.0, 1.0, 2.0], [2.0, 4.0, 5.0, 1.0, 2.0], margin=2.0)
        >>> found.verdict, round(found.mean, 4), round(found.low, 4), round(found.high, 4)
        ('equal within m', -0.8, -1.8389, 0.2389)
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    if a.shape != b.shape or a.ndim != 1 or not a.size:
        raise ValueError(
            f"first and second must have one shape (n,) with n >= 1, got {a.shape}, {b.shape}"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("first and second must be finite, got NaN or infinity")
    p_value = TESTS[check_choice("test", test, TESTS)]
    if check_number("overlap", overlap, least=0, below=math.inf) and test != "t":
        raise ValueError(f"overlap must be 0 with the test {test!r}, got {overlap}")
    n, rounding = len(a), ROUNDING * np.abs([a, b]).max()

    def scattered(d: np.ndarray) -> np.ndarray:
        """d, where std^2 / n is the variance of its mean."""
        mean = d.mean()
        if np.ptp(d) <= rounding:  # nothing varies
            return np.full(n, mean if abs(mean) > rounding else 0.0)
        return mean + math.sqrt(1 + n * overlap) * (d - mean) if overlap else d

    d = scattered(a - b)
    mean, std = float(d.mean()), float(d.std(ddof=1)) if n > 1 else math.nan
    half = _t_quantile(n, 1 - LEVEL / 2) * std / math.sqrt(n) if n > 1 else math.inf
    p, p_equal = float(p_value(d, "two-sided")), None
    if margin is not None:
        m = _checked_margin(margin, n)
        sides = (scattered(a - b - m), "less"), (scattered(a - b + m), "greater")
        p_equal = float(max(p_value(*side) for side in sides))
    return _decided(Comparison(mean, std, mean - half, mean + half, n, p, TOO_FEW, p_equal))


def _checked_margin(margin: float | Sequence[float], n: int) -> np.ndarray:
    if np.ndim(margin) == 0:
        return np.asarray(check_number("margin", margin, above=0, below=math.inf))
    m = np.asarray(margin, float)
    if m.shape != (n,) or not (np.isfinite(m).all() and m.min() >= 0 < m.max()):
        raise ValueError(f"margin must be a number > 0, or {n} of them >= 0, got {margin}")
    return m


def _decided(found: Comparison) -> Comparison:
    """The comparison with the verdict that its p-values give."""
    if found.n < MIN_PAIRS:
        verdict = TOO_FEW
    elif found.p < LEVEL:
        verdict = SUPPORTED if found.mean < 0 else CONTRADICTED
    else:
        verdict = EQUAL if found.is_small else INCONCLUSIVE
    return found._replace(verdict=verdict)


def corrected(family: Sequence[Comparison]) -> list[Comparison]:
    """The same comparisons, with p-values adjusted by `holm` and the verdicts that follow.

    The tests of a difference and those of equality are corrected separately: for each of the two
    kinds, the probability that any verdict of the family is false is at most 5%. What has too few
    pairs for a verdict is not tested, and stays as it is; nor is what has no margin tested for
    equality.

    Examples:
        >>> from proxquant_np.experiments.statistics import compare, corrected
        >>> found = compare([1.0, 2.0, 3.0, 4.0, 5.0], [3.0, 4.0, 6.0, 6.0, 9.0])
        >>> [c.verdict for c in corrected([found] * 20)][0]
        'inconclusive at this scale'
    """
    found = list(family)
    tested = [i for i, one in enumerate(found) if one.n >= MIN_PAIRS]
    for kind in ("p", "p_equal"):
        own = [i for i in tested if getattr(found[i], kind) is not None]
        for i, p in zip(own, holm([getattr(found[i], kind) for i in own]), strict=True):
            found[i] = found[i]._replace(**{kind: float(p)})
    return [*map(_decided, found)]


CORRECTIONS = ("none", "experiment", "all")
"""Over which comparisons the ledger's verdicts can be corrected."""


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's adjusted p-values: below 0.05 where a family of tests, together at 5%, rejects.

    The k-th smallest of n is multiplied by n - k + 1, and none may be smaller than one before it.
    With probability 0.95 no true hypothesis of the family is rejected, however they depend on each
    other (S. Holm, Scandinavian Journal of Statistics 6, 1979).

    Examples:
        >>> from proxquant_np.experiments.statistics import holm
        >>> holm([0.01, 0.04, 0.03])
        array([0.03, 0.06, 0.06])
    """
    p = np.asarray(p_values, float)
    order = p.argsort(kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(adjusted, 1)


def detectable(found: Comparison, power: float = 0.8) -> float:
    """The smallest true difference that so many pairs, so scattered, show with this probability.

    delta std / sqrt(n), where the noncentral t distribution with n - 1 degrees of freedom and
    noncentrality delta exceeds the 97.5% point of Student's t with probability `power`; infinite
    for one pair. What is smaller cannot be expected to be found, whether it is there or not.

    Examples:
        >>> from proxquant_np.experiments.statistics import compare, detectable
        >>> few, more = compare([1.0, 2.0], [2.0, 5.0]), compare([1.0, 2.0] * 5, [2.0, 5.0] * 5)
        >>> detectable(few) > detectable(more)
        True
    """
    return _detectable(found.n, power) * found.std if found.n > 1 else math.inf


def pairs_needed(difference: float, std: float, power: float = 0.8) -> int:
    """The least number of pairs, at least five, that show a true difference with this probability.

    `std` is of the paired differences, as in `Comparison`.

    Examples:
        >>> from proxquant_np.experiments.statistics import pairs_needed
        >>> pairs_needed(0.2, std=0.5)  # points of error, say
        52
    """
    difference = abs(check_number("difference", difference, below=math.inf))
    std = check_number("std", std, least=0, below=math.inf)
    if not difference:
        raise ValueError("difference must not be 0: no number of pairs shows that there is none")
    enough = range(MIN_PAIRS, 1 << 40)
    return enough[
        bisect.bisect_left(enough, True, key=lambda n: _detectable(n, power) * std <= difference)
    ]


# SciPy is imported where it is used, so that the command line starts quickly.


def _t_quantile(n: int, probability: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, probability))


def _detectable(n: int, power: float) -> float:
    """`detectable` for standard deviation 1."""
    from scipy.special import nctdtrinc

    return float(nctdtrinc(n - 1, 1 - power, _t_quantile(n, 1 - LEVEL / 2))) / math.sqrt(n)


def _student(d: np.ndarray, alternative: str) -> float:
    from scipy.special import stdtr

    n, mean = len(d), d.mean()
    still = not np.ptp(d)
    if n == 1 or (still and not mean):
        return 1.0
    if still:  # nothing varies, and t has no distribution: how likely are n equal signs?
        sides = {"less": mean < 0, "greater": mean > 0, "two-sided": 2}[alternative]
        return sides / 2**n if sides else 1.0
    t = mean / d.std(ddof=1) * math.sqrt(n)
    tail, sides = {"less": (t, 1), "greater": (-t, 1), "two-sided": (-abs(t), 2)}[alternative]
    return sides * float(stdtr(n - 1, tail))


def _sign_flip(d: np.ndarray, alternative: str) -> float:
    from scipy.stats import permutation_test

    exact = math.inf if len(d) <= 14 else 20_000  # all 2^n signs, or so many drawn ones
    return permutation_test(
        (d,),
        lambda d, axis: d.mean(axis=axis),
        permutation_type="samples",
        alternative=alternative,
        n_resamples=exact,
        rng=np.random.default_rng(0),
    ).pvalue


def _wilcoxon(d: np.ndarray, alternative: str) -> float:
    """Exact with ties, and without zeros; SciPy's takes a hundred times as long where there are."""
    from scipy.stats import rankdata

    d = d[d != 0]
    doubled = np.rint(2 * rankdata(np.abs(d))).astype(int)  # mean ranks of ties can be halves
    null = np.ones(1)  # the probability of each sum of the ranks with a plus
    for rank in doubled:
        null = np.convolve(null, np.bincount([0, rank]) / 2)
    found = doubled[d > 0].sum()
    less, greater = null[: found + 1].sum(), null[found:].sum()
    p = {"less": less, "greater": greater, "two-sided": 2 * min(less, greater)}[alternative]
    return float(min(p, 1))


def _sign(d: np.ndarray, alternative: str) -> float:
    from scipy.stats import binomtest

    n = int(np.count_nonzero(d))
    k = int(np.count_nonzero(d > 0))
    return binomtest(k, n, alternative=alternative).pvalue if n else 1.0


TESTS: dict[str, Callable[[np.ndarray, str], float]] = {
    "t": _student,
    "sign-flip": _sign_flip,
    "wilcoxon": _wilcoxon,
    "sign": _sign,
}
