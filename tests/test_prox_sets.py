"""Q x distance: names are distances to sets, plain functions serve, new sets are tested."""

from __future__ import annotations

import inspect
import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from prox_strategies import (
    DISTANCES,
    SETS,
    TESTED_ELSEWHERE,
    distances,
    fixed_sets,
    strengths,
    weights,
)

import proxquant_np as pq
from proxquant_np import models, nn, optim, prox
from proxquant_np.prox.brute_force import prox_fault

NAMES = {
    prox.BinaryL1(): prox.L1(prox.Binary()),
    prox.BinaryL2(): prox.L2(prox.Binary()),
    prox.LevelsL1([-1, 0, 0.5]): prox.L1(prox.Levels([-1, 0, 0.5])),
    prox.LevelsL2([-1, 0, 0.5]): prox.L2(prox.Levels([-1, 0, 0.5])),
    prox.TernaryL1(True): prox.L1(prox.Ternary(True)),
    prox.TernaryL2(axis=0): prox.L2(prox.Ternary(axis=0)),
    prox.MultiBitL1(2): prox.L1(prox.MultiBit(2, "exact")),
    prox.MultiBitL2(3, block=1): prox.L2(prox.MultiBit(3, block=1)),
    prox.UniformL2(3, False): prox.L2(prox.Uniform(3, False)),
}
TEXTS = [
    "BinaryL1()",
    "LevelsL1(values=(-1.0, 0.5))",
    "TernaryL1(symmetric=True)",
    "TernaryL2(axis=0, projection='threshold')",
    "MultiBitL1(block=8, n_bits=2)",
    "MultiBitL2(axis=0, n_bits=2)",
    "UniformL2(n_bits=3, symmetric=False)",
    "BinaryRelax(regularizer=BinaryL1())",
    "Parq(regularizer=LevelsL1(values=(0.0, 1.0)))",
    "PublishedTernary(rounds=2)",
    "PiecewiseAffine(values=(0.0, 1.0), slopes=(0.5,))",
    "TanhMirror()",
    "L1(Binary())",
    "L2(MultiBit(n_bits=2))",
    "Ternary(axis=0)",
]


@dataclass(frozen=True)
class Octaves(prox.QuantizedSet):
    """A set of somebody's own; its name is no other's, since `parse` knows all that are defined."""

    n: int

    def _levels(self, x):
        powers = 2.0 ** np.arange(1 - self.n, 1)
        return np.concatenate([-powers[::-1], [0], powers]).astype(x.dtype)


@dataclass(frozen=True, repr=False)
class RowMean(prox.Fitted):
    """And one whose level is fitted."""

    def _fit(self, rows):
        return rows.mean(axis=1, keepdims=True, dtype=np.float64)


@pytest.mark.parametrize("r", NAMES, ids=repr)
@given(w=weights(), s=strengths())
def test_a_name_is_a_distance_to_a_set(r, w, s):
    q = NAMES[r]
    assert r == q and hash(r) == hash(q)
    if w.ndim:
        assert r.prox(w, s).tobytes() == q.prox(w, s).tobytes()
        assert r.project(w).tobytes() == q.set.project(w).tobytes()
        assert r.value(w) == q.value(w)


def test_names_have_the_parameters_of_their_set():
    r = prox.MultiBitL2(2, axis=0)
    assert (r.n_bits, r.axis, r.set) == (2, 0, prox.MultiBit(2, axis=0))
    assert replace(r, axis=None) == prox.MultiBitL2(2)
    assert pickle.loads(pickle.dumps(r)) == r
    assert prox.BinaryL1() != prox.BinaryL2()
    with pytest.raises(AttributeError, match="n_bits"):
        r.n_bits = 3
    with pytest.raises(AttributeError, match="nonsense"):
        _ = r.nonsense
    with pytest.raises(TypeError, match="projection"):
        prox.TernaryL1(projection="threshold")


@pytest.mark.parametrize("text", TEXTS)
def test_text_and_back(text):
    assert repr(prox.parse(text)) == text


@pytest.mark.parametrize("bad", [prox.Uniform(2), prox.MultiBit(2), prox.MultiBit(3), RowMean()])
def test_l1_refuses_what_it_cannot_fit_exactly(bad):
    with pytest.raises(ValueError, match=r"Huber's loss.*got .*no such fit") as error:
        prox.L1(bad)
    assert repr(bad) in str(error.value)


@pytest.mark.parametrize("r", [prox.TernaryL1(), prox.MultiBitL1(2)], ids=repr)
def test_the_value_of_fitted_levels_in_any_layout(r):
    w = np.random.default_rng(0).normal(size=(4, 6))
    assert r.value(w.T) == pytest.approx(r.value(np.ascontiguousarray(w.T)))


