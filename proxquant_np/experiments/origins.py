"""What a record was made with, in the words of the ledger: command, data, hyperparameters, code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from proxquant_np import provenance
from proxquant_np.experiments import resnet_cifar10
from proxquant_np.experiments.catalog import EXPERIMENTS
from proxquant_np.experiments.experiment import Experiment, checked_tasks
from proxquant_np.experiments.protocol import Method
from proxquant_np.experiments.summary import runs_of
from proxquant_np.experiments.tasks import BY_SEED, FIXED, Task, chosen_by, same_steps, split_of


def command(chosen: Experiment, record: Mapping[str, Any] | None) -> str:
    """The command that makes a record again, or the first one of an experiment."""
    words = [f"proxquant-np experiment {chosen.name}"]
    words.append(f"--seeds {chosen.seeds if record is None else record['seeds']}")
    data = "DIR" if chosen.needs_data else None
    if record is not None:
        tasks = list(record["tasks"])
        if tasks != checked_tasks(chosen, None):
            rows = dict.fromkeys(task.split("-")[0] for task in tasks)
            whole = chosen.grid is not None and checked_tasks(chosen, rows) == tasks
            words += [f"--only {name}" for name in (rows if whole else tasks)]
        text = record["tasks"][tasks[0]].get("text", {"python": ""})
        if "python" not in text:
            data = "DIR" if "," in text["name"] else text["name"]
        if "family" in record:
            words.append(f"--family {record['family']}")
        if "stream" in record:
            words.append(f"--stream {record['stream']}")
    return " ".join([*words, *([f"--data {data}"] if data else [])])


def scale(chosen: Experiment, record: Mapping[str, Any]) -> list[str]:
    """The tasks in words, and what the record was made with."""
    tasks = record["tasks"]
    steps = {name: _steps(chosen, task) for name, task in tasks.items()}
    origin = {name: _hyperparameters(chosen, name, task) for name, task in tasks.items()}
    if chosen.grid is None:
        lines = [
            f"- {name}: {task['title']}. {steps[name]} Hyperparameters: {origin[name]}."
            for name, task in tasks.items()
        ]
    else:
        said = Counter(origin.values())
        chose = "; ".join(f"{o} in {n} of them" if len(said) > 1 else o for o, n in said.items())
        first = next(iter(steps.values()))
        titles = dict.fromkeys(task["title"].rsplit(", ", 1)[0] for task in tasks.values())
        many = f"{len(tasks)} task{'s' * (len(tasks) > 1)}"
        lines = [
            f"- {many}, ROW-COLUMN below: {'; '.join(titles)}. {first} Hyperparameters: {chose}."
        ]
        reports = filter(None, (report_of(chosen, name, task) for name, task in tasks.items()))
        new = (report["trials"].values() for report in reports if "scheme" in report)
        counts = [len(tried) for methods in new for tried in methods if len(tried) > 1]
        if counts:
            ends = dict.fromkeys((min(counts), max(counts)))
            lines[0] += f" Trials of each method: {' to '.join(map(str, ends))}."
        lines.append(f"- Searched: {' | '.join(_chosen(chosen, tasks))}.")
    made = provenance.described(runs_of(record))
    if "runs" not in record:
        made.append(f"They were summed up with {provenance.in_words(record['environment'])}")
    return [*lines, *(f"- {line}." for line in made)]


def _steps(chosen: Experiment, task: Mapping[str, Any]) -> str:
    """How long a task is trained, and on what data."""
    setting = task["setting"]
    quantizing = "" if chosen.grid else f"{setting['quantizing_steps']:,} to quantize, "
    text = (
        f"Steps: {setting['full_precision_steps']:,} in full precision, {quantizing}"
        f"{setting['fine_tuning_steps']:,} to fine-tune, batches of {setting['batch_size']}."
    )
    if split_of(setting) == BY_SEED:
        text += " Each seed draws its own split."
    for kind in ("text", "images"):
        if source := task.get(kind):
            digest = source["sha256"][:12]
            text += f" {kind.capitalize()}: {_name(source)} (SHA-256 {digest})."
            if known := resnet_cifar10.COPIES.get(source["sha256"]):
                text += f" These are {known}."
    return text


def _name(source: Mapping[str, Any]) -> str:
    """The name of a text or of images."""
    python = f" of Python {source['python']}" if "python" in source else ""
    return f"{source['name']}{python}"


def _hyperparameters(chosen: Experiment, name: str, task: Mapping[str, Any]) -> str:
    """Where a record's hyperparameters come from and, except in a grid, what they are."""
    used, methods = task["hyperparameters"], chosen.methods
    names = {m: (methods[m].shares if m in methods else None) or m for m in used}
    report, search = report_of(chosen, name, task), task.get("search") or {}
    found = chosen_by(report)
    origins: dict[str, dict[str, str]] = {}
    for method, values in used.items():
        own, origin = methods.get(method), "set beforehand, without a search"
        if own is not None and own.source is not None:
            origin = f"as published ({own.source})"
        elif own is not None and own.rate_of is not None:
            kept = "sum of strengths" if own.keeps_sum else "mean of lambda"
            names[method], origin = method, f"the same at the other's rate, with the {kept}"
        elif own is None and chosen.tasks[name].warm_start.lr:
            pass
        elif found.get(names[method]) == values:
            split = f"the validation split{_of_another(report, chosen.tasks[name], task)}"
            n = str(len(report["trials"][names[method]]))
            if chosen.grid and "scheme" in report:  # in short, and the same for most of the tasks
                n = "all"
                report = {k: v for k, v in report.items() if k not in ("extended", "at_edge")}
            origin = f"the best of {n} {_scheme(report, split)}"
        elif report is None and names[method] in search.get("trials", {}):
            drawn = f"{search['trials'][names[method]]} {_drawn(search)}"
            origin = f"the best of {drawn}, from a search whose report is not here"
        steps = task["setting"]["quantizing_steps"]
        origins.setdefault(origin, {})[names[method]] = _shown(own, values, steps)
    sharing: dict[str, list[str]] = {}
    for method, name in names.items():
        if method != name:
            sharing.setdefault(name, []).append(method)
    of_each = (f"; as chosen for {name}: {', '.join(own)}" for name, own in sharing.items())
    shared = "".join(of_each)
    parts = []
    for origin, values in origins.items():
        shown = "; ".join(f"{method} {numbers}" for method, numbers in values.items())
        parts.append(origin + shared + ("" if chosen.grid else f" ({shown})"))
        shared = ""
    return "; ".join(parts)


