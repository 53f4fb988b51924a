"""AskewSGD: the published rule, its bound on what a step leaves of the excess, and its limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxquant_np.autograd import Tensor
from proxquant_np.optim import SGD, AskewSGD
from proxquant_np.prox import Constant, Geometric

seeds = st.integers(0, 10**6)


def step(w, g, width, pull=0.2, lr=0.1):
    """The weights after one step from w with gradient g."""
    leaf = Tensor(np.array(w, float), requires_grad=True)
    optimizer = AskewSGD(SGD([leaf], lr), [leaf], Constant(width), pull)
    leaf.grad = np.array(g, float)
    optimizer.step()
    return leaf.data


def excess(w, width):
    return (w**2 - 1) ** 2 - width


@given(seeds, st.floats(0, 1), st.floats(0.01, 2), st.floats(0.001, 0.5))
def test_the_published_rule(seed, width, pull, lr):
    """Their code: v = K, unless inside, at 0, or -g K > K^2; K = pull (width - (w^2-1)^2)/slope."""
    rng = np.random.default_rng(seed)
    w, g = rng.uniform(-1, 1, 50), rng.normal(size=50)
    w[0] = 0
    with np.errstate(divide="ignore", invalid="ignore"):
        k = pull * (width - (w**2 - 1) ** 2) / (4 * w * (w**2 - 1))
        direct = (w == 0) | (excess(w, width) <= 0) | (-g * k > k**2)
    expected = np.clip(w - lr * np.where(direct, g, -k), -1, 1)
    assert np.allclose(step(w, g, width, pull, lr), expected, rtol=1e-12, atol=1e-12)


@given(seeds, st.floats(0.05, 1), st.floats(0.01, 2), st.floats(0.001, 0.3))
def test_a_step_takes_off_the_excess_what_it_should(seed, width, pull, lr):
    """At most (1 - lr pull) e + 4 lr^2 v^2 is left of e > 0, whatever the gradient."""
    rng = np.random.default_rng(seed)
    w, g = rng.uniform(-1, 1, 50), rng.normal(size=50)
    before = excess(w, width)
    w, g, before = (a[before > 0] for a in (w, g, before))
    if w.size:
        after = step(w, g, width, pull, lr)
        slope = 4 * w * (w**2 - 1)
        v = np.where(-g * slope <= -pull * before, -g, -pull * before / slope)
        kept = np.abs(w + lr * v) <= 1  # not clipped
        bound = (1 - lr * pull) * before + 4 * lr**2 * v**2
        assert (excess(after, width) <= bound + 1e-12)[kept].all()
        assert (excess(after, width) <= 1e-12)[~kept].all()


@pytest.mark.parametrize(("lr", "pull"), [(0.5, 0.5), (0.5, 1.0), (0.1, 10.0)])
def test_the_bound_of_a_step_is_reached_beside_a_level(lr, pull):
    """Near 1 the constraint is 4 (w - 1)^2, whose curvature is all that the 4 allows.

    So neither lr pull nor the 4 can be a tenth better.
    """
    w = np.array([1 - 1e-5])
    after = step(w, [0.0], 0.0, pull, lr)
    e, v = excess(w, 0.0), -pull * excess(w, 0.0) / (4 * w * (w**2 - 1))
    assert np.isclose(excess(after, 0.0) / e, (1 - lr * pull) + 4 * lr**2 * v**2 / e, rtol=1e-3)
    assert 4 * lr**2 * v**2 / e > 0.01 and lr * pull > 0.2


def test_inside_the_interval_it_is_sgd():
    assert step([0.9, -0.95], [0.5, -0.5], width=0.5).tolist() == [0.9 - 0.05, -0.95 + 0.05]


def test_at_zero_the_constraint_has_no_slope():
    """Companion: nothing pulls a weight at 0; beside it the pull is strong."""
    assert step([0.0], [0.0], width=0.5) == 0
    assert step([1e-3], [0.0], width=0.5) == 1  # so strong that only the clip ends it


def test_a_falling_width_ends_at_the_levels():
    w = Tensor(np.random.default_rng(0).uniform(-1, 1, 40), requires_grad=True)
    optimizer = AskewSGD(SGD([w], 0.05), [w], Geometric(1.0, 0.99), pull=1.0)
    for _ in range(1500):
        optimizer.zero_grad()
        ((w - 0.25) * (w - 0.25) * 0.5).sum().backward()
        optimizer.step()
    assert np.abs(np.abs(w.data) - 1).max() < 0.02 and len(np.unique(w.data > 0)) >= 1


def test_it_resumes_and_refuses():
    w = Tensor(np.array([0.5]), requires_grad=True)
    optimizer = AskewSGD(SGD([w], 0.05), [w], Geometric(1.0, 0.9))
    w.grad = np.array([1.0])
    optimizer.step()
    other = AskewSGD(SGD([w], 0.05), [w], Geometric(1.0, 0.9))
    other.load_state_dict(optimizer.state_dict())
    assert other.steps == 1
    with pytest.raises(ValueError, match="pull must be a number >= 0"):
        AskewSGD(SGD([w], 0.05), [w], Constant(1.0), pull=-1)
