"""Stochastic rounding by others: right ones pass, every seed; planted faults are named."""

import math

import numpy as np
import pytest

import proxquant_np as pq
from proxquant_np.conformance import references
from proxquant_np.prox import (
    Affine,
    Binary,
    Codebook,
    FixedPoint,
    Integers,
    Levels,
    stochastic_round,
)

kit = pq.conformance
RNG = np.random.default_rng(0)

SETS = [
    Integers(4),
    Integers(8),
    Integers(4, axis=0),
    Integers(4, axis=-1),
    Integers(4, block=16),
    Integers(4, "full", divisor=8),
    Integers(2, scale="mean"),
    Affine(4),
    Codebook("e2m1", block=32),
    Codebook("e2m1", "power", block=32),
    Codebook("e4m3"),
    FixedPoint(4, 2),
    Levels([-1, 0, 0.25, 2]),
    Binary(),
]


@pytest.mark.parametrize("q", SETS, ids=repr)
def test_our_own_passes(q):
    report = kit.check_stochastic(lambda w, rng: stochastic_round(w, q, rng), q)
    assert report.verdict == "right", f"\n{report}"


def test_the_report_says_what_chance_costs():
    q = Integers(4)
    report = kit.check_stochastic(lambda w, rng: stochastic_round(w, q, rng), q)
    gaps = [gap for name, gap in report.gaps.items() if name.startswith("the nearest levels")]
    assert len(gaps) == 3 and all(0.5 < gap < 1.5 for gap in gaps)  # half to once as much again
    assert "a right one fails in 1e-06 of all checks at most" in str(report)


# Right ones in other styles


def rounding(up=lambda y, u: np.floor(y + u), draw=lambda shape: RNG.random(shape), last=7):
    """Four bits, absmax: up(y, u) are codes, of weights in steps and of what is drawn."""

    def fn(w):
        a = np.abs(w).max() / last or 1
        return (np.clip(up(w / a, draw(w.shape)), -last, last) * a).astype(w.dtype)

    return fn


def in_a_loop(w):
    a = float(np.abs(w).max()) / 7 or 1.0
    codes = []
    for x in w.ravel().tolist():
        k = math.floor(x / a)
        codes.append(k + (RNG.random() < x / a - k))
    return np.array([min(max(k, -7), 7) * a for k in codes], w.dtype).reshape(w.shape)


RIGHT = {
    "floor": rounding(),
    "round": rounding(lambda y, u: np.round(y + u - 0.5)),
    "by sign": rounding(lambda y, u: np.copysign(np.floor(np.abs(y) + u), y)),
    "loop": in_a_loop,
    "codes": lambda w: (
        np.clip(np.floor(w / (np.abs(w).max() / 7 or 1) + RNG.random(w.shape)), -7, 7).astype(int),
        np.abs(w).max() / 7 or 1,
    ),
}


@pytest.mark.parametrize("style", RIGHT)
def test_right_ones_pass(style):
    report = kit.check_stochastic(RIGHT[style], Integers(4))
    assert report.verdict == "right", f"\n{report}"


def test_right_ones_in_torch_pass():
    torch = pytest.importorskip("torch")

    def fn(w):
        a = w.abs().max() / 7
        a = torch.where(a > 0, a, 1)
        return (w / a + torch.rand_like(w)).floor().clamp(-7, 7) * a

    def by_bernoulli(w):
        return torch.bernoulli((w.clamp(-1, 1) + 1) / 2) * 2 - 1

    assert kit.check_stochastic(kit.from_torch(fn), Integers(4))
    assert kit.check_stochastic(kit.from_torch(by_bernoulli), Levels([-1, 1]))


def test_a_right_one_passes_whatever_it_draws():
    for seed in range(100):
        rng = np.random.default_rng(seed)
        fn = rounding(draw=rng.random)
        assert kit.check_stochastic(fn, Integers(4), dtypes=["float32"]), seed


# Planted faults

