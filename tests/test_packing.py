"""The packed file: exact round trips, its size to the byte, and networks rebuilt from it."""

import inspect
import json
import math
import zlib

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import proxquant_np as pq
from proxquant_np import models, nn, packing, prox
from proxquant_np.models import MLP, LSTMLanguageModel, ResNet, SmallCNN
from proxquant_np.packing.codes import Codes, pack_bits, unpack_bits
from proxquant_np.training import checkpoint, fit, metrics

MODELS = {
    "MLP": lambda: MLP((9, 8, 3), rng=1),
    "MLP float64, no norm": lambda: MLP((5, 4), batch_norm=False, dtype=np.float64),
    "SmallCNN": lambda: SmallCNN(2, 3, num_classes=4),
    "ResNet": lambda: ResNet(8, 2, 1, 5),
    "LSTM": lambda: LSTMLanguageModel(7, 4, 5, 2, 0.1),
    "LSTM tied": lambda: LSTMLanguageModel(7, 4, 4, tie_weights=True),
}
REGULARIZERS = [
    prox.BinaryL1(),
    prox.LevelsL2((-1.5, -0.25, 0.0, 0.5, 2.0)),
    prox.TernaryL2(),
    prox.TernaryL2(symmetric=True, axis=0),
    prox.TernaryL2(projection="threshold"),
    prox.MultiBitL2(1, axis=0),
    prox.MultiBitL2(2, axis=1),
    prox.MultiBitL2(3),
    prox.UniformL2(4),
    prox.UniformL2(8, symmetric=False),
    prox.BinaryRelax(prox.Parq(prox.MultiBitL2(2, block=2))),
]
quantizers = st.sampled_from(REGULARIZERS)


def perturbed(model, seed=0):
    """The model with running statistics and biases that are not those of the start."""
    rng = np.random.default_rng(seed)
    state = model.state_dict()
    for value in state.values():
        value += (rng.integers(1, 9, value.shape) / 8).astype(value.dtype)
    if getattr(model, "arguments", {}).get("tie_weights"):
        del state["embedding.weight"]  # the decoder's
    model.load_state_dict(state)
    return model


def same(a, b):
    """Equal states, bit for bit but for the sign of zeros."""
    a, b = a.state_dict(), b.state_dict()
    return list(a) == list(b) and all(
        a[k].dtype == b[k].dtype and np.array_equal(a[k], b[k]) for k in a
    )


def outputs(model):
    rng = np.random.default_rng(0)
    dtype = next(model.parameters()).dtype
    arguments = model.arguments
    if isinstance(model, LSTMLanguageModel):
        return model(rng.integers(0, arguments["vocabulary_size"], (6, 2)))[0].data
    if isinstance(model, MLP):
        return model(rng.normal(size=(4, arguments["sizes"][0])).astype(dtype)).data
    return model(rng.normal(size=(4, arguments["in_channels"], 8, 8)).astype(dtype)).data


# Codes -------------------------------------------------------------------------------------------


