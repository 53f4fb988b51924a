"""Paired comparisons, against SciPy's tests, by hand, and by simulation."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import PermutationMethod, false_discovery_control, ttest_rel, wilcoxon
from scipy.stats import t as t_of

from proxquant_np.experiments.statistics import (
    CONTRADICTED,
    EQUAL,
    INCONCLUSIVE,
    SUPPORTED,
    TESTS,
    TOO_FEW,
    Equality,
    compare,
    corrected,
    detectable,
    holm,
    pairs_needed,
)


@given(n=st.integers(5, 30), seed=st.integers(0, 2**32), shift=st.floats(-3, 3))
def test_interval_is_that_of_the_paired_t_test(n, seed, shift):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=n) + shift, rng.normal(size=n)
    found = compare(a, b)
    test = ttest_rel(a, b)
    interval = test.confidence_interval(0.95)
    np.testing.assert_allclose((found.low, found.high), interval, rtol=1e-9, atol=1e-12)
    assert found.n == n
    assert found.mean == pytest.approx(np.mean(a - b))
    assert found.std == pytest.approx(np.std(a - b, ddof=1))
    assert found.p == pytest.approx(test.pvalue)
    decided = found.verdict != INCONCLUSIVE
    assert decided == (test.pvalue < 0.05) == (found.low > 0 or found.high < 0)
    assert not decided or (found.verdict == SUPPORTED) == (found.mean < 0)


@given(n=st.integers(5, 30), seed=st.integers(0, 2**32), margin=st.floats(0.1, 3))
def test_equality_is_that_of_the_ninety_percent_interval(n, seed, margin):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=n), rng.normal(size=n)
    low, high = ttest_rel(a, b).confidence_interval(0.9)
    found = compare(a, b, margin=margin).verdict
    if compare(a, b).verdict != INCONCLUSIVE:  # what lies on one side of zero says more
        assert found == compare(a, b).verdict
    else:
        assert (found == EQUAL) == (-margin < low and high < margin)


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([-3, -2, -4, -3, -3], SUPPORTED),
        ([3, 2, 4, 3, 3], CONTRADICTED),
        ([-3, 2, -4, 3, 1], INCONCLUSIVE),
        ([-3, -2, -4, -3], TOO_FEW),
        ([-1, -5], TOO_FEW),
        ([-1], TOO_FEW),
    ],
)
def test_verdicts(differences, verdict):
    other = np.array([10.0, 20.0, 5.0, 7.0, 9.0])[: len(differences)]
    assert compare(other + differences, other).verdict == verdict
    swapped = {SUPPORTED: CONTRADICTED, CONTRADICTED: SUPPORTED}
    assert compare(other, other + differences).verdict == swapped.get(verdict, verdict)


@pytest.mark.parametrize("test", TESTS)
def test_every_test_decides_what_is_plain(test):
    d = np.linspace(1, 2, 8)
    assert compare(d, 0 * d, test=test).verdict == CONTRADICTED
    assert compare(0 * d, d, test=test).verdict == SUPPORTED
    balanced = np.array([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0, 0.5, -0.5])
    assert compare(balanced, 0 * d, test=test).verdict == INCONCLUSIVE
    assert compare(balanced, 0 * d, test=test, margin=9).verdict == EQUAL
    assert compare(0 * d, 0 * d, test=test, margin=1).verdict == EQUAL
    assert compare(d, 0 * d, test=test, margin=9).verdict == CONTRADICTED  # whatever the margin


def test_other_tests_are_exact_for_few_pairs():
    """All 2^n signs of n differences, by hand."""
    d = np.array([3.0, -1.0, 2.0, 4.0, 1.5, 2.5])
    signs = 1 - 2 * ((np.arange(64)[:, None] >> np.arange(6)) & 1)
    means = (signs * d).mean(axis=1)
    flipped = np.mean(np.abs(means) >= d.mean() - 1e-12)
    assert compare(d, 0 * d, test="sign-flip").p == pytest.approx(flipped)
    assert compare(d, 0 * d, test="sign").p == pytest.approx(2 * (1 + 6) / 64)
    ranks = np.abs(d).argsort().argsort() + 1
    sums = (signs * ranks).sum(axis=1)
    at_least = np.mean(np.abs(sums) >= abs((np.sign(d) * ranks).sum()))
    assert compare(d, 0 * d, test="wilcoxon").p == pytest.approx(at_least)


@pytest.mark.parametrize("alternative", ["less", "greater", "two-sided"])
@given(st.lists(st.integers(-4, 4), min_size=2, max_size=7))
@example([0, 0])
def test_signed_ranks_are_scipys(alternative, d):
    """With ties and zeros, for which SciPy tries all signs; more slowly."""
    d = np.array(d, float)
    p = TESTS["wilcoxon"](d, alternative)
    if not d.any():
        assert p == 1
        return
    exact = PermutationMethod(n_resamples=math.inf)
    assert p == pytest.approx(wilcoxon(d, alternative=alternative, method=exact).pvalue)


@pytest.mark.parametrize(
    ("difference", "verdict"), [(-0.5, SUPPORTED), (0.5, CONTRADICTED), (0.0, INCONCLUSIVE)]
)
@pytest.mark.parametrize("test", TESTS)
def test_equal_differences(difference, verdict, test):
    """Six equal signs are as likely as two in 64, by every test; five decide nothing."""
    second = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    p = 2 / 64 if difference else 1.0
    expected = (difference, 0, difference, difference, 6, p, verdict, None)
    assert compare(second + difference, second, test=test) == expected
    assert compare(second[:5] + difference, second[:5], test=test).verdict == INCONCLUSIVE
    equal = compare(second[:5] + difference, second[:5], test=test, margin=0.6)
    assert equal.verdict == EQUAL and equal.p_equal == 1 / 32


def test_differences_that_are_equal_but_for_rounding():
    """One image of 360 in each pair: 3/360 - 2/360 and 9/360 - 8/360 are not the same float."""
    second = np.array([2, 8, 11, 17, 23, 24]) / 360
    found = compare(second + np.full(6, 1 / 360), second)
    assert np.ptp((second + 1 / 360) - second) > 0
    assert found.std == 0 and found.low == found.high == found.mean == pytest.approx(1 / 360)
    assert found.verdict == CONTRADICTED


@pytest.mark.parametrize("others", [[], [0.7, 0.3, 0.5, 0.6, 0.1, 0.2, 0.4]])
def test_rounding_alone_is_no_difference(others):
    """0.1 + 0.2 is not 0.3: in each of eight pairs, or in one of them."""
    n = 8 - len(others)
    first, second = [0.1 + 0.2] * n + others, [0.3] * n + others
    assert first != second
    found = compare(first, second, margin=0.01)
    assert (found.mean, found.p, found.verdict) == (0, 1, EQUAL)


def test_one_pair_never_decides():
    found = compare([0.1], [0.9])
    assert found.mean == pytest.approx(-0.8)
    assert np.isnan(found.std)
    assert (found.low, found.high, found.n, found.p) == (-np.inf, np.inf, 1, 1)
    assert found.verdict == TOO_FEW


def test_returns_plain_numbers():
    found = compare(np.float32([1, 2]), np.float32([3, 5]))
    assert [type(v) for v in found] == [float] * 4 + [int, float, str, type(None)]


@pytest.mark.parametrize(
    ("first", "second", "options", "message"),
    [
        ([1, 2], [1], {}, r"got \(2,\), \(1,\)"),
        ([], [], {}, r"got \(0,\)"),
        ([[1, 2]], [[1, 2]], {}, r"got \(1, 2\)"),
        (3, 3, {}, r"got \(\)"),
        ([1, np.nan], [1, 2], {}, "finite"),
        ([1, 2], [np.inf, 2], {}, "finite"),
        ([1, 2], [1, 2], {"margin": 0}, "margin must be a number > 0"),
        ([1, 2], [1, 2], {"margin": [1, 2, 3]}, r"margin must be .* > 0, or 2 of them >= 0, got"),
        ([1, 2], [1, 2], {"margin": [0, 0]}, "margin must be"),
        ([1, 2], [1, 2], {"margin": [-1, 2]}, "margin must be"),
        ([1, 2], [1, 2], {"overlap": -0.1}, "overlap must be a number >= 0"),
        (
            [1, 2],
            [1, 2],
            {"overlap": 0.1, "test": "sign"},
            "overlap must be 0 with the test 'sign'",
        ),
        ([1, 2], [1, 2], {"test": "z"}, "test must be one of 't', 'sign-flip'"),
    ],
)
def test_refusals(first, second, options, message):
    with pytest.raises(ValueError, match=message):
        compare(first, second, **options)


@given(n=st.integers(5, 30), seed=st.integers(0, 2**32), overlap=st.floats(0.01, 1))
def test_overlap_widens_as_nadeau_and_bengio_say(n, seed, overlap):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=n) + 1, rng.normal(size=n)
    found, d = compare(a, b, margin=1.5, overlap=overlap), a - b
    error = math.sqrt((1 / n + overlap) * d.var(ddof=1))
    assert found.mean == pytest.approx(d.mean())
    assert found.std / math.sqrt(n) == pytest.approx(error)
    assert (found.low, found.high) == pytest.approx(t_of.interval(0.95, n - 1, d.mean(), error))
    assert found.p == pytest.approx(2 * t_of(n - 1).sf(abs(d.mean()) / error))
    sides = (d.mean() + 1.5) / error, (1.5 - d.mean()) / error
    assert found.p_equal == pytest.approx(max(t_of(n - 1).sf(sides)))
    assert compare(a, b, margin=1.5, overlap=0.0) == compare(a, b, margin=1.5)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_as_defined(p):
    """Step down: from the smallest, as long as p_(k) < 0.05 / (n - k + 1)."""
    adjusted, n = holm(p), len(p)
    rejected = 0
    for k, value in enumerate(sorted(p)):
        if value * (n - k) >= 0.05:
            break
        rejected += 1
    assert (adjusted < 0.05).sum() == rejected
    assert (adjusted >= p).all() and (adjusted <= 1).all()
    assert (adjusted >= false_discovery_control(p) - 1e-12).all()  # stricter than that


def test_a_corrected_family_is_holms():
    rng = np.random.default_rng(0)
    family = [compare(d, np.zeros(8), margin=1.0) for d in rng.normal(0.4, 0.8, (12, 8))]
    few = compare([1.0, 2.0], [2.0, 3.0], margin=1.0)
    found = corrected([*family[:5], few, *family[5:]])
    assert found.pop(5) == few  # it is not tested, and so it is not counted
    p = holm([c.p for c in family])
    equal = holm([c.p_equal for c in family])
    assert [c.p for c in found] == p.tolist() and [c.p_equal for c in found] == equal.tolist()
    for one, new in zip(family, found, strict=True):
        assert new[:5] == one[:5]
        decided = SUPPORTED if new.mean < 0 else CONTRADICTED
        expected = EQUAL if new.p_equal < 0.05 else INCONCLUSIVE
        assert new.verdict == (decided if new.p < 0.05 else expected)
    assert [c.verdict for c in family] != [c.verdict for c in found]
    assert corrected([]) == []


@given(n=st.integers(5, 30), seed=st.integers(0, 2**32), margin=st.floats(0.1, 3))
def test_equality_has_the_p_value_of_two_one_sided_tests(n, seed, margin):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=n), rng.normal(size=n)
    below = ttest_rel(a - margin, b, alternative="less").pvalue
    above = ttest_rel(a + margin, b, alternative="greater").pvalue
    assert compare(a, b, margin=margin).p_equal == pytest.approx(max(below, above), abs=1e-12)


def test_a_margin_in_percent_is_of_the_rival():
    of = Equality(0.02, "why", relative=True).of
    assert of([4.0, -6.0]) == pytest.approx([0.08, 0.12]) and of([0.0, 0.0]) is None
    assert Equality(0.02, "why").of([4.0, 6.0]) == 0.02


def test_a_margin_in_percent_is_not_that_of_a_sample():
    """At its edge the tests are false once in twenty, though the rivals scatter by 15 %."""
    rng = np.random.default_rng(0)
    of, false = Equality(0.1, "", relative=True).of, 0
    for _ in range(SIMULATED):
        rival = rng.normal(1, 0.15, 5)
        first = 1.1 * rival + rng.normal(0, 0.01, 5)  # both scatter together
        false += compare(first, rival, margin=of(rival)).p_equal < 0.05
    assert within(false, 0.05)


def test_what_is_there_need_not_matter():
    d = np.array([0.11, 0.1, 0.09, 0.1, 0.12])
    assert compare(d, 0 * d, margin=1.0).text == f"{CONTRADICTED}, within m"
    assert compare(-d, 0 * d, margin=1.0).text == f"{SUPPORTED}, within m"
    assert compare(d, 0 * d, margin=0.1).text == compare(d, 0 * d).text == CONTRADICTED
    assert compare(0 * d, 0 * d, margin=1.0).text == EQUAL


def test_what_has_no_margin_is_not_in_the_family_of_equalities():
    d = np.array([0.3, -0.2, 0.25, -0.1, 0.05])
    one, other = compare(d, 0 * d, margin=0.5), compare(d, 0 * d)
    assert corrected([one, *[other] * 9])[0].p_equal == one.p_equal
    assert corrected([other])[0].p_equal is None


SIMULATED = 2_000


def simulated(n, shift=0.0, seed=0):
    return np.random.default_rng([seed, n]).normal(shift, 1.0, (SIMULATED, n))


def within(count, probability, sigmas=4):
    spread = sigmas * math.sqrt(SIMULATED * probability * (1 - probability))
    return abs(count - SIMULATED * probability) <= spread


@pytest.mark.parametrize("n", [5, 10])
def test_intervals_cover_and_verdicts_are_false_as_often_as_they_say(n):
    zero = np.zeros(n)
    found = [compare(d, zero) for d in simulated(n, shift=0.3)]
    assert within(sum(c.low <= 0.3 <= c.high for c in found), 0.95)
    found = [compare(d, zero).verdict for d in simulated(n)]
    assert within(found.count(SUPPORTED), 0.025)
    assert within(found.count(CONTRADICTED), 0.025)


@pytest.mark.parametrize("n", [5, 10])
def test_what_differs_by_the_margin_is_called_equal_once_in_twenty_at_most(n):
    at_the_margin = [compare(d, np.zeros(n), margin=3.0).verdict for d in simulated(n, 3.0)]
    assert at_the_margin.count(EQUAL) <= 0.05 * SIMULATED
    equal = [compare(d, np.zeros(n), margin=3.0).verdict for d in simulated(n)]
    assert equal.count(EQUAL) > 0.9 * SIMULATED


def test_holm_keeps_a_family_of_true_hypotheses_at_five_percent():
    p = np.array([compare(d, np.zeros(6)).p for d in simulated(6)]).reshape(-1, 10)
    rejected = sum((holm(family) < 0.05).any() for family in p)
    assert rejected <= 0.05 * len(p) + 4 * math.sqrt(len(p) * 0.05 * 0.95)
    assert sum((family < 0.05).any() for family in p) > 0.25 * len(p)  # without it


def test_holm_calls_nothing_equal_in_a_family_that_differs_by_the_margin():
    """Five hypotheses of a difference m: with probability 0.95 none of them is called equal."""
    drawn = simulated(10, 1.5).reshape(-1, 5, 10)
    families = [[compare(d, np.zeros(10), margin=1.5) for d in five] for five in drawn]
    plain = sum(any(c.p_equal < 0.05 for c in family) for family in families)
    adjusted = sum(any(c.p_equal < 0.05 for c in corrected(family)) for family in families)
    n = len(families)
    assert plain > 0.15 * n  # 1 - 0.95^5 is 0.23
    assert adjusted <= 0.05 * n + 4 * math.sqrt(n * 0.05 * 0.95)


@pytest.mark.parametrize("n", [5, 10])
@pytest.mark.parametrize("true", [0.0, 0.01])
def test_intervals_cover_differences_of_errors(n, true):
    """As they are: counts of 360 images, from seeds of which some are unlucky with both methods."""
    rng = np.random.default_rng([n, 5])
    error = 0.03 * np.exp(rng.normal(0, 0.2, (SIMULATED, n)))
    lucky = rng.normal(0, 0.003, (SIMULATED, n))
    first, second = rng.binomial(360, (error + true + lucky).clip(0)), rng.binomial(360, error)
    found = [compare(a, b, margin=0.01) for a, b in zip(first / 360, second / 360, strict=True)]
    assert within(sum(c.low <= true <= c.high for c in found), 0.95)
    false = {0.0: (SUPPORTED, CONTRADICTED), 0.01: (SUPPORTED, EQUAL)}[true]
    few = 0.05 * SIMULATED + 4 * math.sqrt(SIMULATED * 0.05 * 0.95)
    assert sum(c.verdict in false for c in found) <= few


def test_holm_in_a_family_of_all_kinds():
    """Three without a difference, two that differ by the margin, three by a lot: with probability
    0.95 no false difference is found, and with 0.95 no false equality; what differs a lot is."""
    shifts = np.array([0, 0, 0, 1.5, -1.5, 4, 4, -4])
    drawn = np.random.default_rng(3).normal(0, 1, (SIMULATED // 2, 8, 10)) + shifts[:, None]
    families = [
        corrected([compare(d, np.zeros(10), margin=1.5) for d in family]) for family in drawn
    ]
    few = 0.05 * len(families) + 4 * math.sqrt(len(families) * 0.05 * 0.95)
    assert sum(any(c.p < 0.05 for c in family[:3]) for family in families) <= few
    assert sum(any(c.p_equal < 0.05 for c in family[3:]) for family in families) <= few
    far = [[c.verdict for c in family[5:]] for family in families]
    assert far.count([CONTRADICTED, CONTRADICTED, SUPPORTED]) > 0.99 * len(families)


@pytest.mark.parametrize("test", ["sign", "wilcoxon"])
def test_other_tests_are_false_as_seldom_as_they_say(test):
    found = [compare(d, np.zeros(8), test=test).verdict for d in simulated(8)]
    false = found.count(SUPPORTED) + found.count(CONTRADICTED)
    assert false <= 0.05 * SIMULATED + 4 * math.sqrt(SIMULATED * 0.05 * 0.95)


@pytest.mark.parametrize("n", [5, 10])
def test_what_is_detectable_is_found_four_times_in_five(n):
    unit = compare(np.array([1.0, -1.0] * (n // 2) + [0.0] * (n % 2)), np.zeros(n))
    shift = detectable(unit) / unit.std
    found = [compare(d, np.zeros(n)).verdict for d in simulated(n, shift)]
    assert within(found.count(CONTRADICTED), 0.8)
    assert detectable(compare([1.0], [2.0])) == math.inf


@given(st.floats(0.01, 2), st.floats(0.1, 3))
def test_so_many_pairs_are_needed(difference, std):
    n = pairs_needed(difference, std)
    unit = compare([1, 2], [1, 2])._replace(std=std)
    assert detectable(unit._replace(n=n)) <= difference
    assert n == 5 or detectable(unit._replace(n=n - 1)) > difference


def test_pairs_for_no_difference_are_refused():
    with pytest.raises(ValueError, match="difference must not be 0"):
        pairs_needed(0, 1)


# Seeds that split the same examples anew --------------------------------------------------------


def resampled(n, mean, pools=SIMULATED):
    """A pool of 60 numbers, split 3:1:1 by each of n seeds. One method predicts the mean of its 36
    training numbers, its rival 0: the differences of their squared errors on 12 test numbers, and
    their true mean over all splits of the pool, and over new pools.
    """
    rng = np.random.default_rng([n, 7])
    pool = rng.normal(mean, 1.0, (pools, 60))
    x = rng.permuted(np.repeat(pool[:, None], n, axis=1), axis=2)
    predicted, of_test = x[..., :36].mean(-1), x[..., 48:].mean(-1)
    center, variance = pool.mean(1), pool.var(1, ddof=1)
    of_pool = variance * (1 / 36 + 1 / 60) - center**2
    return predicted**2 - 2 * predicted * of_test, of_pool, 1 / 36 - mean**2


@pytest.mark.parametrize("n", [5, 10])
def test_seeds_that_split_the_same_examples(n):
    """Their interval covers the mean over all splits of these; that for new examples needs the
    correction: without it the interval is the less true, the more seeds there are."""
    differences, of_pool, of_new = resampled(n, mean=0.5)
    plain = [compare(d, np.zeros(n)) for d in differences]
    wide = [compare(d, np.zeros(n), overlap=12 / 36) for d in differences]
    assert within(sum(c.low <= m <= c.high for c, m in zip(plain, of_pool, strict=True)), 0.95)
    assert sum(c.low <= of_new <= c.high for c in plain) < (0.87 if n == 5 else 0.75) * SIMULATED
    assert within(sum(c.low <= of_new <= c.high for c in wide), 0.95)


def test_splits_that_overlap_find_no_differences_that_new_examples_lack():
    """Of methods that are equal on new examples, and of those that differ by the margin."""
    differences, _, of_new = resampled(10, mean=1 / 6)
    assert of_new == pytest.approx(0)
    plain = [compare(d, np.zeros(10)).verdict for d in differences]
    wide = [compare(d, np.zeros(10), overlap=12 / 36).verdict for d in differences]
    assert plain.count(INCONCLUSIVE) < 0.87 * SIMULATED
    assert wide.count(INCONCLUSIVE) >= 0.95 * SIMULATED
    differences, _, of_new = resampled(10, mean=0.5)
    m = {"margin": -of_new}
    plain = [compare(d, np.zeros(10), **m).p_equal < 0.05 for d in differences]
    wide = [compare(d, np.zeros(10), **m, overlap=12 / 36).p_equal < 0.05 for d in differences]
    assert sum(plain) > 0.15 * SIMULATED and sum(wide) <= 0.07 * SIMULATED
