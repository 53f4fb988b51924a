"""Base steps, and what all optimizers share: frozen weights, state, refusals."""

import copy
import threading

import numpy as np
import optim_checks as checks
import pytest
from optim_checks import ADAM_OPTIONS, SGD_OPTIONS, leaf

import proxquant_np.functional as F
from proxquant_np import Tensor, get_num_threads, quantize_and_freeze, set_num_threads
from proxquant_np.nn import Linear
from proxquant_np.optim import (
    SGD,
    Adam,
    Bop,
    DualAveraging,
    Optimizer,
    ProxGradient,
    clip_grad_norm,
)
from proxquant_np.prox import BinaryL1, Constant, TernaryL2

BASES = [(SGD, dict(lr=0.1, momentum=0.9)), (Adam, dict(lr=0.1))]
both = pytest.mark.parametrize(("optimizer", "options"), BASES, ids=["SGD", "Adam"])
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@dtypes
@pytest.mark.parametrize("options", SGD_OPTIONS)
def test_sgd_is_the_plain_formula(options, dtype):
    checks.check_base(SGD, checks.plain_sgd, SGD_OPTIONS[options], dtype)


@dtypes
@pytest.mark.parametrize("options", ADAM_OPTIONS)
def test_adam_is_the_plain_formula(options, dtype):
    checks.check_base(Adam, checks.plain_adam, ADAM_OPTIONS[options], dtype)


def test_threads_share_the_blocks_of_a_large_network():
    class Watched(Adam):
        def update(self, *args):
            threads.add(threading.get_ident())
            super().update(*args)

    weights = np.random.default_rng(0).normal(size=(6 * checks.BLOCK + 7,))
    moved, before = [], get_num_threads()
    try:
        for n in (1, 2, 3):
            threads = set()
            set_num_threads(n)
            params = [leaf(weights), leaf(weights[:5]), leaf(weights[:3])]
            optimizer = Watched(params)
            for p in params:
                p.grad = p.data**2
            optimizer.step()
            moved.append(np.concatenate([p.data for p in params]))
            assert (len(threads) > 1) == (n > 1)  # one thread may take several parts
    finally:
        set_num_threads(before)
    for other in moved[1:]:
        np.testing.assert_array_equal(other, moved[0])


@pytest.mark.parametrize("options", ADAM_OPTIONS)
def test_adam_is_the_textbook_formula(options):
    rng = np.random.default_rng(0)
    start, grads = rng.normal(size=4), rng.normal(size=(20, 4))
    p = leaf(start, np.float64)
    opt = Adam([p], **ADAM_OPTIONS[options])
    for g in grads:
        p.grad = g
        opt.step()
    expected = checks.textbook_adam(start, grads, **ADAM_OPTIONS[options])
    np.testing.assert_allclose(p.data, expected, rtol=1e-12, atol=1e-12)


@both
def test_frozen_weights_stay(optimizer, options):
    checks.check_frozen(optimizer, **options, weight_decay=0.1)


@both
def test_unfrozen_weights_go_on_where_they_were(optimizer, options):
    """A pause without gradients is no step: neither weights nor moments nor the count of steps."""
    p, q, rest = leaf([0.5]), leaf([0.5]), leaf([0.0])
    opt, twin = optimizer([p, rest], **options), optimizer([q], **options)
    for t in range(9):
        p.grad = None if 3 <= t < 6 else np.float32([1])
        rest.grad = np.float32([1])
        opt.step()
        if p.grad is not None:
            q.grad = p.grad
            twin.step()
        assert np.array_equal(p.data, q.data)


@pytest.mark.parametrize("options", [*SGD_OPTIONS.values()], ids=[*SGD_OPTIONS])
def test_sgd_round_trip(options):
    checks.check_round_trip(lambda params: SGD(params, **options))


@pytest.mark.parametrize("options", [*ADAM_OPTIONS.values()], ids=[*ADAM_OPTIONS])
def test_adam_round_trip(options):
    checks.check_round_trip(lambda params: Adam(params, **options))


