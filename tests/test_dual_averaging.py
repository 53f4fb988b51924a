"""The lazy wrapper: dual averaging, BinaryConnect, straight-through."""

import copy

import numpy as np
import optim_checks as checks
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from optim_checks import leaf

import proxquant_np.functional as F
from proxquant_np import models, nn, quantizable_parameters, quantize_and_freeze
from proxquant_np.data import load_digits
from proxquant_np.optim import SGD, Adam, DualAveraging
from proxquant_np.prox import BinaryL1, BinaryL2, Constant, Linear

BASES = {
    "SGD": lambda params: SGD(params, 0.05, momentum=0.9, weight_decay=1e-3),
    "Adam": lambda params: Adam(params, 0.01, weight_decay=1e-3),
}


@st.composite
def dyadic(draw):
    """A quadratic with small integer coefficients, sixteenths to start from, lr a power of two.

    Every number of a run is then a small multiple of 1/256, which float32 holds exactly.
    """
    n = draw(st.integers(1, 4))
    whole = st.integers(-4, 4)
    half = draw(arrays(np.int64, (n, n), elements=whole))
    return dict(
        A=half + half.T,
        b=draw(arrays(np.int64, n, elements=whole)),
        start=draw(arrays(np.int64, n, elements=st.integers(-32, 32))) / 16,
        lr=2.0 ** -draw(st.integers(0, 4)),
        steps=draw(st.integers(1, 20)),
        dtype=draw(st.sampled_from([np.float32, np.float64])),
    )


@given(dyadic())
def test_weights_are_the_projected_sum_of_gradients(case):
    checks.check_closed_form(DualAveraging, **case)


@given(dyadic())
def test_straight_through_is_dual_averaging_exactly(case):
    checks.check_straight_through(DualAveraging, **case)


@given(dyadic(), st.sampled_from([dict(momentum=0.5), dict(weight_decay=0.5)]))
def test_straight_through_is_dual_averaging_with_any_base(case, options):
    """Weight decay and momentum act on the latent in both."""
    checks.check_straight_through(DualAveraging, **case, **options)


def straight_through(model, x):
    """The model's output with its linear weights projected in the graph."""
    for layer in model.layers:
        if isinstance(layer, nn.Linear):
            x = F.linear(x, F.straight_through(layer.weight, BinaryL1().project), layer.bias)
        else:
            x = layer(x)
    return x


def test_straight_through_is_dual_averaging_on_the_digits():
    """The same signs at every step."""
    x, y = load_digits().train
    lazy, graph = models.MLP((64, 64, 64, 10), rng=0), models.MLP((64, 64, 64, 10), rng=0)
    direct = SGD(graph.parameters(), 0.2)
    opt = DualAveraging(SGD(lazy.parameters(), 0.2), quantizable_parameters(lazy), BinaryL1())
    latent = quantizable_parameters(graph).values()
    first = [p.data.copy() for p in opt.params]
    rng = np.random.default_rng(0)
    for _ in range(300):
        batch = rng.integers(len(x), size=32)
        opt.zero_grad()
        F.cross_entropy(lazy(x[batch]), y[batch]).backward()
        opt.step()
        direct.zero_grad()
        F.cross_entropy(straight_through(graph, x[batch]), y[batch]).backward()
        direct.step()
        for p, z in zip(opt.params, latent, strict=True):
            assert np.array_equal(p.data, np.where(z.data >= 0, 1, -1))
    flipped = np.concatenate(
        [(a != p.data).ravel() for a, p in zip(first, opt.params, strict=True)]
    )
    assert flipped.mean() > 0.05  # else the comparison would say little
    error = np.mean(straight_through(graph.eval(), x).data.argmax(1) != y)
    assert error < 0.1


@pytest.mark.parametrize("regularizer", [BinaryL1(), BinaryL2()])
def test_with_a_homotopy_the_map_is_the_prox_of_the_latent(regularizer):
    lambdas, lr, target = [0.5, 0.5, 2.0, 0.0, 5.0], 0.25, np.array([0.5, -2.0])
    p = leaf([0.25, -0.5], np.float64)
    z = p.data.copy()
    opt = DualAveraging(SGD([p], lr), [p], regularizer, checks.lists([*lambdas, 0.0]))
    w = regularizer.prox(z, lr * lambdas[0])
    for lam in lambdas:
        assert np.array_equal(p.data, w) and np.array_equal(opt.latent[0], z)
        assert opt.strength == lr * lam
        p.grad = p.data - target
        z = z - lr * (w - target)
        w = regularizer.prox(z, lr * lam)
        opt.step()


def test_without_one_the_map_is_the_projection():
    p = leaf([0.3, -0.7, 0.0])
    opt = DualAveraging(SGD([p], 0.1), [p], BinaryL1())
    assert opt.strength == np.inf and p.data.tolist() == [1, -1, 1]


def test_what_is_not_quantized_takes_the_base_s_step():
    p, q, twin = leaf([0.3]), leaf([0.5]), leaf([0.5])
    opt, alone = DualAveraging(Adam([p, q], 0.1), [p], BinaryL1()), Adam([twin], 0.1)
    for _ in range(5):
        p.grad = q.grad = twin.grad = np.ones(1, np.float32)
        opt.step()
        alone.step()
    assert np.array_equal(q.data, twin.data)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("homotopy", [None, Linear(0.5)])
@pytest.mark.parametrize("clip", [False, True])
def test_round_trip(base, homotopy, clip):
    checks.check_round_trip(
        lambda params: DualAveraging(
            BASES[base](params), params[:1], BinaryL1(), homotopy, clip=clip
        )
    )


