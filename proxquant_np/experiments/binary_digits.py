"""Claim: on a small network, ProxQuant's binary weights err less than BinaryConnect's.

On the handwritten digits, by the protocol of protocol.py; the four methods are the four cells of
the library's table. Hyperparameters come from a search, which gives every method the same number of
random trials on the validation split; what it chose, and every trial, is in binary_digits.json.
`reproduce` reads the test split, once, after everything is fixed.

The same comparison runs on the other networks of tasks.py: `model` says which, and each has a
choice of its own beside this file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from proxquant_np.experiments import experiment as experiments
from proxquant_np.experiments.experiment import Claim, Experiment
from proxquant_np.experiments.protocol import FULL_PRECISION
from proxquant_np.experiments.protocol import METHODS as ALL_METHODS
from proxquant_np.experiments.runner import write_text
from proxquant_np.experiments.statistics import compare
from proxquant_np.experiments.tasks import TASKS
from proxquant_np.files import json_text
from proxquant_np.provenance import environment

METHODS = {
    name: ALL_METHODS[name]
    for name in ("binary_connect", "prox_quant", "prox_connect", "projected_gradient")
}
EXPERIMENT = Experiment(
    name="binary_digits",
    title="Binary weights on handwritten digits",
    tasks=TASKS,
    measured=("mlp", "cnn"),
    methods=METHODS,
    claims=(
        Claim(
            "ProxQuant's binary weights err less than BinaryConnect's",
            "prox_quant",
            "binary_connect",
            "test_error",
        ),
        Claim(
            "ProxQuant changes fewer signs since the warm start than BinaryConnect",
            "prox_quant",
            "binary_connect",
            "sign_change",
        ),
    ),
)


def reproduce(
    seeds: int,
    out: Path,
    *,
    model: str = "mlp",
    quick: bool = False,
    jobs: int = 2,
    rerun: str | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Run (or read) every cell for seeds 0..seeds-1 and write the summary to out/summary.json.

    rerun: as of `run_cells`.

    Raises:
        FileExistsError: there is a summary of another model or setting, or of more seeds; nothing
            is run.
    """
    task = TASKS[model]
    setting = {"quick": quick, **experiments.settings(EXPERIMENT, quick)[model]}
    experiments.keep_summary(
        out / "summary.json",
        lambda held: (
            held["setting"]["seeds"],
            {held["model"]: {k: v for k, v in held["setting"].items() if k != "seeds"}},
        ),
        seeds,
        {model: setting},
    )
    results = experiments.run(
        EXPERIMENT,
        seeds,
        out,
        tasks=[model],
        quick=quick,
        jobs=jobs,
        rerun=rerun,
        progress=progress,
    )
    made, results = experiments.made_with(results), results[model]
    summary = {
        "model": model,
        **task.source(),
        "setting": {"seeds": seeds, **setting},
        "hyperparameters": {m: EXPERIMENT.hyperparameters(model, m) for m in results},
        "environment": environment(),
        "runs": made,
        "methods": {m: _summarise(m, results, f"test_{task.measure}") for m in results},
    }
    write_text(out / "summary.json", json_text(summary, out / "summary.json"))
    return {**summary, "records": results}


def _summarise(
    method: str, results: Mapping[str, list[dict[str, Any]]], measure: str
) -> dict[str, Any]:
    runs = results[method]
    errors = [run[measure] for run in runs]
    summary: dict[str, Any] = {
        measure: errors,
        f"{measure}_mean": float(np.mean(errors)),
        f"{measure}_std": float(np.std(errors, ddof=1)) if len(errors) > 1 else None,
    }
    for name in ("sign_change", "flip_rate", "gap", "seconds"):
        values = [run[name] for run in runs if run[name] is not None]
        summary[name] = float(np.mean(values)) if values else None
    if method != "binary_connect":
        difference = compare(errors, [run[measure] for run in results["binary_connect"]])
        summary["minus_binary_connect"] = {
            k: None if isinstance(v, float) and not math.isfinite(v) else v
            for k, v in difference._asdict().items()
        }
    return summary


