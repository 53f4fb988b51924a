"""Every experiment at toy size, from the command line; what a summary, a search, a table hold."""

import dataclasses
import functools
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from proxquant_np import Tensor, cli, functional, models, nn, prox
from proxquant_np.data import cifar10, load_digits
from proxquant_np.experiments import ablation, experiment, protocol, search, summary, tasks
from proxquant_np.experiments import language_model as language_models
from proxquant_np.experiments.catalog import EXPERIMENTS, experiment_named
from proxquant_np.experiments.experiment import Claim
from proxquant_np.experiments.protocol import (
    FULL_PRECISION,
    METHODS,
    pack,
    unpack,
)
from proxquant_np.experiments.runner import OutOfTime
from proxquant_np.experiments.tasks import TASKS, Task, language_model
from proxquant_np.optim import Adam, Bop, DualAveraging, ProxGradient, quantize_and_freeze

# What the pictures look like is tested with those that are committed.
pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture
def small(monkeypatch):
    """Shortens an experiment to a setting of two epochs; its name -> the arguments to run it.

    build: makes narrower networks, where those of the experiment take seconds.
    """

    def shorten(name, steps=66, seeds=2, build=None, **changes):
        whole = experiment_named(name)
        tasks = {}
        for task in list(whole.measured or whole.tasks)[:2]:
            quick = dataclasses.replace(
                whole.tasks[task].quick,
                full_precision_steps=steps,
                quantizing_steps=steps,
                fine_tuning_steps=min(3, whole.tasks[task].quick.fine_tuning_steps),
                **changes,
            )
            narrow = {"build": build} if build else {}
            tasks[task] = dataclasses.replace(whole.tasks[task], quick=quick, **narrow)
        for task, replaced in tasks.items():
            monkeypatch.setitem(whole.tasks, task, replaced)
        only = [argument for task in tasks for argument in ("--only", task)]
        return ["experiment", name, "--quick", "--jobs", "1", "--seeds", str(seeds), *only]

    return shorten


def at_most(space):
    return {name: high for name, (_, high) in space.items()}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_definitions(name):
    chosen = experiment_named(name)
    assert chosen.name == name
    known = {FULL_PRECISION, *chosen.methods}
    assert all({claim.first, claim.second} <= known for claim in chosen.claims)
    assert all(set(claim.tasks) <= set(chosen.tasks) for claim in chosen.claims)
    assert set(chosen.measured) <= set(chosen.tasks)
    for method in chosen.methods.values():
        assert method.start in known
        if method.is_searched:
            assert set(method.default) == set(method.hyperparameters(at_most(method.space), 100))
        assert all(low < high for low, high in method.space.values())
    for task in chosen.tasks:
        for method in known:
            default = {"lr"} if method == FULL_PRECISION else chosen.methods[method].default
            assert set(chosen.hyperparameters(task, method)) == set(default)


def run_small(arguments, out, capsys):
    """Run from the command line; the summary and what was printed."""
    assert cli.main([*arguments, "--out", str(out)]) == 0
    (path,) = out.glob("*-record.json")
    return json.loads(path.read_text("utf-8")), capsys.readouterr().out


def language(small, folder):
    (folder / "a.txt").write_text("to be or not to be " * 50)  # 3 chunks a training epoch
    changes = {"steps": 6, "batch_size": 8}
    return [*small("language_model", **changes), "--data", str(folder / "a.txt")]


def words(small, folder):
    """A corpus of three parts of 5, 2 and 2 sentences, 50 times each: 4 chunks a training epoch."""
    for part, n in (("train", 5), ("valid", 2), ("test", 2)):
        lines = [f"the {i} of {i % 3} is {i * i}" for i in range(n)]
        (folder / f"my.{part}.txt").write_text("\n".join(lines * 50) + "\n")
    narrow = functools.partial(language_model, units=8, dropout=0.5)
    return [*small("paper_lstm", steps=8, build=narrow, batch_size=18), "--data", str(folder)]


