"""Arrays of another library: sets and regularizers equal NumPy's to the bit, without waiting."""

import duck_array
import numpy as np
import pytest
import strategies as draws
from duck_array import Duck, asduck
from hypothesis import given, settings
from prox_strategies import SETS, distances, strengths, weights

from proxquant_np import prox

MORE = [
    prox.Levels(tuple(np.linspace(-3, 3, 50))),
    prox.Ternary(block=1),
    prox.Ternary(axis=-1),
    prox.MultiBit(1),
    prox.MultiBit(2, axis=0),
    prox.MultiBit(2, "exact", axis=-1),
    prox.MultiBit(4, "greedy"),
    prox.Uniform(8, axis=0),
]
PLAIN = [
    prox.PublishedTernary(),
    prox.PiecewiseAffine([0, 1, 2]),
    prox.PiecewiseAffine([0, 0.5, 1], [0.5, 1]),
    prox.TanhMirror(),
]
REGULARIZERS = PLAIN + [R for Q in SETS + MORE for R in distances(Q)]


def same(found, expected):
    """A duck and NumPy's array, with the same bits."""
    assert type(found) is Duck and type(expected) is np.ndarray
    assert found.dtype == expected.dtype and found.shape == expected.shape
    assert found._a.tobytes() == expected.tobytes()


def asks(Q):
    """How often a projection on Q waits: once if a heuristic has to know whether it is needed."""
    if isinstance(Q, prox.Fitted):
        return Q.projection != "exact"
    return 4 * (Q.exact is False)  # PublishedTernary


def moderate(w, thing):
    """Weights that the set takes."""
    if getattr(thing, "axis", None) is not None and not w.ndim:
        return w[None]
    return w


@pytest.mark.parametrize("Q", SETS + MORE, ids=repr)
@settings(max_examples=30)
@given(w=weights(), layout=draws.layouts)
def test_sets(Q, w, layout):
    w = draws.lay_out(moderate(w, Q), layout)
    there = Duck(w)
    for method in ("levels", "project", "codes"):
        same(np.asarray(getattr(Q, method)(there), like=there), getattr(Q, method)(w))
    q = Q.project(w)
    same(Q.project(Duck(q)), q)  # on Q, which a heuristic has to find out


@pytest.mark.parametrize("R", REGULARIZERS, ids=repr)
@settings(max_examples=15)
@given(w=weights(), strength=strengths(), layout=draws.layouts)
def test_regularizers(R, w, strength, layout):
    w = draws.lay_out(moderate(w, R.set), layout)
    for s in (strength, np.inf):
        expected = R.prox(w, s)
        there = asduck(w)
        same(R.prox(there, s), expected)
        same(there, np.asarray(w, order="C"))
        assert R.prox(there, s, out=there) is there
        same(there, expected)
    assert R.value(Duck(w)) == R.value(w) or np.isnan(R.value(w))


@pytest.mark.parametrize("R", REGULARIZERS, ids=repr)
def test_a_map_does_not_wait(R):
    w = asduck(np.random.default_rng(0).normal(size=(3, 300)).astype(np.float32))
    for s in (0.3, 2.0, np.inf):
        before = duck_array.waits()
        R.prox(w, s)
        R.project(w)
        assert duck_array.waits() - before <= 2 * asks(R.set) * getattr(R, "rounds", 1)


@pytest.mark.parametrize("R", [R for R in REGULARIZERS if R.elementwise], ids=repr)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_nan(R, bad):
    """NumPy's is refused; to look at the other would wait."""
    w = np.array([0.5, bad, -2.0])
    with np.errstate(invalid="ignore"):
        for found in (R.prox(Duck(w), 0.25), R.prox(Duck(w), np.inf), R.project(Duck(w))):
            np.testing.assert_array_equal(np.isnan(found._a), [False, True, False])
    with pytest.raises(ValueError, match="must be finite"):
        R.prox(w, 0.25)


def test_large_and_long_arrays():
    """Other tiles than NumPy's: equal to rounding."""
    rng = np.random.default_rng(0)
    for Q in (prox.Ternary(), prox.MultiBit(2, "exact"), prox.MultiBit(3), prox.Ternary(axis=0)):
        for shape in ((1, 200_000), (70_000, 3)):
            w = rng.normal(size=shape).astype(np.float32)
            np.testing.assert_allclose(Q.levels(Duck(w))._a, Q.levels(w), rtol=1e-5)


def test_extreme_scales():
    rng = np.random.default_rng(0)
    for scale in (1e-35, 1e-20, 1e20, 1e37):
        w = (rng.normal(size=(3, 40)) * scale).astype(np.float32)
        w[1] /= 1e3
        for Q in (prox.Ternary(), prox.MultiBit(2, axis=0), prox.Uniform(3, axis=0)):
            same(Q.levels(Duck(w)), Q.levels(w))
            same(prox.L2(Q).prox(Duck(w), 0.5), prox.L2(Q).prox(w, 0.5))
        same(
            prox.TernaryL1(axis=0).prox(Duck(w), 0.1 * scale),
            prox.TernaryL1(axis=0).prox(w, 0.1 * scale),
        )


def test_outputs_are_of_the_same_library():
    R, w = prox.BinaryL1(), np.array([0.5, -2.0])
    with pytest.raises(TypeError, match="out must be a Duck like the weights"):
        R.prox(Duck(w), 0.25, out=np.empty(2))
    with pytest.raises(TypeError, match="out must be a NumPy array"):
        R.prox(w, 0.25, out=Duck(np.empty(2)))
    with pytest.raises(ValueError, match="out must have the shape"):
        R.prox(Duck(w), 0.25, out=Duck(np.empty(3)))


def test_functions_and_sets_of_ones_own():
    def soft_sign(w, strength):
        q = np.where(w >= 0, 1.0, -1.0)
        return np.clip(q, w - strength, w + strength)

    w = np.array([0.5, -3.0])
    R = prox.as_regularizer(soft_sign)
    same(R.prox(Duck(w), 0.25), R.prox(w, 0.25))
    with pytest.raises(TypeError, match="must return an array of shape"):
        prox.as_regularizer(lambda w, s: np.zeros(2)).prox(Duck(w), 0.25)

    class Powers(prox.QuantizedSet):
        def _levels(self, x):
            return np.array([-1, -0.5, 0.5, 1], x.dtype)  # NumPy's, whatever x is

    same(prox.L1(Powers()).prox(Duck(w), 0.1), prox.L1(Powers()).prox(w, 0.1))
    same(Powers().levels(Duck(w)), Powers().levels(w))
