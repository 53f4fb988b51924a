"""The conformance kit, checked: planted wrong implementations must all get the right diagnosis.

Each is a mistake that is easily made, and most have been published.
"""

import math

import numpy as np
import pytest

import proxquant_np as pq
from proxquant_np.conformance import checks, steps
from proxquant_np.prox import BinaryL1, BinaryL2, LevelsL1, TernaryL2

kit = pq.conformance


def pm(x):
    return np.where(x >= 0, 1, -1).astype(x.dtype)


def nearest(x, levels=(-1.0, 0.0, 0.25, 2.0), side="right"):
    levels = np.array(levels, x.dtype)
    return levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, x, side)]


# Proxes


def with_numpy_sign(x, s):
    return x - np.clip(x - np.sign(x), -s, s)


def positive_or_not(x, s):
    return x - np.clip(x - (2 * (x > 0) - 1).astype(x.dtype), -s, s)


def copysign(x, s):
    return x - np.clip(x - np.copysign(1, x).astype(x.dtype), -s, s)


def without_the_half(x, s):
    return ((x + 2 * s * pm(x)) / (1 + 2 * s)).astype(x.dtype)


def doubled(x, s):
    return x - np.clip(x - pm(x), -2 * s, 2 * s)


def overshooting(x, s):
    return (x + s * np.sign(pm(x) - x)).astype(x.dtype)


def gradient_step(x, s):
    return (x - s * (x - pm(x))).astype(x.dtype)


def hard(x, s):
    return pm(x)


def soft_threshold(x, s):
    return (np.sign(x) * np.maximum(np.abs(x) - s, 0)).astype(x.dtype)


def clipped(x, s):
    return (x - np.clip(x - pm(x), -s, s)).clip(-1, 1)


def in_place(x, s):
    x -= np.clip(x - pm(x), -s, s)
    return x


def in_float64(x, s):
    return x - np.clip(x - np.where(x >= 0, 1.0, -1.0), -s, s)


def divides_by_magnitude(x, s):
    return x - np.clip(x - x / np.abs(x), -s, s)


def matrices_only(x, s):
    u = np.empty_like(x)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            sign = 1 if x[i, j] >= 0 else -1
            u[i, j] = x[i, j] - min(max(x[i, j] - sign, -s), s)
    return u


def greedy(x, s):
    levels = np.array([-1.0, 0.0, 0.25, 2.0], x.dtype)
    q = levels[np.maximum(np.searchsorted(levels, x, "right") - 1, 0)]
    return np.clip(q, x - s, x + s).astype(x.dtype)


def tie_down(x, s):
    return np.clip(nearest(x, side="left"), x - s, x + s).astype(x.dtype)


def rounds_to_even(x, s):
    return np.clip(np.rint(x).clip(-1, 1), x - s, x + s).astype(x.dtype)


def flattens(x, s):
    return pm(x).reshape(-1)


def view_of_memory(x, s):
    """Walks through the memory of x as if it were in C order."""
    u = np.lib.stride_tricks.as_strided(x, (x.size,), (x.itemsize,))
    return (u - np.clip(u - pm(u), -s, s)).reshape(x.shape)


def wrong_levels_ternary(x, s):
    q = TernaryL2().project(x)
    return ((x + 2 * s * q) / (1 + 2 * s)).astype(x.dtype)


def one_step_between(x, s):
    return ((1 - s) * x + s * TernaryL2().project(x)).astype(x.dtype)


WRONG_PROXES = [
    (with_numpy_sign, "binary_l1", "sign(0)", "numpy.sign"),
    (positive_or_not, "binary_l1", "sign(0)", "lower level"),
    (copysign, "binary_l1", "sign(0)", "-0.0"),
    (without_the_half, "binary_l2", "factor of two", "doubled"),
    (doubled, "binary_l1", "factor of two", "doubled"),
    (overshooting, "binary_l1", "not a prox", "no clip"),
    (gradient_step, "binary_l2", "not a prox", "gradient step"),
    (hard, "binary_l1", "wrong strength", "projects"),
    (hard, "binary_l2", "wrong strength", "projects"),
    (soft_threshold, "binary_l1", "not nearest", "soft thresholding"),
    (clipped, "binary_l1", "not optimal", "clips"),
    (in_place, "binary_l1", "input mutated", "x was modified"),
    (in_float64, "binary_l1", "dtype changed", "float64"),
    (divides_by_magnitude, "binary_l1", "NaN", "NaN"),
    (matrices_only, "binary_l1", "rank", "only 2-D"),
    (flattens, "binary_l1", "rank", "only 1-D"),
    (view_of_memory, "binary_l1", "memory layout", "transpose"),
    (greedy, "levels_l1", "not nearest", "greedy"),
    (tie_down, "levels_l1", "wrong tie", "lower level"),
    (rounds_to_even, LevelsL1((-1, 0, 1)), "wrong tie", "0.5"),
    (wrong_levels_ternary, "ternary_l2", "factor of two", "doubled"),
    (one_step_between, "ternary_l2", "not a prox", ""),
    (lambda x, s: TernaryL2().project(x), "ternary_l2", "wrong strength", "strength"),
]

