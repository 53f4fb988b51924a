"""Hypothesis strategies of the prox tests: weights, strengths, regularizers; awkward ones often."""

from __future__ import annotations

import functools

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from proxquant_np import prox
from proxquant_np.prox import BinaryL1, BinaryL2, LevelsL1, LevelsL2

dtypes = st.sampled_from([np.float32, np.float64])
# What is exported and not here fails a test of test_prox_sets.py, which tests all of it.
SETS = [
    prox.Binary(),
    prox.Levels((-1.0, 0.0, 0.25, 2.0)),
    prox.Ternary(),
    prox.Ternary(symmetric=True, axis=0),
    prox.Ternary(projection="threshold"),
    prox.MultiBit(1, "exact", block=1),
    prox.MultiBit(2, "exact"),
    prox.MultiBit(3),
    prox.Uniform(2),
    prox.Uniform(3, symmetric=False, projection="least_squares"),
    prox.Integers(4),
    prox.Integers(4, range="full", divisor=8),
    prox.Integers(2, scale="mean", axis=0),
    prox.Integers(3, scale="median", ties="away"),
    prox.Integers(3, range="full", scale="least_squares"),
    prox.Affine(3),
    prox.Affine(8, ties="up"),
    prox.Codebook("nf4"),
    prox.Codebook("e2m1", scale="power", block=1),
    prox.Codebook("e4m3"),
    prox.PowersOfTwo(3),
    prox.PowersOfTwo(2, zero=False),
    prox.DoReFa(3),
    prox.CentredBinary(),
    prox.CentredBinary("centred", ties="up", axis=0),
    prox.Rounded((-1.0, 0.0, 1.0)),
    prox.Rounded((-1.0, 0.0, 2.0), "away", thresholds=(-0.25, 0.5)),
    prox.FixedPoint(4, 2),
    prox.FixedPoint(4, 2, overflow="wrap", ties="up"),
]
DISTANCES = [prox.L1, prox.L2, prox.Parq, prox.BinaryRelax]
DISTANCES += [prox.L0, prox.Huber, prox.MCP, prox.ElasticNet]  # of fixed levels
TESTED_ELSEWHERE = {  # regularizers of one set of their own: the test file
    "PiecewiseAffine": "test_prox_piecewise_affine.py",
    "PublishedTernary": "test_prox_published_ternary.py",
    "TanhMirror": "test_prox_piecewise_affine.py",
}
AWKWARD = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, 1e-30, -1e-30]


def level_sets(max_size: int = 6):
    """Strictly increasing tuples of numbers that stay distinct in float32."""
    grid = st.integers(-64, 64).map(lambda i: i / 16)
    return st.lists(grid, min_size=1, max_size=max_size, unique=True).map(
        lambda v: tuple(sorted(v))
    )


def distances(q):
    """Those that can be made of this set: of fitted levels not every distance is known."""
    for kind in DISTANCES:
        try:
            yield kind(q)
        except ValueError:
            assert not (q.elementwise and q.exact)


def fixed_sets():
    """Every set of levels that do not depend on the weights, each sent to its nearest."""
    fixed = [q for q in SETS if q.elementwise and q.exact]
    return st.one_of(st.sampled_from(fixed), level_sets().map(prox.Levels))


def fixed_regularizers():
    """Every regularizer whose levels do not depend on the weights."""
    return st.one_of(
        st.just(BinaryL1()),
        st.just(BinaryL2()),
        level_sets().map(LevelsL1),
        level_sets().map(LevelsL2),
    )


def strengths():
    return st.one_of(st.sampled_from([0.0, 1e-3, 0.5, 1.0, 2.0, 1e6]), st.floats(0, 4))


@st.composite
def weights(draw, shapes=array_shapes(min_dims=0, max_dims=3, max_side=3)):  # noqa: B008
    """An array of either dtype, with many entries on levels, between them, and at both zeros."""
    return draw(weights_of(draw(dtypes), draw(shapes)))


@functools.cache  # a strategy is checked at its first draw, which takes longer than to draw
def weights_of(dtype, shape):
    """Arrays of this dtype and shape, as `weights` draws them."""
    floats = st.floats(-4, 4, width=np.dtype(dtype).itemsize * 8)
    sixteenths = st.integers(-80, 80).map(lambda i: i / 16)
    return arrays(dtype, shape, elements=st.one_of(st.sampled_from(AWKWARD), sixteenths, floats))
