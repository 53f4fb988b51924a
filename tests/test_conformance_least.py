"""The least squared error of scaled grids against all codes, and what reports say with it."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import proxquant_np as pq
from proxquant_np.conformance.least import excess, least_error, least_error_for_powers
from proxquant_np.prox import (
    Affine,
    CentredBinary,
    Codebook,
    DoReFa,
    FixedPoint,
    Integers,
    PowersOfTwo,
    Rounded,
    Ternary,
)

GRIDS = [[-1, 0, 1], [-2, -1, 0, 1], [-1, 1], [-3, -1, 1, 3], [0, 1, 2], [-1.5, -0.5, 2], [1, 3]]
sixteenths = st.integers(-40, 40).map(lambda i: i / 16)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@given(w=st.lists(sixteenths, min_size=1, max_size=4))
def test_the_least_error_is_that_of_all_codes(grid, w):
    w = np.array(w)
    errors = [np.square(w).sum()]
    for code in map(np.array, product(grid, repeat=len(w))):
        a = max(code @ w / (code @ code), 0) if code.any() else 0
        errors.append(np.square(w - a * code).sum())
    assert least_error(w, grid) == pytest.approx(min(errors), abs=1e-12)
    if -min(grid) == max(grid):
        q = [2.0**k * np.array(grid) for k in range(-9, 9)]
        each = [np.square(w[:, None] - levels).min(axis=1).sum() for levels in q]
        assert not w.any() or least_error_for_powers(w, grid) == pytest.approx(min(each))


def test_it_is_our_exact_ternary_projection():
    w = np.random.default_rng(0).normal(size=512)
    exact = np.square(Ternary(symmetric=True).project(w) - w).sum()
    assert least_error(w, [-1, 0, 1]) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize(
    "rule",
    [
        Integers(8),
        Integers(4, axis=0),
        Integers(4, axis=-1),
        Integers(4, block=32),
        Integers(4, block=1000),
        Integers(4, scale="least_squares"),
        Integers(2, scale="mean", axis=0),
        Affine(4, axis=1),
        Codebook("nf4", block=64),
        Codebook("e4m3"),
        Codebook("e2m1", "power", block=32),
        PowersOfTwo(4),
        CentredBinary(axis=0),
        DoReFa(2),
        FixedPoint(4, 2, "wrap"),
        Rounded((-1, 0, 1), "zero", (-0.25, 0.25)),
    ],
    ids=repr,
)
def test_every_heuristic_says_by_how_much_it_misses(rule):
    gaps = excess(rule)
    assert len(gaps) == 3 and all(gap >= 0 for gap in gaps.values()) and any(gaps.values())
    if not isinstance(rule, Affine):
        assert all(name.startswith("the least") for name in gaps)
    report = pq.conformance.check_quantizer(rule.quantize, rule, dtypes=["float32"])
    assert report.verdict == "right" and report.gaps == gaps and "in squared error" in str(report)


def test_what_goes_to_the_nearest_of_given_levels_misses_nothing():
    assert excess(FixedPoint(4, 2)) == excess(Rounded((-1, 0, 1))) == {}
