"""Modules: names and order, state, modes, what is quantized, batch norm re-estimated, initialisers.

Each layer's arithmetic is that of a function tested elsewhere; here it is compared with PyTorch's
once, through a network that loads PyTorch's own state.
"""

import copy
import subprocess
import sys
from collections import OrderedDict, deque

import numpy as np
import pytest

import proxquant_np as pq
import proxquant_np.functional as F
from proxquant_np import (
    Tensor,
    models,
    nn,
    no_grad,
    quantizable_parameters,
    recalibrate_batch_norm,
)
from proxquant_np.nn import (
    BatchNorm1d,
    Dropout,
    Flatten,
    Linear,
    Module,
    ModuleList,
    Parameter,
    ReLU,
    Sequential,
    Tanh,
    init,
)


def network(seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return Sequential(
        Linear(3, 4, bias=False, rng=rng, dtype=dtype),
        BatchNorm1d(4, dtype=dtype),
        ReLU(),
        Linear(4, 2, rng=rng, dtype=dtype),
    )


NAMES = [
    "0.weight",
    "1.weight",
    "1.bias",
    "1.running_mean",
    "1.running_var",
    "1.num_batches_tracked",
    "3.weight",
    "3.bias",
]


class Tied(Module):
    """A parameter under two names, and one that is no layer's."""

    def __init__(self):
        self.scale = Parameter(np.ones((), np.float32))
        self.encoder = Linear(3, 3, bias=False)
        self.middle = Linear(3, 3, bias=False)
        self.decoder = Linear(3, 3, bias=False)
        self.decoder.weight = self.encoder.weight

    def forward(self, x):
        return self.scale * self.decoder(self.middle(self.encoder(x)))


def inputs(n=8, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=(n, 3)).astype(dtype)


# Names and order


def test_names_and_order():
    model = network()
    assert list(model.state_dict()) == NAMES
    named = dict(model.named_parameters())
    assert list(named) == [n for n in NAMES if "running" not in n and "tracked" not in n]
    assert list(named.values()) == list(model.parameters())
    assert [name for name, _ in model.named_modules()] == ["", "0", "1", "2", "3"]
    assert len(model) == 4 and list(model) == [model[i] for i in range(4)]


def test_nested_names():
    class Net(Module):
        def __init__(self):
            self.body, self.head = network(), Linear(2, 2)

    names = [name for name, _ in Net().named_parameters()]
    assert names[0] == "body.0.weight" and names[-2:] == ["head.weight", "head.bias"]


def test_shared_parameters_are_listed_once_but_saved_under_each_name():
    model = Tied()
    assert [name for name, _ in model.named_parameters()] == [
        "scale",
        "encoder.weight",
        "middle.weight",
    ]
    assert list(model.state_dict()) == [
        "scale",
        "encoder.weight",
        "middle.weight",
        "decoder.weight",
    ]
    F.sum(model(inputs())).backward()
    assert model.encoder.weight.grad is model.decoder.weight.grad is not None
    model.zero_grad()
    assert model.encoder.weight.grad is None


def test_a_parameter_owns_its_data():
    data = np.ones((2, 3), np.float32).T
    p = Parameter(data)
    data[...] = 0
    assert p.data.flags.c_contiguous and (p.data == 1).all() and p.requires_grad
    assert (Parameter(p).data == 1).all() and Parameter(p).data is not p.data
    assert not Parameter(data, requires_grad=False).requires_grad
    with pytest.raises(TypeError, match="float32 or float64"):
        Parameter([1, 2])


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match="Module defines no forward"):
        Module()(1)


# State


def test_state_round_trip_and_independence():
    model, other = network(0), network(1)
    model(inputs())  # moves the running statistics
    state = model.state_dict()
    other.load_state_dict(state)
    assert all(np.array_equal(state[k], v) for k, v in other.state_dict().items())
    for p in other.parameters():
        p.data += 1
    other(inputs())
    assert all(np.array_equal(state[k], v) for k, v in model.state_dict().items())
    assert np.array_equal(state["0.weight"], model.state_dict()["0.weight"])


