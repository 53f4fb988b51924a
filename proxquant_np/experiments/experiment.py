"""Experiments: what one is made of, how it is run, searched and summed up.

An experiment is a grid of tasks, methods and seeds, and the claims it was made for. Its module
defines it as EXPERIMENT; the module's name is its own.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from proxquant_np import provenance
from proxquant_np.checks import check_choice
from proxquant_np.data.download import Download, fetch
from proxquant_np.experiments import protocol
from proxquant_np.experiments.protocol import (
    FULL_PRECISION,
    FULL_PRECISION_DEFAULT,
    FULL_PRECISION_SPACE,
    Cell,
    Method,
)
from proxquant_np.experiments.runner import run_cells, write_text
from proxquant_np.experiments.statistics import Comparison, compare
from proxquant_np.experiments.tasks import Task
from proxquant_np.files import json_text, read_json, read_whole, written_whole

SEARCH_SEEDS = (1000, 1001)  # not those of a measurement
POINTS = 24  # of a curve over epochs that a summary keeps


@dataclass(frozen=True)
class Claim:
    """`text` says that `first` is smaller than `second` in `measure` (a key of the results).

    With `margin`, that `first` is at most that fraction larger: "on par". `source` is who claims
    it. `tasks` are those it is tested on, by default all of its experiment.

    Examples:
        >>> from proxquant_np.experiments.experiment import Claim
        >>> errors = {"eager": {"error": [1.0, 2, 3, 4, 5]}, "lazy": {"error": [3.0, 4, 6, 6, 9]}}
        >>> Claim("eager errs less", "eager", "lazy", "error").compare(errors).verdict
        'supported'
    """

    text: str
    first: str
    second: str
    measure: str
    source: str = "paper"
    margin: float = 0.0
    tasks: tuple[str, ...] = ()

    def is_held(self, methods: Mapping[str, Mapping[str, Any]]) -> bool:
        """Whether a task's part of a summary has what is compared."""
        return all(self.measure in methods.get(name, ()) for name in (self.first, self.second))

    def compare(self, methods: Mapping[str, Mapping[str, Any]]) -> Comparison:
        """The paired comparison, from a task's part of a summary."""
        first, second = (
            np.array(methods[name][self.measure], float) for name in (self.first, self.second)
        )
        return compare(first, second * (1 + self.margin))


@dataclass(frozen=True)
class Experiment:
    """A grid of tasks x methods x seeds.

    `tasks` are also called settings: a network, its data and how long it is trained; `measured` are
    those that count, by default all. `train` is `protocol.train` or a function with its signature,
    of a Cell and its files. `data` says what --data must name, if
    anything; with `needs_data` the experiment cannot do without it; `download` gets it. `draw`
    makes more figures of a finished summary, at a path without suffix or with more behind it, and
    returns their paths. `grid` is what rows and columns are, if settings are named ROW-COLUMN: a
    table of them is short.
    """

    name: str
    title: str
    tasks: Mapping[str, Task]
    methods: Mapping[str, Method]
    claims: tuple[Claim, ...]
    seeds: int = 10
    measured: tuple[str, ...] = ()
    train: Callable[..., dict[str, Any]] = protocol.train
    data: str | None = None
    needs_data: bool = False
    download: Download | None = None
    draw: Callable[[Mapping[str, Any], Path], list[Path]] | None = None
    grid: tuple[str, str] | None = None

    def hyperparameters(self, task: str, method: str) -> dict[str, float]:
        """Those that a search chose for this task, else the method's own."""
        default: Mapping[str, float] = FULL_PRECISION_DEFAULT
        if method != FULL_PRECISION:
            default = self.methods[method].default
            method = self.methods[method].shares or method
        return dict(self.tasks[task].hyperparameters().get(method, default))

    def space(self, method: str) -> Mapping[str, tuple[float, float]]:
        """The ends between which a search draws each hyperparameter."""
        return FULL_PRECISION_SPACE if method == FULL_PRECISION else self.methods[method].space

    def cell(self, task: str, method: str, **rest: Any) -> Cell:
        """The cell that a record describes: here names become the objects that they name.

        Raises:
            ValueError: the experiment has no task or no method of that name.
        """
        check_choice("task", task, self.tasks)
        check_choice("method", method, (FULL_PRECISION, *self.methods))
        return Cell(self.tasks[task], self.methods.get(method), **rest)


