"""How each theorem is tried: a trial draws a problem from a generator, and returns a violation.

It is 0 where the theorem holds exactly, else a count of what contradicts it or, for an inequality,
left - right over 1 + |left| + |right|. `theorems` has what each of them tries.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from proxquant_np import prox
from proxquant_np.autograd import Tensor
from proxquant_np.optim import Adam, ProxGradient
from proxquant_np.prox import brute_force as brute
from proxquant_np.prox import sign_pm
from proxquant_np.theory import (
    ProxGradientRun,
    Quadratic,
    RoundedW,
    SmoothW,
    adam_move_bound,
    adam_worst_gradients,
    by_aggregate_prox,
    by_enumeration,
    by_forward_backward,
    by_projection,
    by_straight_through,
    critical_point,
    f_minus,
    f_plus,
    fixed_points,
    flip_frequency_bound,
    flips,
    frank_wolfe,
    frank_wolfe_gap,
    held,
    inner_distance,
    last_iterate_bound,
    last_iterate_step,
    lazy_two_cycle,
    mirror_descent,
    mirror_regret,
    off_levels,
    outside_cube,
    predicted_time_at_plus_one,
    prox_gradient,
    quadratic_on_cube,
    random_ridge,
    rate_constant,
    regret,
    run_prox_gradient,
    solves_both_toys,
    steps_to_quantize,
    time_at_nearest_corner,
    time_at_plus_one,
)
from proxquant_np.theory.convergence import regularizer_gradient
from proxquant_np.theory.dual_averaging import all_points

ROUNDING = 1e-9


def _excess(left: Any, right: Any) -> float:
    """The largest (left - right) / (1 + |left| + |right|); 0 if left <= right everywhere."""
    left, right = np.asarray(left, float), np.asarray(right, float)
    return float(np.max((left - right) / (1 + np.abs(left) + np.abs(right)), initial=0.0))


def _integer_quadratic(rng: np.random.Generator, d: int) -> Quadratic:
    """A quadratic of small integers, so that all arithmetic on it is exact."""
    a = rng.integers(-3, 4, (d, d)).astype(float)
    return Quadratic(a + a.T, rng.integers(-4, 5, d).astype(float))


def three_ways(rng: np.random.Generator) -> float:
    """In how many entries the three ways differ; steps are powers of two, so none is rounded."""
    d, r = rng.integers(1, 5), rng.choice([prox.BinaryL1(), prox.LevelsL2((-1, 0, 1))])
    loss, z0 = _integer_quadratic(rng, d), rng.integers(-8, 9, d) / 4
    lrs = 0.5 ** np.floor(np.log2(np.arange(1, 31)))
    closed = by_projection(loss.gradient, z0, lrs, r.project).iterates
    others = (
        by_enumeration(loss.gradient, z0, lrs, r.levels(z0)),
        by_straight_through(loss.value, z0, lrs, r.project),
    )
    return float(sum((closed != other).sum() for other in others))


def regret_bound(rng: np.random.Generator) -> float:
    """The regret of dual averaging on the cube against its bound."""
    d, lrs = rng.integers(1, 5), rng.uniform(0.01, 3) / np.sqrt(np.arange(1, 41))
    loss = random_ridge(rng, d, convex=True)
    run = by_projection(loss.gradient, rng.normal(size=d), lrs, lambda z: np.clip(z, -1, 1))
    return _excess(*regret(run, lrs, rng.uniform(-1, 1, d)))


def toys_fool_binary_connect(rng: np.random.Generator) -> float:
    """0 if both toys give the same iterates, of which the last is wrong for one of them."""
    z0, lrs = rng.uniform(-2, 2, 1), rng.uniform(1e-3, 2, rng.integers(1, 100))
    plus, minus = (by_projection(f.gradient, z0, lrs, sign_pm).iterates for f in (f_plus, f_minus))
    return float((plus != minus).sum() + (max(f_plus.value(plus[-1]), f_minus.value(plus[-1])) < 1))


def toys_solved(rng: np.random.Generator) -> float:
    """On how many of the two toys prox-gradient ends wrong, where the theorem applies."""
    lr, w0 = rng.uniform(0.01, 0.5), rng.uniform(-1, 1, 1)
    lams = np.arange(0, 2.5, rng.uniform(0.15, 0.45) * lr)
    if not solves_both_toys(lr, lams):
        raise ValueError(f"lr = {lr} and its homotopy are outside the theorem")
    best = {f_plus: -1, f_minus: 1}
    ends = {f: prox_gradient(f.gradient, prox.BinaryL1(), w0, lr, lams)[-1, 0] for f in best}
    return float(sum(ends[f] != best[f] for f in best))


def criterion(rng: np.random.Generator) -> float:
    """How many corners BinaryConnect leaves although they are fixed points, or the reverse."""
    d = rng.integers(1, 5)
    loss, lrs = _integer_quadratic(rng, d), 1 / np.arange(1, 61)  # their sum exceeds 2 / 1
    corners, size = all_points((-1, 1), d), rng.uniform(1e-3, 2)
    stay = [
        (by_projection(loss.gradient, size * s, lrs, sign_pm).iterates == s).all() for s in corners
    ]
    fixed = {tuple(s) for s in fixed_points(loss.gradient, d)}
    return float(sum((tuple(s) in fixed) != stays for s, stays in zip(corners, stay, strict=True)))


def no_fixed_point(rng: np.random.Generator) -> float:
    """0 if a loss whose minimiser is not a corner has no fixed point and signs keep flipping."""
    d = rng.integers(1, 7)
    loss, _ = quadratic_on_cube(rng, d, rng.integers(0, d))
    run = by_projection(loss.gradient, rng.normal(size=d), np.full(400, 0.1), sign_pm)
    return float(len(fixed_points(loss.gradient, d)) + (not flips(run.iterates[200:]).any()))


def twin(rng: np.random.Generator) -> float:
    """In how many entries the running mean and Frank-Wolfe differ, in rational arithmetic."""
    d, steps = rng.integers(1, 5), 40
    loss = _integer_quadratic(rng, d)
    lr = rng.choice([0.125, 1.0, 4.0])
    signs = by_projection(loss.gradient, np.zeros(d), np.full(steps, lr), sign_pm).iterates[:-1]
    exact = Quadratic(loss.a.astype(int), loss.b.astype(int))
    means = frank_wolfe(exact.gradient, np.array([Fraction(1)] * d), steps)
    return float((means * np.arange(1, steps + 1)[:, None] != np.cumsum(signs, axis=0)).sum())


def flip_frequency(rng: np.random.Generator) -> float:
    """The gap and the distance of the mean, the time at +1 and the flips, against their bounds."""
    d, steps = rng.integers(1, 7), 500
    inside = rng.integers(2)
    loss, x = quadratic_on_cube(rng, d, 0 if inside else rng.integers(0, d + 1))
    signs = by_projection(loss.gradient, np.zeros(d), np.full(steps, 0.1), sign_pm).iterates[:-1]
    mean = signs.mean(axis=0)
    gap, bound = loss.value(mean) - loss.value(x), frank_wolfe_gap(loss, x, steps)
    away = np.sqrt(2 / loss.mu * bound)
    found = _excess(gap, bound)
    if inside:
        away = min(away, inner_distance(loss, x, steps))
        often = flip_frequency_bound(x) + away + 1 / steps
        found = max(found, _excess(flips(signs) / steps, often))
    late = np.abs(time_at_plus_one(signs) - predicted_time_at_plus_one(x))
    return max(found, _excess(np.linalg.norm(mean - x), away), _excess(late, away / 2))


def _run(rng: np.random.Generator, smooth: bool, beta: float = 1.0) -> ProxGradientRun:
    """30 steps of prox-gradient on a random loss, convex or not, assuming `beta` times its beta."""
    d, kind = rng.integers(1, 6), rng.integers(3)
    loss = quadratic_on_cube(rng, d)[0] if kind == 2 else random_ridge(rng, d, convex=kind == 1)
    kinds: list[prox.Regularizer] = [
        SmoothW(),
        RoundedW(0.25),
        prox.BinaryL2(),
        prox.LevelsL2((-1, 0, 1)),
    ]
    r = rng.choice(kinds if smooth else [*kinds, prox.BinaryL1()])
    lam = rng.choice([0.0, rng.uniform(1e-3, 20)])
    return run_prox_gradient(loss, r, rng.uniform(-2, 2, d), lam, 30, beta * loss.beta)


def descent(rng: np.random.Generator) -> float:
    """F at the next point against F less beta/2 of the squared move."""
    return _excess(*_run(rng, smooth=False).descent())


def rate(rng: np.random.Generator) -> float:
    """The four inequalities that give the rate, each against its bound."""
    run = _run(rng, smooth=True)
    sides = (run.stationarity(), run.progress(), run.rate(), run.best())
    return max(_excess(*both) for both in sides)


def rate_of_other_steps(rng: np.random.Generator) -> float:
    """The rate with lr = 1/(c beta), which is a run that assumes c/2 times beta."""
    c = rng.uniform(1, 6)
    least, bound = _run(rng, smooth=True, beta=c / 2).rate()
    return _excess(least, bound / (6 * c / 2) * rate_constant(c))


def lazy_cycle(rng: np.random.Generator) -> float:
    """The latent against +z, -z, +z, ..., and grad F at both points against the formula."""
    r = [prox.BinaryL1(), prox.BinaryL2(), SmoothW()][rng.integers(3)]
    lr, strength = rng.uniform(0.01, 0.5), rng.uniform(0.05, 5)
    loss, cycle = Quadratic(np.eye(1), np.zeros(1)), lazy_two_cycle(r, lr, strength)
    z0 = np.array([0.3 if cycle is None else cycle.latent])
    run = by_projection(loss.gradient, z0, np.full(30, lr), lambda z: r.prox(z, strength))
    z, w = run.latents.ravel(), run.iterates.ravel()
    if cycle is None:  # then the latent comes closer to 0 in each step
        return _excess(np.abs(z[1:]), np.abs(z[:-1]))
    off = _excess(np.abs(z[:4] - cycle.latent * np.array([1, -1, 1, -1])), 0)
    if isinstance(r, prox.BinaryL1):
        return off
    slope = w[:4] + strength / lr * regularizer_gradient(r, w[:4])
    return max(off, _excess(np.abs(slope - (1.5 - 1 / lr) * w[:4]), 0))


def held_by_l1(rng: np.random.Generator) -> float:
    """How many weights on levels stay although they should not, or the reverse; exact numbers."""
    r = [prox.BinaryL1(), prox.LevelsL1((-2, -0.5, 0, 3))][rng.integers(2)]
    w = rng.choice(r.levels(np.zeros(1)), 20)
    moved, strength = w + rng.integers(-24, 25, 20) / 8, rng.integers(0, 17) / 8
    return float((held(r, w, moved, strength) != (r.prox(moved, strength) == w)).sum())


def adam_moves(rng: np.random.Generator) -> float:
    """Moves against the bound of their step; in half of the trials gradients are the worst."""
    t, betas = int(rng.integers(1, 60)), (rng.uniform(0.1, 0.95), rng.uniform(0.95, 0.9995))
    g = rng.normal(size=t) * 10.0 ** rng.uniform(-6, 6, t)
    if rng.integers(2):
        g = rng.choice([-1, 1]) * 10.0 ** rng.uniform(-6, 6) * adam_worst_gradients(betas, t)
    w, moves = Tensor(np.zeros(1), requires_grad=True), []
    adam = Adam([w], 1.0, betas, eps=0.0)
    for one in g:
        before, w.grad = w.data[0], np.array([one])
        adam.step()
        moves.append(abs(w.data[0] - before))
    bounds = [adam_move_bound(betas, n) for n in range(1, t + 1)]
    return max(_excess(moves, bounds), _excess(bounds, adam_move_bound(betas)))


def finite_time_with_adam(rng: np.random.Generator) -> float:
    """As `finite_time`, with Adam on gradients of any size and lambda above its bound."""
    d, bound = rng.integers(3, 12), adam_move_bound()
    lr, lam = rng.uniform(0.02, 0.99 / bound), bound + rng.uniform(0.5, 5)
    start = np.concatenate([[-1.0, 1.0], rng.uniform(-2, 2, d)])
    steps = steps_to_quantize(1 + ROUNDING, lr, np.full(2000, lam), bound)
    w = Tensor(start.copy(), requires_grad=True)
    eager = ProxGradient(Adam([w], lr), [w], prox.BinaryL1(), prox.Constant(lam))
    path = []
    for _ in range(steps):
        w.grad = rng.normal(size=w.shape) * 10.0 ** rng.uniform(-3, 3)
        eager.step()
        path.append(w.data.copy())
    ends = (path[-1][:2] != start[:2]).sum() + (np.abs(path[-1]) != 1).sum()
    return float(flips(np.array(path)).sum() + ends)


def nearest_corner(rng: np.random.Generator) -> float:
    """The promised share of time at sign_pm(x*), less the error that the mean may still have."""
    d, steps = rng.integers(1, 5), 1000
    loss, x = quadratic_on_cube(rng, d)
    run = by_projection(loss.gradient, np.zeros(d), np.full(steps, 0.1), sign_pm)
    there = (run.iterates[:-1] == sign_pm(x)).all(axis=1).mean()
    return _excess(time_at_nearest_corner(x) - d * inner_distance(loss, x, steps) / 2, there)


def forward_backward(rng: np.random.Generator) -> float:
    """Clipped straight-through against dual averaging on the complement of the cube."""
    d, lrs = rng.integers(1, 5), rng.uniform(0.01, 1, 60)
    loss, z0 = random_ridge(rng, d, convex=bool(rng.integers(2))), rng.normal(size=d)

    def inside(z):
        return (np.abs(z) <= 1).astype(float)

    def composed(p):
        return inside(p) * loss.gradient(np.clip(p, -1, 1))

    pair = by_forward_backward(loss.gradient, z0, lrs, sign_pm, inside)
    twin = by_projection(composed, z0, lrs, outside_cube)
    return _excess(np.abs(pair.latents - twin.latents), 0)


def mirror(rng: np.random.Generator) -> float:
    """Lazy tanh against mirror descent by odds, and the regret from 0."""
    d, b, lrs = rng.integers(1, 5), rng.uniform(0.2, 4), rng.uniform(0.01, 0.3, 40)
    loss, tanh = random_ridge(rng, d, convex=True), prox.TanhMirror()
    run = by_projection(loss.gradient, np.zeros(d), lrs, lambda z: tanh.prox(z, b))
    twin = mirror_descent(loss.gradient, np.zeros(d), lrs, b)
    bound = mirror_regret(run, lrs, rng.uniform(-1, 1, d), b)
    return max(_excess(np.abs(run.iterates - twin), 0), _excess(*bound))


def last_iterate(rng: np.random.Generator) -> float:
    """The gap of the last iterate of AProx, to any point, against its bound."""
    d, steps = int(rng.integers(1, 5)), int(rng.integers(1, 200))
    levels = np.append(0, np.cumsum(rng.uniform(0.3, 1, rng.integers(1, 4))))
    r = prox.PiecewiseAffine(levels)
    loss, lam = random_ridge(rng, d, convex=True), rng.uniform(0, 2)
    z0, x = rng.uniform(-levels[-1], levels[-1], (2, d))
    slope = np.linalg.norm(loss.gradient_bound) + lam * r.slopes[-1] * np.sqrt(d)
    far = float(np.linalg.norm(x - z0))
    lr = last_iterate_step(far, slope, steps) * rng.uniform(0.3, 3)
    w = by_aggregate_prox(loss.gradient, r, z0, [lr] * (steps - 1), lam).iterates[-1]
    gap = loss.value(w) + lam * r.value(w) - loss.value(x) - lam * r.value(x)
    return _excess(gap, last_iterate_bound(far, slope, steps, lr))


def few_samples(rng: np.random.Generator) -> float:
    """By how many the weights off the levels outnumber the samples, at a critical point."""
    n, d = rng.integers(1, 4), rng.integers(4, 10)
    kinds = [prox.BinaryL1(), prox.LevelsL1((-1, 0, 1)), prox.PiecewiseAffine((0, 1, 2), (0.5, 1))]
    r, a, y = kinds[rng.integers(3)], rng.normal(size=(n, d)), rng.normal(size=n)
    w = critical_point(a, y, r, rng.uniform(0.1, 1), rng.uniform(-1.5, 1.5, d), sweeps=200_000)
    return float(max(off_levels(r, w, ROUNDING) - n, 0))


def rounded_w(rng: np.random.Generator) -> float:
    """W - delta <= R <= W, and its gradient's Lipschitz constant 1/delta, at random points."""
    r = RoundedW(rng.uniform(0.001, 0.5))
    x, y = rng.uniform(-3, 3, (2, 50))
    low = max(_excess(prox.BinaryL1().value(v) - r.delta, r.value(v)) for v in x[:, None])
    high = max(_excess(r.value(v), prox.BinaryL1().value(v)) for v in x[:, None])
    steep = _excess(np.abs(r.gradient(x) - r.gradient(y)), np.abs(x - y) / r.delta)
    return max(low, high, steep)


