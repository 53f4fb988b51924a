"""Claim: on a small network, ProxQuant's binary weights err less than BinaryConnect's.

The paper's protocol on the handwritten digits: train a network in full precision; from it, quantize
with each method; project, freeze the binary weights, re-estimate the batch-norm statistics, and
fine-tune what stays in full precision. The four methods are the four cells of the library's table.
Seeds are paired: one seed is one full-precision network and one data order for all methods.

Hyperparameters come from `search`, which gives every method the same number of random trials on
the validation split; what it chose, and every trial, is in binary_digits.json. `reproduce` reads
the test split, once, after everything is fixed.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from proxquant_np import models, nn, optim, prox
from proxquant_np.data import load_digits
from proxquant_np.experiments.runner import environment, run_cells, write_text
from proxquant_np.experiments.statistics import compare
from proxquant_np.training import fit, metrics

CHOSEN = Path(__file__).with_suffix(".json")
FULL_PRECISION = "full_precision"
METHODS = {
    "binary_connect": "BinaryConnect (lazy, hard)",
    "prox_quant": "ProxQuant (eager, soft)",
    "prox_connect": "ProxConnect (lazy, soft)",
    "projected_gradient": "projected gradient (eager, hard)",
}
FRAMES = 6  # of the weights' histogram kept in a record


@dataclass(frozen=True)
class Setting:
    """How long each phase lasts, in steps, and the batch."""

    full_precision_steps: int = 2000
    quantizing_steps: int = 6000
    fine_tuning_steps: int = 500
    batch_size: int = 32


QUICK = Setting(full_precision_steps=400, quantizing_steps=800, fine_tuning_steps=100)


def optimizer_for(
    method: str, model: nn.Module, steps: int, lr: float, reach: float = 0.0
) -> optim.QuantizedOptimizer:
    """One cell of the table around Adam, as published: weights clipped to [-1, 1].

    The soft cells raise lambda_t = rate * t. The rate follows from `reach`: for ProxQuant, the sum
    of all strengths, which is how far the prox alone can carry a weight (a weight at 0 has to
    travel 1); for ProxConnect, whose prox acts on the latent afresh each step, the last strength
    (with 1 or more its last weights are binary).
    """
    params = nn.quantizable_parameters(model)
    base = optim.Adam(model.parameters(), lr)
    regularizer = prox.BinaryL1()
    wrapper = {"binary_connect": optim.DualAveraging, "prox_connect": optim.DualAveraging}.get(
        method, optim.ProxGradient
    )
    rate = {
        "prox_quant": 2 * reach / (lr * steps * max(1, steps - 1)),
        "prox_connect": reach / (lr * max(1, steps - 1)),
    }.get(method)
    homotopy = None if rate is None else prox.Linear(rate)
    return wrapper(base, params, regularizer, homotopy, clip=True)


def train_full_precision(seed: int, setting: Mapping[str, int], lr: float) -> dict[str, Any]:
    """The warm start of one seed: its measurements and its weights as nested lists."""
    setting, start = Setting(**setting), time.perf_counter()
    digits = load_digits()
    model = models.MLP(rng=seed)
    history = fit(
        model,
        optim.Adam(model.parameters(), lr),
        digits.train,
        steps=setting.full_precision_steps,
        batch_size=setting.batch_size,
        validation=digits.validation,
        regularizer=prox.BinaryL1(),
        seed=seed,
        progress=False,
    )
    seconds = time.perf_counter() - start
    return {
        **_measure(model, digits),
        "sign_change": None,
        "flip_rate": None,
        "gap": history.epochs["quantization_gap"][-1] if history.epochs else None,
        "seconds": seconds,
        "epochs": _epochs(history),
        "weights": {name: value.tolist() for name, value in model.state_dict().items()},
    }


def train_quantized(
    method: str,
    seed: int,
    setting: Mapping[str, int],
    hyperparameters: Mapping[str, float],
    weights: Mapping[str, Any],
) -> dict[str, Any]:
    """Quantize the network with these weights by one method; its measurements."""
    setting, start = Setting(**setting), time.perf_counter()
    digits = load_digits()
    model = models.MLP(rng=seed)
    model.load_state_dict(weights)
    params = nn.quantizable_parameters(model)
    initial = {name: p.data.copy() for name, p in params.items()}
    common = dict(
        batch_size=setting.batch_size, validation=digits.validation, seed=seed, progress=False
    )
    steps = setting.quantizing_steps
    optimizer = optimizer_for(method, model, steps, **hyperparameters)
    history = fit(model, optimizer, digits.train, steps=steps, **common)
    gap = metrics.quantization_gap(params, optimizer.regularizer)

    optim.quantize_and_freeze(params, optimizer.regularizer)
    nn.recalibrate_batch_norm(model, np.array_split(digits.train.x, 8))
    rest = [p for p in model.parameters() if p.requires_grad]
    fit(model, optim.Adam(rest, 1e-3), digits.train, steps=setting.fine_tuning_steps, **common)
    late = history.steps["change_from_last_step"][-max(1, steps // 10) :]
    return {
        **_measure(model, digits),
        "sign_change": metrics.sign_change(initial, params),
        "flip_rate": float(np.mean(late)),
        "gap": gap,
        "seconds": time.perf_counter() - start,
        "epochs": _epochs(history),
    }


def _measure(model: nn.Module, digits: Any) -> dict[str, float]:
    return {
        "validation_loss": metrics.evaluate(model, *digits.validation).loss,
        "validation_error": metrics.evaluate(model, *digits.validation).error,
        "test_error": metrics.evaluate(model, *digits.test).error,
    }


def _epochs(history: Any) -> dict[str, Any]:
    epochs = {k: v for k, v in history.epochs.items() if k != "histogram"}
    histograms = history.epochs.get("histogram", [])
    kept = np.geomspace(1, len(histograms), FRAMES).round().astype(int) if histograms else []
    frames = [{"epoch": int(n), "counts": histograms[n - 1]} for n in kept]
    return {**{k: [round(x, 6) for x in v] for k, v in epochs.items()}, "frames": frames}


def chosen_hyperparameters() -> dict[str, dict[str, float]]:
    """What `search` chose, by method."""
    return json.loads(CHOSEN.read_text("utf-8"))["chosen"]


def reproduce(
    seeds: int, out: Path, *, quick: bool = False, jobs: int = 2, progress: bool = True
) -> dict[str, Any]:
    """Run (or read) every cell for seeds 0..seeds-1 and write the summary to out/summary.json."""
    setting, chosen = asdict(QUICK if quick else Setting()), chosen_hyperparameters()
    common = dict(jobs=jobs, out=out / "records", progress=progress)
    networks = run_cells(
        train_full_precision,
        {
            f"{FULL_PRECISION}-seed{seed}": dict(
                seed=seed, setting=setting, **chosen[FULL_PRECISION]
            )
            for seed in range(seeds)
        },
        description="full precision",
        **common,
    )
    networks = dict(zip(range(seeds), networks.values(), strict=True))
    cells = {
        f"{method}-seed{seed}": dict(
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
        "setting": {"seeds": seeds, "quick": quick, **setting},
        "hyperparameters": chosen,
        "environment": environment(),
        "methods": {method: _summarise(method, results) for method in results},
    }
    write_text(out / "summary.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")
    return {**summary, "records": results}


def _summarise(method: str, results: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    runs = results[method]
    errors = [run["test_error"] for run in runs]
    summary: dict[str, Any] = {
        "test_error": errors,
        "test_error_mean": float(np.mean(errors)),
        "test_error_std": float(np.std(errors, ddof=1)) if len(errors) > 1 else None,
    }
    for name in ("sign_change", "flip_rate", "gap", "seconds"):
        values = [run[name] for run in runs if run[name] is not None]
        summary[name] = float(np.mean(values)) if values else None
    if method != "binary_connect":
        difference = compare(errors, [run["test_error"] for run in results["binary_connect"]])
        summary["minus_binary_connect"] = {
            k: None if isinstance(v, float) and not math.isfinite(v) else v
            for k, v in difference._asdict().items()
        }
    return summary


def table(result: Mapping[str, Any]) -> str:
    """The summary as text, one method a line."""
    setting = result["setting"]
    lines = [
        f"Binary weights on the UCI digits, MLP 64-64-64-10, {setting['seeds']} paired seeds",
        "",
        f"{'':34}{'test error':>15}{'minus BinaryConnect [95%]':>30}"
        f"{'signs':>8}{'flips':>9}{'gap':>8}{'':>2}{'time':>6}",
        f"{'':34}{'mean +- std':>15}{'percentage points':>30}"
        f"{'changed':>8}{'per step':>9}{'before':>8}{'':>2}{'':>6}",
    ]
    names = {FULL_PRECISION: "full precision (the warm start)", **METHODS}
    for method, s in result["methods"].items():
        std = s["test_error_std"]
        error = f"{s['test_error_mean']:.2%}" + ("" if std is None else f" +- {std:.2%}")
        difference = ""
        if d := s.get("minus_binary_connect"):
            difference = f"{100 * d['mean']:+.2f}"
            if d["low"] is not None:
                difference += f" [{100 * d['low']:+.2f}, {100 * d['high']:+.2f}]"
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
        "the quantizing phase; gap before: mean distance to +-1 before projecting; time: a run.",
        f'The claim "ProxQuant errs less than BinaryConnect" is {verdict} '
        f"({setting['seeds']} seeds, {setting['quantizing_steps']} quantizing steps).",
    ]
    if setting["quick"]:
        lines.append("This was --quick, which is too short to conclude anything.")
    return "\n".join(line.rstrip() for line in lines)


def draw(result: Mapping[str, Any], out: Path) -> list[Path]:
    """Draw the four figures of a finished `reproduce` into `out`; their paths."""
    from proxquant_np import plotting  # here: matplotlib is slow to import, the workers need none

    runs = result["records"]

    def over_epochs(name: str) -> dict[str, list[list[float]]]:
        return {method: [run["epochs"][name] for run in runs[method]] for method in METHODS}

    figures = {
        "regularizers": (plotting.regularizers, plotting.regularizers_data()),
        "weights": (
            plotting.weight_filmstrip,
            {m: runs[m][0]["epochs"]["frames"] for m in ("binary_connect", "prox_quant")},
        ),
        "sign_flips": (plotting.sign_flips, over_epochs("change_from_last_epoch")),
        "error_curves": (plotting.error_curves, over_epochs("quantized_error")),
    }
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


def search(trials: int, out: Path = CHOSEN, *, jobs: int = 2, progress: bool = True) -> None:
    """Random search, the same number of trials for every method, on the validation split.

    A trial's score is its validation error (then loss) averaged over SEARCH_SEEDS. Writes the
    choice of each method and every trial to `out`.
    """
    setting = asdict(Setting())
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
                    dict(seed=seed, setting=setting, **h)
                    if method == FULL_PRECISION
                    else dict(
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
                name: round(float(np.mean([run[name] for run in runs])), 6)
                for name in ("validation_error", "validation_loss")
            }
            log[method].append({**h, **scores})
        best = min(
            range(trials),
            key=lambda i: (log[method][i]["validation_error"], log[method][i]["validation_loss"]),
        )
        chosen[method] = hyperparameters[best]
        if method == FULL_PRECISION:
            networks = {seed: results[f"{best}-{seed}"] for seed in SEARCH_SEEDS}
    report = {
        "chosen": chosen,
        "space": SPACE,
        "seeds": SEARCH_SEEDS,
        "setting": setting,
        "environment": environment(),
        "trials": log,
    }
    write_text(out, json.dumps(report, indent=1, allow_nan=False) + "\n")
