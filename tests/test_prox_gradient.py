"""The eager wrapper: prox-gradient, ProxQuant, projected gradient."""

import numpy as np
import optim_checks as checks
import pytest
from optim_checks import leaf

import proxquant_np.functional as F
from proxquant_np import models, quantizable_parameters, quantize_and_freeze
from proxquant_np.data import load_digits
from proxquant_np.optim import SGD, Adam, DualAveraging, ProxGradient
from proxquant_np.prox import BinaryL1, BinaryL2, Constant, LevelsL1, Linear

BASES = {
    "SGD": lambda params: SGD(params, 0.05, momentum=0.9, weight_decay=1e-3),
    "Adam": lambda params: Adam(params, 0.01, weight_decay=1e-3),
}


def test_a_step_is_prox_of_the_moved_weights():
    checks.check_eager(ProxGradient)


def digits_step(model, optimizer, step):
    """One step on a batch of the digits."""
    x, y = load_digits().train
    batch = np.random.default_rng(step).integers(len(x), size=32)
    optimizer.zero_grad()
    F.cross_entropy(model(x[batch]), y[batch]).backward()
    optimizer.step()


@pytest.mark.parametrize("base", BASES)
def test_strength_zero_is_the_base(base):
    """Bit for bit, on a network."""
    plain, wrapped = models.MLP(rng=0), models.MLP(rng=0)
    alone = BASES[base](plain.parameters())
    inside = BASES[base](wrapped.parameters())
    opt = ProxGradient(inside, quantizable_parameters(wrapped), BinaryL1(), Constant(0))
    for step in range(10):
        digits_step(plain, alone, step)
        digits_step(wrapped, opt, step)
    for p, q in zip(plain.parameters(), wrapped.parameters(), strict=True):
        assert np.array_equal(p.data, q.data)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("regularizer", [BinaryL1(), BinaryL2(), LevelsL1([-1, 0, 1])])
def test_one_step_of_any_base_and_regularizer(base, regularizer):
    """prox after the base's step on the quantized weights; the others take the base's step."""
    plain, wrapped = models.MLP(rng=0), models.MLP(rng=0)
    alone = BASES[base](plain.parameters())
    chosen = quantizable_parameters(wrapped, first=False)
    opt = ProxGradient(
        BASES[base](wrapped.parameters()), chosen, regularizer, lambda t: 2.0 + 3.0 * t
    )
    for step in range(2):
        strength = opt.strength
        assert strength == alone.lr * (2 + 3 * step)
        for p, q in zip(plain.parameters(), wrapped.parameters(), strict=True):
            p.data[...] = q.data
        digits_step(plain, alone, step)
        digits_step(wrapped, opt, step)
        for (name, q), p in zip(wrapped.named_parameters(), plain.parameters(), strict=True):
            expected = regularizer.prox(p.data, strength) if name in chosen else p.data
            assert np.array_equal(q.data, expected), name


def test_large_lambda_quantizes_exactly_and_in_finite_time():
    """If lambda > G >= |grad|: within distance / (lr (lambda - G)) steps, and never off again."""
    rng = np.random.default_rng(0)
    p = leaf(rng.uniform(-2, 2, 50))
    bound, lam, lr = 1.0, 3.0, 1 / 16
    opt = ProxGradient(SGD([p], lr), [p], BinaryL1(), Constant(lam))
    on_level = np.abs(p.data) == 1
    for _ in range(int(np.ceil(1 / (lr * (lam - bound)))) + 1):
        p.grad = rng.uniform(-bound, bound, 50).astype(np.float32)
        before = p.data.copy()
        opt.step()
        assert np.array_equal(p.data[on_level], before[on_level])
        on_level = np.abs(p.data) == 1
    assert on_level.all()


def test_quantizes_a_quadratic_with_the_paper_s_homotopy():
    """lambda_t = rate * t: every weight ends exactly on a level, and on the better of the two."""
    p, target = leaf([0.1, -0.1, 0.05]), np.float32([0.9, -0.6, -0.8])
    opt = ProxGradient(SGD([p], 0.1), [p], BinaryL1(), Linear(0.02))
    for _ in range(150):
        p.grad = p.data - target
        opt.step()
    assert p.data.tolist() == [1, -1, -1]


def test_projected_gradient_stalls_where_the_lazy_method_does_not():
    """A small step never flips a sign, however often it is repeated."""
    p, z = leaf([0.3, -0.7]), leaf([0.3, -0.7])
    eager = ProxGradient(SGD([p], 0.1), [p], BinaryL1(), None)
    lazy = DualAveraging(SGD([z], 0.1), [z], BinaryL1())
    assert eager.strength == np.inf
    for _ in range(50):
        for w, opt in ((p, eager), (z, lazy)):
            w.grad = np.float32([2, -2])  # downhill lies the other sign
            opt.step()
        assert p.data.tolist() == [1, -1]
    assert z.data.tolist() == [-1, 1]


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("homotopy", [Linear(0.5), None])
def test_round_trip(base, homotopy):
    checks.check_round_trip(
        lambda params: ProxGradient(BASES[base](params), params[:1], BinaryL1(), homotopy)
    )


