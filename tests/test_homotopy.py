"""Homotopies: the values of lambda_t and what is refused."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from proxquant_np import nn, optim
from proxquant_np.experiments.protocol import METHODS
from proxquant_np.nn import quantizable_parameters
from proxquant_np.prox import BinaryL1, Constant, Geometric, Homotopy, Linear, LinearHomotopy


def test_values():
    assert [Linear(0.5)(t) for t in (0, 1, 4)] == [0, 0.5, 2]
    assert [Constant(0.5)(t) for t in (0, 1, 4)] == [0.5, 0.5, 0.5]
    assert [Geometric(0.5, 2)(t) for t in (0, 1, 4)] == [0.5, 1, 8]
    assert Linear.to(8, steps=4) == Linear(2)
    assert math.isclose(Linear.to(0.3, steps=1000)(1000), 0.3)


@pytest.mark.parametrize(("reach", "lr", "steps"), [(1, 0.1, 2), (7.76, 0.01, 468), (0, 1, 9)])
def test_the_strengths_sum_to_the_reach(reach, lr, steps):
    h = LinearHomotopy.reaching(reach, lr, steps)
    assert math.isclose(sum(lr * h(t) for t in range(steps)), reach, rel_tol=1e-12)
    w = np.array([-50.0])  # the prox alone carries it as far, if no level is nearer
    for t in range(steps):
        w = BinaryL1().prox(w, lr * h(t))
    assert math.isclose(w[0] + 50, reach, rel_tol=1e-12)


def test_the_reach_of_the_experiments():
    model = nn.Linear(3, 2)
    adam = optim.Adam(model.parameters(), 0.01)
    groups = [(quantizable_parameters(model), BinaryL1())]
    wrapped = METHODS["prox_quant"].wrap(adam, groups, 468, reach=7.76)
    assert wrapped.homotopy == LinearHomotopy.reaching(7.76, 0.01, 468)


def test_linear_is_the_older_name():
    assert Linear is LinearHomotopy
    assert repr(LinearHomotopy(0.5)) == "Linear(rate=0.5)"  # as in checkpoints

    class Slow(Linear):
        pass

    assert repr(Slow(0.5)) == "test_linear_is_the_older_name.<locals>.Slow(rate=0.5)"


@pytest.mark.parametrize("h", [Linear(1), Constant(1), Geometric(1, 1)], ids=repr)
def test_a_homotopy_is_a_value_and_returns_a_float(h):
    assert isinstance(h, Homotopy)
    assert type(h(0)) is type(h(np.int64(3))) is float
    assert h == dataclasses.replace(h)
    assert hash(h) == hash(dataclasses.replace(h))
    assert eval(repr(h)) == h
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(h, dataclasses.fields(h)[0].name, 2)


@pytest.mark.parametrize("number", [np.float64(2), np.float32(2), np.int64(2), 2])
def test_parameters_become_floats(number):
    """So that a checkpoint, which holds the repr, knows an equal one again."""
    for h in (Linear(number), Constant(number), Geometric(number, number)):
        assert repr(h) == repr(dataclasses.replace(h, **dict.fromkeys(vars(h), 2.0)))
    assert repr(Linear.to(number, 4)) == repr(Linear(0.5))
    assert Linear(np.float32(0.1))(3) == 3 * float(np.float32(0.1))
    assert Geometric(np.float64(1e300), np.float64(1e10))(1) == math.inf  # without a warning


def test_geometric_overflows_to_infinity_and_underflows_to_zero():
    assert Geometric(1, 2)(5000) == Geometric(1e300, 1e10)(1) == math.inf
    assert Geometric(1, 0.5)(5000) == 0
    assert Geometric(0, 2)(5000) == 0
    assert Geometric(3, 0)(0) == 3


@pytest.mark.parametrize("bad", [-1, math.nan, math.inf, -math.inf])
def test_bad_parameters_are_refused(bad):
    for make, name in [
        (Linear, "rate"),
        (Constant, "lam"),
        (lambda v: Geometric(v, 2), "initial"),
        (lambda v: Geometric(1, v), "ratio"),
        (lambda v: Linear.to(v, 10), "end"),
        (lambda v: Linear.reaching(v, 0.1, 10), "reach"),
        (lambda v: Linear.reaching(1, v, 10), "lr"),
    ]:
        with pytest.raises(ValueError, match=name):
            make(bad)
    for bad_type in ("1", None, 1j, True):
        with pytest.raises(TypeError, match="rate"):
            Linear(bad_type)


def test_bad_steps_are_refused():
    for h in (Linear(1), Constant(1), Geometric(1, 2)):
        with pytest.raises(ValueError, match="t must be an integer >= 0, got -1"):
            h(-1)
        with pytest.raises(TypeError, match="integer"):
            h(1.5)
    with pytest.raises(ValueError, match="steps"):
        Linear.to(1, steps=0)
    with pytest.raises(TypeError, match="steps"):
        Linear.to(1, steps=2.5)
    with pytest.raises(ValueError, match="lr must be a number > 0 and < inf, got 0"):
        Linear.reaching(1, 0, steps=10)
    with pytest.raises(ValueError, match="steps must be an integer >= 2, got 1"):
        Linear.reaching(1, 0.1, steps=1)
