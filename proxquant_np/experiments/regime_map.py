"""Claim: whether the eager or the lazy method errs less depends on width and step budget.

ProxQuant runs against BinaryConnect on the digits MLP, with hidden layers of few to many units and
few to many quantizing steps. The map shows where each of them wins, and where the seeds can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from proxquant_np import models, nn
from proxquant_np.data import Splits
from proxquant_np.experiments.experiment import Claim, Experiment
from proxquant_np.experiments.families import DEFAULT
from proxquant_np.experiments.protocol import METHODS
from proxquant_np.experiments.summary import runs_of
from proxquant_np.experiments.tasks import ON_DIGITS, TASKS, DigitsSetting, Task

WIDTHS = (16, 32, 64, 128)
BUDGETS = (300, 1000, 3000, 10_000)
EAGER, LAZY = "prox_quant", "binary_connect"


def _of_width(width: int) -> Callable[[int, Splits], nn.Module]:
    return lambda seed, _: models.MLP((64, width, width, 10), rng=seed)


def _task(width: int, steps: int) -> Task:
    return replace(
        TASKS["mlp"],
        title=f"MLP 64-{width}-{width}-10, {steps} quantizing steps",
        build=_of_width(width),
        chosen=(f"chosen/regime_map-w{width}-t{steps}.json", "binary_digits.json"),
        setting=DigitsSetting(quantizing_steps=steps),
        quick=DigitsSetting(100, max(33, steps // 50), 33),
    )


def draw(result: Mapping[str, Any], path: Path) -> list[Path]:
    """Draw the map of differences in test error and their verdicts, if all tasks were run."""
    if set(result["tasks"]) != set(EXPERIMENT.tasks):
        return []
    from proxquant_np import plotting  # here: matplotlib is slow to import, the workers need none

    claim = EXPERIMENT.of_family(result.get("family")).claims[0]
    found = {name: claim.compare(task["methods"]) for name, task in result["tasks"].items()}
    cells = [[found[f"w{w}-t{t}"] for t in BUDGETS] for w in WIDTHS]
    data = {
        "widths": list(WIDTHS),
        "budgets": list(BUDGETS),
        "difference": [[c.mean for c in row] for row in cells],
        "verdict": [[c.verdict for c in row] for row in cells],
        "runs": runs_of(result),
    }
    path = path.with_name(f"{path.name}_grid")
    plotting.save_figure(plotting.regime_map(data), data, path)
    return [path.with_suffix(".png")]


EXPERIMENT = Experiment(
    name="regime_map",
    title="Width and step budget: where eager wins, where lazy",
    tasks={f"w{width}-t{steps}": _task(width, steps) for width in WIDTHS for steps in BUDGETS},
    methods={name: METHODS[name] for name in (LAZY, EAGER)},
    claims=(
        Claim(
            "ProxQuant errs less than BinaryConnect",
            EAGER,
            LAZY,
            "test_error",
            source="ours",
            equal=ON_DIGITS,
        ),
    ),
    draw=draw,
    grid=("width", "quantizing steps"),
    families=DEFAULT,
)
