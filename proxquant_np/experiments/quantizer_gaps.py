"""Trained weights, on which to measure how far heuristic quantizers are from the optimum.

The paper makes no claim about this; it uses the heuristics. The figure quantizer_gaps compares them
with the exact projections, on these weights and on random ones.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from proxquant_np.experiments.protocol import FULL_PRECISION, Cell, train, unpack
from proxquant_np.experiments.tasks import FIXED, TASKS


def trained_weights(seeds: int = 4) -> list[np.ndarray]:
    """The weight matrices of a full-precision digits MLP for each seed, in float32.

    They are trained on the stored split, as they always were.
    """
    task = TASKS["mlp"]
    setting = {**asdict(task.setting), "split": FIXED}
    chosen = task.hyperparameters()[FULL_PRECISION]
    networks = [
        train(Cell(task, None, seed, setting, chosen, keep_weights=True)) for seed in range(seeds)
    ]
    return [
        value
        for network in networks
        for value in unpack(network["weights"]).values()
        if value.ndim == 2
    ]