def test_loading_keeps_arrays_and_dtypes():
    model = network()
    arrays = [p.data for p in model.parameters()]
    model.load_state_dict({k: v.tolist() for k, v in network(1, np.float64).state_dict().items()})
    for p, array in zip(model.parameters(), arrays, strict=True):
        assert p.data is array and p.dtype == np.float32
    assert model[1].num_batches_tracked.dtype == np.int64


def test_strict_loading_names_what_does_not_fit():
    model = network()
    state = model.state_dict()
    state["3.wieght"] = state.pop("3.weight")
    with pytest.raises(KeyError, match=r"missing \['3.weight'\].*did you mean 3.weight\?"):
        model.load_state_dict(state)
    with pytest.raises(KeyError, match=r"missing \['1.bias'\]"):
        network().load_state_dict(
            {k: v for k, v in network().state_dict().items() if k != "1.bias"}
        )
    with pytest.raises(KeyError, match=r"unknown \['something quite different'\]"):
        model.load_state_dict({**model.state_dict(), "something quite different": 0})


def test_loose_loading_takes_what_fits():
    model, weight = network(), np.ones((2, 4), np.float32)
    before = model.state_dict()
    model.load_state_dict({"3.weight": weight, "elsewhere": weight}, strict=False)
    for name, value in model.state_dict().items():
        assert np.array_equal(value, weight if name == "3.weight" else before[name])


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("name", "value", "error", "says"),
    [
        ("3.weight", np.ones((4, 2)), ValueError, r"3.weight.*\(2, 4\).*\(4, 2\)"),
        ("3.bias", np.ones((1, 2)), ValueError, r"3.bias.*\(2,\).*\(1, 2\)"),
        ("3.bias", [0, np.nan], ValueError, "3.bias must be finite, got NaN or infinite"),
        (
            "1.running_var",
            [1, 1, np.inf, 1],
            ValueError,
            "1.running_var must be finite, got NaN or infinite",
        ),
        (
            "3.bias",
            [0, 1e300],
            ValueError,
            "3.bias must be finite, got NaN or infinite",
        ),  # in float32
        ("3.bias", [0, 1j], TypeError, "3.bias must have dtype float32"),
        ("3.bias", ["0", "1"], TypeError, "3.bias must have dtype float32"),
        ("1.num_batches_tracked", 0.5, TypeError, "tracked must have dtype int64"),
        ("1.num_batches_tracked", -1, ValueError, "tracked.*>= 0"),
    ],
)
def test_bad_state_is_refused_and_nothing_is_half_loaded(strict, name, value, error, says):
    model = network()
    before = model.state_dict()
    with pytest.raises(error, match=says):
        model.load_state_dict({**network(1).state_dict(), name: value}, strict)
    assert all(np.array_equal(before[k], v) for k, v in model.state_dict().items())


def test_state_must_be_a_mapping():
    with pytest.raises(TypeError, match="state must be a mapping by name, got list"):
        network().load_state_dict([])


@pytest.mark.parametrize("training", [True, False])
def test_loads_pytorch_s_state_and_computes_the_same(training):
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(
        torch.nn.Linear(3, 4, bias=False),
        torch.nn.BatchNorm1d(4),
        torch.nn.ReLU(),
        torch.nn.Linear(4, 2),
    ).train(training)
    state = {k: v.numpy().copy() for k, v in net.state_dict().items()}
    model = network().train(training)
    assert list(state) == list(model.state_dict()) == NAMES
    assert [k for k, _ in net.named_parameters()] == [k for k, _ in model.named_parameters()]
    model.load_state_dict(state)
    for seed in range(2):
        x = inputs(seed=seed)
        y = net(torch.from_numpy(x))
        np.testing.assert_allclose(model(x).data, y.detach().numpy(), rtol=1e-4, atol=1e-5)
    for (name, mine), value in zip(
        model.state_dict().items(), net.state_dict().values(), strict=True
    ):
        np.testing.assert_allclose(mine, value.numpy(), rtol=1e-5, atol=1e-6, err_msg=name)


