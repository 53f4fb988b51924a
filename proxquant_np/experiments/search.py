"""The search for hyperparameters: the same number of random trials for every method.

Trials are measured on the validation split, from seeds that no measurement uses. What is chosen,
and every trial, is the report that `Task.found` reads.
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
from proxquant_np.experiments.protocol import FULL_PRECISION
from proxquant_np.experiments.runner import run_cells
from proxquant_np.files import json_text, read_json, read_whole, written_whole

SEEDS = (1000, 1001)  # not those of a measurement


def search(
    experiment: Experiment,
    task: str,
    trials: int,
    *,
    quick: bool = False,
    data: str | None = None,
    out: Path | None = None,
    **running: Any,
) -> dict[str, Any]:
    """Random search with the same number of trials for every method, on the validation split.

    A trial is scored by its validation error (or perplexity), and by its loss where those are
    equal, averaged over SEEDS. Draws come from a fixed seed. A method that starts from another
    one's network starts from the best of its trials. The report holds what was chosen, every trial,
    and what they were made with. running: arguments of `run_cells`; with `out`, records go there.
    """
    scored = f"validation_{experiment.tasks[task].measure}", "validation_loss"
    setting = experiments.settings(experiment, quick)[task]
    draws = _draws(experiment, trials)
    log: dict[str, Any] = {}
    chosen: dict[str, Any] = {}
    made: list[Any] = []
    best: dict[str, dict[int, Any]] = {}  # method -> seed -> the result of its best trial
    for method, hyperparameters in draws.items():
        cells = {
            f"{task}-{method}-{i}-seed{seed}": experiment.arguments(
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
        of_all = list(results.values())  # trial by trial, in each seed by seed
        runs = [of_all[i : i + len(SEEDS)] for i in range(0, len(of_all), len(SEEDS))]
        log[method] = [
            {**h, **_score(by_seed, scored)}
            for h, by_seed in zip(hyperparameters, runs, strict=True)
        ]
        i = min(range(trials), key=lambda i: [_or_worst(log[method][i].get(k)) for k in scored])
        if "failed" in log[method][i]:
            raise ValueError(f"every trial of {method} failed, the last one: {log[method][-1]}")
        chosen[method], best[method] = hyperparameters[i], dict(zip(SEEDS, runs[i], strict=True))
    return {
        "chosen": chosen,
        "space": {method: experiment.space(method) for method in draws},
        "seeds": SEEDS,
        "task": experiment.tasks[task].title,
        "setting": setting,
        **experiment.tasks[task].source(*filter(None, [data])),
        "environment": provenance.environment(),
        "runs": provenance.grouped(made),
        "trials": log,
    }


def _draws(experiment: Experiment, trials: int) -> dict[str, list[dict[str, float]]]:
    """For each method that is searched, the hyperparameters of its trials, drawn log-uniformly."""
    rng = np.random.default_rng(0)
    methods = [FULL_PRECISION, *(name for name, m in experiment.methods.items() if not m.shares)]
    return {
        method: [
            {
                name: float(f"{math.exp(rng.uniform(*np.log(ends))):.3g}")
                for name, ends in experiment.space(method).items()
            }
            for _ in range(trials)
        ]
        for method in methods
    }


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
        if held["setting"] != setting:
            other.append("another setting")
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