def images(experiment, small, folder, monkeypatch):
    """Files of 1,020 images of noise, as CIFAR-10's are of 10,000."""
    monkeypatch.setattr(cifar10, "RECORDS", 1020)
    rng = np.random.default_rng(0)
    for file in cifar10.FILES:
        records = rng.integers(0, 256, (1020, 3073), np.uint8)
        records[:, 0] %= 10
        (folder / file).write_bytes(records.tobytes())
    few = {"train_images": 64, "validation_images": 20, "test_images": 20}
    narrow = {"build": lambda seed, _: models.ResNet(8, 4, rng=seed)}
    return [*small(experiment, steps=4, **narrow, **few), "--data", str(folder)]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_runs(name, small, tmp_path_factory, tmp_path, capsys, monkeypatch):
    chosen = experiment_named(name)
    data = tmp_path_factory.mktemp("data")
    if name == "paper_lstm":
        arguments = words(small, data)
    elif chosen.needs_data:
        arguments = images(name, small, data, monkeypatch)
    else:
        arguments = language(small, data) if name == "language_model" else small(name)
    summary, printed = run_small(arguments, tmp_path, capsys)
    assert summary["experiment"] == name and summary["quick"] and summary["seeds"] == 2
    for task in summary["tasks"].values():
        assert list(task["methods"]) == [FULL_PRECISION, *chosen.methods]
        for method, figures in task["methods"].items():
            assert len(figures[task["measure"]]) == 2
            assert len(figures["epochs"]) == len(figures["curves"]["quantized_error"]) == 2
            assert task["hyperparameters"][method]
    for claim in chosen.claims:
        assert claim.text in printed or not {*claim.tasks} <= {*summary["tasks"]}
    assert printed.rstrip().splitlines()[-1].startswith("wrote") and "--quick" in printed
    for line in printed.splitlines():
        if line.startswith("wrote"):
            assert (tmp_path / line.split("/")[-1]).stat().st_size > 0


def test_regime_map_is_drawn_for_all_settings(tmp_path):
    """From a made-up summary: eager is better by 0.01 where the network is wide."""
    from proxquant_np.experiments import regime_map

    rng = np.random.default_rng(0)
    tasks = {}
    for name in regime_map.EXPERIMENT.tasks:
        base = 0.05 + rng.normal(0, 1e-3, 5)
        better = 0.01 if name.startswith("w128") else 0.0
        errors = {"binary_connect": base, "prox_quant": base - better + rng.normal(0, 1e-3, 5)}
        tasks[name] = {"methods": {m: {"test_error": e.tolist()} for m, e in errors.items()}}
    assert regime_map.draw({"tasks": tasks}, tmp_path / "map") == [tmp_path / "map_grid.png"]
    data = json.loads((tmp_path / "map_grid.json").read_text("utf-8"))
    assert data["verdict"][-1] == ["supported"] * 4
    assert all(len(row) == 4 for row in data["difference"])