def test_state_restores_hyperparameters():
    opt = SGD([leaf([0.0])], 0.1, momentum=0.9, weight_decay=0.01, nesterov=True)
    other = SGD([leaf([0.0])], 0.2, momentum=0.5)
    as_saved = {k: np.asarray(v) for k, v in opt.state_dict().items()}  # as in a checkpoint
    other.load_state_dict(as_saved)
    assert [other.lr, other.momentum, other.weight_decay, other.nesterov] == [0.1, 0.9, 0.01, True]
    assert type(other.lr) is float and type(other.nesterov) is bool


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda s: s.pop("exp_avg.0"), KeyError, "missing.*exp_avg.0"),
        (lambda s: s.update({"exp_avg_sq.9": 0}), KeyError, "did you mean exp_avg_sq"),
        (lambda s: s.update({"exp_avg.1": np.zeros(3)}), ValueError, r"exp_avg.1.*\(2,\).*\(3,\)"),
        (lambda s: s.update({"exp_avg.1": np.array([0, np.nan])}), ValueError, "exp_avg.1.*finite"),
        (lambda s: s.update({"exp_avg.1": np.array(["a", "b"])}), TypeError, "exp_avg.1.*float32"),
        (lambda s: s.update(steps=np.array([-1, 0])), ValueError, "steps"),
        (lambda s: s.update(steps=np.array([0.5, 1])), TypeError, "steps.*int64"),
        (lambda s: s.update(lr=-1.0), ValueError, "lr must be a number >= 0"),
        (lambda s: s.update(beta2=1.0), ValueError, "beta2 must be a number >= 0 and < 1"),
        (lambda s: s.update(lr=np.nan), ValueError, "lr"),
    ],
)
def test_bad_state_is_refused_and_changes_nothing(change, error, says):
    p, q = leaf([[0.5]]), leaf([0.5, 1.0])
    opt = Adam([p, q], 0.5)
    p.grad, q.grad = np.ones((1, 1), np.float32), np.ones(2, np.float32)
    state = copy.deepcopy(opt.state_dict())
    state["lr"] = 0.25
    opt.step()
    before = copy.deepcopy(opt.state_dict())
    change(state)
    with pytest.raises(error, match=says):
        opt.load_state_dict(state)
    assert all(np.array_equal(before[k], v) for k, v in opt.state_dict().items())


def test_state_must_be_a_mapping():
    with pytest.raises(TypeError, match="state must be a mapping"):
        SGD([leaf([0.0])], 0.1).load_state_dict([1])


def test_momentum_cannot_begin_later():
    x = leaf([1.0])
    x.grad = np.ones(1)
    opt = SGD([x], 0.1)
    opt.momentum = 0.9
    with pytest.raises(ValueError, match="momentum must stay 0 as at construction, got"):
        opt.step()
    assert x.data == 1 and opt.state_dict()["steps"] == [0]
    opt.momentum = 0
    opt.step()
    assert x.data == 0.9


@both
def test_lr_may_change_between_steps(optimizer, options):
    """Also to a NumPy scalar, which must not make the arithmetic double."""
    p, q = leaf([0.3]), leaf([0.3])
    opt, other = optimizer([p], **options), optimizer([q], **options)
    for lr in (0.1, 0.01, 0.7):
        p.grad = q.grad = np.float32([1.1])
        opt.lr, other.lr = lr, np.float64(lr)
        assert type(other.lr) is float
        before = p.data.copy()
        opt.step()
        other.step()
        assert np.array_equal(p.data, q.data) and not np.array_equal(p.data, before)
    opt.lr = 0.0
    before = p.data.copy()
    opt.step()
    assert np.array_equal(p.data, before)


@both
@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("lr", -0.1, ValueError),
        ("lr", np.nan, ValueError),
        ("lr", np.inf, ValueError),
        ("lr", "0.1", TypeError),
        ("lr", True, TypeError),
        ("weight_decay", -1, ValueError),
        ("weight_decay", None, TypeError),
    ],
)
def test_bad_hyperparameters_are_refused(optimizer, options, name, value, error):
    with pytest.raises(error, match=name):
        optimizer([leaf([0.0])], **{**options, name: value})
    opt = optimizer([leaf([0.0])], **options)
    with pytest.raises(error, match=name):
        setattr(opt, name, value)


def test_bad_momentum_and_betas_are_refused():
    with pytest.raises(ValueError, match="momentum must be a number >= 0 and < 1"):
        SGD([leaf([0.0])], 0.1, momentum=1.0)
    with pytest.raises(ValueError, match="momentum must be > 0 for nesterov=True"):
        SGD([leaf([0.0])], 0.1, nesterov=True)
    with pytest.raises(ValueError, match="beta1"):
        Adam([leaf([0.0])], betas=(1.0, 0.9))
    with pytest.raises(ValueError, match="eps"):
        Adam([leaf([0.0])], eps=-1e-8)