def test_deepcopy_is_independent():
    model = network()
    F.sum(model(inputs())).backward()
    twin = copy.deepcopy(model)
    assert [type(p) for p in twin.parameters()] == [Parameter] * 5
    before = model.state_dict()
    for p in twin.parameters():
        p.data += 1
    twin(inputs())
    assert all(np.array_equal(before[k], v) for k, v in model.state_dict().items())
    assert np.array_equal(twin[0].weight.grad, model[0].weight.grad)
    assert twin[0].weight.grad is not model[0].weight.grad


def test_deepcopy_keeps_shared_parameters_shared():
    twin = copy.deepcopy(Tied())
    assert twin.encoder.weight is twin.decoder.weight


# Modes


def test_train_and_eval_reach_everything_below():
    model = Sequential(Sequential(Dropout(0.5), Linear(2, 2)), BatchNorm1d(2))
    modules = [m for _, m in model.named_modules()]
    assert all(m.training for m in modules)
    assert model.eval() is model and not any(m.training for m in modules)
    assert model.train() is model and all(m.training for m in modules)
    model[0].eval()
    assert model.training and not model[0][0].training


def test_dropout_only_in_training_and_reproducible():
    x = np.ones((4, 50), np.float32)
    first, again = Dropout(0.5, rng=3), Dropout(0.5, rng=3)
    y = first(x).data
    assert np.array_equal(y, again(x).data) and set(np.unique(y)) == {0, 2}
    assert not np.array_equal(y, first(x).data)
    assert np.array_equal(first.eval()(x).data, x)


def test_small_layers():
    x = np.array([[-1.0, 0.5], [2.0, -3.0]])
    assert np.array_equal(ReLU()(x).data, np.maximum(x, 0))
    assert np.array_equal(Tanh()(x).data, np.tanh(x))
    assert Flatten()(np.zeros((2, 3, 4))).shape == (2, 12)
    layer = Linear(2, 3, dtype=np.float64)
    assert np.allclose(layer(x).data, x @ layer.weight.data.T + layer.bias.data)
    assert layer(np.zeros((5, 4, 2))).shape == (5, 4, 3)
    assert Linear(2, 3, bias=False).bias is None


# Batch norm


def moments(x):
    return x.mean(0), x.var(0, ddof=1)


def test_batch_norm_statistics():
    norm = BatchNorm1d(3, momentum=0.25, dtype=np.float64)
    mean, var = np.zeros(3), np.ones(3)
    for seed in range(3):
        x = inputs(seed=seed, dtype=np.float64)
        y = norm(x).data
        np.testing.assert_allclose(y, (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5), rtol=1e-10)
        mean, var = (0.75 * a + 0.25 * b for a, b in zip((mean, var), moments(x), strict=True))
    np.testing.assert_allclose(norm.running_mean, mean, rtol=1e-12)
    np.testing.assert_allclose(norm.running_var, var, rtol=1e-12)
    assert norm.num_batches_tracked == 3
    before = norm.state_dict()
    y = norm.eval()(x).data
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-5), rtol=1e-10)
    assert all(np.array_equal(before[k], v) for k, v in norm.state_dict().items())


def test_batch_norm_without_momentum_averages():
    norm = BatchNorm1d(3, momentum=None, dtype=np.float64)
    batches = [inputs(seed=seed, dtype=np.float64) for seed in range(4)]
    for x in batches:
        norm(x)
    mean, var = (np.mean(part, 0) for part in zip(*map(moments, batches), strict=True))
    np.testing.assert_allclose(norm.running_mean, mean, rtol=1e-12)
    np.testing.assert_allclose(norm.running_var, var, rtol=1e-12)
    norm.reset_running_stats()
    assert norm.num_batches_tracked == 0 and (norm.running_var == 1).all()
    norm.eval()(x)


def test_a_refused_batch_leaves_the_statistics_alone():
    norm = BatchNorm1d(3)
    before = norm.state_dict()
    for bad in (inputs(1), np.zeros(3, np.float32), np.zeros((4, 5), np.float32)):
        with pytest.raises(ValueError, match=r"shape"):
            norm(bad)
        assert all(np.array_equal(before[k], v) for k, v in norm.state_dict().items())


