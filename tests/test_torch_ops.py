"""Every operation, outputs and gradients, against PyTorch's of the same name and arguments."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from op_registry import OPS, TESTED_ELSEWHERE
from strategies import entries, seeds

import proxquant_np.functional as F
from proxquant_np import Tensor

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: bench)")
TF = torch.nn.functional
RNG = np.random.default_rng(0)
X, Y, POSITIVE = RNG.normal(size=(3, 4)), RNG.normal(size=(3, 4)), RNG.uniform(0.1, 3, (3, 4))
ROW, CUBE, IMAGES = RNG.normal(size=4), RNG.normal(size=(2, 3, 4)), RNG.normal(size=(4, 3, 2, 5))
TIES = np.array([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]])
CLASSES, PIXELS = RNG.integers(0, 4, 3), RNG.integers(0, 3, (4, 2, 5))
WEIGHT, BIAS = RNG.normal(size=3), RNG.normal(size=3)


def both(name, *inputs, ours=None, theirs=None, **options):
    """The same call here and there."""
    ours = ours or getattr(F, name)
    theirs = theirs or getattr(torch, name, None) or getattr(TF, name)
    return pytest.param(
        lambda *t: ours(*t, **options), lambda *t: theirs(*t, **options), inputs, id=name
    )


def indexed(*index):
    """x[index] here and there."""
    return dict(
        ours=lambda x: x[index],
        theirs=lambda x: x[
            tuple(torch.from_numpy(i) if isinstance(i, np.ndarray) else i for i in index)
        ],
    )


def normalized(training):
    """batch_norm in both modes, with running statistics."""

    def call(op, ones):
        return lambda x, w, b: op(
            x, ones(3, dtype=x.dtype), 2 * ones(3, dtype=x.dtype), w, b, training, 0.3
        )

    return dict(ours=call(F.batch_norm, np.ones), theirs=call(TF.batch_norm, torch.ones))


CASES = [
    both("add", X, ROW),
    both("sub", X, ROW),
    both("mul", X, ROW),
    both("div", X, POSITIVE),
    both("neg", X),
    both("pow", POSITIVE, Y),
    both("pow", POSITIVE, np.array(2.0)),
    both("matmul", X, Y.T),
    both("matmul", CUBE, Y.T),
    both("matmul", CUBE, ROW),
    both("matmul", ROW, X.T),
    both("matmul", ROW, ROW),
    both("linear", X, Y),
    both("linear", CUBE, Y, BIAS),
    both("exp", X),
    both("log", POSITIVE),
    both("sqrt", POSITIVE),
    both("abs", X),
    both("abs", TIES),
    both("maximum", X, Y),
    both("maximum", TIES, np.ones((2, 3))),
    both("minimum", X, Y),
    both("clip", X, min=-0.5, max=0.5),
    both("clip", TIES, min=1, max=2),
    both(
        "where",
        X,
        Y,
        ours=lambda a, b: F.where(X > 0, a, b),
        theirs=lambda a, b: torch.where(torch.tensor(X > 0), a, b),
    ),
    both("relu", X),
    both("relu", TIES),
    both("tanh", X),
    both("sigmoid", 10 * X),
    both("softplus", 10 * X),
    both("sum", CUBE),
    both("sum", CUBE, dim=(0, -1), keepdim=True),
    both("mean", CUBE),
    both("mean", CUBE, dim=1),
    both("var", CUBE),
    both("var", CUBE, dim=(0, 2), correction=0),
    both("max", TIES),
    both("max", CUBE, theirs=torch.amax, dim=(0, 1)),
    both("max", TIES, theirs=torch.amax, dim=1),
    both("min", TIES),
    both("min", TIES, theirs=torch.amin, dim=1, keepdim=True),
    both("reshape", CUBE, shape=(4, -1)),
    both("transpose", CUBE, dim0=0, dim1=-1),
    both("permute", CUBE, dims=(2, 0, 1)),
    both("getitem", CUBE, **indexed(0, ..., slice(1, None))),
    both("getitem", CUBE, **indexed(np.array([0, 1, 1]), slice(None), np.array([3, 0, 0]))),
    both(
        "concatenate",
        X,
        Y,
        ours=lambda *t: F.concatenate(t, 1),
        theirs=lambda *t: torch.concatenate(t, 1),
    ),
    both("stack", X, Y, ours=lambda *t: F.stack(t, -1), theirs=lambda *t: torch.stack(t, -1)),
    both("pad", CUBE, theirs=TF.pad, pad=(1, 2, 0, 3), value=0.5),
    both("logsumexp", X, dim=1),
    both("logsumexp", X, dim=0, keepdim=True),
    both("softmax", X, dim=1),
    both("log_softmax", X, dim=0),
    *(
        both(
            "cross_entropy",
            logits,
            ours=lambda x, r=r, t=t: F.cross_entropy(x, t, reduction=r),
            theirs=lambda x, r=r, t=t: TF.cross_entropy(x, torch.from_numpy(t), reduction=r),
        )
        for r in ("mean", "sum", "none")
        for logits, t in ((X, CLASSES), (IMAGES, PIXELS))
    ),
    *(both("mse_loss", X, Y, reduction=r) for r in ("mean", "sum", "none")),
    *(both("batch_norm", IMAGES, WEIGHT, BIAS, **normalized(t)) for t in (True, False)),
    both("batch_norm", IMAGES[:, :, 0, 0], WEIGHT, BIAS, **normalized(True)),
]


def same(ours, theirs, tolerance):
    theirs = theirs.detach().numpy()
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    size = np.max(np.abs(theirs), initial=0)
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * size)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 1e-4)])
@pytest.mark.parametrize(("ours", "theirs", "inputs"), CASES)
def test_same_as_pytorch(ours, theirs, inputs, dtype, tolerance):
    mine = [Tensor(x.astype(dtype), requires_grad=True) for x in inputs]
    torchs = [torch.tensor(x.astype(dtype), requires_grad=True) for x in inputs]
    y, z = ours(*mine), theirs(*torchs)
    same(y.data, z, tolerance)
    v = RNG.normal(size=y.shape).astype(dtype)
    y.backward(v)
    z.backward(torch.from_numpy(v))
    for a, b in zip(mine, torchs, strict=True):
        same(a.grad, b.grad, tolerance)


def as_pytorch(name):
    """PyTorch's function of that name, taking the arguments that the registry draws."""
    others = {"max": torch.amax, "min": torch.amin, "batch_norm": TF.batch_norm}
    theirs = others.get(name) or getattr(torch, name, None) or getattr(TF, name, None)

    def call(*tensors, **options):
        if name == "getitem":
            return tensors[0][options["index"]]
        if name in ("max", "min") and options["dim"] is None:
            options["dim"] = ()
        if name == "reshape":
            options["shape"] = np.atleast_1d(options["shape"]).tolist()
        if name == "cross_entropy":
            options["target"] = torch.from_numpy(options["target"])
        return theirs(*tensors, **options)

    return call