def finite_time(rng: np.random.Generator) -> float:
    """How many signs change, weights leave levels or are not quantized, later than allowed."""
    d, n = rng.integers(3, 12), 200
    lr_times_bound, bound = rng.uniform(0.01, 0.99), rng.uniform(0.1, 4)
    lr, lam = lr_times_bound / bound, bound + rng.uniform(0.1, 4)
    w0 = np.concatenate([[-1.0, 1.0, 0.0], rng.uniform(-2, 2, d)])
    vectors = iter(bound * np.clip(rng.uniform(-2, 2, (n, len(w0))), -1, 1))  # often +-bound
    w = prox_gradient(lambda _: next(vectors), prox.BinaryL1(), w0, lr, np.full(n, lam))
    bad = flips(w[1:]).sum() + (w[:, :2] != w0[:2]).sum()
    if (lam - bound) * lr * n > 1.1:  # long enough for a distance of 1
        steps = steps_to_quantize(1 + ROUNDING, lr, np.full(n, lam), bound)
        bad += (np.abs(w[steps:]) != 1).sum()
    return float(bad)


def distance_prox(rng: np.random.Generator) -> float:
    """The objective at (x + s P(x))/(1 + s) against the least over all codes of a tiny tensor."""
    x, s = rng.normal(size=4), rng.uniform(0.01, 10)
    r, codes = [
        (prox.TernaryL2(symmetric=True), brute.ternary_codes(4, symmetric=True)),
        (prox.TernaryL2(), brute.ternary_codes(4, symmetric=False)),
        (prox.MultiBitL2(2, projection="exact"), brute.multibit_codes(4, 2)),
    ][rng.integers(3)]
    least, _ = brute.exhaustive_prox(x, s, codes)
    return _excess(brute.objective(r, r.prox(x, s), x, s), least)
