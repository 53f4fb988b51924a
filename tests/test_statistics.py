"""Paired comparisons, against SciPy's paired t-test and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from proxquant_np.experiments.statistics import compare

UNDECIDED = "inconclusive at this scale"


@given(n=st.integers(2, 30), seed=st.integers(0, 2**32), shift=st.floats(-3, 3))
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
    decided = found.verdict != UNDECIDED
    assert decided == (test.pvalue < 0.05)
    assert not decided or (found.verdict == "supported") == (found.mean < 0)


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([-3, -2, -4, -3], "supported"),
        ([3, 2, 4, 3], "contradicted"),
        ([-3, 2, -4, 3], UNDECIDED),
        ([-1, -5], UNDECIDED),  # all on one side, but only two
    ],
)
def test_verdicts(differences, verdict):
    other = np.array([10.0, 20.0, 5.0, 7.0])[: len(differences)]
    assert compare(other + differences, other).verdict == verdict
    swapped = {"supported": "contradicted", "contradicted": "supported"}
    assert compare(other, other + differences).verdict == swapped.get(verdict, verdict)


@pytest.mark.parametrize(
    ("difference", "verdict"), [(-0.5, "supported"), (0.5, "contradicted"), (0.0, UNDECIDED)]
)
def test_equal_differences(difference, verdict):
    first = [1.0 + difference, 2.0 + difference, 4.0 + difference]
    assert compare(first, [1, 2, 4]) == (difference, 0, difference, difference, 3, verdict)


def test_differences_that_are_equal_but_for_rounding():
    """One image of 360 in each pair: 3/360 - 2/360 and 9/360 - 8/360 are not the same float."""
    second = np.array([2, 8, 11, 17]) / 360
    found = compare(second + np.array([1, 1, 1, 1]) / 360, second)
    assert np.ptp((second + 1 / 360) - second) > 0
    assert found.std == 0 and found.low == found.high == found.mean == pytest.approx(1 / 360)


def test_one_pair_never_decides():
    found = compare([0.1], [0.9])
    assert found.mean == pytest.approx(-0.8)
    assert np.isnan(found.std)
    assert (found.low, found.high, found.n) == (-np.inf, np.inf, 1)
    assert found.verdict == UNDECIDED


def test_returns_plain_numbers():
    found = compare(np.float32([1, 2]), np.float32([3, 5]))
    assert [type(v) for v in found] == [float] * 4 + [int, str]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([1, 2], [1], r"got \(2,\), \(1,\)"),
        ([], [], r"got \(0,\)"),
        ([[1, 2]], [[1, 2]], r"got \(1, 2\)"),
        (3, 3, r"got \(\)"),
        ([1, np.nan], [1, 2], "finite"),
        ([1, 2], [np.inf, 2], "finite"),
    ],
)
def test_refusals(first, second, message):
    with pytest.raises(ValueError, match=message):
        compare(first, second)
