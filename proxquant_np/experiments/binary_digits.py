"""Claim: on a small network, ProxQuant's binary weights err less than BinaryConnect's.

The paper's protocol on the handwritten digits: train a network in full precision; from it, quantize
with each method; project, freeze the binary weights, re-estimate the batch-norm statistics, and
fine-tune what stays in full precision. The four methods are the four cells of the library's table.
Seeds are paired: one seed is one full-precision network and one data order for all methods.

Hyperparameters come from `search`, which gives every method the same number of random trials on
the validation split; what it chose, and every trial, is in binary_digits.json. `reproduce` reads
the test split, once, after everything is fixed.

The same protocol runs on the other networks of tasks.py: `model` says which, and each has a choice
of its own beside this file.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from proxquant_np import nn, optim, prox
from proxquant_np.data import Splits
from proxquant_np.experiments.runner import environment, run_cells, write_text
from proxquant_np.experiments.statistics import compare
from proxquant_np.experiments.tasks import TASKS, Task
from proxquant_np.training import fit, metrics

FULL_PRECISION = "full_precision"
METHODS = {
    "binary_connect": "BinaryConnect (lazy, hard)",
    "prox_quant": "ProxQuant (eager, soft)",
    "prox_connect": "ProxConnect (lazy, soft)",
    "projected_gradient": "projected gradient (eager, hard)",
}
FRAMES = 6  # of the weights' histogram kept in a record


def optimizer_for(
    method: str,
    model: nn.Module,
    steps: int,
    lr: float,
    reach: float = 0.0,
    regularizer: prox.Regularizer = TASKS["mlp"].regularizer,
) -> optim.QuantizedOptimizer:
    """One cell of the table around Adam, as published: weights clipped to [-1, 1].

    The soft cells raise lambda_t = rate * t. The rate follows from `reach`: for ProxQuant, the sum
    of all strengths, which is how far BinaryL1's prox alone can carry a weight (a weight at 0 has
    to travel 1) and with an L2 prox what e^-reach remains of its gap; for ProxConnect, whose prox
    acts on the latent afresh each step, the last strength (with 1 or more BinaryL1's last weights
    are binary, an L2 prox's are within 1 / (1 + reach) of the gap).
    """
    params = nn.quantizable_parameters(model)
    base = optim.Adam(model.parameters(), lr)
    wrapper = {"binary_connect": optim.DualAveraging, "prox_connect": optim.DualAveraging}.get(
        method, optim.ProxGradient
    )
    rate = {
        "prox_quant": 2 * reach / (lr * steps * max(1, steps - 1)),
        "prox_connect": reach / (lr * max(1, steps - 1)),
    }.get(method)
    homotopy = None if rate is None else prox.Linear(rate)
    return wrapper(base, params, regularizer, homotopy, clip=True)


def train_full_precision(
    seed: int, setting: Mapping[str, float], lr: float, model: str = "mlp"
) -> dict[str, Any]:
    """The warm start of one seed: its measurements and its weights as nested lists."""
    task, start = TASKS[model], time.perf_counter()
    data, network = task.load(), task.build(seed)
    history = fit(
        network,
        optim.Adam(network.parameters(), lr),
        data.train,
        steps=setting["full_precision_steps"],
        validation=data.validation,
        regularizer=task.regularizer,
        seed=seed,
        progress=False,
        **_reading(setting),
    )
    seconds = time.perf_counter() - start
    return {
        **_measure(task, network, data, setting),
        "sign_change": None,
        "flip_rate": None,
        "gap": history.epochs["quantization_gap"][-1] if history.epochs else None,
        "seconds": seconds,
        "epochs": _epochs(history),
        "weights": {name: value.tolist() for name, value in network.state_dict().items()},
    }


def train_quantized(
    method: str,
    seed: int,
    setting: Mapping[str, float],
    hyperparameters: Mapping[str, float],
    weights: Mapping[str, Any],
    model: str = "mlp",
) -> dict[str, Any]:
    """Quantize the network with these weights by one method; its measurements."""
    task, start = TASKS[model], time.perf_counter()
    data, network = task.load(), task.build(seed)
    network.load_state_dict(weights)
    params = nn.quantizable_parameters(network)
    initial = {name: p.data.copy() for name, p in params.items()}
    common = dict(validation=data.validation, seed=seed, progress=False, **_reading(setting))
    steps = setting["quantizing_steps"]
    optimizer = optimizer_for(
        method, network, steps, regularizer=task.regularizer, **hyperparameters
    )
    history = fit(network, optimizer, data.train, steps=steps, **common)
    gap = metrics.quantization_gap(params, optimizer.regularizer)

    optim.quantize_and_freeze(params, optimizer.regularizer)
    if any(isinstance(module, nn.BatchNorm1d) for _, module in network.named_modules()):
        nn.recalibrate_batch_norm(network, np.array_split(data.train.x, 8))
    rest = [p for p in network.parameters() if p.requires_grad]
    fit(network, optim.Adam(rest, 1e-3), data.train, steps=setting["fine_tuning_steps"], **common)
    late = history.steps["change_from_last_step"][-max(1, steps // 10) :]
    return {
        **_measure(task, network, data, setting),
        "sign_change": metrics.sign_change(initial, params),
        "flip_rate": float(np.mean(late)),
        "gap": gap,
        "seconds": time.perf_counter() - start,
        "epochs": _epochs(history),
    }


def _reading(setting: Mapping[str, float]) -> dict[str, float]:
    """What of a setting are arguments of `fit`."""
    return {name: value for name, value in setting.items() if not name.endswith("_steps")}


def _measure(
    task: Task, model: nn.Module, data: Splits, setting: Mapping[str, float]
) -> dict[str, Any]:
    reading = {}
    if "length" in setting:
        reading = {name: setting[name] for name in ("batch_size", "length")}
    validation = metrics.evaluate(model, *data.validation, **reading)
    test = metrics.evaluate(model, *data.test, **reading)
    return {
        "validation_loss": validation.loss,
        f"validation_{task.measure}": getattr(validation, task.measure),
        f"test_{task.measure}": getattr(test, task.measure),
        **task.source(),
    }


def _epochs(history: Any) -> dict[str, Any]:
    epochs = {k: v for k, v in history.epochs.items() if k != "histogram"}
    histograms = history.epochs.get("histogram", [])
    kept = np.geomspace(1, len(histograms), FRAMES).round().astype(int) if histograms else []
    frames = [{"epoch": int(n), "counts": histograms[n - 1]} for n in kept]
    return {**{k: [round(x, 6) for x in v] for k, v in epochs.items()}, "frames": frames}


def chosen_hyperparameters(model: str = "mlp") -> dict[str, dict[str, float]]:
    """What `search` chose, by method."""
    return json.loads(TASKS[model].choice.read_text("utf-8"))["chosen"]


def _cell(model: str, **arguments: Any) -> dict[str, Any]:
    """A cell's arguments; those of the MLP do not name it (its records are older than the rest)."""
    return arguments if model == "mlp" else {**arguments, "model": model}


def reproduce(
    seeds: int,
    out: Path,
    *,
    model: str = "mlp",
    quick: bool = False,
    jobs: int = 2,
    progress: bool = True,
) -> dict[str, Any]:
    """Run (or read) every cell for seeds 0..seeds-1 and write the summary to out/summary.json."""
    task, chosen = TASKS[model], chosen_hyperparameters(model)
    setting = asdict(task.quick if quick else task.setting)
    common = dict(jobs=jobs, out=out / "records", progress=progress)
    networks = run_cells(
        train_full_precision,
        {
            f"{FULL_PRECISION}-seed{seed}": _cell(
                model, seed=seed, setting=setting, **chosen[FULL_PRECISION]
            )
            for seed in range(seeds)
        },
        description="full precision",
        **common,
    )
    networks = dict(zip(range(seeds), networks.values(), strict=True))
    cells = {
        f"{method}-seed{seed}": _cell(
            model,
            method=method,
            seed=seed,
            setting=setting,
            hyperparameters=chosen[method],
            weights=networks[seed]["weights"],
        )
        for seed in range(seeds)
        for method in METHODS
    }
    records = run_cells(train_quantized, cells, description="binary", **common)
    results = {FULL_PRECISION: list(networks.values())}
    for method in METHODS:
        results[method] = [records[f"{method}-seed{seed}"] for seed in range(seeds)]
    summary = {
        "model": model,
        **task.source(),
        "setting": {"seeds": seeds, "quick": quick, **setting},
        "hyperparameters": chosen,
        "environment": environment(),
        "methods": {m: _summarise(m, results, f"test_{task.measure}") for m in results},
    }
    write_text(out / "summary.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")
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
    names = {FULL_PRECISION: "full precision (the warm start)", **METHODS}
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
        f'The claim "ProxQuant errs less than BinaryConnect" is {verdict} '
        f"({setting['seeds']} seeds, {setting['quantizing_steps']} quantizing steps).",
    ]
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
        plotting.save_figure(function(data), data, out / name)
    return [out / f"{name}.png" for name in figures]