def deep():
    """Two norms, so that the second sees what the first makes of a batch; dropout before both."""
    rng = np.random.default_rng(0)
    args = dict(rng=rng, dtype=np.float64)
    return Sequential(
        Dropout(0.5, rng=rng),
        Linear(3, 4, **args),
        BatchNorm1d(4, momentum=0.3, dtype=np.float64),
        Tanh(),
        Linear(4, 4, **args),
        BatchNorm1d(4, momentum=None, dtype=np.float64),
    )


def test_recalibration_is_the_plain_average():
    model = deep()
    model(inputs(seed=9, dtype=np.float64))
    model[4].eval()
    model[2].weight.requires_grad = False
    modes = [m.training for _, m in model.named_modules()]
    parameters = [p.data.copy() for p in model.parameters()]
    generator = copy.deepcopy(model[0].rng.bit_generator.state)
    batches = [inputs(n, n, np.float64) for n in (4, 9, 6)]

    recalibrate_batch_norm(model, iter(batches))

    first, second = [], []
    for x in batches:
        a = x @ model[1].weight.data.T + model[1].bias.data
        first.append(moments(a))
        a = np.tanh((a - a.mean(0)) / np.sqrt(a.var(0) + 1e-5))
        second.append(moments(a @ model[4].weight.data.T + model[4].bias.data))
    for norm, seen in ((model[2], first), (model[5], second)):
        mean, var = (np.mean(part, 0) for part in zip(*seen, strict=True))
        np.testing.assert_allclose(norm.running_mean, mean, rtol=1e-9)
        np.testing.assert_allclose(norm.running_var, var, rtol=1e-9)
        assert norm.num_batches_tracked == 3
    assert [model[2].momentum, model[5].momentum] == [0.3, None]
    assert [m.training for _, m in model.named_modules()] == modes
    assert model[0].rng.bit_generator.state == generator
    for p, before in zip(model.parameters(), parameters, strict=True):
        assert np.array_equal(p.data, before) and p.grad is None


@pytest.mark.parametrize(
    ("batches", "says"),
    [
        ([], "at least one batch"),
        (inputs(dtype=np.float64), "shape"),  # one batch instead of a list of them
        ([inputs(dtype=np.float64), np.zeros((4, 7))], "shape"),
    ],
)
def test_recalibration_that_fails_changes_nothing(batches, says):
    model = deep()
    model(inputs(dtype=np.float64))
    before = model.state_dict()
    with pytest.raises(ValueError, match=says):
        recalibrate_batch_norm(model, batches)
    assert all(np.array_equal(before[k], v) for k, v in model.state_dict().items())
    assert all(m.training for _, m in model.named_modules())


def test_recalibration_without_batch_norm_is_harmless():
    model = Linear(3, 2)
    recalibrate_batch_norm(model, [inputs()])


# What is quantized


def test_weights_are_quantized_biases_and_norms_are_not():
    assert list(quantizable_parameters(network())) == ["0.weight", "3.weight"]
    assert list(quantizable_parameters(Linear(2, 3))) == ["weight"]
    assert quantizable_parameters(Sequential(ReLU(), BatchNorm1d(3))) == {}


def test_first_and_last_may_stay_in_full_precision():
    model = Sequential(*(Linear(2, 2, rng=i) for i in range(4)))
    for first in (True, False):
        for last in (True, False):
            names = list(quantizable_parameters(model, first, last))
            assert names == [f"{i}.weight" for i in range(0 if first else 1, 4 if last else 3)]
    assert quantizable_parameters(Linear(2, 2), first=False) == {}
    assert quantizable_parameters(Linear(2, 2), last=False) == {}


def test_shared_weights_are_quantized_once_or_not_at_all():
    model = Tied()
    assert list(quantizable_parameters(model)) == ["encoder.weight", "middle.weight"]
    assert list(quantizable_parameters(model, first=False)) == ["middle.weight"]
    assert list(quantizable_parameters(model, last=False)) == ["middle.weight"]


def test_a_layer_with_several_weights_is_first_or_last_as_a_whole():
    class Pair(Module):
        quantizable = ("a", "b")

        def __init__(self):
            self.a, self.b = Parameter(np.ones(2)), Parameter(np.ones(2))

    model = Sequential(Pair(), Linear(2, 2), Pair())
    assert len(quantizable_parameters(model)) == 5
    assert list(quantizable_parameters(model, first=False, last=False)) == ["1.weight"]


