"""The main experiment and its command, from a toy-sized run to the committed summary."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from proxquant_np import cli, models, nn, prox
from proxquant_np.data import Split, Splits
from proxquant_np.experiments.binary_digits import EXPERIMENT, FULL_PRECISION, METHODS, TASKS, table
from proxquant_np.experiments.tasks import Task
from proxquant_np.optim import DualAveraging, ProxGradient

TINY = dict(full_precision_steps=66, quantizing_steps=99, fine_tuning_steps=33)
SHORT = dict(full_precision_steps=9, quantizing_steps=9, fine_tuning_steps=3, batch_size=120)


def shorten(monkeypatch, model, **steps):
    """Make all settings of a task that short, a text (an epoch is 9 steps of 16 x 16), a ResNet."""
    task = TASKS[model]
    short = {k: dataclasses.replace(getattr(task, k), **steps) for k in ("setting", "quick")}
    if model == "lstm":
        short |= {k: dataclasses.replace(v, batch_size=16, length=16) for k, v in short.items()}
        parts = [Split(*(a[: 16 * 140] for a in part)) for part in task.load()]
        short["load"] = lambda: Splits(*parts)
    if model == "resnet":
        short["build"] = lambda seed, _: models.ResNet(8, 2, 1, rng=seed)
    monkeypatch.setitem(TASKS, model, dataclasses.replace(task, **short))


def optimizer_of(method, model):
    h = {"lr": 0.01, "reach": 5.0}
    h = {name: h[name] for name in METHODS[method].default}
    return METHODS[method].optimizer(model, 100, prox.BinaryL1(), **h)


@pytest.mark.parametrize(
    ("method", "wrapper", "soft"),
    [
        ("binary_connect", DualAveraging, False),
        ("prox_connect", DualAveraging, True),
        ("prox_quant", ProxGradient, True),
        ("projected_gradient", ProxGradient, False),
    ],
)
def test_methods_are_the_four_cells(method, wrapper, soft):
    model = models.MLP()
    optimizer = optimizer_of(method, model)
    assert type(optimizer) is wrapper
    assert (optimizer.homotopy is not None) == soft
    assert isinstance(optimizer.regularizer, prox.BinaryL1)
    assert {id(p) for p in optimizer.params} == {
        id(p) for p in nn.quantizable_parameters(model).values()
    }


def test_reach_is_the_sum_of_strengths_or_the_last_one():
    def strengths(method):
        optimizer = optimizer_of(method, models.MLP())
        return [optimizer.lr * optimizer.homotopy(t) for t in range(100)]

    assert math.isclose(sum(strengths("prox_quant")), 5.0)
    assert math.isclose(strengths("prox_connect")[-1], 5.0)


def test_reproduce_from_the_command_line(tmp_path, monkeypatch, capsys):
    shorten(monkeypatch, "mlp", **TINY)
    out = tmp_path / "results"
    assert cli.main(["reproduce", "--quick", "--seeds", "1", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    for method in METHODS.values():
        assert method.label in printed
    records = sorted((out / "records").glob("*.json"))
    assert len(records) == 1 + len(METHODS)
    for name in ("regularizers", "weights", "sign_flips", "error_curves"):
        for suffix in (".png", ".svg", ".json"):
            assert (out / f"{name}{suffix}").stat().st_size > 0

    summary = json.loads((out / "summary.json").read_text("utf-8"))
    assert summary["setting"]["seeds"] == 1
    for record in records:
        result = json.loads(record.read_text("utf-8"))["result"]
        assert 0 <= result["test_error"] <= 1
    assert summary["methods"]["binary_connect"]["gap"] == 0
    assert summary["methods"]["prox_quant"]["minus_binary_connect"]["verdict"].startswith(
        "too few pairs"
    )

    # Again with one seed more: what is finished is kept.
    written = {record: record.stat().st_mtime_ns for record in records}
    assert cli.main(["reproduce", "--quick", "--seeds", "2", "--out", str(out)]) == 0
    assert all(record.stat().st_mtime_ns == time for record, time in written.items())
    assert len(list((out / "records").glob("*.json"))) == 2 * (1 + len(METHODS))


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_finished_folder_is_kept(tmp_path, monkeypatch, capsys):
    """What would take the place of a summary that holds more is refused before it begins."""
    shorten(monkeypatch, "mlp", **TINY)
    out = ["--out", str(tmp_path), "--jobs", "1"]
    assert cli.main(["reproduce", "--seeds", "2", *out]) == 0
    before = contents(tmp_path)
    capsys.readouterr()
    for more in (["--quick"], ["--model", "cnn"], []):
        assert cli.main(["reproduce", "--seeds", "1", *more, *out]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{tmp_path}/summary.json holds " in line and "choose another --out" in line
        assert contents(tmp_path) == before
    assert cli.main(["reproduce", "--seeds", "2", *out]) == 0  # again, from its records
    records = [path for path in before if path.parent.name == "records"]
    assert all(path.read_bytes() == before[path] for path in records)


def test_what_other_code_made_is_said_and_run_again_if_asked(tmp_path, monkeypatch, capsys):
    shorten(monkeypatch, "mlp", **TINY)
    command = ["reproduce", "--quick", "--seeds", "1", "--jobs", "1", "--out", str(tmp_path)]
    assert cli.main(command) == 0
    assert "5 of 5 runs are from proxquant_np" in capsys.readouterr().out
    for path in (tmp_path / "records").glob("*prox*.json"):
        path.write_text(path.read_text().replace(f'"numpy": "{np.__version__}"', '"numpy": "1"'))
    assert cli.main(command) == 0
    printed = capsys.readouterr().out
    assert "3 of 5 runs are from" in printed and "2 of 5 runs are from" in printed
    assert "NumPy 1 on" in printed and "--rerun stale runs them again" in printed
    for name in ("summary", "sign_flips"):
        runs = json.loads((tmp_path / f"{name}.json").read_text("utf-8"))["runs"]
        assert [group["runs"] for group in runs] == [3, 2]
    assert cli.main([*command, "--rerun", "stale"]) == 0
    printed = capsys.readouterr().out
    assert "5 of 5 runs are from" in printed and "stale" not in printed


@pytest.mark.parametrize("model", ["cnn", "resnet", "lstm"])
def test_the_other_networks(model, tmp_path, monkeypatch, capsys):
    """In this process; what they are quantized to, measured by and recorded with."""
    text = model == "lstm"
    shorten(monkeypatch, model, **SHORT)
    monkeypatch.chdir(tmp_path)
    # Not the committed choice, which may not exist yet when a network is added.
    monkeypatch.setattr(Task, "hyperparameters", lambda task: {})
    arguments = ["reproduce", "--model", model, "--quick", "--seeds", "1", "--jobs", "1"]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{TASKS[model].title}, 1 paired seeds")
    assert ("test perplexity" in printed) == text
    out = tmp_path / f"results-{model}-quick"
    assert (out / "error_curves.png").exists() and (out / "weights.png").exists() == (not text)
    summary = json.loads((out / "summary.json").read_text("utf-8"))
    assert summary["model"] == model
    assert ("text" in summary) == text
    for record in (out / "records").glob("*.json"):
        result = json.loads(record.read_text("utf-8"))["result"]
        assert {"name", "sha256", "python"} == set(result["text"]) if text else True
    least, most = (1, 1000) if text else (0, 1)
    for result in summary["methods"].values():
        assert least <= result[f"test_{TASKS[model].measure}"][0] <= most
    assert summary["methods"]["binary_connect"]["gap"] == pytest.approx(0, abs=1e-6)


def test_search_gives_every_method_the_same_trials(tmp_path, monkeypatch, capsys):
    shorten(monkeypatch, "mlp", **TINY)
    out = tmp_path / "chosen.json"
    assert cli.main(["search", "--trials", "2", "--out", str(out)]) == 0
    report = json.loads(out.read_text("utf-8"))
    assert set(report["trials"]) == {FULL_PRECISION, *METHODS}
    for method, trials in report["trials"].items():
        assert len(trials) == 2
        best = min(trials, key=lambda trial: (trial["validation_error"], trial["validation_loss"]))
        assert report["chosen"][method] == {name: best[name] for name in EXPERIMENT.space(method)}
        assert not any("test" in name for trial in trials for name in trial)


@pytest.mark.parametrize("model", TASKS)
def test_committed_choice_comes_from_its_trials(model):
    task = TASKS[model]
    report = json.loads(task.choice.read_text("utf-8"))
    assert report["setting"] == dataclasses.asdict(task.setting)
    assert len({len(trials) for trials in report["trials"].values()}) == 1
    scored = f"validation_{task.measure}", "validation_loss"
    for method, trials in report["trials"].items():
        best = min(trials, key=lambda trial: [trial[name] for name in scored])
        assert report["chosen"][method] == {name: best[name] for name in EXPERIMENT.space(method)}
    assert np.isfinite(
        [trial["validation_loss"] for t in report["trials"].values() for trial in t]
    ).all()


def test_errors_are_shown_in_percent():
    root = Path(__file__).parents[1]
    summary = json.loads((root / "figures" / "summary.json").read_text("utf-8"))
    shown, error = table(summary), summary["methods"]["prox_quant"]["test_error_mean"]
    assert "percentage points" in shown and f"{error:.2%} +- " in shown
    difference = summary["methods"]["prox_quant"]["minus_binary_connect"]["mean"]
    assert f"{100 * difference:+.2f} [" in shown