WRONG = [
    (rounding(lambda y, u: np.round(y)), "not random", "to the nearest level"),
    (rounding(lambda y, u: np.floor(y + 0.5)), "not random", "to the nearest level"),
    (rounding(lambda y, u: np.floor(y)), "not random", "down: floor"),
    (rounding(lambda y, u: np.trunc(y)), "not random", "towards 0"),
    (rounding(lambda y, u: np.ceil(y - (u < 0.5) * (y % 1 > 0))), "biased", "equally likely"),
    (
        rounding(lambda y, u: np.floor(y) + (u > y % 1) * (y % 1 > 0)),
        "biased",
        "the probability of going down",
    ),
    (
        rounding(lambda y, u: np.trunc(y) + (u < y - np.trunc(y))),
        "biased",
        "by a cast, not by floor",
    ),
    (
        rounding(draw=lambda shape: RNG.integers(0, 8, shape) / 8),
        "biased",
        "8 values only, of 3 random bits",
    ),
    (rounding(lambda y, u: np.floor(y + 1.05 * u)), "biased", "of its draws, not in"),
    (rounding(lambda y, u: np.round(y + u)), "not a neighbour", "half a step up"),
    (rounding(lambda y, u: np.floor(y + u - 0.5)), "not a neighbour", "half a step down"),
    (rounding(draw=lambda shape: RNG.random()), "not independent", "the whole tensor"),
    (
        rounding(draw=lambda shape: RNG.random((*shape[:-1], 1))),
        "not independent",
        "all weights of a row",
    ),
    (
        rounding(draw=lambda shape: RNG.random(shape[-1:])),
        "not independent",
        "all weights of a column",
    ),
    (
        rounding(draw=lambda shape: np.random.default_rng(0).random(shape)),
        "not independent",
        "seeded, in the call",
    ),
    (lambda w: rounding()(w) / 2, "factor of two", "half as large"),
    (rounding(last=3), "wrong range", "codes of 3 bits"),
    (lambda w: w.copy(), "not a neighbour", "not to a neighbouring level"),
    (lambda w: rounding()(w).astype(np.float64), "dtype changed", ""),
]


@pytest.mark.parametrize(("fn", "convention", "words"), WRONG)
def test_planted_faults_are_named(fn, convention, words):
    report = kit.check_stochastic(fn, Integers(4))
    assert report.verdict == "wrong" and report.convention == convention, f"\n{report}"
    assert words in report.fault.detail, f"\n{report}"


def test_two_calls_with_the_same_draws():
    calls = []

    def every_second(w):
        if len(calls) % 2 == 0:
            calls.append(np.random.default_rng(len(calls)))
        else:
            calls.append(np.random.default_rng(len(calls) - 1))
        return rounding(draw=calls[-1].random)(w)

    report = kit.check_stochastic(every_second, Integers(4))
    assert report.convention == "not independent" and "two calls" in report.fault.detail


def test_one_scale_for_all_rows():
    report = kit.check_stochastic(rounding(), Integers(4, axis=0))
    assert report.convention == "wrong reduction" and "one scale" in report.fault.detail


def test_the_definition_is_that_of_the_golden_vectors():
    for name, entry in kit.vectors.table("stochastic.json").items():
        q = pq.prox.parse(entry["definition"])
        for case in entry["cases"]:
            w = np.array(case["w"])
            found = kit.judge_of_chance.neighbours(q, w)
            for got, key in zip(found, ("low", "high", "p"), strict=True):
                assert got == pytest.approx(np.array(case[key]), abs=1e-14 * max(map(abs, w))), name


def test_golden_cases_are_the_definition_in_fractions():
    assert [str(x) for x in references.by_chance([references.Fraction(1, 4)], [-1, 0, 1])[0]] == [
        "0",
        "1",
        "1/4",
    ]


def test_mistakes_are_told():
    with pytest.raises(TypeError, match="definition must be a QuantizedSet, got 'absmax'"):
        kit.check_stochastic(rounding(), "absmax")
    with pytest.raises(TypeError, match="fn must be a function"):
        kit.check_stochastic(3, Integers(4))
    report = kit.check_stochastic(lambda w: None, Integers(4))
    assert report.verdict == "misuse"