@given(st.integers(1, 16), st.integers(0, 40), st.integers(0, 2**32))
def test_bits_there_and_back(bits, count, seed):
    codes = np.random.default_rng(seed).integers(0, 2**bits, count, np.uint16)
    packed = pack_bits(codes, bits)
    assert packed.nbytes == -(-count * bits // 8)
    np.testing.assert_array_equal(unpack_bits(packed, bits, count), codes)


def test_bits_by_hand():
    codes = np.array([0b101, 0b001, 0b110], np.uint16)
    assert pack_bits(codes, 3).tolist() == [0b10100111, 0b00000000]
    binary = Codes.of(np.array([[1.0, -2.0, 0.0], [-0.1, -0.0, 3.0]]), prox.BinaryL1())
    assert binary.packed.tolist() == [0b10101100]
    assert (binary.bits, binary.levels.tolist(), binary.nbytes) == (1, [[-1, 1]], 1 + 8)


@given(quantizers, st.sampled_from([np.float32, np.float64]), st.integers(0, 2**32))
@example(prox.UniformL2(4, projection="max"), np.float32, 11463082)  # 16 values, not on a grid
def test_codes_are_the_projection(regularizer, dtype, seed):
    """Of weights of any kind; and what is packed once, is packed to the same again."""
    rng = np.random.default_rng(seed)
    shape = [(6, 4), (2, 4, 1, 3), (8, 2, 2)][rng.integers(3)]
    w = (rng.normal(size=shape) * 10.0 ** rng.integers(-3, 3)).astype(dtype)
    w[rng.random(shape) < 0.2] = 0
    coded, n_levels = Codes.of(w, regularizer), regularizer.levels(w).shape[-1]
    sets = rows(w, regularizer)
    kept = n_levels < sets[0].size and max(len(np.unique(row)) for row in sets) <= n_levels
    kept = kept and not isinstance(regularizer, prox.UniformL2)  # its levels have equal distances
    if regularizer.elementwise or not kept:
        np.testing.assert_array_equal(coded.array(), regularizer.project(w))
    else:
        np.testing.assert_array_equal(coded.array(), w)
    assert coded.array().dtype == dtype
    assert coded.bits == max(1, (n_levels - 1).bit_length())
    again = Codes.of(coded.array(), regularizer, frozen=True)
    np.testing.assert_array_equal(again.array(), coded.array())


def rows(w, regularizer):
    while hasattr(regularizer, "regularizer"):
        regularizer = regularizer.regularizer
    axis, block = (getattr(regularizer, name, None) for name in ("axis", "block"))
    return np.moveaxis(w, axis, 0) if axis is not None else w.reshape(-1, block or w.size)


def test_a_heuristic_does_not_move_weights_that_are_quantized():
    regularizer = prox.MultiBitL2(4, axis=0)
    deployed = regularizer.project(np.random.default_rng(0).normal(size=(32, 200)))
    np.testing.assert_array_equal(Codes.of(deployed, regularizer).array(), deployed)


@pytest.mark.parametrize("regularizer", [prox.BinaryL1(), prox.MultiBitL2(1), prox.UniformL2(3)])
def test_weights_frozen_on_another_set_are_not_quantized_anew(regularizer, tmp_path):
    model = perturbed(MODELS["MLP"]())
    pq.quantize_and_freeze(nn.quantizable_parameters(model), prox.LevelsL2([-2, -1, 0, 0.3]))
    before = model.state_dict()
    with pytest.raises(ValueError, match=r"weight cannot be packed: .* frozen"):
        pq.pack(model, regularizer, tmp_path / "net.npz")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"params\[0\] .* is frozen"):
        pq.quantize_and_freeze(nn.quantizable_parameters(model), regularizer)
    assert all(np.array_equal(before[k], v) for k, v in model.state_dict().items())


def test_arrays_that_are_none():
    assert Codes.of([1.0, -2.0], prox.BinaryL1()).array().tolist() == [1.0, -1.0]
    for w in (None, ["a"], np.ones(2, int)):
        with pytest.raises(TypeError, match="w must be of dtype float32 or float64"):
            Codes.of(w, prox.BinaryL1())
    with pytest.raises(ValueError, match="axis must be one of the 0 axes"):
        Codes.of(np.array(1.0), pq.prox.Ternary(axis=0))


def test_more_levels_than_codes():
    many = prox.LevelsL2(np.arange(2**16 + 1.0))
    with pytest.raises(ValueError, match="at most 65536 levels, got 65537"):
        Codes.of(np.ones(3), many)


