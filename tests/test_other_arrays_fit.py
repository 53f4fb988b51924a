"""Arrays of another library: `fit` trains to NumPy's bits, and its files fit both."""

import copy

import duck_array
import numpy as np
import pytest
from duck_array import Duck, asduck, asnumpy

import proxquant_np as pq
from proxquant_np import models, optim, prox
from proxquant_np.autograd import conv
from proxquant_np.data import Split
from proxquant_np.training import fit, load_checkpoint, metrics
from proxquant_np.training.run import Run

RNG = np.random.default_rng(0)
VECTORS = Split(RNG.normal(size=(40, 6)).astype(np.float32), RNG.integers(0, 3, 40))
IMAGES = Split(RNG.normal(size=(12, 2, 8, 8)).astype(np.float32), RNG.integers(0, 3, 12))
TOKENS = Split(RNG.integers(0, 7, 90), RNG.integers(0, 7, 90))
LINEAR = prox.Linear(0.5)


def eager(regularizer, homotopy=LINEAR):
    def make(model):
        base = optim.Adam(model.parameters(), 0.01)
        return optim.ProxGradient(
            base, pq.quantizable_parameters(model), regularizer, homotopy, clip=True
        )

    return make


def lazy(model):
    base = optim.SGD(model.parameters(), 0.1, momentum=0.9)
    return optim.DualAveraging(base, pq.quantizable_parameters(model), prox.BinaryL1())


def grouped(model):
    first, last = pq.quantizable_parameters(model).values()
    groups = [([first], prox.BinaryL1(), LINEAR), ([last], prox.TernaryL2(), None)]
    return optim.ProxGradient(optim.Adam(model.parameters()), groups)


def noisy(inputs, rng):
    return inputs + rng.normal(size=inputs.shape).astype(inputs.dtype)


RUNS = {  # model, optimizer, data, options
    "MLP": (lambda: models.MLP((6, 5, 3), rng=0), eager(prox.BinaryL1()), VECTORS, {}),
    "MLP, lazy": (lambda: models.MLP((6, 5, 3), rng=0), lazy, VECTORS, {"prepare": noisy}),
    "MLP, groups": (lambda: models.MLP((6, 5, 3), rng=0), grouped, VECTORS, {}),
    "MLP, Adam": (
        lambda: models.MLP((6, 5, 3), rng=0),
        lambda model: optim.Adam(model.parameters()),
        VECTORS,
        {"regularizer": prox.Ternary(), "schedule": lambda t: 0.1 / (t + 1)},
    ),
    "LSTM": (
        lambda: models.LSTMLanguageModel(7, 4, 4, 2, dropout=0.5, rng=0),
        eager(prox.MultiBitL2(2, "exact")),
        TOKENS,
        {"length": 5, "max_norm": 0.25},
    ),
    "ResNet": (
        lambda: models.ResNet(8, 2, 2, 3, rng=0),
        eager(prox.BinaryL2()),
        IMAGES,
        {"batch_size": 4},
    ),
}


@pytest.fixture(autouse=True)
def textbook(monkeypatch):
    """Convolution as elsewhere, on NumPy as well."""
    monkeypatch.setattr(conv, "_is_for_blocks", lambda x: False)


def start(name, move=None):
    make_model, make_optimizer, data, options = RUNS[name]
    model = make_model() if move is None else make_model().to(move)
    optimizer = make_optimizer(model)
    options = {"batch_size": 8, "steps": 11, "progress": False, **options}
    return (
        model,
        optimizer,
        lambda **more: fit(model, optimizer, data, validation=data, **{**options, **more}),
    )


def same_state(there, here):
    for name, value in here.state_dict().items():
        np.testing.assert_array_equal(asnumpy(there.state_dict()[name]), value, name)


@pytest.mark.parametrize("name", RUNS)
def test_a_run(name, tmp_path):
    ours, our_optimizer, run_here = start(name)
    theirs, their_optimizer, run_there = start(name, asduck)
    here, there = run_here(), run_there()
    assert there.to_dict() == here.to_dict()
    assert all(type(p.data) is Duck for p in theirs.parameters())
    same_state(theirs, ours)
    same_state(their_optimizer, our_optimizer)


@pytest.mark.parametrize("name", RUNS)
def test_a_step_waits_twice(name, monkeypatch):
    _, _, run = start(name, asduck)
    waited = []

    def counted(self, x, y, step=Run.step):
        before = duck_array.waits()
        step(self, x, y)
        waited.append(duck_array.waits() - before)

    monkeypatch.setattr(Run, "step", counted)
    run()
    assert len(waited) == 11 and 1 <= max(waited) <= 2


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("first", [None, asduck])
def test_checkpoints_are_interchangeable(name, first, tmp_path):
    """Begun here and continued there, or the other way round: as if never interrupted."""
    file, second = tmp_path / "run.npz", asduck if first is None else None
    whole, whole_optimizer, run = start(name)
    history = run()
    start(name, first)[2](steps=6, checkpoint=file)
    arrays, _ = load_checkpoint(file)
    assert all(type(a) is np.ndarray for a in arrays.values())
    model, optimizer, run = start(name, second)
    with pytest.warns(UserWarning, match="different rounding: arrays was"):
        resumed = run(checkpoint=file)
    assert resumed.to_dict() == history.to_dict()
    same_state(model, whole)
    same_state(optimizer, whole_optimizer)