# Every set, and every distance


def exported(kind):
    """The classes of pq.prox that derive from `kind`; the abstract ones left out."""
    found = [k for k in vars(prox).values() if isinstance(k, type) and issubclass(k, kind)]
    return {k for k in found if not inspect.isabstract(k)}


def test_every_set_of_the_package_is_tested():
    missing = exported(prox.QuantizedSet) - {type(q) for q in SETS}
    assert not missing, f"{missing}: add one of each to SETS in tests/prox_strategies.py"


def test_every_distance_of_the_package_is_tested():
    names = {k for k in exported(prox.Regularizer) if getattr(k, "of", None)}  # like BinaryL1
    missing = exported(prox.Regularizer) - names - {prox.ProxFunction, *DISTANCES}
    missing = {k.__name__ for k in missing} ^ TESTED_ELSEWHERE.keys()
    assert not missing, f"{missing}: add each to DISTANCES in tests/prox_strategies.py"
    folder = Path(__file__).parent
    assert all(k in (folder / file).read_text("utf-8") for k, file in TESTED_ELSEWHERE.items())


class Doubled(prox.L1):
    """A distance of somebody's own."""


@pytest.mark.parametrize(
    ("new", "test"),
    [
        (Octaves, test_every_set_of_the_package_is_tested),
        (Doubled, test_every_distance_of_the_package_is_tested),
    ],
)
def test_what_is_left_out_is_noticed(new, test, monkeypatch):
    monkeypatch.setattr(prox, new.__name__, new, raising=False)
    with pytest.raises(AssertionError, match=rf"{new.__name__}.*add"):
        test()


OWN = [Octaves(3), RowMean(), RowMean(axis=0), RowMean(block=1)]
every_set = pytest.mark.parametrize("q", [*SETS, *OWN], ids=repr)


@every_set
@given(w=weights(), s=strengths())
def test_what_every_set_is(q, w, s):
    if not w.ndim:
        w = w[None]
    p, levels = q.project(w), np.atleast_2d(q.levels(w))
    codes = q.codes(w)
    assert p.shape == codes.shape == w.shape and p.dtype == levels.dtype == w.dtype
    assert q.project(p) == pytest.approx(p, rel=1e-5, abs=1e-30)
    coded = pq.packing.Codes.of(w, q)
    assert coded.array().tobytes() == (p + w.dtype.type(0)).tobytes()
    assert (coded.codes() == codes).all()
    rounding = 16 * np.finfo(w.dtype).eps * np.abs(w).max()  # what is on Q to rounding stays there
    assert (np.abs(levels) <= rounding).any(axis=1).all() or not q.contains_zero
    for r in distances(q):
        assert r.prox(w, 0).tobytes() == w.tobytes()
        assert (r.prox(w, np.inf) == p).all()
        u, out = r.prox(w, s), w.copy()
        assert np.isfinite(u).all() and r.prox(out, s, out=out) is out
        assert out.tobytes() == u.tobytes()
        assert r.value(w) >= 0


@pytest.mark.parametrize("kind", DISTANCES, ids=lambda kind: kind.__name__)
@given(q=fixed_sets(), w=weights(), s=strengths())
def test_what_every_distance_is(kind, q, w, s):
    r = kind(q)
    levels = q.levels(w)
    halfway = np.isin(w, (levels[1:] + levels[:-1]) / 2).any()
    assume(getattr(q, "ties", "up") == "up" or not halfway)  # others have a rule of their own
    assert prox_fault(r.prox, r, w, s) is None
    assert r.value(q.project(w)) == 0 and prox.as_set(r) == q


@every_set
def test_every_set_has_a_text_and_can_be_packed(q, tmp_path):
    assert prox.parse(repr(q)) == q
    model = models.MLP((4, 6, 2), rng=0)
    weight = next(iter(model.parameters()))
    pq.pack(model, q, tmp_path / "net.npz", [weight])
    network = pq.load_packed(tmp_path / "net.npz")
    assert next(iter(network.parameters())).data.tobytes() == q.project(weight.data).tobytes()


ONE_OF_EACH = {type(q): q for q in [*OWN, *SETS][::-1] if q.axis is None and q.block is None}


@pytest.mark.parametrize("q", ONE_OF_EACH.values(), ids=repr)
def test_the_kit_checks_every_set(q):
    if hasattr(q, "quantize"):  # a published rule, which need not be a projection
        assert pq.conformance.check_quantizer(q.quantize, q, dtypes=["float32"])
        with pytest.raises(ValueError, match="check_quantizer checks the rule itself"):
            pq.conformance.check_prox(prox.L2(q).prox, prox.L2(q))
        return
    assert pq.conformance.check_quantizer(q.project, q, dtypes=["float32"])
    assert pq.conformance.check_prox(prox.L2(q).prox, prox.L2(q), dtypes=["float32"])