def test_finished_and_interrupted_runs_go_on(small, tmp_path, capsys, monkeypatch):
    arguments = small("methods", steps=450, seeds=1)
    whole, _ = run_small(arguments, tmp_path / "whole", capsys)
    # Time is up at each look at the clock: one piece of one phase a call.
    now = [0.0]

    def clock():
        now[0] += 1
        return now[0]

    monkeypatch.setattr(protocol.time, "monotonic", clock)
    calls = 0
    while True:
        monkeypatch.setattr(experiment, "deadline", lambda minutes: now[0] + 2)
        calls += 1
        code = cli.main([*arguments, "--budget", "1", "--out", str(tmp_path / "parts")])
        err = capsys.readouterr().err
        if code == 0:
            break
        assert code == 1 and "runs are finished and kept; run again to go on" in err
        assert calls < 100
    assert calls > 8
    (path,) = (tmp_path / "parts").glob("*-record.json")
    parts = json.loads(path.read_text("utf-8"))
    for result in (whole, parts):
        for figures in result["tasks"]["mlp"]["methods"].values():
            del figures["seconds"], figures["seconds_per_step"]
    assert parts == whole
    assert not list((tmp_path / "parts" / "records" / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["binary_digit"], "no experiment is called 'binary_digit'; did you mean 'binary_digits'?"),
        (["zzz"], "no experiment is called 'zzz'; there are binary_digits, budget_curve,"),
        (["methods", "--seeds", "0"], "must be an integer in 1..999999"),
        (["methods", "--budget", "x"], "must be an integer in 1..999999"),
    ],
)
def test_mistakes_found_by_the_parser(arguments, message, capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(["experiment", *arguments])
    assert exit.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet_cifar10"], "resnet_cifar10 needs --data: CIFAR-10's binary version"),
        (["resnet_cifar10", "--data", "nowhere"], "nowhere does not exist; get the binary version"),
        (["resnet_cifar10", "--data", "nowhere"], "cifar-10-binary.tar.gz, or let --download do"),
        (["methods", "--data", "."], "methods takes no --data, got ."),
        (["regime_map", "--only", "w20"], "regime_map has no task 'w20'; there are w16-t300,"),
        (["ablation", "--family", "published"], "must be one of 'searched', got 'published'"),
        (["language_model", "--data", "nowhere.txt"], "nowhere.txt does not exist"),
    ],
)
def test_other_mistakes(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["experiment", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("proxquant-np: ") and message in line
    assert not list(tmp_path.iterdir())


CHOICES = Path(experiment.__file__).parent


def to_search(arguments):
    """The same command with --search, which has seeds of its own."""
    at = arguments.index("--seeds")
    return [*arguments[:at], *arguments[at + 2 :], "--search"]


def test_search_gives_every_method_the_same_trials(small, tmp_path, capsys, monkeypatch):
    """Also to one that diverges, which is a trial like any other."""
    arguments, train = small("methods", steps=33), protocol.train

    def diverging(cell, *files):
        if cell.method is METHODS["parq"] and cell.hyperparameters["lr"] > 0.015:
            raise FloatingPointError("the loss is nan")
        return train(cell, *files)

    chosen = experiment_named("methods")
    replaced = dataclasses.replace(chosen, train=diverging)
    monkeypatch.setitem(EXPERIMENTS, "methods", replaced)
    command = [*to_search(arguments), "--trials", "4", "--out", str(tmp_path)]
    assert cli.main(command) == 0
    file = tmp_path / "chosen" / "methods.json"
    report = json.loads(file.read_text("utf-8"))
    assert list(report["trials"]) == [FULL_PRECISION, *METHODS]  # the others share
    numbers = {method: len(trials) for method, trials in report["trials"].items()}
    assert numbers[FULL_PRECISION] in range(4, 8)  # and more where an end was the best
    (n,) = {n for method, n in numbers.items() if method != FULL_PRECISION}
    assert n in range(4, 8)
    failed = ["failed" in trial for trial in report["trials"]["parq"]]
    assert any(failed) and not all(failed)
    for method, trials in report["trials"].items():
        scored = [trial for trial in trials if "failed" not in trial]
        best = min(scored, key=lambda trial: (trial["validation_error"], trial["validation_loss"]))
        assert report["chosen"][method].items() <= best.items()
        space = {**chosen.space(method), **report["extended"].get(method, {})}
        for name, (low, high) in space.items():
            assert all(low <= trial[name] <= high for trial in trials)
        assert not any("test" in name for trial in trials for name in trial)
    assert len(list((tmp_path / "search").glob("*.json"))) == search.SEEDS * sum(numbers.values())
    before = file.read_bytes()
    assert cli.main(command) == 0  # from its records
    assert file.read_bytes() == before
    capsys.readouterr()


def test_searches_of_several_streams(small, tmp_path, capsys, monkeypatch):
    """Each has points and a file of its own, and --stream N runs with what it chose."""
    arguments = small("regime_map", steps=33)[:-2]  # one task
    whole = experiment_named("regime_map")
    task = arguments[-1]
    own = dataclasses.replace(whole.tasks[task], chosen=(str(tmp_path / "own.json"),))
    monkeypatch.setitem(whole.tasks, task, own)
    missing = [*arguments, "--stream", "2", "--out", str(tmp_path / "run")]
    assert cli.main(missing) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"no search of stream 2 for {task}: --search --stream 2 makes own-stream2.json" in line
    reports = []
    for stream, more in ((0, []), (1, ["--stream", "1"]), (2, ["--stream", "2"])):
        monkeypatch.chdir(tmp_path)
        searching = [*to_search(arguments), "--trials", "3", *more, "--out", str(tmp_path / "run")]
        assert cli.main(searching) == 0
        file = tmp_path / "run" / "chosen" / f"own{f'-stream{stream}' * bool(stream)}.json"
        reports.append(json.loads(file.read_text("utf-8")))
        printed = capsys.readouterr().out
        assert (reports[-1]["stream"], reports[-1]["scheme"]) == (stream, "Halton points")
        assert reports[-1]["seeds"] == [1000 + 3 * stream + i for i in range(3)]
        for method, edges in reports[-1]["at_edge"].items():
            trials = reports[-1]["trials"][method]
            for name in whole.space(method):
                tried = [trial[name] for trial in trials]
                best = min(trials, key=lambda t: (t["validation_error"], t["validation_loss"]))
                assert (name in edges) == (best[name] in (min(tried), max(tried)))
                said = f"the best {name} of {method} is the {edges.get(name)} that was tried"
                assert (said in printed) == (name in edges)
    points = {tuple(t["lr"] for t in r["trials"]["prox_quant"]) for r in reports}
    assert len(points) == 3
    for trial in reports[0]["trials"]["prox_quant"]:
        assert trial["reach"] == pytest.approx(33 * trial["lr"] * trial["mean_lambda"], rel=1e-2)
    assert cli.main(missing) == 0
    made = json.loads((tmp_path / "run" / "regime_map-stream2-record.json").read_text("utf-8"))
    assert made["stream"] == made["tasks"][task]["search"]["stream"] == 2
    assert made["tasks"][task]["hyperparameters"] == reports[2]["chosen"]
    assert "stream" not in json.loads(json.dumps(reports[2]["setting"]))


@pytest.mark.parametrize("name", [n for n, e in EXPERIMENTS.items() if not e.needs_data])
def test_each_seed_splits_the_digits_anew(name):
    """Wherever they are the data; methods of a pair have the same split, texts a fixed one."""
    chosen = experiment_named(name)
    for task, setting in experiment.settings(chosen, quick=False).items():
        loads = getattr(chosen.tasks[task].load, "func", chosen.tasks[task].load)
        quick = experiment.settings(chosen, quick=True)[task]
        if loads is not load_digits:
            assert "split" not in setting and "split" not in quick
            continue
        assert setting["split"] == quick["split"] == "by seed"
    if loads is load_digits:
        method = next(iter(chosen.methods))

        def tested(method, seed, **more):
            arguments = chosen.arguments(task, method, seed, {**setting, **more}, {})
            return chosen.cell(**arguments).splits().test.x

        first = tested(method, 0)
        np.testing.assert_array_equal(first, tested(FULL_PRECISION, 0))
        assert not np.array_equal(first, tested(method, 1))
        assert not np.array_equal(first, tested(method, search.FIRST_SEED))
        stored = tested(method, 0, split="fixed")
        np.testing.assert_array_equal(stored.ravel(), load_digits().test.x.ravel())


def test_points_fill_the_space():
    """Of 16 in a plane every quarter of either logarithm has some, and each cell has its own."""
    chosen = experiment_named("regime_map")
    space, drawn = chosen.space("prox_quant"), {}
    for task in chosen.tasks:
        points, again = (
            [
                t.point
                for t in search._Search(chosen, task, *[None, 0, search.WHOLE, {}, {}])
                .method("prox_quant")
                .draw(16, {})
            ]
            for _ in range(2)
        )
        assert points == again
        drawn[task] = points
        for name, ends in space.items():
            low, high = np.log(ends)
            place = (np.log([point[name] for point in points]) - low) / (high - low)
            assert (np.histogram(place, 4, (0, 1))[0] >= 2).all()
    assert len({point["lr"] for points in drawn.values() for point in points}) > 200


@pytest.mark.parametrize("name", ["prox_quant", "prox_connect"])
def test_reach_follows_from_mean_lambda(name):
    """By the strengths of the optimizer itself."""
    method, steps = METHODS[name], 50
    found = method.hyperparameters({"lr": 0.02, "mean_lambda": 0.5}, steps)
    optimizer = method.optimizer(models.MLP(), steps, prox.BinaryL1(), **found)
    lambdas = [optimizer.homotopy(t) for t in range(steps)]
    assert np.mean(lambdas) == pytest.approx(0.5, rel=1e-2)
    strengths = 0.02 * np.array(lambdas)
    reach = strengths.sum() if name == "prox_quant" else strengths[-1]
    assert found["reach"] == pytest.approx(reach, rel=1e-2)


TEXT = {"name": "pydoc_data.topics", "sha256": "0" * 64}
TRIALS = {"prox_quant_1": [{"lr": 0.1}] * 16}


@pytest.mark.parametrize(
    ("held", "more", "what"),
    [
        ({"text": TEXT}, ["--data", "a.txt"], "a search on other data (pydoc_data.topics)"),
        (  # of the same name
            {"text": TEXT | {"name": "a.txt"}},
            ["--data", "a.txt"],
            "a search on other data (a.txt)",
        ),
        ({}, ["--quick"], "a search on another setting"),
        ({"stream": 2}, [], "a search of stream 2"),
        ({"trials": {"other": TRIALS["prox_quant_1"]}}, [], "a search that has other, too"),
        ({}, ["--trials", "15"], "a search of 16 trials per method, more than 15"),
        ({"at_first": 17}, [], "a search of 17 trials per method, more than 16"),
    ],
)
def test_a_search_does_not_replace_a_better_one(held, more, what, tmp_path, capsys, monkeypatch):
    """Nor one on something else: the experiment itself would read what is chosen on that."""
    monkeypatch.setattr(search, "run_cells", lambda *a, **k: pytest.fail("it began"))
    monkeypatch.chdir(tmp_path)
    task = experiment_named("language_model").tasks["lstm64"]
    file = tmp_path / "chosen" / task.choice.name
    file.parent.mkdir()
    (tmp_path / "a.txt").write_text("to be or not to be " * 50)
    report = {"setting": dataclasses.asdict(task.setting), "chosen": {}, "trials": TRIALS}
    file.write_text(json.dumps(report | held))
    before = file.read_bytes()
    command = ["experiment", "language_model", "--search", "--out", str(tmp_path), *more]
    assert cli.main(command) == 2
    assert f"{file} holds {what}, and is kept" in capsys.readouterr().err
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["binary_digits", "--only", "mlp", "--family", "published"], "binary_digits-published"),
        (["ablation"], "ablation"),
    ],
)
def test_where_nothing_is_searched_no_search_is_written(arguments, what, capsys):
    """The files are those of searches that other experiments read."""
    before = {file: file.read_bytes() for file in CHOICES.rglob("*.json")}
    assert cli.main(["experiment", *arguments, "--search", "--trials", "16", "--jobs", "1"]) == 2
    assert f"must have a method to search, got {what}, where all are" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in CHOICES.rglob("*.json")} == before