# Quantizers


def sign(w):
    return np.sign(w)


def binary_weight_network(w):
    return np.sign(w) * np.abs(w).mean()


def scale_per_row(w):
    rows = w.reshape(len(w), -1)
    return (pm(rows) * np.abs(rows).mean(axis=1, keepdims=True)).reshape(w.shape)


def threshold_ternary(w, factor=1.0, of_all=False):
    """Ternary Weight Networks: threshold 0.7 mean|w|, scale the mean beyond it."""
    beyond = np.abs(w) > 0.7 * np.abs(w).mean()
    count = w.size if of_all else max(1, beyond.sum())
    a = factor * np.abs(w[beyond]).sum() / count
    return (a * pm(w) * beyond).astype(w.dtype)


def ternary_nan(w):
    beyond = np.abs(w) > 0.7 * np.abs(w).mean()
    a = np.abs(w[beyond]).sum() / beyond.sum()
    return (a * pm(w) * beyond).astype(w.dtype)


def optimal_ternary_twice(w):
    return 2 * TernaryL2(symmetric=True).project(w)


def codes_not_weights(w):
    return np.sign(TernaryL2(symmetric=True).project(w))


def sorts_in_place(w):
    q = TernaryL2(symmetric=True).project(w)
    w.sort(axis=-1)
    return q


def fitted_per_sign(w):
    return TernaryL2().project(w)


def random_rounding(w, rng=np.random.default_rng(0)):  # noqa: B008
    a = np.abs(w).max()
    return (a * np.where(rng.random(w.shape) < (w / a + 1) / 2, 1, -1)).astype(w.dtype)


def greedy_codes(w, bits=3):
    """Refined greedy: codes by the signs of what is left, then coefficients by least squares."""
    flat = w.reshape(-1).astype(np.float64)
    codes, left = [], flat
    for _ in range(bits):
        codes.append(np.where(left >= 0, 1.0, -1.0))
        a = np.linalg.lstsq(np.stack(codes, 1), flat, rcond=None)[0]
        left = flat - np.stack(codes, 1) @ a
    return (flat - left).reshape(w.shape).astype(w.dtype)


def two_s_complement(w):
    """Codes -4 to 3 where the grid has -3 to 3."""
    a = np.abs(w).max() / 4 or 1
    return (np.clip(np.rint(w / a), -4, 3) * a).astype(w.dtype)


WRONG_QUANTIZERS = [
    (sign, "binary", "sign(0)", "numpy.sign"),
    (lambda w: w.copy(), "binary", "not quantized", "returned unchanged"),
    (lambda w: nearest(w, (-1.0, 0.0, 0.5, 2.0)), "levels", "not quantized", "0.5"),
    (lambda w: nearest(w + w.dtype.type(0.1)), "levels", "not nearest", "is nearer"),
    (lambda w: nearest(w, side="left"), "levels", "wrong tie", "lower level"),
    (binary_weight_network, "multibit_1", "sign(0)", "0"),
    (scale_per_row, "multibit_1", "rank", "another shape"),
    (lambda w: threshold_ternary(w, 2), "ternary_symmetric", "factor of two", "twice"),
    (lambda w: threshold_ternary(w, 0.5), "ternary", "factor of two", "half"),
    (optimal_ternary_twice, "ternary_symmetric", "factor of two", "twice"),
    (lambda w: threshold_ternary(w, 1, True), "ternary_symmetric", "wrong scale", "one magnitude"),
    (codes_not_weights, "ternary_symmetric", "wrong scale", "one magnitude"),
    (ternary_nan, "ternary_symmetric", "NaN", "NaN"),
    (sorts_in_place, "ternary_symmetric", "input mutated", "w was modified"),
    (fitted_per_sign, "ternary_symmetric", "not quantized", "2 different magnitudes"),
    (random_rounding, "multibit_1", "not repeatable", "second call"),
    (two_s_complement, "uniform_3", "not quantized", "evenly spaced"),
]

