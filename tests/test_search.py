"""Searches on objectives whose best point is known: where ranges grow, and successive halving."""

import dataclasses
import json
import math

import numpy as np
import pytest

from proxquant_np import cli
from proxquant_np.experiments import search
from proxquant_np.experiments.catalog import EXPERIMENTS, experiment_named
from proxquant_np.experiments.protocol import FULL_PRECISION, METHODS
from proxquant_np.experiments.search import EXTENSIONS, FACTOR, HALVING, SEEDS

LAZY, EAGER = METHODS["binary_connect"], METHODS["prox_quant"]


def bowl(lr, mean_lambda=1.0, best=(1e-2, 1.0)):
    """Least at `best`, in the logarithms."""
    return math.log(lr / best[0]) ** 2 + math.log(mean_lambda / best[1]) ** 2


def planted(value, runs=None):
    """Two methods whose validation error is `value` of (cell, lr, mean lambda); no network."""

    def train(cell, checkpoint, deadline):
        h, steps = cell.hyperparameters, cell.setting["quantizing_steps"]
        strength = {}
        if cell.method is EAGER:
            strength = {"mean_lambda": h["reach"] / (h["lr"] * steps)}
        if runs is not None:
            runs.append((cell, steps))
        error = value(cell, h["lr"], **strength)
        return {"validation_error": error, "validation_loss": 0.0, "weights": "w"}

    whole = experiment_named("regime_map")
    return dataclasses.replace(whole, train=train)


def searched(experiment, trials=16, **options):
    return search.search(experiment, "w16-t300", trials, jobs=1, progress=False, **options)


def test_a_best_inside_extends_nothing():
    report = searched(planted(lambda cell, *point, **rest: bowl(*point, **rest)))
    assert report["extended"] == {} and not any(report["at_edge"].values())
    assert {len(trials) for trials in report["trials"].values()} == {16}
    for method, chosen in report["chosen"].items():
        assert 0.003 < chosen["lr"] < 0.03, method
    assert "halving" not in report and "rungs" not in report["trials"]["prox_quant"][0]


@pytest.mark.parametrize(("best", "end"), [((0.4, 1.0), "highest"), ((2e-5, 1.0), "lowest")])
def test_a_range_grows_until_the_best_is_inside(best, end):
    """That of one method alone; the other gets as many trials, within its own range."""

    def value(cell, *point, **rest):
        return bowl(*point, **rest, best=best if cell.method is EAGER else (1e-2, 1.0))

    report = searched(planted(value))
    assert report["space"]["prox_quant"]["lr"] == (1e-4, 1e-1)
    low, high = report["extended"]["prox_quant"]["lr"]
    assert low < best[0] < high and (low, high)[end == "lowest"] == (1e-4, 1e-1)[end == "lowest"]
    assert "lr" not in report["at_edge"]["prox_quant"]
    trials = report["trials"]
    numbers = {method: len(own) for method, own in trials.items()}
    assert numbers[FULL_PRECISION] == 16  # it is searched before, and its best was inside
    assert numbers["binary_connect"] == numbers["prox_quant"] > 16
    assert list(report["extended"]) == ["prox_quant"]
    assert all(1e-4 <= trial["lr"] <= 1e-1 for trial in trials["binary_connect"])
    added = trials["prox_quant"][16:20]  # where the range grew, and nowhere else
    assert all(trial["lr"] < 1e-4 or trial["lr"] > 1e-1 for trial in added)
    assert bowl(report["chosen"]["prox_quant"]["lr"], best=best) < 3  # 16 points are coarse


def test_a_range_does_not_grow_for_ever():
    report = searched(planted(lambda cell, lr, mean_lambda=1.0: 1 / lr))
    for method in report["trials"]:
        assert report["at_edge"][method]["lr"] == "highest"
        assert report["space"][method]["lr"][1] * FACTOR**EXTENSIONS == pytest.approx(
            report["extended"][method]["lr"][1]
        )
        assert len(report["trials"][method]) == 16 + EXTENSIONS * 4


def test_points_come_in_the_same_order_whatever_is_added():
    inside = searched(planted(lambda cell, *point, **rest: bowl(*point, **rest)))
    beyond = searched(planted(lambda cell, lr, mean_lambda=1.0: 1 / lr))
    for method, trials in inside["trials"].items():
        for one, other in zip(trials, beyond["trials"][method], strict=False):
            assert one["lr"] == other["lr"]


def noisy(cell, *point, **rest):
    """A short run sees the bowl through noise, which is less in longer ones."""
    steps = cell.setting["quantizing_steps"]
    rng = np.random.default_rng([cell.seed, *(int(1e9 * x) for x in (*point, *rest.values()))])
    return bowl(*point, **rest) + 60 / math.sqrt(steps) * rng.normal()