def test_a_quick_search_is_for_quick_runs_alone(small, tmp_path, capsys, monkeypatch):
    """It is written beside their results, and a real run does not go by it."""
    monkeypatch.chdir(tmp_path)
    before = {file: file.read_bytes() for file in CHOICES.rglob("*.json")}
    arguments = small("regime_map", steps=33)[:-2]
    assert cli.main([*to_search(arguments), "--trials", "1", "--stream", "7"]) == 0
    assert {file: file.read_bytes() for file in CHOICES.rglob("*.json")} == before
    (file,) = (tmp_path / "results-regime_map-stream7-quick" / "chosen").glob("*.json")
    assert f"wrote {file.relative_to(tmp_path)}" in capsys.readouterr().out.replace(
        f"{tmp_path}/", ""
    )
    assert cli.main([*arguments, "--stream", "7"]) == 0  # the quick run finds it
    whole = [a for a in arguments if a != "--quick"]
    shutil.copytree(file.parent, tmp_path / "whole" / "chosen")
    assert cli.main([*whole, "--stream", "7", "--out", str(tmp_path / "whole")]) == 2
    assert "must hold a search with the setting of w16-t300, got one of 33 quantizing steps" in (
        capsys.readouterr().err
    )


def test_what_another_run_would_replace(small, tmp_path, capsys):
    """It is said what the folder holds, and how to keep it."""
    arguments = small("regime_map", steps=33)
    out = ["--out", str(tmp_path)]
    assert cli.main([*arguments[:-2], *out]) == 0
    before = {path: path.read_bytes() for path in tmp_path.glob("*.json")}
    for more, says in (
        (["--only", "w32-t300"], "w16-t300, which this run would not write, and is kept: choose "),
        (["--only", "w32-t300"], "another --out, or name it with --only, too"),
        (["--only", "w16-t300", "--seeds", "1"], "2 of what 1 are asked for, and is kept"),
    ):
        capsys.readouterr()
        assert cli.main([*arguments[:7], *more, *out]) == 2
        assert says in capsys.readouterr().err
        assert {path: path.read_bytes() for path in tmp_path.glob("*.json")} == before
    assert cli.main([*arguments, *out]) == 0  # both rows
    record = json.loads((tmp_path / "regime_map-record.json").read_text("utf-8"))
    assert len(record["tasks"]) == 2


