"""On a GPU, through CuPy: operations, prox maps and optimizers equal NumPy's to rounding.

The same tests run on the duck array, where there is no GPU, so that they are known to work.
"""

from types import SimpleNamespace

import duck_array
import numpy as np
import pytest
import test_other_arrays_optim as optimizers
from hypothesis import given, settings
from hypothesis import strategies as st
from op_registry import OPS
from prox_strategies import DISTANCES, SETS

import proxquant_np as pq
import proxquant_np.functional as F
from proxquant_np import Tensor, prox
from proxquant_np.data import Split
from proxquant_np.training import fit

DTYPES = [np.float32, np.float64]
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-10}  # of the largest entry


@pytest.fixture(scope="module", params=["duck", "cupy"])
def library(request):
    """A library's `asarray` and `asnumpy`."""
    if request.param == "duck":
        return SimpleNamespace(asarray=duck_array.asduck, asnumpy=duck_array.asnumpy)
    cupy = pytest.importorskip("cupy", reason="CuPy, of the extra gpu, is not installed")
    try:
        cupy.zeros(1)
    except RuntimeError as error:
        pytest.skip(f"no GPU that CuPy can use: {error}")
    return cupy


def same(found, expected, library, dtype):
    """Of the same dtype and shape, on the device, and equal to rounding."""
    assert not isinstance(found, np.ndarray)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    finite = np.abs(expected[np.isfinite(expected)])
    size = TOLERANCE[dtype] * finite.max(initial=0)
    found = library.asnumpy(found)
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE[dtype], atol=size)


def check(call, arrays, dtype, library, seed=0):
    """The result of call(tensors, move), and all gradients, here and there."""
    arrays = [np.asarray(x, dtype) for x in arrays]
    ours = [Tensor(x, requires_grad=True) for x in arrays]
    theirs = [Tensor(library.asarray(x), requires_grad=True) for x in arrays]
    y, z = call(ours, np.asarray), call(theirs, library.asarray)
    same(z.data, y.data, library, dtype)
    if y.requires_grad:
        v = np.random.default_rng(seed).normal(size=y.shape).astype(dtype)
        y.backward(v)
        z.backward(library.asarray(v))
        for a, b in zip(ours, theirs, strict=True):
            assert (a.grad is None) == (b.grad is None)
            if a.grad is not None:
                same(b.grad, a.grad, library, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS, ids=[op.name for op in OPS])
@settings(max_examples=10)
@given(data=st.data())
def test_gradients(op, dtype, library, data):
    arrays, options, seed, _ = op.draw(data)

    def call(tensors, move):
        moved = {k: move(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        return op(*tensors, **moved)

    check(call, arrays, dtype, library, seed)


OTHERS = {  # those with test files of their own: shapes, call
    "conv2d": ([(2, 3, 7, 8), (4, 3, 3, 2), (4,)], lambda *t: F.conv2d(*t, stride=(2, 1))),
    "conv2d, groups": ([(2, 4, 5, 5), (6, 2, 3, 3)], lambda *t: F.conv2d(*t, padding=1, groups=2)),
    "max_pool2d": ([(2, 3, 7, 6)], lambda x: F.max_pool2d(x, 3, stride=2, padding=1)),
    "avg_pool2d": ([(2, 3, 7, 6)], lambda x: F.avg_pool2d(x, 3, padding=1, ceil_mode=True)),
    "embedding": (
        [(5, 3)],
        lambda w: F.embedding(np.random.default_rng(1).integers(0, 5, (20, 7)), w),
    ),
    "straight_through": ([(3, 4)], lambda x: F.straight_through(x, prox.Binary().project)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OTHERS)
def test_gradients_of_others(name, dtype, library):
    shapes, op = OTHERS[name]
    rng = np.random.default_rng(0)
    check(lambda tensors, _: op(*tensors), [rng.normal(size=s) for s in shapes], dtype, library)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_of_a_recurrent_network(dtype, library):
    def call(tensors, move):
        layer = pq.nn.LSTM(4, 3, 2, rng=0)
        for p in layer.parameters():
            p.data = move(p.data.astype(dtype))
        return layer(tensors[0])[0]

    check(call, [np.random.default_rng(0).normal(size=(5, 2, 4))], dtype, library)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_steps(name, dtype, library):
    make = optimizers.OPTIMIZERS[name]
    ours = optimizers.parameters(dtype=dtype)
    theirs = optimizers.parameters(library.asarray, dtype)
    here, there = make(ours), make(theirs)
    for t in range(7):
        optimizers.give_gradients(ours, t)
        optimizers.give_gradients(theirs, t, library.asarray)
        here.step()
        there.step()
    for a, b in zip(ours, theirs, strict=True):
        same(b.data, a.data, library, dtype)


def regularizers():
    """(set, distance) for all that go together."""
    for Q in SETS:
        for distance in DISTANCES:
            try:
                distance(Q)
            except ValueError:
                continue
            yield Q, distance


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("Q", "distance"), list(regularizers()), ids=repr)
def test_prox(Q, distance, dtype, library):
    R = distance(Q)
    w = np.random.default_rng(0).normal(size=(6, 50)).astype(dtype)
    there = library.asarray(w)
    for strength in (0.0, 0.3, 2.0, np.inf):
        same(R.prox(there, strength), R.prox(w, strength), library, dtype)
    np.testing.assert_array_equal(library.asnumpy(there), w)
    np.testing.assert_array_equal(library.asnumpy(Q.codes(there)), Q.codes(w))


def test_a_network_trains(library):
    """A whole run, in the losses of all steps."""
    rng = np.random.default_rng(0)
    data = Split(rng.normal(size=(64, 3, 8, 8)).astype(np.float32), rng.integers(0, 4, 64))
    losses = []
    for move in (np.asarray, library.asarray):
        model = pq.models.ResNet(8, 4, num_classes=4, rng=0).to(move)
        base = pq.optim.Adam(model.parameters(), 1e-3)
        optimizer = pq.optim.ProxGradient(
            base, pq.quantizable_parameters(model), prox.BinaryL1(), prox.Linear(0.01)
        )
        run = fit(model, optimizer, data, steps=8, batch_size=16, progress=False)
        losses.append(run.steps["loss"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)
