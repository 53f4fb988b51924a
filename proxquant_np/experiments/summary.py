"""What is kept of a finished experiment: its summary, in a file, as a table, as figures.

A summary holds the numbers of every run, and curves as means over the seeds. Its file is called
NAME[-FAMILY][-streamN]-record.json, a name that `claims` reads and that no figure's data have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from proxquant_np import provenance
from proxquant_np.experiments import experiment as experiments
from proxquant_np.experiments.experiment import Claim, Experiment
from proxquant_np.experiments.families import FAMILIES
from proxquant_np.experiments.protocol import FULL_PRECISION
from proxquant_np.experiments.runner import write_text
from proxquant_np.experiments.statistics import compare
from proxquant_np.experiments.tasks import TASKS, same_data
from proxquant_np.experiments.wording import in_words, scaled
from proxquant_np.files import json_text, read_json, read_whole

POINTS = 24  # of a curve over epochs that a summary keeps
CURVES = (
    "quantized_error",
    "quantized_loss",
    "change_from_start",
    "change_from_last_epoch",
    "quantization_gap",
    "validation_error",
)

Results = Mapping[str, Mapping[str, list[Mapping[str, Any]]]]


def measure(
    experiment: Experiment,
    seeds: int,
    out: Path,
    *,
    tasks: list[str],
    quick: bool = False,
    data: str | None = None,
    **running: Any,
) -> tuple[dict[str, Any], Results]:
    """Run (or read) an experiment and write its summary to `summary_file`.

    Returns the summary and the results of `experiments.run`. running: arguments of that function.
    A search in out/chosen counts before the experiment's own.

    Raises:
        FileExistsError: the file holds more than this run would write; nothing is run.
        ValueError: of `experiments.searches`, before, or `summed_up`, after all is run.
    """
    check_out(experiment, out, seeds, tasks, quick, data)
    experiment = experiment.searched_in(out)
    results = experiments.run(
        experiment, seeds, out, tasks=tasks, quick=quick, data=data, **running
    )
    summary = summed_up(experiment, results, quick)
    write_summary(summary, out)
    return summary, results


def summed_up(experiment: Experiment, results: Results, quick: bool) -> dict[str, Any]:
    """The summary of finished runs: numbers by seed, curves as means over the seeds, thinned out.

    "environment" is where this function ran; "runs" says how many runs were made with what.

    Raises:
        ValueError: the runs of a task have several data sets, as with a text that comes with Python
            and differs between its versions.
    """
    setting, tasks = experiments.settings(experiment, quick), {}
    for name, methods in results.items():
        task, first = experiment.tasks[name], next(iter(methods.values()))[0]
        if not all(same_data(first, run) for runs in methods.values() for run in runs):
            raise ValueError(
                f"runs of {name} must be of the same data, got several: choose another --out, or "
                "--rerun stale where they came with Python"
            )
        tasks[name] = {
            "title": task.title,
            "measure": f"test_{task.measure}",
            "setting": setting[name],
            **{key: first[key] for key in ("text", "images", "data", "sizes") if key in first},
            "hyperparameters": {m: runs[0]["hyperparameters"] for m, runs in methods.items()},
            "search": first["search"],
            "methods": {method: _of_method(runs) for method, runs in methods.items()},
        }
    methods = [runs for by_method in results.values() for runs in by_method.values()]
    return {
        "experiment": experiment.name,
        "quick": quick,
        **({} if experiment.stream is None else {"stream": experiment.stream}),
        **({} if experiment.family is None else {"family": experiment.family}),
        "seeds": len(methods[0]),
        "environment": provenance.environment(),
        "runs": made_with(run for runs in methods for run in runs),
        "tasks": tasks,
    }


def _of_method(runs: list[Mapping[str, Any]]) -> dict[str, Any]:
    figures = {
        key: [_short(run[key]) for run in runs]
        for key, value in runs[0].items()
        if isinstance(value, int | float) and all(key in run for run in runs)  # not in old ones
    }
    curves = {
        name: _thinned([run["epochs"][name] for run in runs])
        for name in CURVES
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
    """Six significant digits, for a file that is read, compared and committed."""
    return value if not isinstance(value, float) else float(f"{value:.6g}")


def made_with(runs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How many of these runs were made with what, in the form of `provenance.grouped`."""
    return provenance.grouped(run.get("environment") for run in runs)