# Files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("regularizer", REGULARIZERS[::2], ids=repr)
def test_round_trip(name, regularizer, tmp_path):
    if "block" in repr(regularizer) and name != "MLP":
        regularizer = prox.MultiBitL2(2)  # blocks must divide each weight
    model = perturbed(MODELS[name]())
    before = model.state_dict()
    file = tmp_path / "net.npz"
    pq.pack(model, regularizer, file)
    assert all(np.array_equal(before[k], v) for k, v in model.state_dict().items())
    loaded = pq.load_packed(file)
    deployed = metrics.quantized_copy(model, regularizer).eval()
    assert same(loaded, deployed)
    assert outputs(loaded).tobytes() == outputs(deployed).tobytes()
    weights = nn.quantizable_parameters(loaded)
    assert all(p.requires_grad == (k not in weights) for k, p in loaded.named_parameters())
    assert not any(m.training for _, m in loaded.named_modules())
    other = tmp_path / "again.npz"
    pq.pack(loaded, regularizer, other)
    assert same(pq.load_packed(other), loaded)


def test_frozen_after_dual_averaging_stays_as_it_is(tmp_path):
    """A heuristic projection of the weights in use would be another network."""
    model, regularizer = MLP((30, 20, 3)), prox.MultiBitL2(3)
    weights = nn.quantizable_parameters(model)
    pq.optim.DualAveraging(pq.optim.SGD(model.parameters(), 0.1), weights, regularizer)
    pq.pack(model, regularizer, tmp_path / "net.npz")
    assert same(pq.load_packed(tmp_path / "net.npz"), model)


def test_tied_weights_are_stored_once_and_stay_tied(tmp_path):
    pq.pack(MODELS["LSTM tied"](), prox.BinaryL1(), tmp_path / "net.npz")
    loaded = pq.load_packed(tmp_path / "net.npz")
    assert loaded.decoder.weight is loaded.embedding.weight
    names = [layer.name for layer in packing.inspect(tmp_path / "net.npz")]
    assert "embedding.weight" in names and "decoder.weight" not in names


def test_chosen_parameters(tmp_path):
    model = MLP((9, 8, 8, 3))
    chosen = nn.quantizable_parameters(model, first=False, last=False).values()
    pq.pack(model, prox.BinaryL1(), tmp_path / "net.npz", chosen)
    loaded = pq.load_packed(tmp_path / "net.npz")
    assert same(loaded, metrics.quantized_copy(model, prox.BinaryL1(), chosen))
    with pytest.raises(ValueError, match="params must be parameters of model"):
        pq.pack(model, prox.BinaryL1(), tmp_path / "net.npz", MLP().parameters())


def test_a_network_of_ones_own(tmp_path):
    def make(n=3):
        return nn.Sequential(nn.Linear(4, 5, rng=0), nn.Tanh(), nn.Linear(5, n, rng=0))

    file = tmp_path / "net.npz"
    pq.pack(make(), prox.TernaryL2(), file)
    model = make()
    model[0].weight.data[...] = 7
    assert pq.load_packed(file, model) is model
    assert same(model, metrics.quantized_copy(make(), prox.TernaryL2()))
    with pytest.raises(packing.PackedError, match="network of your own"):
        pq.load_packed(file)
    other = make(4)
    before = other.state_dict()
    with pytest.raises(packing.PackedError, match=r"2\.weight must have shape \(4, 5\)"):
        pq.load_packed(file, other)
    assert all(np.array_equal(before[k], v) for k, v in other.state_dict().items())


def test_mistakes(tmp_path):
    file = tmp_path / "net.npz"
    model = MLP((3, 2))
    with pytest.raises(TypeError, match="model must be a Module, got str"):
        pq.pack("model", prox.BinaryL1(), file)
    with pytest.raises(TypeError, match=r"regularizer must be .*, got 'binary'"):
        pq.pack(model, "binary", file)
    with pytest.raises(ValueError, match=r"layers\.0\.weight cannot be packed: block must divide"):
        pq.pack(model, prox.MultiBitL2(1, block=4), file)
    model.layers[0].weight.data[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"layers\.0\.weight cannot be packed.*NaN"):
        pq.pack(model, prox.BinaryL1(), file)
    assert not list(tmp_path.iterdir())


