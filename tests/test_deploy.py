"""Packed networks as ONNX graphs: every weight that ONNX Runtime computes is ours, to the bit."""

import importlib.util
import sys

import numpy as np
import pytest

import proxquant_np as pq
from proxquant_np import cli, nn, packing, prox
from proxquant_np.models import MLP, ResNet, SmallCNN
from proxquant_np.packing import onnx as deployed

OPERATORS = deployed.OPERATORS
STEPS = OPERATORS[1:]  # need equidistant levels


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    for name in ("onnx", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is not installed (extra: interop)")
    monkeypatch.chdir(tmp_path)


def own():
    return nn.Sequential(nn.Linear(64, 12, rng=0), nn.ReLU(), nn.Linear(12, 5, rng=1)).eval()


NETWORKS = {
    "MLP": (lambda: MLP((64, 32, 10), rng=0), (64,)),
    "odd widths": (lambda: MLP((7, 5, 3), rng=0), (7,)),
    "SmallCNN": (lambda: SmallCNN(1, 3, rng=0), (1, 8, 8)),
    "ResNet": (lambda: ResNet(8, 3, 1, rng=0), (1, 9, 7)),
    "own": (own, (64,)),
}
ANY = {
    "binary": prox.BinaryL1(),
    "scaled binary": prox.MultiBitL2(1),
    "by rows": prox.MultiBitL2(1, axis=0),
    "by columns": prox.MultiBitL2(1, axis=1),
    "ternary": prox.TernaryL2(),
    "ternary by rows": prox.TernaryL2(axis=0),
    "2 bits": prox.MultiBitL2(2),
    "3 bits by columns": prox.MultiBitL2(3, axis=1),
    "fixed": prox.Levels([-1, -0.3, 0.2, 1, 7]),
    "one level": prox.Levels([0.25]),
    "uniform": prox.Uniform(4, axis=0),
    "256 levels": prox.Levels(np.linspace(-1, 1, 256)),
    "9 bits": prox.Levels(np.linspace(-1, 1, 300)),
}
EQUIDISTANT = {
    "binary": prox.BinaryL1(),
    "0.7": prox.Levels([-0.7, 0.7]),
    "scaled binary": prox.MultiBitL2(1),
    "by rows": prox.MultiBitL2(1, axis=0),
    "ternary": prox.Levels([-0.5, 0, 0.5]),
    "above zero": prox.Levels([0, 0.25, 0.5, 0.75]),
    "asymmetric": prox.Levels(np.arange(-3, 12) * np.float32(0.1)),
    "eighths": prox.Levels(np.arange(-8, 8) / 8),
    "7 bits": prox.Levels(np.arange(-60, 60) / 64),
}


def checked(network, regularizer, operator):
    make, shape = NETWORKS[network]
    pq.pack(make(), regularizer, "net.npz")
    model = {"model": make()} if network == "own" else {}
    packing.to_onnx("net.npz", "net.onnx", shape, operator, **model)
    found = packing.check_onnx("net.npz", "net.onnx", **model)
    assert found.weights == sum(layer.bits > 0 for layer in packing.inspect("net.npz"))
    assert found.difference < 1e-5
    return found


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", ANY)
def test_a_table_serves_every_set(network, name):
    checked(network, ANY[name], "Gather")


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("operator", STEPS)
@pytest.mark.parametrize("name", EQUIDISTANT)
def test_steps_serve_equidistant_levels(name, operator, network):
    checked(network, EQUIDISTANT[name], operator)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("block", [2, 16, 32])
def test_blocks(block, operator):
    """Some span two rows, and MatMulNBits has none shorter than 16 or across rows."""
    make = lambda: nn.Sequential(nn.Linear(48, 6, rng=0)).eval()  # noqa: E731
    pq.pack(make(), prox.MultiBit(1, block=block), "net.npz")
    arguments = ("net.npz", "net.onnx", (48,), operator, make())
    if operator == "MatMulNBits" and block != 16:
        with pytest.raises(ValueError, match=rf"in each row, got runs of {block} in rows of 48"):
            packing.to_onnx(*arguments)
    else:
        packing.to_onnx(*arguments)
        assert packing.check_onnx("net.npz", "net.onnx", make()).weights == 1


def test_the_smallest_integers_are_chosen():
    import onnx

    kinds = {}
    for name, levels in {
        "ternary": [-0.5, 0, 0.5],
        "positive": [0, 1, 2, 3],
        "7": [-7, 7],
        "high": np.arange(-2, 14),
    }.items():
        pq.pack(MLP((8, 4)), prox.Levels(levels), "net.npz")
        packing.to_onnx("net.npz", "net.onnx", operator="DequantizeLinear")
        model = onnx.load("net.onnx")
        kinds[name] = {t.data_type for t in model.graph.initializer} - {onnx.TensorProto.FLOAT}
    types = onnx.TensorProto
    assert kinds == {
        "ternary": {types.INT2},
        "positive": {types.UINT2},
        "7": {types.INT2},
        "high": {types.UINT4},
    }


@pytest.mark.parametrize(
    ("regularizer", "most"),
    [(prox.MultiBitL2(1), 1.1), (prox.TernaryL2(), 1.07), (prox.Uniform(4), 1.04)],
)
def test_the_file_is_hardly_larger_than_the_packed_one(regularizer, most, tmp_path):
    pq.pack(ResNet(20, rng=0), regularizer, "net.npz")
    packing.to_onnx("net.npz", "net.onnx", (3, 32, 32))
    sizes = [(tmp_path / name).stat().st_size for name in ("net.onnx", "net.npz")]
    assert sizes[0] <= most * sizes[1]


def test_levels_without_a_step_are_refused(tmp_path):
    pq.pack(MLP((8, 4), rng=0), prox.Levels([-1, -0.3, 0.2001, 1]), "net.npz")
    pq.pack(MLP((8, 4), dtype=np.float64), prox.BinaryL1(), "double.npz")
    pq.pack(MLP((8, 4), rng=0), prox.Levels(np.arange(300.0)), "wide.npz")
    pq.pack(MLP((8, 4), rng=0), prox.MultiBit(1, axis=1), "columns.npz")
    for operator in STEPS:
        for file, message in {
            "net": r"layers\.0\.weight: its levels -1, -0.3, 0.2001, 1 \(float32\) are not exactly",
            "double": r"layers\.0\.weight: its levels -1, 1 \(float64\) are not exactly integers",
            "wide": "choose Gather",
        }.items():
            with pytest.raises(ValueError, match=message):
                packing.to_onnx(f"{file}.npz", "net.onnx", operator=operator)
    with pytest.raises(ValueError, match="steps for rows, not along axis 1"):
        packing.to_onnx("columns.npz", "net.onnx", operator="MatMulNBits")
    packing.to_onnx("double.npz", "double.onnx")
    assert packing.check_onnx("double.npz", "double.onnx").difference < 1e-12
    assert not (tmp_path / "net.onnx").exists()


def test_layers_of_sequences():
    """A Gemm, of the form DequantizeLinear, takes vectors only."""
    make = lambda: nn.Sequential(nn.Linear(32, 4, rng=0)).eval()  # noqa: E731
    pq.pack(make(), prox.BinaryL1(), "net.npz")
    for operator in ("Gather", "MatMulNBits"):
        packing.to_onnx("net.npz", "net.onnx", (3, 32), operator, make())
        assert packing.check_onnx("net.npz", "net.onnx", make()).weights == 1
    with pytest.raises(ValueError, match=r"input_shape \(3, 32\) does not fit the network in ONNX"):
        packing.to_onnx("net.npz", "net.onnx", (3, 32), "DequantizeLinear", make())


def test_what_cannot_be_deployed():
    pq.pack(SmallCNN(1, 2), prox.BinaryL1(), "net.npz")
    with pytest.raises(ValueError, match="input_shape must be given for a SmallCNN"):
        packing.to_onnx("net.npz", "net.onnx")
    with pytest.raises(ValueError, match=r"operator must be one of 'Gather', .*, got 'gather'"):
        packing.to_onnx("net.npz", "net.onnx", (1, 8, 8), "gather")
    pq.pack(MLP((8, 4)), prox.BinaryL1(), "plain.npz", params=[])
    with pytest.raises(ValueError, match=r"plain\.npz holds no quantized weights"):
        packing.to_onnx("plain.npz", "net.onnx")


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_check_notices_a_changed_file(operator, tmp_path):
    """A code, a level, a bias: one bit each."""
    import onnx

    pq.pack(MLP((16, 4), rng=0), prox.MultiBitL2(1), "net.npz")
    packing.to_onnx("net.npz", "net.onnx", operator=operator)
    whole = onnx.load("net.onnx")
    noticed = []
    for k, tensor in enumerate(whole.graph.initializer):
        changed = onnx.load("net.onnx")
        content = bytearray(tensor.raw_data)
        content[-1] ^= 1 if tensor.data_type != onnx.TensorProto.FLOAT else 64
        if tensor.data_type != onnx.TensorProto.INT64:
            changed.graph.initializer[k].raw_data = bytes(content)
            onnx.save(changed, "changed.onnx")
            with pytest.raises(
                ValueError, match=r"computes layers\.0\.weight diff|outputs of ONNX"
            ):
                packing.check_onnx("net.npz", "changed.onnx")
            noticed.append(tensor.name)
    assert len(noticed) == 3
    pq.pack(MLP((16, 4), rng=1), prox.MultiBitL2(1), "other.npz")
    with pytest.raises(ValueError, match=r"computes layers\.0\.weight differently, by up to"):
        packing.check_onnx("other.npz", "net.onnx")
    pq.interop.onnx.export(pq.load_packed("net.npz"), "floats.onnx", (16,))
    with pytest.raises(ValueError, match=r"does not compute layers\.0\.weight"):
        packing.check_onnx("net.npz", "floats.onnx")
    (tmp_path / "none.onnx").write_bytes(b"text")
    with pytest.raises(ValueError, match=r"none\.onnx is not a whole ONNX file"):
        packing.check_onnx("net.npz", "none.onnx")


def test_the_reference_evaluator_agrees():
    """Another runtime, which runs the function as it is written: its weights are ours too."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    for regularizer in (prox.MultiBitL2(1), prox.MultiBitL2(3, axis=0), prox.TernaryL2()):
        pq.pack(MLP((8, 5, 3), rng=0), regularizer, "net.npz")
        packing.to_onnx("net.npz", "net.onnx")
        model, x = pq.load_packed("net.npz"), np.ones((2, 8), np.float32)
        (y,) = ReferenceEvaluator(onnx.load("net.onnx")).run(None, {"input": x})
        np.testing.assert_allclose(y, model(pq.Tensor(x)).data, rtol=1e-5, atol=1e-6)


# The command ------------------------------------------------------------------------------------


@pytest.fixture
def run_file():
    digits, model = pq.data.load_digits(), MLP((64, 16, 10), rng=0)
    weights, adam = pq.quantizable_parameters(model), pq.optim.Adam(model.parameters())
    eager = pq.optim.ProxGradient(adam, weights, prox.MultiBitL2(1), prox.Linear(1e-3))
    options = {"steps": 3, "batch_size": 8, "progress": False}
    pq.training.fit(model, eager, digits.train, checkpoint="run.npz", **options)
    return "run.npz"


def deploy(capsys, *arguments):
    code = cli.main(["deploy", *arguments, "--to", "onnx"])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_checkpoint_and_a_packed_file_are_deployed(operator, run_file, capsys, tmp_path):
    code, out, err = deploy(capsys, run_file, "--operator", operator)
    assert (code, err) == (0, "") and "wrote run.onnx: " in out
    assert "2 quantized weights equal to the bit, outputs within" in out
    packing.pack_checkpoint(run_file, "net.npz")
    assert deploy(capsys, "net.npz", "--operator", operator, "--out", "b.onnx")[0] == 0
    assert (tmp_path / "b.onnx").read_bytes() == (tmp_path / "run.onnx").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "b.onnx",
        "net.npz",
        "run.npz",
        "run.onnx",
    ]


def test_without_the_runtime_it_says_so(run_file, capsys, monkeypatch):
    real = importlib.util.find_spec
    hidden = lambda name, *a: None if name == "onnxruntime" else real(name, *a)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", hidden)
    code, out, _ = deploy(capsys, run_file)
    assert code == 0 and "not checked: onnxruntime is not installed" in out


def test_a_failed_check_is_one_line_and_code_1(run_file, capsys, monkeypatch):
    monkeypatch.setattr(deployed, "TOLERANCE", 0.0)
    code, out, err = deploy(capsys, run_file)
    assert code == 1 and "wrote run.onnx" in out
    assert err.count("\n") == 1 and "run.onnx: outputs of ONNX Runtime" in err


def test_mistakes_are_one_line(run_file, capsys, tmp_path, monkeypatch):
    digits, model = pq.data.load_digits(), MLP((64, 10))
    options = {"steps": 1, "batch_size": 8, "progress": False}
    adam = pq.optim.Adam(model.parameters())
    pq.training.fit(model, adam, digits.train, checkpoint="plain.npz", **options)
    pq.pack(ResNet(8, 2), prox.TernaryL2(), "net.npz")
    (tmp_path / "text").write_text("x")
    steps = ["--input-shape", "3x8x8", "--operator", "MatMulNBits"]
    for arguments, message in (
        (["plain.npz"], "plain.npz is of a run without a regularizer"),
        (["net.npz"], "input_shape must be given for a ResNet"),
        (["net.npz", *steps], "conv1.weight: its levels"),
        (["net.npz", "--regularizer", "BinaryL1()"], "net.npz is packed"),
        (["run.npz", "--out", "run.npz"], "run.npz is the network itself"),
        (["run.npz", "--input-shape", "3"], "input_shape (3,) does not fit the network"),
        (["text"], "text is not a whole checkpoint"),
        (["none"], "No such file"),
    ):
        code, out, err = deploy(capsys, *arguments)
        assert (code, out) == (2, "") and err.count("\n") == 1 and message in err, err
    monkeypatch.setitem(sys.modules, "onnx", None)
    code, out, err = deploy(capsys, run_file)
    assert (code, out) == (2, "") and "onnx is not installed: pip install" in err
    assert not list(tmp_path.glob("*.onnx"))