same = leaf([0.0])


@pytest.mark.parametrize(
    ("params", "error", "says"),
    [
        ([], ValueError, "at least one"),
        ({}, ValueError, "at least one"),
        (3, TypeError, "iterable of parameters, got int"),
        (leaf([0.0]), TypeError, "iterable of parameters, got Tensor"),
        ([np.zeros(3)], TypeError, "ndarray at position 0"),
        (Linear(2, 3).named_parameters(), TypeError, "tuple at position 0"),
        ([{"params": []}], TypeError, "dict at position 0"),
        ([leaf([0.0]), Tensor([1, 2])], ValueError, "position 1 dtype int64"),
        ([leaf([0.0]) * 2], ValueError, "leaf = False"),
        ([Tensor(np.broadcast_to(np.float32(0), 3))], ValueError, "writeable = False"),
        ([same, same], ValueError, "twice"),
        ([leaf([0.0]), leaf([0.0], np.float64)], ValueError, "one dtype.*float32.*float64"),
    ],
)
def test_bad_params_are_refused(params, error, says):
    with pytest.raises(error, match=says):
        SGD(params, 0.1)


def test_params_by_name_or_from_a_generator():
    layer = Linear(2, 3)
    assert SGD(dict(layer.named_parameters()), 0.1).params == list(layer.parameters())
    assert SGD(layer.parameters(), 0.1).params == list(layer.parameters())


def test_gradient_of_another_shape_is_refused_before_anything_moves():
    p, q = leaf([0.5]), leaf([0.5, 0.5])
    opt = SGD([p, q], 0.1, momentum=0.9)
    p.grad, q.grad = np.ones(1, np.float32), np.ones(1, np.float32)
    with pytest.raises(ValueError, match=r"gradient of params\[1\].*\(2,\).*\(1,\)"):
        opt.step()
    assert p.data == [0.5] and opt.state_dict()["steps"].tolist() == [0, 0]


def test_gradients_may_be_non_contiguous():
    g = np.arange(12, dtype=np.float32).reshape(3, 4)
    p, q = leaf(np.ones((4, 3))), leaf(np.ones((4, 3)))
    for param, grad in ((p, g.T), (q, np.ascontiguousarray(g.T))):
        param.grad = grad
        SGD([param], 0.1).step()
    assert np.array_equal(p.data, q.data)


def test_no_gradient_at_all_is_no_step():
    p = leaf([0.5])
    opt = Adam([p], 0.1)
    opt.step()
    assert p.data == [0.5] and opt.state_dict()["steps"] == [0]


def test_zero_grad_forgets():
    p = leaf([0.5])
    p.grad = np.ones(1, np.float32)
    SGD([p], 0.1).zero_grad()
    assert p.grad is None


def test_minimises_through_the_graph():
    p = leaf([3.0, -4.0])
    opt = Adam([p], 0.1)
    for _ in range(300):
        opt.zero_grad()
        F.sum((p - 1.0) ** 2).backward()
        opt.step()
    np.testing.assert_allclose(p.data, 1, atol=1e-2)


def test_a_formula_of_ones_own():
    """What the base class asks of a subclass: an update on flat blocks."""

    class SignDescent(Optimizer):
        def update(self, w, g, state, t, scratch):
            w -= self.lr * np.where(g >= 0, 1, -1)

    p = leaf([[0.5, 0.5]])
    p.grad = np.float32([[3, -0.1]])
    SignDescent([p], 0.25).step()
    assert p.data.tolist() == [[0.25, 0.75]]
    with pytest.raises(NotImplementedError, match="Optimizer defines no update"):
        Optimizer([p], 0.25).step()


@both
def test_a_copied_optimizer_trains_the_copy(optimizer, options):
    """deepcopy of model and optimizer together: the copy's steps leave the original alone."""
    p = leaf([0.5])
    opt = optimizer([p], **options)
    p.grad = np.ones(1, np.float32)
    opt.step()
    q, twin = copy.deepcopy((p, opt))
    frozen = p.data.copy()
    twin.step()
    assert twin.params[0] is q and np.array_equal(p.data, frozen)
    opt.step()
    assert np.array_equal(p.data, q.data) and not np.array_equal(p.data, frozen)


# Projecting and freezing; the wrappers' part is in test_prox_gradient.py, test_dual_averaging.py