def test_the_file_of_a_run_is_the_same(tmp_path):
    for name in ("MLP, lazy", "LSTM"):
        files = [tmp_path / f"{name} here.npz", tmp_path / f"{name} there.npz"]
        for file, move in zip(files, (None, asduck), strict=True):
            start(name, move)[2](checkpoint=file)
        (here, ours), (there, theirs) = map(load_checkpoint, files)
        assert here.keys() == there.keys()
        for key in here:
            np.testing.assert_array_equal(there[key], here[key], key)
        assert theirs.pop("computed with").pop("arrays") != ours.pop("computed with").pop("arrays")
        assert theirs == ours


def test_data_may_lie_there_too():
    ours, _, run_here = start("MLP")
    theirs = models.MLP((6, 5, 3), rng=0).to(asduck)
    data = Split(*map(asduck, VECTORS))
    optimizer = eager(prox.BinaryL1())(theirs)
    history = fit(theirs, optimizer, data, validation=data, steps=11, batch_size=8, progress=False)
    assert history.to_dict() == run_here().to_dict()
    same_state(theirs, ours)


@pytest.mark.parametrize("where", ["loss", "weights", "gradients"])
def test_divergence(where):
    model, optimizer, run = start("MLP", asduck)
    if where == "loss":
        model.layers[0].weight.data[0, 0] = np.inf
    elif where == "weights":
        optimizer.base.lr = 1e38
        optimizer.clip = False
    else:
        data = Split(VECTORS.x * np.float32(1e30), VECTORS.y)
        with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="at step 0"):
            fit(model, optimizer, data, steps=3, batch_size=8, progress=False)
        return
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=r"at step \d: it"):
        run()


def test_metrics():
    rng = np.random.default_rng(1)
    a, b = np.sign(rng.normal(size=(2, 5, 4)).round(0))
    there = asduck(a), asduck(b)
    assert metrics.sign_change(*there) == metrics.sign_change(a, b)
    assert metrics.transitions(*there) == metrics.transitions(a, b)
    for Q in (prox.Binary(), prox.TernaryL2(), prox.MultiBit(3)):
        w = rng.normal(size=(5, 4))
        assert metrics.quantization_gap(asduck(w), Q) == metrics.quantization_gap(w, Q)
    with pytest.raises(ValueError, match="NaN"):
        metrics.sign_change(asduck([np.nan]), asduck([1.0]))


def test_evaluating_and_quantizing_a_copy():
    for make, data, options in (
        (RUNS["MLP"][0], VECTORS, {}),
        (RUNS["ResNet"][0], IMAGES, {}),
        (RUNS["LSTM"][0], TOKENS, {"batch_size": 8, "length": 5}),
    ):
        ours, theirs = make(), make().to(asduck)
        for quantize in (False, True):
            found = []
            for model in (ours, theirs):
                if quantize:
                    model = metrics.quantized_copy(model, prox.MultiBit(2))
                found.append(metrics.evaluate(model, *data, **options))
            assert found[0] == found[1]
        same_state(theirs, ours)


def test_freezing_and_recalibrating_after_training():
    ours, theirs = start("ResNet")[0], start("ResNet", asduck)[0]
    for model in (ours, theirs):
        pq.quantize_and_freeze(pq.quantizable_parameters(model), prox.BinaryL1())
        pq.recalibrate_batch_norm(model, [IMAGES.x[:6], IMAGES.x[6:]])
    same_state(theirs, ours)


def test_packed_files_are_the_same(tmp_path):
    for name in ("MLP", "LSTM", "ResNet"):
        ours, theirs = start(name)[0], start(name, asduck)[0]
        files = [tmp_path / f"{name}{i}.npz" for i in range(2)]
        for model, file in zip((ours, theirs), files, strict=True):
            pq.pack(model, prox.MultiBitL2(2), file)
        assert files[0].read_bytes() == files[1].read_bytes()
        assert all(type(p.data) is Duck for p in theirs.parameters())
        loaded = pq.load_packed(files[1]).to(asduck)
        same_state(loaded, pq.load_packed(files[0]))


def test_models_are_copied_there():
    model = start("MLP", asduck)[0]
    other = copy.deepcopy(model)
    other.layers[0].weight.data[...] = 0
    assert model.layers[0].weight.data._a.any()
