"""Sets with a published rule: their quantize against the definition in plain Python, exactly."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import proxquant_np as pq
from proxquant_np import prox
from proxquant_np.conformance import references
from proxquant_np.prox import (
    Affine,
    CentredBinary,
    Codebook,
    DoReFa,
    FixedPoint,
    Integers,
    PowersOfTwo,
    Rounded,
)
from proxquant_np.prox.codebook import codebook

TIES = ("up", "down", "even", "away", "zero")


def exact(values):
    return [Fraction(v) for v in values]


def integers(q):
    return lambda w: references.integers(w, q.n_bits, q.range == "full", q.scale, q.ties, q.divisor)


def floats(q):
    values = exact(codebook(q.format).tolist())
    return lambda w: references.codebook(w, values, q.scale == "power", q.ties)


def rounded(q):
    cuts = None if q.thresholds is None else exact(q.thresholds)
    return lambda w: references.rounded(w, exact(q.values), cuts, q.ties)


DEFINITIONS = {
    Integers: integers,
    Affine: lambda q: lambda w: references.affine(w, q.n_bits, q.ties),
    Codebook: floats,
    PowersOfTwo: lambda q: lambda w: references.powers_of_two(w, q.n, q.zero, q.ties),
    DoReFa: lambda q: lambda w: references.dorefa(w, q.n_bits),
    CentredBinary: lambda q: lambda w: references.centred_binary(w, q.scale, q.ties),
    Rounded: rounded,
    FixedPoint: lambda q: (
        lambda w: references.fixed_point(w, q.n_bits, q.fraction, q.overflow == "wrap", q.ties)
    ),
}
RULES = [
    *(Integers(b, ties=t) for b in (2, 4) for t in TIES),
    Integers(8),
    Integers(3, range="full"),
    Integers(4, range="full", divisor=8),
    Integers(4, range="full", divisor=7.5),
    Integers(2, scale="mean"),
    Integers(2, scale="median", ties="away"),
    Integers(4, range="full", scale="mean"),
    *(Affine(b, ties=t) for b in (1, 3) for t in TIES),
    Affine(8),
    Codebook("nf4", ties="down"),
    *(Codebook("e2m1", scale=s, ties=t) for s in ("max", "power") for t in TIES),
    Codebook("e4m3", scale="power"),
    Codebook("e5m2"),
    *(PowersOfTwo(3, zero=z, ties=t) for z in (True, False) for t in TIES[3:]),
    DoReFa(2),
    DoReFa(4),
    *(CentredBinary(s, t) for s in ("mean", "centred") for t in TIES[:2]),
    *(Rounded((-1.0, 0.0, 1.0), t) for t in TIES),
    *(Rounded((-1.0, 0.0, 2.0), t, (-0.25, 0.5)) for t in ("up", "down", "away", "zero")),
    *(FixedPoint(4, 2, o, t) for o in ("saturate", "wrap") for t in TIES),
    FixedPoint(3, -1),
]
# Eighths, which float32 holds exactly, with the scales of small whole numbers: many ties.
numbers = st.one_of(st.integers(-8, 8), st.integers(-64, 64).map(lambda i: i / 8))
weights = st.lists(numbers, min_size=1, max_size=6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("q", RULES, ids=repr)
@given(w=weights)
def test_the_rule_is_the_definition_in_plain_python(q, dtype, w):
    expected = [float(x) for x in DEFINITIONS[type(q)](q)(exact(w))]
    got = q.quantize(np.array(w, dtype))
    top = max(map(abs, [*w, *expected, 1.0]))
    wrong = np.abs(got - expected) > 8 * np.finfo(dtype).eps * top
    for i in np.flatnonzero(wrong):  # a scale that is no short number may round a tie either way
        assert abs(abs(got[i] - w[i]) - abs(expected[i] - w[i])) <= 8 * np.finfo(dtype).eps * top
        assert not dyadic_scale(q, w)


def dyadic_scale(q, w):
    """Whether the step between levels is a short number, so that ties are exact."""
    w = np.array(w, float)
    levels = q._fit(w[None])[0] if isinstance(q, prox.Rule) else q.levels(w)
    step = np.diff(levels[np.abs(levels).argsort()[:2]])[0]
    return np.frexp(step)[0] * 256 % 1 == 0 and not isinstance(q, DoReFa)


@pytest.mark.parametrize("q", RULES, ids=repr)
@given(w=weights)
def test_project_is_idempotent_and_the_rule_elsewhere(q, w):
    w = np.array(w, float)
    p = q.project(w)
    assert q.project(p).tobytes() == p.tobytes()
    changed = p.tobytes() != (q.quantize(w) + 0.0).tobytes()
    assert not changed or np.allclose(p, w, rtol=1e-12)


def test_least_squares_of_the_full_range_is_that_of_its_codes():
    """Weights on a line a c: the scale that explains them is found, and never has another sign."""
    q = Integers(3, range="full", scale="least_squares")
    for w in ([-4.0, 3.0, 2.0, -1.0], [-213.0, -241.0, -319.0], [4.1, -2.9, 0.9, 2.2]):
        codes = np.arange(-4.0, 4.0)
        a = np.abs(w).max() / 3
        for _ in range(10):
            c = np.clip(np.floor(np.array(w) / a + 0.5), -4, 3)
            a = c @ w / (c @ c)
        assert q._fit(np.array([w]))[0] == pytest.approx(a * codes, rel=1e-12)


def test_a_row_of_an_axis_or_a_block_is_a_tensor_of_its_own():
    w = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    for q in (Integers(4), Affine(4), Codebook("nf4"), DoReFa(3), CentredBinary()):
        alone = np.stack([q.quantize(row) for row in w])
        kind, given = type(q), {f: getattr(q, f) for f in q.__dataclass_fields__ if f != "axis"}
        assert (kind(**{**given, "axis": 0}).quantize(w) == alone).all()
        assert (kind(**{**given, "axis": 1}).quantize(w.T).T == alone).all()
        assert (kind(**{**given, "block": 4}).quantize(w) == alone).all()


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_no_overflow(scale):
    w = np.array([-1.0, 0.3, 1.7]) * scale
    for q in (Integers(4), Affine(8), Integers(2, scale="mean"), Codebook("e5m2"), PowersOfTwo(2)):
        got, small = q.quantize(w), q.quantize(np.array([-1.0, 0.3, 1.7]))
        if not isinstance(q, PowersOfTwo):
            assert got == pytest.approx(small * scale, rel=1e-12)
        assert np.isfinite(got).all()


def test_it_trains_packs_and_is_refused_by_l1():
    for q in (Integers(4, axis=0), Affine(4), Codebook("nf4", block=8), DoReFa(2)):
        model = pq.nn.Sequential(pq.nn.Linear(8, 4, rng=0))
        weight = next(iter(model.parameters()))
        optimizer = pq.optim.ProxGradient(
            pq.optim.SGD([weight], 0.1), [weight], prox.L2(q), prox.Linear(100.0)
        )
        for _ in range(60):
            optimizer.zero_grad()
            (weight * weight).sum().backward()
            optimizer.step()
        assert pq.training.metrics.quantization_gap(weight.data, q) < 1e-2
        codes = pq.packing.Codes.of(weight.data, q)
        assert codes.bits == {DoReFa: 2}.get(type(q), 4)
        assert (codes.array() == q.project(weight.data)).all()
        with pytest.raises(ValueError, match="no such fit"):
            prox.L1(q)
    prox.L1(Rounded([-1, 0, 1]))
    for q in (Rounded([-1, 1], "up", [0.5]), FixedPoint(4, 2, "wrap")):
        with pytest.raises(ValueError, match="exact fit by Huber"):
            prox.L1(q)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Integers(9), "n_bits must be an integer >= 2 and <= 8, got 9"),
        (lambda: Integers(4, range="wide"), "range must be one of 'narrow', 'full', got 'wide'"),
        (lambda: Integers(4, scale="l2"), "scale must be one of 'max', 'mean'"),
        (lambda: Integers(4, ties="random"), "ties must be one of 'up', 'down'"),
        (lambda: Integers(4, divisor=0), "divisor must be a number > 0"),
        (lambda: Integers(4, scale="least_squares", divisor=8), "divisor must be None"),
        (lambda: Integers(4, axis=0, block=4), "axis or block must be None"),
        (lambda: Affine(0), "n_bits must be an integer >= 1"),
        (lambda: Codebook("fp4"), "format must be one of 'nf4', 'e2m1'"),
        (lambda: Codebook("nf4", scale="power"), "scale must be 'max' for the format nf4"),
        (lambda: PowersOfTwo(0), "n must be an integer >= 1"),
        (lambda: PowersOfTwo(2, zero=2), "zero must be True or False, got 2"),
        (lambda: DoReFa(1), "n_bits must be an integer >= 2"),
        (lambda: CentredBinary(ties="even"), "ties must be one of 'up', 'down'"),
        (lambda: Rounded([-1, 0, 1], thresholds=[0.5]), "thresholds must be 2 numbers"),
        (lambda: Rounded([-1, 0, 1], "up", [0.25, 0.5]), "one between each two levels"),
        (lambda: Rounded([-1, 1], "up", ["a"]), r"thresholds must be 1 numbers.*got \['a'\]"),
        (lambda: Rounded([0], "up", ["a"]), r"thresholds must be 0 numbers.*got \['a'\]"),
        (lambda: Rounded([-1, 1], "up", [1j]), "thresholds must be 1 numbers"),
        (lambda: Rounded([-1, 0, 2]), "ties must be another than 'even'"),
        (lambda: FixedPoint(4, 2, "clip"), "overflow must be one of"),
    ],
)
def test_mistakes_are_told(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


@pytest.mark.parametrize("q", RULES, ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_largest_floats_have_finite_levels_and_pack(q, dtype):
    """A rule may want levels beyond them: the power of two above, one more step below zero."""
    most = np.finfo(dtype).max
    for w in ([most, -most], [most, most], [most, 0], [-most, 1, 0], [most]):
        w = np.array(w, dtype)
        p, levels = q.project(w), q.levels(w)
        assert np.isfinite(p).all() and np.isfinite(levels).all()
        assert (levels[1:] >= levels[:-1]).all()
        assert q.project(p).tobytes() == p.tobytes()
        assert pq.packing.Codes.of(w, q).array().tobytes() == p.tobytes()
        assert np.isfinite(prox.L2(q).prox(w, 0.5)).all()


@pytest.mark.parametrize(
    "q",
    [
        Integers(np.int64(4), axis=np.int64(0), divisor=np.float32(7.5)),
        Affine(np.uint8(3)),
        FixedPoint(np.int64(4), np.int64(2)),
        prox.MultiBit(np.int64(2), block=np.int32(2)),
        prox.Ternary(symmetric=np.True_),
    ],
    ids=["integers", "affine", "fixed point", "multibit", "ternary"],
)
def test_parameters_that_are_numpys_scalars_are_written_as_text(q):
    """They come from loops over np.arange; a checkpoint holds the text."""
    assert "np." not in repr(q)
    assert prox.parse(repr(prox.L2(q))) == prox.L2(q)


def test_an_axis_that_the_weights_lack():
    for w, axis in (([1.0, 2.0], 1), (1.0, 0), ([[1.0]], -3), ([1.0], 10**30)):
        shape = np.shape(w)
        for use in ("project", "quantize", "levels", "codes"):
            with pytest.raises(ValueError, match=rf"^axis must be one of the {len(shape)} axes"):
                getattr(Integers(4, axis=axis), use)(w)
