"""The paper's scale: the recipes as published, and the page on what has been measured of it."""

import dataclasses
import json
import math
import runpy
from pathlib import Path

import numpy as np
import pytest

from proxquant_np import cli, models, nn, optim, prox
from proxquant_np.experiments import experiment, paper_lstm, protocol, search
from proxquant_np.experiments.protocol import FULL_PRECISION
from proxquant_np.training import Plateau, save_checkpoint

ROOT = Path(__file__).parents[1]
SCRIPT = runpy.run_path(str(ROOT / "docs" / "paper_scale.py"))
DATA = json.loads((ROOT / "docs" / "paper_scale.json").read_text("utf-8"))
LSTM = paper_lstm.EXPERIMENT


def test_the_committed_page_is_what_the_script_makes():
    text = (ROOT / "docs" / "paper_scale.md").read_text("utf-8")
    assert SCRIPT["page"](text, DATA) == text
    changed = text.replace("| 88.5 † |", "| 88.4 † |")
    assert changed != text and SCRIPT["page"](changed, DATA) == text


def test_an_lstm_is_trained_as_published():
    task = LSTM.tasks["lstm300"]
    setting = dataclasses.asdict(task.setting)
    assert setting["full_precision_steps"] == setting["quantizing_steps"] == 80 * 1550
    assert setting["fine_tuning_steps"] == 0
    assert (setting["batch_size"], setting["length"], setting["max_norm"]) == (20, 30, 0.25)
    assert LSTM.hyperparameters("lstm300", FULL_PRECISION) == {"lr": 20.0}
    assert task.warm_start.schedule(20.0, 99) == Plateau(20.0, factor=1.2)
    model = models.LSTMLanguageModel(50, 8, 8, rng=0)
    for name, method in LSTM.methods.items():
        assert method.base.schedule(5.0, 99) == Plateau(5.0, factor=1.2)
        optimizer = method.optimizer(model, 99, task.regularizer, **method.default)
        assert type(optimizer.base) is optim.SGD and optimizer.base.momentum == 0
        assert len(optimizer.params) == 4  # embedding, two of the LSTM, softmax
        binary = name in ("binary_connect", "prox_quant")
        assert optimizer.clip == binary
        levels = optimizer.regularizer.levels(model.decoder.weight.data)
        assert np.shape(levels) == ((2,) if binary else (50, 2 ** int(name.split("_")[2])))
    paper = prox.MultiBitL2(3, projection="alternating", axis=0)
    assert LSTM.methods["prox_quant_3"].regularizer == paper


@pytest.mark.parametrize("part", [0.25, 1.0])
def test_a_search_runs_the_published_rate_and_adds_no_phase(part):
    setting = dataclasses.asdict(LSTM.tasks["lstm300"].setting)
    whole = search._Search(LSTM, "lstm300", None, 0, search.HALVING, setting, {})
    (trial,) = whole.method(FULL_PRECISION).draw(4, {})
    cell = whole.cell(trial, part, seed=1000)
    assert cell["hyperparameters"] == {"lr": 20.0}  # the published rate is not searched
    assert cell["setting"]["full_precision_steps"] == part * 80 * 1550
    assert cell["setting"]["fine_tuning_steps"] == 0


@pytest.mark.parametrize("bits", paper_lstm.BITS)
def test_the_published_rival_multiplies_its_quantizer(bits):
    """z <- z - lr * gradient at 0.3 P(z), by an independent loop; frozen as it was trained."""
    rng = np.random.default_rng(bits)
    z, code = rng.normal(size=(3, 7)), prox.MultiBit(bits, projection="alternating", axis=0)
    target = rng.normal(size=(3, 7))
    w = nn.Parameter(z.copy())
    method = LSTM.methods[f"straight_through_{bits}_rescaled"]
    lazy = method.wrap(optim.SGD([w], 0.5), [([w], method.regularizer)], 9)
    for _ in range(9):
        at = 0.3 * code.project(z)
        np.testing.assert_array_equal(w.data, at)
        z = z - 0.5 * (2 * (at - target))
        w.grad = None
        ((w - target) * (w - target)).sum().backward()
        lazy.step()
        np.testing.assert_allclose(lazy.latent[0], z, rtol=1e-12)
        z = lazy.latent[0].copy()
    before = w.data.copy()
    optim.quantize_and_freeze(lazy)
    np.testing.assert_allclose(w.data, before, rtol=1e-12)


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """A folder of results in which one cell is finished, and another one has taken 4 of 8 steps."""
    for part, n in (("train", 5), ("valid", 2), ("test", 2)):
        lines = [f"the {i} of {i % 3} is {i * i}" for i in range(n)]
        (tmp_path / f"my.{part}.txt").write_text("\n".join(lines * 50) + "\n")
    whole = LSTM.tasks["lstm300_short"]
    quick = dataclasses.replace(
        whole.quick, full_precision_steps=8, quantizing_steps=8, batch_size=18
    )
    monkeypatch.setitem(LSTM.tasks, "lstm300_short", dataclasses.replace(whole, quick=quick))
    monkeypatch.setattr(protocol, "EVERY", 4)
    now = [0.0]

    def clock():
        now[0] += 1
        return now[0]

    monkeypatch.setattr(protocol.time, "monotonic", clock)
    arguments = ["experiment", "paper_lstm", "--only", "lstm300_short", "--seeds", "1", "--quick"]
    arguments += ["--jobs", "1", "--budget", "1", "--out", str(tmp_path / "out")]
    for _ in range(9):
        monkeypatch.setattr(experiment, "deadline", lambda minutes: now[0] + 2)
        assert cli.main([*arguments, "--data", str(tmp_path)]) == 1  # the time is up
        if len(rows := SCRIPT["collected"](tmp_path / "out")) > 1:
            break
    return rows