def test_a_search_into_a_package_that_is_read_only(tmp_path, capsys, monkeypatch):
    """The way out is named."""

    def refused(path, *rest):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(search, "written_whole", refused)
    command = ["experiment", "regime_map", "--only", "w16-t300", "--search", "--stream", "9"]
    assert cli.main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "regime_map-w16-t300-stream9.json cannot be written (Permission denied)" in line
    assert line.endswith("write elsewhere with --out")


def test_a_resumed_run_has_the_time_of_all_its_steps(monkeypatch, tmp_path):
    """At the pace of those that this process trained; none if it trained none."""
    task, setting = TASKS["mlp"], {"quantizing_steps": 40, "fine_tuning_steps": 0, "batch_size": 32}
    clock = iter(range(1000))
    monkeypatch.setattr(protocol, "EVERY", 10)
    monkeypatch.setattr(protocol.time, "perf_counter", lambda: next(clock))

    def phases(deadline=None):
        return protocol.Phases(task, task.load(), setting, 0, str(tmp_path / "cell"), deadline)

    def fit(phases):
        model = task.build(0, None)
        return phases.fit("quantizing", model, Adam(model.parameters(), 1e-3))

    with pytest.raises(OutOfTime):
        fit(phases(deadline=0.0))
    resumed = phases()
    fit(resumed)
    assert (resumed.steps, resumed.trained) == (30, 40)
    assert resumed.seconds_per_step == resumed.seconds / 30
    assert resumed.time == pytest.approx(40 * resumed.seconds_per_step)
    again = phases()
    fit(again)
    assert again.steps == 0 and again.seconds_per_step is None and again.time is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--trials", "99"], "--trials goes with --search"),
        (["--halving"], "--halving goes with --search"),
        (["--search", "--seeds", "9"], "--seeds does not go with --search"),
        (["--jobs", "2", "--dask", "tcp://nowhere"], "--jobs does not go with --dask"),
    ],
)
def test_options_that_would_do_nothing(arguments, says, capsys):
    assert cli.main(["experiment", "regime_map", *arguments]) == 2
    assert says in capsys.readouterr().err


