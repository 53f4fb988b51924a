"""Arrays of another library: every optimizer takes NumPy's steps, to the bit, and hardly waits."""

import duck_array
import numpy as np
import pytest
from duck_array import Duck, asduck, asnumpy

import proxquant_np as pq
from proxquant_np import nn, optim, prox

SHAPES = [(3, 4), (5,), (2, 3, 2), (1,)]
LINEAR = prox.Linear(0.05)


def groups(params):
    return [
        (params[:1], prox.TernaryL2(), LINEAR),
        (params[1:2], None, None),
        (params[2:], prox.BinaryL1(), None),
    ]


def wrapped(kind, regularizer, homotopy=LINEAR, clip=False, base=optim.Adam):
    return lambda params: kind(base(params, lr=0.1), params[::2], regularizer, homotopy, clip=clip)


OPTIMIZERS = {
    "SGD": lambda p: optim.SGD(p, 0.1),
    "SGD with momentum": lambda p: optim.SGD(p, 0.1, 0.9, 0.01),
    "SGD of Nesterov": lambda p: optim.SGD(p, 0.1, 0.9, nesterov=True),
    "Adam": lambda p: optim.Adam(p, 0.1, weight_decay=0.01),
    "Bop": lambda p: optim.Bop(optim.SGD(p, 0.1), p[:2], 1e-3, 0.1),
    "AskewSGD": lambda p: optim.AskewSGD(optim.SGD(p, 0.1), p[:3], prox.Geometric(1.0, 0.9)),
    "ProxGradient, BinaryL1": wrapped(optim.ProxGradient, prox.BinaryL1()),
    "ProxGradient, BinaryL2": wrapped(optim.ProxGradient, prox.BinaryL2(), clip=True),
    "ProxGradient, projection": wrapped(optim.ProxGradient, prox.Ternary(), None),
    "ProxGradient, MultiBitL2": wrapped(optim.ProxGradient, prox.MultiBitL2(2, "exact")),
    "DualAveraging, BinaryL1": wrapped(optim.DualAveraging, prox.BinaryL1(), None, clip=True),
    "DualAveraging, BinaryRelax": wrapped(optim.DualAveraging, prox.BinaryRelax(prox.Ternary())),
    "DualAveraging, Parq": wrapped(
        optim.DualAveraging, prox.Parq(prox.Binary()), prox.Linear.to(10, 8), base=optim.SGD
    ),
    "eager groups": lambda p: optim.ProxGradient(optim.Adam(p, 0.1), groups(p)),
    "lazy groups": lambda p: optim.DualAveraging(optim.SGD(p, 0.1), groups(p)),
}


def parameters(move=np.copy, dtype=np.float32):
    rng = np.random.default_rng(0)
    return [nn.Parameter(move(rng.normal(size=s).astype(dtype))) for s in SHAPES]


def give_gradients(params, seed, move=np.copy):
    rng = np.random.default_rng(seed)
    for i, p in enumerate(params):
        g = rng.normal(size=p.shape).astype(p.dtype)
        p.grad = None if i == seed % 5 else move(g)  # all have one at times, and each has none once


