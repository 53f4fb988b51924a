"""Files for other frameworks: safetensors read and written by PyTorch, ONNX run by ONNX Runtime."""

import subprocess
import sys

import numpy as np
import pytest

import proxquant_np as pq
from proxquant_np import interop, nn, prox
from proxquant_np.models import MLP, LSTMLanguageModel, ResNet, SmallCNN
from proxquant_np.training import metrics


def installed(*names):
    """The modules, or a skipped test that says which is missing."""
    return [
        pytest.importorskip(name, reason=f"{name} is not installed (extra: interop or bench)")
        for name in names
    ]


def settled(model):
    """With running statistics and biases that are not those of the start."""
    state, rng = model.state_dict(), np.random.default_rng(0)
    for name, value in state.items():
        if value.dtype.kind == "f":
            value += 0.1 * rng.random(value.shape).astype(value.dtype) * (1 + ("var" in name))
    model.load_state_dict(state)
    return model.eval()


# safetensors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_a_torch_state_is_loaded(dtype, tmp_path):
    torch, st = installed("torch", "safetensors.torch")
    model, file = settled(MLP((6, 5, 3))), tmp_path / "state.safetensors"
    state = interop.torch.to_torch(model)
    kind = getattr(torch, dtype)
    state = {k: v.to(kind) if v.is_floating_point() else v for k, v in state.items()}
    st.save_file(state, file)
    other = MLP((6, 5, 3), rng=1)
    interop.safetensors.load(other, file)
    for name, value in other.state_dict().items():
        assert value.dtype == model.state_dict()[name].dtype
        np.testing.assert_array_equal(value, state[name].to(torch.float64).numpy(), name)


def test_deployed_weights_go_back_to_torch(tmp_path):
    _, st = installed("torch", "safetensors.torch")
    model, file = settled(SmallCNN(1, 3)), tmp_path / "net.npz"
    pq.pack(model, prox.BinaryL1(), file)
    interop.safetensors.save(pq.load_packed(file), tmp_path / "net.safetensors")
    wanted = metrics.quantized_copy(model, prox.BinaryL1()).state_dict()
    found = st.load_file(tmp_path / "net.safetensors")
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name].numpy(), value)


