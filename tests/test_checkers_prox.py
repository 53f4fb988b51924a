"""The checker of the prox property test, checked: planted wrong prox maps must all be caught.

Each is a mistake that is easily made, and most have been published.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from prox_strategies import fixed_regularizers, strengths, weights

from proxquant_np.prox import BinaryL1, BinaryL2, LevelsL1, LevelsL2, sign_pm
from proxquant_np.prox.brute_force import objective, prox_fault, search_prox, threshold_codes

THREE = (-1.0, 0.0, 1.0)
UNEVEN = (-1.0, 0.0, 0.25, 2.0)


def nearest(x, levels):
    levels = np.array(levels, x.dtype)
    return levels[np.searchsorted((levels[:-1] + levels[1:]) / 2, x, side="right")]


def l1(x, q, s):
    return np.minimum(np.maximum(q, x - x.dtype.type(s)), x + x.dtype.type(s))


def l2(x, q, s):
    return ((x + s * q) / (1 + s)).astype(x.dtype)


def in_place(x, s):
    x[...] = BinaryL1().prox(x, s)
    return x


WRONG = {
    "sign(0) = 0": (BinaryL1(), lambda x, s: l1(x, np.sign(x), s)),
    "sign(0) = 0, squared": (BinaryL2(), lambda x, s: l2(x, np.sign(x), s)),
    "sign(0) = -1": (BinaryL1(), lambda x, s: l1(x, np.where(x > 0, 1, -1).astype(x.dtype), s)),
    "sign(-0.0) = -1": (BinaryL1(), lambda x, s: l1(x, np.copysign(1, x).astype(x.dtype), s)),
    "no clip: steps over the level": (BinaryL1(), lambda x, s: x + s * np.sign(sign_pm(x) - x)),
    "projects at any strength": (BinaryL1(), lambda x, s: sign_pm(x) if s else x),
    "ignores the strength": (BinaryL1(), lambda x, s: l1(x, sign_pm(x), min(s, 0.1))),
    "strength doubled": (BinaryL1(), lambda x, s: l1(x, sign_pm(x), 2 * s)),
    "strength doubled, squared": (BinaryL2(), lambda x, s: l2(x, sign_pm(x), 2 * s)),
    "R without its 1/2": (LevelsL2(THREE), lambda x, s: l2(x, nearest(x, THREE), 2 * s)),
    "no division": (BinaryL2(), lambda x, s: x + s * sign_pm(x)),
    "gradient step instead of prox": (BinaryL2(), lambda x, s: x - s * (x - sign_pm(x))),
    "shrinks towards zero": (BinaryL1(), lambda x, s: l1(x, np.zeros_like(x), s)),
    "pushes away from the level": (BinaryL1(), lambda x, s: x + np.clip(x - sign_pm(x), -s, s)),
    "clips to [-1, 1] afterwards": (BinaryL1(), lambda x, s: BinaryL1().prox(x, s).clip(-1, 1)),
    "leaves |x| > 1 alone": (
        BinaryL1(),
        lambda x, s: np.where(np.abs(x) > 1, x, BinaryL1().prox(x, s)),
    ),
    "greedy, not nearest": (
        LevelsL1(UNEVEN),
        lambda x, s: l1(x, np.array(UNEVEN, x.dtype)[np.searchsorted(UNEVEN[1:], x, "right")], s),
    ),
    "evenly spaced thresholds": (
        LevelsL1(UNEVEN),
        lambda x, s: l1(x, np.array(UNEVEN, x.dtype)[np.digitize(x, [-0.25, 0.5, 1.25])], s),
    ),
    "tie to the lower level": (
        LevelsL1(THREE),
        lambda x, s: l1(x, np.array(THREE, x.dtype)[np.searchsorted([-0.5, 0.5], x, "left")], s),
    ),
    "tie to the even level": (LevelsL1(THREE), lambda x, s: l1(x, np.rint(x).clip(-1, 1), s)),
    "misses the level by rounding": (
        LevelsL1([-0.7, 0.7]),
        lambda x, s: x - np.clip(x - nearest(x, [-0.7, 0.7]), -s, s),
    ),
    "modifies its input": (BinaryL1(), in_place),
    "float64 whatever came": (BinaryL1(), lambda x, s: BinaryL1().prox(x, s).astype(np.float64)),
    "flattens": (BinaryL1(), lambda x, s: BinaryL1().prox(x, s).reshape(-1)),
    "NaN at zero": (
        BinaryL1(),
        lambda x, s: np.where(x == 0, np.nan, BinaryL1().prox(x, s)).astype(x.dtype),
    ),
    "moves at strength zero": (BinaryL2(), lambda x, s: BinaryL2().prox(x, s or 1e-3)),
}


FORM = {  # what is said of the mistakes that no objective value shows
    "sign(0) = -1": "wrong tie",
    "sign(-0.0) = -1": "wrong tie",
    "tie to the lower level": "wrong tie",
    "tie to the even level": "wrong tie",
    "modifies its input": "input was modified",
    "float64 whatever came": "has dtype float64",
    "flattens": "the result has shape",
    "NaN at zero": "holds NaN",
    "moves at strength zero": "strength 0 changed the weights",
}


@pytest.mark.parametrize("mistake", WRONG)
def test_planted_mistakes_are_caught(mistake):
    """Hypothesis finds a weight array and a strength at which the checker says what is wrong."""
    regularizer, prox = WRONG[mistake]

    def caught(case):
        x, s = case
        # Of a single weight some of the above return a number, which is another mistake.
        fault = prox_fault(lambda x, s: np.asarray(prox(x, s)), regularizer, x.copy(), s)
        return fault is not None and FORM.get(mistake, "not optimal") in fault

    search = settings(max_examples=2000, database=None, phases=[Phase.generate])
    find(st.tuples(weights(), strengths()), caught, settings=search)  # raises if there is none


@pytest.mark.parametrize(
    ("prox", "complaint"),
    [
        (in_place, "input was modified"),
        (lambda x, s: x.astype(np.float64), "dtype float64"),
        (lambda x, s: x[:1], "shape"),
        (lambda x, s: x * np.float32(np.nan), "NaN"),
        (lambda x, s: x, "not optimal"),
        (lambda x, s: -BinaryL1().prox(-x, s), "wrong tie"),
    ],
)
def test_the_checker_says_what_is_wrong(prox, complaint):
    x = np.array([0.0, 0.5], np.float32)
    assert complaint in prox_fault(prox, BinaryL1(), x, 0.25)
    assert "strength 0" in prox_fault(lambda x, s: x + 1, BinaryL1(), x, 0)
    half, down = np.array([0.5]), lambda x, s: x - s
    assert "wrong tie: 0.5" in prox_fault(down, LevelsL1([0, 1]), half, 0.25)


@given(fixed_regularizers(), weights(), strengths())
def test_the_search_finds_what_the_closed_form_gives(r, w, s):
    """`prox_fault` only asks that a prox is no worse than the search, so that one must be good.

    It ends within 1e-8 of the minimiser, of one that has neighbours of its dtype so near.
    """
    found, exact = search_prox(r, w, s), r.prox(w, s)
    for x, u, best in zip(w.flat, found.flat, exact.flat, strict=True):
        got, least = (objective(r, np.array([v]), x, s) for v in (u, best))
        assert got <= least + (4 + s) * 8 * (1e-8 + np.finfo(w.dtype).eps)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_an_error_of_rounding_is_no_fault_whatever_the_size(size):
    """Of weights below 1 the rounding of 1 counts: their own may be lost in the value of R."""
    r, x = LevelsL1([-size, size]), np.array([0.4 * size], np.float32)

    def off_by(ulps):
        error = np.float32(ulps * np.spacing(np.float32(max(size, 1))))
        return prox_fault(lambda x, s: r.prox(x, s) + error, r, x, 0.7 * size)

    assert off_by(1) is None
    assert size < 1 or "not optimal" in off_by(1000)


def test_codes_by_threshold():
    w = np.array([0.5, -2.0, 1.0])
    ternary, one_bit, two_bits = (list(threshold_codes(w, n)) for n in (0, 1, 2))
    assert [b.ravel().tolist() for b in ternary] == [[1, -1, 1], [0, -1, 1], [0, -1, 0]]
    assert [b.ravel().tolist() for b in one_bit] == [[1, -1, 1]] * 3
    assert [b[:, 1].tolist() for b in two_bits] == [[1, -1, 1], [-1, -1, 1], [-1, -1, -1]]
    assert all((b[:, 0] == [1, -1, 1]).all() for b in two_bits)
