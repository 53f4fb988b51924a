"""The main experiment and its command, from a toy-sized run to the committed summary."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from proxquant_np import cli, models, nn, prox
from proxquant_np.data import Split, Splits
from proxquant_np.experiments.binary_digits import EXPERIMENT, METHODS
from proxquant_np.experiments.protocol import FULL_PRECISION
from proxquant_np.experiments.summary import check_out, read_summary, table
from proxquant_np.experiments.tasks import TASKS, Task
from proxquant_np.optim import DualAveraging, ProxGradient

RECORD = "binary_digits-record.json"
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


def test_reproduce_from_the_command_line(tmp_path, monkeypatch, capsys, request):
    shorten(monkeypatch, "mlp", **SHORT)
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

    summary = read_summary(out / RECORD)
    assert summary["seeds"] == 1 and summary["quick"]
    for record in records:
        result = json.loads(record.read_text("utf-8"))["result"]
        assert 0 <= result["test_error"] <= 1
    assert summary["tasks"]["mlp"]["methods"]["binary_connect"]["gap"] == [0]
    assert "err less than BinaryConnect's" in printed and "too few pairs" in printed
    assert f"wrote {out / RECORD}" in printed

    # Again with one seed more: what is finished is kept.
    request.getfixturevalue("undrawn")
    written = {record: record.stat().st_mtime_ns for record in records}
    assert cli.main(["reproduce", "--quick", "--seeds", "2", "--out", str(out)]) == 0
    assert all(record.stat().st_mtime_ns == time for record, time in written.items())
    assert len(list((out / "records").glob("*.json"))) == 2 * (1 + len(METHODS))


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("undrawn")
def test_a_finished_folder_is_kept(tmp_path, monkeypatch, capsys):
    """What would take the place of a summary that holds more is refused before it begins."""
    shorten(monkeypatch, "mlp", **SHORT)
    monkeypatch.setattr(Task, "found", lambda task: None)  # which is of more steps
    out = ["--out", str(tmp_path), "--jobs", "1"]
    assert cli.main(["reproduce", "--seeds", "2", *out]) == 0
    before = contents(tmp_path)
    capsys.readouterr()
    for more in (["--quick"], ["--model", "cnn"], []):
        assert cli.main(["reproduce", "--seeds", "1", *more, *out]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{tmp_path / RECORD} holds " in line and "choose another --out" in line
        assert contents(tmp_path) == before
    assert cli.main(["reproduce", "--seeds", "2", *out]) == 0  # again, from its records
    records = [path for path in before if path.parent.name == "records"]
    assert all(path.read_bytes() == before[path] for path in records)


@pytest.mark.usefixtures("undrawn")
def test_what_other_code_made_is_said_and_run_again_if_asked(tmp_path, monkeypatch, capsys):
    shorten(monkeypatch, "mlp", **SHORT)
    command = ["reproduce", "--quick", "--seeds", "1", "--jobs", "1", "--out", str(tmp_path)]
    assert cli.main(command) == 0
    assert "5 of 5 runs are from proxquant_np" in capsys.readouterr().out
    for path in (tmp_path / "records").glob("*prox*.json"):
        path.write_text(path.read_text().replace(f'"numpy": "{np.__version__}"', '"numpy": "1"'))
    assert cli.main(command) == 0
    printed = capsys.readouterr().out
    assert "3 of 5 runs are from" in printed and "2 of 5 runs are from" in printed
    assert "NumPy 1 on" in printed and "--rerun stale runs them again" in printed
    for name in ("binary_digits-record", "sign_flips"):
        runs = json.loads((tmp_path / f"{name}.json").read_text("utf-8"))["runs"]
        assert [group["runs"] for group in runs] == [3, 2]
    assert cli.main([*command, "--rerun", "stale"]) == 0
    printed = capsys.readouterr().out
    assert "5 of 5 runs are from" in printed and "stale" not in printed


@pytest.mark.parametrize("model", ["cnn", "resnet", "lstm"])
def test_the_other_networks(model, tmp_path, monkeypatch, capsys, request):
    """In this process; what they are quantized to, measured by and recorded with."""
    text = model == "lstm"
    if not text:  # its figures are of other measures
        request.getfixturevalue("undrawn")
    shorten(monkeypatch, model, **SHORT)
    monkeypatch.chdir(tmp_path)
    # Not the committed choice, which may not exist yet when a network is added.
    monkeypatch.setattr(Task, "found", lambda task: None)
    arguments = ["reproduce", "--model", model, "--quick", "--seeds", "1", "--jobs", "1"]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{model}: {TASKS[model].title}, 1 paired seed\n")
    assert ("test perplexity" in printed) == text
    out = tmp_path / f"results-{model}-quick"
    assert (out / "error_curves.png").exists() and (out / "weights.png").exists() == (not text)
    ((name, task),) = read_summary(out / RECORD)["tasks"].items()
    assert name == model
    assert ("text" in task) == text
    for record in (out / "records").glob("*.json"):
        result = json.loads(record.read_text("utf-8"))["result"]
        assert {"name", "sha256", "python"} == set(result["text"]) if text else True
    least, most = (1, 1000) if text else (0, 1)
    for result in task["methods"].values():
        assert least <= result[f"test_{TASKS[model].measure}"][0] <= most
    assert task["methods"]["binary_connect"]["gap"] == pytest.approx([0], abs=1e-6)


def test_search_gives_every_method_the_same_trials(tmp_path, monkeypatch, capsys):
    shorten(monkeypatch, "mlp", **SHORT)
    out = tmp_path / "chosen.json"
    assert cli.main(["search", "--trials", "2", "--jobs", "1", "--out", str(out)]) == 0
    report = json.loads(out.read_text("utf-8"))
    assert set(report["trials"]) == {FULL_PRECISION, *METHODS}
    numbers = {m: len(trials) for m, trials in report["trials"].items() if m != FULL_PRECISION}
    assert len(set(numbers.values())) == 1
    for trials in report["trials"].values():
        assert 2 < len(trials) <= 2 + 3  # the best of two is at an end: one more, three times
    for method, trials in report["trials"].items():
        best = min(trials, key=lambda trial: (trial["validation_error"], trial["validation_loss"]))
        assert report["chosen"][method].items() <= best.items()
        assert not any("test" in name for trial in trials for name in trial)


@pytest.mark.parametrize("model", TASKS)
def test_committed_choice_comes_from_its_trials(model):
    task = TASKS[model]
    report = json.loads(task.choice.read_text("utf-8"))
    fixed = {k: v for k, v in dataclasses.asdict(task.setting).items() if k != "split"}
    assert report["setting"] in (dataclasses.asdict(task.setting), fixed)
    assert len({len(trials) for trials in report["trials"].values()}) == 1
    scored = f"validation_{task.measure}", "validation_loss"
    for method, trials in report["trials"].items():
        best = min(trials, key=lambda trial: [trial[name] for name in scored])
        assert report["chosen"][method].items() <= best.items()
    assert np.isfinite(
        [trial["validation_loss"] for t in report["trials"].values() for trial in t]
    ).all()


def test_the_form_of_old_summaries_is_still_read(tmp_path):
    """Frozen: what `reproduce` of an earlier version wrote, and the numbers it printed."""
    path = Path(__file__).parent / "frozen" / "summary.json"
    old, summary = json.loads(path.read_text("utf-8")), read_summary(path)
    assert (summary["seeds"], summary["quick"], list(summary["tasks"])) == (3, False, ["mlp"])
    assert summary["runs"] == old["runs"]
    task = summary["tasks"]["mlp"]
    assert {**task["setting"], "split": "by seed"} == dataclasses.asdict(TASKS["mlp"].setting)
    assert task["hyperparameters"] == old["hyperparameters"]
    shown = table(EXPERIMENT, summary)
    assert (
        "ProxQuant (eager, soft)            3.24% +- 0.80%          -0.28 [-3.73, +3.17]" in shown
    )
    assert "   19.5%   0.000%  0.0128    15.3 s" in shown and "percentage points" in shown
    # What one value stands for in three runs is compared by no claim.
    claims = [line for line in shown.splitlines() if line.startswith('"')]
    assert len(claims) == 1 and claims[0].endswith("+3.17], too few pairs for a verdict")
    # A folder that holds it is not drawn over by a run of less, and one of as much goes on.
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(old))
    for seeds, tasks, quick in ((2, ["mlp"], False), (3, ["cnn"], False), (3, ["mlp"], True)):
        with pytest.raises(FileExistsError, match=r"summary\.json holds "):
            check_out(EXPERIMENT, tmp_path, seeds, tasks, quick)
    with pytest.raises(FileExistsError, match="another setting of mlp"):  # it had a fixed split
        check_out(EXPERIMENT, tmp_path, 3, ["mlp"], False)
    old["setting"]["split"] = "by seed"
    path.write_text(json.dumps(old))
    check_out(EXPERIMENT, tmp_path, 3, ["mlp"], False)
    check_out(dataclasses.replace(EXPERIMENT, name="methods"), tmp_path, 1, ["mlp"], True)