def test_what_does_not_fit_is_refused(tmp_path):
    (st,) = installed("safetensors.numpy")
    model, file = MLP((3, 2)), tmp_path / "x.safetensors"
    before = model.state_dict()
    for content in (b"", b"text", b"\xff" * 20, st.save({"a": np.ones(2)})[:-1]):
        file.write_bytes(content)
        with pytest.raises(ValueError, match="not a whole safetensors file"):
            interop.safetensors.load(model, file)
    header = b'{"layers.0.weight":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}'
    file.write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    with pytest.raises(ValueError, match=r"layers\.0\.weight has dtype F8_E4M3, .* readable are"):
        interop.safetensors.load(model, file)
    interop.safetensors.save(MLP((4, 2)), file)
    with pytest.raises(ValueError, match=r"must have shape \(2, 3\)"):
        interop.safetensors.load(model, file)
    with pytest.raises(FileNotFoundError):
        interop.safetensors.load(model, tmp_path / "none")
    assert all(np.array_equal(before[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize("name", ["bool", "int8", "int16", "int64", "uint8", "uint32", "uint64"])
def test_every_dtype_of_numpy_is_loaded(name, tmp_path):
    (st,) = installed("safetensors.numpy")
    weight = np.array([[0, 1, 1], [1, 0, 1]], name)
    st.save_file({"weight": weight}, tmp_path / "x.safetensors")
    layer = nn.Linear(3, 2, bias=False)
    assert interop.safetensors.load(layer, tmp_path / "x.safetensors") == ([], [])
    assert np.array_equal(layer.weight.data, weight) and layer.weight.dtype == np.float32


def test_arrays_in_fortran_order_are_saved_as_they_read(tmp_path):
    """The writer takes memory as it lies; what `state_dict` copies lies in C order."""
    (st,) = installed("safetensors.numpy")
    layer = nn.Linear(3, 2)
    layer.weight.data = np.asfortranarray(layer.weight.data)
    norm = nn.BatchNorm1d(4)
    norm.running_mean = np.arange(8, dtype=np.float32)[::2]
    for module in (layer, norm):
        interop.safetensors.save(module, tmp_path / "x.safetensors")
        for key, value in st.load_file(tmp_path / "x.safetensors").items():
            assert np.array_equal(value, module.state_dict()[key]), key
            assert module.state_dict()[key].flags.c_contiguous


class TiedNet(nn.Module):
    def __init__(self, seed=0):
        self.embedding = nn.Embedding(4, 3, rng=seed)
        self.decoder = nn.Linear(3, 4, rng=seed + 1)
        self.decoder.weight = self.embedding.weight


def test_tied_weights_of_the_packages_own_writer(tmp_path):
    torch, st = installed("torch", "safetensors.torch")

    class Twin(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = torch.nn.Embedding(4, 3)
            self.decoder = torch.nn.Linear(3, 4)
            self.decoder.weight = self.embedding.weight

    twin, model = Twin(), TiedNet()
    st.save_model(twin, tmp_path / "x.safetensors")
    assert len(st.load_file(tmp_path / "x.safetensors")) == 2  # one name of the two is gone
    assert interop.safetensors.load(model, tmp_path / "x.safetensors") == ([], [])
    for key, value in twin.state_dict().items():
        assert np.array_equal(model.state_dict()[key], value.numpy())


# ONNX --------------------------------------------------------------------------------------------


class Mine(nn.Module):
    """A kind of layer that nobody knows."""

    def forward(self, x):
        return x


class Named(nn.Sequential):
    """A Sequential by another name."""


class Mistaken(nn.ReLU):
    """One that says it wrongly."""

    def to_onnx(self, graph, x):
        return graph.add("Flatten", x)


class Residual(nn.Module):
    """One that says how it is exported."""

    def __init__(self, layers):
        self.layers = layers
        self.scale = nn.Parameter(np.array([2.0], np.float32))

    def forward(self, x):
        return self.scale * x + self.layers(x)

    def to_onnx(self, graph, x):
        scaled = graph.add("Mul", x, graph.constant(self.scale))
        return graph.add("Add", scaled, graph.module(self.layers, x))


EXPORTED = {
    "MLP": (lambda: MLP(), (64,)),
    "MLP without norm": (lambda: MLP((7, 5, 4), batch_norm=False), (7,)),
    "SmallCNN": (lambda: SmallCNN(1, 4), (1, 8, 8)),
    "SmallCNN of colours": (lambda: SmallCNN(3, 2), (3, 9, 7)),
    "ResNet": (lambda: ResNet(8, 4, 1), (1, 8, 8)),
    "ResNet-20": (lambda: ResNet(20), (3, 32, 32)),
    "ResNet of odd images": (lambda: ResNet(14, 2), (3, 9, 7)),
    "strides as one-tuples": (lambda: nn.Sequential(nn.Conv2d(2, 4, 3, stride=(2,))), (2, 8, 9)),
    "pairs of other kinds": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, [3, 2], stride=np.int64(1), padding=(1,), dilation=[1, 2]),
            nn.Conv2d(3, 3, 1, padding="valid", groups=np.int64(3)),
            nn.MaxPool2d([2, 2], stride=(), padding=(1,)),
            nn.AvgPool2d(np.int64(2), stride=[1, 2]),
        ),
        (2, 8, 9),
    ),
    "rounding up": (
        lambda: nn.Sequential(
            nn.MaxPool2d(3, 2, 1, ceil_mode=True),
            nn.AvgPool2d(3, 2, 1, ceil_mode=True),
            nn.AvgPool2d(5, 3, (1, 2), ceil_mode=True),
            nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False),
        ),
        (1, 17, 18),
    ),
    "dilated pooling": (lambda: nn.Sequential(nn.MaxPool2d(3, 1, 1, 2)), (1, 8, 9)),
    "mean without padding": (
        lambda: nn.Sequential(nn.AvgPool2d(3, 1, 1, count_include_pad=False)),
        (2, 4, 5),
    ),
    "another divisor": (
        lambda: nn.Sequential(nn.AvgPool2d((3, 2), 1, 1, divisor_override=5)),
        (2, 4, 5),
    ),
    "sequences": (
        lambda: nn.Sequential(nn.BatchNorm1d(3), nn.Linear(5, 2), nn.Flatten(), nn.Tanh()),
        (3, 5),
    ),
    "no parameters": (lambda: nn.Sequential(nn.ReLU()), (3,)),
    "nothing": (lambda: nn.Sequential(), (3,)),
    "a number each": (lambda: nn.Sequential(nn.Flatten(), nn.Tanh()), ()),
    "images averaged": (lambda: nn.Sequential(nn.GlobalAvgPool2d()), (2, 3, 4)),
    "trained ternary": (lambda: nn.TrainedTernaryLinear(nn.Linear(6, 3)), (6,)),
    "own Sequential": (lambda: Named(nn.Linear(4, 3), Named(nn.ReLU())), (4,)),
    "own modules": (
        lambda: nn.Sequential(nn.Linear(4, 3), Residual(Residual(nn.Linear(3, 3)))),
        (4,),
    ),
    "layers": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 6, (3, 2), (1, 2), (1, 0), 2, 2),
            nn.Tanh(),
            nn.AvgPool2d(2, 1, 1),
            nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(6, 3, (2, 3), padding="same", bias=False),
            nn.Dropout(0.5),
            nn.BatchNorm2d(3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(3 * 5 * 3, 5, bias=False),
        ),
        (4, 10, 10),
    ),
}


