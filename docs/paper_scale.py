"""Writes the tables of paper_scale.md: the paper's numbers beside those measured at its scale.

    python docs/paper_scale.py             from paper_scale.json
    python docs/paper_scale.py FOLDER ...  first takes over what is in these folders

FOLDER is what `experiment NAME --out FOLDER` writes: records of runs that are finished, and
checkpoints of those that are not. Of these only validation is told, for the test split is read
once, at the end.
"""

import json
import math
import re
import sys
from pathlib import Path

import numpy as np

from proxquant_np.experiments.catalog import experiment_named
from proxquant_np.experiments.experiment import Experiment, settings
from proxquant_np.experiments.families import PUBLISHED
from proxquant_np.experiments.protocol import FULL_PRECISION
from proxquant_np.experiments.statistics import compare, detectable, pairs_needed
from proxquant_np.training import load_checkpoint

DOCS = Path(__file__).parent
DATA, PAGE = DOCS / "paper_scale.json", DOCS / "paper_scale.md"
RECORD = DOCS.parent / "figures" / "records" / "resnet_cifar10-published-record.json"
PHASES = (FULL_PRECISION, "quantizing", "fine_tuning")
TEXT, IMAGES = ("paper_lstm", "lstm300"), ("resnet_cifar10", "resnet20")
TASKS = {"paper_lstm": ("lstm300", "lstm300_short"), "resnet_cifar10": ("resnet20",)}
"""Those that the page is about, at full length or shorter."""

NUMBERS = {
    "paper_lstm": {
        FULL_PRECISION: "88.5 †",
        "binary_connect": "372.2 †",
        "prox_quant": "288.5 †",
        "straight_through_1": "116.7",
        "straight_through_1_rescaled": "104.7 †",
        "prox_quant_1": "106.2 †",
        "straight_through_2": "94.3",
        "straight_through_2_rescaled": "90.2 †",
        "prox_quant_2": "90.0 †",
        "straight_through_3": "87.3",
        "straight_through_3_rescaled": "86.1 †",
        "prox_quant_3": "87.2 †",
    },
    "resnet_cifar10": {
        FULL_PRECISION: "8.06",
        "binary_connect": "9.54 †",
        "prox_quant": "9.35 †",
        "prox_quant_ternary": "8.40 †",
        "trained_ternary": "8.87 †",
    },
}
RUNS = {"prox_quant": (9.058, 8.901, 9.388, 9.237), "binary_connect": (9.664, 9.430, 9.198, 9.663)}
"""Test errors in percent of four published runs each of ResNet-20, all from one warm start."""

SECONDS = {FULL_PRECISION: 0.15, "binary_connect": 0.18, "prox_quant": 0.16} | {
    name.format(bits): seconds
    for bits, seconds in {1: 0.21, 2: 0.32, 3: 0.39}.items()
    for name in ("straight_through_{}", "straight_through_{}_rescaled", "prox_quant_{}")
}
"""Seconds of a step of the LSTM, on one core of a quiet machine."""
RESNET_SECONDS = 0.55


def _experiment(name: str) -> Experiment:
    """The experiment, with its methods as published if there is that family of pairs."""
    chosen = experiment_named(name)
    return chosen.of_family(PUBLISHED if PUBLISHED in chosen.families else None)


def collected(folder: Path) -> list[dict]:
    """One row for each cell of the page that is finished in a folder of results, or begun there.

    Results of other tasks and of other families of pairs are left out; so is what is begun beside
    them, for a checkpoint does not tell its family.
    """
    rows, beside = [], set()
    for path in sorted(folder.glob("records/*.json")):
        record = json.loads(path.read_text("utf-8"))
        arguments = record["arguments"]
        name = arguments["experiment"]
        if arguments["task"] in TASKS.get(name, ()):
            if arguments.get("family") != _experiment(name).family:
                beside.add(name)
            else:
                rows.append(_finished(arguments, record["result"], record["environment"]))
    begun: dict[tuple, dict] = {}  # a phase's checkpoint stays until the cell is finished
    for path in sorted(folder.glob("records/checkpoints/*.npz")):
        found = re.fullmatch(r"(\w+)-(\w+)-seed(\d+)-[0-9a-f]{12}-(\w+)", path.stem)
        if found and found[4] in PHASES and any(found[1] in tasks for tasks in TASKS.values()):
            row = _begun(*found.groups(), *load_checkpoint(path))
            furthest = row["steps"] >= begun.get(_cell(row), row)["steps"]
            if furthest and row["experiment"] not in beside:
                begun[_cell(row)] = row
    done = {_cell(row) for row in rows}
    return rows + [row for cell, row in begun.items() if cell not in done]