# Initialisers


@pytest.mark.parametrize("shape", [(300, 200), (60, 20, 3, 4)])
def test_initialisers_have_their_bounds_and_variances(shape):
    fan_in, fan_out = np.prod(shape[1:]), shape[0] * np.prod(shape[2:])
    n = np.prod(shape)

    def draw(initialiser):
        w = initialiser(shape, rng=np.random.default_rng(0), dtype=np.float64)
        assert w.shape == shape and abs(w.mean()) < 4 * w.std() / np.sqrt(n)
        return w

    def check(w, variance, bound=None):
        kurtosis = 3 if bound is None else 1.8  # normal, uniform
        assert abs(w.var() / variance - 1) < 4 * np.sqrt((kurtosis - 1) / n)
        assert abs((w**4).mean() / variance**2 - kurtosis) < 0.1
        if bound is not None:
            assert 0.999 * bound < np.abs(w).max() <= bound

    check(draw(init.he_normal), 2 / fan_in)
    check(draw(init.fan_in_uniform), 1 / (3 * fan_in), fan_in**-0.5)
    check(draw(init.glorot_uniform), 2 / (fan_in + fan_out), np.sqrt(6 / (fan_in + fan_out)))


@pytest.mark.parametrize("initialiser", [init.he_normal, init.fan_in_uniform, init.glorot_uniform])
def test_initialisers_follow_the_generator_and_dtype(initialiser):
    def draw(seed, dtype=np.float32):
        return initialiser((3, 4), np.random.default_rng(seed), dtype)

    assert np.array_equal(draw(0), draw(0)) and not np.array_equal(draw(0), draw(1))
    assert draw(0).dtype == np.float32 and draw(0, np.float64).dtype == np.float64
    assert np.array_equal(draw(0), draw(0, np.float64).astype(np.float32))
    for shape in ((3,), (), (0, 3), (3, 0), (-1, 3)):
        with pytest.raises(ValueError, match=r"shape must be \(out, in, \.\.\.\)"):
            initialiser(shape, np.random.default_rng(0))


def test_layers_draw_from_the_generator_they_are_given():
    assert np.array_equal(Linear(3, 4, rng=5).weight.data, Linear(3, 4, rng=5).weight.data)
    rng = np.random.default_rng(5)
    first, second = Linear(3, 4, rng=rng), Linear(3, 4, rng=rng)
    assert np.array_equal(first.weight.data, Linear(3, 4, rng=5).weight.data)
    assert not np.array_equal(first.weight.data, second.weight.data)
    assert np.abs(Linear(25, 999).bias.data).max() <= 0.2
    with pytest.raises(ValueError, match="in_features"):
        Linear(0, 3)


def test_no_grad_records_nothing():
    with no_grad():
        y = network()(inputs())
    assert isinstance(y, Tensor) and not y.requires_grad


def test_slices_of_a_sequential_are_sequentials():
    net = Sequential(Linear(2, 3), ReLU(), Linear(3, 2))
    x = np.ones((1, 2), np.float32)
    assert isinstance(net[:1], Sequential) and len(net[:1]) == 1 and net[-1] is net[2]
    assert np.array_equal(net[1:](net[:1](x)).data, net(x).data)
    assert net[1:][0] is net[1] and list(net[1:].state_dict()) == ["2.weight", "2.bias"]


def test_what_does_not_strictly_fit_is_returned():
    net = network()
    state = net.state_dict()
    assert net.load_state_dict(state) == ([], [])
    del state["3.bias"]
    state["4.bias"] = np.zeros(2)
    keys = net.load_state_dict(state, strict=False)
    assert (keys.missing_keys, keys.unexpected_keys) == (["3.bias"], ["4.bias"])
    with pytest.raises(TypeError, match="state must be a mapping by name, got NoneType"):
        net.load_state_dict(None, strict=False)


@pytest.mark.parametrize("gone", ["encoder.weight", "decoder.weight"])
def test_one_name_of_a_shared_parameter_is_enough(gone):
    net, state = Tied(), Tied().state_dict()
    state["encoder.weight"] += 1
    with pytest.raises(ValueError, match="are one parameter, but differ in the state"):
        net.load_state_dict(state)
    state["decoder.weight"] = state["encoder.weight"]
    wanted = state.pop(gone)
    assert net.load_state_dict(state) == ([], [])
    assert np.array_equal(net.encoder.weight.data, wanted)


