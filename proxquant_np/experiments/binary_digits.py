"""Claim: on a small network, ProxQuant's binary weights err less than BinaryConnect's.

The data are the handwritten digits, the protocol is that of protocol.py, and the four methods are
the four cells of the library's table. Hyperparameters come from a search that gives every method
the same number of random trials on the validation split; binary_digits.json holds what it chose and
every trial. `reproduce` reads the test split once, after everything is fixed.

The same comparison runs on the other networks of tasks.py, which have searches of their own beside
this file: `model` names the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proxquant_np.experiments.experiment import Claim, Experiment
from proxquant_np.experiments.families import DEFAULT
from proxquant_np.experiments.protocol import METHODS as ALL_METHODS
from proxquant_np.experiments.summary import made_with, measure
from proxquant_np.experiments.tasks import OF_SIGNS, ON_DIGITS, TASKS

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
            equal=ON_DIGITS,
        ),
        Claim(
            "ProxQuant changes fewer signs since the warm start than BinaryConnect",
            "prox_quant",
            "binary_connect",
            "sign_change",
            equal=OF_SIGNS,
        ),
    ),
    families=DEFAULT,
)


def reproduce(
    seeds: int, out: Path, *, model: str = "mlp", **running: Any
) -> tuple[dict[str, Any], Mapping[str, list[Mapping[str, Any]]]]:
    """Run (or read) one task for seeds 0..seeds-1: its summary and, by method, its results.

    running: of `summary.measure`.

    Raises:
        FileExistsError: there is a summary of another task or setting, or of more seeds; nothing
            is run.
    """
    summary, results = measure(EXPERIMENT, seeds, out, tasks=[model], **running)
    return summary, results[model]


def draw(model: str, runs: Mapping[str, list[Mapping[str, Any]]], out: Path) -> list[Path]:
    """Draw the results of `reproduce` into the folder `out`; the paths of the pictures.

    There are four; the two that show the levels -1 and +1 are left out where a task has others.
    """
    from proxquant_np import plotting  # here: matplotlib is slow to import, the workers need none

    def over_epochs(name: str) -> dict[str, list[list[float]]]:
        return {method: [run["epochs"][name] for run in runs[method]] for method in METHODS}

    figures: dict[str, Any] = {
        "sign_flips": (plotting.sign_flips, over_epochs("change_from_last_epoch")),
        "error_curves": (plotting.error_curves, over_epochs("quantized_error")),
    }
    if TASKS[model].levels == "+-1":
        frames = {m: runs[m][0]["epochs"]["frames"] for m in ("binary_connect", "prox_quant")}
        figures["regularizers"] = plotting.regularizers, plotting.regularizers_data()
        figures["weights"] = plotting.weight_filmstrip, frames
    made = made_with(run for by_seed in runs.values() for run in by_seed)
    for name, (function, data) in figures.items():
        origin = {} if name == "regularizers" else {"runs": made}
        plotting.save_figure(function(data), data | origin, out / name)
    return [out / f"{name}.png" for name in figures]
