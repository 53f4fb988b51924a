"""The two-cycle of lazy prox-gradient: exact, attracting, not stationary; and what it needs."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxquant_np.autograd import Tensor
from proxquant_np.optim import SGD, DualAveraging, ProxGradient
from proxquant_np.prox import BinaryL1, BinaryL2, Constant, LevelsL2
from proxquant_np.theory import (
    Quadratic,
    SmoothW,
    by_projection,
    flips,
    lazy_two_cycle,
    prox_gradient,
)
from proxquant_np.theory.convergence import regularizer_gradient

HALF_SQUARE = Quadratic(np.eye(1), np.zeros(1))  # w^2/2, beta = 1
lrs = st.floats(1e-3, 0.5)
strengths = st.floats(1e-2, 20)


def lazy(r, z0, lr, strength, steps):
    """The latents and weights of a run, flat."""
    run = by_projection(
        HALF_SQUARE.gradient, np.array([z0]), np.full(steps, lr), lambda z: r.prox(z, strength)
    )
    return run.latents.ravel(), run.iterates.ravel()


@given(st.fractions(Fraction(1, 1000), Fraction(1, 2)), st.fractions(Fraction(1, 100), 20))
def test_the_cycle_of_the_squared_w_is_exact(lr, s):
    """In rational arithmetic: z -> -z -> z, and its closed form is the function's."""
    z = start = lr * s / (2 * (1 + s) - lr)
    for sign in (1, -1):
        w = (z + s * sign) / (1 + s)
        assert w == sign * 2 * s / (2 * (1 + s) - lr)
        z = z - lr * w
        assert z == -sign * start
    cycle = lazy_two_cycle(BinaryL2(), float(lr), float(s))
    assert np.allclose(cycle, (float(start), 2 * float(start / lr)), rtol=1e-14)


@pytest.mark.parametrize("r", [BinaryL1(), BinaryL2(), SmoothW()], ids=repr)
@settings(max_examples=40)
@given(lr=lrs, s=strengths)
def test_the_latent_alternates(r, lr, s):
    cycle = lazy_two_cycle(r, lr, s)
    if cycle is None:
        assert isinstance(r, SmoothW) and s <= 1 - lr / 2
        return
    z, w = lazy(r, cycle.latent, lr, s, 3)
    tolerance = 1e-9 / lr if isinstance(r, SmoothW) else 1e-12  # its prox is an iteration's
    assert np.allclose(z, cycle.latent * np.array([1, -1, 1, -1]), rtol=tolerance, atol=1e-15)
    assert np.allclose(w, cycle.weight * np.array([1, -1, 1, -1]), rtol=tolerance, atol=1e-15)


@settings(max_examples=30)
@given(st.floats(0.05, 0.5), st.floats(0.05, 5), st.floats(-5, 5))
def test_every_start_converges_to_the_cycle_of_the_squared_w(lr, s, z0):
    """It closes in by 1 - lr/(1 + s) a step, once the latent has come down to the origin."""
    rate = 1 - lr / (1 + s)
    z, _ = lazy(BinaryL2(), z0, lr, s, 400)
    cycle = lazy_two_cycle(BinaryL2(), lr, s)
    late = np.abs(np.abs(z) - cycle.latent)
    last = np.flatnonzero(z[1:] * z[:-1] > 0)
    start = last[-1] + 1 if last.size else 0
    assert (late[start + 1 :] <= rate * late[start:-1] + 1e-12).all()


@pytest.mark.parametrize("r", [BinaryL1(), SmoothW()], ids=repr)
@pytest.mark.parametrize("lr", [0.2, 0.5])
@pytest.mark.parametrize("nudge", [-0.02, 0.02])
def test_nearby_starts_converge_to_the_cycle(r, lr, nudge):
    s = 1.2 if isinstance(r, SmoothW) else 0.6
    cycle = lazy_two_cycle(r, lr, s)
    z, _ = lazy(r, cycle.latent * (1 + nudge), lr, s, 400)
    assert np.allclose(np.abs(z[-2:]), cycle.latent, rtol=1e-4) and z[-2] * z[-1] < 0


def test_binary_connect_has_a_two_cycle_for_each_start():
    """Companion of "nearby starts converge": BinaryL1 from s = 1 - lr/2 on is the projection."""
    z, w = lazy(BinaryL1(), 0.0625, 0.25, 1.0, 9)
    assert z.tolist() == [0.0625, -0.1875] * 5 and w.tolist() == [1, -1] * 5
    assert lazy_two_cycle(BinaryL1(), 0.25, 1.0) == (0.125, 1)


def gradient_of_f(r, w, lr, s):
    return float(w + s / lr * regularizer_gradient(r, np.array([w]))[0])


@pytest.mark.parametrize("r", [BinaryL2(), SmoothW()], ids=repr)
@given(lr=st.floats(1e-3, 0.5), s=st.floats(0.6, 20))
def test_its_points_are_not_stationary(r, lr, s):
    cycle = lazy_two_cycle(r, lr, s)
    if cycle is not None:
        g = gradient_of_f(r, cycle.weight, lr, s)
        assert np.isclose(g, (1.5 - 1 / lr) * cycle.weight, rtol=1e-6, atol=1e-9)
        assert abs(g) >= 0.5 * cycle.weight * (1 - 1e-9)


