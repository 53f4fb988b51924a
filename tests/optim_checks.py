"""Checks of optimizers, each a function of the class under test.

test_optim.py, test_prox_gradient.py and test_dual_averaging.py apply them to the package,
test_checkers_optim.py to planted mistakes. Beside them, the plain formula of each base step: one
parameter, no blocks, nothing in place.
"""

from __future__ import annotations

import copy
import math

import numpy as np

import proxquant_np.functional as F
from proxquant_np import Tensor
from proxquant_np.optim import SGD
from proxquant_np.optim.optimizer import _BLOCK as BLOCK
from proxquant_np.prox import BinaryL1, Constant, Linear


def leaf(data, dtype=np.float32):
    return Tensor(np.array(data, dtype), requires_grad=True)


def plain_sgd(w, grads, lr, momentum=0.0, weight_decay=0.0, nesterov=False):
    """The weights after a step with each of the gradients; None stands for no gradient."""
    m = np.zeros_like(w)
    for g in grads:
        if g is not None:
            g = g + weight_decay * w
            m = momentum * m + g
            w = w - lr * (g + momentum * m if nesterov else m)
    return w


def plain_adam(w, grads, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    """The same for Adam, its last line multiplied out by the root of the second correction."""
    beta1, beta2 = betas
    m, v, t = np.zeros_like(w), np.zeros_like(w), 0
    for g in grads:
        if g is not None:
            t += 1
            g = g + weight_decay * w
            m = beta1 * m + (1 - beta1) * g
            v = beta2 * v + (1 - beta2) * (g * g)
            root = math.sqrt(1 - beta2**t)
            w = w - m / (np.sqrt(v) + eps * root) * (lr * root / (1 - beta1**t))
    return w


def textbook_adam(w, grads, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    """Adam as its docstring has it, in float64."""
    w, m, v = np.float64(w), 0.0, 0.0
    for t, g in enumerate(grads, 1):
        g = g + weight_decay * w
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        w = w - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return w


SGD_OPTIONS = {
    "plain": dict(lr=0.1),
    "weight decay": dict(lr=0.1, weight_decay=0.01),
    "momentum": dict(lr=0.1, momentum=0.9),
    "Nesterov": dict(lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True),
}
ADAM_OPTIONS = {
    "plain": dict(lr=0.01),
    "weight decay": dict(lr=0.01, weight_decay=0.01),
    "betas and eps": dict(lr=0.01, betas=(0.5, 0.9), eps=1e-3),
}


def check_base(optimizer, plain, options, dtype=np.float32):
    """`optimizer` moves each parameter by the plain formula, bit for bit, whatever its size.

    Sizes: joined small ones, none at all, a frozen one and one that gets no gradient among them,
    one that fills a block, one of several blocks, one that is not contiguous.
    """
    rng = np.random.default_rng(0)
    shapes = [(3, 4), (5,), (), (0, 2), (4,), (2, 3), (6,), (BLOCK,), (7,), (2 * BLOCK + 3,), (3,)]
    params = [leaf(rng.normal(size=shape), dtype) for shape in shapes]
    params.append(Tensor(rng.normal(size=(200, 300)).astype(dtype).T[::2], requires_grad=True))
    params.append(Tensor(rng.normal(size=(2, 3)).astype(dtype).T, requires_grad=True))
    frozen, unreached, sometimes = 4, 5, 6
    params[frozen].requires_grad = False
    before = [p.data.copy() for p in params]
    arrays = [p.data for p in params]
    opt = optimizer(params, **options)
    seen = [[] for _ in params]
    for t in range(5):
        for i, p in enumerate(params):
            p.grad = rng.normal(size=p.shape).astype(dtype)
            if i == unreached or (i == sometimes and t in (0, 3)):
                p.grad = None
            seen[i].append(None if p.grad is None or i == frozen else p.grad.copy())
        opt.step()
        for p, grads in zip(params, seen, strict=True):
            assert p.grad is None or grads[-1] is None or np.array_equal(p.grad, grads[-1])
    for i, (p, w, grads) in enumerate(zip(params, before, seen, strict=True)):
        assert p.dtype == dtype and p.data is arrays[i], f"params[{i}] was replaced"
        assert np.array_equal(p.data, plain(w, grads, **options)), f"params[{i}], shape {p.shape}"


def check_frozen(optimizer, **options):
    """Weights that are frozen after a few steps stay as they are, bit for bit."""
    for stale_gradient in (False, True):
        p, q = leaf([0.3, -0.7]), leaf([0.5, 2.0])
        opt = optimizer([p, q], **options)
        for t in range(6):
            if t == 3:
                p.requires_grad, frozen = False, p.data.copy()
            p.grad = np.float32([1, -2]) if t < 3 or stale_gradient else None
            q.grad = np.float32([1, -2])
            moving = q.data.copy()
            opt.step()
            assert not np.array_equal(q.data, moving)
            assert t < 3 or np.array_equal(p.data, frozen)


def check_round_trip(build, like=np.array_equal):
    """Saved after any step and loaded into a fresh optimizer, training goes on as if never stopped.

    `build(params)` makes the optimizer. The state must not follow the optimizer once taken.
    """

    def run(params, opt, steps):
        for t in steps:
            for i, p in enumerate(params):
                p.grad = (np.sin(p.data + i) + np.float32(0.1 * t)).astype(p.dtype)
            opt.step()

    def fresh():
        return [leaf([0.3, -0.7, 0.2]), leaf([[0.5], [-2.0]])]

    straight = fresh()
    run(straight, build(straight), range(8))
    for pause in (0, 1, 5):
        params = fresh()
        opt = build(params)
        run(params, opt, range(pause))
        weights, state = [p.data.copy() for p in params], copy.deepcopy(opt.state_dict())
        alias = opt.state_dict()
        run(params, opt, range(pause, pause + 2))
        for key, value in alias.items():
            assert np.array_equal(value, state[key]), f"{key} follows the optimizer"
        resumed = fresh()
        again = build(resumed)
        run(resumed, again, range(3))  # somewhere else
        for p, w in zip(resumed, weights, strict=True):
            p.data[...] = w
        again.load_state_dict(state)
        loaded = again.state_dict()
        assert list(loaded) == list(state)
        assert all(np.array_equal(loaded[k], v) for k, v in state.items())
        run(resumed, again, range(pause, 8))
        for p, q in zip(straight, resumed, strict=True):
            assert like(p.data, q.data), f"saved after step {pause}"


def lists(homotopy):
    return lambda t: homotopy[t]


def check_eager(wrapper):
    """w <- prox(w - lr g(w), lr lambda_t), with lambda_0 in the first step."""
    lambdas, lr, regularizer = [0.0, 0.5, 0.0, 3.0, 1.0], 0.125, BinaryL1()
    target = np.array([0.5, -0.25, 2.0, -3.0])
    p = leaf([0.25, -0.5, 1.5, 0.0], np.float64)
    opt = wrapper(SGD([p], lr), [p], regularizer, lists([*lambdas, 0.0]))
    w = p.data.copy()
    for t, lam in enumerate(lambdas):
        assert opt.strength == lr * lam
        p.grad = p.data - target
        opt.step()
        w = regularizer.prox(w - lr * (w - target), lr * lam)
        assert np.array_equal(p.data, w), f"step {t}"
    assert opt.steps == len(lambdas)


def quadratic(A, b):
    """1/2 w^T A w - b^T w for symmetric A, on tensors."""
    return lambda w: 0.5 * F.sum(w * F.matmul(A, w)) - F.sum(b * w)


DYADIC = dict(
    A=np.array([[2, 1, 0], [1, 3, -1], [0, -1, 2]]),
    b=np.array([1, -2, 0]),
    start=np.array([5, -3, 0]) / 16,
    lr=0.25,
    steps=12,
)


def check_closed_form(wrapper, A, b, start, lr, steps, dtype=np.float64):
    """w_t = P(z_0 - sum_{s < t} lr g(w_s)), by arithmetic that is exact for such data."""
    A, b = A.astype(dtype), b.astype(dtype)
    p = leaf(start, dtype)
    opt = wrapper(SGD([p], lr), [p], BinaryL1())
    total = np.zeros(len(b))
    for _ in range(steps):
        w = np.where(start - total >= 0, 1.0, -1.0)
        assert np.array_equal(p.data, w)
        opt.zero_grad()
        quadratic(A, b)(p).backward()
        assert np.array_equal(p.grad, A @ w - b)
        opt.step()
        opt.state_dict()
        total += lr * (A @ w - b)
        assert np.array_equal(opt.latent[0], start - total)


def check_straight_through(wrapper, A, b, start, lr, steps, dtype=np.float64, **options):
    """The same weights as straight-through in the graph, with the base on the latent leaf."""
    loss = quadratic(A.astype(dtype), b.astype(dtype))
    regularizer = BinaryL1()
    p, z = leaf(start, dtype), leaf(start, dtype)
    opt = wrapper(SGD([p], lr, **options), [p], regularizer)
    direct = SGD([z], lr, **options)
    for _ in range(steps):
        opt.zero_grad()
        loss(p).backward()
        direct.zero_grad()
        w = F.straight_through(z, regularizer.project)
        assert np.array_equal(w.data, p.data)
        loss(w).backward()
        opt.step()
        direct.step()
        assert np.array_equal(opt.latent[0], z.data)


def check_quantized_frozen(wrapper, freeze):
    """`freeze` projects, and no later step of the wrapper moves that; the rest moves on."""
    p, q = leaf([0.3, -0.7, 0.4]), leaf([0.5])
    regularizer = BinaryL1()
    opt = wrapper(SGD([p, q], 0.1, momentum=0.9), [p], regularizer, Linear(0.01))
    for t in range(6):
        if t == 3:
            freeze([p], regularizer)
            bits = p.data.copy()
            assert np.array_equal(np.abs(bits), np.ones(3)) and not p.requires_grad
            assert p.grad is None
        if t < 3:
            p.grad = np.float32([1, -2, 0.5])
        q.grad, moving = np.ones(1, np.float32), q.data.copy()
        opt.step()
        assert not np.array_equal(q.data, moving)
    assert np.array_equal(p.data, bits)


def check_clip(wrapper):
    """With clip=True, what the base moves (latent or weights) stays within [-1, 1]."""
    p = leaf([3.0, -2.0, 0.5])
    opt = wrapper(SGD([p], 0.5), [p], BinaryL1(), Constant(0.0), clip=True)
    for _ in range(5):
        p.grad = np.float32([-1, 1, -1])
        opt.step()
        for moved in (*getattr(opt, "latent", []), p.data):
            assert np.abs(moved).max() <= 1


def check_noticed(build):
    """Whatever a step moves is noticed by a backward that was recorded before the step.

    `build(params)` makes the optimizer; the first parameter moves whether it is one that the
    wrapper quantizes, or one that it only maps since it has no gradient.
    """
    for reached in (True, False):
        p, q = leaf([0.3, -0.7]), leaf([0.5, 0.25])
        opt = build([p, q])
        losses = [F.sum(p * p), F.sum(q * q)]
        if reached:
            p.grad = np.float32([1, 1])
        q.grad = np.float32([1, 1])
        before = p.data.copy(), q.data.copy()
        opt.step()
        for loss, moved in (
            (losses[0], not np.array_equal(p.data, before[0])),
            (losses[1], not np.array_equal(q.data, before[1])),
        ):
            try:
                loss.backward()
            except RuntimeError as error:
                assert "changed in place" in str(error)
            else:
                assert not moved


def check_one_wrapper(wrapper, other):
    """A base that another wrapper takes over is not stepped by the first, nor is anything moved."""
    p, q = leaf([0.5, -0.3]), leaf([0.2])
    sgd = SGD([p, q], 0.1)
    first = wrapper(sgd, [p])
    second = other(sgd, [q])
    p.grad, q.grad = np.float32([1, 2]), np.float32([-1])
    before = p.data.copy(), q.data.copy()
    try:
        first.step()
    except RuntimeError as error:
        assert "another wrapper" in str(error) and "SGD" in str(error)
    else:
        raise AssertionError("the base was stepped by both")
    assert np.array_equal(p.data, before[0]) and np.array_equal(q.data, before[1])
    second.step()  # as it would be after a phase with `first`, or a cell that was run again
    twin = copy.deepcopy(second)
    twin.step()