def test_a_record_has_the_hyperparameters_that_were_run(small, tmp_path, monkeypatch):
    """Though a search ends in the meantime."""
    arguments = small("regime_map", steps=33)[:-2]
    whole = experiment_named("regime_map")
    before = whole.hyperparameters("w16-t300", "prox_quant")

    def trained(cell, *files):
        found = {"chosen": {"prox_quant": {"lr": 0.5, "reach": 9.0}}, "trials": {}, "sha256": ""}
        monkeypatch.setattr(Task, "found", lambda task, *_: found)
        return protocol.train(cell, *files)

    monkeypatch.setitem(EXPERIMENTS, "regime_map", dataclasses.replace(whole, train=trained))
    assert cli.main([*arguments, "--out", str(tmp_path)]) == 0
    made = json.loads((tmp_path / "regime_map-record.json").read_text("utf-8"))
    assert made["tasks"]["w16-t300"]["hyperparameters"]["prox_quant"] == before


def test_a_record_is_of_one_data_set(tmp_path, capsys, monkeypatch):
    """Another file at the same path is other data; the same bytes elsewhere are the same."""
    whole = experiment_named("language_model")
    kept = {name: whole.methods[name] for name in ("binary_connect", "prox_quant_1")}
    few = dataclasses.replace(whole, methods=kept, claims=(), draw=None)
    monkeypatch.setitem(EXPERIMENTS, "language_model", few)
    monkeypatch.setattr(summary, "draw", lambda *a: [])
    text, out = tmp_path / "a.txt", tmp_path / "out"
    text.write_text("to be or not to be " * 500)
    command = ["experiment", "language_model", "--quick", "--only", "lstm64", "--jobs", "1"]
    command += ["--out", str(out)]
    assert cli.main([*command, "--seeds", "1", "--data", str(text)]) == 0
    records = {*(out / "records").glob("*.json")}
    same = tmp_path / "elsewhere.txt"
    same.write_bytes(text.read_bytes())
    assert cli.main([*command, "--seeds", "1", "--data", str(same)]) == 0
    assert {*(out / "records").glob("*.json")} == records
    text.write_text("that is the question: " * 500)
    for cached in (language_models._text, tasks._digest_of):  # as in a process of its own
        cached.cache_clear()
    capsys.readouterr()
    assert cli.main([*command, "--seeds", "2", "--data", str(text)]) == 2
    assert "holds other data of lstm64, and is kept" in capsys.readouterr().err


def test_a_worker_with_other_data_says_so(tmp_path):
    """Cells are described by what the data hold; on a cluster the path may hold something else."""
    chosen, text = experiment_named("language_model"), tmp_path / "a.txt"
    text.write_text("to be or not to be " * 500)
    setting = experiment.settings(chosen, quick=True)["lstm64"]
    cell = chosen.arguments("lstm64", FULL_PRECISION, 0, setting, {"lr": 0.1}, str(text))
    other = tmp_path / "b.txt"
    other.write_text("that is the question: " * 500)
    for train in (experiment.train, search.trial):
        with pytest.raises(OSError, match=r"b\.txt holds other data here"):
            train(chosen, str(other), **cell)


@pytest.mark.parametrize("content", ["{}", "[]", "{", '{"chosen": {}}'])
def test_the_report_of_a_search_must_be_one(content, small, tmp_path, capsys):
    arguments = small("regime_map", steps=33)[:-2]
    (tmp_path / "chosen").mkdir()
    file = tmp_path / "chosen" / "regime_map-w16-t300.json"
    file.write_text(content)
    assert cli.main([*arguments, "--out", str(tmp_path)]) == 2
    assert f"{file} must hold the report of a search, got " in capsys.readouterr().err


def test_every_stream_of_the_ledger_can_be_run(small, tmp_path, capsys):
    """It names the first one, whose number is 0, too."""
    arguments = small("binary_digits", steps=33, seeds=1)[:-2]
    assert cli.main([*arguments, "--stream", "0", "--out", str(tmp_path)]) == 0
    made = json.loads((tmp_path / "binary_digits-stream0-record.json").read_text("utf-8"))
    assert made["stream"] == made["tasks"]["mlp"]["search"]["stream"] == 0


def test_settings_and_tasks_are_frozen():
    for task in experiment_named("binary_digits").tasks.values():
        for part, name in (
            (task, "title"),
            (task.setting, "batch_size"),
            (task.quick, "batch_size"),
        ):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(part, name, 1)