def _shown(method: Method | None, values: Mapping[str, float], steps: int) -> str:
    """Hyperparameters in words, the mean of lambda among them."""
    shown = [f"{k} {v:g}" for k, v in values.items()]
    mean = None if method is None else method.mean_lambda(values, steps)
    return ", ".join(shown if mean is None else [*shown, f"mean lambda {mean:.3g}"])


def _chosen(chosen: Experiment, tasks: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What was searched for each cell of a grid, and what was found."""
    for name, task in tasks.items():
        steps, used = task["setting"]["quantizing_steps"], task["hyperparameters"]
        of_each = (
            f"{method} {_shown(own, used[method], steps)}"
            for method, own in chosen.methods.items()
            if method in used and own.is_searched
        )
        yield f"{name} {'; '.join(of_each)}"


def _scheme(report: Mapping[str, Any], split: str) -> str:
    """How the trials of a search were drawn, and on what they were scored."""
    text = f"{_drawn(report)} per method on {split}"
    if "seeds" in report:
        text += f", each on {len(report['seeds'])} seeds"
    if "halving" in report:
        parts = ", ".join(f"{rung['steps']:g}" for rung in report["halving"][:-1])
        text += f" (by successive halving, after {parts} of the steps)"
    grown = [f"{m} {name}" for m, ranges in report.get("extended", {}).items() for name in ranges]
    if grown:
        text += f", in a range that was extended for {', '.join(grown)}"
    if edges := [f"{m} {name}" for m, found in report.get("at_edge", {}).items() for name in found]:
        text += f", at an end of what was tried for {', '.join(edges)}"
    return text


def _drawn(report: Mapping[str, Any]) -> str:
    """What trials those of a search are."""
    if "scheme" in report:
        return f"trials ({report['scheme']}, stream {report['stream']})"
    return "random trials (from one seed for all tasks)"


def report_of(chosen: Experiment, name: str, task: Mapping[str, Any]) -> dict[str, Any] | None:
    """The search that a record's hyperparameters are from; None if there was none, or not here.

    Old records do not tell which; theirs is the one that is here, if it has chosen the same.
    """
    if "search" not in task:
        return chosen.tasks[name].found()
    return task["search"] and chosen.tasks[name].found(task["search"]["sha256"])


def lacking(records: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """In words, for each search that hyperparameters of these records are from and that is not
    here, where its report belongs.
    """
    for stem, record in records.items():
        for name, task in record.get("tasks", {}).items():
            chosen = EXPERIMENTS[record["experiment"]].of_stream(record.get("stream"))
            if task.get("search") and report_of(chosen, name, task) is None:
                file = chosen.tasks[name].choice
                yield f"{stem} is from a search of {name} that is not here: copy it to {file}"


def _of_another(report: Mapping[str, Any], task: Task, record: Mapping[str, Any]) -> str:
    """In words, what a search was made on, if that was not the task of this record."""
    for kind, another in (("text", "another text"), ("images", "other images")):
        if kind in report and kind in record:
            if report[kind]["sha256"] != record[kind]["sha256"]:
                return f" of {another}, {_name(report[kind])}"
    if report["task"] != task.title:
        return f" of {report['task']}"
    by, used = report["setting"], record["setting"]
    if not same_steps(by, used):
        return " with other numbers of steps"
    if split_of(by) != split_of(used):
        return ", which was then one for all seeds" if split_of(by) == FIXED else " of each seed"
    return ""