HEURISTICS = [
    (threshold_ternary, "ternary_symmetric", {"not nearest", "not optimal although claimed"}),
    (TernaryL2(projection="threshold").project, "ternary", {"not optimal although claimed"}),
    (greedy_codes, "multibit_3", {"not nearest"}),
]

# Steps


def gradient_at_latent(z, gradient, lr):
    z = z - lr * gradient(z)
    return z, pm(z)


def latent_overwritten(w, gradient, lr):
    w = pm(w)
    w = pm(w - lr * gradient(w))
    return w, w.copy()


def stale(z, gradient, lr):
    w = pm(z)
    return z - lr * gradient(w), w


def steps_in_place(z, gradient, lr):
    z -= lr * gradient(pm(z))
    return z, pm(z)


def maps_first(w, gradient, lr, strength):
    return BinaryL1().prox(w, strength) - lr * gradient(w)


def lr_twice(w, gradient, lr, strength):
    return BinaryL1().prox(w - lr * gradient(w), lr * strength)


def straight_through(w, gradient, lr, strength):
    return BinaryL1().project(w - lr * gradient(BinaryL1().project(w)))


def adam(w, gradient, lr, strength, m, v, t, correct=True, inside=False, hat=False, root=True):
    g = gradient(w)
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
    c = (1 - 0.9**t, 1 - 0.999**t) if correct else (1, 1)
    below = np.sqrt(v / c[1] + 1e-8) if inside else np.sqrt(v / c[1]) + 1e-8
    below = (np.sqrt(v) + 1e-8) / math.sqrt(c[1]) if hat else below
    below = below if root else v / c[1] + 1e-8
    u = BinaryL1().prox(w - lr * m / c[0] / below, strength)
    return u, m.astype(w.dtype), v.astype(w.dtype)


def adam_from_zero(w, gradient, lr, strength, m, v, t):
    """Moments that are made afresh: an optimizer that is rebuilt."""
    return adam(w, gradient, lr, strength, 0 * m, 0 * v, 1)


WRONG_STEPS = [
    (gradient_at_latent, "lazy_sgd", "gradient point", "at the latent"),
    (latent_overwritten, "lazy_sgd", "latent overwritten", ""),
    (stale, "lazy_sgd", "stale weights", "before the step"),
    (steps_in_place, "lazy_sgd", "input mutated", "latent was modified"),
    (maps_first, "eager_sgd", "order", "before the base step"),
    (lr_twice, "eager_sgd", "wrong strength", "lr once more"),
    (lambda w, g, lr, s: BinaryL1().prox(w + lr * g(w), s), "eager_sgd", "direction", ""),
    (lambda w, g, lr, s: (w, w), "eager_sgd", "result", "(ndarray, ndarray), not arrays (weights)"),
    (lambda w, g, lr, s: with_numpy_sign(w - lr * g(w), s), "eager_sgd", "sign(0)", "0 stays 0"),
    (lambda *a: adam(*a, correct=False), "eager_adam", "bias correction", "no division"),
    (lambda *a: adam(*a, inside=True), "eager_adam", "epsilon", "under the root"),
    (lambda *a: adam(*a, hat=True), "eager_adam", "epsilon", "before its correction"),
    (lambda *a: adam(*a[:-1], a[-1] + 1), "eager_adam", "bias correction", "once too often"),
    (adam_from_zero, "eager_adam", "wrong step", ""),
    (lambda *a: adam(*a, root=False), "eager_adam", "moments", "not by its root"),
    (
        lambda w, g, lr, s: BinaryL1().prox(w - lr * g(BinaryL1().project(w)), s),
        "eager_sgd",
        "gradient point",
        "at P(w)",
    ),
    (
        lambda w, g, lr, s: BinaryL2().prox(w - lr * g(w), s),
        "eager_sgd",
        "not optimal",
        "squared distance",
    ),
    (
        lambda z, g, lr: (lambda z: (z, np.sign(z)))(z - lr * g(BinaryL1().project(z))),
        "lazy_sgd",
        "sign(0)",
        "in the weights returned",
    ),
]


def diagnosed(report, kind, words):
    """Failed, for the reason given, with a counterexample, and in readable words."""
    assert not report
    assert (report.verdict, report.convention) == ("wrong", kind), f"\n{report}"
    assert words in report.fault.detail, f"\n{report}"
    text = str(report)
    assert text.startswith("WRONG") and kit.CONVENTIONS[kind] in text
    assert all(name in text for name in report.fault.inputs)