def test_networks_of_the_regime_map():
    tasks = experiment_named("regime_map").tasks
    for width in (16, 128):
        sizes = [p.shape for p in tasks[f"w{width}-t300"].build(0, None).parameters()]
        assert sizes[0] == (width, 64) and sizes[-1] == (10,)


def test_what_searches_draw_from():
    """Ranges that contain the best: a search that is run anew draws the same."""
    spaces = {name: dict(method.space) for name, method in METHODS.items()}
    assert spaces["binary_relax"]["last"] == (10.0, 1e4)
    assert {space["lr"] for space in spaces.values()} == {spaces["binary_relax"]["lr"]}


def test_the_table_of_an_experiment_stands_in_columns(small, tmp_path, capsys):
    _, printed = run_small(small("methods", steps=9, seeds=1), tmp_path, capsys)
    lines = printed.splitlines()
    head = next(i for i, line in enumerate(lines) if line.endswith("time"))
    rows = [line for line in lines[head + 1 :] if line.endswith(" s") and "%" in line]
    assert len(rows) == 1 + len(experiment_named("methods").methods) and {
        len(row) for row in rows
    } == {len(lines[head])}


def test_packed_arrays_come_back_to_the_bit():
    rng = np.random.default_rng(0)
    arrays = {"w": rng.normal(size=(3, 4)).astype(np.float32), "n": np.array(7)}
    again = unpack(pack(arrays))
    assert list(again) == list(arrays)
    for name, array in arrays.items():
        assert again[name].dtype == array.dtype and again[name].tobytes() == array.tobytes()
    assert pack(arrays) == pack(again)


def test_claims_compare_paired_runs():
    methods = {"a": {"error": [1.0, 2.0, 3.0] * 2}, "b": {"error": [1.5, 2.6, 3.6] * 2}}
    claim = Claim("a is smaller", "a", "b", "error")
    assert claim.compare(methods).verdict == "supported"
    back = dataclasses.replace(claim, first="b", second="a")
    assert back.compare(methods).verdict == "contradicted"
    on_par = dataclasses.replace(back, margin=1.0)
    found = on_par.compare(methods)
    assert found.mean == pytest.approx(np.mean([1.5 - 2, 2.6 - 4, 3.6 - 6]))
    assert on_par.compare({**methods, "a": {"error": [2.0, 2.1, 2.4] * 2}}).verdict == "supported"


def homotopy(method, model, steps=99):
    chosen = {**METHODS, **ablation.EXPERIMENT.methods}[method]
    optimizer = chosen.optimizer(model, steps, prox.BinaryL1(), **chosen.default)
    return optimizer, [optimizer.lr * optimizer.homotopy(t) for t in range(steps)]


def test_schedules_of_the_relaxations():
    _, strengths = homotopy("binary_relax", models.MLP())
    assert math.isclose(strengths[0], 1) and math.isclose(strengths[-1], 100)
    optimizer, strengths = homotopy("parq", models.MLP())
    assert strengths[0] == 0 and math.isclose(strengths[-1], 98 / 99)
    assert isinstance(optimizer.regularizer, prox.Parq)


# The switches of the ablation -------------------------------------------------------------------


def test_an_epoch_of_the_ablation():
    setting = ablation.TASKS["mlp"].setting
    assert len(load_digits().train.x) // setting.batch_size == ablation.EPOCH


def test_zero_is_a_third_level():
    w = np.array([-0.5, -0.0, 0.0, 0.5])
    regularizer = ablation.ZeroSignL1()
    assert regularizer.project(w).tolist() == [-1, 0, 0, 1]
    assert regularizer.prox(w, 0.25).tolist() == [-0.75, 0, 0, 0.75]
    assert regularizer.prox(w, 9.0, out=w).tolist() == [-1, 0, 0, 1]
    assert prox.BinaryL1().project(np.zeros(1)).tolist() == [1]


def test_rebuilt_adam_is_a_new_adam_every_epoch():
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(2 * ablation.EPOCH + 5, 3))
    p, q = nn.Parameter(np.ones(3)), nn.Parameter(np.ones(3))
    rebuilt = ablation.RebuiltAdam([p], 0.1)
    for t, g in enumerate(gradients):
        if t % ablation.EPOCH == 0:
            new = Adam([q], 0.1)
        p.grad, q.grad = g, g
        rebuilt.step()
        new.step()
        assert p.data.tolist() == q.data.tolist()