def runs_alike(model, file, shape, dtype=np.float32, rtol=1e-5, ours=None):
    (ort,) = installed("onnxruntime")
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    for n in (1, 5):
        x = np.random.default_rng(n).normal(size=(n, *shape)).astype(dtype)
        (found,) = session.run(["output"], {"input": x})
        wanted = model(x.astype(ours or dtype)).data
        assert np.abs(wanted).max() > 0.01 and found.dtype == dtype
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=rtol, atol=rtol * np.abs(wanted).max())


@pytest.mark.parametrize("name", EXPORTED)
def test_onnx_runtime_agrees(name, tmp_path):
    installed("onnx")
    make, shape = EXPORTED[name]
    model = metrics.quantized_copy(settled(make()), prox.MultiBitL2(1))
    interop.onnx.export(model, tmp_path / "net.onnx", shape)
    runs_alike(model, tmp_path / "net.onnx", shape)


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel", [2, 3])
def test_every_way_to_round_up(kernel, stride, padding, tmp_path):
    """All sizes, so that the last window starts in the input, in the padding, or not at all."""
    installed("onnx")
    file, options = tmp_path / "net.onnx", {"ceil_mode": True}
    layers = [nn.MaxPool2d(kernel, stride, padding, d, **options) for d in (1, 2)]
    for count, divisor in ((True, None), (False, None), (True, 5), (False, 5)):
        layers.append(nn.AvgPool2d(kernel, stride, padding, True, count, divisor))
    for size in range(max(1, 2 * kernel - 1 - 2 * padding), 9):
        for layer in layers:
            interop.onnx.export(layer, file, (1, size, size + 1))
            runs_alike(layer, file, (1, size, size + 1))


