"""Arrays of another library: every operation, and networks, equal NumPy's to the bit.

The other library is tests/duck_array.py, as strict as CuPy, on NumPy underneath.
"""

import re
from pathlib import Path

import duck_array
import numpy as np
import pytest
import strategies as draws
from duck_array import Duck, asduck
from hypothesis import given
from hypothesis import strategies as st
from op_registry import OPS

import proxquant_np as pq
import proxquant_np.functional as F
from proxquant_np import Tensor, models, nn
from proxquant_np.autograd import conv


def equal(a, b):
    """A duck, and NumPy's array, with the same entries."""
    assert type(a) is Duck and type(b) is np.ndarray
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a._a, b)


@pytest.mark.parametrize("op", OPS, ids=[op.name for op in OPS])
@given(data=st.data())
def test_operation(op, data):
    drawn, options, seed, layout = op.draw(data)
    there = {k: asduck(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    for dtype in (np.float64, np.float32):
        arrays = [draws.lay_out(np.asarray(x, dtype), layout) for x in drawn]
        ours = [Tensor(x, requires_grad=True) for x in arrays]
        theirs = [Tensor(Duck(x), requires_grad=True) for x in arrays]
        y, z = op(*ours, **options), op(*theirs, **there)
        equal(z.data, y.data)
        if y.requires_grad:
            v = np.random.default_rng(seed).normal(size=y.shape)
            y.backward(v)
            z.backward(v)
            for a, b in zip(ours, theirs, strict=True):
                assert (a.grad is None) == (b.grad is None)
                if a.grad is not None:
                    equal(b.grad, a.grad)


def test_kinks_and_infinities():
    x = np.array([-2.0, -1.0, 0.0, 1.0, np.inf])
    for fn in (
        lambda x: F.sqrt(F.relu(x)),
        lambda x: F.where(x > 0, F.log(x), 0.0),
        lambda x: x * np.inf * 0.0,
        lambda x: F.exp(x * 1000) * F.relu(x),
        lambda x: 1 / x,
        lambda x: F.clip(x, -1, 1) ** 2,
        lambda x: F.maximum(x, 0.0) + F.minimum(x, 0.0) + abs(x),
    ):
        a, b = Tensor(x, requires_grad=True), Tensor(Duck(x), requires_grad=True)
        with np.errstate(all="ignore"):
            y, z = fn(a), fn(b)
            for part in (y, z):
                F.sum(F.where(np.isfinite(part.data), part, 0.0)).backward()
        equal(z.data, y.data)
        equal(b.grad, a.grad)


@pytest.mark.parametrize("kwargs", [{}, {"label_smoothing": 0.1}, {"ignore_index": 1}])
def test_cross_entropy_of_classes(kwargs):
    x = np.random.default_rng(0).normal(size=(5, 3))
    classes, weight = np.array([0, 2, 1, 1, -100]), np.array([1.0, 2.0, 0.5])
    kept = slice(0, 4 if kwargs.get("ignore_index") else 5)
    for w in (None, weight):
        a, b = Tensor(x[kept], requires_grad=True), Tensor(asduck(x[kept]), requires_grad=True)
        y = F.cross_entropy(a, classes[kept], w, **kwargs)
        z = F.cross_entropy(b, asduck(classes[kept]), w if w is None else asduck(w), **kwargs)
        y.backward()
        z.backward()
        equal(z.data, y.data)
        equal(b.grad, a.grad)


def test_nothing_is_converted_or_mixed():
    x = Tensor(asduck(np.ones(3)))
    with pytest.raises(TypeError, match="do not mix"):
        x + np.ones(3)
    with pytest.raises(TypeError, match="implicit conversion"):
        np.asarray(x.data)
    assert type((x + 1).data) is type((x * np.float64(2)).data) is Duck


def train(model, x, y, steps, move):
    """Losses and waits of a few steps of plain gradient descent."""
    losses, waited = [], []
    x, y = move(x), move(y)
    for _ in range(steps):
        before = duck_array.waits()
        model.zero_grad()
        out = model(Tensor(x))
        out = out[0] if isinstance(out, tuple) else out
        loss = F.cross_entropy(F.reshape(out, (-1, out.shape[-1])), y.reshape(-1))
        loss.backward()
        for p in model.parameters():
            p.data -= 0.1 * p.grad
        pq.autograd.mark_changed(model.parameters())
        waited.append(duck_array.waits() - before)
        losses.append(loss.data)
    return losses, waited


RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(8, 6)).astype(np.float32), RNG.integers(0, 3, 8)
IMAGES = RNG.normal(size=(4, 2, 8, 8)).astype(np.float32), RNG.integers(0, 3, 4)
TOKENS = RNG.integers(0, 7, (5, 4)), RNG.integers(0, 7, (5, 4))
NETWORKS = {
    "MLP": (lambda: models.MLP((6, 5, 3), rng=0), *VECTORS),
    "MLP without batch norm": (lambda: models.MLP((6, 5, 3), False, rng=0), *VECTORS),
    "dropout": (
        lambda: nn.Sequential(
            nn.Linear(6, 9, rng=1), nn.Dropout(0.5, rng=2), nn.Linear(9, 3, rng=3)
        ),
        *VECTORS,
    ),
    "LSTM": (lambda: models.LSTMLanguageModel(7, 4, 4, 2, dropout=0.5, rng=0), *TOKENS),
    "CNN": (lambda: models.SmallCNN(2, 3, 3, rng=0), *IMAGES),
    "ResNet": (lambda: models.ResNet(8, 2, 2, 3, rng=0), *IMAGES),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_trains_to_the_same_bits_and_waits_at_most_twice_a_step(name, monkeypatch):
    """Those of the textbook's convolution, on NumPy as well."""
    monkeypatch.setattr(conv, "_is_for_blocks", lambda x: False)
    make, x, y = NETWORKS[name]
    ours, theirs = make(), make().to(asduck)
    losses, _ = train(ours, x, y, 5, np.asarray)
    others, waited = train(theirs, x, y, 5, asduck)
    for a, b in zip(losses, others, strict=True):
        equal(b, a)
    assert max(waited) <= 2
    theirs.to(duck_array.asnumpy)
    for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        np.testing.assert_array_equal(a, b)
        assert type(b) is np.ndarray


WINDOWS = {  # input, weight or None, options
    "3x3": ((2, 3, 6, 5), (4, 3, 3, 3), {"padding": 1}),
    "stride": ((2, 3, 7, 8), (4, 3, 3, 2), {"stride": (2, 3), "padding": (1, 0)}),
    "dilation": ((2, 2, 9, 9), (2, 2, 3, 3), {"dilation": (2, 3), "padding": 2}),
    "groups": ((2, 4, 5, 5), (6, 2, 3, 3), {"groups": 2}),
    "same": ((3, 2, 5, 6), (1, 2, 2, 4), {"padding": "same"}),
    "one image": ((3, 6, 6), (2, 3, 1, 1), {"stride": 2}),
    "no image": ((0, 3, 6, 6), (2, 3, 3, 3), {}),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_convolution(name, monkeypatch):
    """The textbook's to the bit, and the fast kernel to rounding."""
    shape, kernel, options = WINDOWS[name]
    rng = np.random.default_rng(0)
    arrays = rng.normal(size=shape), rng.normal(size=kernel), rng.normal(size=kernel[0])
    found = []
    for move, blocks in ((np.copy, True), (np.copy, False), (asduck, False)):
        with monkeypatch.context() as patch:
            if not blocks:
                patch.setattr(conv, "_is_for_blocks", lambda x: False)
            leaves = [Tensor(move(a), requires_grad=True) for a in arrays]
            y = F.conv2d(*leaves, **options)
            y.backward(np.random.default_rng(1).normal(size=y.shape))
            found.append([y.data, *(x.grad for x in leaves)])
    for fast, textbook, duck in zip(*found, strict=True):
        equal(duck, textbook)
        np.testing.assert_allclose(fast, textbook, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("pool", "options"),
    [
        (F.max_pool2d, {"padding": 1, "stride": 2}),
        (F.max_pool2d, {"dilation": 2, "ceil_mode": True}),
        (F.avg_pool2d, {"padding": 1}),
        (F.avg_pool2d, {"padding": 1, "ceil_mode": True, "count_include_pad": False}),
        (F.avg_pool2d, {"divisor_override": 3}),
    ],
)
def test_pooling(pool, options):
    x = np.random.default_rng(0).normal(size=(2, 3, 7, 6))
    x[0, 0, 1, 1] = np.nan
    a, b = Tensor(x, requires_grad=True), Tensor(asduck(x), requires_grad=True)
    y, z = pool(a, 3, **options), pool(b, 3, **options)
    v = np.random.default_rng(1).normal(size=y.shape)
    before = duck_array.waits()
    y.backward(v)
    z.backward(v)
    assert duck_array.waits() == before
    equal(z.data, y.data)
    equal(b.grad, a.grad)


def test_embedding_of_rows_that_are_taken_often():
    table = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    rows = np.random.default_rng(1).integers(0, 4, (20, 7))
    a, b = Tensor(table, requires_grad=True), Tensor(asduck(table), requires_grad=True)
    y, z = F.embedding(rows, a), F.embedding(asduck(rows), b)
    v = np.random.default_rng(2).normal(size=y.shape)
    y.backward(v)
    z.backward(v)
    equal(z.data, y.data)
    np.testing.assert_allclose(b.grad._a, a.grad, rtol=1e-5)
    for wrong in (-1, 5):
        with pytest.raises(ValueError, match=r"must hold 0\.\.4"):
            F.embedding(asduck(np.array([0, wrong])), b)


def test_an_lstm_cell_without_a_state():
    a, b = nn.LSTMCell(3, 4, rng=0), nn.LSTMCell(3, 4, rng=0).to(asduck)
    x = VECTORS[0][:, :3]
    for y, z in zip(a(Tensor(x)), b(Tensor(asduck(x))), strict=True):
        equal(z.data, y.data)


def test_moving_keeps_what_is_shared_and_who_holds_it():
    model = models.LSTMLanguageModel(7, 4, 4, tie_weights=True, rng=0)
    weight = model.embedding.weight
    model.to(asduck)
    assert model.decoder.weight is model.embedding.weight is weight
    assert type(weight.data) is Duck
    norm = nn.BatchNorm1d(3).to(asduck)
    assert all(type(getattr(norm, name)) is Duck for name in norm.buffers)


def test_states_of_numpy_are_loaded_where_the_network_lies():
    model, other = models.MLP((6, 5, 3), rng=0).to(asduck), models.MLP((6, 5, 3), rng=1)
    model.load_state_dict(other.state_dict())
    for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        equal(a, b)
    with pytest.raises(ValueError, match="NaN or infinite"):
        model.load_state_dict({**model.state_dict(), "layers.0.weight": np.full((5, 6), np.nan)})
    with pytest.raises(TypeError, match="implicit conversion"):  # say `model.to` first
        other.load_state_dict(model.state_dict())


def test_statistics_are_recalibrated_there():
    ours, theirs = models.SmallCNN(2, 3, 3, rng=0), models.SmallCNN(2, 3, 3, rng=0).to(asduck)
    batches = [IMAGES[0], IMAGES[0] + 1]
    pq.recalibrate_batch_norm(ours, batches)
    pq.recalibrate_batch_norm(theirs, map(asduck, batches))
    for name in ours.features[1].buffers:
        a, b = (getattr(model.features[1], name) for model in (theirs, ours))
        np.testing.assert_allclose(a._a, b, rtol=1e-6)
    assert type(theirs.features[1].running_mean) is Duck


def test_a_layer_that_quantizes_itself():
    x = VECTORS[0]
    ours, theirs = (nn.TrainedTernaryLinear(nn.Linear(6, 3, rng=0)) for _ in "ab")
    theirs.to(asduck)
    y, z = ours(Tensor(x)), theirs(Tensor(asduck(x)))
    F.sum(y * y).backward()
    F.sum(z * z).backward()
    equal(z.data, y.data)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        equal(b.grad, a.grad)
    moved = nn.TrainedTernaryLinear(nn.Linear(6, 3, rng=0).to(asduck))
    equal(moved.pos.data, ours.pos.data)


def test_a_network_prints_as_it_does_on_numpy():
    model = models.MLP((6, 5, 3), rng=0)
    shown = repr(model)
    assert repr(model.to(asduck)) == shown
    assert repr(Tensor(asduck([1.0, 2.0]))) == repr(Tensor([1.0, 2.0]))


def test_a_function_that_does_not_fit_moves_nothing():
    model = models.MLP((6, 5, 3), rng=0)
    before = [p.data for p in model.parameters()]
    with pytest.raises(TypeError, match="function must return an array, got list"):
        model.to(np.ndarray.tolist)
    with pytest.raises(ValueError, match=r"layers.0.weight, got \(5, 6\) and float64"):
        model.to(lambda a: a.astype(np.float64))
    with pytest.raises(TypeError, match="function must be a function from array to array, got"):
        model.to("cuda")
    assert all(p.data is a for p, a in zip(model.parameters(), before, strict=True))


OPERATORS = {  # ufuncs that the package calls by operators alone
    "absolute": "abs(",
    "bitwise_and": " & ",
    "bitwise_or": " | ",
    "floor_divide": " // ",
    "greater": " > ",
    "invert": "~",
    "less": " < ",
    "not_equal": " != ",
    "power": "**",
    "remainder": " % ",
}


def test_the_lists_of_the_docs_name_nothing_that_is_not_used():
    """The duck array refuses what they do not name."""
    package = Path(pq.__file__).parent
    source = "\n".join(path.read_text("utf-8") for path in package.rglob("*.py"))
    for kind, names in duck_array.LISTS.items():
        for name in names:
            leaf = re.escape(name.rpartition(".")[2] if kind == "functions" else name)
            pattern = {
                "functions": rf"\b{leaf}\(|np\.{leaf}\b",
                "ufuncs": re.escape(OPERATORS[name]) if name in OPERATORS else rf"np\.{leaf}\b",
                "methods": rf"\.{leaf}\(",
                "attributes": rf"\.{leaf}\b",
            }[kind]
            assert re.search(pattern, source), f"{name}, one of the {kind}"
    own = {name for name in vars(Duck) if not name.startswith("_")} - {"real"}
    assert own == duck_array.LISTS["methods"] | duck_array.LISTS["attributes"]