def train(
    chosen: Experiment,
    experiment: str,
    checkpoint: str | None = None,
    deadline: float | None = None,
    **described: Any,
) -> dict[str, Any]:
    """Run the cell of `chosen` that a record's arguments describe; its result.

    Raises:
        ValueError: a description of a cell of another experiment.
    """
    check_choice("experiment", experiment, (chosen.name,))
    return chosen.train(chosen.cell(**described), checkpoint, deadline)


def downloaded(experiment: Experiment, data: Path | None) -> Path:
    """--data, by default the name it has at its source, got from there unless it is there already.

    Raises:
        ValueError: the experiment names no source.
        OSError: no such folder, or as `fetch` says; nothing is left behind.
    """
    wanted = experiment.download
    if wanted is None:
        raise ValueError(f"{experiment.name} has nothing to --download")
    path = data or Path(wanted.url.rpartition("/")[-1])
    if not path.exists():
        with written_whole(path) as file:
            fetch(wanted, file)
    return path


def checked_data(experiment: Experiment, data: str | Path | None) -> str | None:
    """The absolute path of --data, if the experiment takes or needs it and can read it.

    Raises:
        ValueError: data that are needed and not given, or given and not taken, or of a wrong kind.
        FileNotFoundError: there are none at that place.
    """
    if data is None:
        if experiment.needs_data:
            raise ValueError(f"{experiment.name} needs --data: {experiment.data}")
        return None
    if experiment.data is None:
        raise ValueError(f"{experiment.name} takes no --data, got {data}")
    path = str(Path(data).resolve())
    next(iter(experiment.tasks.values())).load(path)
    return path


def checked_tasks(experiment: Experiment, tasks: Iterable[str] | None) -> list[str]:
    """These tasks of the experiment, by default those that count; ValueError for unknown ones."""
    names = list(tasks or experiment.measured or experiment.tasks)
    if unknown := [name for name in names if name not in experiment.tasks]:
        raise ValueError(
            f"{experiment.name} has no setting {unknown[0]!r}; there are "
            + ", ".join(experiment.tasks)
        )
    return names


def _cell(
    experiment: Experiment,
    task: str,
    method: str,
    seed: int,
    setting: Mapping[str, Any],
    hyperparameters: Mapping[str, float],
    data: str | None,
) -> dict[str, Any]:
    cell: dict[str, Any] = dict(
        experiment=experiment.name,
        task=task,
        method=method,
        seed=seed,
        setting=dict(setting),
        hyperparameters=dict(hyperparameters),
    )
    if data is not None:
        cell["data"] = data
    if method in {FULL_PRECISION, *(m.start for m in experiment.methods.values())}:
        cell["keep_weights"] = True
    return cell


def settings(experiment: Experiment, quick: bool) -> dict[str, dict[str, Any]]:
    """The setting of each task, as JSON holds it."""
    tasks = experiment.tasks.items()
    return {name: asdict(task.quick if quick else task.setting) for name, task in tasks}