def same_state(there, here):
    for name, value in here.state_dict().items():
        np.testing.assert_array_equal(asnumpy(there.state_dict()[name]), value, name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps(name, dtype):
    """Of all parameters, of some, and of one that is frozen on the way."""
    ours, theirs = parameters(dtype=dtype), parameters(asduck, dtype)
    here, there = OPTIMIZERS[name](ours), OPTIMIZERS[name](theirs)
    for t in range(7):
        give_gradients(ours, t)
        give_gradients(theirs, t, asduck)
        if t == 5:
            ours[0].requires_grad = theirs[0].requires_grad = False
        before = duck_array.waits()
        here.step()
        there.step()
        assert duck_array.waits() - before <= isinstance(there, optim.QuantizedOptimizer)
        for a, b in zip(ours, theirs, strict=True):
            assert type(b.data) is Duck
            np.testing.assert_array_equal(b.data._a, a.data)
    same_state(there, here)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_states_are_interchangeable(name):
    ours, theirs = parameters(), parameters(asduck)
    here, there = OPTIMIZERS[name](ours), OPTIMIZERS[name](theirs)
    for t in range(4):
        give_gradients(ours, t)
        here.step()
    for a, b in zip(ours, theirs, strict=True):
        b.data[...] = asduck(a.data)
    there.load_state_dict(here.state_dict())  # NumPy's, as files hold them
    same_state(there, here)
    give_gradients(ours, 9)
    give_gradients(theirs, 9, asduck)
    here.step()
    there.step()
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(b.data._a, a.data)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_gradients_are_refused_before_anything_changes(bad):
    for name in ("Bop", "ProxGradient, BinaryL1", "DualAveraging, BinaryL1"):
        params = parameters(asduck)
        optimizer = OPTIMIZERS[name](params)
        before = [p.data._a.copy() for p in params]
        give_gradients(params, 9, asduck)
        params[1].grad[2] = bad
        with pytest.raises(ValueError, match=r"gradient of base.params\[1\] .* NaN or infinite"):
            optimizer.step()
        for p, old in zip(params, before, strict=True):
            np.testing.assert_array_equal(p.data._a, old)


def test_what_overflows_is_refused_by_the_next_step():
    """NumPy's prox looks at the weights; elsewhere a step looks at what the last one left."""
    for kind in (optim.ProxGradient, optim.DualAveraging):
        w = nn.Parameter(asduck(np.ones(3, np.float32)))
        optimizer = kind(optim.SGD([w], 1e30), [w], prox.BinaryL1(), None)
        w.grad = asduck(np.full(3, 1e30, np.float32))
        with np.errstate(over="ignore", invalid="ignore"):
            optimizer.step()
            with pytest.raises(ValueError, match=r"params\[0\] must be finite"):
                optimizer.step()


def test_weights_of_anothers_making_are_refused():
    for name, match in (("DualAveraging, BinaryL1", "changed since"), ("Bop", "must be -1 or")):
        params = parameters(asduck)
        optimizer = OPTIMIZERS[name](params)
        give_gradients(params, 9, asduck)
        params[0].data[0, 0] += 0.5
        with pytest.raises(ValueError, match=match):
            optimizer.step()


def test_moving_a_model_under_its_optimizer_is_refused():
    model = pq.models.MLP((3, 4, 2), rng=0)
    sgd = optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model.to(asduck)
    give_gradients(list(model.parameters()), 9, asduck)
    with pytest.raises(ValueError, match=r"construct the optimizer after model.to"):
        sgd.step()
    with pytest.raises(ValueError, match="must lie in one place"):
        optim.SGD([nn.Parameter(np.ones(2)), nn.Parameter(asduck(np.ones(2)))], 0.1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1, 1e-30, 1e30, 0])
@pytest.mark.parametrize("max_norm", [0, 0.5, 1e9])
def test_clipping(dtype, scale, max_norm):
    ours, theirs = parameters(dtype=dtype), parameters(asduck, dtype)
    for params, move in ((ours, np.copy), (theirs, asduck)):
        give_gradients(params, 9, move)
        for p in params:
            p.grad *= scale
    before = duck_array.waits()
    norm = optim.clip_grad_norm(theirs, max_norm)
    assert duck_array.waits() == before
    assert optim.clip_grad_norm(ours, max_norm) == float(norm)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(b.grad._a, a.grad)


def test_clipping_leaves_what_is_not_finite_to_the_step():
    for bad in (np.nan, np.inf):
        (w,) = params = parameters(asduck)[:1]
        give_gradients(params, 9, asduck)
        w.grad[1, 1] = bad
        with np.errstate(invalid="ignore"):
            optim.clip_grad_norm(params, 0.5)
        assert not np.isfinite(w.grad._a).all()


def test_freezing():
    for Q in (prox.Ternary(), prox.MultiBitL2(3), prox.BinaryL1()):
        ours, theirs = parameters(), parameters(asduck)
        for _ in "ab":  # twice is once
            optim.quantize_and_freeze(ours, Q)
            optim.quantize_and_freeze(theirs, Q)
        for a, b in zip(ours, theirs, strict=True):
            assert not b.requires_grad
            np.testing.assert_array_equal(b.data._a, a.data)
    with pytest.raises(ValueError, match="is frozen"):
        optim.quantize_and_freeze(theirs, prox.Levels([0, 3]))
    w = nn.Parameter(asduck(np.array([1.0, np.nan])))
    with pytest.raises(ValueError, match=r"params\[0\] must be finite"):
        optim.quantize_and_freeze([w], prox.Binary())
    assert np.isnan(w.data._a[1]) and w.requires_grad