def _finished(arguments: dict, result: dict, made: dict) -> dict:
    phases = PHASES[:1] if arguments["method"] == FULL_PRECISION else PHASES[1:]
    measure = "perplexity" if "test_perplexity" in result else "error"
    return {
        **{key: arguments[key] for key in ("experiment", "task", "method", "seed")},
        "hyperparameters": arguments["hyperparameters"],
        "data": result.get("data"),
        "steps": sum(arguments["setting"][f"{phase}_steps"] for phase in phases),
        "validation": float(f"{result[f'validation_{measure}']:.6g}"),
        "test": float(f"{result[f'test_{measure}']:.6g}"),
        "seconds_per_step": result["seconds_per_step"]
        and float(f"{result['seconds_per_step']:.3g}"),
        **{key: made.get(key) for key in ("device", "processor", "blas", "proxquant_np", "digest")},
    }


def _begun(task: str, method: str, seed: str, phase: str, arrays: dict, meta: dict) -> dict:
    """From a checkpoint; fine-tuning follows on quantizing."""
    name = next(name for name, tasks in TASKS.items() if task in tasks)
    chosen = _experiment(name)
    setting = settings(chosen, quick=False)[task]
    before = setting["quantizing_steps"] if phase == "fine_tuning" else 0
    losses, errors = (arrays.get(f"epochs/validation_{key}", []) for key in ("loss", "error"))
    is_text = chosen.tasks[task].measure == "perplexity"
    value = None
    if len(losses):
        value = math.exp(min(losses[-1], 700)) if is_text else errors[-1]
    return {
        "experiment": name,
        "task": task,
        "method": method,
        "seed": int(seed),
        "steps": before + meta["step"],
        "begun": True,
        "validation": value and float(f"{value:.6g}"),
        "test": None,
    }


def table(rows: list[dict], name: str, task: str) -> list[str]:
    """The paper's number for each method, and what was measured."""
    chosen = _experiment(name)
    measure = chosen.tasks[task].measure
    head = [
        "method",
        f"the paper's {measure}",
        "steps",
        "seeds",
        "validation",
        "test",
        "s per step",
        "device",
    ]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for method in (FULL_PRECISION, *chosen.methods):
        label = chosen.methods[method].label if method in chosen.methods else "full precision"
        paper = NUMBERS[name].get(method, "")
        groups: dict[tuple[int, str, str], list[dict]] = {}
        for row in rows:
            if (row["experiment"], row["method"]) == (name, method):
                used = row.get("hyperparameters") or {}
                data = f"data {row['data'][:12]}" if row.get("data") else ""
                made = ", ".join(f"{k} {v:g}" for k, v in used.items()), data
                groups.setdefault((row["steps"], *made), []).append(row)
        apart = [i for i in (1, 2) if len({made[i] for made in groups if made[i]}) > 1]
        for made, group in sorted(groups.items()) or [((0, "", ""), [])]:
            steps = made[0]
            share = steps / _steps(name, task, method)
            done = f"{steps:,} ({share:.2%} of the paper's)" if steps else "not begun"
            done += "".join(f", {made[i]}" for i in apart if made[i])
            if any(row.get("begun") for row in group):
                done += ", goes on"
            means = [
                _mean([row.get(key) for row in group], measure) for key in ("validation", "test")
            ]
            means.append(_mean([row.get("seconds_per_step") for row in group], "seconds"))
            devices = ", ".join(sorted({row["device"] for row in group if row.get("device")}))
            cells = [label, paper, done, str(len(group) or ""), *means, devices]
            lines.append(f"| {' | '.join(cells)} |")
            label = paper = ""
    return lines


def _steps(name: str, task: str, method: str) -> int:
    """Those of the paper's length."""
    setting = settings(_experiment(name), quick=False)[task]
    phases = PHASES[:1] if method == FULL_PRECISION else PHASES[1:]
    return sum(setting[f"{phase}_steps"] for phase in phases)


