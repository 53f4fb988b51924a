"""For each assumption of each theorem, a smallest problem that breaks the conclusion.

`GALLERY` holds them as data. Each is replayed twice on the same problem: with the assumption, when
the conclusion holds, and without it, when it does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from proxquant_np.prox import (
    BinaryL1,
    BinaryL2,
    LevelsL2,
    PiecewiseAffine,
    TanhMirror,
    TernaryL2,
    sign_pm,
)
from proxquant_np.theory.base_moves import adam_move_bound, adam_worst_gradients
from proxquant_np.theory.convergence import prox_gradient, run_prox_gradient
from proxquant_np.theory.dual_averaging import by_enumeration, by_projection, regret
from proxquant_np.theory.fixed_points import fixed_points, is_fixed_point, settle
from proxquant_np.theory.forward_backward import by_forward_backward
from proxquant_np.theory.last_iterate import by_aggregate_prox
from proxquant_np.theory.lazy_cycle import lazy_two_cycle
from proxquant_np.theory.mirror_descent import mirror_descent
from proxquant_np.theory.stability import (
    flips,
    frank_wolfe,
    predicted_time_at_plus_one,
    time_at_plus_one,
)
from proxquant_np.theory.toys import Quadratic, SmoothW, f_minus, f_plus


class Counterexample(NamedTuple):
    """An assumption of a theorem, a problem without it, and whether the conclusion holds there.

    `holds(kept)` is the conclusion with (True) and without (False) the assumption.

    Examples:
        >>> one = pq.theory.GALLERY[0]
        >>> one.theorem, one.assumption
        ('straight-through is dual averaging', 'the projection is exact')
        >>> one.holds(True), one.holds(False)
        (True, False)
    """

    theorem: str
    assumption: str
    problem: str
    holds: Callable[[bool], bool]


GALLERY: list[Counterexample] = []


def _breaks(theorem: str, assumption: str, problem: str) -> Callable:
    def add(holds):
        GALLERY.append(Counterexample(theorem, assumption, problem, holds))
        return holds

    return add


def _one(a: float, b: float) -> Quadratic:
    """a/2 x^2 + b x."""
    return Quadratic(np.array([[a]]), np.array([b]))


def _connect(loss, z0, lrs):
    return by_projection(loss.gradient, np.array([z0]), lrs, sign_pm)


def _given(vectors):
    """A gradient that ignores the weights and returns these vectors in turn."""
    left = iter(np.atleast_1d(vectors).astype(float))
    return lambda w: np.full(np.shape(w), next(left))


DUAL = "straight-through is dual averaging"


@_breaks(DUAL, "the projection is exact", "z = (1, 0.4, 0.4), ternary by threshold")
def _heuristic(kept):
    z = np.array([1.0, 0.4, 0.4])
    best = TernaryL2(symmetric=True)
    r = best if kept else TernaryL2(symmetric=True, projection="threshold")
    return bool(np.isclose(*(np.square(q.project(z) - z).sum() for q in (r, best))))


@_breaks(DUAL, "plain steps", "L = x^2/2 - x/2, z_0 = -3, lr 1/4, momentum 1/2")
def _momentum(kept):
    loss, z, velocity, total, same = _one(1.0, -0.5), -3.0, 0.0, 0.0, True
    for _ in range(30):
        g = loss.gradient(sign_pm([z]))[0]
        total += 0.25 * g
        velocity = g + (0.0 if kept else 0.5) * velocity
        z -= 0.25 * velocity
        same &= bool(sign_pm([z]) == sign_pm([-3.0 - total]))
    return same


@_breaks(DUAL, "the latent is not clipped", "L = x^2/2 - x/2, z_0 = -3, lr 1/4")
def _clipped(kept):
    loss, z, total, same = _one(1.0, -0.5), -3.0, 0.0, True
    for _ in range(30):
        g = loss.gradient(sign_pm([z]))[0]
        total += 0.25 * g
        z = z - 0.25 * g if kept else float(np.clip(z - 0.25 * g, -1, 1))
        same &= bool(sign_pm([z]) == sign_pm([-3.0 - total]))
    return same


@_breaks(DUAL, "no weight decay", "gradient -1, z_0 = -1, lr 1/2, decay 1")
def _decay(kept):
    z, total, same = -1.0, 0.0, True
    for g in (-1.0, -0.25):
        total += 0.5 * g
        z -= 0.5 * (g + (0.0 if kept else 1.0) * z)
        same &= bool(sign_pm([z]) == sign_pm([-1.0 - total]))
    return same


@_breaks(DUAL, "ties are broken the same way", "f+, z_0 = 0")
def _ties(kept):
    def lower(z):
        return np.where(z > 0, 1.0, -1.0)

    run = by_projection(f_plus.gradient, np.zeros(1), [0.25] * 3, sign_pm if kept else lower)
    literal = by_enumeration(f_plus.gradient, np.zeros(1), [0.25] * 3, (-1, 1))
    return bool((run.iterates == literal).all())


@_breaks("the regret of dual averaging", "Q is convex", "f+, z_0 = 0.1, 1000 steps")
def _convex_set(kept):
    lrs = np.full(1000, 1.1 / np.sqrt(1000))
    project = (lambda z: np.clip(z, -1, 1)) if kept else sign_pm
    run = by_projection(f_plus.gradient, np.array([0.1]), lrs, project)
    return bool((regret(run, lrs, np.array([-1.0])).slack >= -1e-9).all())


@_breaks("BinaryConnect fails on a toy", "gradients agree on Q", "constant gradients +1 and -1")
def _toys_differ(kept):
    slopes = ((f_plus.gradient, -1), (f_minus.gradient, 1)) if kept else (
        (lambda s: np.ones(1), -1),
        (lambda s: -np.ones(1), 1),
    )  # fmt: skip
    ends = [by_projection(g, np.array([0.3]), [0.1] * 20, sign_pm).iterates[-1] for g, _ in slopes]
    return any(end != best for end, (_, best) in zip(ends, slopes, strict=True))


SOLVED = "ProxQuant solves both toys"


@_breaks(
    SOLVED, "lambda rises slowly", "f+, w_0 = 1, lr 1/8, lambda 1/2 for 14 or 15 steps, then 3"
)
def _slow(kept):
    lams = np.repeat([0.5, 3.0], [15 if kept else 14, 10])
    return bool(prox_gradient(f_plus.gradient, BinaryL1(), [1.0], 0.125, lams)[-1] == -1)


@_breaks(SOLVED, "lambda lasts", "f+, w_0 = -9/16, lr 1/8, lambda 2 for 8 or 3 steps")
def _long(kept):
    lams = np.full(8 if kept else 3, 2.0)
    return bool(prox_gradient(f_plus.gradient, BinaryL1(), [-0.5625], 0.125, lams)[-1] == -1)


@_breaks(SOLVED, "the gradient at the kink is +1 if lr = 1/2", "f+, w_0 = -1/2, lambda 3/2")
def _kink(kept):
    def gradient(w):
        return np.where(w == -0.5, 1.0 if kept else -1.0, f_plus.gradient(w))

    return bool(prox_gradient(gradient, BinaryL1(), [-0.5], 0.5, [1.5] * 4)[-1] == -1)


FIXED = "fixed points of BinaryConnect"


@_breaks(FIXED, "the steps sum to infinity", "L = x^2/2, z_0 = 3, lr_t = 2^-t")
def _summable(kept):
    lrs = 1 / np.arange(1.0, 60) if kept else 0.5 ** np.arange(60)
    stays = (_connect(_one(1.0, 0.0), 3.0, lrs).iterates == 1).all()
    return bool(stays == is_fixed_point(_one(1.0, 0.0).gradient, np.ones(1)))


@_breaks(FIXED, "L is convex (with an inner minimum there is none)", "L = x^2/2, or -x^2/2")
def _concave(kept):
    return not len(fixed_points(_one(1.0 if kept else -1.0, 0.0).gradient, 1))


@_breaks(
    FIXED, "the minimiser is not a corner (then it flips forever)", "L = x^2/2 + b x, b = 1/2 or 2"
)
def _corner(kept):
    loss = _one(1.0, 0.5 if kept else 2.0)
    return settle(loss.gradient, np.zeros(1), 0.5).verdict == "cycle"


TWIN = "the running mean is Frank-Wolfe"


def _twin(z0, lrs, gradient, steps=25):
    signs = by_projection(gradient, np.array([z0]), lrs, sign_pm).iterates[:-1]
    means = np.cumsum(signs, axis=0) / np.arange(1, steps + 1)[:, None]
    return bool(np.allclose(means, frank_wolfe(gradient, np.ones(1), steps)))


@_breaks(TWIN, "z_0 = 0", "L = x^2/2 - x/2, z_0 = 3/4, lr 1/4")
def _twin_start(kept):
    return _twin(0.0 if kept else 0.75, np.full(25, 0.25), _one(1.0, -0.5).gradient)


@_breaks(TWIN, "lr is constant", "L = x^2/2 - x/2, lr_t = 1/t")
def _twin_steps(kept):
    lrs = np.full(25, 0.25) if kept else 1 / np.arange(1.0, 26)
    return _twin(0.0, lrs, _one(1.0, -0.5).gradient)


@_breaks(TWIN, "L is quadratic", "the gradient is cubic, x^3 - 1/4")
def _twin_cubic(kept):
    return _twin(
        0.0, np.full(25, 0.25), _one(1.0, -0.5).gradient if kept else lambda x: x**3 - 0.25
    )


TIME = "time at +1 is (1 + x*)/2"


@_breaks(TIME, "L is strictly convex", "L = x^2/2, or -x^2/2, stationary at 0")
def _time_concave(kept):
    run = _connect(_one(1.0 if kept else -1.0, 0.0), 0.0, np.full(400, 0.125))
    return bool(time_at_plus_one(run.iterates[1:]) == predicted_time_at_plus_one(np.zeros(1)))


@_breaks(TIME, "L is quadratic", "f+, with its minimum at -1/2")
def _time_toy(kept):
    loss = _one(1.0, 0.5) if kept else f_plus
    run = _connect(loss, 0.0, np.full(400, 0.125))
    share = time_at_plus_one(run.iterates[:-1])
    return bool(share == predicted_time_at_plus_one(np.array([-0.5])))


DESCENT = "prox-gradient descends"


def _descends(loss, r, w, lam, steps, lr):
    run = run_prox_gradient(loss, r, np.array([w]), lam, steps, beta=1 / (2 * lr))
    return bool((np.diff(run.objective()) <= 1e-12).all())


@_breaks(DESCENT, "lr <= 1/beta", "L = x^2/2 + b x, w_0 = -1/2, a step that ends at 0, BinaryL1")
def _large_step(kept):
    c = 1.0 if kept else 0.875
    return _descends(_one(1.0, (1 - c) / 2), BinaryL1(), -0.5, c / 2, 1, 1 / c)


class _HalfProx(SmoothW):
    """Halfway to the argmin."""

    def _prox(self, x, s, out, tmp):
        super()._prox(x, s, out, tmp)
        out[...] = (x + out) / 2


@_breaks(DESCENT, "the prox is exact", "L = x^2/2 - 2x, SmoothW at lambda 5, half of its prox")
def _inexact(kept):
    return _descends(_one(1.0, -2.0), SmoothW() if kept else _HalfProx(), 0.6, 5.0, 3, 0.5)


@_breaks(DESCENT, "the full gradient", "(x - 1)^2/4 + (x + 1)^2/4 from 0, twice the first half")
def _batches(kept):
    def gradient(w):
        return w if kept else w - 1

    w = prox_gradient(gradient, BinaryL2(), [0.0], 0.5, [0.0])
    return bool(w[1] ** 2 <= w[0] ** 2)


@_breaks("the gradient of F vanishes", "R has a gradient", "L = x^2/2 - x/2, w_0 = 1, lambda 2")
def _no_gradient(kept):
    if kept:
        run = run_prox_gradient(_one(1.0, -0.5), BinaryL2(), np.ones(1), 2.0, 60)
        return bool(run.gradient_norms()[-1] < 1e-9)
    w = prox_gradient(_one(1.0, -0.5).gradient, BinaryL1(), [1.0], 0.5, [2.0] * 60)[-1, 0]
    return 0.0 in (w - 0.5 - 2, w - 0.5 + 2)  # its slopes to the left and to the right


LAZY = "lazy prox-gradient cycles"


@_breaks(LAZY, "s > 1 - lr/2 for the smooth W", "L = w^2/2, lr 1/2, s = 7/8 or 5/8")
def _threshold(kept):
    return lazy_two_cycle(SmoothW(), 0.5, 0.875 if kept else 0.625) is not None


@_breaks(LAZY, "R is not convex", "L = w^2/2, lr 1/2, s = 2, R = w^2/2")
def _convex_r(kept):
    r = BinaryL2() if kept else LevelsL2((0,))
    run = by_projection(_one(1.0, 0.0).gradient, np.ones(1), [0.5] * 60, lambda z: r.prox(z, 2.0))
    return bool(flips(run.iterates[-10:]) == 9)


FINITE = "finite-time quantization"


@_breaks(FINITE, "lambda > G", "w_0 = 1, gradient +1, lr 1/8, lambda 1/2")
def _weak(kept):
    w = prox_gradient(_given(np.ones(3)), BinaryL1(), [1.0], 0.125, [1.5 if kept else 0.5] * 3)
    return bool((w == 1).all())


@_breaks(FINITE, "lambda_t > G_{t+1}", "w_0 = 1/16, |g| = 1/2 then 8, lambda 1 then 9, lr 1/16")
def _next_gradient(kept):
    lams = [9.0, 9.0] if kept else [1.0, 9.0]
    return not flips(
        prox_gradient(_given([0.5, 8.0]), BinaryL1(), [0.0625], 0.0625, lams)[1:]
    ).any()


@_breaks(FINITE, "lr G < 1", "w_0 = 1, g = 3 sign(w), lr 1/2, lambda 3.5")
def _large_move(kept):
    lr = 0.25 if kept else 0.5
    return not flips(
        prox_gradient(lambda w: 3 * sign_pm(w), BinaryL1(), [1.0], lr, [3.5] * 9)
    ).any()


@_breaks(FINITE, "lr does not rise", "w = 3/32, g = sign(w), lambda 1.5, lr 1/16 then 1/2")
def _rising(kept):
    lr = 0.0625 if kept else 0.5
    return not flips(prox_gradient(sign_pm, BinaryL1(), [0.09375], lr, [1.5])).any()


@_breaks(FINITE, "R has a kink at the level", "w_0 = 1, gradient +1, lr 1/8, lambda 100")
def _flat(kept):
    r = BinaryL1() if kept else BinaryL2()
    return bool((prox_gradient(_given(np.ones(9)), r, [1.0], 0.125, [100.0] * 9) == 1).all())


@_breaks(FINITE, "the level stays the nearest", "q = 1, m = -5/4, strength 2")
def _midpoint(kept):
    return bool(BinaryL1().prox([1 - (0.75 if kept else 1.25)], 2.0) == 1)


@_breaks("Adam's moves are bounded", "beta1^2 < beta2", "beta2 = 0.8, the worst gradients")
def _unbounded(kept):
    betas = (0.9, 0.999 if kept else 0.8)
    return bool(adam_move_bound(betas, 4000) < 8)


@_breaks("Adam's weights stay on levels", "lambda > 7.27, not only > |g|", "|g| <= 1e-3, lambda 1")
def _adam(kept):
    g, m, v, w = 1e-3 * adam_worst_gradients((0.9, 0.999), 200), 0.0, 0.0, np.ones(1)
    for t, one in enumerate(g, 1):
        m, v = 0.9 * m + 0.1 * one, 0.999 * v + 0.001 * one**2
        move = 0.125 * m / (1 - 0.9**t) / np.sqrt(v / (1 - 0.999**t))
        w = BinaryL1().prox(w - move, 0.125 * (7.5 if kept else 1.0))
    return bool(w == 1)


@_breaks("a pair of passes is dual averaging", "B is constant where F is", "g = 1, -1 and -1, 1")
def _smooth_backward(kept):
    def bump(z):
        return np.ones_like(z) if kept else 1 / np.cosh(z) ** 2

    ends = [
        by_forward_backward(_given(g), np.ones(1), [0.5] * 2, sign_pm, bump).latents[-1]
        for g in ([1.0, -1.0], [-1.0, 1.0])
    ]
    return bool(ends[0] == ends[1])


@_breaks("lazy with tanh is mirror descent", "the map is that of the mirror", "f+, sin for tanh")
def _other_map(kept):
    def tanh(z):
        return TanhMirror().prox(z, 1.0)

    run = by_projection(f_plus.gradient, np.zeros(1), [0.25] * 5, tanh if kept else np.sin)
    twin = mirror_descent(f_plus.gradient, np.zeros(1), [0.25] * 5, 1.0)
    return bool(np.allclose(run.iterates, twin))


LAST = "the last lazy iterate converges"


def _last_gap(r, loss, lam, best):
    run = by_aggregate_prox(loss.gradient, r, np.array([0.1]), [0.01] * 2000, lam)
    late = run.iterates[-50:]
    gaps = [loss.value(w) + lam * r.value(w) - loss.value(best) - lam * r.value(best) for w in late]
    return bool(max(gaps) < 0.1)


@_breaks(LAST, "R is convex", "f+, z_0 = 0.1, lambda 3, the W")
def _last_w(kept):
    r = PiecewiseAffine([0, 1]) if kept else BinaryL1()
    return _last_gap(r, f_plus, 3.0, np.zeros(1) if kept else -np.ones(1))


FEW = "few samples, most weights quantized"


def _critical(r, a, y, w, lam):
    """Whether prox-gradient leaves w where it is."""
    moved = w - 0.125 * a.T @ (a @ w - y)
    return np.allclose(r.prox(moved, 0.125 * lam), w)


@_breaks(FEW, "columns in general position", "n = 1, A = (1, 1), w = (1/2, 1/2)")
def _equal_columns(kept):
    a, r = np.array([[1.0, 1.25 if kept else 1.0]]), PiecewiseAffine([0, 1], [1.0])
    return not _critical(r, a, a @ [0.5, 0.5] + 0.25, np.full(2, 0.5), 0.25)


@_breaks(FEW, "nonzero slopes", "n = 1, A = (1, 2), w = (1/2, 1/4) fits")
def _no_slope(kept):
    a, r = np.array([[1.0, 2.0]]), PiecewiseAffine([0, 1], [0.5 if kept else 0.0])
    return not _critical(r, a, a @ [0.5, 0.25], np.array([0.5, 0.25]), 0.25)


@_breaks(FEW, "kinks at the levels", "n = 1, A = (1, 2), BinaryL2")
def _no_kink(kept):
    a, r = np.array([[1.0, 2.0]]), BinaryL1() if kept else BinaryL2()
    w = np.array([0.9, 0.8])  # pulled as much as 1 : 2, which L2's slopes can balance
    return not _critical(r, a, a @ w - 0.1, w, 1.0)


@_breaks("the prox is (x + s P(x))/(1 + s)", "P is exact", "x = (1, 0.4, 0.4), ternary, s = 1")
def _wrong_prox(kept):
    x, best = np.array([1.0, 0.4, 0.4]), TernaryL2(symmetric=True)
    p = (best if kept else TernaryL2(symmetric=True, projection="threshold")).project(x)
    u = (x + p) / 2

    def cost(v):
        return 0.5 * np.square(v - x).sum() + best.value(v)

    return bool(cost(u) <= cost((x + best.project(x)) / 2) + 1e-12)