def unlike_pytorch(name, options):
    """Arguments that NumPy takes and PyTorch does not."""
    if name == "getitem":
        index = options["index"]
        parts = index if isinstance(index, tuple) else (index,)
        return any(isinstance(i, slice) and (i.step or 1) < 0 for i in parts)
    return name == "clip" and options["min"] is options["max"] is None


@pytest.mark.filterwarnings("ignore:var... degrees of freedom:UserWarning")  # where nothing is left
@pytest.mark.parametrize("op", [op for op in OPS if op.name != "dropout"], ids=lambda op: op.name)
@given(data=st.data(), seed=seeds, kind=st.sampled_from([(np.float64, 1e-10), (np.float32, 1e-4)]))
def test_same_as_pytorch_for_drawn_shapes(op, data, seed, kind):
    dtype, tolerance = kind
    shapes, options = data.draw(op.arguments)
    assume(not unlike_pytorch(op.name, options))
    arrays = op.domain(*(entries(shape, seed, i) for i, shape in enumerate(shapes)))
    arrays = [x.astype(dtype) for x in arrays]
    mine = [Tensor(x, requires_grad=True) for x in arrays]
    torchs = [torch.tensor(x, requires_grad=True) for x in arrays]
    y, z = op(*mine, **options), op.arrange(as_pytorch(op.name), *torchs, **options)
    same(y.data, z, tolerance)
    v = np.random.default_rng(seed).normal(size=y.shape).astype(dtype)
    y.backward(v)
    z.backward(torch.from_numpy(v))
    for a, b in zip(mine, torchs, strict=True):
        if b.grad is None:  # a condition has none, ours or theirs
            assert a.grad is None
        else:
            same(a.grad, b.grad, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 1e-4)])
@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 5), (4, 3, 2, 2)])
def test_running_statistics_over_several_batches(shape, dtype, tolerance):
    mine = np.zeros(3, dtype), np.ones(3, dtype)
    torchs = torch.from_numpy(mine[0].copy()), torch.from_numpy(mine[1].copy())
    for _ in range(5):
        x = RNG.normal(1, 3, shape).astype(dtype)
        y = F.batch_norm(Tensor(x), *mine, training=True)
        same(y.data, TF.batch_norm(torch.from_numpy(x), *torchs, training=True), tolerance)
    for a, b in zip(mine, torchs, strict=True):
        same(a, b, tolerance)


def test_every_operation_is_compared():
    drawn = {op.name for op in OPS}  # dropout, which is random, aside
    assert drawn | TESTED_ELSEWHERE.keys() == set(F.__all__)
