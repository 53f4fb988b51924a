"""Hypothesis strategies of the prox tests: weights, strengths, regularizers; awkward ones often."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from proxquant_np.prox import (
    Binary,
    BinaryL1,
    BinaryL2,
    Levels,
    LevelsL1,
    LevelsL2,
    MultiBit,
    Ternary,
    Uniform,
)

dtypes = st.sampled_from([np.float32, np.float64])
SETS = [  # one at least of each kind: test_prox_sets.py asks for it
    Binary(),
    Levels((-1.0, 0.0, 0.25, 2.0)),
    Ternary(),
    Ternary(symmetric=True, axis=0),
    Ternary(projection="threshold"),
    MultiBit(1, "exact", block=1),
    MultiBit(2, "exact"),
    MultiBit(3),
    Uniform(2),
    Uniform(3, symmetric=False, projection="least_squares"),
]
AWKWARD = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, 1e-30, -1e-30]


def level_sets(max_size: int = 6):
    """Strictly increasing tuples of numbers that stay distinct in float32."""
    grid = st.integers(-64, 64).map(lambda i: i / 16)
    return st.lists(grid, min_size=1, max_size=max_size, unique=True).map(
        lambda v: tuple(sorted(v))
    )


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
    dtype, shape = draw(dtypes), draw(shapes)
    floats = st.floats(-4, 4, width=np.dtype(dtype).itemsize * 8)
    sixteenths = st.integers(-80, 80).map(lambda i: i / 16)
    return draw(
        arrays(dtype, shape, elements=st.one_of(st.sampled_from(AWKWARD), sixteenths, floats))
    )