def test_the_script_takes_over_what_is_finished_and_what_goes_on(begun, capsys):
    finished, going = begun
    assert (finished["method"], finished["steps"]) == (FULL_PRECISION, 8)
    assert finished["test"] > 1 and finished["validation"] > 1 and finished["device"] == "cpu"
    assert (going["method"], going["steps"], going["begun"]) == ("binary_connect", 4, True)
    assert going["validation"] > 1 and going["test"] is None  # the test split is not read yet
    assert math.isfinite(going["validation"])
    merged = SCRIPT["merged"]([{**going, "steps": 2}, {**going, "seed": 1}], begun)
    assert sorted((row["method"], row["seed"], row["steps"]) for row in merged) == [
        ("binary_connect", 0, 4),
        ("binary_connect", 1, 4),
        (FULL_PRECISION, 0, 8),
    ]
    lines = SCRIPT["table"](merged, "paper_lstm", "lstm300")
    (row,) = [line for line in lines if line.startswith("| BinaryConnect")]
    assert "372.2" in row and "goes on | 2 |" in row


def test_the_script_tells_tasks_families_and_hyperparameters_apart(tmp_path):
    """A folder of searched, published and smaller runs, one of another rate, one of other data."""
    folder = tmp_path / "records"
    folder.mkdir()

    def write(name, task="resnet20", lr=0.01, seed=0, data=None, **more):
        arguments = dict(experiment="resnet_cifar10", task=task, method="binary_connect", seed=seed)
        steps = dict(full_precision_steps=1, quantizing_steps=2, fine_tuning_steps=3)
        arguments |= dict(hyperparameters={"lr": lr}, setting=steps, **more)
        result = dict(validation_error=0.1, test_error=0.2, seconds_per_step=None, data=data)
        record = dict(arguments=arguments, result=result, environment={"device": "cpu"})
        (folder / f"{name}.json").write_text(json.dumps(record))

    write("a", family="published")
    write("b", family="published", seed=1)
    write("searched")
    write("small", task="resnet8", family="published")
    write("rate", family="published", lr=0.02)
    rows = SCRIPT["collected"](tmp_path)
    assert len(rows) == 3

    def table(rows):
        lines = SCRIPT["table"](rows, "resnet_cifar10", "resnet20")
        return [line.split("|")[3:5] for line in lines if "20.00" in line]

    (first, n), (second, m) = table(rows)
    assert (n, m) == (" 2 ", " 1 ")
    assert "of the paper's), lr 0.01 " in first and "of the paper's), lr 0.02 " in second
    assert [n for _, n in table(rows[:2])] == [" 2 "] and "lr" not in table(rows[:2])[0][0]
    on = [{**row, "data": digest * 32} for row, digest in zip(rows, ("ab", "cd"), strict=False)]
    assert [line.rpartition(", ")[2] for line, _ in table(on)] == [
        "data abababababab ",
        "data cdcdcdcdcdcd ",
    ]
    # What is begun does not tell its family: it counts where nothing else is finished.
    (folder / "checkpoints").mkdir()
    held = folder / "checkpoints" / "resnet20-prox_quant-seed0-0123456789ab-quantizing.npz"
    save_checkpoint(held, {}, {"step": 7})
    assert SCRIPT["collected"](tmp_path) == rows
    (folder / "searched.json").unlink()
    (*finished, going) = SCRIPT["collected"](tmp_path)
    assert finished == rows and (going["method"], going["steps"]) == ("prox_quant", 7)


def test_the_script_takes_the_furthest_phase_and_no_other_task(tmp_path, begun):
    """The checkpoint of quantizing stays until fine-tuning is done; a folder may hold others."""
    finished, _ = begun
    folder = tmp_path / "out" / "records" / "checkpoints"
    (held,) = folder.glob("*binary_connect*-quantizing.npz")
    later = held.name.replace("quantizing", "fine_tuning")
    (folder / later).write_bytes(held.read_bytes())
    other = held.name.replace("lstm300_short", "mlp")
    (folder / other).write_bytes(held.read_bytes())
    done = held.name.replace("binary_connect", FULL_PRECISION)
    (folder / done).write_bytes(held.read_bytes())
    rows = SCRIPT["collected"](tmp_path / "out")
    assert [(row["method"], row["steps"]) for row in rows] == [
        (FULL_PRECISION, finished["steps"]),
        ("binary_connect", 1550 + 4),
    ]