# Layers made without rng


def test_layers_made_without_rng_differ():
    made = {
        "Linear": lambda: Linear(4, 4).weight.data,
        "Conv2d": lambda: nn.Conv2d(2, 2, 3).weight.data,
        "Embedding": lambda: nn.Embedding(5, 3).weight.data,
        "LSTMCell": lambda: nn.LSTMCell(3, 4).weight_hh.data,
        "LSTM": lambda: nn.LSTM(3, 4).weight_hh_l0.data,
        "Dropout": lambda: Dropout(0.5)(Tensor(np.ones(64))).data,
        "MLP": lambda: models.MLP((4, 5, 3)).layers[0].weight.data,
        "SmallCNN": lambda: models.SmallCNN(width=2).features[0].weight.data,
        "ResNet": lambda: models.ResNet(8, 2).conv1.weight.data,
        "LSTMLanguageModel": lambda: models.LSTMLanguageModel(5, 4, 4).embedding.weight.data,
        "described": lambda: models.build({"name": "MLP", "arguments": {}}).layers[0].weight.data,
    }
    for name, make in made.items():
        assert not np.array_equal(make(), make()), name
    lstm = nn.LSTM(4, 4, num_layers=2)
    assert not np.array_equal(lstm.weight_hh_l0.data, lstm.weight_hh_l1.data)


def test_branches_do_not_stay_equal():
    class Branches(Module):
        def __init__(self):
            self.a, self.b = Linear(3, 4), Linear(3, 4)
            self.head = Linear(4, 2)

        def forward(self, x):
            return self.head(F.tanh(self.a(x)) + F.tanh(self.b(x)))

    model = Branches()
    optimizer = pq.optim.SGD(model.parameters(), 0.1)
    for _ in range(5):
        optimizer.zero_grad()
        F.cross_entropy(model(Tensor(inputs())), np.arange(8) % 2).backward()
        optimizer.step()
    assert not np.isclose(model.a.weight.data, model.b.weight.data).any()


SCRIPT = """
import hashlib
import proxquant_np as pq
parts = [pq.nn.Linear(3, 3), pq.models.MLP((3, 4, 2)), pq.nn.LSTM(2, 2), pq.nn.Embedding(3, 2)]
hashed = hashlib.sha256()
for part in parts:
    for value in part.state_dict().values():
        hashed.update(value.tobytes())
hashed.update(pq.nn.Dropout(0.5)(pq.Tensor([1.0] * 99)).data.tobytes())
print(hashed.hexdigest())
"""


def test_a_script_run_twice_has_the_same_bits():
    outputs = [
        subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True).stdout
        for _ in range(2)
    ]
    assert outputs[0] == outputs[1]


def test_a_seed_means_what_it_meant():
    """Counting touches nothing that is given a seed or a generator."""
    first, second = Linear(3, 2, rng=0), Linear(3, 2, rng=np.random.default_rng(0))
    drawn = np.random.default_rng(0).uniform(-(3**-0.5), 3**-0.5, (2, 3)).astype(np.float32)
    for layer in (first, second):
        np.testing.assert_array_equal(layer.weight.data, drawn)
    assert not np.array_equal(Linear(3, 2).weight.data, drawn)


# Lists of modules


class Hidden(Module):
    """What its argument makes of three layers and a parameter."""

    def __init__(self, hide):
        self.first = Linear(3, 3)
        self.hidden = hide([Linear(3, 3) for _ in range(3)], Parameter([1.0]))