@both
def test_quantized_and_frozen_weights_outlast_momentum(optimizer, options):
    p, q = leaf([0.3, -0.7]), leaf([0.5])
    opt = optimizer([p, q], **options, weight_decay=0.1)
    for _ in range(3):
        p.grad, q.grad = np.float32([5, -5]), np.float32([1])
        opt.step()
    p.data[...] = [0.3, -0.7]
    quantize_and_freeze({"p": p}, BinaryL1())
    for _ in range(3):
        opt.step()
    assert p.data.tolist() == [1, -1] and not p.requires_grad and p.grad is None


def test_quantize_and_freeze_is_all_or_nothing():
    p, bad = leaf([0.3]), leaf([np.nan])
    with pytest.raises(ValueError, match="NaN"):
        quantize_and_freeze([p, bad], BinaryL1())
    assert p.data == np.float32(0.3) and p.requires_grad and bad.requires_grad
    with pytest.raises(TypeError, match=r"regularizer must be .*, got <class"):
        quantize_and_freeze([p], BinaryL1)


def test_quantize_and_freeze_writes_in_place():
    base = np.float32([[0.3, -0.7], [0.2, 0.0]])
    p = Tensor(base.T, requires_grad=True)
    quantize_and_freeze([p], BinaryL1())
    assert base.tolist() == [[1, -1], [1, 1]]


# Clipping the norm of the gradients


def test_clip_grad_norm():
    p, q, rest = leaf([0.0, 0.0]), leaf([0.0]), leaf([0.0])
    p.grad, q.grad = np.float32([3, 0]), np.float32([4])
    assert clip_grad_norm([p, q, rest], 10) == 5
    assert p.grad.tolist() == [3, 0] and q.grad.tolist() == [4] and rest.grad is None
    assert clip_grad_norm([p, q, rest], 2.5) == 5
    assert p.grad.tolist() == [1.5, 0] and q.grad.tolist() == [2]
    assert p.grad.dtype == np.float32
    q.grad[0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        clip_grad_norm([p, q], 1)
    assert p.grad.tolist() == [1.5, 0]
    with pytest.raises(ValueError, match="max_norm"):
        clip_grad_norm([p], -1)


@pytest.mark.parametrize(("dtype", "power"), [(np.float32, 67), (np.float64, 600)])
@pytest.mark.parametrize("sign", [1, -1])
def test_clip_grad_norm_at_the_ends_of_the_range(dtype, power, sign):
    """The squares overflow, or underflow; the norm itself does not."""
    p, q, scale = leaf([0.0, 0.0]), leaf([0.0]), 2.0 ** (power * sign)
    p, q = Tensor(np.zeros(2, dtype), True), Tensor(np.zeros(1, dtype), True)
    p.grad, q.grad = np.array([3 * scale, 0], dtype), np.array([4 * scale], dtype)
    assert clip_grad_norm([p, q], 5.5 * scale) == 5 * scale
    assert p.grad.tolist() == [3 * scale, 0]
    assert clip_grad_norm([p, q], scale) == 5 * scale
    assert np.allclose([*p.grad / scale, q.grad[0] / scale], [0.6, 0, 0.8])
    p.grad, q.grad = np.zeros(2, dtype), np.zeros(1, dtype)
    assert clip_grad_norm([p, q], 1) == 0


def test_clip_grad_norm_of_gradients_near_the_largest_float():
    p = leaf([0.0] * 16)
    p.grad = np.full(16, 3e38, np.float32)
    assert clip_grad_norm([p], 1) == pytest.approx(1.2e39)
    assert np.allclose(p.grad, 0.25)
    p.grad = np.float32([3e20, 4e20])
    assert clip_grad_norm([p], 1) == pytest.approx(5e20)
    assert np.allclose(p.grad, [0.6, 0.8])


@pytest.mark.parametrize("n", [1, 4095, 4096, 4097, 10_000_000])
def test_clip_grad_norm_of_long_gradients(n):
    p = Tensor(np.zeros(n, np.float32), requires_grad=True)
    p.grad = np.full(n, 0.1, np.float32)
    exact = float(np.float32(0.1)) * n**0.5
    assert clip_grad_norm([p], 1e9) == pytest.approx(exact, rel=2e-6)


# What both wrappers refuse


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (dict(base=BinaryL1()), TypeError, "base must be an Optimizer"),
        (dict(regularizer=BinaryL1), TypeError, "regularizer must be .*, got <class"),
        (
            dict(homotopy=0.1),
            TypeError,
            "homotopy must be a function of the step t, or None, got 0.1",
        ),
        (dict(params=[leaf([1.0])]), ValueError, "held by base"),
        (dict(params=[]), ValueError, "at least one"),
    ],
)
def test_bad_wrapper_arguments_are_refused(change, error, says):
    p = leaf([0.5])
    arguments = dict(base=SGD([p], 0.1), params=[p], regularizer=BinaryL1(), homotopy=Constant(1))
    with pytest.raises(error, match=says):
        ProxGradient(**{**arguments, **change})