def test_frozen_weights_are_neither_moved_nor_mapped():
    p, q = leaf([0.3]), leaf([0.3])
    opt = ProxGradient(SGD([p, q], 0.1), [p, q], BinaryL1(), Constant(1))
    p.requires_grad = False
    q.grad = np.float32([-1])
    opt.step()
    assert p.data == np.float32(0.3) and q.data == np.float32(0.5)


def test_weights_without_a_gradient_are_mapped_where_they_stand():
    p = leaf([0.5])
    ProxGradient(SGD([p], 0.25), [p], BinaryL1(), Constant(1)).step()
    assert p.data == 0.75


def test_quantize_and_freeze_holds():
    checks.check_quantized_frozen(ProxGradient, quantize_and_freeze)


def test_clip():
    checks.check_clip(ProxGradient)


@pytest.mark.parametrize("data", [np.zeros((4, 3)).T, np.zeros((6, 4))[::2]])
def test_non_contiguous_weights(data):
    p, q = leaf([0.0]), leaf(np.zeros(data.shape))
    p.data = data.astype(np.float32, order="K")
    array, g = p.data, np.arange(12, dtype=np.float32).reshape(q.shape)
    for w in (p, q):
        opt = ProxGradient(SGD([w], 0.1), [w], BinaryL1(), Constant(1))
        w.grad = g
        opt.step()
    assert p.data is array and np.array_equal(p.data, q.data)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_gradients_are_refused_and_change_nothing(bad):
    p, q = leaf([0.3]), leaf([0.3, 0.3])
    opt = ProxGradient(Adam([p, q], 0.1), [p], BinaryL1(), Constant(1))
    p.grad, q.grad = np.ones(1, np.float32), np.float32([0, bad])
    before = opt.state_dict()
    with pytest.raises(ValueError, match=r"gradient of base.params\[1\].*NaN or infinite"):
        opt.step()
    assert p.data == np.float32(0.3) and (q.data == np.float32(0.3)).all()
    assert all(np.array_equal(before[k], v) for k, v in opt.state_dict().items())


def test_large_gradients_are_not_bad():
    p = leaf([0.0])
    p.grad = np.float32([1e38])  # finite, though its square is not
    ProxGradient(SGD([p], 2.0**-140), [p], BinaryL1(), Constant(0)).step()
    assert p.data == -np.float32(1e38) * 2.0**-140


@pytest.mark.parametrize("lam", [-1.0, np.nan])
def test_a_bad_lambda_is_refused_before_anything_moves(lam):
    p = leaf([0.3])
    opt = ProxGradient(SGD([p], 0.1), [p], BinaryL1(), lambda t: lam)
    p.grad = np.ones(1, np.float32)
    with pytest.raises(ValueError, match="homotopy"):
        opt.step()
    assert p.data == np.float32(0.3)


@pytest.mark.parametrize("lam", [None, "1", True, 1j, np.ones(1), np.ones(2)])
def test_a_lambda_that_is_no_number_is_refused_before_anything_moves(lam):
    p = leaf([0.3])
    opt = ProxGradient(SGD([p], 0.1), [p], BinaryL1(), lambda t: lam)
    p.grad = np.ones(1, np.float32)
    with pytest.raises(TypeError, match=r"homotopy\(t\) must be a number.* at t = 0"):
        opt.step()
    assert p.data == np.float32(0.3)


def test_lr_is_the_base_s():
    p = leaf([0.3])
    base = SGD([p], 0.1)
    opt = ProxGradient(base, [p], BinaryL1(), Constant(3))
    opt.lr = 0.5
    assert base.lr == 0.5 and opt.lr == 0.5 and opt.strength == 1.5
    with pytest.raises(ValueError, match="lr must be a number >= 0"):
        opt.lr = -1.0


def test_homotopy_has_no_default():
    p = leaf([0.3])
    with pytest.raises(TypeError, match="homotopy"):
        ProxGradient(SGD([p], 0.1), [p], BinaryL1())


def test_bad_state_changes_nothing():
    p = leaf([0.3])
    opt = ProxGradient(SGD([p], 0.1, momentum=0.9), [p], BinaryL1(), Linear(1))
    p.grad = np.ones(1, np.float32)
    opt.step()
    before = opt.state_dict()
    for bad in ({"homotopy_step": -1}, {"homotopy_step": 0, "base.lr": np.nan}):
        with pytest.raises(ValueError, match=r"homotopy_step|lr"):
            opt.load_state_dict({**before, "homotopy_step": 0, **bad})
        assert all(np.array_equal(before[k], v) for k, v in opt.state_dict().items())