@pytest.mark.parametrize(("fn", "definition", "kind", "words"), WRONG_PROXES)
def test_wrong_proxes(fn, definition, kind, words):
    diagnosed(kit.check_prox(fn, definition), kind, words)


@pytest.mark.parametrize(("fn", "definition", "kind", "words"), WRONG_QUANTIZERS)
def test_wrong_quantizers(fn, definition, kind, words):
    diagnosed(kit.check_quantizer(fn, definition, exact=True), kind, words)


@pytest.mark.parametrize(("fn", "definition", "kinds"), HEURISTICS)
def test_heuristics_are_not_wrong_but_not_exact(fn, definition, kinds):
    modest, claimed = (kit.check_quantizer(fn, definition, exact=exact) for exact in (False, True))
    assert modest and modest.verdict == "heuristic"
    assert not claimed and claimed.verdict == "heuristic"
    assert claimed.convention in kinds, f"\n{claimed}"
    assert max(claimed.gaps.values()) > 0.01
    assert "in squared error over" in str(modest)


@pytest.mark.parametrize(("fn", "definition", "kind", "words"), WRONG_STEPS)
def test_wrong_steps(fn, definition, kind, words):
    diagnosed(kit.check_step(fn, definition), kind, words)


def test_every_diagnosis_has_its_convention():
    named = {*checks.VALUES, *(kind for kind, _ in steps.TWISTS.values())}
    assert named <= set(kit.CONVENTIONS)


# Gradients


def tanh_layer(x, w, b):
    return np.tanh(x @ w + b)


def tanh_layer_vjp(x, w, b, g):
    g = g * (1 - np.tanh(x @ w + b) ** 2)
    return g @ w.T, x.T @ g, g.sum(axis=0)


def cross_entropy(z):
    return float(np.mean(np.log(np.exp(z).sum(axis=1)) - z[:, 0]))


def cross_entropy_gradient(z, size=None):
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    p[:, 0] -= 1
    return p / (size or len(z))


rng = np.random.default_rng(0)
LAYER = [rng.normal(size=(4, 3)), rng.normal(size=(3, 3)), rng.normal(size=3)]
LOGITS = rng.normal(size=(5, 4))


def changed(i, change):
    """The right gradient of the layer, its part `i` changed."""

    def vjp(x, w, b, g):
        parts = list(tanh_layer_vjp(x, w, b, g))
        parts[i] = change(parts[i], x, w, b, g)
        return tuple(parts)

    return vjp


WRONG_GRADIENTS = [
    (tanh_layer, changed(0, lambda d, *a: -d), LAYER, "direction", "sign"),
    (tanh_layer, changed(1, lambda d, *a: d.T.copy()), LAYER, "transposed", "transposed"),
    (
        tanh_layer,
        changed(2, lambda d, x, w, b, g: g * (1 - tanh_layer(x, w, b) ** 2)),
        LAYER,
        "not summed",
        "(4, 3)",
    ),
    (tanh_layer, changed(2, lambda d, *a: 0 * d), LAYER, "wrong gradient", "zero"),
    (np.tanh, lambda x, g: 1 - np.tanh(x) ** 2, LOGITS, "wrong gradient", "not depend on g"),
    (tanh_layer, changed(0, lambda d, *a: d.astype(np.float32)), LAYER, "dtype changed", "float32"),
    (tanh_layer, lambda x, w, b, g: tanh_layer_vjp(x, w, b, g)[:2], LAYER, "result", "2 gradients"),
    (cross_entropy, lambda z: cross_entropy_gradient(z, 1), LOGITS, "not averaged", "5 times"),
    (cross_entropy, lambda z: 2 * cross_entropy_gradient(z), LOGITS, "factor of two", "twice"),
    (cross_entropy, lambda z: np.exp(z), LOGITS, "wrong gradient", "entry"),
    (cross_entropy, lambda z: z.no_such_thing, LOGITS, "raised", "AttributeError"),
]


@pytest.mark.parametrize(("fn", "grad_fn", "inputs", "kind", "words"), WRONG_GRADIENTS)
def test_wrong_gradients(fn, grad_fn, inputs, kind, words):
    report = kit.check_gradient(fn, grad_fn, inputs)
    assert not report
    assert report.convention == kind, f"\n{report}"
    assert words in report.fault.detail


# What is right passes, whatever its style


def one_liner(x, s):
    return x - np.clip(x - np.where(x >= 0, 1, -1).astype(x.dtype), -s, s)