@pytest.mark.parametrize("stream", range(4))
def test_halving_finds_what_the_whole_search_finds_for_half_the_work(stream, monkeypatch):
    """As good a point up to noise, for less than half the steps; every rung is in the report."""
    monkeypatch.setattr(search, "EXTENSIONS", 0)
    work, found = {}, {}
    for halving in (False, True):
        runs = []
        report = searched(planted(noisy, runs), 32, halving=halving, stream=stream)
        work[halving] = sum(steps for cell, steps in runs if cell.method is EAGER)
        h = report["chosen"]["prox_quant"]
        found[halving] = bowl(h["lr"], h["reach"] / (300 * h["lr"]))
        trials = report["trials"]["prox_quant"]
        assert len(trials) == 32
        if halving:
            assert report["halving"] == [rung._asdict() for rung in HALVING]
            assert sorted(len(t["rungs"]) for t in trials) == [1] * 16 + [2] * 8 + [3] * 8
            for t in trials:
                assert ("validation_error" in t) == (len(t["rungs"]) == 3)
                last = t["rungs"][2] if len(t["rungs"]) == 3 else {}
                assert last.items() <= t.items()
        else:
            assert all("validation_error" in t for t in trials)
    assert work[True] == 32 * 75 + 16 * 150 + 8 * 300 * SEEDS
    assert work[True] < 0.45 * work[False]
    assert found[True] <= found[False] + 3


def test_each_rung_keeps_the_better_half_and_the_mean_lambda():
    runs = []
    report = searched(planted(noisy, runs), halving=True)
    trials = report["trials"]["prox_quant"]
    for rung in (0, 1):
        left = [t["rungs"] for t in trials if len(t["rungs"]) > rung]
        stay = [r[rung]["validation_error"] for r in left if len(r) > rung + 1]
        go = [r[rung]["validation_error"] for r in left if len(r) == rung + 1]
        assert max(stay) <= min(go)
    of_steps = {}
    for cell, steps in runs:
        if cell.method is EAGER:
            h = cell.hyperparameters
            of_steps.setdefault(steps, {})[h["lr"]] = h["reach"] / (h["lr"] * steps)
            assert cell.start == "w"
    assert list(of_steps) == [75, 150, 300]
    for lr, strength in of_steps[300].items():
        assert of_steps[75][lr] == pytest.approx(strength, rel=1e-2)
        assert of_steps[150][lr] == pytest.approx(strength, rel=1e-2)
    of_warm = [cell.setting["full_precision_steps"] for cell, _ in runs if cell.method is None]
    assert set(of_warm) == {500, 1000, 2000}


def test_halving_is_misled_by_short_runs_and_shows_it():
    """Where short runs prefer the other end: the report has both orders."""

    def value(cell, lr, mean_lambda=1.0):
        short = cell.setting["quantizing_steps"] < 300
        return abs(math.log(lr / (1e-3 if short else 2e-2)))

    whole, halved = (searched(planted(value), halving=halving) for halving in (False, True))
    assert halved["chosen"]["binary_connect"]["lr"] < whole["chosen"]["binary_connect"]["lr"] / 2
    last = [t["rungs"] for t in halved["trials"]["binary_connect"] if len(t["rungs"]) == 3]
    assert {len(r) for r in last} == {3} and all(
        r[0]["validation_error"] != r[2]["validation_error"] for r in last
    )


def test_what_fails_goes_first():
    """And a search in which all fail says so."""

    def value(cell, lr, mean_lambda=1.0):
        if lr > 1e-3 and cell.method is not None:
            raise FloatingPointError("the loss is nan")
        return bowl(lr)

    for halving in (False, True):
        report = searched(planted(value), halving=halving)
        assert report["chosen"]["binary_connect"]["lr"] <= 1e-3
        failed = [t for t in report["trials"]["binary_connect"] if t["lr"] > 1e-3]
        for t in failed:
            assert t.get("failed", t.get("rungs", [{}])[-1].get("failed")) == "the loss is nan"

    def fails(cell, lr, mean_lambda=1.0):
        if cell.method is LAZY:
            raise FloatingPointError("the loss is nan")
        return bowl(lr)

    with pytest.raises(ValueError, match="every trial of binary_connect failed, the last one"):
        searched(planted(fails), 4)


@pytest.mark.parametrize("halving", [False, True])
def test_an_interrupted_search_goes_on(halving, tmp_path):
    """What was run is not run again, and the report is that of a search in one go."""

    def value(cell, *point, **rest):
        return bowl(*point, **rest, best=(0.4, 1.0))

    whole = searched(planted(value), 4, halving=halving)
    runs, stop = [], 25

    def interrupted(cell, *point, **rest):
        if len(runs) > stop:
            raise KeyboardInterrupt
        return value(cell, *point, **rest)

    with pytest.raises(KeyboardInterrupt):
        searched(planted(interrupted, runs), 4, halving=halving, out=tmp_path)
    before = len(list(tmp_path.glob("*.json")))
    runs.clear()
    report = searched(planted(value, runs), 4, halving=halving, out=tmp_path)
    assert before == stop and len(runs) + before == len(list(tmp_path.glob("*.json")))
    for part in ("chosen", "trials", "extended", "at_edge"):
        assert report[part] == whole[part]
    runs.clear()
    assert searched(planted(value, runs), 4, halving=halving, out=tmp_path) == report and not runs


def test_the_command_tells_what_was_extended(tmp_path, monkeypatch, capsys):
    experiment = planted(lambda cell, lr, mean_lambda=1.0: 1 / lr)
    monkeypatch.setitem(EXPERIMENTS, "regime_map", experiment)
    command = ["experiment", "regime_map", "--search", "--halving", "--trials", "4", "--jobs", "1"]
    assert cli.main([*command, "--only", "w16-t300", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "the range of lr of binary_connect was extended to 0.0001..100" in printed
    assert "the best lr of binary_connect is the highest that was tried" in printed
    (file,) = (tmp_path / "chosen").glob("*.json")
    report = json.loads(file.read_text("utf-8"))
    assert [rung["steps"] for rung in report["halving"]] == [0.25, 0.5, 1.0]