def runs_of(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How many runs of a summary were made with what; an old one only tells their number."""
    if "runs" in summary:
        return list(summary["runs"])
    methods = (method for task in summary["tasks"].values() for method in task["methods"].values())
    n = sum(len(next(iter(figures.values()))) for figures in methods)  # each figure is by seed
    return [{"runs": n, "environment": None}]


# Files -------------------------------------------------------------------------------------------


def summary_file(stem: str, out: Path) -> Path:
    """Where the summary of an experiment of this `stem` is: out/STEM-record.json."""
    return out / f"{stem}-record.json"


def write_summary(summary: Mapping[str, Any], out: Path) -> Path:
    """Write a summary to its file in a folder; the path."""
    stem = experiments.stem(summary["experiment"], summary.get("family"), summary.get("stream"))
    path = summary_file(stem, out)
    out.mkdir(parents=True, exist_ok=True)
    write_text(path, json_text(summary, path))
    return path


def read_summary(path: Path, *, finite: bool = False) -> dict[str, Any]:
    """The summary in a file, which may be a summary.json of an earlier version of `reproduce`.

    Such a file holds single means of everything but the errors; here each is a list of one value.
    Raises what `read_whole` and `read_json` raise.
    """
    summary = read_json(read_whole(path), finite=finite)
    if "model" not in summary:
        return summary
    setting, model = summary["setting"], summary["model"]
    about = {key: summary[key] for key in ("text", "hyperparameters") if key in summary}
    methods = {}
    for name, figures in summary["methods"].items():
        means = {
            key: [] if value is None else [value]
            for key, value in figures.items()
            if key in ("sign_change", "flip_rate", "gap", "seconds")
        }
        methods[name] = {key: v for key, v in figures.items() if isinstance(v, list)} | means
    task = {
        "title": TASKS[model].title,
        "measure": f"test_{TASKS[model].measure}",
        "setting": {k: v for k, v in setting.items() if k not in ("seeds", "quick")},
        **about,
        "methods": methods,
    }
    kept = {key: summary[key] for key in ("environment", "runs") if key in summary}
    about = {"experiment": "binary_digits", "quick": setting["quick"], "seeds": setting["seeds"]}
    return {**about, **kept, "tasks": {model: task}}


def keep_summary(
    path: Path,
    held: Callable[[Any], tuple[int, Iterable[tuple[str, str]]]],
    seeds: int,
) -> None:
    """FileExistsError if the summary at `path` has more seeds, or anything else that would be lost.

    held: from a summary to (its number of seeds, what else of it would be lost: in words that, and
    how to keep it).
    """
    try:
        found, others = held(read_summary(path))
        lost = [*others]
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return  # there is none, or none that is whole
    if found > seeds:
        lost.append((f"{found} of what {seeds} are asked for", "ask for as much"))
    if lost:
        what, way = lost[0]
        raise FileExistsError(f"{path} holds {what}, and is kept: choose another --out, or {way}")


def check_out(
    experiment: Experiment,
    out: Path,
    seeds: int,
    tasks: list[str],
    quick: bool,
    data: str | None = None,
) -> None:
    """FileExistsError if the summary that this run would replace has more than it, or other data.

    A summary.json of an earlier version counts, too, for its figures would be overwritten.
    """
    setting = experiments.settings(experiment, quick)

    def lost(summary: Any) -> Iterable[tuple[str, str]]:
        if missing := [name for name in summary["tasks"] if name not in tasks]:
            yield (
                f"{', '.join(missing)}, which this run would not write",
                "name it with --only, too",
            )
        how = summary["quick"], summary.get("family"), summary.get("stream")
        other = how != (quick, experiment.family, experiment.stream)
        for name, task in summary["tasks"].items():
            if other or task["setting"] != setting[name]:
                yield f"another setting of {name}", "ask for the same"
            if not same_data(task, experiment.tasks[name].about(data)):
                yield f"other data of {name}", "name the same"

    def held(summary: Any) -> tuple[int, Iterable[tuple[str, str]]]:
        own = summary["experiment"] == experiment.name
        return (summary["seeds"], lost(summary)) if own else (0, ())

    for path in (summary_file(experiment.stem, out), out / "summary.json"):
        keep_summary(path, held, seeds)


# As text -----------------------------------------------------------------------------------------

_LEGEND = """\
signs changed: since the start; flips per step: in the last tenth of the quantizing phase; gap
before: mean distance of the weights from their levels before projecting; time: per run."""


def table(experiment: Experiment, summary: Mapping[str, Any]) -> str:
    """A summary as text: for each task its methods, then what became of the claims."""
    lines, seeds = [], summary["seeds"]
    for name, task in summary["tasks"].items():
        paired = f"{seeds} paired seed{'s' * (seeds > 1)}{_of_pairs(summary)}"
        lines += [f"{name}: {task['title']}, {paired}", ""]
        lines += [*_rows(experiment, task), ""]
        for claim in experiment.claims:
            if (not claim.tasks or name in claim.tasks) and claim.is_held(task["methods"], seeds):
                found = claim.compare(task["methods"])
                said = in_words(found, claim.measure, f" {scaled(claim.measure).points}".rstrip())
                lines.append(f'"{claim.text}": {said}, {found.text}')
        lines.append("")
    lines += [_LEGEND, *said_of_runs(runs_of(summary))]
    if summary["quick"]:
        lines.append("This was --quick, which is too short to conclude anything.")
    return "\n".join(line.rstrip() for line in lines)


def _of_pairs(summary: Mapping[str, Any]) -> str:
    family = f", {FAMILIES[summary['family']]}" if "family" in summary else ""
    return family + (f", search {summary['stream']}" if "stream" in summary else "")


def _rows(experiment: Experiment, task: Mapping[str, Any]) -> Iterable[str]:
    """One line per method; where all claims have the same rival, with the difference from it."""
    methods, measure = task["methods"], task["measure"]
    labels = {name: _label(experiment, name) for name in methods}
    rival = experiment.rival if experiment.rival in methods else None
    first, second = max(map(len, labels.values())) + 2, 0 if rival is None else 30
    head = points = ""
    if rival is not None:
        head, points = f"minus {labels[rival].split(' (')[0]} [95%]", scaled(measure).points
    yield (
        f"{'':{first}}{measure.replace('_', ' '):>15}{head:>{second}}"
        f"{'signs':>8}{'flips':>9}{'gap':>8}{'time':>10}"
    )
    yield (
        f"{'':{first}}{'mean +- std':>15}{points:>{second}}"
        f"{'changed':>8}{'per step':>9}{'before':>8}"
    )
    for name, figures in methods.items():
        difference = ""
        if rival is not None and name != rival:
            difference = in_words(compare(figures[measure], methods[rival][measure]), measure)
        rest = "".join(
            f"{_mean(figures.get(key, [None]), f):>{width}}"
            for key, f, width in (
                ("sign_change", ".1%", 8),
                ("flip_rate", ".3%", 9),
                ("gap", ".4f", 8),
                ("seconds", ".1f", 8),
            )
        )
        value = _mean_and_std(figures[measure], measure)
        yield f"{labels[name]:{first}}{value:>15}{difference:>{second}}{rest} s"


def _label(experiment: Experiment, method: str) -> str:
    if method == FULL_PRECISION:
        return "full precision (the warm start)"
    return experiment.methods[method].label if method in experiment.methods else method


def _mean(values: list[float | None], form: str) -> str:
    return "" if not values or None in values else format(np.mean(values), form)


def _mean_and_std(values: list[float], measure: str) -> str:
    scale, unit, _ = scaled(measure)
    text = f"{scale * np.mean(values):.2f}{unit}"
    return text if len(values) < 2 else f"{text} +- {scale * np.std(values, ddof=1):.2f}{unit}"


def said_of_runs(groups: list[dict[str, Any]]) -> list[str]:
    """Lines below a table: what the runs were made with, and what to do if it was other code."""
    lines = provenance.described(groups)
    if any(not provenance.is_same_code(group["environment"] or {}) for group in groups):
        lines.append("Some were made by other code than this: --rerun stale runs them again.")
    return lines


# As figures --------------------------------------------------------------------------------------


def draw(experiment: Experiment, summary: Mapping[str, Any], path: Path) -> list[Path]:
    """Draw a summary; the paths of the pictures, none if it holds nothing that is claimed.

    The claims' intervals are drawn at `path`, which has no suffix, and the experiment's own figures
    at this path with more behind it; those alone where several claims on a grid would be too many.
    """
    from proxquant_np import plotting  # here: matplotlib is slow to import, the workers need none

    tasks = summary["tasks"]
    pairs = [
        (name, claim)
        for name, task in tasks.items()
        for claim in experiment.claims
        if name in (claim.tasks or [name]) and claim.is_held(task["methods"], summary["seeds"])
    ]
    own = experiment.draw(summary, path) if pairs and experiment.draw else []
    if not pairs or (own and experiment.grid is not None and len(experiment.claims) > 1):
        return own
    title, label = f"{experiment.title}, {pairs[0][0]}", "{1.text}"
    if len({name for name, _ in pairs}) > 1:  # what all rows have in common is not said in each
        title, label = experiment.title, "{1.text} ({0})"
        if len(experiment.claims) == 1:
            title, label = pairs[0][1].text, "{2}"
    rows = [
        _row(label.format(name, claim, tasks[name]["title"]), claim, tasks[name]["methods"])
        for name, claim in pairs
    ]
    texts = [task["text"]["name"] for task in tasks.values() if "text" in task]
    title = ", ".join([title, *texts[:1], f"{summary['seeds']} seeds{_of_pairs(summary)}"])
    data = {"title": title, "rows": rows, "runs": runs_of(summary)}
    plotting.save_figure(plotting.differences(data), data, path)
    return [path.with_suffix(".png"), *own]


def _row(label: str, claim: Claim, methods: Mapping[str, Any]) -> dict[str, Any]:
    """The difference divided by the rival's mean, so that errors and perplexities share an axis."""
    found = claim.compare(methods)
    rival = float(np.mean(methods[claim.second][claim.measure]))
    ends = {k: getattr(found, k) / (rival or 1.0) for k in ("mean", "low", "high")}
    return {
        "label": label if rival else f"{label}, in points, for the rival's mean is 0",
        "verdict": found.verdict,
        **({"margin": claim.margin} if claim.margin else {}),
        **{k: None if math.isinf(v) else v for k, v in ends.items()},
    }