def test_a_float64_network(tmp_path):
    """It stays float64 where ONNX Runtime can run that; else float32 has to be said."""
    onnx, reference = installed("onnx", "onnx.reference")
    file, double = tmp_path / "net.onnx", {"dtype": np.float64}
    model = settled(MLP((4, 3, 2), **double))
    interop.onnx.export(model, file, (4,))
    runs_alike(model, file, (4,), np.float64, 1e-12)
    pooled = nn.Sequential(nn.AvgPool2d(1), nn.Flatten(), nn.Linear(16, 2, **double))
    for model, op in ((SmallCNN(1, 2, **double), "Conv"), (pooled, "AveragePool")):
        model = settled(model)
        with pytest.raises(ValueError, match=f"no {op}: pass dtype=np.float32"):
            interop.onnx.export(model, tmp_path / "none.onnx", (1, 4, 4))
        assert not (tmp_path / "none.onnx").exists()
        interop.onnx.export(model, file, (1, 4, 4), dtype=np.float32)
        runs_alike(model, file, (1, 4, 4), rtol=1e-5, ours=np.float64)
        interop.onnx.export(model, file, (1, 4, 4), dtype=np.float64)  # for other runtimes
        onnx.checker.check_model(onnx.load(file), full_check=True)
        x = np.arange(32.0).reshape(2, 1, 4, 4)
        (found,) = reference.ReferenceEvaluator(str(file)).run(None, {"input": x})
        np.testing.assert_allclose(found, model(x).data, rtol=1e-10)


def test_what_cannot_be_exported(tmp_path):
    installed("onnx")
    for model in (LSTMLanguageModel(4, 3, 3), nn.Sequential(nn.Linear(2, 2), Mine())):
        with pytest.raises(TypeError, match="cannot be exported; there are MLP, SmallCNN, ResNet"):
            interop.onnx.export(model, tmp_path / "net.onnx", (2,))
    for model, shape, error, message in (
        (MLP((2, 2)), (3,), ValueError, r"input_shape \(3,\) does not fit .* linear: input must"),
        (MLP((2, 2)), 3, TypeError, r"input_shape must be a sequence of integers .* got 3"),
        (MLP((2, 2)), (2.0,), TypeError, r"input_shape must be a sequence of integers"),
        (MLP((2, 2)), "ab", TypeError, r"input_shape must be a sequence of integers"),
        (MLP((2, 2)), (0,), ValueError, r"input_shape must hold positive lengths, got \(0,\)"),
        (nn.Linear, (2,), TypeError, "model must be a Module, got <class"),
        (nn.Sequential(nn.Conv2d(1, 1, 1)), (4, 4), ValueError, "Sequential.Conv2d:0"),
        (nn.Sequential(nn.AvgPool2d(2)), (4, 4), ValueError, "Sequential.AvgPool2d:0"),
        (Mistaken(), (2, 2), ValueError, r"must give the shape \('n', 2, 2\)"),
        (Mine(), (2,), TypeError, r"Mine cannot be exported.* method to_onnx\(graph, x\)"),
    ):
        with pytest.raises(error, match=message):
            interop.onnx.export(model, tmp_path / "net.onnx", shape)
    assert not list(tmp_path.iterdir())


def test_a_missing_package_names_the_extra(monkeypatch, tmp_path):
    for name in ("safetensors", "safetensors.numpy", "onnx"):
        monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / "x.safetensors").write_bytes(b"")
    model = MLP((2, 2))
    for call in (
        lambda: interop.safetensors.load(model, tmp_path / "x.safetensors"),
        lambda: interop.safetensors.save(model, tmp_path / "y.safetensors"),
        lambda: interop.onnx.export(model, tmp_path / "y.onnx", (2,)),
        lambda: pq.pack(model, prox.BinaryL1(), tmp_path / "y.safetensors"),
        lambda: pq.load_packed(tmp_path / "x.safetensors"),
    ):
        with pytest.raises(ModuleNotFoundError, match=r"is not installed: pip .*\[interop\]"):
            call()
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_nothing_is_imported_before_it_is_asked_for():
    code = (
        "import sys, proxquant_np; proxquant_np.interop.onnx; proxquant_np.interop.safetensors; "
        "assert not {'onnx', 'safetensors', 'onnxruntime'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