def test_the_kit_sees_what_is_not_a_quantizer_for_a_set_of_ones_own():
    report = pq.conformance.check_quantizer(lambda w: w, Octaves(3))
    assert report.convention == "not quantized"


# Plain functions


def soft(w, strength):
    return prox.BinaryL1().prox(w, strength)


@pytest.mark.parametrize("lazy", [False, True])
def test_a_plain_function_trains_as_the_regularizer_does(lazy):
    trained = []
    for r in (prox.BinaryL1(), soft):
        w = nn.Parameter(np.array([0.25, -0.5, 0.75]))
        wrapper = optim.DualAveraging if lazy else optim.ProxGradient
        optimizer = wrapper(optim.SGD([w], 0.1), [w], r, prox.Linear(1.0))
        for _ in range(5):
            optimizer.zero_grad()
            (w * w * w).sum().backward()
            optimizer.step()
        trained.append(w.data)
    assert trained[0].tobytes() == trained[1].tobytes()


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda w, s: w.astype(np.float64), TypeError, r"result.astype\(w.dtype\)"),
        (lambda w, s: w[:1], TypeError, "shape"),
        (lambda w, s: None, TypeError, "NoneType"),
        (lambda w, s: w * np.float32(np.nan), ValueError, "finite"),
    ],
)
def test_what_a_plain_function_returns_is_checked(function, error, message):
    w = np.array([0.5, 1.5], np.float32)
    with pytest.raises(error, match=message):
        prox.as_regularizer(function).prox(w, 0.5)
    assert (w == [0.5, 1.5]).all()


def test_a_plain_function_gets_infinity_and_knows_no_set():
    seen = []
    r = prox.as_regularizer(lambda w, s: (seen.append(s), w)[1])
    r.prox([0.5], np.inf)
    assert seen == [np.inf]
    for ask in (r.project, r.levels, r.value):
        with pytest.raises(TypeError, match=r"plain function.*L1\(Binary\(\)\)"):
            ask([0.5])
    for takes_a_set in (prox.as_set, prox.Parq, prox.BinaryRelax):
        with pytest.raises(TypeError, match="plain function"):
            takes_a_set(soft)
    with pytest.raises(TypeError, match="plain function"):
        pq.quantize_and_freeze([nn.Parameter([0.5])], soft)


def test_what_needs_only_the_set_takes_it(tmp_path):
    q, model = prox.Binary(), nn.Sequential(nn.Linear(3, 4))
    weight = next(iter(model.parameters()))
    pq.pack(model, q, tmp_path / "net.npz", [weight])
    assert pq.training.metrics.quantization_gap(weight.data, q) > 0
    lazy = optim.DualAveraging(optim.SGD([weight], 0.1), [weight], q)
    assert (np.abs(weight.data) == 1).all() and lazy.regularizer == prox.L2(q)
    pq.quantize_and_freeze([weight], q)
    with pytest.raises(TypeError, match=r"such as L1\(Binary\(\)\)"):
        optim.ProxGradient(optim.SGD([weight], 0.1), [weight], q, prox.Linear(1.0))


@pytest.mark.parametrize("q", SETS, ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_projection_is_idempotent_among_the_smallest_numbers(q, dtype):
    """Bit for bit, though the levels are rounded to a coarse grid. If they are less than two of
    its units apart, a fitted grid cannot always be told from others: one more unit is allowed."""
    q = replace(q, axis=None, block=None) if isinstance(q, prox.Fitted) else q
    rng, least = np.random.default_rng(0), float(np.finfo(dtype).smallest_subnormal)
    for size in 2.0 ** np.arange(0, np.finfo(dtype).nmant + 4, 0.5 if dtype == np.float32 else 1):
        for n in rng.integers(1, 12, 6):
            w = (np.round(size * rng.normal(size=n)) * least).astype(dtype)
            p = q.project(w)
            fine = len(steps := np.diff(q.levels(w))) and steps.min() < 2 * least
            near = least if fine and not q.exact else 0
            assert np.abs(q.project(p) - p).max() <= near, w / least


def test_the_nearest_of_two_levels_is_exact_among_the_smallest_numbers():
    """Halves of odd subnormal numbers are none: 8 of them, a level, went to 7, the next level."""
    least = np.finfo(np.float64).smallest_subnormal
    w = np.array([6.0, 7.0, 8.0, 9.0]) * least
    assert (prox.Levels((7 * least, 8 * least)).project(w) / least).tolist() == [7, 7, 8, 8]
    assert (prox.Levels((-8 * least, -7 * least)).project(-w) / least).tolist() == [-7, -7, -8, -8]
