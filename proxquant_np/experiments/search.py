"""The search for hyperparameters: the same number of trials for every method.

Each task and method has points of its own, that fill the space evenly (Halton's, scrambled). They
are measured on the validation split, from seeds that no measurement uses. What is chosen, and every
trial, is the report that `Task.found` reads.

A search repeated with another stream draws other points: whether a verdict survives that is part of
it. Reports of before drew at random, the same for all tasks, on two seeds; they have no "scheme".
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from proxquant_np import provenance
from proxquant_np.experiments import experiment as experiments
from proxquant_np.experiments.experiment import Experiment
from proxquant_np.experiments.protocol import FULL_PRECISION, rounded
from proxquant_np.experiments.runner import run_cells
from proxquant_np.experiments.tasks import FIXED, split_of
from proxquant_np.files import json_text, read_json, read_whole, written_whole

SCHEME = "Halton points"
SEEDS = (1000, 1001, 1002)  # not those of a measurement


def search(
    experiment: Experiment,
    task: str,
    trials: int,
    *,
    quick: bool = False,
    data: str | None = None,
    out: Path | None = None,
    stream: int = 0,
    **running: Any,
) -> dict[str, Any]:
    """Search with the same number of trials for every method, on the validation split.

    A trial is scored by its validation error (or perplexity), and by its loss where those are
    equal, averaged over SEEDS. A method that starts from another one's network starts from the best
    of its trials. The report holds what was chosen, every trial, the coordinates in which nothing
    was tried beyond the best on one side ("at_edge": its range may be too narrow), and what they
    were made with. running: arguments of `run_cells`; with `out`, records go there.
    """
    scored = f"validation_{experiment.tasks[task].measure}", "validation_loss"
    setting = experiments.settings(experiment, quick)[task]
    points = _points(experiment, task, trials, stream)
    part = f"-stream{stream}" if stream else ""
    log: dict[str, Any] = {}
    chosen: dict[str, Any] = {}
    made: list[Any] = []
    best: dict[str, dict[int, Any]] = {}  # method -> seed -> the result of its best trial
    for method, own in points.items():
        hyperparameters = [_hyperparameters(experiment, method, point, setting) for point in own]
        cells = {
            f"{task}-{method}{part}-{i}-seed{seed}": experiment.arguments(
                task, method, seed, setting, h, data
            )
            for i, h in enumerate(hyperparameters)
            for seed in SEEDS
        }
        if method != FULL_PRECISION:
            start = best[experiment.methods[method].start]
            for cell in cells.values():
                cell["start"] = start[cell["seed"]]["weights"]
        function = functools.partial(trial, experiment)
        results = run_cells(function, cells, out=out, resumable=True, description=method, **running)
        made += results.made.values()
        of_all, n = list(results.values()), len(SEEDS)  # trial by trial, in each seed by seed
        runs = [of_all[i : i + n] for i in range(0, len(of_all), n)]
        log[method] = [
            {**point, **h, **_score(by_seed, scored)}
            for point, h, by_seed in zip(own, hyperparameters, runs, strict=True)
        ]
        i = _best(log[method], scored)
        if "failed" in log[method][i]:
            raise ValueError(f"every trial of {method} failed, the last one: {log[method][-1]}")
        chosen[method], best[method] = hyperparameters[i], dict(zip(SEEDS, runs[i], strict=True))
    at_edge = {method: _at_edge(log[method], own, scored) for method, own in points.items()}
    return {
        "chosen": chosen,
        "scheme": SCHEME,
        "stream": stream,
        "at_edge": at_edge,
        "space": {method: experiment.space(method) for method in points},
        "seeds": SEEDS,
        "task": experiment.tasks[task].title,
        "setting": setting,
        **experiment.tasks[task].source(*filter(None, [data])),
        "environment": provenance.environment(),
        "runs": provenance.grouped(made),
        "trials": log,
    }


def _points(
    experiment: Experiment, task: str, trials: int, stream: int
) -> dict[str, list[dict[str, float]]]:
    """For each method that is searched, points of its space, even in their logarithms."""
    from scipy.stats import qmc  # here: it is slow to import

    methods = [FULL_PRECISION, *(name for name, m in experiment.methods.items() if not m.shares)]
    points = {}
    for method in methods:
        space = experiment.space(method)
        name = f"{experiment.name} {task} {method}".encode()
        halton = qmc.Halton(len(space), rng=np.random.default_rng([stream, *name]))
        low, high = np.log(np.array([*space.values()]).T)
        drawn = np.exp(low + (high - low) * halton.random(trials))
        points[method] = [
            {
                key: float(np.clip(rounded(x), *space[key]))
                for key, x in zip(space, row, strict=True)
            }
            for row in drawn
        ]
    return points


def _hyperparameters(
    experiment: Experiment, method: str, point: Mapping[str, float], setting: Mapping[str, Any]
) -> dict[str, float]:
    if method == FULL_PRECISION:
        return dict(point)
    return experiment.methods[method].hyperparameters(point, setting["quantizing_steps"])


def _at_edge(
    log: list[dict[str, Any]], points: list[dict[str, float]], scored: Iterable[str]
) -> dict[str, str]:
    """The coordinates in which the best trial is the "lowest" or the "highest" of all."""
    i = _best(log, scored)
    found = {}
    for name, value in points[i].items():
        tried = sorted(point[name] for point in points)
        if len({*tried}) > 1 and value in (tried[0], tried[-1]):
            found[name] = "lowest" if value == tried[0] else "highest"
    return found


def _best(log: list[dict[str, Any]], scored: Iterable[str]) -> int:
    return min(range(len(log)), key=lambda i: [_or_worst(log[i].get(k)) for k in scored])


def write_search(
    experiment: Experiment, task: str, trials: int, path: Path, **options: Any
) -> Path:
    """Search, and write the report to `path`, which is returned.

    Raises:
        FileExistsError: the file holds a search on other data or with another setting.
        OSError: the file cannot be written. Both are raised before the search begins.
    """
    _check_kept(experiment, task, path, options)
    with written_whole(path) as file:  # opened first, so as not to fail at the end
        report = search(experiment, task, trials, **options)
        file.write(json_text(report, path).encode())
    return path


def _check_kept(experiment: Experiment, task: str, path: Path, options: Mapping[str, Any]) -> None:
    """A search on one's own text, say, must not replace the one that the experiment reads."""
    try:
        held = read_json(read_whole(path))
        setting = experiments.settings(experiment, options.get("quick", False))[task]
        source = experiment.tasks[task].source(*filter(None, [options.get("data")]))
        other = [
            held[kind]["name"] for kind in source if held[kind]["name"] != source[kind]["name"]
        ]
        if {**setting, "split": split_of(held["setting"])} != {"split": FIXED, **held["setting"]}:
            other.append("another setting")  # other than a split that was fixed then
    except (OSError, ValueError, KeyError, TypeError):
        return  # there is no search yet, or none that is whole
    if other:
        raise FileExistsError(
            f"{path} holds a search on {other[0]}, and is kept: choose another --out"
        )


def trial(experiment: Experiment, /, **arguments: Any) -> dict[str, Any]:
    """A cell of a search: as `experiments.train`, but divergence is a result, too."""
    try:
        return experiments.train(experiment, **arguments)
    except (FloatingPointError, ValueError) as error:
        return {"failed": str(error)}


def _score(runs: list[Mapping[str, Any]], names: Iterable[str]) -> dict[str, Any]:
    """The means over the runs, or the reason why one failed."""
    for run in runs:
        if "failed" in run:
            return {"failed": run["failed"]}
    return {name: round(float(np.mean([run[name] for run in runs])), 6) for name in names}


def _or_worst(score: float | None) -> float:
    return math.inf if score is None else score