def test_evaluation_leaves_latent_and_weights_alone():
    """Of a copy, or of the model itself: the weights in use are those that are evaluated."""
    model = models.MLP((4, 3, 2), rng=0)
    opt = DualAveraging(SGD(model.parameters(), 0.1), quantizable_parameters(model), BinaryL1())
    x = np.ones((5, 4), np.float32)
    opt.zero_grad()
    F.cross_entropy(model(x), np.zeros(5, np.int64)).backward()
    opt.step()
    before = copy.deepcopy((opt.state_dict(), model.state_dict()))
    shadow = copy.deepcopy(model).eval()
    quantize_and_freeze(quantizable_parameters(shadow), BinaryL1())
    model.eval()(x), shadow(x), opt.state_dict(), opt.strength
    for old, new in zip(before, (opt.state_dict(), model.state_dict()), strict=True):
        assert all(np.array_equal(old[k], v) for k, v in new.items())


def test_frozen_weights_are_neither_moved_nor_mapped():
    p, q = leaf([0.3]), leaf([0.3])
    p.requires_grad = False
    opt = DualAveraging(SGD([p, q], 0.1), [p, q], BinaryL1())
    q.grad = np.ones(1, np.float32)
    opt.step()
    assert p.data == np.float32(0.3) and q.data == 1
    assert opt.latent[0] == np.float32(0.3) and opt.latent[1] == np.float32(0.3) - np.float32(0.1)


def test_a_latent_without_a_gradient_stays():
    p = leaf([0.3])
    opt = DualAveraging(SGD([p], 0.1), [p], BinaryL1(), Constant(1))
    opt.step()
    assert opt.latent[0] == np.float32(0.3) and p.data == BinaryL1().prox(opt.latent[0], 0.1)


def test_quantize_and_freeze_holds():
    checks.check_quantized_frozen(DualAveraging, quantize_and_freeze)


def test_clip():
    checks.check_clip(DualAveraging)
    p = leaf([3.0])
    opt = DualAveraging(SGD([p], 0.5), [p], BinaryL1(), clip=True)
    assert opt.latent[0] == 1  # as published: also z_0


def test_dtype_and_arrays_are_kept():
    for dtype in (np.float32, np.float64):
        p = leaf(np.ones((2, 3)), dtype)
        array = p.data
        opt = DualAveraging(SGD([p], 0.1), [p], BinaryL1())
        latent = opt.latent[0]
        p.grad = np.ones((2, 3), dtype)
        opt.step()
        assert p.data is array and opt.latent[0] is latent and latent.dtype == dtype


def test_non_contiguous_weights():
    data, g = np.linspace(-1, 1, 12, dtype=np.float32), np.ones((3, 4), np.float32)
    p, q = leaf([0.0]), leaf(data.reshape(4, 3).T)
    p.data = data.reshape(4, 3).T
    for w in (p, q):
        w.grad = g
        opt = DualAveraging(SGD([w], 0.25), [w], BinaryL1())
        opt.step()
    assert np.array_equal(p.data, q.data) and np.array_equal(data.reshape(4, 3).T, q.data)


# Failures


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_gradients_are_refused_and_change_nothing(bad):
    p, q = leaf([0.3, -0.7]), leaf([0.5])
    opt = DualAveraging(SGD([p, q], 0.1, momentum=0.9), [p], BinaryL1())
    p.grad, q.grad = np.float32([bad, 1]), np.float32([1])
    before = opt.state_dict()
    with pytest.raises(ValueError, match=r"base.params\[0\].*NaN or infinite.*nothing was changed"):
        opt.step()
    assert p.data.tolist() == [1, -1] and q.data == 0.5
    assert all(np.array_equal(before[k], v) for k, v in opt.state_dict().items())


def test_a_failing_base_loses_neither_weights_nor_latent():
    class Failing(SGD):
        def update(self, w, g, state, t, scratch):
            raise ArithmeticError

    p = leaf([0.3])
    opt = DualAveraging(Failing([p], 0.1), [p], BinaryL1())
    p.grad = np.ones(1, np.float32)
    with pytest.raises(ArithmeticError):
        opt.step()
    assert p.data == 1 and opt.latent[0] == np.float32(0.3)


def test_weights_loaded_after_construction_are_refused_not_overwritten():
    model = models.MLP((4, 3, 2), rng=0)
    other = models.MLP((4, 3, 2), rng=1).state_dict()
    opt = DualAveraging(SGD(model.parameters(), 0.1), quantizable_parameters(model), BinaryL1())
    model.load_state_dict(other)
    before = opt.state_dict()
    with pytest.raises(ValueError, match="load weights before constructing"):
        opt.step()
    assert all(np.array_equal(other[k], v) for k, v in model.state_dict().items())
    assert all(np.array_equal(before[k], v) for k, v in opt.state_dict().items())
    opt.load_state_dict(before)  # tells it that these weights are meant
    opt.step()


def test_bad_state_changes_nothing():
    p = leaf([0.3])
    opt = DualAveraging(SGD([p], 0.1), [p], BinaryL1())
    before = opt.state_dict()
    changed = {**before, "homotopy_step": 3, "base.lr": 0.5}
    for bad, error in (
        ({"latent.0": np.array([np.nan])}, ValueError),
        ({"latent.0": np.zeros(2)}, ValueError),
        ({"latent.1": np.zeros(1)}, KeyError),
    ):
        with pytest.raises(error, match="latent"):
            opt.load_state_dict({**changed, **bad})
        assert all(np.array_equal(before[k], v) for k, v in opt.state_dict().items())
