"""Arrays of another library: cells of experiments on a device, and gradients checked there.

The device is a stand-in for CuPy that hands out the arrays of tests/duck_array.py.
"""

import json
import sys
import time
import types

import duck_array
import numpy as np
import pytest
from duck_array import Duck, asduck

import proxquant_np as pq
import proxquant_np.functional as F
from proxquant_np import Tensor, cli, libraries, provenance
from proxquant_np.experiments import experiment as experiments
from proxquant_np.experiments import protocol
from proxquant_np.experiments.binary_digits import EXPERIMENT
from proxquant_np.experiments.runner import OutOfTime, run_cells
from proxquant_np.experiments.tasks import Setting, Task
from proxquant_np.optim import ProxGradient

# So few validation examples that both libraries sum their losses in one part.
SETTING = {**vars(Setting(12, 40, 6)), "validation_images": 64}


@pytest.fixture
def cupy(monkeypatch):
    """A stand-in for the module."""
    module = types.SimpleNamespace(
        asarray=asduck, asnumpy=duck_array.asnumpy, ndarray=Duck, __version__="14.2.0"
    )
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def run(out, device, **options):
    """The results of a full-precision cell and of the two that start from it."""
    cells, starts = {}, {}
    for method in ("full_precision", "binary_connect", "prox_quant"):
        h = EXPERIMENT.hyperparameters("mlp", method)
        cells[method] = EXPERIMENT.arguments("mlp", method, 0, SETTING, h)
        if method != "full_precision":
            starts[method] = "full_precision"
    return run_cells(
        lambda **arguments: experiments.train(EXPERIMENT, **arguments),
        cells,
        jobs=1,
        out=out,
        starts=starts,
        resumable=True,
        device=device,
        progress=False,
        **options,
    )


def same(found, expected):
    """Results of one cell, but for times."""
    assert found.keys() == expected.keys()
    for key in found:
        if not key.startswith("seconds"):
            assert found[key] == expected[key], key


def test_cells_run_there_to_the_same_results(cupy, tmp_path, monkeypatch):
    """Networks lie there, data and records here."""
    seen = set()

    def step(self, step=ProxGradient.step):
        seen.update(type(p.data) for p in self.params)
        step(self)

    here = run(tmp_path / "here", "cpu")
    monkeypatch.setattr(ProxGradient, "step", step)
    there = run(tmp_path / "there", "cupy")
    assert seen == {Duck}
    for name in here:
        same(there[name], here[name])
    made = json.loads((tmp_path / "there" / "prox_quant.json").read_text())["environment"]
    assert (made["device"], made["libraries"]) == ("cupy", {"cupy": "14.2.0"})
    assert {"numpy", "blas", "python"} <= made.keys()
    record = json.loads((tmp_path / "here" / "prox_quant.json").read_text())
    assert record["environment"]["device"] == "cpu" and "libraries" not in record["environment"]
    assert "device" not in record["arguments"]
    assert run(tmp_path / "there", "cpu") == there  # done is done, wherever


@pytest.mark.parametrize("first", ["cpu", "cupy"])
def test_what_was_begun_on_one_device_goes_on_on_the_other(cupy, first, tmp_path, monkeypatch):
    second = {"cpu": "cupy", "cupy": "cpu"}[first]
    whole = run(tmp_path / "whole", "cpu")
    monkeypatch.setattr(protocol, "EVERY", 4)
    late = types.SimpleNamespace(perf_counter=time.perf_counter, monotonic=lambda: np.inf)
    with monkeypatch.context() as patch, pytest.raises(OutOfTime):
        patch.setattr(protocol, "time", late)
        run(tmp_path / "out", first, deadline=time.monotonic() + 1000)
    assert list((tmp_path / "out" / "checkpoints").glob("*.npz"))
    with pytest.warns(UserWarning, match="different rounding: arrays was"):
        resumed = run(tmp_path / "out", second)
    for name in whole:
        same(resumed[name], whole[name])


@pytest.mark.parametrize("command", [["reproduce"], ["experiment", "binary_digits"]])
def test_the_command_line(command, cupy, tmp_path, monkeypatch, capsys):
    """One whole grid of few steps."""
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(
        experiments, "settings", lambda experiment, quick: dict.fromkeys(["mlp"], SETTING)
    )
    monkeypatch.setattr(Task, "found", lambda task, *_: None)  # which is of more steps
    options = ["--only", "mlp"] if command[0] == "experiment" else []
    common = ["--seeds", "1", "--jobs", "1", "--device", "cupy", "--out", str(tmp_path)]
    assert cli.main([*command, *options, *common]) == 0
    assert "device cupy with cupy 14.2.0" in capsys.readouterr().out
    summary = json.loads((tmp_path / "binary_digits-record.json").read_text())
    assert [group["environment"]["device"] for group in summary["runs"]] == ["cupy"]


@pytest.mark.parametrize("command", [["reproduce"], ["experiment", "binary_digits"]])
@pytest.mark.parametrize("missing", ["library", "device"])
def test_without_a_gpu_one_line_says_so(command, missing, cupy, tmp_path, monkeypatch, capsys):
    def asarray(a):
        raise RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")

    if missing == "library":
        monkeypatch.setitem(sys.modules, "cupy", None)
    else:
        cupy.asarray = asarray
    assert cli.main([*command, "--device", "cupy", "--out", str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert ("pip install 'proxquant-np[gpu]'" if missing == "library" else "no CUDA-capable") in err
    assert not (tmp_path / "out").exists()


def test_devices_are_named():
    for function in (libraries.mover, lambda name: run_cells(int, {}, jobs=1, device=name)):
        with pytest.raises(ValueError, match=r"device must be .*'cupy'.*, got 'cuda'"):
            function("cuda")


def test_the_record_of_a_gpu(cupy):
    """By the names that CuPy has for them."""
    runtime = types.SimpleNamespace(
        getDevice=lambda: 0,
        getDeviceProperties=lambda i: {"name": b"NVIDIA H200"},
        runtimeGetVersion=lambda: 12080,
    )
    cupy.cuda = types.SimpleNamespace(
        runtime=runtime,
        cublas=types.SimpleNamespace(getVersion=lambda handle: 120805),
        device=types.SimpleNamespace(get_cublas_handle=lambda: 1),
    )
    made = provenance.environment("cupy")
    assert made["device"] == "NVIDIA H200"
    assert made["libraries"] == {"cupy": "14.2.0", "cuda": "12.8", "cublas": "12.8"}
    words = provenance.in_words(made)
    assert words.endswith("device NVIDIA H200 with cupy 14.2.0, cuda 12.8, cublas 12.8)")
    assert provenance.is_same_code(made)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("method", ["central", "complex"])
def test_gradcheck(dtype, method):
    x = np.random.default_rng(0).normal(size=(3, 2)).astype(dtype)

    def fn(a, b):
        assert type(a.data) is type(b.data) is Duck
        return F.tanh(a @ F.permute(b, (1, 0))) * 2.0

    assert pq.gradcheck(fn, [asduck(x), Tensor(asduck(x + 1))], method=method)


def test_gradcheck_finds_a_wrong_gradient_there():
    @pq.autograd.differentiable
    def cube(x):
        return x**3, lambda g: g * x**2

    found = []
    for move in (np.array, asduck):
        with pytest.raises(pq.GradcheckError, match="input 0, entry") as error:
            pq.gradcheck(cube, move([1.0, 2.0]))
        found.append(error.value)
    assert str(found[0]) == str(found[1])
    np.testing.assert_array_equal(found[1].numerical, found[0].numerical)
    assert type(found[1].gradient) is np.ndarray