def run(
    experiment: Experiment,
    seeds: int,
    out: Path,
    *,
    tasks: Iterable[str],
    quick: bool = False,
    data: str | None = None,
    **running: Any,
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Run (or read) every cell for seeds 0..seeds-1: task -> method -> the results by seed, each
    with the "environment" it was made with.

    running: of `run_cells`, jobs and so on.
    """
    cells, starts, methods = {}, {}, [FULL_PRECISION, *experiment.methods]
    names, setting = list(tasks), settings(experiment, quick)
    for seed in range(seeds):  # seed by seed, so that a part of the grid is a part of the seeds
        for task in names:
            for method in methods:
                name = f"{task}-{method}-seed{seed}"
                h = experiment.hyperparameters(task, method)
                cells[name] = _cell(experiment, task, method, seed, setting[task], h, data)
                if method != FULL_PRECISION:
                    starts[name] = f"{task}-{experiment.methods[method].start}-seed{seed}"
    results = run_cells(
        functools.partial(train, experiment),
        cells,
        out=out / "records",
        starts=starts,
        resumable=True,
        description=experiment.name,
        **running,
    )
    return {
        task: {
            method: [
                {**results[name], "environment": results.made[name]}
                for name in (f"{task}-{method}-seed{seed}" for seed in range(seeds))
            ]
            for method in methods
        }
        for task in names
    }


def summary(
    experiment: Experiment,
    results: Mapping[str, Mapping[str, list[Mapping[str, Any]]]],
    quick: bool,
) -> dict[str, Any]:
    """What is kept of a finished run: figures by seed, curves as means over the seeds, thinned.

    `environment` is that of the summing up; "runs" says how many are from which.
    """
    setting, tasks = settings(experiment, quick), {}
    for name, methods in results.items():
        task, first = experiment.tasks[name], next(iter(methods.values()))[0]
        tasks[name] = {
            "title": task.title,
            "measure": f"test_{task.measure}",
            "setting": setting[name],
            **{key: first[key] for key in ("text", "images") if key in first},
            "hyperparameters": {m: experiment.hyperparameters(name, m) for m in methods},
            "methods": {method: _summed_up(runs) for method, runs in methods.items()},
        }
    seeds = len(next(iter(next(iter(results.values())).values())))
    return {
        "experiment": experiment.name,
        "quick": quick,
        "seeds": seeds,
        "environment": provenance.environment(),
        "runs": made_with(results),
        "tasks": tasks,
    }


def made_with(results: Mapping[str, Mapping[str, list[Mapping[str, Any]]]]) -> list[dict[str, Any]]:
    """How many of the runs were made with what, as `provenance.grouped` says it."""
    return provenance.grouped(
        run.get("environment")
        for methods in results.values()
        for runs in methods.values()
        for run in runs
    )


def runs_of(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How many runs of a summary were made with what; an old one tells only how many there are."""
    if "runs" in result:
        return list(result["runs"])
    methods = (method for task in result["tasks"].values() for method in task["methods"].values())
    n = sum(len(next(iter(figures.values()))) for figures in methods)  # each figure is by seed
    return [{"runs": n, "environment": None}]


def said_of_runs(groups: list[dict[str, Any]]) -> list[str]:
    """Lines for a table: what the runs were made with, and what to do if it was other code."""
    lines = provenance.described(groups)
    if any(not provenance.is_same_code(group["environment"] or {}) for group in groups):
        lines.append("Some were made by other code than this: --rerun stale runs them again.")
    return lines


def keep_summary(
    path: Path,
    held: Callable[[Any], tuple[int, Mapping[str, Any]]],
    seeds: int,
    settings: Mapping[str, Any],
) -> None:
    """FileExistsError if a summary of so many seeds with these settings would not hold all that
    the one at `path` does: (its seeds, its settings) = held(summary).
    """
    try:
        found, others = held(read_json(read_whole(path)))
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return  # there is none, or none that is whole
    lost = [name for name, setting in others.items() if settings.get(name) != setting]
    if lost or found > seeds:
        what = f"another setting of {lost[0]}" if lost else f"{found} of what {seeds} are asked for"
        raise FileExistsError(
            f"{path} holds {what}, and is kept: choose another --out, or ask for as much"
        )


def check_out(experiment: Experiment, out: Path, seeds: int, tasks: list[str], quick: bool) -> None:
    """FileExistsError if out/EXPERIMENT-record.json holds what this run would not."""
    setting = settings(experiment, quick)
    keep_summary(
        out / f"{experiment.name}-record.json",
        lambda held: (
            held["seeds"],
            {name: [held["quick"], task["setting"]] for name, task in held["tasks"].items()},
        ),
        seeds,
        {name: [quick, setting[name]] for name in tasks},
    )


def _summed_up(runs: list[Mapping[str, Any]]) -> dict[str, Any]:
    figures = {
        key: [_short(run[key]) for run in runs]
        for key, value in runs[0].items()
        if isinstance(value, int | float)
    }
    curves = {
        name: _thinned([run["epochs"][name] for run in runs])
        for name in ("quantized_error", "quantized_loss", "change_from_start")
        + ("change_from_last_epoch", "quantization_gap", "validation_error")
        if name in runs[0]["epochs"]
    }
    layers = {
        kind: {layer: _thinned([run["layers"][kind][layer] for run in runs]) for layer in by_layer}
        for kind, by_layer in runs[0].get("layers", {}).items()
    }
    epochs = [len(v) for v in list(runs[0]["epochs"].values())[:1]]
    at = _kept(epochs[0]).tolist() if epochs and epochs[0] else []
    return {**figures, "epochs": [n + 1 for n in at], "curves": curves, "layers": layers}


def _kept(n: int) -> np.ndarray:
    return np.unique(np.linspace(0, n - 1, min(n, POINTS)).round().astype(int))


def _thinned(curves: list[list[float]]) -> list[float | None]:
    mean = np.array(curves, float).mean(axis=0)
    return [_short(v) for v in mean[_kept(len(mean))]] if len(mean) else []


def _short(value: Any) -> Any:
    """Six significant digits: a record that is read, compared and committed."""
    return value if not isinstance(value, float) else float(f"{value:.6g}")


def write_summary(result: Mapping[str, Any], out: Path) -> Path:
    """Write the summary to out/EXPERIMENT-record.json; its path."""
    path = out / f"{result['experiment']}-record.json"
    out.mkdir(parents=True, exist_ok=True)
    write_text(path, json_text(result, path))
    return path


def table(experiment: Experiment, result: Mapping[str, Any]) -> str:
    """A summary as text: the methods of each task, then what became of the claims there."""
    lines = []
    for name, task in result["tasks"].items():
        measure = task["measure"]
        lines += [
            f"{task['title']} ({name}), {result['seeds']} paired seeds",
            f"{'':44}{measure.replace('_', ' '):>24}{'signs changed':>15}{'flips a step':>14}"
            f"{'time a run':>12}",
        ]
        for method, s in task["methods"].items():
            label = "full precision (the warm start)"
            if method != FULL_PRECISION:
                label = experiment.methods[method].label
            scale, unit = (1, "") if measure.endswith("perplexity") else (100, "%")
            mean, std = (
                scale * np.mean(s[measure]),
                scale * np.std(s[measure], ddof=1 % len(s[measure])),
            )
            shown = "".join(
                f"{'' if s.get(key) is None or None in s[key] else format(np.mean(s[key]), f):>{w}}"
                for key, f, w in (("sign_change", ".1%", 15), ("flip_rate", ".4%", 14))
            )
            value = f"{mean:.2f}{unit} +- {std:.2f}{unit}"
            lines.append(f"{label:44}{value:>24}{shown}{np.mean(s['seconds']):>10.1f} s")
        for claim in experiment.claims:
            if not claim.tasks or name in claim.tasks:
                found = claim.compare(task["methods"])
                interval = f"{found.mean:+.4g} [{found.low:+.4g}, {found.high:+.4g}]"
                lines.append(f'  "{claim.text}": {interval}, {found.verdict}')
        lines.append("")
    lines += said_of_runs(result.get("runs", []))
    if result["quick"]:
        lines.append("This was --quick, which is too short to conclude anything.")
    return "\n".join(line.rstrip() for line in lines).rstrip()


def draw(experiment: Experiment, result: Mapping[str, Any], path: Path) -> list[Path]:
    """Draw a summary: the claims' intervals at `path`, which has no suffix, and the experiment's
    own figures, at this path with more behind it; the paths of the pictures. What holds nothing
    that is claimed has none.
    """
    from proxquant_np import plotting  # here: matplotlib is slow to import, the workers need none

    pairs = [
        (name, claim)
        for name, task in result["tasks"].items()
        for claim in experiment.claims
        if name in (claim.tasks or [name]) and claim.is_held(task["methods"])
    ]
    if not pairs:
        return []
    title, label = experiment.title, "{1.text}"
    if len({name for name, _ in pairs}) > 1:  # what all rows have in common is not said in each
        title, label = (
            (pairs[0][1].text, "{0}") if len(experiment.claims) == 1 else (title, "{1.text} ({0})")
        )
    rows = []
    for name, claim in pairs:
        methods = result["tasks"][name]["methods"]
        found = claim.compare(methods)
        # In units of the second's mean, so that errors and perplexities share an axis.
        unit = float(np.mean(methods[claim.second][claim.measure])) or 1.0
        ends = {k: getattr(found, k) / unit for k in ("mean", "low", "high")}
        rows.append(
            {
                "label": label.format(name, claim),
                "verdict": found.verdict,
                **{k: None if math.isinf(v) else v for k, v in ends.items()},
            }
        )
    texts = [task["text"]["name"] for task in result["tasks"].values() if "text" in task]
    title = ", ".join([title, *texts[:1], f"{result['seeds']} seeds"])
    data = {"title": title, "rows": rows, "runs": runs_of(result)}
    plotting.save_figure(plotting.differences(data), data, path)
    own = [] if experiment.draw is None else experiment.draw(result, path)
    return [path.with_suffix(".png"), *own]


# The search --------------------------------------------------------------------------------------


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
    """Random search, the same number of trials for every method, on the validation split.

    A trial's score is its validation error (or perplexity), then loss, averaged over SEARCH_SEEDS.
    Draws come from a fixed seed. Returns what was chosen, every trial, and how it came about.
    Methods that start from another one's network start from the best of its trials; with `out`,
    records of the runs go there. running: of `run_cells`, jobs and so on.
    """
    measure = experiment.tasks[task].measure
    setting, scored = (
        settings(experiment, quick)[task],
        (f"validation_{measure}", "validation_loss"),
    )
    draws = _draws(experiment, trials)
    log: dict[str, Any] = {}
    chosen: dict[str, Any] = {}
    made: list[Any] = []
    best: dict[str, dict[int, Any]] = {}  # method -> seed -> the result of its best trial
    for method, hyperparameters in draws.items():
        cells = {
            f"{task}-{method}-{i}-seed{seed}": _cell(
                experiment, task, method, seed, setting, h, data
            )
            for i, h in enumerate(hyperparameters)
            for seed in SEARCH_SEEDS
        }
        if method != FULL_PRECISION:
            start = best[experiment.methods[method].start]
            for cell in cells.values():
                cell["start"] = start[cell["seed"]]["weights"]
        results = run_cells(
            functools.partial(trial, experiment),
            cells,
            out=out,
            resumable=True,
            description=method,
            **running,
        )
        made += results.made.values()
        runs = [
            {seed: results[f"{task}-{method}-{i}-seed{seed}"] for seed in SEARCH_SEEDS}
            for i in range(trials)
        ]
        log[method] = [
            {**h, **_score([run[seed] for seed in SEARCH_SEEDS], scored)}
            for h, run in zip(hyperparameters, runs, strict=True)
        ]
        i = min(range(trials), key=lambda i: [_or_worst(log[method][i].get(k)) for k in scored])
        if "failed" in log[method][i]:
            raise ValueError(f"every trial of {method} failed, the last one: {log[method][-1]}")
        chosen[method], best[method] = hyperparameters[i], runs[i]
    return {
        "chosen": chosen,
        "space": {method: experiment.space(method) for method in draws},
        "seeds": SEARCH_SEEDS,
        "setting": setting,
        **experiment.tasks[task].source(*filter(None, [data])),
        "environment": provenance.environment(),
        "runs": provenance.grouped(made),
        "trials": log,
    }


def _draws(experiment: Experiment, trials: int) -> dict[str, list[dict[str, float]]]:
    """For each method that is searched, the hyperparameters of its trials, log-uniform."""
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
    """As `search`, and write what it returns to `path`; the path.

    A file that cannot be written is an OSError before the search begins.
    """
    with written_whole(path) as file:  # now: it would be a pity to fail at the end
        report = search(experiment, task, trials, **options)
        file.write(json_text(report, path).encode())
    return path


def trial(chosen: Experiment, **described: Any) -> dict[str, Any]:
    """A cell of a search: as `train`, but a run that diverges is a result, too."""
    try:
        return train(chosen, **described)
    except (FloatingPointError, ValueError) as error:
        return {"failed": str(error)}


def _score(runs: list[Mapping[str, Any]], names: Iterable[str]) -> dict[str, Any]:
    """The means over the runs; of runs that failed, why."""
    for run in runs:
        if "failed" in run:
            return {"failed": run["failed"]}
    return {name: round(float(np.mean([run[name] for run in runs])), 6) for name in names}


def _or_worst(score: float | None) -> float:
    return math.inf if score is None else score


def deadline(minutes: float | None) -> float | None:
    """The time, as `run_cells` takes it, in so many minutes."""
    return None if minutes is None else time.monotonic() + 60 * minutes