@pytest.mark.parametrize(
    ("kind", "hide"),
    [
        ("list", lambda layers, p: layers),
        ("tuple", lambda layers, p: tuple(layers)),
        ("dict", lambda layers, p: dict(enumerate(layers))),
        ("set", lambda layers, p: set(layers)),
        ("deque", lambda layers, p: deque(layers)),
        ("list", lambda layers, p: [p]),
        ("list", lambda layers, p: ["a", 1, None, {"b": (0, [layers[0]])}]),
        ("OrderedDict", lambda layers, p: OrderedDict(scale=p)),
    ],
)
@pytest.mark.parametrize(
    "meet",
    [
        lambda m: list(m.parameters()),
        lambda m: m.state_dict(),
        lambda m: m.load_state_dict({}),
        lambda m: m.train(),
        lambda m: m.zero_grad(),
        lambda m: quantizable_parameters(m),
        lambda m: recalibrate_batch_norm(m, [inputs()]),
        lambda m: pq.pack(m, pq.prox.BinaryL1(), "never.npz"),
        lambda m: list(Sequential(m).named_modules()),
    ],
)
def test_containers_that_hide_modules_are_refused(kind, hide, meet):
    with pytest.raises(TypeError, match=rf"hidden is a {kind} that holds modules .*ModuleList"):
        meet(Hidden(hide))


def test_a_list_filled_later_and_a_list_of_layers_are_met_as_well():
    model = Hidden(lambda layers, p: [])
    assert len(list(model.parameters())) == 2
    model.hidden.append(Linear(3, 3))
    with pytest.raises(TypeError, match="hidden is a list"):
        list(model.parameters())
    with pytest.raises(TypeError, match=r"modules must be Modules, got a list at position 0"):
        Sequential([Linear(3, 3)])


def test_containers_of_anything_else_are_left_alone():
    endless = [1]
    endless.append(endless)
    model = Hidden(lambda layers, p: [endless, {"a": np.ones(3)}, ("x", None), {1, 2}, "text"])
    assert [name for name, _ in model.named_parameters()] == ["first.weight", "first.bias"]


def test_modules_of_the_class_are_refused():
    for value in (Linear(2, 2), Parameter([1.0]), [Linear(2, 2)]):
        with pytest.raises(TypeError, match=r"Net\.shared is an attribute of the class"):
            type("Net", (Module,), {"shared": value})


class Deep(Module):
    def __init__(self, rng=0):
        rng = np.random.default_rng(rng)
        self.hidden = ModuleList([Linear(3, 3, rng=rng) for _ in range(3)])
        self.head = Linear(3, 2, rng=rng)

    def forward(self, x):
        for layer in self.hidden:
            x = F.tanh(layer(x))
        return self.head(x)


def test_modules_of_a_module_list_are_found(tmp_path):
    model = Deep()
    names = [f"{n}.{w}" for n in ("hidden.0", "hidden.1", "hidden.2", "head") for w in WB]
    assert list(model.state_dict()) == [name for name, _ in model.named_parameters()] == names
    assert list(quantizable_parameters(model, last=False)) == names[:-2:2]
    pq.quantize_and_freeze(quantizable_parameters(model), pq.prox.BinaryL1())
    pq.pack(model, pq.prox.BinaryL1(), tmp_path / "net.npz")
    loaded = pq.load_packed(tmp_path / "net.npz", Deep(1))
    x = Tensor(inputs())
    np.testing.assert_array_equal(loaded(x).data, model(x).data)
    assert not model.eval().hidden[1].training
    small = pq.load_packed(tmp_path / "net.npz", Deep(1), unpack=False)
    np.testing.assert_allclose(small(x).data, model(x).data, rtol=1e-5, atol=1e-6)


WB = ("weight", "bias")


@pytest.mark.parametrize("kind", [ModuleList, lambda layers: Sequential(*layers)])
def test_a_module_list_is_a_list(kind):
    """Every edit as the built-in list does it, and the names follow."""
    layers = [Linear(2, 2) for _ in range(9)]
    mine, plain = kind(layers[:4]), layers[:4]
    edits = [
        lambda m: m.append(layers[4]),
        lambda m: m.extend(layers[5:7]),
        lambda m: m.insert(1, layers[7]),
        lambda m: m.insert(-1, layers[8]),
        lambda m: m.pop(),
        lambda m: m.pop(0),
        lambda m: m.__setitem__(2, layers[0]),
        lambda m: m.__setitem__(slice(0, 2), layers[1:2]),
        lambda m: m.__delitem__(-1),
        lambda m: m.reverse(),
        lambda m: m.remove(layers[1]),
        lambda m: m.__iadd__(layers[2:4]),
        lambda m: m.clear(),
    ]
    for edit in edits:
        edit(mine), edit(plain)
        assert list(mine) == plain and len(mine) == len(plain)
        assert [n for n, _ in mine.named_modules()] == ["", *map(str, range(len(plain)))]
        for i in range(-len(plain), len(plain)):
            assert mine[i] is plain[i]
        for part in (slice(1), slice(1, None, 2), slice(-2, None), slice(None, None, -1)):
            assert type(mine[part]) is type(mine) and list(mine[part]) == plain[part]
            assert list(mine) == plain  # a slice is another list
    with pytest.raises(IndexError):
        mine[0]
    joined = kind(layers[:2]) + layers[2:3]
    assert type(joined) is type(mine) and list(joined) == layers[:3]