def loop(x, s):
    u = np.empty_like(x)
    for index in np.ndindex(x.shape):
        v = float(x[index])
        level = 1.0 if v >= 0 else -1.0
        u[index] = v - min(max(v - level, -s), s)
    return u


def torch_prox(x, s):
    import torch

    one = torch.ones_like(x)
    return x - torch.clamp(x - torch.where(x >= 0, one, -one), -s, s)


def ternary_one_liner(w):
    a = np.sort(np.abs(w).reshape(-1))[::-1].astype(np.float64)
    m = np.argmax(np.cumsum(a) ** 2 / np.arange(1, a.size + 1))
    level = a[: m + 1].mean()
    return np.where(np.abs(w) > level / 2, np.where(w >= 0, level, -level), 0).astype(w.dtype)


def ternary_loop(w):
    magnitudes = sorted((abs(float(v)) for v in w.flat), reverse=True)
    best, level, total = -1.0, 0.0, 0.0
    for m, v in enumerate(magnitudes, 1):
        total += v
        if total * total / m > best:
            best, level = total * total / m, total / m
    q = [0.0 if abs(v) < level / 2 else math.copysign(level, v) for v in map(float, w.flat)]
    return np.array(q, w.dtype).reshape(w.shape)


def torch_ternary(w):
    import torch

    a = w.abs().reshape(-1).double().sort(descending=True).values
    sums = a.cumsum(0)
    m = torch.arange(1, len(a) + 1, dtype=sums.dtype)
    best = (sums**2 / m).argmax()
    level = (sums / m)[best].to(w.dtype)
    return torch.where(w.abs() > level / 2, torch.where(w >= 0, level, -level), 0 * w)


def lazy(z, gradient, lr):
    z = z - lr * gradient(pm(z))
    return z, pm(z)


def lazy_loop(z, gradient, lr):
    g = gradient(np.array([1 if v >= 0 else -1 for v in z], z.dtype))
    moved = [float(v) - lr * float(d) for v, d in zip(z, g, strict=True)]
    return np.array(moved, z.dtype), np.array([1 if v >= 0 else -1 for v in moved], z.dtype)


def torch_lazy(z, gradient, lr):
    import torch

    one = torch.ones_like(z)
    z = z - lr * gradient(torch.where(z >= 0, one, -one))
    return z, torch.where(z >= 0, one, -one)


@pytest.mark.parametrize("style", ["one-liner", "loop", "torch"])
def test_right_ones_pass_in_three_styles(style):
    adapt = kit.from_torch if style == "torch" else lambda fn: fn
    if style == "torch":
        pytest.importorskip("torch")
    prox, ternary, step = {
        "one-liner": (one_liner, ternary_one_liner, lazy),
        "loop": (loop, ternary_loop, lazy_loop),
        "torch": (torch_prox, torch_ternary, torch_lazy),
    }[style]
    for report in (
        kit.check_prox(adapt(prox), "binary_l1"),
        kit.check_quantizer(adapt(ternary), "ternary_symmetric", exact=True),
        kit.check_step(adapt(step), "lazy_sgd"),
    ):
        assert report and report.verdict == "right", f"\n{report}"
        assert str(report).startswith("PASSED")


def test_rounding_at_a_tie_is_not_a_mistake():
    """-0.2 is halfway between -0.5 and 0.1 as written, but not as rounded, nor are others."""
    levels = (-0.5, 0.1, 0.3, 3.0)

    def to_nearest(w):
        at = np.array(levels[::-1], w.dtype)
        return at[np.abs(np.subtract.outer(w, at)).argmin(axis=-1)]

    def by_midpoints(w):
        return nearest(w, levels)

    for project in (to_nearest, by_midpoints):
        assert kit.check_quantizer(project, LevelsL1(levels))
        assert kit.check_prox(
            lambda x, s, q=project: x - np.clip(x - q(x), -s, s), LevelsL1(levels)
        )


def test_torch_functions_are_caught_as_others():
    torch = pytest.importorskip("torch")

    def in_place(x, s):
        return x.sub_(torch.clamp(x - torch.sign(x), -s, s))

    report = kit.check_prox(kit.from_torch(in_place), "binary_l1")
    assert (report.name, report.convention) == ("in_place", "input mutated")


def test_right_gradients_pass():
    assert kit.check_gradient(tanh_layer, tanh_layer_vjp, LAYER)
    assert kit.check_gradient(cross_entropy, cross_entropy_gradient, LOGITS)
    assert kit.check_step(adam, "eager_adam")