@pytest.mark.parametrize("data", [[np.nan], [np.inf], np.zeros((0, 3))])
def test_wrappers_refuse_weights_without_an_image(data):
    p = leaf(data)
    with pytest.raises(ValueError, match=r"NaN|at least one weight"):
        ProxGradient(SGD([p], 0.1), [p], BinaryL1(), Constant(1))


# What must stay as construction saw it


@pytest.mark.parametrize(
    "build",
    [
        lambda params: SGD(params, 0.5),
        lambda params: SGD(params, 0.5, momentum=0.5),
        lambda params: Adam(params, 0.5),
        lambda params: ProxGradient(SGD(params, 0.5), params[:1], BinaryL1(), Constant(0.5)),
        lambda params: ProxGradient(SGD(params, 0.5), params[:1], BinaryL1(), None),
        lambda params: ProxGradient(
            SGD(params[1:] + params[:1], 0.5), params[:1], BinaryL1(), None
        ),
        lambda params: DualAveraging(SGD(params, 0.5), params[:1], BinaryL1()),
        lambda params: DualAveraging(Adam(params, 0.5), params[:1], BinaryL1(), Constant(0.5)),
        lambda params: Bop(Adam(params, 0.5), params[:1], 0.0, 0.5),
    ],
)
def test_what_a_step_moves_is_noticed(build):
    checks.check_noticed(build)


WRAPPERS = {
    "eager": lambda base, params: ProxGradient(base, params, BinaryL1(), Constant(0.5)),
    "lazy": lambda base, params: DualAveraging(base, params, BinaryL1()),
    "bop": Bop,
}


@pytest.mark.parametrize("second", WRAPPERS)
@pytest.mark.parametrize("first", WRAPPERS)
def test_two_wrappers_do_not_step_one_base_twice(first, second):
    checks.check_one_wrapper(WRAPPERS[first], WRAPPERS[second])


def test_two_wrappers_over_bases_of_their_own():
    """Binary weights with one, ternary ones with the other: 0.4 and -0.4, not 0.3 and -0.5."""
    p, q = leaf([0.5], np.float64), leaf([-0.3], np.float64)
    a = ProxGradient(SGD([p], 0.1), [p], BinaryL1(), Constant(0.0))
    b = ProxGradient(SGD([q], 0.1), [q], TernaryL2(), Constant(0.0))
    p.grad, q.grad = np.ones(1), np.ones(1)
    a.step(), b.step()
    assert (p.item(), q.item()) == (0.4, -0.4)


@pytest.mark.parametrize(
    "data", [np.ones(5, np.float32), np.ones(2, np.float32), np.ones(3)], ids=str
)
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}])
def test_parameters_that_were_replaced_by_others_are_refused(data, options):
    """Else only a part of them would be trained, or in another precision."""
    p, q = leaf([1, 2, 3]), leaf([1])
    opt = SGD([q, p], 0.1, **options)
    p.data = data
    p.grad, q.grad = np.ones_like(data), np.ones(1, np.float32)
    with pytest.raises(ValueError, match=r"params\[1\] must stay as at construction, 3 entries of"):
        opt.step()
    assert (p.data == 1).all() and q.data == 1
    p.data = np.ones(3, np.float32)
    p.grad = np.ones(3, np.float32)
    opt.step()
    assert (p.data < 1).all()


@pytest.mark.parametrize(("clip", "bound"), [(True, 1.0), (0.25, 0.25), (False, 7.0)])
def test_the_latent_is_clipped_to_a_bound(clip, bound):
    w = Tensor(np.array([7.0, -0.125]), requires_grad=True)
    lazy = DualAveraging(SGD([w], 0.5), [w], BinaryL1(), clip=clip)
    assert lazy.latent[0].tolist() == [bound, -0.125] and w.data.tolist() == [1, -1]
    for bad in (0, -1.0, float("nan"), "1"):
        with pytest.raises((ValueError, TypeError), match="clip"):
            DualAveraging(SGD([w], 0.5), [w], BinaryL1(), clip=bad)
