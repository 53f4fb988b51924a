"""When a forward and a backward quantizer are dual averaging of another loss, and when not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import proxquant_np.functional as F
from proxquant_np.autograd import Tensor
from proxquant_np.optim import SGD
from proxquant_np.prox import sign_pm
from proxquant_np.theory import (
    by_forward_backward,
    by_projection,
    outside_cube,
    quadratic_on_cube,
    random_ridge,
)
from proxquant_np.theory.dual_averaging import all_points

seeds = st.integers(0, 10**6)


def inside(z):
    return (np.abs(z) <= 1).astype(float)


PAIRS = {  # forward, backward, the map P, T, and its slope
    "plain": (sign_pm, np.ones_like, sign_pm, lambda p: p, np.ones_like),
    "clipped": (sign_pm, inside, outside_cube, lambda p: np.clip(p, -1, 1), inside),
    "sine": (
        lambda z: np.sin(np.clip(z, -1, 1)),
        lambda z: np.cos(np.clip(z, -1, 1)),
        lambda z: np.clip(z, -1, 1),
        np.sin,
        np.cos,
    ),
}


@pytest.mark.parametrize("name", PAIRS)
@given(seeds)
def test_a_pair_is_dual_averaging_on_the_composed_loss(name, seed):
    forward, backward, project, t, slope = PAIRS[name]
    rng = np.random.default_rng(seed)
    loss, z0 = random_ridge(rng, 3, convex=True), rng.normal(size=3)
    lrs = rng.uniform(0.05, 0.5, 30) / loss.beta  # larger steps would blow rounding up
    pair = by_forward_backward(loss.gradient, z0, lrs, forward, backward)
    twin = by_projection(lambda p: slope(p) * loss.gradient(t(p)), z0, lrs, project)
    assert np.allclose(pair.latents, twin.latents, rtol=1e-9, atol=1e-12)
    assert np.allclose(pair.iterates, t(twin.iterates), rtol=1e-9, atol=1e-12)


@given(seeds)
def test_the_clipped_twin_is_the_argmin_that_dual_averaging_takes(seed):
    """Over |p| >= 1: bit for bit on exact numbers, and the argmin against a grid of that set."""
    rng = np.random.default_rng(seed)
    z0 = rng.integers(-8, 9, 1) / 8
    gradients = iter(rng.integers(-4, 5, 20).astype(float))
    lrs = np.full(20, 0.125)
    run = by_forward_backward(lambda w: np.array([next(gradients)]), z0, lrs, sign_pm, inside)
    grid = np.concatenate([-np.arange(1, 6, 1 / 64), np.arange(1, 6, 1 / 64)])
    for t in range(21):
        total = run.gradients[:t].sum(axis=0) * 0.125
        cost = total * grid + 0.5 * (grid - z0) ** 2
        p = outside_cube(run.latents[t])
        assert total * p + 0.5 * (p - z0) ** 2 == cost.min()
        assert np.clip(p, -1, 1) == run.iterates[t]


@given(seeds)
def test_autograd_makes_the_same_latents(seed):
    rng = np.random.default_rng(seed)
    loss, _ = quadratic_on_cube(rng, 3)
    z0 = rng.normal(size=3)
    run = by_forward_backward(loss.gradient, z0, [0.25] * 20, sign_pm, inside)
    z = Tensor(z0.copy(), requires_grad=True)
    sgd = SGD([z], 0.25)
    for _ in range(20):
        sgd.zero_grad()
        loss.value(F.straight_through(z, sign_pm, backward=lambda z: np.abs(z) <= 1)).backward()
        sgd.step()
    assert np.allclose(z.data, run.latents[-1], rtol=1e-12, atol=1e-12)


def test_a_smooth_backward_pass_for_the_sign_is_no_dual_averaging():
    """Companion: +1, -1 and -1, +1 sum to 0 both ways, but the latents end apart.

    Forward never changes, so in dual averaging of any loss neither would the end.
    """

    def bump(z):
        return 1 / np.cosh(z) ** 2

    def ends(backward):
        for order in ((1.0, -1.0), (-1.0, 1.0)):
            gradients = iter(order)
            yield by_forward_backward(
                lambda w, g=gradients: np.array([next(g)]), np.ones(1), [0.5] * 2, sign_pm, backward
            ).latents[-1]

    assert np.subtract(*ends(bump)) != 0
    assert np.subtract(*ends(np.ones_like)) == 0


def test_the_projection_outside_the_cube_is_one():
    z = np.random.default_rng(0).uniform(-3, 3, (200, 2))
    points = all_points((-3, -2, -1, 1, 2, 3), 2)
    for x, p in zip(z, outside_cube(z), strict=True):
        assert (np.abs(p) >= 1).all()
        assert (p - x) @ (p - x) <= ((points - x) ** 2).sum(axis=1).min() + 1e-12


def test_a_backward_of_another_shape_is_refused():
    w = Tensor(np.ones(3), requires_grad=True)
    with pytest.raises(ValueError, match=r"backward must keep the shape \(3,\), got \(1,\)"):
        F.straight_through(w, sign_pm, backward=lambda w: np.ones(1))
    with pytest.raises(ValueError, match=r"projection must keep the shape .*, got \(1,\)"):
        F.straight_through(w, lambda w: np.ones(1))