def test_the_half_is_reached_at_the_largest_step():
    """lr = 1/2: a gradient of exactly w/2; and at lr = 2/3, outside the theorem, of 0."""
    cycle = lazy_two_cycle(BinaryL2(), 0.5, 0.25)
    assert np.isclose(gradient_of_f(BinaryL2(), cycle.weight, 0.5, 0.25), -0.5 * cycle.weight)
    lr, s = 2 / 3, 1.0
    assert abs(gradient_of_f(BinaryL2(), 2 * s / (2 * (1 + s) - lr), lr, s)) < 1e-15


@pytest.mark.parametrize("r", [BinaryL2(), SmoothW()], ids=repr)
@settings(max_examples=20)
@given(lr=st.floats(0.1, 0.5), s=st.floats(1, 5))
def test_the_eager_iterates_converge_to_a_stationary_point(r, lr, s):
    """Same L, R, step and strength, same first weight."""
    cycle = lazy_two_cycle(r, lr, s)
    w = prox_gradient(HALF_SQUARE.gradient, r, [cycle.weight], lr, [s / lr] * 600).ravel()
    assert abs(w[-1] - w[-2]) < 1e-9 and not flips(w[:, None]).any()
    assert abs(gradient_of_f(r, w[-1], lr, s)) < 1e-6 / lr


def test_it_is_what_the_optimizers_do():
    """On the optimizers that train networks, with lambda = s / lr."""
    ends = {}
    for wrapper in (DualAveraging, ProxGradient):
        w = Tensor(np.array([0.75]), requires_grad=True)
        optimizer = wrapper(SGD([w], 0.25), [w], BinaryL2(), Constant(2.0))
        path = []
        for _ in range(200):
            optimizer.zero_grad()
            (w * w * 0.5).sum().backward()
            optimizer.step()
            path.append(float(w.data[0]))
        ends[wrapper] = path[-3:]
    weight = lazy_two_cycle(BinaryL2(), 0.25, 0.5).weight
    assert np.allclose(np.abs(ends[DualAveraging]), weight)
    assert len(set(np.array(ends[DualAveraging]) > 0)) == 2
    assert np.allclose(ends[ProxGradient], 2 / 3)  # lambda / (1 + lambda)


# Companions


@pytest.mark.parametrize("lr", [0.1, 0.5])
@pytest.mark.parametrize("below", [0.1, 0.5, 0.95])
def test_below_the_threshold_the_smooth_w_has_no_cycle(lr, below):
    """s < 1 - lr/2: the lazy iterates converge, to 0, where F = L + (s/lr) R is stationary."""
    s = (1 - lr / 2) * below
    assert lazy_two_cycle(SmoothW(), lr, s) is None
    _, w = lazy(SmoothW(), 0.3, lr, s, 1500)
    assert abs(w[-1]) < 1e-6


@pytest.mark.parametrize("lr", [0.1, 0.5])
def test_the_threshold_is_sharp(lr):
    """A tenth above 1 - lr/2 there is a cycle, far from 0; a tenth below there is none."""
    threshold = 1 - lr / 2
    above = lazy_two_cycle(SmoothW(), lr, 1.1 * threshold)
    assert above.weight > 0.3
    z, _ = lazy(SmoothW(), above.latent, lr, 1.1 * threshold, 2000)
    assert np.allclose(np.abs(z[-2:]), above.latent, rtol=1e-6)
    assert lazy_two_cycle(SmoothW(), lr, 0.9 * threshold) is None
    _, w = lazy(SmoothW(), above.latent, lr, 0.9 * threshold, 3000)
    assert abs(w[-1]) < 1e-6


def test_with_lambda_fixed_only_a_kink_at_0_cycles_at_every_step():
    """strength = lr lambda: lr (lambda + 1/2) > 1 or no cycle for the smooth W."""
    lam = 4.0
    for lr in (0.5, 0.2, 0.05, 1e-3):
        assert (lazy_two_cycle(SmoothW(), lr, lr * lam) is not None) == (lr * (lam + 0.5) > 1)
        assert lazy_two_cycle(BinaryL2(), lr, lr * lam).weight > 0


def test_a_convex_regularizer_has_no_cycle():
    """The half squared distance to 0: no valley to fall into, and the lazy iterates converge."""
    _, w = lazy(LevelsL2((0,)), 0.5, 0.5, 2.0, 200)
    assert abs(w[-1]) < 1e-12 and not flips(w[:, None]).any()


def test_falling_steps_do_not_end_the_flips():
    """The latent goes to 0 with lr, the weight alternates between +-s / (1 + s) for ever."""
    s, steps = 1.0, 5000
    run = by_projection(
        HALF_SQUARE.gradient,
        np.array([0.3]),
        0.5 / np.sqrt(np.arange(1, steps + 1)),
        lambda z: BinaryL2().prox(z, s),
    )
    late = run.iterates[-1000:, 0]
    assert flips(late[:, None]) > 900
    assert np.allclose(np.abs(late), s / (1 + s), atol=1e-2) and abs(run.latents[-1]) < 5e-3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((BinaryL2(), 0.51, 1.0), ValueError, "lr is 0.51"),
        ((BinaryL2(), 0.0, 1.0), ValueError, "lr is 0.0"),
        ((BinaryL2(), 0.5, 0.0), ValueError, "strength is 0.0"),
        ((BinaryL2(), 0.5, float("nan")), ValueError, "strength is nan"),
        ((LevelsL2((0, 1)), 0.5, 1.0), TypeError, "regularizer must be .*, got LevelsL2"),
    ],
)
def test_lazy_two_cycle_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        lazy_two_cycle(*arguments)