# Size --------------------------------------------------------------------------------------------


def by_hand(model, regularizer):
    """The arithmetic of the docstring, from the model alone, for one set of levels a weight."""
    weights = {id(p) for p in nn.quantizable_parameters(model).values()}
    total = 0
    for _, p in model.named_parameters():
        if id(p) in weights:
            n_levels = regularizer.levels(p.data).size
            total += math.ceil(max(1, math.ceil(math.log2(n_levels))) * p.size / 8)
            total += p.data.itemsize * math.ceil(n_levels / 2)  # all are symmetric here
        else:
            total += p.data.nbytes
    own = {id(p.data) for p in model.parameters()}
    for _, module in model.named_modules():
        total += sum(getattr(module, name).nbytes for name in module.buffers)
    assert own
    return total


@pytest.mark.parametrize(
    "regularizer", [prox.BinaryL1(), prox.TernaryL2(symmetric=True), prox.MultiBitL2(3)], ids=repr
)
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_size_is_within_2_percent_of_the_arithmetic(regularizer, suffix, tmp_path):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors", reason="safetensors is not installed (extra: interop)")
    model, file = ResNet(20), (tmp_path / "net").with_suffix(suffix)
    pq.pack(model, regularizer, file)
    expected = by_hand(model, regularizer)
    assert sum(layer.nbytes for layer in packing.inspect(file)) == expected
    assert expected < file.stat().st_size <= 1.02 * expected
    assert same(pq.load_packed(file), metrics.quantized_copy(model, regularizer))


def test_binary_resnet_20_is_a_nineteenth(tmp_path):
    model, file = ResNet(20), tmp_path / "net.npz"
    pq.pack(model, prox.BinaryL1(), file)
    parameters = 4 * sum(p.size for p in model.parameters())
    assert 18 < parameters / file.stat().st_size < 19
    coded = [layer for layer in packing.inspect(file) if layer.bits]
    assert sum(layer.nbytes for layer in coded) == 268_336 // 8 + 4 * len(coded)


# What it says ------------------------------------------------------------------------------------


def test_inspect(tmp_path):
    model = nn.Sequential(nn.Linear(4, 2, bias=False))
    model[0].weight.data[...] = [[1, 1, -1, 1], [1, 1, 1, 1]]
    pq.pack(model, prox.BinaryL1(), tmp_path / "net.npz")
    (layer,) = packing.inspect(tmp_path / "net.npz")
    assert (layer.name, layer.shape, layer.bits, layer.nbytes) == ("0.weight", (2, 4), 1, 5)
    assert layer.levels.tolist() == [[-1, 1]]
    assert layer.ratio == 32 / 5
    assert layer.entropy == pytest.approx(-(1 / 8) * np.log2(1 / 8) - (7 / 8) * np.log2(7 / 8))
    text = packing.table(tmp_path / "net.npz")
    assert "network of your own, BinaryL1()" in text
    assert "0.weight           2x4    1 -1, 1" in text
    assert "5 bytes of codes and levels, 0 of all else" in text