def _mean(values: list, measure: str) -> str:
    if not values or None in values:
        return ""
    scale, digits = {"error": (100, 2), "seconds": (1, 2)}.get(measure, (1, 1))
    text = f"{scale * np.mean(values):,.{digits}f}"
    return text if len(values) < 2 else f"{text} +- {scale * np.std(values, ddof=1):,.{digits}f}"


def pairs() -> list[str]:
    """How many pairs show 0.2 points of error, by the spread of published and of measured runs."""
    eager, lazy = (np.array(RUNS[name]) for name in ("prox_quant", "binary_connect"))
    apart = math.sqrt(eager.var(ddof=1) + lazy.var(ddof=1))
    methods = json.loads(RECORD.read_text("utf-8"))["tasks"]["resnet8"]["methods"]
    found = compare(*(methods[name]["test_error"] for name in ("prox_quant", "binary_connect")))
    spreads = {
        "the paper's ResNet-20, 4 runs each, not paired": apart,
        f"ResNet-8 of the ledger, {found.n} pairs": 100 * found.std,
    }
    lines = ["| runs | spread | pairs for 0.2 points | points that 3, 5, 10, 20 pairs show |"]
    lines.append("|---|---|---|---|")
    for runs, spread in spreads.items():
        least = ", ".join(f"{spread * _shown(n):.2g}" for n in (3, 5, 10, 20))
        lines.append(f"| {runs} | {spread:.2f} | {pairs_needed(0.2, spread)} | {least} |")
    return lines


def _shown(n: int) -> float:
    """The smallest difference, in spreads, that n pairs show with probability 0.8."""
    d = np.arange(n) - (n - 1) / 2
    return detectable(compare(d / d.std(ddof=1), np.zeros(n)))


def left() -> list[str]:
    """The work of one seed at the paper's length."""
    lines = ["| experiment | steps of one seed | hours, one core | hours at 20 ms per step |"]
    lines.append("|---|---|---|---|")
    for name, task in (TEXT, IMAGES):
        steps = {m: _steps(name, task, m) for m in (FULL_PRECISION, *_experiment(name).methods)}
        each = SECONDS if name == TEXT[0] else dict.fromkeys(steps, RESNET_SECONDS)
        hours = sum(n * each[m] for m, n in steps.items()) / 3600
        total = sum(steps.values())
        lines.append(f"| {name} {task} | {total:,} | {hours:,.0f} | {total * 0.02 / 3600:.1f} |")
    return lines


def chosen(kept: dict) -> list[str]:
    """How the rates of the short runs were chosen."""
    lines = [kept["chosen"]["how"], "", "| method | lr | reach | validation perplexity |"]
    lines.append("|---|---|---|---|")
    for t in kept["chosen"]["trials"]:
        lines.append(
            f"| {t['method']} | {t['lr']:g} | {t.get('reach', '')} | {t['validation']:,} |"
        )
    return lines


def page(text: str, kept: dict) -> str:
    """The page with its tables made anew: each stands between two comments."""
    tables = {
        "text": table(kept["rows"], *TEXT),
        "images": table(kept["rows"], *IMAGES),
        "chosen": chosen(kept),
        "pairs": pairs(),
        "left": left(),
    }
    for name, lines in tables.items():
        head, rest = text.split(f"<!-- {name} -->\n")
        end = rest[rest.index("<!-- end -->") :]
        text = "\n".join([f"{head}<!-- {name} -->", "", *lines, "", end])
    return text


def merged(kept: list[dict], new: list[dict]) -> list[dict]:
    """What was kept, but for the cells of which there is something new."""

    replaced = {*map(_cell, new)}
    return [row for row in kept if _cell(row) not in replaced] + new


def _cell(row: dict) -> tuple:
    return tuple(row[key] for key in ("experiment", "task", "method", "seed"))


if __name__ == "__main__":
    found = json.loads(DATA.read_text("utf-8"))
    for folder in map(Path, sys.argv[1:]):
        found["rows"] = merged(found["rows"], collected(folder))
    DATA.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    PAGE.write_text(page(PAGE.read_text("utf-8"), found), "utf-8")