def test_the_other_switches():
    model = models.MLP()
    corrected, strengths = homotopy("corrected", model)
    stepped, held = homotopy("stepped", model)
    assert held[: ablation.EPOCH] == [0.0] * ablation.EPOCH
    assert held[ablation.EPOCH :: ablation.EPOCH] == strengths[ablation.EPOCH :: ablation.EPOCH]
    assert len(set(held)) == 3
    unclipped, _ = homotopy("unclipped", model)
    assert (corrected.clip, stepped.clip, unclipped.clip) == (True, True, False)
    assert isinstance(homotopy("rebuilt", model)[0].base, ablation.RebuiltAdam)


def test_peeking_never_looks_worse(small, tmp_path, capsys):
    summary, _ = run_small(small("ablation"), tmp_path, capsys)
    methods = summary["tasks"]["mlp"]["methods"]
    for peeking, honest in zip(
        methods["peeking"]["test_error"], methods["validated"]["test_error"], strict=True
    ):
        assert peeking <= honest


def test_tasks_cannot_change():
    """They are shared by all experiments of a process."""
    task = experiment_named("binary_digits").tasks["mlp"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.measure = "loss"


# What becomes of the first and the last layer ---------------------------------------------------


def stepped(optimizer, model, x, y):
    """The parameters after three steps on the same batch."""
    for _ in range(3):
        optimizer.zero_grad()
        functional.cross_entropy(model(Tensor(x)), y).backward()
        optimizer.step()
    return {name: p.data for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", ["prox_quant", "binary_connect", "parq", "bop"])
def test_ends_in_full_precision_are_a_group(name):
    """To the bit what a wrapper of the inner layers alone does, as the experiment once made it."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 1, 8, 8)).astype(np.float32), rng.integers(0, 10, 8)
    ternary, steps, h = prox.TernaryL2(projection="threshold"), 3, METHODS[name].default
    plain, grouped = (models.ResNet(8, 2, 1, rng=0) for _ in range(2))
    inner = nn.quantizable_parameters(plain, first=False, last=False)
    base = Adam(plain.parameters(), h["lr"])
    rate = 2 * h.get("reach", 0) / (h["lr"] * steps * (steps - 1))
    wrapper = {
        "prox_quant": lambda: ProxGradient(base, inner, ternary, prox.Linear(rate), clip=True),
        "binary_connect": lambda: DualAveraging(base, inner, ternary, clip=True),
        "parq": lambda: DualAveraging(
            base, inner, prox.Parq(ternary), prox.Linear.to(1 / h["lr"], steps), clip=True
        ),
        "bop": lambda: Bop(base, inner, h["threshold"], h["adaptivity"]),
    }[name]()
    method = dataclasses.replace(METHODS[name], regularizer=ternary, ends=False)
    optimizer = method.optimizer(grouped, steps, prox.BinaryL1(), **h)
    assert len(optimizer.params) == len(inner) == 6
    assert repr(optimizer.regularizer) == repr(wrapper.regularizer)
    expected, found = stepped(wrapper, plain, x, y), stepped(optimizer, grouped, x, y)
    for path, array in expected.items():
        assert array.tobytes() == found[path].tobytes(), path
    quantize_and_freeze(optimizer)
    frozen = {path for path, p in grouped.named_parameters() if not p.requires_grad}
    assert frozen == {*inner}


def test_ends_of_another_set():
    """Mixed precision by the whole protocol: binary inside, ternary at the ends."""
    task, ternary = TASKS["mlp"], prox.TernaryL2()
    method = dataclasses.replace(METHODS["prox_quant"], ends=ternary)
    setting = dict(full_precision_steps=3, quantizing_steps=40, fine_tuning_steps=3, batch_size=32)
    h = {"lr": 0.01, "reach": 20.0}
    result = protocol.train(protocol.Cell(task, method, 0, setting, h, keep_weights=True))
    first, inner, last = (w for w in unpack(result["weights"]).values() if w.ndim == 2)
    assert np.unique(inner).tolist() == [-1, 1]
    for end in (first, last):
        assert len(np.unique(end)) <= 3 and np.array_equal(end, ternary.project(end))
    assert set(result["layers"]["change_from_start"]) == {f"layers.{i}.weight" for i in (0, 3, 6)}
    assert result["gap"] > 0 and json.dumps(result)


@pytest.mark.parametrize("ends", [False, prox.TernaryL2()], ids=repr)
@pytest.mark.parametrize("widths", [(64, 10), (64, 32, 10)])
def test_ends_that_are_all_layers_are_refused(ends, widths):
    method = dataclasses.replace(METHODS["prox_quant"], ends=ends)
    model = models.MLP(widths, rng=0)
    with pytest.raises(ValueError, match=r"between its first and its last one for ends=.*layers.0"):
        method.optimizer(model, 3, prox.BinaryL1(), **method.default)
    whole = dataclasses.replace(method, ends=True)
    assert whole.optimizer(model, 3, prox.BinaryL1(), **method.default).params