def table(result: Mapping[str, Any]) -> str:
    """The summary as text, one method a line."""
    setting, task = result["setting"], TASKS[result["model"]]
    measure, value, scale = f"test_{task.measure}", ".2%", 100
    unit = "percentage points"
    if task.measure == "perplexity":
        value, scale, unit = ".3f", 1, ""
    lines = [
        f"{task.title}, {setting['seeds']} paired seeds",
        "",
        f"{'':34}{measure.replace('_', ' '):>15}{'minus BinaryConnect [95%]':>30}"
        f"{'signs':>8}{'flips':>9}{'gap':>8}{'':>2}{'time':>6}",
        f"{'':34}{'mean +- std':>15}{unit:>30}"
        f"{'changed':>8}{'per step':>9}{'before':>8}{'':>2}{'':>6}",
    ]
    names = {name: method.label for name, method in METHODS.items()}
    names[FULL_PRECISION] = "full precision (the warm start)"
    for method, s in result["methods"].items():
        mean, std = s[f"{measure}_mean"], s[f"{measure}_std"]
        error = f"{mean:{value}}" + ("" if std is None else f" +- {std:{value}}")
        difference = ""
        if d := s.get("minus_binary_connect"):
            difference = f"{scale * d['mean']:+.2f}"
            if d["low"] is not None:
                difference += f" [{scale * d['low']:+.2f}, {scale * d['high']:+.2f}]"
        shown = [
            f"{s[k]:{f}}" if s[k] is not None else ""
            for k, f in (("sign_change", ".1%"), ("flip_rate", ".3%"), ("gap", ".4f"))
        ]
        lines.append(
            f"{names[method]:34}{error:>15}{difference:>30}"
            f"{shown[0]:>8}{shown[1]:>9}{shown[2]:>8}{s['seconds']:>6.1f} s"
        )
    verdict = result["methods"]["prox_quant"]["minus_binary_connect"]["verdict"]
    lines += [
        "",
        "signs changed: against the warm start, at the end; flips per step: over the last tenth of",
        f"the quantizing phase; gap before: mean distance to {task.levels} before projecting; "
        "time: a run.",
        f'The claim "ProxQuant errs less than BinaryConnect": {verdict} '
        f"({setting['seeds']} seeds, {setting['quantizing_steps']} quantizing steps).",
    ]
    lines += experiments.said_of_runs(result.get("runs", []))
    if setting["quick"]:
        lines.append("This was --quick, which is too short to conclude anything.")
    return "\n".join(line.rstrip() for line in lines)


def draw(result: Mapping[str, Any], out: Path) -> list[Path]:
    """Draw the figures of a finished `reproduce` into `out`; their paths.

    Four; the two that show the levels -1 and +1 are left out where the levels are others.
    """
    from proxquant_np import plotting  # here: matplotlib is slow to import, the workers need none

    runs = result["records"]

    def over_epochs(name: str) -> dict[str, list[list[float]]]:
        return {method: [run["epochs"][name] for run in runs[method]] for method in METHODS}

    figures: dict[str, Any] = {
        "sign_flips": (plotting.sign_flips, over_epochs("change_from_last_epoch")),
        "error_curves": (plotting.error_curves, over_epochs("quantized_error")),
    }
    if TASKS[result["model"]].levels == "+-1":
        frames = {m: runs[m][0]["epochs"]["frames"] for m in ("binary_connect", "prox_quant")}
        figures["regularizers"] = plotting.regularizers, plotting.regularizers_data()
        figures["weights"] = plotting.weight_filmstrip, frames
    for name, (function, data) in figures.items():
        made = {} if name == "regularizers" else {"runs": result["runs"]}
        plotting.save_figure(function(data), data | made, out / name)
    return [out / f"{name}.png" for name in figures]