# The search --------------------------------------------------------------------------------------

SEARCH_SEEDS = (1000, 1001)  # not those of `reproduce`
SPACE = {  # log-uniform
    FULL_PRECISION: {"lr": (3e-4, 3e-2)},
    "binary_connect": {"lr": (1e-3, 1e-1)},
    "prox_quant": {"lr": (1e-3, 1e-1), "reach": (1.0, 300.0)},
    "prox_connect": {"lr": (1e-3, 1e-1), "reach": (1.0, 300.0)},
    "projected_gradient": {"lr": (1e-3, 1e-1)},
}


def search(
    trials: int,
    out: Path | None = None,
    *,
    model: str = "mlp",
    jobs: int = 2,
    progress: bool = True,
) -> Path:
    """Random search, the same number of trials for every method, on the validation split.

    A trial's score is its validation error (then loss) averaged over SEARCH_SEEDS, or its
    perplexity. Writes the choice of each method and every trial to `out`, by default the file that
    `reproduce` reads.
    """
    task = TASKS[model]
    setting, scored = asdict(task.setting), (f"validation_{task.measure}", "validation_loss")
    rng = np.random.default_rng(0)
    draws = {
        method: [
            {
                name: float(f"{math.exp(rng.uniform(*np.log(ends))):.3g}")
                for name, ends in space.items()
            }
            for _ in range(trials)
        ]
        for method, space in SPACE.items()
    }
    log, chosen = {}, {}
    networks: dict[int, Any] = {}
    for method, hyperparameters in draws.items():
        cells = {}
        for i, h in enumerate(hyperparameters):
            for seed in SEARCH_SEEDS:
                cells[f"{i}-{seed}"] = (
                    _cell(model, seed=seed, setting=setting, **h)
                    if method == FULL_PRECISION
                    else _cell(
                        model,
                        method=method,
                        seed=seed,
                        setting=setting,
                        hyperparameters=h,
                        weights=networks[seed]["weights"],
                    )
                )
        train = train_full_precision if method == FULL_PRECISION else train_quantized
        results = run_cells(train, cells, jobs=jobs, description=method, progress=progress)
        log[method] = []
        for i, h in enumerate(hyperparameters):
            runs = [results[f"{i}-{seed}"] for seed in SEARCH_SEEDS]
            scores = {
                name: round(float(np.mean([run[name] for run in runs])), 6) for name in scored
            }
            log[method].append({**h, **scores})
        best = min(range(trials), key=lambda i: [log[method][i][name] for name in scored])
        chosen[method] = hyperparameters[best]
        if method == FULL_PRECISION:
            networks = {seed: results[f"{best}-{seed}"] for seed in SEARCH_SEEDS}
    report = {
        "chosen": chosen,
        "space": SPACE,
        "seeds": SEARCH_SEEDS,
        "setting": setting,
        **task.source(),
        "environment": environment(),
        "trials": log,
    }
    out = task.choice if out is None else out
    write_text(out, json.dumps(report, indent=1, allow_nan=False) + "\n")
    return out