@pytest.mark.parametrize("wrong", [3, None, ReLU, [Linear(2, 2)], "layer"])
def test_only_modules_are_listed(wrong):
    layers = ModuleList([Linear(2, 2)])
    for change in (lambda: ModuleList([wrong]), lambda: layers.append(wrong)):
        with pytest.raises(TypeError, match="modules must be Modules, got"):
            change()
    assert len(layers) == 1


def test_a_slice_of_a_network_runs():
    net = network().eval()
    x = inputs()
    np.testing.assert_array_equal(net[2:](net[:2](x)).data, net(x).data)


def test_a_module_list_has_no_forward_and_copies():
    layers = ModuleList([Linear(2, 2)])
    with pytest.raises(NotImplementedError, match="ModuleList defines no forward"):
        layers(1)
    twin = copy.deepcopy(layers)
    assert twin[0] is not layers[0]
    assert np.array_equal(twin[0].weight.data, layers[0].weight.data)


# What a network prints as


def test_a_network_prints_as_a_table():
    model = models.LSTMLanguageModel(7, 4, 4, tie_weights=True, dtype=np.float64)
    pq.quantize_and_freeze([model.lstm.weight_hh_l0], pq.prox.TernaryL2())
    lines = str(model).splitlines()
    assert repr(model) == str(model) and "tie_weights=True" in lines[0]
    assert lines[1].split() == ["layer", "module", "shapes", "parameters", "bits"]
    told = {line.split()[0]: line for line in lines[2:-1]}
    assert list(told) == ["drop", "embedding", "lstm", "decoder"]
    assert told["lstm"].endswith("16x4, 16x4, 16, 16         160  64, 2, 64, 64")
    assert told["decoder"].split()[-3:] == ["7", "7", "64"]  # the shared weight counts once
    count = sum(p.size for p in model.parameters())
    size = 8 * (count - 64) + 64 * 2 // 8 + 3 * 8  # the ternary weight: codes and levels
    assert lines[-1] == f"{count} parameters in {size:,} bytes"


def test_bits_are_of_codes_where_those_take_less_room():
    def bits(w):
        layer = Linear(w.shape[1], w.shape[0], bias=False)
        layer.weight.data[...] = w
        return repr(layer).splitlines()[2].split()[-1]

    rng = np.random.default_rng(0)
    assert bits(rng.normal(size=(20, 30))) == "32"
    assert bits(np.arange(6.0).reshape(2, 3)) == "32"  # six values for six entries
    assert bits(rng.choice([-1.0, 1.0], (20, 30))) == "1"
    for n, wanted in [(3, "2"), (4, "2"), (5, "3"), (16, "4")]:
        assert bits(rng.choice(np.arange(n), (40, 30))) == wanted
    rows = rng.choice([-1.0, 1.0], (40, 90)) * rng.uniform(1, 2, (40, 1))
    assert bits(rows) == "1"  # levels for each row


def test_networks_without_parameters_print_shortly():
    assert repr(ReLU()) == "ReLU" and repr(Sequential()) == "Sequential"
    assert len(repr(Sequential(ReLU(), Tanh())).splitlines()) == 5
    assert "Linear" in repr(Linear(2, 2))
    model = models.ResNet(20)
    paths = [p.path for p in model.parameters()]
    assert len(repr(model)) < 5000
    assert [p.path for p in model.parameters()] == paths  # printing changes nothing