def test_the_format_is_what_the_docstring_says(tmp_path):
    """Read without the library's reader."""
    model = nn.Sequential(nn.Linear(5, 2))
    pq.pack(model, prox.BinaryL1(), tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz", allow_pickle=False) as archive:
        content = archive["packed"].tobytes()
    end = 4 + int.from_bytes(content[:4], "little")
    header, data = json.loads(zlib.decompress(content[4:end])), content[end:]
    assert header["schema"] == 1 and header["crc32"] == zlib.crc32(data)
    assert [entry["name"] for entry in header["entries"]] == ["0.weight", "0.bias"]
    assert np.frombuffer(data, "<f4", 1)[0] == 1
    bits = np.unpackbits(np.frombuffer(data, np.uint8, 2, 4), count=10).reshape(2, 5)
    np.testing.assert_array_equal(bits, model[0].weight.data >= 0)
    np.testing.assert_array_equal(np.frombuffer(data, "<f4", 2, 6), model[0].bias.data)


# Constructor arguments ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_models_are_rebuilt_from_their_arguments(name):
    model = MODELS[name]()
    signature = inspect.signature(type(model).__init__).parameters
    assert set(model.arguments) == set(signature) - {"self", "rng"}
    description = json.loads(json.dumps(models.describe(model)))
    rebuilt = models.build(description)
    assert type(rebuilt) is type(model) and rebuilt.arguments == model.arguments
    layouts = [{k: (v.shape, v.dtype) for k, v in m.state_dict().items()} for m in (rebuilt, model)]
    assert layouts[0] == layouts[1]


def test_numpy_numbers_as_arguments():
    model = MLP(np.array([4, 3, 2]), np.bool_(True))
    assert json.dumps(model.arguments) == (
        '{"sizes": [4, 3, 2], "batch_norm": true, "dtype": "float32"}'
    )


def test_other_models_have_no_description():
    class Mine(MLP):
        pass

    assert models.describe(Mine()) is None
    assert models.describe(nn.Linear(1, 1)) is None


@pytest.mark.parametrize(
    ("description", "complaint"),
    [
        ({"name": "Module", "arguments": {}}, "'Module'"),
        ({"name": "ResNet", "arguments": {"depth": 9}}, "depth must be"),
        ({"name": "MLP", "arguments": {"no": 1}}, "unexpected keyword"),
        ({"name": "MLP", "arguments": [3]}, "must be a mapping"),
        ({"name": ["MLP"], "arguments": {}}, "unhashable"),
        (3, "not subscriptable"),
    ],
)
def test_descriptions_that_make_no_sense(description, complaint):
    with pytest.raises(ValueError, match=rf"one of MLP, SmallCNN, .* got .*{complaint}"):
        models.build(description)


# Regularizers by name ----------------------------------------------------------------------------


@pytest.mark.parametrize("regularizer", REGULARIZERS, ids=repr)
def test_regularizers_are_read_back_from_their_repr(regularizer):
    assert packing.parse_regularizer(repr(regularizer)) == regularizer


@pytest.mark.parametrize(
    "text",
    ["", "None", "3", "BinaryL1", "Bunary()", "BinaryL1(1)", "MultiBitL2()", "MultiBitL2(9)"]
    + ["__import__('os')", "MultiBitL2(n_bits=open('x'))", "Regularizer()", "Linear(1.0)"]
    + ["BinaryL1().__class__()", "prox.BinaryL1()", "LevelsL1([1", "(" * 300, "BinaryL1();1"],
)
def test_what_is_no_regularizer(text):
    with pytest.raises(ValueError, match=r"regularizer must be one of BinaryL1, .*got"):
        packing.parse_regularizer(text)


# Checkpoints -------------------------------------------------------------------------------------


def trained(file, model, regularizer, steps=30):
    train, *_ = pq.data.load_digits()
    chosen = nn.quantizable_parameters(model, last=False)
    optimizer = pq.optim.ProxGradient(
        pq.optim.Adam(model.parameters(), 0.01), chosen, regularizer, prox.Linear(0.01)
    )
    fit(model, optimizer, train, steps=steps, batch_size=32, checkpoint=file, progress=False)
    return chosen


@pytest.mark.parametrize(
    "regularizer",
    [
        prox.BinaryL1(),
        prox.MultiBitL2(2, axis=0),
        prox.L1(prox.Binary()),
        prox.L2(prox.Ternary(symmetric=True)),
    ],
    ids=repr,
)
def test_a_checkpoint_is_packed_as_its_model(regularizer, tmp_path):
    model, file = MLP((64, 16, 10)), tmp_path / "run.npz"
    chosen = trained(file, model, regularizer)
    packing.pack_checkpoint(file, tmp_path / "a.npz")
    pq.pack(model, regularizer, tmp_path / "b.npz", chosen.values())
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    packing.pack_checkpoint(file, tmp_path / "c.npz", prox.TernaryL2())
    assert "TernaryL2()" in packing.table(tmp_path / "c.npz")


def test_groups_are_packed_each_on_its_set(tmp_path):
    """From the wrapper, its groups, a mapping, and the checkpoint of its run: the same bytes."""
    model = MLP((64, 16, 16, 10))
    first, inner, last = pq.quantizable_parameters(model).values()
    groups = [
        ([inner], prox.BinaryL1(), prox.Linear(1e-3)),
        ([first], prox.TernaryL2(), prox.Linear(1e-2)),
        ([last], None, None),
    ]
    eager = pq.optim.ProxGradient(pq.optim.Adam(model.parameters()), groups)
    digits = pq.data.load_digits()
    options = dict(steps=3, batch_size=8, progress=False, checkpoint=tmp_path / "run.npz")
    pq.training.fit(model, eager, digits.train, **options)
    pq.pack(model, eager, tmp_path / "a.npz")
    pq.pack(model, groups, tmp_path / "b.npz")
    pq.pack(model, {inner: prox.BinaryL1(), first: prox.TernaryL2()}, tmp_path / "c.npz")
    packing.pack_checkpoint(tmp_path / "run.npz", tmp_path / "d.npz")
    packed = [(tmp_path / f"{name}.npz").read_bytes() for name in "abcd"]
    assert packed[0] == packed[1] == packed[3]
    assert "BinaryL1(); TernaryL2()" in packing.table(tmp_path / "a.npz")
    for name in "ac":
        loaded = pq.quantizable_parameters(pq.load_packed(tmp_path / f"{name}.npz"))
        expected = [prox.TernaryL2().project(first.data), prox.sign_pm(inner.data), last.data]
        for p, w in zip(loaded.values(), expected, strict=True):
            np.testing.assert_array_equal(p.data, w)
    with pytest.raises(TypeError, match="params must be left out"):
        pq.pack(model, eager, tmp_path / "e.npz", [first])


@pytest.mark.parametrize(
    ("lacking", "complaint"),
    [
        ({"model": None}, "not in proxquant_np.models"),
        ({"model": ...}, "does not say which network"),
        ({"quantized": ...}, "does not say which network"),
        ({"identity": {"regularizer": "None"}}, "without a regularizer"),
        ({"identity": {"regularizer": "Mine"}}, "regularizer must be one of"),
        ({"model": {"name": "MLP", "arguments": {"sizes": [64, 7, 10]}}}, "must have shape"),
        ({"model": {"name": "SmallCNN", "arguments": {"width": 2}}}, "missing"),
        ({"model": {"name": "SmallCNN", "arguments": {}}}, "far more weights"),
    ],
)
def test_checkpoints_that_say_too_little(lacking, complaint, tmp_path):
    file = tmp_path / "run.npz"
    trained(file, MLP((64, 6, 10)), prox.BinaryL1(), steps=1)
    arrays, meta = checkpoint.load_checkpoint(file)
    meta = {k: v for k, v in {**meta, **lacking}.items() if v is not ...}
    checkpoint.save_checkpoint(file, arrays, meta)
    with pytest.raises(ValueError, match=complaint):
        packing.pack_checkpoint(file, tmp_path / "out.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["run.npz"]


def test_the_checkpoint_is_not_overwritten(tmp_path):
    file = tmp_path / "run.npz"
    trained(file, MLP((64, 6, 10)), prox.BinaryL1(), steps=1)
    before = file.read_bytes()
    with pytest.raises(ValueError, match="the checkpoint itself"):
        packing.pack_checkpoint(file, tmp_path / "." / "run.npz")
    assert file.read_bytes() == before
